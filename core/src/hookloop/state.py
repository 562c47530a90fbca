"""The state of a run: taking it, checking it against a run, and putting it back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hookloop import buffers, compared, generators, groups, soundness, switches
from hookloop.errors import StateError, listed
from hookloop.plain import find_unsavable, unsavable

if TYPE_CHECKING:
    from hookloop.loop import Loop

FORMAT = "hookloop.state"
#: Of a bridge: the framework around it saves the rest.
FORMAT_OF_CALLBACKS = "hookloop.callbacks"
VERSION = 1
SECTIONS = ("model", "optimizers", "scaler", "loop", "rng", "history", "callbacks", "metrics")


def capture(loop: Loop) -> dict[str, Any]:
    """Take everything that a run needs to continue, by reference.

    The position in it, ``state["loop"]["epoch"]`` and ``["batch"]``, is that of the next batch.
    """
    said = buffers.changed(loop.buffers, loop.model)
    if said is not None:
        loop.buffers = {}  # said once
        loop.message(said)
    extra = loop.extra_state()
    own = capture_callbacks(loop, loop.position or (0, 0))
    own["loop"]["switched"] = switches.changed(loop.switches, loop.model)
    own["loop"]["added_groups"] = groups.added(loop)
    return {
        "format": FORMAT,
        "version": VERSION,
        "model": loop.model.state_dict() if loop.model is not None else {},
        "optimizers": [optimizer.state_dict() for optimizer in loop.optimizers],
        "scaler": extra.get("scaler"),
        "loop": {**own["loop"], **extra.get("loop", {}), "config": compared.made_of(loop)},
        "rng": {"now": generators.capture(), **extra.get("rng", {})},
        "history": own["history"],
        "callbacks": own["callbacks"],
        "metrics": extra.get("metrics", {}),
    }


def capture_callbacks(loop: Loop, position: tuple[int, int]) -> dict[str, Any]:
    """Take what is hookloop's own of a run whose model and optimizers somebody else saves.

    Args:
        loop: Of the run.
        position: Indices of the epoch and of the batch that come next.
    """
    epoch, batch = position
    return {
        "format": FORMAT_OF_CALLBACKS,
        "version": VERSION,
        "loop": {
            "epoch": epoch,
            "batch": batch,
            "step": loop.step,
            "stops": [list(stop) for stop in loop.stops()],
            "bases": loop.bases,
            "logs": dict(loop.logs.raw_items()) if batch else {},
        },
        "history": loop.history.rows_state() if loop.history is not None else None,
        "callbacks": _callbacks(loop),
    }


def _callbacks(loop: Loop) -> dict[str, Any]:
    """Name all callbacks of the run with their settings; the state is None of who has none."""
    states = _states(loop)
    return {
        name: {"settings": dict(settings), "state": states.get(name)}
        for name, settings in loop.registry.settings.items()
    }


def _stateful(loop: Loop) -> dict[str, Any]:
    """Give the callbacks that have a state of their own, by name."""
    found = loop.callbacks.items()
    return {name: one for name, one in found if callable(getattr(one, "state_dict", None))}


def _states(loop: Loop) -> dict[str, Any]:
    """Ask every callback for its state, but those that are off, or fail and are turned off."""
    off = loop.registry.disabled
    asked = [name for name in _stateful(loop) if name not in off]
    found = {name: loop.registry.ask(name, "state_dict", loop) for name in asked}
    return {name: own for name, own in found.items() if name not in off}


def check(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Refuse a state that does not belong to this run, before anything is changed.

    Raises:
        StateError: Naming what differs.
    """
    check_format(saved)
    soundness.check_own(saved)
    soundness.check_shape(saved)
    switches.check(saved["loop"].get("switched", {}))
    groups.check(saved)
    wrong = differences(loop.model, saved["model"])
    model = f"The state is of another model: {'; '.join(wrong[:4])}."
    found = [(model, "build the model as it was when the state was saved")] if wrong else []
    found += compared.host(loop, saved)
    found += compared.optimizers(loop, saved)
    found += compared.callbacks(loop, saved["callbacks"])
    compared.refuse([*found, *loop.differences(saved)])
    soundness.check_optimizers(loop, groups.completed(loop, saved), saved["optimizers"])


def check_callbacks(loop: Loop, saved: Any) -> None:
    """Refuse what `capture_callbacks` gave in another run, before anything is changed.

    Raises:
        StateError: Naming what differs.
    """
    check_format_of_callbacks(saved)
    soundness.check_own(saved)
    compared.refuse([*compared.callbacks(loop, saved["callbacks"])])


def check_format(saved: Any) -> None:
    """Refuse what is no state of a run, or is one of a newer hookloop."""
    if not isinstance(saved, Mapping) or saved.get("format") != FORMAT:
        message = "This is not the saved state of a run."
        raise StateError(message, fix="pass what loop.state_dict() gave; weights: load_weights()")
    _check_whole(saved, SECTIONS)


