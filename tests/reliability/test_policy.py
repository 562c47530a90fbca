"""A plugin cannot take the run down unless it is one that decides: in every hook and host."""

from __future__ import annotations

from functools import cache
from typing import Any

import agreement
import policy
import pytest
import torch
from torch import Tensor, nn

import hookloop
from hookloop import CallbackList, Trainer


def fit(callbacks: list[Any]) -> Tensor:
    model = agreement.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    trainer = Trainer(model, loss="mse", optimizer=optimizer, device="cpu")
    data, validation = policy.batches("training"), policy.batches("validation")
    trainer.fit(data, validation_data=validation, epochs=2, callbacks=callbacks, verbose=0)
    return policy.vector(model)


def attach(callbacks: list[Any]) -> Tensor:
    model = agreement.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    with hookloop.attach(model, optimizer, callbacks=callbacks, epochs=2) as loop:
        for _ in loop.epochs():
            for x, y in loop.batches(policy.batches("training")):
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(x), y)
                loss.backward()
                optimizer.step()
                loop.log(loss=loss)
            with loop.validation(), torch.no_grad():
                for x, y in loop.batches(policy.batches("validation")):
                    loop.log(loss=nn.functional.mse_loss(model(x), y))
    return policy.vector(model)


def by_hand(callbacks: list[Any]) -> Tensor:
    model = agreement.model()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    hooks = CallbackList(callbacks, model=model, optimizer=optimizer)
    hooks.on_train_begin()
    for epoch in range(2):
        hooks.on_epoch_begin(epoch)
        for index, (x, y) in enumerate(policy.batches("training")):
            hooks.on_train_batch_begin(index, {"size": len(x)})
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            hooks.on_before_optimizer_step()
            optimizer.step()
            hooks.on_train_batch_end(index, {"loss": loss})
        hooks.on_test_begin()
        for index, (x, _) in enumerate(policy.batches("validation")):
            hooks.on_test_batch_begin(index, {"size": len(x)})
            hooks.on_test_batch_end(index)
        hooks.on_test_end()
        hooks.on_epoch_end(epoch)
    hooks.on_train_end()
    return policy.vector(model)


HOSTS = {"Trainer": fit, "attach": attach, "CallbackList": by_hand}


@cache
def table(host: str) -> policy.Table:
    return policy.Table(HOSTS[host])


@pytest.mark.reliability("E1", "E2", "E3", "E8")
@pytest.mark.parametrize(
    ("host", "hook"), [(host, hook) for host in HOSTS for hook in policy.hooks(host)]
)
@pytest.mark.parametrize("role", policy.ROLES)
def test_the_policy_holds_in_every_hook_of_every_host(host: str, hook: str, role: str) -> None:
    """One that observes is turned off and changes nothing; one that decides ends the run."""
    table(host).check(hook, role)
