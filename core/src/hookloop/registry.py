"""The only user of pluggy: which callback implements which hook, in what order, and the calls.

A callback never meets pluggy itself. For each of its hooks this module generates one function
with exactly the specified arguments, which binds those that the implementation asked for and
carries the shield that turns a failure into a note or a warning. Plain hooks are then compiled
into one function that calls all of them; where a wrapper or a tracer is present, pluggy calls the
same generated functions in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import pluggy

from hookloop import hookspecs
from hookloop.callback import settings_of
from hookloop.errors import HookError, HookloopError, did_you_mean, listed, warn
from hookloop.implementations import Implementation, implementations, likely_hook

if TYPE_CHECKING:
    from hookloop.profiling import Profile

Policy = Literal["raise", "disable", "auto"]
Call = Callable[..., Any]

#: Whoever saw the first of a pair sees the second, however the run ends.
PAIRS = {
    "on_train_end": "on_train_begin",
    "on_exception": "on_train_begin",
    "on_test_end": "on_test_begin",
    "on_predict_end": "on_predict_begin",
}


class Registry:
    """The callbacks of one run, validated, ordered and compiled.

    Args:
        callbacks: Pairs of name and instance, in list order.
        policy: What follows an exception of a callback: ``"raise"`` ends the run, ``"disable"``
            turns the callback off, ``"auto"`` does the one or the other by its ``observer``.
        profile: What measures every implementation; without one, none is compiled in.

    Raises:
        HookError: If a hook is misspelt, asks for an argument that does not exist, or could never
            be called; or if two callbacks bring a hook of one name.
    """

    def __init__(
        self,
        callbacks: Sequence[tuple[str, Any]],
        policy: Policy = "raise",
        profile: Profile | None = None,
    ) -> None:
        self.names = [name for name, _ in callbacks]
        self.callbacks = [callback for _, callback in callbacks]
        self.policy, self._profile = policy, profile
        self.disabled: dict[str, BaseException] = {}
        self._opened: dict[str, set[int]] = {begin: set() for begin in PAIRS.values()}
        self._closing: list[BaseException] = []
        self._manager = pluggy.PluginManager(hookspecs.PROJECT)
        self._manager.add_hookspecs(hookspecs)
        self._add_brought_specs()
        self.hooks = {
            name: tuple(caller.spec.argnames)
            for name, caller in vars(self._manager.hook).items()
            if getattr(caller, "spec", None)
        }
        self._tracers: list[Callable[[str, dict[str, Any]], None]] = []
        self._implementations = [
            implementation if profile is None else profile.timed(implementation)
            for index, (name, callback) in enumerate(callbacks)
            for implementation in implementations(callback, name, index, self.hooks)
        ]
        self._warn_of_idle()
        self._namespace: dict[str, Any] = {
            **{f"_opened_{hook}": seen for hook, seen in self._opened.items()},
            "__name__": __name__,  # so that warnings look for the user further out
            "_failed": self._failed,
            "_wrapped": self._wrapped,
        }
        self._register()
        self._compiled: dict[str, Call | None] = {}

    # -- what callers use ------------------------------------------------------------------

    @cached_property
    def settings(self) -> dict[str, dict[str, Any]]:
        """With which arguments each callback was made, by name, for every state of the run."""
        pairs = zip(self.names, self.callbacks, strict=True)
        return {name: settings_of(callback) for name, callback in pairs}

    def dispatch(self, hook: str) -> Call | None:
        """Give the function that calls everybody who implements a hook.

        Args:
            hook: Name of the hook.

        Returns:
            A function of exactly the hook's arguments, or None if nobody implements it. It stays
            valid, also when a callback is turned off later.
        """
        try:
            return self._compiled[hook]
        except KeyError:
            call, profile = self._compile(hook), self._profile
            self._compiled[hook] = call if profile is None else profile.noting(hook, call)
            return self._compiled[hook]

    def call(self, hook: str, **arguments: Any) -> Any:
        """Call a hook by name, also one that a plugin brought.

        Returns:
            What pluggy would: the first result of a ``firstresult`` hook, else the list of results.

        Raises:
            HookError: If nobody specified the hook, or the arguments are not its own.
        """
        if hook not in self.hooks:
            message = f"No hook {hook!r} is specified.{did_you_mean(hook, self.hooks)}"
            raise HookError(message, fix="specify it in the `hookspecs` of a callback of this run")
        if set(arguments) != set(self.hooks[hook]):
            message = f"{hook} was called with {listed(arguments)}."
            raise HookError(message, fix=f"call it with {listed(self.hooks[hook])}")
        return getattr(self._manager.hook, hook)(**arguments)

    def order(self) -> dict[str, list[str]]:
        """Tell, hook by hook, who runs, in order; wrappers first, outermost first."""
        found = {hook: self._ordered(hook) for hook in self.hooks}
        return {hook: [i.owner for i in chain] for hook, chain in found.items() if chain}

    def times(self) -> str:
        """Give a table of what each hook of each callback has taken so far.

        Raises:
            HookError: If that is not measured in this run.
        """
        if self._profile is None:
            message = "The time of the callbacks is not measured in this run."
            raise HookError(message, fix="fit(..., profile_callbacks=True), or attach with it")
        return str(self._profile)

    def trace(self, tracer: Callable[[str, dict[str, Any]], None]) -> None:
        """Have every call of a hook reported to a function, before it is made."""
        self._tracers.append(tracer)
        self._compiled.clear()

    def ask(self, name: str, method: str, loop: Any, *arguments: Any) -> Any:
        """Call a method of a callback that is no hook, under the shield of its hooks.

        Returns:
            What it returns; None if it failed and was turned off.
        """
        index = self.names.index(name)
        try:
            return getattr(self.callbacks[index], method)(*arguments)
        except BaseException as error:
            self._failed(index, method, loop, error)
            return None

    def begin(self, hook: str) -> None:
        """Forget who saw an earlier ``on_*_begin`` of this kind."""
        self._opened[hook].clear()

    def _warn_of_idle(self) -> None:
        busy = {implementation.index for implementation in self._implementations}
        for index, callback in enumerate(self.callbacks):
            meant = None if index in busy else likely_hook(callback)
            if meant is not None:
                what = f"{self.names[index]} implements no hook, so it does nothing: {meant}"
                warn(f"{what}\nfix: rename the method")

    # -- order ---------------------------------------------------------------------------

    def _register(self) -> None:
        # pluggy runs the last registered first, and turns a reversed `trylast` group round.
        last = [i for i in self._implementations if i.trylast]
        others = [i for i in self._implementations if not i.trylast]
        for implementation in (*last, *reversed(others)):
            name = f"{implementation.index}:{implementation.owner}:{implementation.hook}"
            function = self._function([implementation], results=True)
            self._manager.register(_Adapter(implementation, function), name)

    def _ordered(self, hook: str) -> list[Implementation]:
        found = getattr(self._manager.hook, hook).get_hookimpls()
        return [implementation.plugin.implementation for implementation in reversed(found)]

    def _add_brought_specs(self) -> None:
        owners: dict[str, str] = dict.fromkeys(hookspecs.names(), "hookloop")
        added: list[Any] = [hookspecs]  # a module that is a callback may have imported it
        for name, callback in zip(self.names, self.callbacks, strict=True):
            brought = getattr(callback, "hookspecs", None)
            if brought is None or any(brought is other for other in added):
                continue
            added.append(brought)
            for hook in hookspecs.names(brought):
                if hook in owners:
                    message = f"{name} and {owners[hook]} both specify the hook {hook!r}."
                    raise HookError(message, fix="leave one of them out, or rename its hook")
                owners[hook] = name
            if not hookspecs.names(brought):
                message = f"{name}: `hookspecs` of {type(callback).__name__} specifies no hook."
                raise HookError(message, fix="decorate its functions with @hookloop.hookspec")
            self._manager.add_hookspecs(brought)

    # -- compiled calls -------------------------------------------------------------------

    def _compile(self, hook: str) -> Call | None:
        chain = self._ordered(hook)
        if not chain and not self._tracers:
            return None
        if self._tracers or any(implementation.wrapper for implementation in chain):
            call = self._through_pluggy(hook)
        else:
            call = self._function(chain, results=self._is_first_result(hook))
        return self._closer(call) if hook in PAIRS else call

    def _through_pluggy(self, hook: str) -> Call:
        caller = getattr(self._manager.hook, hook)
        arguments = self.hooks[hook]

        def call(*values: Any) -> Any:
            named = dict(zip(arguments, values, strict=True))
            for tracer in self._tracers:
                tracer(hook, named)
            return caller(**named)

        return call

    def _closer(self, call: Call) -> Call:
        def close(*values: Any) -> None:
            call(*values)
            errors, self._closing = self._closing, []
            if errors:
                # The first, but a KeyboardInterrupt is never hidden by an ordinary failure.
                first = next((e for e in errors if not isinstance(e, Exception)), errors[0])
                for other in errors:
                    if other is not first:
                        first.add_note(f"and then {type(other).__name__}: {other}")
                raise first

        return close

    def _function(self, chain: Sequence[Implementation], *, results: bool) -> Call:
        """Generate one function that calls some implementations of one hook, one after the other.

        What is executed here is made of names that were checked to be identifiers, and of numbers;
        those of its own begin with an underscore, lest a hook has an argument of the same name.
        Unrolled like this a call costs about a direct one; a loop costs half as much again.
        """
        hook = chain[0].hook
        lines = [f"def {hook}({', '.join(self.hooks[hook])}):"]
        for implementation in chain:
            # What is there already stays: it may have been turned off since.
            self._namespace.setdefault(implementation.key, implementation.function)
            lines += [f"    {line}" for line in self._lines(implementation, results=results)]
        scope: dict[str, Any] = {}
        source = compile("\n".join(lines), f"<hookloop: {hook}>", "exec")
        exec(source, self._namespace, scope)  # noqa: S102
        function: Call = scope[hook]
        return function

    def _lines(self, implementation: Implementation, *, results: bool) -> list[str]:
        index, hook = implementation.index, implementation.hook
        loop = "loop" if "loop" in self.hooks[hook] else "None"
        call = f"{implementation.key}({implementation.arguments})"
        failed = f"_failed({index}, {hook!r}, {loop}, _error)"
        lines = [f"_opened_{hook}.add({index})"] if hook in self._opened else []
        if implementation.wrapper:
            lines += [f"return (yield from _wrapped({index}, {hook!r}, {loop}, {call}))"]
        else:
            lines += ["try:", f"    _result = {call}" if results else f"    {call}"]
            lines += ["except BaseException as _error:", f"    {failed}"]
            lines += ["else:", "    if _result is not None: return _result"] if results else []
        begin = PAIRS.get(hook)
        if begin and any(i.index == index and i.hook == begin for i in self._implementations):
            lines = [f"if {index} in _opened_{begin}:", *(f"    {line}" for line in lines)]
            lines += ["return (yield)"] if implementation.wrapper else []
        return lines

    def _is_first_result(self, hook: str) -> bool:
        spec = getattr(self._manager.hook, hook).spec
        return bool(spec.opts.get("firstresult"))

    # -- failure --------------------------------------------------------------------------

    def _failed(self, index: int, hook: str, loop: Any, error: BaseException) -> None:
        """Note where an exception comes from, then raise it, keep it, or turn its callback off."""
        error.add_note(f"raised by callback {self.names[index]!r} in {hook}{where(loop)}")
        if self._may_be_disabled(index, hook, error):
            self._disable(index, hook, loop, error)
        elif hook in PAIRS:
            self._closing.append(error)
            if hook == "on_train_end":  # those who come later clean nothing up
                loop.outcome = "failed" if isinstance(error, Exception) else "interrupted"
        else:
            raise error

    def _may_be_disabled(self, index: int, hook: str, error: BaseException) -> bool:
        if not isinstance(error, Exception) or isinstance(error, MemoryError):
            return False
        if type(error).__name__ in ("OutOfMemoryError", "AcceleratorError"):
            return False
        observer = bool(getattr(self.callbacks[index], "observer", False))
        # Nothing has been trained yet: what a callback refuses then is for the user to put right.
        refusal = hook == "on_train_begin" and isinstance(error, HookloopError)
        return self.policy == "disable" or (self.policy == "auto" and observer and not refusal)

    def _disable(self, index: int, hook: str, loop: Any, error: BaseException) -> None:
        import traceback

        name = self.names[index]
        self.disabled[name] = error
        for implementation in self._implementations:
            if implementation.index == index:
                off = _off_wrapper if implementation.wrapper else _off
                self._namespace[implementation.key] = off
        details = "".join(traceback.format_exception(error))
        warn(
            f"{name} failed in {hook}{where(loop)} and is off for the rest of this run; training "
            f"goes on without it.\n{details}"
            f"fix: mend or leave out {name!r}; on_callback_error='raise' stops the run instead",
            RuntimeWarning,
        )

    def _wrapped(
        self, index: int, hook: str, loop: Any, wrapper: Generator[None, Any, Any]
    ) -> Generator[None, Any, Any]:
        """Drive a wrapper, so that its own failures are told from those of whom it wraps."""
        try:
            next(wrapper)
        except BaseException as error:
            self._failed(index, hook, loop, _no_yield(error, self.names[index], hook))
            return (yield)
        try:
            result = yield
        except BaseException as error:
            return self._leave(index, hook, loop, wrapper.throw, error)
        return self._leave(index, hook, loop, wrapper.send, result)

    def _leave(self, index: int, hook: str, loop: Any, resume: Call, value: Any) -> Any:
        try:
            resume(value)
        except StopIteration as stop:
            return stop.value
        except BaseException as error:
            if error is value:  # of somebody further in, who was noted already
                raise
            if isinstance(value, StopIteration) and error.__cause__ is value:
                raise value from value.__cause__  # wrapped by Python: it left a generator
            self._failed(index, hook, loop, error)
        else:
            message = f"{self.names[index]}: the wrapper {hook} yields twice."
            self._failed(index, hook, loop, HookError(message, fix="`return (yield)` once in it"))
        if isinstance(value, BaseException):
            raise value
        return value


class _Adapter:
    """What pluggy is given: an object with one function, of exactly the specified arguments."""

    def __init__(self, implementation: Implementation, function: Call) -> None:
        self.implementation = implementation
        marked = hookspecs.hookimpl(
            tryfirst=implementation.tryfirst,
            trylast=implementation.trylast,
            wrapper=implementation.wrapper,
        )(function)
        setattr(self, implementation.hook, marked)

    def __dir__(self) -> list[str]:  # pluggy looks at each, for 50 microseconds
        return [self.implementation.hook]


def _off(*args: Any, **kwargs: Any) -> None:
    """Stand in for a callback that was turned off."""


def _off_wrapper(*args: Any, **kwargs: Any) -> Generator[None, Any, Any]:
    return (yield)


def _no_yield(error: BaseException, name: str, hook: str) -> BaseException:
    if isinstance(error, StopIteration):
        return HookError(f"{name}: the wrapper {hook} did not yield.", fix="`return (yield)` in it")
    return error


def where(loop: Any) -> str:
    """Tell epoch and batch of a loop, for a note; both count from 0."""
    epoch, batch = getattr(loop, "epoch", None), getattr(loop, "batch", None)
    place = [f"epoch {epoch}"] if epoch is not None else []
    place += [f"batch {batch}"] if batch is not None else []
    return f" ({', '.join(place)})" if place else ""
