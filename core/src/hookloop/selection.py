"""Choosing callbacks: from ``"early_stopping:patience=3"``, mappings, pairs and instances."""

from __future__ import annotations

import ast
import inspect
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from hookloop import discovery
from hookloop.annotations import accepts, is_text
from hookloop.callback import Callback, constructor
from hookloop.compatibility import check_hook_api
from hookloop.errors import HookloopError, SelectionError, SettingError, did_you_mean, listed
from hookloop.masking import discreet, without_secrets

_SETTING = re.compile(r"[A-Za-z_]\w*=")
_NUMBER = re.compile(r"[+-]?(\d+|(\d+\.\d*|\.\d+)([eE][+-]?\d+)?|\d+[eE][+-]?\d+)")
_WORDS = {"true": True, "false": False, "none": None}
_CLOSING = {"(": ")", "[": "]", "{": "}"}


class Bare(str):
    """A value from a string that has neither quotes nor brackets: its setting decides its type."""


def load(name: str, /, **settings: Any) -> Any:
    """Make one callback by name.

    Args:
        name: ``"early_stopping"``, ``"distribution/name"`` or ``"package.module:Class"``; settings
            may follow as in ``"early_stopping:patience=3"``.
        **settings: Arguments of its constructor. ``name=`` gives the instance its name.

    Raises:
        UnknownCallbackError: If no installed distribution provides it.
        SettingError: If a setting is unknown, missing or ill-typed.
    """
    reference, written = parse(name)
    return _make(reference, {**written, **settings})


def load_callbacks(items: Any) -> list[Any]:
    """Make a list of callbacks from any of the forms in which they can be chosen.

    Args:
        items: A list of names with or without settings, mappings, pairs and instances, or a single
            one of these. See ``docs/choosing.md``.

    Raises:
        HookloopError: One that says which item is wrong, and what to write instead.
    """
    return [_load_item(item) for item in as_items(items)]


def as_items(items: Any) -> list[Any]:
    """Turn what was passed as callbacks into a list of items, without loading any."""
    if hasattr(items, "as_callbacks"):
        return list(items.as_callbacks())
    pair = _is_pair(items) or _is_half_a_pair(items)
    several = isinstance(items, list) or (isinstance(items, tuple) and not pair)
    return [
        part
        for item in (items if several else [items])
        for part in (_pairs(item) if isinstance(item, Mapping) else [item])
    ]


def parse(text: str) -> tuple[str, dict[str, Any]]:
    """Split ``name:key=value,...`` into the name and its settings.

    The settings begin at the first ``:identifier=``, so that names may hold colons.

    Raises:
        SelectionError: If what follows the name is no list of settings.
    """
    found = re.search(r":(?=[A-Za-z_]\w*=)", text)
    reference = (text[: found.start()] if found else text).strip()
    if not reference:
        message = f"{text!r} names no callback."
        raise SelectionError(message, fix='write it as "early_stopping:patience=3"')
    dashed = re.search(r":(\w+(?:-\w+)+)=", reference)
    if dashed:
        message = f"{text!r}: no setting has a hyphen in its name."
        raise SelectionError(message, fix=f'write "{dashed[1].replace("-", "_")}="')
    apart = re.fullmatch(r"([\w./:-]+)\W+([A-Za-z_]\w*=.*)", reference)
    if apart:
        name, settings = apart[1].rstrip(":"), apart[2].removesuffix(")")
        message = f"{text!r}: a colon comes before the settings."
        raise SelectionError(message, fix=f'write "{name}:{settings}"')
    return reference, dict(_settings(text[found.end() :], text)) if found else {}


def shown(text: str) -> str:
    """Write ``name:key=value,...`` without its secrets, for a line that others may read."""
    reference, written = parse(text)
    factory, _ = resolve(reference.removeprefix("+"))
    open_to_all = discreet(factory, written)
    if open_to_all == written:
        return text
    return f"{reference}:" + ",".join(f"{name}={value}" for name, value in open_to_all.items())


def reference_of(item: Any) -> str | None:
    """Tell by which name an item that is not yet loaded asks for its callback."""
    if isinstance(item, str):
        reference, written = parse(item)
        return str(written.get("name", reference.rpartition("/")[2]))
    if _is_pair(item):
        return str(item[1].get("name", item[0].rpartition("/")[2]))
    return getattr(item, "name", None) or instance_name(item)


def instance_name(callback: Any) -> str:
    """Give an instance the name that its class has: the entry point's, else in snake case."""
    own = getattr(callback, "name", None)
    if isinstance(own, str) and own:
        return own
    plugin = discovery.plugin_of(type(callback))
    if plugin is not None:
        return plugin.name
    if inspect.ismodule(callback):
        return callback.__name__.rpartition(".")[2]
    return re.sub(
        r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", type(callback).__name__
    ).lower()


