"""attach: callbacks in a training loop that somebody wrote by hand."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from hookloop import compared, signals, state
from hookloop.arguments import outermost
from hookloop.capabilities import HOSTS
from hookloop.checkpoints import load_state
from hookloop.checks import at_least, saves_state
from hookloop.errors import ArgumentError, HookloopError
from hookloop.hosting import Run, start
from hookloop.logs import Logs
from hookloop.loop import Loop
from hookloop.models import unwrapped
from hookloop.passes import END, Batches, Epochs, Passes, Validation
from hookloop.profiling import Profile
from hookloop.registry import Policy
from hookloop.soundness import need
from hookloop.stateful import Stateful
from hookloop.steps import Steps
from hookloop.structures import size_of

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer


def attach(
    model: nn.Module | None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    callbacks: Any = (),
    epochs: int | None = None,
    stateful: Any = (),
    validation_data: Any = None,
    params: Mapping[str, Any] | None = None,
    verbose: int | Literal["auto"] = 0,
    resume: Any = None,
    on_callback_error: Policy = "auto",
    on_interrupt: Literal["raise", "return"] = "raise",
    profile_callbacks: bool = False,
) -> AttachedLoop:
    """Run callbacks in your own training loop, which stays as it is::

        with hookloop.attach(model, optimizer, callbacks=["early_stopping"], epochs=10) as loop:
            for epoch in loop.epochs():
                for x, y in loop.batches(loader):
                    ...
                    loop.log(loss=loss)
                loop.log(val_loss=validate())

    Args:
        model: What is trained; callbacks see it unwrapped.
        optimizer: Its optimizer, or several; the steps of the first one are counted. Without one
            there is no learning rate, and every batch counts as a step.
        callbacks: In any form in which callbacks can be chosen.
        epochs: How many ``loop.epochs()`` gives; None for as many as it takes.
        stateful: What else has a ``state_dict`` that a resumed run needs: a scheduler, a gradient
            scaler, or several of them. A rate that a callback sets is one from which the
            schedulers among them go on.
        validation_data: What callbacks find as ``validation_data``.
        params: More for callbacks' ``params``; ``steps``, ``batch_size`` and ``samples`` come from
            the first loader.
        verbose: Other than 0 shows a progress bar, as in ``fit``.
        resume: A ``.pt`` or state folder of an earlier run to continue.
        on_callback_error: As in ``fit``.
        on_interrupt: What follows SIGINT, after everything has ended in order: ``"raise"``
            KeyboardInterrupt, or ``"return"`` from the ``with`` block. SIGTERM exits with 143.
        profile_callbacks: As in ``fit``.

    Returns:
        The loop, to be entered by ``with``, once.

    Raises:
        HookloopError: For anything that can be known to be wrong before training.
    """
    at_least("epochs", epochs, 0, optional=True)
    if on_interrupt not in ("raise", "return"):
        message = f"on_interrupt={on_interrupt!r} is not known."
        raise ArgumentError(message, fix="'raise' or 'return'")
    run = start(
        AttachedLoop,
        callbacks,
        verbose=verbose,
        model=unwrapped(model) if model is not None else None,
        optimizers=[of_torch(one) for one in _listed(optimizer)],
        validation_data=validation_data,
        params={"epochs": epochs, "verbose": verbose, **(params or {})},
        policy=on_callback_error,
        profile=Profile() if profile_callbacks else None,
        prepare=lambda loop: loop.expect(_listed(stateful)),
    )
    loop: Any = run.loop
    if model is not None:
        loop.watch(model)
    loop.settle(run, resume, on_interrupt)
    return loop  # type: ignore[no-any-return]


def _listed(one: Any) -> list[Any]:
    """Make a list of none, one, or several."""
    if one is None:
        return []
    return list(one) if isinstance(one, list | tuple) else [one]


def of_torch(optimizer: Any) -> Optimizer:
    """Look into a wrapper such as Accelerate's, whose hooks are those of what it wraps.

    Raises:
        ArgumentError: If it is no optimizer.
    """
    from torch.optim import Optimizer

    inner = getattr(optimizer, "optimizer", optimizer)
    if not isinstance(inner, Optimizer):
        message = f"attach was given a {type(optimizer).__name__} as optimizer."
        raise ArgumentError(message, fix="pass an instance from torch.optim, or none at all")
    return inner


class AttachedLoop(Loop):
    """The loop of `attach`: what callbacks see, and what the loop by hand calls.

    Hooks run when the loop is called the next time, or left: never in the finalizer of a
    generator, where an exception would be lost.
    """

    host = "attach"
    features = HOSTS[host]
    how_to_validate = "log it in `with loop.validation():`"
    _stateful: Stateful
    _run: Run

    def expect(self, stateful: list[Any]) -> None:
        """Take what else has state, before any callback sees the loop."""
        self._stateful = Stateful(stateful)
        known = self._stateful.schedulers()
        self.schedulers = [one for one in known if getattr(one, "optimizer", 0) in self.optimizers]

    def settle(self, run: Run, resume: Any, on_interrupt: str) -> None:
        """Take what the run needs, once it is made."""
        self._run, self._driver, self._open = run, run.driver, ExitStack()
        self._resume, self._on_interrupt = resume, on_interrupt
        self._entered = self._in_epoch = self._begun = self._broken = False
        self._passes, self._steps = Passes(), Steps(run)
        self._current: int | None = None  # whose batch is open; a reference would keep it alive
        self._left = False  # its loop was left by break
        self._latest = 0  # the pass that was opened last
        self._index = -1
        self._asked_last: tuple[int, Logs, bool] | None = None
        self._kept: dict[str, Any] | None = None  # the state in which the batches have ended
        self._kept_at, self._again = 0, False
        self._test: Validation | None = None

    # -- the block ---------------------------------------------------------------------------------

    def __enter__(self) -> AttachedLoop:
        if self._entered:
            message = "This loop was entered before, and a run begins only once."
            raise HookloopError(message, fix="call hookloop.attach(...) again for another run")
        self._entered = True
        try:
            self._open.enter_context(outermost(self))
            self._open.enter_context(signals.handled(self))
            if self._resume is not None:
                self._run.act(self.load_state_dict, load_state(self._resume))
            lines = self._stateful.left_out(self) if saves_state(self) else []
            self._run.act(self._driver.train_begin)
            for line in () if self.resumed else lines:
                self.message(line)
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        where: TracebackType | None,
    ) -> None:
        try:
            if error is not None:
                self._run.fail(error)
            elif not self._run.over:
                self._leave_epoch()
                self._run.end()
        finally:
            self._close()
        if error is None:
            signals.leave(self, self._on_interrupt)

    def _close(self) -> None:
        self.inputs = self.targets = self.outputs = self.loss = None  # and the graph behind it
        self._run.close()
        self._open.close()

    def _check_running(self) -> None:
        if not self._entered or self._run.over:
            when = "has ended" if self._entered else "has not begun"
            message = f"The run of this loop {when}."
            raise HookloopError(message, fix="use it inside `with hookloop.attach(...) as loop:`")
        self._abandon()

    def _abandon(self) -> None:
        """End a validation whose exception was caught outside of it: what it logged is dropped."""
        if self._broken:
            self._broken, self.logs = False, Logs()
            self._run.act(self._driver.test_end, Logs())

    # -- epochs ------------------------------------------------------------------------------------

    def epochs(self) -> Iterator[int]:
        """Give the indices of the epochs, until all are done or somebody asks to stop.

        A resumed run begins with the epoch in which it was interrupted.
        """
        self._check_running()
        return Epochs(self.next_epoch, first=not self._begun)

    def next_epoch(self, first: bool) -> int | None:
        """End the open epoch and begin the next one, if there is one."""
        self._check_running()
        self._leave_epoch()
        limit, (epoch, batch) = self.params["epochs"], self.start
        inside = first and bool(batch)  # of the epoch in which a resumed run was interrupted
        if not first:
            epoch = (self.epoch or 0) + 1
        over = limit is not None and epoch >= limit
        if over or (self.stop_training and not inside):
            if first and self.resumed:
                self._driver.say_finished(limit if limit is not None else epoch)
            return None
        self._index = batch - 1 if inside else -1
        self._asked_last = self._kept = None
        self._passes.begin()
        self._run.act(self._driver.epoch_begin, epoch)
        self._in_epoch = self._begun = True
        return epoch

    def _leave_epoch(self) -> None:
        self._abandon()
        self._end_batch()
        if not self._in_epoch:
            return
        self._in_epoch = False
        if self.ends_badly():
            self._ask_again()
        else:
            self._run.act(self._driver.epoch_end)

    # -- batches -----------------------------------------------------------------------------------

    def batches(self, data: Iterable[Any]) -> Iterator[Any]:
        """Give the batches of a loader, and run the hooks of batches around each.

        In an epoch these are training batches, and what is logged in them is averaged by their
        size; inside of `validation` they are test batches. Several loaders may follow each other
        in one epoch. A resumed run skips what was used already.

        Args:
            data: A ``DataLoader`` or any other iterable. It is not changed, nor are its batches.

        Raises:
            StateError: If a run is resumed inside an epoch of other data.
        """
        self._check_running()
        if self._test is not None:
            return self._test.batches(data)
        self._end_batch()
        if not self._in_epoch:
            message = "loop.batches() was called outside of an epoch."
            raise HookloopError(message, fix="call it inside `for epoch in loop.epochs():`")
        source = self._passes.open(data)
        about = {"steps": source.steps, "batch_size": source.batch_size, "samples": source.samples}
        for name, value in about.items():
            if self.params[name] is None:
                self.params[name] = value
        for line in self._passes.to_say(saves_state(self)):
            self.message(line)
        batches = Batches(self._passes.items(), self.next_batch, self.leave)
        self._latest = id(batches)
        return batches

    def next_batch(self, batches: Batches) -> Any:
        """End the open batch and begin the next one, if there is one."""
        self._check_running()
        if id(batches) != self._latest:
            message = "Two loops over loop.batches() are under way at once."
            raise HookloopError(message, fix="zip the loaders: loop.batches(zip(first, second))")
        self._end_batch()
        item: Any = END if self._cut() else next(batches.items, END)
        if item is END:
            self._keep_state()
            return END
        logs = Logs({"size": size_of(item)})
        self._index, self._steps.made = self._index + 1, False
        self._current, self._left = id(batches), False
        pair = type(item) in (list, tuple) and len(item) == 2
        self.inputs, self.targets = item if pair else (item, None)
        self._run.act(self._driver.batch_begin, self._index, logs)
        return item

    def _cut(self) -> bool:
        """Tell whether no further batch is drawn: on a signal, only where state can be saved."""
        return self.stop_training and (self.signal is None or self._steps.made)

    def leave(self, batches: Batches) -> None:
        """Note that the loop over batches was left; their end follows at the next call."""
        self._left = self._left or self._current == id(batches)

    def _end_batch(self) -> None:
        """End the open batch, if there is one: its loop may have been left by ``break``."""
        if self._current is None:
            return
        self._current, self._left = None, False
        index, logs = self._index, self.logs
        if not self.optimizers:
            self.step, self._steps.made = self.step + 1, True
        self._passes.count()
        self._run.act(self._driver.batch_end, index, logs, checkpoint=False)
        if self._steps.made:
            self._ask(index, logs)

    def _ask(self, index: int, logs: Logs) -> None:
        """Let savers save, and remember whether they knew of a signal then."""
        if self.registry.dispatch("on_batch_checkpoint") is not None:
            self._asked_last = (index, logs, self.interrupted)
            self._kept = self._kept if self._again else None  # of an earlier pass
            self._run.act(self._driver.batch_checkpoint, index, logs)

    def _keep_state(self) -> None:
        """Keep the state in which the batches have ended: a scheduler may step after that.

        By reference, which costs next to nothing.
        """
        if self._asked_last is not None and self._asked_last[0] == self._index:
            self.position = (self.epoch or 0, self._index + 1)
            self._kept, self._kept_at = state.capture(self), self._steps.total
            self.position = None

    def _ask_again(self) -> None:
        """Let savers save if a signal came after they were asked last: in validation, mostly.

        Not after a step that was made behind the batches: the place of such a state has no name.
        """
        if self._asked_last is None or self._kept is None or self._asked_last[2]:
            return
        if self.interrupted and self._kept_at == self._steps.total:
            self._again = True
            self._ask(*self._asked_last[:2])

    # -- what the loop by hand reports -------------------------------------------------------------

    def log(self, name: str | None = None, value: Any = None, /, **values: Any) -> None:
        self._abandon()
        if self._test is not None and self._test.left:
            self._test.end_batch()
        elif self._left:
            self._end_batch()
        if name is not None:
            values[name] = value
        inside = self._current is not None and self._test is None
        if inside and hasattr(values.get("loss"), "detach"):
            self.loss = values["loss"]
        self.logs.update(values)

    @contextmanager
    def validation(self) -> Iterator[AttachedLoop]:
        """Run your own validation inside, with the test hooks around it.

        What is logged inside arrives in the epoch as ``val_<name>``: averaged where it was logged
        in the batches of ``loop.batches(loader)``, else as it was logged.
        """
        self._check_running()
        if self._left:
            self._end_batch()
        self._run.act(self._driver.test_begin)
        self._test = Validation(self._run)
        try:
            yield self
            self._run.act(self._driver.test_end, self._test.end())
        except BaseException:
            self._broken = not self._run.over
            raise
        finally:
            self._test = None

    def optimizer_step(
        self,
        optimizer: Optimizer | None = None,
        *,
        closure: Callable[[], Any] | None = None,
        step: Callable[[], Any] | None = None,
    ) -> Any:
        """Make an optimizer step that callbacks can look into, or refuse.

        A plain ``optimizer.step()`` runs ``on_before_optimizer_step`` too; a callback that asks to
        stop in it has the step skipped, for which the gradients are dropped. This is for what it
        cannot do: gradients stay as they are, and an optimizer that calls a closure has the hook
        run once the closure has made them.

        Args:
            optimizer: Which one; by default the first.
            closure: For optimizers that evaluate the model themselves.
            step: What makes the step, if not ``optimizer.step``:
                ``lambda: scaler.step(optimizer)``, after ``scaler.unscale_(optimizer)``.

        Returns:
            What the step returns; None if it was skipped.
        """
        self._check_running()
        return self._steps.make(optimizer, closure, step)

    # -- state -------------------------------------------------------------------------------------

    def extra_state(self) -> dict[str, Any]:
        return {
            "loop": {"stateful": self._stateful.state()},
            "rng": {"data": self._passes.state()},
        }

    def state_dict(self) -> dict[str, Any]:
        now = super().state_dict()
        return self._kept if self._again and self._kept is not None else now

    def config(self) -> dict[str, Any]:
        return {**super().config(), **self._stateful.config()}

    def differences(self, saved: Mapping[str, Any]) -> list[tuple[str, str]]:
        held, then = saved["loop"].get("stateful", ()), compared.run_of(saved).get("stateful")
        need(type(held) in (list, tuple), "what stateful= held is no list")
        return list(self._stateful.differences(held, then))

    def check_extra_state(self, saved: Mapping[str, Any]) -> None:
        passes = saved["rng"].get("data")
        need(isinstance(passes, Mapping) and "passes" in passes, "it is of no loop of attach")

    def load_extra_state(self, saved: Mapping[str, Any]) -> None:
        self._stateful.load(saved["loop"].get("stateful", ()))
        random, inside = saved["rng"], bool(saved["loop"]["batch"])
        self._passes.restore(random["data"], inside=inside, now=random["now"])
