"""Path templates: ``"model.{epoch:02d}-{val_loss:.2f}.pt"``."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Collection, Mapping
from string import Formatter
from typing import Any

from hookloop.errors import TemplateError, did_you_mean, listed

COUNTERS = ("epoch", "batch", "step")


class PathTemplate:
    """A path with names of logged values in it, checked when it is made.

    Args:
        path: Text with fields such as ``{epoch:02d}`` or ``{val_loss:.2f}``; ``epoch`` and
            ``batch`` count from 1, ``step`` counts optimizer steps.

    Raises:
        TemplateError: If it could never be formatted.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.text = os.fspath(path)
        if not self.text or "\0" in self.text:
            raise TemplateError(f"The path {self.text!r} is empty or holds NUL.", fix="name a file")
        try:
            self._parts = list(Formatter().parse(self.text))
        except ValueError as error:
            raise self._error(str(error), "close every brace, and write {{ for a brace") from None
        for _, name, spec, conversion in self._parts:
            if name is not None:
                self._check(name, spec or "", conversion)
        self.fields = {name for _, name, *_ in self._parts if name is not None}

    def _check(self, name: str, spec: str, conversion: str | None) -> None:
        if not re.fullmatch(r"[^\W\d][\w-]*", name) or conversion or "{" in spec:
            raise self._error(f"{{{name}}} is no plain name", "write {name} or {name:.2f}")
        if re.search(r"\d{4}", spec):  # a width of 10**9 takes that much memory
            raise self._error(f"{{{name}:{spec}}} is longer than any name", "write {name:.2f}")
        try:
            format(1 if name in COUNTERS else 1.0, spec)
        except ValueError as error:
            fix = "write {epoch:02d} for a counter, {val_loss:.2f} for a number"
            meant = did_you_mean(name, COUNTERS) if _is_for_counters(name, spec) else ""
            what = f"no counter is called {name!r}" if meant else f"{{{name}:{spec}}}: {error}"
            raise self._error(what, fix, meant) from None

    def _error(self, what: str, fix: str, meant: str = "") -> TemplateError:
        message = f"The path template {self.text!r} cannot be formatted: {what}.{meant}"
        return TemplateError(message, fix=fix)

    def unknown(self, known: Collection[str]) -> list[str]:
        """List the fields that are neither counters nor among the known names, with suggestions."""
        names = {*COUNTERS, *known}
        return [f"{name!r}.{did_you_mean(name, names)}" for name in sorted(self.fields - names)]

    def gives(self, path: str) -> bool:
        """Tell whether a path is one that `format` may give for some values."""
        parts = [
            re.escape(literal) + (r"(?!\.)[\w.+-]+" if name is not None else "")
            for literal, name, *_ in self._parts
        ]
        return re.fullmatch("".join(parts), path) is not None

    def format(self, values: Mapping[str, Any], missing: Callable[[str], None]) -> str:
        """Fill the template in.

        Args:
            values: The logged values, and the counters.
            missing: Called with a sentence about fields that have no value; they become ``na``.

        Returns:
            The path. No value can leave the folder that the template names.
        """
        path, absent = "", []
        for literal, name, spec, _ in self._parts:
            path += literal
            if name is None:
                continue
            if name not in values:
                absent.append(name)
            path += _escaped(values[name], spec or "") if name in values else "na"
        if absent:
            missing(
                f"{self.text!r}: {listed(absent)} was not reported and is written as 'na'; "
                f"reported: {listed(values)}.\nfix: use one of these in the path"
            )
        return path


def _is_for_counters(name: str, spec: str) -> bool:
    try:
        format(1, spec)
    except ValueError:
        return False
    return name not in COUNTERS


def _escaped(value: Any, spec: str) -> str:
    try:
        text = format(value, spec)
    except (ValueError, TypeError):  # text where a number was expected
        text = str(value)
    return re.sub(r"^\.+|[^\w.+-]", "_", text) or "_"  # an empty first part would mean the root
