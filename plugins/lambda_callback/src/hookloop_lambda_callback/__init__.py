"""lambda_callback: callbacks from functions, one for each hook."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from hookloop import Callback
from hookloop import hookspecs as specs
from hookloop.errors import SettingError, did_you_mean, listed
from hookloop_lambda_callback._binding import bound

__all__ = ["LambdaCallback"]
__version__ = "0.1.0"

#: Every hook with its arguments, older spellings included, as `hookloop.hookspecs` has them.
_HOOKS = {
    name: tuple(inspect.signature(getattr(specs, specs.SPELLINGS.get(name, name))).parameters)
    for name in (*specs.names(), *specs.SPELLINGS)
}


class LambdaCallback(Callback):
    """Calls functions at the hooks by whose names they are passed.

    A function takes the hook's arguments by position, under whatever names, or by their own names,
    and then ``loop`` too::

        LambdaCallback(
            on_epoch_end=lambda e, l: print(e, l["loss"]),
            on_train_batch_end=lambda loop, logs: loop.log(twice=2 * logs["loss"]),
        )

    Args:
        **hooks: A function for each hook; None stands for no function. ``on_batch_begin`` and
            ``on_batch_end`` are older names of ``on_train_batch_begin`` and
            ``on_train_batch_end``.

    Raises:
        SettingError: If there is no hook of a name, if something is no function or wants arguments
            that the hook does not have, or if both spellings of one hook are given.
    """

    # Whatever its functions do.
    changes = ("model", "optimizer", "rng", "logs")
    per_batch = ("reads", "allocates")

    def __init__(self, **hooks: Callable[..., Any] | None) -> None:
        self._bind(hooks)

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what `_bind` makes: it is pickled if the functions can be."""
        return {name: one for name, one in super().__getstate__().items() if name not in _HOOKS}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._bind(state["_settings"])

    def _bind(self, hooks: Mapping[str, Callable[..., Any] | None]) -> None:
        for name, function in hooks.items():
            if name not in _HOOKS:
                message = f"lambda_callback: {name} is no hook.{did_you_mean(name, _HOOKS)}"
                raise SettingError(message, fix=f"the hooks are: {listed(_HOOKS)}")
            present = specs.SPELLINGS.get(name, name)
            if function is None:
                continue
            if name != present and hooks.get(present) is not None:
                message = f"lambda_callback: {present} and {name} are two spellings of one hook."
                raise SettingError(message, fix=f"keep {present}")
            # On the instance, and under the hook's present name: found like a method of a class.
            setattr(self, present, bound(function, name, _HOOKS[name]))


def _signature() -> inspect.Signature:
    """Spell the constructor out, for help and for the check of settings by name."""
    keyword, annotation = inspect.Parameter.KEYWORD_ONLY, "Callable[..., Any] | None"
    return inspect.Signature(
        [
            inspect.Parameter("self", inspect.Parameter.POSITIONAL_ONLY),
            *(
                inspect.Parameter(name, keyword, default=None, annotation=annotation)
                for name in _HOOKS
            ),
        ]
    )


LambdaCallback.__init__.__signature__ = _signature()  # type: ignore[attr-defined]
