"""A plugin's folder in place of an installation: its callbacks are found by name all the same."""

from __future__ import annotations

import sys
import tempfile
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from hookloop import discovery
from hookloop.errors import ArgumentError


@contextmanager
def offered(folder: Path) -> Iterator[list[str]]:
    """Offer the callbacks of a package that is not installed.

    Its metadata are written to a temporary folder as an installation would write them, and both
    come first among the places where Python looks: no other copy is found in their place.

    Args:
        folder: Where its ``pyproject.toml`` is.

    Yields:
        Names of its callbacks.

    Raises:
        ArgumentError: If the folder is none of a plugin.
    """
    folder = folder.resolve()
    project = _project(folder)
    points = project.get("entry-points", {}).get(discovery.GROUP, {})
    if not points:
        message = f"{folder / 'pyproject.toml'} offers no callback."
        fix = f'[project.entry-points."{discovery.GROUP}"] with a line name = "module:Class"'
        raise ArgumentError(message, fix=fix)
    known, places = set(sys.modules), list(sys.path)
    with tempfile.TemporaryDirectory(prefix="hookloop-offered-") as metadata:
        _write_metadata(Path(metadata), folder, project, points)
        source = folder / "src" if (folder / "src").is_dir() else folder
        sys.path[:0] = [metadata, str(source)]
        discovery.scan.cache_clear()
        try:
            yield list(points)
        finally:
            sys.path[:] = places
            discovery.scan.cache_clear()
            for name in set(sys.modules) - known:
                if _is_below(folder, sys.modules[name]):
                    del sys.modules[name]


def _project(folder: Path) -> dict[str, Any]:
    try:
        text = (folder / "pyproject.toml").read_text(encoding="utf-8")
        found: dict[str, Any] = tomllib.loads(text)["project"]
        return {**found, "name": str(found["name"])}
    except FileNotFoundError:
        message = f"{folder} has no pyproject.toml, so it is no plugin's folder."
        raise ArgumentError(message, fix="name a callback, or the folder of a package") from None
    except (tomllib.TOMLDecodeError, KeyError) as error:
        message = f"{folder / 'pyproject.toml'} cannot be read: {type(error).__name__}: {error}"
        raise ArgumentError(message, fix="write [project] with a name in it") from None


def _write_metadata(
    metadata: Path, folder: Path, project: dict[str, Any], points: dict[str, str]
) -> None:
    name, version = project["name"], str(project.get("version", "0"))
    info = metadata / f"{discovery.canonical(name).replace('-', '_')}-{version}.dist-info"
    info.mkdir()
    readme = project.get("readme", "")
    page = folder / (readme.get("file", "") if isinstance(readme, dict) else readme)
    text = page.read_text(encoding="utf-8") if page.is_file() else ""
    head = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(f"{head}\n{text}", encoding="utf-8")
    lines = [f"{point} = {target}" for point, target in points.items()]
    written = "\n".join([f"[{discovery.GROUP}]", *lines, ""])
    (info / "entry_points.txt").write_text(written, encoding="utf-8")


def _is_below(folder: Path, module: Any) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and Path(file).is_relative_to(folder)
