"""One training of a Trainer: its epochs, batches and steps, as hookloop counts them."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from accelerate.optimizer import AcceleratedOptimizer
from accelerate.scheduler import AcceleratedScheduler

from hookloop.hosting import Run
from hookloop.logs import Logs
from hookloop.models import unwrapped
from hookloop.structures import size_of
from hookloop_in_transformers._loop import Outputs, TransformersLoop, targets_of

if TYPE_CHECKING:
    from torch import Tensor

    from hookloop_in_transformers._callback import HookloopCallback


class Training:
    """What happens between ``on_train_begin`` and the end of a training, however it ends.

    Args:
        callback: Whose callbacks are run.
        trainer: The trainer.
        optimizer: Its optimizer, in accelerate's wrapper.
        lr_scheduler: Its scheduler.
        train_dataloader: Its data.
        **about: What else an event is given.

    Attributes:
        index: Index of the micro-batch that comes next in its epoch, or is under way.
        in_epoch: Whether an epoch has begun and not yet ended.
        run: The run, once it has begun.
        loop: Its loop.
        outputs: Watches its model.
    """

    run: Run
    loop: Any
    outputs: Outputs

    def __init__(
        self,
        callback: HookloopCallback,
        trainer: Any,
        *,
        optimizer: Any,
        lr_scheduler: Any,
        train_dataloader: Any,
        **about: Any,
    ) -> None:
        self.callback, self.trainer, self._data = callback, trainer, train_dataloader
        self._optimizer = optimizer
        while isinstance(self._optimizer, AcceleratedOptimizer):
            self._optimizer = self._optimizer.optimizer
        while isinstance(lr_scheduler, AcceleratedScheduler):
            lr_scheduler = lr_scheduler.scheduler
        self._scheduler = lr_scheduler
        self.index = 0
        self.in_epoch = self._held = False
        self._logs: Logs | None = None

    @property
    def position(self) -> tuple[int, int]:
        """Indices of the epoch and the batch that come next."""
        return (self._epoch, self.index) if self.in_epoch else (self._next, 0)

    # -- begin and end -----------------------------------------------------------------------

    def begin(self) -> None:
        """Start the run, or continue the one whose state the bridge was given."""
        state = self.trainer.state
        # Whole epochs that the checkpoint holds: it saves the end of one as 1.0, its middle as 0.5.
        self._epoch = self._next = int(state.epoch or 0)
        self.run = run = self.callback.bridge.begin(
            TransformersLoop,
            optimizers=[self._optimizer],
            prepare=self._prepare,
            model=unwrapped(self.trainer.model),
            params=self._params(),
        )
        self.loop = run.loop
        self.outputs = Outputs(run)
        if run.loop.resumed:
            self._continue()
        elif state.global_step:
            run.loop.message("The checkpoint has no state of these callbacks: they begin afresh.")
            if not self.trainer.args.ignore_data_skip:
                self.index = round((state.epoch or 0) % 1 * (_length(self._data) or 0))

    def _prepare(self, loop: Any) -> None:
        loop.step = self.trainer.state.global_step
        loop.schedulers = [self._scheduler] if self._scheduler is not None else []
        if self.callback.misses_exceptions:
            loop.features = loop.features - {"exception"}

    def _params(self) -> dict[str, Any]:
        args, epochs = self.trainer.args, self.trainer.state.num_train_epochs
        evaluates = args.eval_strategy != "no" and self.trainer.eval_dataset is not None
        return {
            "epochs": epochs if epochs < sys.maxsize else None,
            "steps": _length(self._data),
            "batch_size": args.train_batch_size,
            "samples": _length(getattr(self._data, "dataset", None)),
            "verbose": 0,
            "do_validation": evaluates,
        }

    def _continue(self) -> None:
        """Go to where the state was taken."""
        epoch, self.index = self.loop.start
        if self.index and epoch < self._next:
            self._round_off(epoch)
        else:
            self._epoch = self._next = epoch
            if self.index and self.trainer.args.ignore_data_skip:
                self.index = 0  # the Trainer feeds the whole epoch again
        epochs = self.trainer.state.num_train_epochs
        if self._next >= epochs or (self.loop.stop_training and not self.index):
            self.run.driver.say_finished(epochs)

    def _round_off(self, epoch: int) -> None:
        """End an epoch whose batches are done: a checkpoint of its last step was saved before that.

        The Trainer goes on with the next epoch, and never evaluates after this one.
        """
        args, self._next = self.trainer.args, epoch
        self.epoch_begin()
        due = args.eval_strategy == "epoch" and args.eval_delay <= self.trainer.state.epoch
        self.epoch_end(evaluation_follows=due)
        if due:
            self.trainer.evaluate()

    def end(self) -> None:
        """End the run in order."""
        self.flush()
        self.run.end()

    # -- epochs ------------------------------------------------------------------------------

    def epoch_begin(self) -> None:
        """Start the next epoch; none starts after a stop, though the Trainer goes through it."""
        self.flush()
        self._epoch = self._next
        if self.loop.stop_training and not self.index:
            return
        self.in_epoch, self._next = True, self._epoch + 1
        self.run.act(self.run.driver.epoch_begin, self._epoch)

    def epoch_end(self, *, evaluation_follows: bool) -> None:
        """End the epoch, or hold its end back where the Trainer has yet to evaluate."""
        if not self.in_epoch:
            return
        if self.loop.ends_badly():
            self.in_epoch = False
            self.index = 0
        else:
            self._held = True
            if not evaluation_follows:
                self.flush()

    def flush(self) -> None:
        """End the epoch if its end was held back."""
        if self._held:
            self._held = self.in_epoch = False
            self.index = 0
            if not self.loop.ends_badly():
                self.run.act(self.run.driver.epoch_end)

    def evaluated(self) -> None:
        """Take notice that the Trainer has evaluated."""
        self.flush()
        if self.loop.stop_training:
            self.trainer.control.should_training_stop = True

    # -- batches -----------------------------------------------------------------------------

    def batch_begin(self, inputs: Any) -> None:
        """Start a micro-batch, unless its loss is computed in several calls."""
        if self._logs is None:
            loop = self.loop
            loop.inputs, loop.targets = inputs, targets_of(self.trainer, inputs)
            self._begin(Logs({"size": size_of(inputs)}))

    def _begin(self, logs: Logs) -> Logs:
        self._logs = logs
        self.run.act(self.run.driver.batch_begin, self.index, logs)
        return logs

    def _open(self) -> Logs:
        """Give the logs of the batch; it begins late if training_step calls no compute_loss."""
        return self._logs if self._logs is not None else self._begin(Logs())

    def measured(self, loss: Tensor) -> None:
        """Take the loss of the micro-batch.

        Args:
            loss: Its own mean; a scalar, or one for each device.
        """
        own = loss.detach()
        own = own.mean() if own.ndim else own
        self.loop.loss = self._open()["loss"] = own

    def before_step(self) -> None:
        """Let callbacks see the gradients; a stop asked for here skips the step."""
        self.run.fire_before_step(self._optimizer, self._open())

    def batch_end(self, *, checkpoint: bool) -> None:
        """End the micro-batch."""
        logs, self._logs = self._open(), None
        index, self.index = self.index, self.index + 1
        self.run.act(self.run.driver.batch_end, index, logs, checkpoint=checkpoint)


def _length(data: Any) -> int | None:
    try:
        return len(data)
    except TypeError:  # of an iterable that does not know
        return None
