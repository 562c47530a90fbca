"""One run of training in skorch: from skorch's events to hookloop's hooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from skorch import NeuralNet
from skorch.callbacks import BatchScoring, LRScheduler
from skorch.callbacks.lr_scheduler import WarmRestartLR
from skorch.dataset import unpack_data
from torch import Tensor

from hookloop.capabilities import HOSTS
from hookloop.hosting import Bridge, BridgeLoop
from hookloop.logs import Logs
from hookloop.means import Means
from hookloop.models import unwrapped
from hookloop_in_skorch import _numbers


class SkorchLoop(BridgeLoop):
    """The loop that callbacks see in skorch."""

    host = "skorch"
    features = HOSTS[host]
    how_to_validate = "pass train_split="


class Session:
    """One call of ``fit`` or ``partial_fit``.

    Args:
        bridge: Carries the callbacks.
        net: The net that trains.
        epochs: How many are going to be trained.
        train: Data of training.
        valid: Data of validation, or None.
        first: Index of the first epoch.

    Attributes:
        next_epoch: Index of the epoch that a continued run would begin with.
    """

    def __init__(
        self, bridge: Bridge, net: Any, *, epochs: int, train: Any, valid: Any, first: int
    ) -> None:
        self.net = net
        self.next_epoch = first
        self._in_epoch = self._testing = False
        self._batch = self._step = 0
        self._logs = Logs()
        self._means = Means()
        self._loss: Any = None
        self._of_net, self._see = vars(net), self._see_loss  # once, not in every batch
        self._scores = any(isinstance(one, BatchScoring) for _, one in net.callbacks_)
        arguments = net.get_params_for("iterator_train")
        samples = _numbers.length(train)
        batch_size = arguments.get("batch_size", net.batch_size)
        steps = _numbers.batches(
            samples, batch_size, drop_last=bool(arguments.get("drop_last", False))
        )
        self.optimizers = [getattr(net, f"{name}_") for name in net._optimizers]
        self.run = bridge.begin(
            SkorchLoop,
            model=unwrapped(net.module_),
            optimizers=self.optimizers,
            prepare=self._prepare,
            metrics=_numbers.directions(one for _, one in net.callbacks_),
            validation_data=valid,
            params={
                "epochs": first + epochs,
                "steps": steps,
                "batch_size": batch_size,
                "samples": samples,
                "verbose": net.verbose,
                "do_validation": valid is not None,
            },
        )
        dispatch = self.run.driver.registry.dispatch
        self._begin = dispatch("on_train_batch_begin")
        self._saves = dispatch("on_batch_checkpoint") is not None
        self._watch_steps()

    def _prepare(self, loop: SkorchLoop) -> None:
        self.loop = loop
        # Reading is cheaper than anything else where the device is the CPU, and only there.
        self._read = Tensor.item if loop.device.type == "cpu" else Tensor.detach
        running = [one.lr_scheduler_ for _, one in self.net.callbacks_ if _schedules(one)]
        # Computes its rates from two of its own, so that nothing can be made to agree with it.
        loop.schedulers = [one for one in running if not isinstance(one, WarmRestartLR)]

    # -- epochs --------------------------------------------------------------------------------

    def begin_epoch(self) -> None:
        """Begin an epoch, unless the run has to stop before it."""
        loop = self.loop
        if not loop.stop_training:
            self._in_epoch, self._testing, self._batch = True, False, 0
            self.run.act(self.run.driver.epoch_begin, self.next_epoch)
        elif loop.resumed:
            self.run.act(self.run.driver.say_finished, loop.params["epochs"])

    def measure_epoch(self) -> None:
        """End validation and the epoch with what skorch has in its history by now."""
        if not self._in_epoch:
            return
        training, validation = _numbers.measurements(self.net.history[-1])
        if self._testing:
            self._testing = False
            logs = Logs(self._means.result())
            logs.update(validation)
            self.run.act(self.run.driver.test_end, logs)
        else:
            training |= {f"val_{key}": value for key, value in validation.items()}
        if not self.loop.failed:
            self.end_epoch(training)

    def end_epoch(self, values: Mapping[str, Any]) -> None:
        """End the epoch, if one is open."""
        if self._in_epoch:
            self._in_epoch = False
            self.run.act(self.run.driver.epoch_end, values)
            self.next_epoch += 1

    # -- batches -------------------------------------------------------------------------------

    def begin_batch(self, data: Any, *, training: bool) -> None:
        """Begin a batch; the first one of validation begins validation, which has no other sign."""
        loop, driver = self.loop, self.run.driver
        pair = type(data) in (list, tuple) and len(data) == 2  # the usual case, sooner
        loop.inputs, loop.targets = data if pair else unpack_data(data)
        loop.loss = None
        logs = self._logs = Logs({"size": _numbers.size(loop.inputs)})
        if training:
            self._step, self._fired = loop.step, False
            if self._begin is None:  # batch_begin would do no more than this
                loop.batch, loop.logs = self._batch, logs
            else:
                self.run.act(driver.batch_begin, self._batch, logs)
            return
        if not self._testing:
            if loop.failed:
                return
            self._testing, self._batch = True, 0
            self._means.clear()
            self.run.act(driver.test_begin)
        self.run.act(driver.test_batch_begin, self._batch, logs)

    def end_batch(self, loss: Any, outputs: Any, *, training: bool) -> None:
        """End a batch with its own loss, and the scores that callbacks of skorch gave it."""
        loop, driver, logs = self.loop, self.run.driver, self._logs
        loop.outputs = outputs
        if loss is not None and loss is not loop.loss:  # or it is there since the step
            loop.loss = logs["loss"] = loss
        if self._scores:
            logs.update(_numbers.scores(self.net.history[-1, "batches", -1]))
        if training:
            saves = self._saves and (loop.step > self._step or loop.stop_training)
            self.run.act(driver.batch_end, self._batch, logs, checkpoint=saves)
        else:
            self._means.add(logs)
            self.run.act(driver.test_batch_end, self._batch, logs)
        self._batch += 1

    # -- the optimizer's step ----------------------------------------------------------------------

    def _watch_steps(self) -> None:
        """Learn which optimizer steps, where anybody wants to know before it does."""
        self._stepping, self._fired = self.loop.optimizer, False
        self.watches = self.run.driver.registry.dispatch("on_before_optimizer_step") is not None
        plain = type(self.net).train_step is NeuralNet.train_step and len(self.optimizers) == 1
        for optimizer in self.optimizers if self.watches and not plain else ():
            self.run.before_step(optimizer, self._begin_step)

    def _begin_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        self._stepping = optimizer
        if len(args) < 2 and kwargs.get("closure") is None and not self._fired:
            self.gradients_complete()  # a net with a train_step of its own

    def gradients_complete(self) -> None:
        """Fire the hook before the step, with the loss of the batch if it is known by now."""
        self._fired = True
        if self._loss is not None:
            self.loop.loss = self._loss
            dict.__setitem__(self._logs, "loss", self._read(self._loss))  # sooner than by [...] =
            self._loss = None
        self.run.fire_before_step(self._stepping, self._logs)

    def watch_loss(self) -> None:
        """See the loss as soon as the net has it: skorch tells it only after the step."""
        if self.watches:
            self._get_loss = self.net.get_loss
            self._of_net["get_loss"] = self._see

    def unwatch_loss(self) -> None:
        """Leave the net as it was: it may be saved between two batches."""
        if self.watches:
            self._of_net.pop("get_loss", None)

    def _see_loss(self, *args: Any, **kwargs: Any) -> Any:
        self._loss = self._get_loss(*args, **kwargs)
        return self._loss


def _schedules(callback: Any) -> bool:
    return isinstance(callback, LRScheduler) and callback.lr_scheduler_ is not None
