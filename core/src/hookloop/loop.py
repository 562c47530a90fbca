"""Loop: what a callback may see and do. Every host makes one for each run."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TextIO

from hookloop import buffers, rates, state, switches
from hookloop.capabilities import FEATURES
from hookloop.errors import ArgumentError, CapabilityError, StateError, did_you_mean, listed
from hookloop.logs import Logs
from hookloop.registry import Policy, Registry

if TYPE_CHECKING:
    from torch import Tensor, nn
    from torch.optim import Optimizer

    from hookloop.history import History
    from hookloop.profiling import Profile


class Loop:
    """One run of a loop, as its callbacks see it.

    Args:
        model: The user's module, unwrapped.
        optimizers: All optimizers.
        callbacks: Pairs of name and instance, in list order.
        params: ``epochs``, ``steps``, ``batch_size``, ``samples``, ``verbose``, ``metrics``,
            ``do_validation``; what is missing is None.
        validation_data: For callbacks that want to look at some.
        metrics: The run's metrics by name, for their declared directions.
        policy: What follows an exception of a callback.
        profile: What measures the callbacks, or None.

    Attributes:
        epoch: Index of the current epoch, from 0; None before the first.
        batch: Index of the current micro-batch, from 0; None outside of batches.
        step: Optimizer steps completed in the whole run, over restarts too.
        loss: Loss of the current batch (0-d tensor on its device), or None.
        inputs: Inputs of the current batch as the model gets them, or None.
        targets: Targets of the current batch, or None.
        outputs: What the model returned for the current batch, or None.
        outcome: None during the run; then ``finished``, ``stopped``, ``failed`` or
            ``interrupted``.
        asked: Requests of callbacks to stop: why, and whether the run has failed.
        signal: Number of the signal that has asked the run to end, or None.
        saves_asked: How many signals have asked for a save; None where the run heeds none that do.
        resumed: Whether this run continues an earlier one.
        made: Model and optimizers in words, as they were when the run began.
        switches: What its model trains, as it was when the run began.
        buffers: Those that are not persistent, as they were when the run began.
        rate_set: The rate that was set last by a callback, and by which; None before.
        history: The `History` of the run, if the host keeps one.
        schedulers: Schedulers of torch that the host knows to be running; a rate that a callback
            sets is the one from which they go on.
        rank: This process's place among `world_size`.
    """

    host = "Loop"
    features: frozenset[str] = frozenset()
    #: What to do here to have ``val_`` metrics, as a fix says it.
    how_to_validate = "report it"
    rank = 0
    world_size = 1

    def __init__(
        self,
        *,
        model: nn.Module | None,
        optimizers: Sequence[Optimizer] = (),
        callbacks: Sequence[tuple[str, Any]] = (),
        params: Mapping[str, Any] | None = None,
        validation_data: Any = None,
        metrics: Mapping[str, Any] | None = None,
        policy: Policy = "auto",
        profile: Profile | None = None,
    ) -> None:
        if policy not in ("raise", "disable", "auto"):
            message = f"on_callback_error={policy!r} is no policy."
            raise ArgumentError(message, fix="'raise', 'disable' or 'auto'")
        self.model: nn.Module = model  # type: ignore[assignment]  # or None
        self.optimizers = list(optimizers)
        self.validation_data = validation_data
        self.metrics = dict(metrics or {})
        known = ("epochs", "steps", "batch_size", "samples", "verbose", "metrics", "do_validation")
        self.params: dict[str, Any] = {**dict.fromkeys(known), **(params or {})}
        self.registry = Registry(callbacks, policy, profile)
        self.callbacks: Mapping[str, Any] = MappingProxyType(dict(callbacks))
        self.epoch: int | None = None
        self.batch: int | None = None
        self.step = 0
        self.loss: Tensor | None = None
        self.inputs: Any = None
        self.targets: Any = None
        self.outputs: Any = None
        self.outcome: str | None = None
        self.resumed = False
        self.history: History | None = None
        self.logs = Logs()
        self.position: tuple[int, int] | None = None
        self.start = (0, 0)
        self.pending_state: Mapping[str, Any] | None = None
        self.bases = rates.bases(self.optimizers)
        self.made: dict[str, Any] = {}
        self.switches: switches.Switches = {}
        self.buffers: buffers.Noted = {}
        self.schedulers: list[Any] = []
        self.rate_set: tuple[float, str] | None = None
        self._rate_told = False
        self.asked: list[tuple[str, bool]] = []
        self._checks: list[Callable[[], None]] = []
        self.signal: int | None = None
        self.saves_asked: int | None = None
        self._flags = [vars(model)] if hasattr(model, "__dict__") else []

    # -- what the callbacks see ------------------------------------------------------------

    @property
    def optimizer(self) -> Any:
        """The first optimizer, or None."""
        return self.optimizers[0] if self.optimizers else None

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    @property
    def device(self) -> Any:
        """Where the model is, as a ``torch.device``."""
        import torch

        parameter = next(iter(self.model.parameters()), None) if self.model is not None else None
        return torch.device("cpu") if parameter is None else parameter.device

    def supports(self, feature: str) -> bool:
        """Tell whether this host offers a feature.

        Raises:
            CapabilityError: If no host knows a feature of that name.
        """
        if feature not in FEATURES:
            message = f"No loop has a feature {feature!r}.{did_you_mean(feature, FEATURES)}"
            raise CapabilityError(message, fix=f"one of: {listed(FEATURES)}")
        return feature in self.features

    def log(self, name: str | None = None, value: Any = None, /, **values: Any) -> None:
        """Report numbers: ``loop.log("grad_norm", 0.3)`` or ``loop.log(grad_norm=0.3)``.

        Inside a batch they go into the logs of that batch, and averaged by size into the epoch's;
        otherwise into the logs of the epoch. Tensors are detached, and not waited for.
        """
        if name is not None:
            self.logs[name] = value
        self.logs.update(values)

    def name_of(self, callback: Any) -> str:
        """Tell by which name this run knows a callback: its key in ``callbacks``."""
        names = (name for name, one in self.callbacks.items() if one is callback)
        return next(names, type(callback).__name__)

    def message(self, text: str) -> None:
        """Show the user a line, above a progress bar if there is one; on rank 0 only."""
        if not self.is_main:
            return
        show = self.registry.dispatch("on_message")
        if show is None or not show(self, text):
            print(text, flush=True)

    def call(self, hook: str, **arguments: Any) -> Any:
        """Fire a hook that a plugin brought, on the training thread.

        Args:
            hook: Its name.
            **arguments: Its arguments; ``loop`` is added where the hook has it.

        Returns:
            The results of those who returned something, or the first for a ``firstresult`` hook.
        """
        if "loop" in self.registry.hooks.get(hook, ()):
            arguments["loop"] = self
        return self.registry.call(hook, **arguments)

    def describe(self, file: TextIO | None = None, *, times: bool = False) -> None:
        """Print hook by hook who runs, in order.

        Args:
            file: Where to print to; standard output unless given.
            times: Whether to print instead what each hook of each callback has taken so far, in a
                run with ``profile_callbacks=True``.
        """
        order = self.registry.order().items() if not times else ()
        lines = [f"{hook}: {' > '.join(owners)}" for hook, owners in order]
        print(*(lines if not times else [self.registry.times()]), sep="\n", file=file or sys.stdout)

    def reported(self) -> list[str] | None:
        """List what the logs of an epoch are known to hold; None where the host cannot tell.

        Callbacks may add to it.
        """
        metrics = self.params["metrics"]
        if metrics is None:
            return None
        twins = [f"val_{name}" for name in metrics] if self.params["do_validation"] else []
        return [*metrics, *twins]

    # -- stopping ---------------------------------------------------------------------------

    def stop(self, reason: str, *, failed: bool = False) -> None:
        """Ask the run to end. Requests add up, and none can be taken back.

        Args:
            reason: Why, in words for the user; kept in ``stop_reason`` and in the history.
            failed: True if the run is not a success, so that nothing is cleaned up after it.
        """
        if (reason, failed) not in self.asked:
            self.asked.append((reason, failed))

    @property
    def stop_training(self) -> bool:
        """Whether anybody asked to stop: by ``stop``, by setting this, or on the model."""
        return bool(self.asked or self.signal is not None or self.flagged())

    @stop_training.setter
    def stop_training(self, value: bool) -> None:
        if value:
            self.stop("stop_training was set")

    @property
    def interrupted(self) -> bool:
        """Whether a signal has asked the run to end: savers save what they have at once."""
        return self.signal is not None

    @property
    def stop_reason(self) -> str | None:
        """Why the run was asked to stop, all reasons joined; None if nobody asked."""
        reasons = [reason for reason, _ in self.stops()]
        reasons += [f"signal {self.signal}"] if self.signal is not None else []
        return "; ".join(reasons) or None

    def stops(self) -> list[tuple[str, bool]]:
        """Give the requests of callbacks to stop: why, and whether the run has failed."""
        if self.flagged() and not self.asked:
            return [("stop_training was set on the model", False)]
        return list(self.asked)

    @property
    def requests(self) -> int:
        """How many different requests to stop there are."""
        return len(self.asked) + self.flagged()

    @property
    def failed(self) -> bool:
        """Whether the run has failed so far: savers ask, and save nothing then.

        Makes the checks of `add_check` first, so that it may wait for the device.
        """
        for check in self._checks:
            check()
        return any(failed for _, failed in self.asked)

    def add_check(self, check: Callable[[], None]) -> None:
        """Have a check made whenever something relies on the run being sound.

        That is before evaluation, at the end of the run, and where a saver asks for `failed`:
        waiting for the device costs little there, and much in every step.

        Args:
            check: Called without arguments; it calls ``stop(reason, failed=True)``, or raises.
        """
        self._checks.append(check)

    def ends_badly(self) -> bool:
        """Whether the run failed or was interrupted, so that its epoch is not rounded off."""
        return self.signal is not None or self.failed

    def flagged(self) -> bool:
        """Whether ``stop_training`` is set on the model or its wrapper, as in Keras.

        Looks into ``__dict__``: ``getattr`` on a module that lacks a name costs 1 microsecond.
        """
        for flags in self._flags:  # noqa: SIM110  (any() with a generator costs three times this)
            if flags.get("stop_training"):
                return True
        return False

    def watch(self, wrapper: Any) -> None:
        """Have ``stop_training`` looked for on a wrapper of the model, too."""
        if wrapper is not self.model:
            self._flags.append(vars(wrapper))

    def clear_flags(self) -> None:
        """Take back what was set on the model before this run."""
        for flags in self._flags:
            if flags.get("stop_training"):
                flags["stop_training"] = False

    # -- learning rate ------------------------------------------------------------------------

    @property
    def lr(self) -> float:
        """Learning rate of the first parameter group."""
        return self.lrs[0]

    @property
    def lrs(self) -> list[float]:
        """Learning rates of all parameter groups of all optimizers."""
        if not self.optimizers:
            raise CapabilityError(
                f"{self.host} was given no optimizer, so there is no learning rate.",
                fix="pass optimizer= to the loop",
            )
        return [rate for optimizer in self.optimizers for rate in rates.of(optimizer)]

    def set_lr(
        self,
        value: float,
        optimizer: Optimizer | None = None,
        *,
        by: str = "a callback",
        relative: bool = False,
    ) -> None:
        """Set the learning rate.

        Every parameter group gets the value times the ratio of its rate to the first group's, as
        they were when the run started.

        Args:
            value: Learning rate of the first group.
            optimizer: Whose groups; by default those of all optimizers.
            by: Who sets it, for the line that is shown when two of them overwrite each other.
            relative: Whether the value was made from the rate in force, and so overwrites nothing.
        """
        with self.setting_lr(by=by, relative=relative):
            before = self.lrs
            rates.set_rates(self.optimizers, self.bases, float(value), only=optimizer)
            if self.schedulers and not rates.agree(self.schedulers, self.optimizers, before):
                self._say_rate(f"A scheduler will overwrite the learning rate that {by} set.")

    @contextmanager
    def setting_lr(self, *, by: str, relative: bool = False) -> Iterator[None]:
        """Tell the loop that what runs inside sets the rates itself, as a scheduler of torch does.

        Args:
            by: As for `set_lr`.
            relative: As for `set_lr`.
        """
        self.check_rate()
        before = self.rate_set
        yield
        self.rate_set = (self.lr, by)
        if before is not None and before[1] != by and not relative:
            self._say_overwritten(before, by)

    def check_rate(self) -> None:
        """Say once if what a callback set was overwritten by a scheduler or by other code.

        A scheduler that the host knows of goes on from what was set, so that it may differ.
        """
        before = self.rate_set
        if before is not None and self.lr != before[0] and not self.schedulers:
            self.rate_set = None
            self._say_overwritten(before, "a scheduler or other code")

    def _say_overwritten(self, before: tuple[float, str], by: str) -> None:
        if before[0] != self.lr:
            self._say_rate(
                f"The learning rate was set to {before[0]:.6g} by {before[1]} and overwritten with "
                f"{self.lr:.6g} by {by}."
            )

    def _say_rate(self, text: str) -> None:
        if self._rate_told:
            return
        self._rate_told = True
        self.message(
            f"{text}\n"
            "fix: let only one of them set it, or use a scheduler through learning_rate_scheduler"
        )

    # -- evaluation and state -----------------------------------------------------------------

    def evaluate(self, data: Any) -> dict[str, float]:
        """Evaluate the model without disturbing the run: metrics, mode, stop requests, RNG.

        Args:
            data: Anything that the host's own evaluation takes.

        Returns:
            ``loss`` and the metrics, over all samples.
        """
        raise CapabilityError(
            f"{self.host} does not know how to evaluate the model.",
            fix="run your own evaluation, and loop.log(val_loss=...)",
        )

    def state_dict(self) -> dict[str, Any]:
        """Everything the run needs to continue, as plain data and tensors (by reference).

        Raises:
            StateError: Outside of ``on_batch_checkpoint`` and ``on_epoch_checkpoint``: elsewhere
                a part of the batch or epoch would be missing from it.
        """
        if self.position is None:
            raise StateError(
                "The state of a run can only be taken at its checkpoint hooks.",
                fix="call loop.state_dict() in on_batch_checkpoint or on_epoch_checkpoint",
            )
        return state.capture(self)

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Continue an earlier run: call it in a ``tryfirst`` ``on_train_begin``.

        Counters and ``resumed`` are set at once; everything else when the begin hooks have run.

        Raises:
            StateError: If the state is of another format, model, optimizer or callback; nothing
                has been changed then.
        """
        state.check(self, saved)
        self.check_extra_state(saved)
        state.load_counters(self, saved)
        self.pending_state = saved

    def apply_state(self, saved: Mapping[str, Any]) -> None:
        """Put back everything but the counters, once the begin hooks have run."""
        state.apply(self, saved)

    def config(self) -> dict[str, Any]:
        """Say in words what a run is made of, to be compared with the run that a state is of."""
        return {"device": str(self.device)}

    def differences(self, saved: Mapping[str, Any]) -> list[tuple[str, str]]:
        """Find in what a state does not fit the host, each with what to do about it."""
        return []

    def extra_state(self) -> dict[str, Any]:
        """Give what a host adds: ``metrics``, ``scaler``, and more of ``loop`` and ``rng``."""
        return {}

    def check_extra_state(self, saved: Mapping[str, Any]) -> None:
        """Refuse what `extra_state` gave in another run, before anything is changed."""

    def load_extra_state(self, saved: Mapping[str, Any]) -> None:
        """Put back what `extra_state` gave."""
