"""trainer.validate, test and predict by themselves: their hooks, without a run of training."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from lightning_runs import Regression, few, fit, trainer

from hookloop import Callback, hookspecs


class Transcript(Callback):
    """Writes down every hook with its batch and the names in its logs."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.logs: dict[str, Any] = {}
        for hook in hookspecs.names():
            if hook not in ("on_message", "on_exception"):
                arguments = "batch, logs" if "batch" in hook else "logs"
                if hook == "on_before_optimizer_step":
                    arguments = "logs"
                setattr(self, hook, eval(f"lambda {arguments}: self.note({hook!r}, {arguments})", {
                    "self": self
                }))  # fmt: skip

    def note(self, hook: str, *arguments: Any) -> None:
        self.logs = dict(arguments[-1])
        self.calls.append((hook, *arguments[:-1], *self.logs))


class WithTest(Regression):
    def test_step(self, batch, batch_idx):
        loss = self.loss(batch)
        self.log("test_loss", loss)
        return {"test_loss": loss}


@pytest.mark.parametrize("kind", ["validate", "test"])
def test_an_evaluation_by_itself_has_the_test_hooks(kind: str) -> None:
    """Its metrics are without prefix, and the model is there."""
    seen = Transcript()

    [returned] = getattr(trainer([seen]), kind)(WithTest(), few(16), verbose=False)

    batches = [
        call
        for batch in (0, 1)
        for call in (
            ("on_test_batch_begin", batch, "size"),
            ("on_test_batch_end", batch, "size", "loss"),
        )
    ]
    assert seen.calls == [("on_test_begin",), *batches, ("on_test_end", "loss")]
    assert seen.logs == {"loss": next(iter(returned.values()))}
    assert isinstance(seen.model, WithTest)


def test_the_batches_of_several_loaders_are_counted_on() -> None:
    """Lightning counts from 0 in each; a batch of a test has a number of its own."""

    class Several(Regression):
        def validation_step(self, batch, batch_idx, dataloader_idx=0):
            return super().validation_step(batch, batch_idx)

    seen = Transcript()
    trainer([seen]).validate(Several(), [few(16), few(8)], verbose=False)

    begins = [call[1] for call in seen.calls if call[0] == "on_test_batch_begin"]
    assert begins == [0, 1, 2]
    assert list(seen.logs) == ["loss/dataloader_idx_0", "loss/dataloader_idx_1"]


def test_a_prediction_has_its_hooks_and_the_outputs() -> None:
    """What predict_step returned is in the logs of its batch."""
    seen, module = Transcript(), Regression()
    outputs = []
    seen.on_predict_batch_end = lambda logs: outputs.append(logs["outputs"])

    module.predict_step = lambda batch, batch_idx: module(batch[0])
    returned = trainer([seen]).predict(module, few(16))

    assert [call[0] for call in seen.calls] == [
        "on_predict_begin", "on_predict_batch_begin", "on_predict_batch_begin", "on_predict_end"
    ]  # fmt: skip
    assert torch.cat(outputs).equal(torch.cat(returned))


def test_an_evaluation_after_a_fit_leaves_the_history_alone() -> None:
    """The history is that of the fit."""
    made = trainer(["terminate_on_nan"])
    made.fit(Regression(), few(), few(16))
    history = made.callbacks[0].history

    made.validate(Regression(), few(16), verbose=False)

    assert made.callbacks[0].history is history
    assert (history.epoch, history.outcome) == ([0, 1, 2], "finished")


def test_an_evaluation_that_fails_ends_for_whoever_saw_its_begin() -> None:
    """on_test_end, and nothing of training."""

    class Broken(Regression):
        def validation_step(self, batch, batch_idx):
            raise ZeroDivisionError

    seen = Transcript()
    with pytest.raises(ZeroDivisionError):
        trainer([seen]).validate(Broken(), few(16), verbose=False)

    assert [call[0] for call in seen.calls] == [
        "on_test_begin", "on_test_batch_begin", "on_test_end"
    ]  # fmt: skip


def test_validation_in_a_fit_arrives_with_its_prefix() -> None:
    """What a callback adds to a test's logs is in the epoch's as val_*."""

    class Adds(Callback):
        def on_test_end(self, logs):
            logs["extra"] = 7

    callback = fit([Adds()], max_epochs=1)

    assert callback.history.history["val_extra"] == [7]
