"""One evaluation or prediction of a Trainer, as the hooks that it is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hookloop.hosting import Run
from hookloop.logs import Logs
from hookloop.structures import size_of
from hookloop_in_transformers._loop import Outputs, targets_of

#: What the Trainer adds to the results of an evaluation: about itself, not about the model.
_ABOUT_ITSELF = (
    "_runtime",
    "_samples_per_second",
    "_steps_per_second",
    "_tokens_per_second",
    "_model_preparation_time",
    "_jit_compilation_time",
)


class Evaluation:
    """Fires the hooks of one evaluation, of one or of several sets, or of one prediction.

    Args:
        run: Whose hooks: that of the training around it, or one of its own.
        outputs: Watches the model of that run.
        trainer: The trainer.
        predicts: Whether it is a prediction.
        prefix: What the names of its results begin with.
    """

    def __init__(
        self, run: Run, outputs: Outputs, trainer: Any, *, predicts: bool, prefix: str
    ) -> None:
        self.run, self._outputs, self._trainer = run, outputs, trainer
        self._predicts, self._prefix = predicts, prefix
        self._index, self._logs = 0, Logs()
        self._metrics: dict[str, Any] = {}

    def begin(self) -> None:
        driver = self.run.driver
        self.run.act(driver.predict_begin if self._predicts else driver.test_begin)

    def batch_begin(self, model: Any, inputs: Any) -> None:
        """Start a batch, whose inputs are still where the data left them."""
        self._outputs.watch(model)
        self._logs = Logs({"size": size_of(inputs)})
        self.takes(inputs)
        driver = self.run.driver
        begin = driver.predict_batch_begin if self._predicts else driver.test_batch_begin
        self.run.act(begin, self._index, self._logs)

    def takes(self, inputs: Any) -> None:
        """Note what the model is given."""
        loop = self.run.loop
        loop.inputs, loop.targets = inputs, targets_of(self._trainer, inputs)

    def batch_end(self, loss: Any, outputs: Any) -> None:
        """End the batch.

        Args:
            loss: Its mean, a 0-d tensor; None where there are no labels.
            outputs: What the Trainer keeps of the model's outputs.
        """
        logs, driver = self._logs, self.run.driver
        if self._predicts:
            logs["outputs"] = outputs
        elif loss is not None:
            self.run.loop.loss = logs["loss"] = loss
        end = driver.predict_batch_end if self._predicts else driver.test_batch_end
        self.run.act(end, self._index, logs)
        self._index += 1

    def report(self, metrics: Mapping[str, Any]) -> None:
        """Take the results of one set."""
        head = f"{self._prefix}_"
        self._metrics.update(
            (key.removeprefix(head), value)
            for key, value in metrics.items()
            if key.startswith(head) and not key.endswith(_ABOUT_ITSELF)
        )

    def end(self) -> None:
        if self._predicts:
            self.run.act(self.run.driver.predict_end)
        else:
            self.run.act(self.run.driver.test_end, Logs(self._metrics))