def check_format_of_callbacks(saved: Any) -> None:
    """Refuse what is no state of the callbacks of a run, or is one of a newer hookloop."""
    if not isinstance(saved, Mapping) or saved.get("format") != FORMAT_OF_CALLBACKS:
        message = "This is not the saved state of the callbacks of a run."
        raise StateError(message, fix="pass what the bridge's state_dict() gave")
    _check_whole(saved, ("loop", "history", "callbacks"))


def _check_whole(saved: Mapping[str, Any], sections: Sequence[str]) -> None:
    version = saved.get("version")
    if type(version) is not int or version != VERSION:
        message = f"The state is of version {version!s:.20}; this hookloop reads {VERSION}."
        raise StateError(message, fix="pip install --upgrade hookloop")
    missing = [section for section in sections if section not in saved]
    if missing:
        raise StateError(f"The state lacks {listed(missing)}.", fix="use an intact one")


def place_of(counters: Mapping[str, Any]) -> str:
    """Say where in a run a state was taken, counting from 1; ``counters`` as ``state["loop"]``."""
    where = f"after epoch {counters['epoch']}"
    if counters["batch"]:
        where = f"in epoch {counters['epoch'] + 1}, after batch {counters['batch']}"
    return f"{where} (step {counters['step']})"


def load_counters(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Set the loop to where the state was taken."""
    counters = saved["loop"]
    loop.epoch, loop.step = counters["epoch"], counters["step"]
    loop.start = (counters["epoch"], counters["batch"])
    loop.bases = [list(rates) for rates in counters["bases"]] or loop.bases
    loop.asked[:] = [(str(reason), bool(failed)) for reason, failed in counters["stops"]]
    loop.resumed = True


def apply(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Put back everything but the counters: callbacks, model, optimizers, and the RNGs last.

    Raises:
        StateError: If a callback or a metric refuses what is its own; nothing is changed then.
    """
    changed = compared.changes(loop, saved)
    if changed is not None:
        loop.message(changed)
    with soundness.undone_if_it_fails(loop):
        groups.complete(loop, saved)
        _load_callbacks(loop, saved)
        loop.load_extra_state(saved)
        if loop.model is not None:
            loop.model.load_state_dict(saved["model"])
    switches.put_back(loop.model, saved["loop"].get("switched", {}))
    for optimizer, state in zip(loop.optimizers, saved["optimizers"], strict=True):
        optimizer.load_state_dict(state)
    loop.rate_set = None  # the rate is that of the earlier run now, and nobody overwrote it
    _load_rows(loop, saved)
    generators.restore(saved["rng"]["now"])


def apply_callbacks(loop: Loop, saved: Mapping[str, Any]) -> None:
    """Put back what is hookloop's own: the callbacks, the history and the logs of an open epoch.

    Raises:
        StateError: If a callback refuses what is its own; nothing is changed then.
    """
    with soundness.undone_if_it_fails(loop):
        _load_callbacks(loop, saved)
    _load_rows(loop, saved)


def _load_callbacks(loop: Loop, saved: Mapping[str, Any]) -> None:
    for name, entry in saved["callbacks"].items():
        if entry["state"] is not None and hasattr(loop.callbacks.get(name), "load_state_dict"):
            loop.registry.ask(name, "load_state_dict", loop, entry["state"])


def _load_rows(loop: Loop, saved: Mapping[str, Any]) -> None:
    changed = compared.came_and_went(loop, _stateful(loop), saved["callbacks"])
    if changed is not None:
        loop.message(changed)
    if loop.history is not None and saved["history"] is not None:
        loop.history.load_rows(saved["history"])
    loop.logs.update(saved["loop"]["logs"])


def check_plain(loop: Loop) -> None:
    """Call every callback's ``state_dict`` once and refuse what could not be saved.

    Raises:
        StateError: Naming the callback and the place of the value.
    """
    for name, callback in _stateful(loop).items():
        if not hasattr(callback, "load_state_dict"):
            message = f"Callback {name!r} has state_dict, but no load_state_dict to put it back."
            raise StateError(message, fix="def load_state_dict(self, state)")
    for name, own in _states(loop).items():
        for path, value in find_unsavable(own, name):
            raise unsavable(value, path, f"The state of callback {name!r}")


def differences(model: Any, saved: Mapping[str, Any]) -> list[str]:
    """Tell in what saved weights differ from what a model would take."""
    own = model.state_dict() if model is not None else {}
    wrong = [f"{key} is missing" for key in own if key not in saved]
    wrong += [f"{key} is not in this model" for key in saved if key not in own]
    shared = {key: (_shape(value), _shape(own[key])) for key, value in saved.items() if key in own}
    wrong += [
        f"{key} has shape {then}, this model {now}"
        for key, (then, now) in shared.items()
        if then != now and (now != "not known yet" or type(then) is not tuple)
    ]
    return wrong


def _shape(value: Any) -> tuple[int, ...] | str:
    """Give the shape of a tensor; of what a module keeps beside its tensors, that it is none."""
    if not hasattr(value, "layout"):
        return "of no tensor"
    if soundness.is_lazy(value):
        return "not known yet"  # a state gives it its shape, or the first batch
    shape = tuple(value.shape)
    return shape if soundness.is_dense(value) else f"{shape} of another layout"
