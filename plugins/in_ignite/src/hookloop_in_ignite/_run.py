"""One run of training in Ignite: from the trainer's events to hookloop's hooks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from hookloop.capabilities import HOSTS
from hookloop.hosting import Bridge, BridgeLoop
from hookloop.logs import Logs
from hookloop_in_ignite import _numbers


class IgniteLoop(BridgeLoop):
    """The loop that callbacks see in Ignite."""

    host = "Ignite"
    features = HOSTS[host]
    how_to_validate = "attach(..., evaluator=..., run_validation=...)"


class Training:
    """A run of the trainer, from STARTED to COMPLETED or an exception.

    Args:
        bridge: Carries the callbacks.
        trainer: The engine.
        note: Told of an exception in a batch, which Ignite may swallow.
        loss_transform: As for `attach`.
        schedulers: As for `attach`.
        model: As for `attach`.
        optimizers: As for `attach`.
        validates: Whether there is going to be validation.

    Attributes:
        next: Indices of the epoch and of the batch that come next.
        open: Whether an epoch is open.
        watches: Whether anybody wants to see gradients and loss before a step.
    """

    def __init__(
        self,
        bridge: Bridge,
        trainer: Any,
        *,
        note: Callable[[BaseException], None],
        loss_transform: Callable[[Any], Any] | None,
        schedulers: Sequence[Any],
        model: Any,
        optimizers: Sequence[Any],
        validates: bool,
    ) -> None:
        self.trainer, self.open, self.in_batch = trainer, False, False
        self.next = (trainer.state.epoch, 0)
        self._note, self._transform = note, loss_transform
        self._schedulers = [getattr(one, "lr_scheduler", one) for one in schedulers]
        self._metrics = _numbers.Fresh(trainer)
        self._told = self._told_closure = False
        self._step = 0
        self._logs = Logs()
        self.run = bridge.begin(
            IgniteLoop,
            model=model,
            optimizers=optimizers,
            prepare=self._prepare,
            params=_numbers.known(trainer.state, validates=validates),
        )
        dispatch = self.run.driver.registry.dispatch
        self._begin = dispatch("on_train_batch_begin")
        self._saves = dispatch("on_batch_checkpoint") is not None
        self.watches = dispatch("on_before_optimizer_step") is not None
        for optimizer in optimizers if self.watches else ():
            self.run.before_step(optimizer, self._step_begins)
        if self.loop.resumed:
            self.next = self.loop.start

    def _prepare(self, loop: IgniteLoop) -> None:
        self.loop = loop
        loop.schedulers = list(self._schedulers)

    # -- epochs ------------------------------------------------------------------------------------

    def begin_epoch(self, epoch: int) -> None:
        """Begin an epoch, or go on in the one in which the state was saved."""
        self.open = True
        self._metrics.begin()
        self.next = (epoch, self.next[1] if epoch == self.next[0] else 0)
        self.run.act(self.run.driver.epoch_begin, epoch)

    def end_epoch(self) -> None:
        """End the epoch that is open with the metrics of the trainer, unless the run has failed."""
        self.open = False
        self.next = (self.next[0] + 1, 0)
        if not self.loop.failed:
            self.run.act(self.run.driver.epoch_end, self._metrics.metrics())

    # -- batches -----------------------------------------------------------------------------------

    def begin_batch(self) -> None:
        loop, index = self.loop, self.next[1]
        loop.inputs, loop.targets = _numbers.apart(self.trainer.state.batch)
        loop.loss = None
        self._logs = Logs(_numbers.size(loop.inputs))
        self._step, self.in_batch = loop.step, True
        if self._begin is None:  # batch_begin would do no more than this
            loop.batch, loop.logs = index, self._logs
        else:
            self._act(self.run.driver.batch_begin, index, self._logs)

    def end_batch(self) -> None:
        """End a batch with what the trainer's function returned for it."""
        loop, logs, index = self.loop, self._logs, self.next[1]
        output = loop.outputs = self.trainer.state.output
        if type(output) is float and self._transform is None:
            logs["loss"] = output
        else:
            self._take(output)
        self.in_batch, self.next = False, (self.next[0], index + 1)
        if not loop.optimizers:
            loop.step += 1
        saves = self._saves and self._is_closed()
        self._act(self.run.driver.batch_end, index, logs, checkpoint=saves)

    def _is_closed(self) -> bool:
        """Tell whether no window of accumulation is open: the batch had a step, or is the last."""
        loop = self.loop
        return loop.step > self._step or loop.stop_training

    def _take(self, output: Any) -> None:
        """Find the numbers of the batch in what is more than a number."""
        found = _numbers.reported(output, self._transform)
        self._logs.update(found)
        if hasattr(found.get("loss"), "detach"):
            self.loop.loss = found["loss"]
        if "loss" not in found and not self._told:
            self._say_no_loss()

    def _act(self, act: Callable[..., Any], *arguments: Any, **settings: Any) -> None:
        """Fire hooks of a batch, as ``run.act`` does; Ignite may swallow what they raise."""
        try:
            act(*arguments, **settings)
        except BaseException as error:
            self.run.fail(error)
            self._note(error)
            raise

    def leave_batch(self) -> None:
        """End the batch that the trainer was made to leave, if there is one."""
        if self.in_batch:
            self.in_batch = False
            self.run.act(self.run.driver.batch_end, self.next[1], self._logs, checkpoint=False)

    def _say_no_loss(self) -> None:
        self._told = True
        self.loop.message(
            f"The trainer returns a {type(self.loop.outputs).__name__}, in which the loss of the "
            "batch is not known.\nfix: attach(..., loss_transform=lambda output: ...)"
        )

    # -- the optimizer's step ----------------------------------------------------------------------

    def see_loss(self, module: Any, inputs: Any, loss: Any) -> None:
        """Note the loss as soon as it is computed: the trainer tells it only after the step."""
        if self.in_batch and loss.requires_grad:
            self.loop.loss = self._logs["loss"] = loss

    def _step_begins(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if len(args) > 1 or kwargs.get("closure") is not None:
            self._say_closure()
        else:
            try:
                self.run.fire_before_step(optimizer, self._logs)
            except BaseException as error:
                self._note(error)
                raise

    def _say_closure(self) -> None:
        if not self._told_closure:
            self._told_closure = True
            self.loop.message(
                "A callback wants to see the gradients, which are made inside of "
                "optimizer.step(closure).\nfix: call backward() before it, and step() without one"
            )

    # -- validation --------------------------------------------------------------------------------

    def test(self, measure: Callable[[], Any]) -> None:
        """Run the test hooks around a function that measures and returns a mapping."""
        self.begin_test()
        self.end_test(measure() or {})

    def begin_test(self) -> None:
        self._index = 0
        self.run.act(self.run.driver.test_begin)

    def begin_test_batch(self, batch: Any) -> None:
        loop = self.loop
        loop.inputs, loop.targets = _numbers.apart(batch)
        self._test_logs = Logs(_numbers.size(loop.inputs))
        self.run.act(self.run.driver.test_batch_begin, self._index, self._test_logs)

    def end_test_batch(self) -> None:
        self.run.act(self.run.driver.test_batch_end, self._index, self._test_logs)
        self._index += 1

    def end_test(self, metrics: Mapping[str, Any]) -> None:
        found = Logs()
        found.update({key.removeprefix("val_"): value for key, value in metrics.items()})
        self.run.act(self.run.driver.test_end, found)
