"""The hosts of core: for each, a function that drives the same tiny training in it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.nn.functional import l1_loss, mse_loss

import hookloop
from hookloop.callback_list import CallbackList
from hookloop.testing.tiny import TinyLoop

Drive = Callable[[TinyLoop, Sequence[Any]], None]


def in_trainer(tiny: TinyLoop, callbacks: Sequence[Any]) -> None:
    """Train, evaluate and predict."""
    tiny.fit(callbacks)
    tiny.evaluate(callbacks)
    tiny.predict(callbacks)


def in_callback_list(tiny: TinyLoop, callbacks: Sequence[Any]) -> None:
    """Train and validate by hand, hook by hook."""
    for _ in batch_by_batch(tiny, callbacks):
        pass


def batch_by_batch(tiny: TinyLoop, callbacks: Sequence[Any]) -> Iterator[CallbackList]:
    """Drive a `CallbackList` by hand, and pause after every batch, so that two can take turns."""
    batches = tiny.batches()
    params = {"epochs": tiny.epochs, "steps": len(batches), "metrics": ["loss", "mae"]}
    hooks = CallbackList(
        callbacks,
        model=tiny.model,
        optimizer=tiny.optimizer,
        params={**params, "do_validation": tiny.validation_data is not None, "verbose": 0},
        validation_data=tiny.validation_data,
    )
    hooks.on_train_begin()
    for epoch in range(tiny.epochs):
        hooks.on_epoch_begin(epoch)
        logs: dict[str, Any] = {}
        for batch, (inputs, targets) in enumerate(batches):
            hooks.on_train_batch_begin(batch, {"size": len(inputs)})
            logs = _step(tiny, hooks, inputs, targets)
            hooks.on_train_batch_end(batch, dict(logs))
            yield hooks
            if hooks.loop.stop_training:
                break
        hooks.on_epoch_end(epoch, {**logs, **_validation(tiny, hooks)})
        if hooks.loop.stop_training:
            break
    hooks.on_train_end()


def _step(tiny: TinyLoop, hooks: CallbackList, inputs: Any, targets: Any) -> dict[str, Any]:
    tiny.model.train()
    tiny.optimizer.zero_grad()
    outputs = tiny.model(inputs)
    loss = mse_loss(outputs, targets)
    loss.backward()  # type: ignore[no-untyped-call]
    logs = {"loss": loss.detach(), "mae": l1_loss(outputs, targets).detach()}
    hooks.on_before_optimizer_step(tiny.optimizer, logs)
    tiny.optimizer.step()
    return logs


def _validation(tiny: TinyLoop, hooks: CallbackList) -> dict[str, Any]:
    if tiny.validation_data is None:
        return {}
    hooks.on_test_begin()
    logs = _measured(tiny)
    hooks.on_test_batch_begin(0, {"size": len(tiny.data[0])})
    hooks.on_test_batch_end(0, dict(logs))
    hooks.on_test_end(dict(logs))
    return {f"val_{name}": value for name, value in logs.items()}


def _measured(tiny: TinyLoop) -> dict[str, Any]:
    assert tiny.validation_data is not None  # noqa: S101  (asked before)
    x, y = tiny.validation_data
    tiny.model.eval()
    with torch.no_grad():
        outputs = tiny.model(x)
        return {"loss": mse_loss(outputs, y), "mae": l1_loss(outputs, y)}


def in_attach(tiny: TinyLoop, callbacks: Sequence[Any]) -> None:
    """Train and validate in a loop written by hand, inside ``attach``."""
    with hookloop.attach(
        tiny.model, tiny.optimizer, callbacks=callbacks, epochs=tiny.epochs
    ) as loop:
        for _ in loop.epochs():
            for inputs, targets in loop.batches(tiny.batches()):
                tiny.model.train()
                tiny.optimizer.zero_grad()
                outputs = tiny.model(inputs)
                loss = mse_loss(outputs, targets)
                loss.backward()  # type: ignore[no-untyped-call]
                tiny.optimizer.step()
                loop.log(loss=loss, mae=l1_loss(outputs, targets))
            if tiny.validation_data is not None:
                with loop.validation():
                    loop.log(**_measured(tiny))


#: Each host by the name under which `hookloop.capabilities.HOSTS` has it.
HOSTS: dict[str, Drive] = {
    "Trainer": in_trainer,
    "attach": in_attach,
    "CallbackList": in_callback_list,
}
