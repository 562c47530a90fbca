"""Hosting: what a loop that is not ours needs to run callbacks. Every bridge is built from this.

A bridge is one object of a framework's own callback kind. It has a `Bridge`, which carries the
chosen callbacks, and tells its `Run` what happens in the framework::

    bridge = Bridge(["early_stopping:patience=3"])
    run = bridge.begin(LightningLoop, model=module, optimizers=[...], params={...})
    run.act(run.driver.epoch_begin, epoch)
    ...
    run.end()
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from hookloop import state
from hookloop.arguments import with_environment
from hookloop.defaults import with_defaults
from hookloop.driver import Driver
from hookloop.errors import CapabilityError
from hookloop.history import History
from hookloop.loop import Loop
from hookloop.selection import load_callbacks, named

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.logs import Logs

P = ParamSpec("P")
R = TypeVar("R")


class Run:
    """One run of a loop that is not ours: guards its hooks, counts its steps, and ends it once.

    Args:
        loop: What the callbacks see.
        counts: Whether the steps of the loop's first optimizer are counted here. (One optimizer of
            several, so that a step is the same thing however many there are.)

    Attributes:
        loop: As given.
        driver: Fires the hooks; called through `act`.
        over: Whether the run has ended, in whatever way.
    """

    def __init__(self, loop: Loop, *, counts: bool = True) -> None:
        self.loop, self.driver, self.over = loop, Driver(loop), False
        self._open = ExitStack()
        self._skipped: Optimizer | None = None
        if counts and loop.optimizers:
            self.on_step(loop.optimizers[0], self._count)

    def _count(self, optimizer: Optimizer, *_: Any) -> None:
        if self._skipped is optimizer:
            self._skipped = None
        else:
            self.loop.step += 1

    def fire_before_step(self, optimizer: Optimizer, logs: Logs) -> None:
        """Fire ``on_before_optimizer_step``; a stop that is requested in it skips the step.

        The step cannot be kept from a framework that is about to make it. Without gradients the
        optimizers of torch change nothing, and it is not counted.

        Args:
            optimizer: The one that is about to step.
            logs: Of the batch.
        """
        before = self.driver.registry.dispatch("on_before_optimizer_step")
        if before is None:
            return
        loop = self.loop
        requests = loop.requests
        try:
            before(loop, optimizer, logs)
        except BaseException as error:
            self.fail(error)
            raise
        if loop.requests > requests:
            self._skipped = optimizer
            optimizer.zero_grad(set_to_none=True)

    def on_step(self, optimizer: Optimizer, note: Callable[..., None]) -> None:
        """Have a function called after each step of an optimizer, until the run is over."""
        self.when_over(optimizer.register_step_post_hook(note).remove)

    def when_over(self, undo: Callable[[], None]) -> None:
        """Have something undone when the run is over, in whatever way."""
        self._open.callback(undo)

    def before_step(self, optimizer: Optimizer, note: Callable[..., None]) -> None:
        """Have a function called before each step of an optimizer, until the run is over."""
        self._open.callback(optimizer.register_step_pre_hook(note).remove)

    def act(self, act: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Fire hooks through the driver; if a callback raises, every one sees the end of the run.

        Raises:
            BaseException: What the callback raised, with its note.
        """
        try:
            return act(*args, **kwargs)
        except BaseException as error:
            self.fail(error)
            raise

    def fail(self, error: BaseException) -> None:
        """End a run that an exception is ending; nothing happens if it is over already."""
        if not self.over:
            self.close()
            self.driver.fail(error)

    def end(self) -> None:
        """End the run in order; nothing happens if it is over already."""
        if not self.over:
            self.act(self.driver.train_end)
            self.close()

    def close(self) -> None:
        """Leave the run behind, without any hook."""
        self.over = True
        self._open.close()


class BridgeLoop(Loop):
    """The loop of a bridge: model, optimizers and data are the framework's to save.

    What is hookloop's own goes into the framework's checkpoints, through `Bridge.state_dict`.
    """

    def state_dict(self) -> dict[str, Any]:
        raise CapabilityError(
            f"The state of a whole run is {self.host}'s to save, not a callback's.",
            fix=f"{self.host}'s own checkpoints: they hold the state of the callbacks too",
        )

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        state.check_callbacks(self, saved)
        state.load_counters(self, saved)
        self.pending_state = saved

    def apply_state(self, saved: Mapping[str, Any]) -> None:
        state.apply_callbacks(self, saved)