def named(callbacks: Iterable[Any]) -> list[tuple[str, Any]]:
    """Pair each callback with its name; a name that comes again gets ``#2`` and so on."""
    pairs: dict[str, Any] = {}
    for callback in callbacks:
        if any(callback is other for other in pairs.values()):
            message = f"One {type(callback).__name__} stands twice in the list of callbacks."
            raise SelectionError(message, fix="leave one out, or make a second instance")
        name = free = instance_name(callback)
        number = 1
        while free in pairs:
            number += 1
            free = f"{name}#{number}"
        pairs[free] = callback
    return list(pairs.items())


# -- items ---------------------------------------------------------------


def _is_pair(item: Any) -> bool:
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], Mapping)
    )


def _is_half_a_pair(item: Any) -> bool:
    """Tell whether an item is a name with something that is neither settings nor a callback."""
    return (
        isinstance(item, tuple)
        and len(item) == 2
        and isinstance(item[0], str)
        and isinstance(item[1], int | float | list | tuple | set)
    )


def _load_item(item: Any) -> Any:
    if isinstance(item, str):
        return load(item)
    if _is_pair(item):
        ((name, settings),) = _pairs({item[0]: item[1]})
        return load(name, **settings)
    return _instance(item)


def _pairs(item: Mapping[Any, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Take a mapping of names to settings apart: several keys are several callbacks."""
    for name, settings in item.items():
        plain = settings is None or isinstance(settings, Mapping)
        if not plain or not all(isinstance(key, str) for key in settings or ()):
            message = f"The settings of {name!r} are {settings!r}, not names with values."
            fix = f'{{"{name}": {{"setting": value}}}}'
            if isinstance(item.get("name"), str):  # as in TOML, where each is a table
                rest = {key: value for key, value in item.items() if key != "name"}
                fix = json.dumps({item["name"]: rest}, default=repr)
            raise SelectionError(message, fix=fix)
        yield str(name), settings or {}


def _instance(item: Any) -> Any:
    from hookloop.implementations import has_hooks

    if item is None:
        raise SelectionError("None is no callback.", fix="leave it out, or pass callbacks=[]")
    if _is_half_a_pair(item):
        message = f"The pair {item!r} needs a mapping after the name."
        raise SelectionError(message, fix=f'("{item[0]}", {{"setting": value}})')
    if isinstance(item, list | tuple | set):
        message = f"A {type(item).__name__} stands inside the list of callbacks."
        raise SelectionError(message, fix="pass one flat list, as in [*first, *second]")
    if isinstance(item, type):
        message = f"{item.__qualname__} is a class, not an instance."
        raise SelectionError(message, fix=f"write {item.__qualname__}(...)")
    if not isinstance(item, Callback) and not has_hooks(item):
        message = f"{item!r} is no callback: a {type(item).__name__} without any hook method."
        raise SelectionError(message, fix="pass a name, an instance, or an object with hooks")
    check_hook_api(item, f"The callback {type(item).__qualname__}")
    return item


# -- making one ---------------------------------------------------------------


def _make(reference: str, settings: dict[str, Any]) -> Any:
    factory, who = resolve(reference)
    try:
        parameters = constructor(factory).parameters
    except (TypeError, ValueError) as error:
        message = f"{who} has no signature, so it cannot make a callback: {error}."
        raise SelectionError(message, fix="name a class, or a function with arguments") from None
    name = settings.pop("name", None) if "name" not in parameters else None
    _check(who, parameters, settings)
    read = {key: _convert(value, parameters.get(key)) for key, value in settings.items()}
    _check_types(factory, who, parameters, read)
    callback = _instance(_call(factory, who, read))
    if name is not None:
        callback.name = str(name)
    return callback


def resolve(reference: str) -> tuple[Callable[..., Any], str]:
    """Find what a reference stands for: a plugin's class, or something importable.

    Returns:
        The class or factory, and how to call it in errors.
    """
    owner, slash, name = reference.rpartition("/")
    module, colon, attribute = reference.partition(":")
    if slash or not colon:
        return discovery.find(name, owner if slash else None).load(), name
    dotted = f"{module}.{attribute}".split(".")
    if all(part.isidentifier() for part in dotted) and not _is_installed(module):
        return discovery.import_object(reference, f"The callback {reference!r}"), attribute
    message = f"{reference!r}: {attribute!r} is no setting."
    raise SelectionError(
        message, fix=f'settings are written name=value, as in "{module}:name=value"'
    )


def _is_installed(name: str) -> bool:
    return discovery.normalized(name) in discovery.installed()


def _call(factory: Callable[..., Any], who: str, settings: dict[str, Any]) -> Any:
    try:
        return factory(**settings)
    except HookloopError:
        raise
    except (TypeError, ValueError) as error:
        written = listed(f"{key}={value!r}" for key, value in discreet(factory, settings).items())
        why = without_secrets(factory, settings, str(error))
        message = f"{who} refused its settings ({written}): {why}"
        raised = SettingError(message, fix=f"see: hookloop info {who}")
        raise raised from (error if why == str(error) else None)


def _check(who: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]) -> None:
    open_ended = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    known = [p.name for p in parameters.values() if p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)]
    for key in given:
        if key not in known and not open_ended:
            message = f"{who} has no setting {key!r}.{did_you_mean(key, known)}"
            raise SettingError(message, fix=f"its settings are: {listed(known)}")
    missing = [
        k for k in known if parameters[k].default is inspect.Parameter.empty and k not in given
    ]
    if missing:
        message = f"{who} needs the setting {missing[0]!r}."
        raise SettingError(message, fix=f'write "{who}:{missing[0]}=..."')


def _check_types(
    factory: Any, who: str, parameters: Mapping[str, inspect.Parameter], given: Mapping[str, Any]
) -> None:
    for key, value in given.items():
        annotation = parameters[key].annotation if key in parameters else inspect.Parameter.empty
        if annotation is inspect.Parameter.empty or accepts(annotation, value):
            continue
        wanted = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
        shown = discreet(factory, given)[key]
        message = f"{who}: {key}={shown!r} is a {type(value).__name__}, not {wanted}."
        raise SettingError(message, fix=_advice(who, key, value, wanted))


def _advice(who: str, key: str, value: Any, wanted: str) -> str:
    """Say what to write in place of a value of another type."""
    if isinstance(value, str):
        if re.search(r";\s*[A-Za-z_]\w*=", value):
            return f'put commas between settings: "{who}:{key}=...,..."'
        if "Callable" in wanted:
            return f'a function cannot be written in a string: ("{who}", {{"{key}": function}})'
    if wanted == "bool":
        return f"write {key}=true or {key}=false"
    return f"pass {key} as {wanted}"


def _convert(value: Any, parameter: inspect.Parameter | None) -> Any:
    if not isinstance(value, Bare):
        return value
    annotation = parameter.annotation if parameter else inspect.Parameter.empty
    if is_text(annotation) and (value.lower() != "none" or accepts(annotation, None) is False):
        return str(value)
    if re.fullmatch("[+-]?(inf|nan)", value.lower()) and accepts(annotation, 0.5):
        return float(value)
    return read_bare(value)


def read_bare(value: Any) -> Any:
    """Read a value without quotes as true, false, none, a number, or else the text."""
    if not isinstance(value, Bare):
        return value
    if value.lower() in _WORDS:
        return _WORDS[value.lower()]
    if _NUMBER.fullmatch(value) and len(value) < 1000:  # longer than Python converts: text
        return float(value) if set(value.lower()) & set(".e") else int(value)
    return str(value)


# -- text ---------------------------------------------------------------


def _settings(text: str, whole: str) -> Iterator[tuple[str, Any]]:
    seen: set[str] = set()
    while text := text.lstrip():
        found = _SETTING.match(text)
        if not found:
            message = f"{whole!r}: {text.partition(',')[0]!r} is no setting."
            fix = "write name=value, and quote a value that holds a comma: filename='a,b.csv'"
            raise SelectionError(message, fix=fix)
        key = found.group()[:-1]
        if key in seen:
            message = f"{whole!r} sets {key} twice."
            raise SelectionError(message, fix="leave one of them out")
        seen.add(key)
        value, text = _value(text[found.end() :].lstrip(), whole)
        yield key, value


def _value(text: str, whole: str) -> tuple[Any, str]:
    """Read one value, and give what follows its comma."""
    if text.startswith("'"):
        quoted = re.match(r"'((?:[^']|'')*)'\s*(?:,|$)", text)
        if not quoted:
            message = f"{whole!r}: a quote does not end."
            raise SelectionError(message, fix="end it with ', and write a quote inside as ''")
        return quoted.group(1).replace("''", "'"), text[quoted.end() :]
    end = _bracket_end(text) if text[:1] in _CLOSING else -1
    comma = text.find(",", max(end, 0))
    value, rest = (text, "") if comma < 0 else (text[:comma], text[comma + 1 :])
    if end > 0:
        try:
            return ast.literal_eval(value.strip()), rest
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return value, rest
    return Bare(value.strip()), rest


def _bracket_end(text: str) -> int:
    """Find where the bracket at the start closes; -1 if it does not."""
    expected: list[str] = []
    quote = ""
    for place, character in enumerate(text):
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"" and expected:
            quote = character
        elif character in _CLOSING:
            expected.append(_CLOSING[character])
        elif expected and character == expected[-1]:
            expected.pop()
            if not expected:
                return place
    return -1
