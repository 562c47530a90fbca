"""What a run is made of, and how that of a saved run differs: refused, or told in one line."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from hookloop import groups, rates
from hookloop.callback import as_plain, settings_of
from hookloop.errors import StateError, listed
from hookloop.soundness import alike, need

if TYPE_CHECKING:
    from torch.optim import Optimizer

    from hookloop.loop import Loop

#: What differs, and what to do about it.
Difference = tuple[str, str]
#: What schedulers of torch add to parameter groups, and some are made only when a run begins.
_OF_SCHEDULERS = {"initial_lr", "max_lr", "min_lr", "base_momentum", "max_momentum", "swa_lr"}
_NO_SETTINGS = {"params", "param_names", *_OF_SCHEDULERS}
#: What follows from a change, where that is not plain.
_REMARKS = {
    "seed": "the state's is used",
    "schedulers": "the state's are used",
    "loader workers": "random numbers that the data draw may be others",
}
#: What may not change in the middle of an epoch: it says which samples were used already.
_FIXED = ("batch size", "batches", "samples", "order of the data")
_SHOWN, _LONG = 4, 100
_NOTHING: dict[str, Any] = {"run": {}, "model": {}, "optimizers": []}


def refuse(found: Sequence[Difference]) -> None:
    """Raise one error for everything in which a state differs from the run.

    Raises:
        StateError: If there is anything.
    """
    if len(found) == 1:
        raise StateError(found[0][0], fix=found[0][1])
    if found:
        lines = "".join(f"\n- {what}" for what, _ in found)
        fix = "; ".join(dict.fromkeys(fix for _, fix in found))
        raise StateError(f"The state differs from this run in {len(found)} ways:{lines}", fix=fix)


def made_of(loop: Loop) -> dict[str, Any]:
    """Describe, as plain data, what a run is made of and no other part of its state tells.

    Returns:
        ``run``: what the host says of itself, by words. ``model``: each module, by name.
        ``optimizers``: class, parameters, and settings as they were when the run began.
    """
    if "model" not in loop.made:
        loop.made["model"] = _modules(loop.model)
    return {**loop.made, "run": as_plain({"host": loop.host, **loop.config()})}


def optimizers_of(loop: Loop) -> list[dict[str, Any]]:
    """Describe the optimizers of a run."""
    return [_optimizer(one, loop.model) for one in loop.optimizers]


def _optimizer(optimizer: Optimizer, model: Any) -> dict[str, Any]:
    names = groups.names_of(optimizer.param_groups, model)
    described = [
        {
            "parameters": parameters,
            "settings": {
                **{key: as_plain(v) for key, v in group.items() if key not in _NO_SETTINGS},
                "lr": rate,
            },
        }
        for group, parameters, rate in zip(
            optimizer.param_groups, names, rates.of(optimizer), strict=True
        )
    ]
    return {"class": type(optimizer).__name__, "groups": described}


def _modules(model: Any) -> dict[str, str]:
    named = model.named_modules() if hasattr(model, "named_modules") else ()
    return {name: _module(one) for name, one in named}


def _module(module: Any) -> str:
    try:
        about = module.extra_repr()
    except Exception:  # somebody's own; it must not cost the save
        about = "..."
    return f"{type(module).__name__}({about[:100]})"


# -- refused -----------------------------------------------------------------------------


def host(loop: Loop, saved: Mapping[str, Any]) -> Iterator[Difference]:
    """Refuse what another host saved: it knows nothing of this one's data."""
    then = run_of(saved).get("host", loop.host)
    if then != loop.host:
        yield (
            f"The state was saved in {then}; this is {loop.host}.",
            "go on in the same kind of loop; for the weights alone: load_weights()",
        )


def optimizers(loop: Loop, saved: Mapping[str, Any]) -> Iterator[Difference]:
    """Find in what saved optimizers are not those of the run."""
    same, own = "use the same class", groups.completed(loop, saved)
    both = [one["param_groups"] for one in saved["optimizers"]], own
    sizes = [[[len(group["params"]) for group in one] for one in some] for some in both]
    keys = [[[sorted({*group} - _NO_SETTINGS) for group in one] for one in some] for some in both]
    then, now = _config(saved)["optimizers"], optimizers_of(loop)
    if sizes[0] != sizes[1]:
        what = f"The state has optimizers of groups {sizes[0]}, this run of {sizes[1]}."
        yield what, "make the optimizers as they were"
    elif then and [one["class"] for one in then] != [one["class"] for one in now]:
        classes = [listed(str(one["class"]) for one in some) for some in (then, now)]
        yield f"The state is of the optimizer {classes[0]}; this run has {classes[1]}.", same
    elif keys[0] != keys[1]:
        yield "The state is of another kind of optimizer.", same
    elif then:
        for old, added, some in zip(then, groups.names_in(saved), own, strict=True):
            before = [*(group["parameters"] for group in old["groups"]), *added]
            for names in zip(before, groups.names_of(some, loop.model), strict=False):
                if names[0] != names[1]:
                    shown = [listed(map(str, one[:_SHOWN])) for one in names]
                    what = f"An optimizer's group had the parameters {shown[0]}; now {shown[1]}."
                    yield what, "give it the parameters in the same order"


def _groups(then: Any, now: Any) -> Iterator[tuple[Any, Any]]:
    for before, after in zip(then, now, strict=False):
        yield from zip(before["groups"], after["groups"], strict=False)


