"""Whether a state can be put back: what could fail half-way is found before anything is changed."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Any, TypeGuard

from hookloop import generators
from hookloop.errors import HookloopError, StateError, listed

if TYPE_CHECKING:
    from hookloop.loop import Loop

#: Optimizers of torch that keep tensors of other shapes than the parameters'.
_OF_OTHER_SHAPES = ("Adafactor", "LBFGS")
#: What optimizers of torch hold as a number, or as a tensor that is one.
_COUNTS = ("step", "mu_product", "eta", "mu")


def need(sound: bool, what: str) -> None:
    """Refuse a state unless something holds.

    Args:
        sound: Whether it does.
        what: What is wrong if not.

    Raises:
        StateError: If it does not.
    """
    if not sound:
        raise StateError(
            f"The state cannot be used: {what}.", fix="use an intact one of such a run"
        )


def check_own(saved: Mapping[str, Any]) -> None:
    """Check what is hookloop's own in a state: counters, history, and what callbacks stand in it.

    Raises:
        StateError: Naming the part that is wrong.
    """
    at = _mapping(saved["loop"], "loop")
    lost = [key for key in ("epoch", "batch", "step", "bases", "stops") if at.get(key) is None]
    if lost:
        raise StateError(f"The state lacks {listed(lost)} of its loop.", fix="use an intact one")
    for key in ("epoch", "batch", "step"):
        need(_is_count(at.get(key)), f"{key} is {at.get(key)!r}, not a number from 0")
    bases, stops = at.get("bases"), at.get("stops")
    need(
        is_list(bases) and all(is_list(one) and all(map(_is_number, one)) for one in bases),
        "its base learning rates are no lists of numbers",
    )
    need(
        is_list(stops) and all(map(_is_request, stops)),
        "its requests to stop are no pairs of a reason and a flag",
    )
    _mapping(at.get("logs"), "logs")
    if saved["history"] is not None:
        _check_rows(_mapping(saved["history"], "history"))
    for name, entry in _mapping(saved["callbacks"], "callbacks").items():
        parts = _mapping(entry, f"that of {name}")
        need("state" in parts, f"that of {name} lacks its state")
        _mapping(parts.get("settings"), f"the settings of {name}")


def _check_rows(history: Mapping[str, Any]) -> None:
    epochs, values = history.get("epoch"), _mapping(history.get("values"), "history")
    sound = is_list(epochs) and all(map(_is_count, epochs))
    for rows in values.values():
        sound = sound and is_list(rows) and len(rows) == 2 and all(map(is_list, rows))
        sound = sound and len(rows[0]) == len(rows[1]) and all(map(_is_count, rows[0]))
    need(sound, "its history is no table of epochs")


def check_shape(saved: Mapping[str, Any]) -> None:
    """Check that weights, optimizers and random numbers are of the kinds that they have to be.

    Raises:
        StateError: Naming the part that is wrong.
    """
    _mapping(saved["model"], "model")
    need(is_list(saved["optimizers"]), "optimizers is no list")
    for one in saved["optimizers"]:
        groups = _mapping(one, "an optimizer").get("param_groups")
        whole = is_list(groups) and all(map(_is_group, groups))
        need(whole, "an optimizer has no groups of parameters")
        _mapping(one.get("state"), "the state of an optimizer")
    _mapping(saved["metrics"], "metrics")
    _check_random(_mapping(_mapping(saved["rng"], "rng").get("now"), "rng"))


def _is_request(one: Any) -> bool:
    """Tell whether something is a request to stop: why, and whether the run has failed."""
    return is_list(one) and len(one) == 2 and isinstance(one[1], int)


def _is_group(group: Any) -> bool:
    """Tell whether something is a group of parameters, by their numbers."""
    if not isinstance(group, Mapping) or not is_list(group.get("params")):
        return False
    return all(map(_is_count, group["params"]))


def is_dense(tensor: Any) -> bool:
    """Tell whether a tensor can be copied into a parameter: it has values, one beside the other."""
    plain = str(tensor.layout) == "torch.strided" and not tensor.is_quantized
    return plain and not tensor.is_nested and tensor.device.type != "meta"


def is_lazy(tensor: Any) -> bool:
    """Tell whether a parameter has no shape before the first batch, or the state that is loaded."""
    return hasattr(tensor, "materialize")


def _check_random(now: Mapping[str, Any]) -> None:
    """Try the states of random numbers on generators that nobody uses."""
    import numpy
    import torch

    try:
        version, internal, gauss = now["python"]
        random.Random().setstate((version, tuple(internal), gauss))
        own = type(numpy.random.get_bit_generator())  # type: ignore[attr-defined]
        numpy.random.RandomState(own()).set_state(generators.numpy_state(now["numpy"]))
        torch.Generator().set_state(now["torch"].cpu())
        sound = is_list(now["cuda"])
        sound = sound and all(one.dtype == torch.uint8 and one.ndim == 1 for one in now["cuda"])
    except Exception:  # each library has errors of its own for what is none
        sound = False
    need(sound, "its random numbers are no states of the generators in use")


def check_optimizers(
    loop: Loop, groups: list[list[dict[str, Any]]], saved: list[Mapping[str, Any]]
) -> None:
    """Check what the optimizers would only find out in their next step: shapes, and no numbers.

    Args:
        loop: Of the run.
        groups: Of each optimizer, as they will be; as many as are saved.
        saved: Their states.

    Raises:
        StateError: Naming the group or parameter.
    """
    for optimizer, its_groups, state in zip(loop.optimizers, groups, saved, strict=True):
        held = {
            key: _mapping(one, "what an optimizer holds") for key, one in state["state"].items()
        }
        for own, group in zip(its_groups, state["param_groups"], strict=True):
            for key in own.keys() & group.keys() - {"params"}:
                what = f"{key} of a group of an optimizer is {_shown(group[key])}"
                need(_is_setting(key, own[key], group[key]), what)
            if _is_known(optimizer):
                for parameter, index in zip(own["params"], group["params"], strict=True):
                    _check_held(parameter, index, held.get(index, {}))
                kinds = {frozenset(held[index]) for index in group["params"] if held.get(index)}
                need(len(kinds) < 2, "an optimizer does not hold the same of a group's parameters")


def _is_known(optimizer: Any) -> bool:
    """Tell whether an optimizer is one that holds the same of all parameters, in their shapes."""
    kind = type(optimizer)
    return kind.__module__.startswith("torch.optim") and kind.__name__ not in _OF_OTHER_SHAPES


def _is_setting(key: str, own: Any, saved: Any) -> bool:
    """Tell whether an optimizer can have a setting: flags decide what else it has to hold."""
    if isinstance(own, bool) and key not in ("foreach", "fused"):
        return own is saved
    return alike(own, saved) and (own is not None or is_scalar(saved))


def _check_held(parameter: Any, index: Any, held: Any) -> None:
    for key, value in _mapping(held, f"what an optimizer holds of parameter {index}").items():
        fits = value is None and key == "momentum_buffer"
        if key in _COUNTS:
            fits = _is_number(value) and float(value) >= 0
        elif hasattr(value, "shape"):
            fits = is_dense(value) and (is_lazy(parameter) or value.shape == parameter.shape)
        need(fits, f"{key} of parameter {index} of an optimizer does not have its shape")


@contextmanager
def undone_if_it_fails(loop: Loop) -> Iterator[None]:
    """Run a block that puts a state back; if it raises, callbacks and metrics are as before.

    What others wrote, a callback's ``load_state_dict`` or that of a metric, cannot be checked
    beforehand.

    Raises:
        StateError: In place of what the block raised, unless that is an error of hookloop's.
    """
    undo = list(_ways_back(loop))
    try:
        yield
    except Exception as error:
        for back in reversed(undo):
            with suppress(Exception):  # the first error is the one to report
                back()
        if isinstance(error, HookloopError | MemoryError):
            raise
        what = f"{type(error).__name__}: {error}"
        message = f"The state cannot be put back, and nothing was changed: {what}."
        wrapped = StateError(message, fix="use the state of an equal run")
        wrapped.__notes__ = list(getattr(error, "__notes__", ()))
        raise wrapped from error


def _ways_back(loop: Loop) -> Iterator[Callable[[], Any]]:
    """Copy what is about to be replaced, and give the functions that put it back."""
    for optimizer in loop.optimizers:
        groups = getattr(optimizer, "param_groups", [])  # those of Keras have none
        yield partial(groups.__setitem__, slice(None), list(groups))
    for callback in loop.callbacks.values():
        if hasattr(callback, "state_dict") and hasattr(callback, "load_state_dict"):
            with suppress(Exception):  # one that is off may have none
                held = copy.deepcopy(callback.state_dict())
                yield partial(callback.load_state_dict, held)
    extra = copy.deepcopy(loop.extra_state())
    if extra:
        at = {"epoch": 0, "batch": 0, **extra.get("loop", {})}
        now = generators.capture()
        held = {"metrics": {}, **extra, "loop": at, "rng": {"now": now, **extra.get("rng", {})}}
        yield partial(loop.load_extra_state, held)
        yield partial(generators.restore, now)
    if loop.model is not None and any("_extra_state" in key for key in loop.model.state_dict()):
        weights = copy.deepcopy(loop.model.state_dict())
        yield partial(loop.model.load_state_dict, weights)


def alike(own: Any, saved: Any) -> bool:
    """Tell whether a saved value is of the kind of the one whose place it takes.

    Args:
        own: What is there; to None everything is alike.
        saved: What was saved; numbers are alike, and so are lists and tuples.
    """
    if own is None or isinstance(own, bool):
        return own is None or isinstance(saved, bool | None)
    if _is_number(own) or hasattr(own, "detach"):
        numbers = _is_number(own) and _is_number(saved)
        return numbers or (hasattr(own, "detach") and hasattr(saved, "detach"))
    if isinstance(own, Mapping):
        return isinstance(saved, Mapping) and all(
            key in saved and alike(value, saved[key]) for key, value in own.items()
        )
    if is_list(own):
        if not is_list(saved) or (type(own) is tuple and len(own) != len(saved)):
            return False
        return all(alike(one, other) for one, other in zip(own, saved, strict=False))
    return isinstance(saved, type(own))


def _shown(value: Any) -> str:
    """Write a plain value, and of a tensor that it is one."""
    return "a tensor" if hasattr(value, "detach") else f"{value!r:.60}"


def _mapping(value: Any, what: str) -> Mapping[Any, Any]:
    need(isinstance(value, Mapping), f"{what} is a {type(value).__name__}")
    found: Mapping[Any, Any] = value
    return found


def is_list(value: Any) -> TypeGuard[list[Any] | tuple[Any, ...]]:
    return type(value) in (list, tuple)


def _is_count(value: Any) -> bool:
    return type(value) is int and value >= 0


def _is_number(value: Any) -> bool:
    """Tell a number, or a tensor that is one."""
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) < 2**63
    one = hasattr(value, "detach") and value.numel() == 1 and not value.is_complex()
    return isinstance(value, float) or bool(one)


def is_scalar(value: Any) -> bool:
    return value is None or isinstance(value, bool) or _is_number(value)
