"""The training loop: epochs, batches, and the one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import cached_property
from itertools import islice
from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.optim import Optimizer

from hookloop import compared, rng
from hookloop.capabilities import HOSTS
from hookloop.checks import saves_state
from hookloop.computing import Compute
from hookloop.data import Source, about
from hookloop.driver import Driver
from hookloop.errors import DataError, listed
from hookloop.evaluation import evaluate
from hookloop.loaders import IF
from hookloop.logs import Logs
from hookloop.loop import Loop
from hookloop.objectives import Objective, check_loss
from hookloop.soundness import alike, need
from hookloop.structures import map_structure

if TYPE_CHECKING:
    from hookloop.trainer import Trainer

_MORE = "pass more data, fewer epochs, or a smaller steps_per_epoch"


class TrainerLoop(Loop):
    """The loop of a `Trainer`: everything that a callback may ask for is there.

    Attributes:
        trainer: Whose run it is.
        fitting: The call of ``fit``, if it is one.
        said: What to tell the user when the run starts.
        validation_freq: As given to ``fit``.
    """

    host = "Trainer"
    features = HOSTS[host]
    how_to_validate = "pass validation_data="
    trainer: Trainer
    fitting: Fitting | None = None
    said: str | None = None
    validation_freq: Any = 1

    def evaluate(self, data: Any) -> dict[str, float]:
        return self.trainer.measure(data)

    def extra_state(self) -> dict[str, Any]:
        return self.fitting.state() if self.fitting is not None else {}

    def config(self) -> dict[str, Any]:
        trainer, fitting = self.trainer, self.fitting
        return {
            **super().config(),
            **({"seed": trainer.seed} if trainer.seed is not None else {}),
            "precision": trainer.precision,
            "validation_freq": self.validation_freq,
            **(fitting.described if fitting is not None else {}),
        }

    def differences(self, saved: Mapping[str, Any]) -> list[tuple[str, str]]:
        return list(self.fitting.differences(saved)) if self.fitting is not None else []

    def check_extra_state(self, saved: Mapping[str, Any]) -> None:
        at = saved["loop"]
        need(type(at.get("seed")) is int, "it has no seed, as that of a Trainer has")
        then = (at.get("steps"), at.get("samples"))
        need(all(one is None or type(one) is int for one in then), "its length is no number")

    def load_extra_state(self, saved: Mapping[str, Any]) -> None:
        if self.fitting is not None:
            self.fitting.load_state(saved)


class Fitting:
    """One call of ``fit``: its data, its objective, and where it is.

    Args:
        loop: What the callbacks see.
        compute: Gives, for an objective, the loop and what this is of, what makes outputs and
            loss of a batch.
        objective: Loss and metrics of training.
        source: Training data.
        validation: Validation data, or None.
        validates: Tells for an epoch index whether validation follows it.
        accumulate: Micro-batches of one optimizer step.
        limit: Batches an epoch at most, or None.
        seed: Decides the order of the data, with the epoch.
    """

    def __init__(
        self,
        loop: TrainerLoop,
        *,
        compute: Callable[[Objective, Loop, str], Compute],
        objective: Objective,
        source: Source,
        validation: Source | None,
        validates: Callable[[int], bool],
        accumulate: int,
        limit: int | None,
        seed: int,
    ) -> None:
        self.loop, self.driver = loop, Driver(loop)
        self.objective, self.tests = objective, objective.twin()
        self.compute = compute(self.objective, loop, "training")
        self.compute_tests = compute(self.tests, loop, "validation")
        self.source, self.validation, self.validates = source, validation, validates
        self.accumulate, self.limit, self.seed = accumulate, limit, seed
        self.steps = source.at_most(limit)
        # Reading is cheaper than a sum on the device where the device is the CPU, and only there.
        self._read = Tensor.item if loop.device.type == "cpu" else Tensor.detach
        self._checked = self._told_short = False
        self._resume: dict[str, Any] = {}
        self._random: Any = None
        self._asked: tuple[int, Logs, bool] | None = None

    def run(self, first: int, epochs: int) -> None:
        """Train from one epoch to the last, unless somebody asks to stop."""
        loop, start = self.loop, 0
        condition = self.source.condition()
        if condition is not None and not loop.resumed and saves_state(loop):
            loop.message(IF.format(condition))
        if loop.resumed:
            first, start = loop.start
            if first >= epochs or (loop.stop_training and not start):
                self.driver.say_finished(epochs)
        for epoch in range(first, epochs):
            if loop.stop_training and not start:
                break
            self._epoch(epoch, start)
            start = 0

    def _epoch(self, epoch: int, start: int) -> None:
        loop, self._asked = self.loop, None
        self.objective.reset()
        if self.driver.registry.dispatch("on_batch_checkpoint") is not None:
            self._random = rng.capture()  # for data that have to be drawn again on resume
        self.driver.epoch_begin(epoch)
        stopped = loop.stop_training
        if not stopped:
            self._batches(epoch, start)
        if loop.ends_badly():
            self._ask_again()
            return
        values = {} if stopped and not start else self.objective.results()
        if self.validation is not None and self.validates(epoch):
            evaluate(loop.model, self.compute_tests, self.tests, self.validation, self.driver)
            if loop.ends_badly():
                self._ask_again()
                return
        self.driver.epoch_end(values)

    def _ask(self, index: int, logs: Logs) -> None:
        """Let savers save, and remember whether they knew of a signal then."""
        self._asked = (index, logs, self.loop.interrupted)
        self.driver.batch_checkpoint(index, logs)

    def _ask_again(self) -> None:
        """Let savers save if a signal came after they were asked last: in validation, mostly."""
        if self._asked is not None and self.loop.interrupted and not self._asked[2]:
            self._ask(*self._asked[:2])

    def _batches(self, epoch: int, start: int) -> None:
        """Train on the batches of one epoch. The one long function: each line is the step."""
        loop, objective, compute = self.loop, self.objective, self.compute
        begin = self.driver.registry.dispatch("on_train_batch_begin")
        before = self.driver.registry.dispatch("on_before_optimizer_step")
        end = self.driver.registry.dispatch("on_train_batch_end")
        saves = self.driver.registry.dispatch("on_batch_checkpoint") is not None
        optimizer, accumulate = loop.optimizers[0], self.accumulate
        read, put, measured = self._read, dict.__setitem__, bool(objective.metrics)
        epoch_logs = loop.logs
        window = done = 0
        index, logs = start - 1, Logs()
        for index, (inputs, targets, size) in enumerate(self._source(epoch, start), start):
            logs = Logs({"size": size})
            loop.batch, loop.logs, loop.inputs, loop.targets = index, logs, inputs, targets
            if begin is not None:
                begin(loop, index, logs)
            if not done:
                window = self._window(index) if accumulate > 1 else 1
                optimizer.zero_grad()
            outputs, loss = compute(inputs, targets, logs)
            if not self._checked:
                self._check(outputs, targets, loss)
            (loss if window == 1 else loss / window).backward()  # type: ignore[no-untyped-call]
            loop.outputs, loop.loss = outputs, loss
            put(logs, "loss", read(loss))
            if measured:
                objective.measure(outputs, targets, logs)
            done += 1
            if done == window:
                if before is None:
                    optimizer.step()
                    loop.step += 1
                else:
                    self._step(optimizer, before, logs)
                done = 0
            if end is not None:
                end(loop, index, logs)
            loop.logs = epoch_logs
            signalled = loop.signal is not None  # a later one is for the next batch's savers
            if saves and not done:
                self._ask(index, logs)
            if not done if signalled else (loop.asked or loop.flagged()):
                break  # on a signal only after the window, where the state can be saved
        self._after_batches(index, done, window, logs)

    def _source(self, epoch: int, start: int) -> Any:
        batches = self.source.batches(epoch, self.seed, start, self._resume)
        return batches if self.limit is None else islice(batches, self.limit - start)

    def _window(self, index: int) -> int:
        """Tell how many micro-batches the window has that begins here: the last may be short."""
        known = self.steps is not None and index < self.steps
        return min(self.accumulate, self.steps - index) if known else self.accumulate  # type: ignore[operator]

    def _check(self, outputs: Any, targets: Any, loss: Any) -> None:
        check_loss(loss)
        self.objective.check(outputs, targets)
        self._checked = True

    def _step(self, optimizer: Optimizer, before: Callable[..., None] | None, logs: Logs) -> None:
        if before is not None:
            requests = self.loop.requests
            before(self.loop, optimizer, logs)
            if self.loop.requests > requests:  # asked for in this hook: gradients are not used
                return
        optimizer.step()
        self.loop.step += 1

    def _after_batches(self, index: int, done: int, window: int, logs: Logs) -> None:
        """Use the gradients of a window that the end of the epoch, or a stop, has cut."""
        if index < 0:
            if self._checked:  # an iterator that earlier epochs have used up
                message = f"The data ran out: none are left for epoch {(self.loop.epoch or 0) + 1}."
                raise DataError(message, fix=_MORE)
            fix = "pass data with at least one batch; a generator can be read only once"
            raise DataError("The training data yield no batch.", fix=fix)
        if self.limit is not None and index + 1 < self.limit and not self.loop.stop_training:
            self._say_short(index + 1, self.limit)
        if not done or self.loop.failed:
            return
        optimizer = self.loop.optimizers[0]
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    parameter.grad.mul_(window / done)
        self._step(optimizer, self.driver.registry.dispatch("on_before_optimizer_step"), logs)
        self._ask(index, logs)

    def _say_short(self, found: int, limit: int) -> None:
        """Tell once that an epoch has fewer batches than were asked for."""
        if not self._told_short:
            self._told_short = True
            self.loop.message(
                f"The data ran out after {found} of {limit} batches in epoch "
                f"{(self.loop.epoch or 0) + 1}, which ends there.\nfix: {_MORE}"
            )

    @cached_property
    def described(self) -> dict[str, Any]:
        """Of what data and for what the model is trained, in words."""
        tests = self.validation
        return {
            **about(self.source),
            "batches": self.steps,
            "accumulate": self.accumulate,
            "validation data": about(tests) if tests is not None else {},
            **self.objective.described(),
        }

    def state(self) -> dict[str, Any]:
        """What only a trainer knows of the run: seed, data position, metrics of the open epoch."""
        validation = self.validation.state() if self.validation is not None else {}
        return {
            "loop": {"seed": self.seed, "steps": self.steps, "samples": self.source.samples},
            "rng": {"data": {**self.source.state(), "random": self._random}, "tests": validation},
            "metrics": {key: _metric_state(m) for key, _, m in self.objective.accumulating},
        }

    def differences(self, saved: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Find what is not as it was in the middle of the epoch in which a state was taken."""
        if not saved["loop"]["batch"]:
            return
        then, now = compared.run_of(saved), self.described
        need(isinstance(then.get("metrics", {}), Mapping), "what it says of metrics is no mapping")
        yield from compared.data(then, now)
        held = {key: then.get("metrics", {}).get(key) for key in saved["metrics"]}
        own = {key: now["metrics"][key] for key, _, _ in self.objective.accumulating}
        if held.keys() != own.keys() or any(held[key] not in (None, own[key]) for key in own):
            of, has = (
                listed(f"{key} ({kind})" for key, kind in one.items()) for one in (held, own)
            )
            what = f"The state has what the metric objects {of} gathered; this run has {has}."
            yield what, "pass the metric objects of that run"

    def load_state(self, saved: Mapping[str, Any]) -> None:
        """Put back what `state` gave."""
        self.seed = saved["loop"]["seed"]
        self._resume = saved["rng"]["data"]
        cost = self.source.cost_of_skipping()
        if cost and (saved["loop"]["batch"] or self.source.once):
            self.loop.message(f"To go on where the run was, {cost}.")
        self._random = self._resume.get("random")
        self.source.restore(self._resume)
        if self.validation is not None:
            self.validation.restore(saved["rng"]["tests"])
        then, now = compared.run_of(saved).get("metrics", {}), self.described["metrics"]
        for key, _, metric in self.objective.accumulating:
            if key in saved["metrics"] and then.get(key) in (None, now[key]):
                _load_metric_state(metric, saved["metrics"][key])