def data(then: Mapping[str, Any], now: Mapping[str, Any]) -> Iterator[Difference]:
    """Find in what the data are others than those of which an epoch has used some.

    Args:
        then: What was said of them when the state was saved.
        now: What is said of those of this run.
    """
    changed = differing({key: then[key] for key in _FIXED if key in then}, now)
    if changed:
        what = f"The state is of the middle of an epoch of other data: {'; '.join(changed)}."
        yield what, "pass the data and batch size of that run"


def callbacks(loop: Loop, saved: Mapping[str, Any]) -> Iterator[Difference]:
    """Find callbacks whose state was saved with other settings."""
    for name, entry in saved.items():
        if name in loop.callbacks and entry["state"] is not None:
            was, become = _settings(entry["settings"], settings_of(loop.callbacks[name]))
            if was:
                yield (
                    f"The state of callback {name!r} was saved with {was}; now it has {become}.",
                    "use the same settings, or give it another name= to begin afresh",
                )


def _settings(then: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str]:
    """Say which settings differ, and how; nothing where none are known."""
    keys = sorted(key for key in {*then, *now} if repr(then.get(key)) != repr(now.get(key)))
    if not (then and now and keys):
        return "", ""
    was, become = (listed(f"{key}={_short(one.get(key))}" for key in keys) for one in (then, now))
    return was, become


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= _LONG else f"{text[:_LONG]}..."


# -- told ----------------------------------------------------------------------------------


def changes(loop: Loop, saved: Mapping[str, Any]) -> str | None:
    """Say in one line what is otherwise than when the state was saved, and does not forbid it."""
    if saved["loop"].get("config") is None:
        return None
    config, now = _config(saved), made_of(loop)
    found = [
        *differing(run_of(saved), now["run"]),
        *_listed_some(differing({"module": config["model"]}, {"module": now["model"]})),
        *_optimizer_settings(config["optimizers"], now["optimizers"]),
        *_stateless(loop, saved["callbacks"]),
    ]
    return f"Changed since the state was saved: {'; '.join(found)}." if found else None


def differing(then: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """Say what two descriptions have in common and describe otherwise."""
    found = []
    for name in [name for name in now if name in then and repr(then[name]) != repr(now[name])]:
        before, after = then[name], now[name]
        if isinstance(before, Mapping) and isinstance(after, Mapping) and before and after:
            both = dict.fromkeys((*before, *after))
            found += [f"{name}: {one}" for one in differing({**both, **before}, {**both, **after})]
        else:
            remark = f" ({_REMARKS[name]})" if name in _REMARKS else ""
            found.append(f"{name} {_word(before)} then, {_word(after)} now{remark}")
    return found


def _word(value: Any) -> Any:
    if isinstance(value, Mapping):
        return "given" if value else "none"
    return "none" if value is None else value


def run_of(saved: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a host said of itself, with what else the state has of it."""
    counters = saved["loop"]
    known = {"seed": "seed", "batches": "steps", "samples": "samples"}
    more = {name: counters[key] for name, key in known.items() if key in counters}
    return {**_config(saved)["run"], **more}


def _config(saved: Mapping[str, Any]) -> Mapping[str, Any]:
    """Give what `made_of` gave; empty parts for a state of an earlier hookloop.

    Raises:
        StateError: If it is something else.
    """
    config: Mapping[str, Any] | None = saved["loop"].get("config")
    if config is None:
        return _NOTHING
    sound = alike(_NOTHING, config) and all(
        alike({"class": "", "groups": []}, one)
        and all(alike({"parameters": [], "settings": {}}, group) for group in one["groups"])
        for one in config["optimizers"]
    )
    need(sound, "what it says of its run is no description of one")
    return config


def _listed_some(found: Sequence[str]) -> list[str]:
    more = len(found) - _SHOWN
    return [*found[:_SHOWN], f"and {more} more modules"] if more > 0 else list(found)


def _optimizer_settings(then: Any, now: Any) -> Iterator[str]:
    changed = [
        differing(before["settings"], after["settings"]) for before, after in _groups(then, now)
    ]
    found = [one for some in changed for one in some]
    if found:
        yield f"of the optimizer, where the state's are used: {listed(dict.fromkeys(found))}"


def _stateless(loop: Loop, saved: Mapping[str, Any]) -> Iterator[str]:
    """Find callbacks that have no state, and neither only watch nor save, with other settings."""
    for name, entry in saved.items():
        one = loop.callbacks.get(name)
        aside = getattr(one, "observer", False) or "state" in getattr(one, "needs", ())
        if one is not None and entry["state"] is None and not aside:
            was, become = _settings(entry["settings"], settings_of(one))
            if was:
                yield f"callback {name}: {was} then, {become} now"


def came_and_went(loop: Loop, stateful: Iterable[str], saved: Mapping[str, Any]) -> str | None:
    """Say which callbacks with a state, those that have one now being named, came or went."""
    known = [name for name, entry in saved.items() if entry["state"] is not None]
    added = [name for name in stateful if name not in known]
    removed = [name for name in known if name not in loop.callbacks]
    if not (added or removed):
        return None
    parts = [f"added: {listed(added)}"] if added else []
    parts += [f"removed: {listed(removed)}"] if removed else []
    afresh = " Those added begin afresh." if added else ""
    return f"Since the state was saved, callbacks were {'; '.join(parts)}.{afresh}"