class Bridge:
    """Callbacks that a framework's own callback object carries, from one run to the next.

    Args:
        callbacks: In any form in which callbacks can be chosen. Those chosen by name are made
            afresh for every run.
        policy: What follows an exception of a callback: ``"raise"``, ``"disable"`` or ``"auto"``.

    Attributes:
        names: Their names, in order.
        run: The run under way, or the last one; None before the first.

    Raises:
        HookloopError: If one of them cannot be made.
    """

    def __init__(self, callbacks: Any = (), *, policy: Any = "auto") -> None:
        self._items, self._policy = callbacks, policy
        self.names = [name for name, _ in named(load_callbacks(callbacks))]
        self.run: Run | None = None
        self._waiting: Mapping[str, Any] | None = None

    @property
    def running(self) -> bool:
        return self.run is not None and not self.run.over

    @property
    def waiting(self) -> bool:
        """Whether a state waits for the next run, which will continue that of the state."""
        return self._waiting is not None

    @property
    def history(self) -> History | None:
        """The `History` of the run under way, or of the last one."""
        return self.run.loop.history if self.run is not None else None

    def begin(
        self,
        loop: type[BridgeLoop],
        *,
        optimizers: Sequence[Any] = (),
        counts: bool = True,
        prepare: Callable[[Any], None] | None = None,
        **about: Any,
    ) -> Run:
        """Start a run of training, with the two callbacks that every run has around the others.

        Args:
            loop: Class of the loop that the callbacks see.
            optimizers: As for `Loop`.
            counts: As for `Run`.
            prepare: Given the new loop before any callback is; sets what `Loop` takes no argument
                for.
            **about: ``model``, ``params`` and the rest that `Loop` takes.
        """
        run = start(
            loop,
            self._items,
            counts=counts,
            prepare=prepare,
            optimizers=optimizers,
            policy=self._policy,
            **about,
        )
        self.run = run
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            run.act(run.loop.load_state_dict, waiting)
        run.act(run.driver.train_begin)
        return run

    def aside(self, loop: type[BridgeLoop], **about: Any) -> Run:
        """Make the run of an evaluation or a prediction by itself, with callbacks of its own.

        Args:
            loop: As for `begin`.
            **about: As for `begin`.

        Returns:
            A run whose first hook is still to be fired; `run` stays that of the last training.
        """
        return start(loop, self._items, counts=False, policy=self._policy, **about)

    def state_dict(self, position: tuple[int, int]) -> dict[str, Any]:
        """Give what the framework's checkpoint has to hold: plain data and tensors, by reference.

        Args:
            position: Indices of the epoch and of the batch that come next.
        """
        if self.run is None:
            return dict(self._waiting or {})
        if self.run.loop.pending_state is not None:  # the callbacks have not got it back yet
            return dict(self.run.loop.pending_state)
        saved = state.capture_callbacks(self.run.loop, position)
        if position[1]:  # inside of a batch, those of the loop would be the batch's
            saved["loop"]["logs"] = self.run.driver.so_far()
        return saved

    def load_state_dict(self, saved: Mapping[str, Any]) -> None:
        """Have the next run continue the one whose state this is."""
        self._waiting = saved or None


def start(
    loop: type[Loop],
    callbacks: Any,
    *,
    counts: bool = True,
    verbose: Any = 0,
    rank: int = 0,
    world_size: int = 1,
    prepare: Callable[[Any], None] | None = None,
    **about: Any,
) -> Run:
    """Make the run of a loop that is not ours, up to but without its first hook.

    Args:
        loop: Class of the loop that the callbacks see.
        callbacks: In any form in which callbacks can be chosen; the environment adds to them.
        counts: As for `Run`.
        verbose: As for ``fit``: what else than 0 names the progress bar.
        rank: Place of this process among all; callbacks of rank zero alone are left out elsewhere.
        world_size: How many processes there are.
        prepare: As for `Bridge.begin`.
        **about: What `Loop` takes.
    """
    chosen, said = with_environment(callbacks)
    made = with_defaults(load_callbacks(chosen), verbose)
    its = loop(callbacks=[one for one in named(made) if _runs_on(rank, one[1])], **about)
    its.history = next(one for one in made if isinstance(one, History))
    its.rank, its.world_size = rank, world_size
    if prepare is not None:
        prepare(its)
    run = Run(its, counts=counts)
    if said:
        run.act(its.message, said)
    return run


def _runs_on(rank: int, callback: Any) -> bool:
    """Tell whether a callback runs in a process: unless it says so, one that observes in one."""
    ranks = getattr(callback, "ranks", None)
    observes = ranks is None and bool(getattr(callback, "observer", False))
    return rank == 0 or not (ranks == "zero" or observes)
