"""Training: what Lightning tells while it fits, as the hooks of one run."""

from __future__ import annotations

from typing import Any

from hookloop.hosting import Run
from hookloop.logs import Logs
from hookloop.structures import size_of
from hookloop_in_lightning._evaluation import Tests
from hookloop_in_lightning._framework import Trainer
from hookloop_in_lightning._loop import numbers, show
from hookloop_in_lightning._metrics import Fresh, is_number

_AGREED = "another process asked to stop"
_LEFT_OUT = (
    "The checkpoint was saved after the last batch of epoch {epoch} and before its validation, "
    "which Lightning leaves out when it resumes: that epoch has no val_ metrics.\n"
    "fix: save checkpoints at the end of an epoch or of a validation"
)


class Fit:
    """One fit of Lightning.

    Args:
        run: Whose hooks are fired; ``on_train_begin`` has been.
        trainer: Lightning's.

    Attributes:
        position: Indices of the epoch and of the batch that come next.
        tests: The validations in it.
        hides: Whether the validation under way is one that callbacks do not see.
    """

    def __init__(self, run: Run, trainer: Trainer) -> None:
        self.run, self.driver, self.loop, self._trainer = run, run.driver, run.loop, trainer
        self.tests, self.hides = Tests(run, trainer, "val_"), False
        self.position = run.loop.start
        self.validated: dict[str, Any] = {}
        self._fresh = Fresh()
        self._open = self._reports_loss = self._skips = self._trains = False
        self._steps = 0
        self._before = self.driver.registry.dispatch("on_before_optimizer_step")
        self._automatic = bool(trainer.lightning_module.automatic_optimization)
        if self.loop.optimizers:
            run.on_step(self.loop.optimizers[0], self._count)

    @property
    def sees_steps(self) -> bool:
        """Whether a callback wants to see optimizer steps."""
        return self._before is not None

    def begin(self) -> None:
        """Round off the epoch that a checkpoint left open and Lightning does not return to."""
        pending = self.loop.pending_state
        if pending is not None and pending["loop"]["epoch"] < self._trainer.current_epoch:
            epoch = pending["loop"]["epoch"]
            validated = any(name.startswith("val_") for name in pending["loop"]["logs"])
            if self.loop.params["do_validation"] and not validated:
                self.loop.message(_LEFT_OUT.format(epoch=epoch))
            self.run.act(self.driver.epoch_begin, epoch)
            self.run.act(self.driver.epoch_end, {})
            self.position = (epoch + 1, 0)
        self.heed()

    def heed(self) -> None:
        """Pass a request to stop on to Lightning, in all processes or in none.

        Every process has to come here equally often, or they wait for each other for ever.
        """
        loop = self.loop
        stops = loop.stop_training
        if loop.world_size > 1:
            agreed = self._trainer.strategy.reduce_boolean_decision(stops, all=False)
            if agreed and not stops:
                loop.stop(_AGREED)
            stops = agreed
        if stops:
            self._trainer.should_stop = True

    def epoch_begin(self) -> None:
        self._open = self._trains = True
        self._reports_loss, self.validated = False, {}
        self._fresh.mark(self._trainer.callback_metrics)
        self.run.act(self.driver.epoch_begin, self._trainer.current_epoch)
        self.heed()

    def _in_epoch(self) -> None:
        """Begin the epoch in the middle of which Lightning resumes: it does not tell that."""
        if not self._open:
            self.epoch_begin()

    # -- batches -----------------------------------------------------------------------------------

    def batch_begin(self, batch: Any, index: int) -> None:
        if not self._open:
            self._in_epoch()
        loop = self.loop
        self._steps, self._skips = loop.step, False
        show(loop, batch)
        loop.outputs = loop.loss = None
        self.run.act(self.driver.batch_begin, index, Logs({"size": size_of(loop.inputs)}))

    def backward(self, loss: Any) -> None:
        """Put the loss into the logs that ``on_before_optimizer_step`` sees."""
        loop = self.loop
        if loop.batch is None or self._is_scaled():
            return
        loop.loss = self._whole(loss.detach())
        loop.logs["loss"] = loop.loss

    def _is_scaled(self) -> bool:
        """Whether the loss is not the one of the batch: fp16 scales it before this hook."""
        scaler = getattr(self._trainer.precision_plugin, "scaler", None)
        return scaler is not None or not self._automatic

    def _whole(self, loss: Any) -> Any:
        """Undo Lightning's division of the loss by the length of the accumulation window."""
        window = self._trainer.accumulate_grad_batches
        return loss * window if window != 1 and self._automatic else loss

    def before_step(self, optimizer: Any) -> None:
        """Fire the hook; a stop requested in it skips the step.

        Lightning is inside ``optimizer.step`` already, which leaves parameters without gradients
        as they are. In several processes the step is made: all of them have to do the same.
        """
        loop, requests = self.loop, self.loop.requests
        self.run.act(self._before, loop, optimizer, loop.logs)  # type: ignore[arg-type]
        self._skips = loop.requests > requests and loop.world_size == 1
        if self._skips:
            optimizer.zero_grad(set_to_none=True)

    def _count(self, *_: Any) -> None:
        if not self._skips:
            self.loop.step += 1

    def batch_end(self, outputs: Any, index: int) -> None:
        loop = self.loop
        if loop.batch is None:  # Lightning began none: the loader gave None
            return
        logs, found = loop.logs, numbers(outputs)
        for name, value in found.items():
            if name == "loss" and value is not None:
                self._reports_loss = True
                if loop.loss is None:  # otherwise it was read before the step, and is the same
                    loop.loss = logs["loss"] = self._whole(value)
            elif is_number(value):
                logs[name] = value
        loop.outputs = outputs
        self.position = (loop.epoch or 0, index + 1)
        saves = loop.step != self._steps or self._skips  # otherwise a window is open
        self.run.act(self.driver.batch_end, index, logs, checkpoint=saves)
        if loop.requests or loop.world_size > 1:
            self.heed()

    # -- validation --------------------------------------------------------------------------------

    def validation_begin(self) -> None:
        """Begin a validation, unless the run has failed: its last epoch is not rounded off."""
        self._in_epoch()
        self.hides = self.loop.ends_badly()
        if not self.hides:
            self.tests.begin()

    def validation_end(self) -> None:
        if not self.hides:
            self.validated = self.tests.end()
        self.heed()

    # -- ends --------------------------------------------------------------------------------------

    def epoch_end(self) -> None:
        """End the epoch with what the module logged in it, also in its own ``on_train_epoch_end``.

        What validation logged is reported by the driver.
        """
        self._in_epoch()
        loop = self.loop
        if loop.batch is not None:  # the module's on_train_batch_start has cut the epoch
            self.run.act(self.driver.batch_end, loop.batch, loop.logs, checkpoint=False)
        if not loop.ends_badly():
            self.run.act(self.driver.epoch_end, self._values())
            self.position = ((loop.epoch or 0) + 1, 0)
        self._open = False
        self.heed()

    def _values(self) -> dict[str, Any]:
        found = self._fresh.since(self._trainer.callback_metrics)
        values = {k: v for k, v in found.items() if v is not self.validated.get(k)}
        if self._reports_loss:  # of which the mean is taken; the module's own may be the last one
            values.pop("loss", None)
        return values

    def end(self) -> None:
        """End the run; one that resumed and trained nothing, as none was left, says so."""
        loop, cut = self.loop, self._trainer.should_stop and not self.loop.stop_training
        if loop.resumed and not self._trains and not cut:
            self.run.act(self.driver.say_finished, self._trainer.current_epoch)
        if loop.pending_state is not None:
            self.run.act(self.driver.restore, loop.pending_state)
        if cut:
            loop.stop("trainer.should_stop was set")
        self.run.end()