def _metric_state(metric: Any) -> dict[str, Any]:
    """Take the state of an accumulating metric: its own, or else its attributes and buffers.

    torchmetrics keeps its states out of ``state_dict`` unless told otherwise.
    """
    if hasattr(metric, "metric_state"):
        if hasattr(metric, "values"):  # a collection brings members up to date that share a state
            list(metric.values())
        return {"parts": {path: _part_state(part) for path, part in _parts(metric).items()}}
    if isinstance(metric, nn.Module):
        own = vars(metric).keys() - vars(nn.Module()).keys()
        return {"own": {name: vars(metric)[name] for name in own}, "module": metric.state_dict()}
    if hasattr(metric, "state_dict"):
        return {"asked": metric.state_dict()}
    return {"own": {name: value for name, value in vars(metric).items() if not callable(value)}}


def _parts(metric: Any) -> dict[str, Any]:
    """Find the metrics of torchmetrics in one that may be made of several, by path."""
    return {path: one for path, one in metric.named_modules() if hasattr(one, "_update_count")}


def _part_state(part: Any) -> dict[str, Any]:
    values = {name: value for name, value in vars(part).items() if isinstance(value, Tensor)}
    return {"states": {**values, **part.metric_state}, "count": part._update_count}


def _load_metric_state(metric: Any, state: Mapping[str, Any]) -> None:
    """Put back what `_metric_state` took; tensors are copied, as metrics change them in place."""
    for path, part in _parts(metric).items() if "parts" in state else ():
        saved = state["parts"][path]
        for name, value in saved["states"].items():
            setattr(part, name, map_structure(value, lambda one: one.clone()))
        part.to(metric.device if hasattr(metric, "device") else part.device)
        part._update_count, part._computed = saved["count"], None
    for kind in {"module", "asked"} & state.keys():
        metric.load_state_dict(state[kind])
    own = state.get("own", {})
    sound = all(alike(vars(metric).get(name), value) for name, value in own.items())
    need(sound, f"what {type(metric).__name__} held is of another kind")
    vars(metric).update(own)
