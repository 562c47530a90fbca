"""``hookloop new NAME``: a package that works, to write a callback of one's own in."""

from __future__ import annotations

import keyword
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from hookloop import __version__, discovery, files
from hookloop.errors import ArgumentError

if TYPE_CHECKING:
    import argparse

#: What is written, and from which file under ``scaffolds/``. The words `_words` gives are replaced
#: in both; the rest is copied as it is.
PACKAGE = {
    "pyproject.toml": "package.toml.txt",
    "README.md": "readme.md.txt",
    "CHANGELOG.md": "changelog.md.txt",
    "LICENSE": "licence.txt",
    ".gitignore": "ignore.txt",
    ".github/workflows/tests.yml": "workflow.yml.txt",
    "src/hookloop_my_callback/__init__.py": "callback.py.txt",
    "src/hookloop_my_callback/py.typed": "",
    "tests/test_behaviour.py": "behaviour.py.txt",
    "tests/test_conformance.py": "conformance.py.txt",
}
MODULE = {"pyproject.toml": "module.toml.txt", "hookloop_my_callback.py": "callback.py.txt"}
#: Longer ones make lines that no formatter would leave as they are.
LONGEST = 30
#: What the written module imports: a class of that name would hide it from itself.
IMPORTED = ("Any", "Callback", "Mapping", "SettingError")


@dataclass(frozen=True)
class Written:
    """What `new` left behind.

    Attributes:
        folder: Of the package.
        files: Its files, relative to the folder.
        source: That of them which has the callback.
        commands: What to type next, in the folder.
    """

    folder: Path
    files: tuple[str, ...]
    source: str
    commands: tuple[str, ...]


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its arguments."""
    parser.add_argument("name", metavar="NAME", help="what users will type, as in: loss_spike")
    parser.add_argument(
        "--minimal", action="store_true", help="one module and a pyproject.toml, nothing else"
    )
    parser.add_argument(
        "--into", type=Path, default=Path(), metavar="FOLDER", help="where to (default: here)"
    )
    parser.add_argument("--author", metavar="NAME", help="for the licence and the metadata")
    parser.set_defaults(run=run)


def run(asked: argparse.Namespace) -> int:
    """Write the package, and say what to do with it."""
    written = new(asked.name, into=asked.into, minimal=asked.minimal, author=asked.author)
    print(f"{written.folder}/")
    for name in written.files:
        print(f"  {name}")
    print(f"\nThis is a callback that works. Write yours in {written.folder / written.source}.")
    print(f"\nNext, in {written.folder}/:")
    for command in written.commands:
        print(f"  {command}")
    return 0


def new(
    name: str, *, into: Path | None = None, minimal: bool = False, author: str | None = None
) -> Written:
    """Write a package with one callback that works, in a new folder.

    Args:
        name: What users will type; ``LossSpike`` and ``loss-spike`` are ``loss_spike``.
        into: The folder in which to make that of the package; the current one unless given.
        minimal: Whether to write one module and a ``pyproject.toml``, and nothing else.
        author: For the licence and the metadata.

    Raises:
        ArgumentError: If a name is none, or taken, or the folder has something in it.
        FileError: If it cannot be written.
    """
    name = checked(name)
    if author is not None and not re.fullmatch(r'[^"\\\r\n]+', author):
        message = f"author={author!r} cannot stand in a pyproject.toml."
        raise ArgumentError(message, fix="a name without quotes and backslashes, in one line")
    folder = (into or Path()) / name
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        message = f"{folder} is there already, and nothing of it is overwritten."
        raise ArgumentError(message, fix="another name, or --into another folder")
    words = _words(name, author)
    made = {
        _replaced(target, words): source
        for target, source in (MODULE if minimal else PACKAGE).items()
    }
    for path, source in made.items():
        files.atomic_write(folder / path, _replaced(_text(source), words).encode())
    code = next(path for path, source in made.items() if source == "callback.py.txt")
    test = f"hookloop info {name}" if minimal else "python -m pytest"
    commands = (
        "python -m pip install -e " + ("." if minimal else '".[test]"'),
        test,
        "python -m pip wheel --no-deps -w dist .",
    )
    return Written(folder, tuple(made), code, commands)


def checked(name: str) -> str:
    """Give a name in the form in which it is written, if a plugin can have it.

    Raises:
        ArgumentError: If it cannot, with what to type instead.
    """
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    snake = re.sub(r"[-_.\s]+", "_", words).strip("_").lower()
    plain = re.sub(r"^hookloop_+", "", snake)
    hidden = keyword.iskeyword(_camel(plain)) or _camel(plain) in IMPORTED
    if hidden or not re.fullmatch(r"[a-z][a-z0-9_]*", plain):
        message = f"{name!r} cannot be the name of a callback."
        fix = "letters, digits and underscores that begin with a letter, as in: loss_spike"
        if "/" in name and "." not in name:
            fix = f"hookloop new {name.rpartition('/')[2]} --into {name.rpartition('/')[0]}"
        raise ArgumentError(message, fix=fix)
    if plain != snake:
        message = f"{name!r}: the package's name begins with hookloop by itself."
        raise ArgumentError(message, fix=f"hookloop new {plain}")
    if len(snake) > LONGEST:
        message = f"{name!r} has {len(snake)} characters, more than {LONGEST}."
        raise ArgumentError(message, fix="a name that people like to type")
    _refuse_taken(snake)
    return snake


def _refuse_taken(name: str) -> None:
    """Refuse the name of what is installed, or of one of hookloop's own: nobody could choose it."""
    key = discovery.normalized(name)
    plugins = discovery.installed().get(key, ())
    owners = [f"{plugin.distribution} {plugin.version}" for plugin in plugins]
    if not owners and key in map(discovery.normalized, discovery.ours()):
        owners = ["hookloop's own collection"]
    if owners:
        message = f"The callback {name!r} is already one of {' and '.join(owners)}."
        fix = f"another name: of two callbacks of one name neither can be chosen as {name!r}"
        raise ArgumentError(message, fix=fix)


def _words(name: str, author: str | None) -> dict[str, str]:
    """What stands in the scaffolds, and what is written in its place."""
    from datetime import date

    major, minor = __version__.split(".")[:2]
    dashed = name.replace("_", "-")
    return {
        "my_callback": name,
        "my-callback": dashed,
        "MyCallback": _camel(name),
        "THE_RANGE": f">={major}.{minor},<{major}.{int(minor) + 1}",
        "THE_AUTHOR": author or f"The authors of hookloop-{dashed}",
        "THE_YEAR": str(date.today().year),
    }


def _camel(name: str) -> str:
    return "".join(part[:1].upper() + part[1:] for part in name.split("_"))


def _replaced(text: str, words: dict[str, str]) -> str:
    return re.sub("|".join(words), lambda found: words[found[0]], text)


def _text(source: str) -> str:
    from importlib import resources

    if not source:
        return ""
    return (resources.files("hookloop") / "scaffolds" / source).read_text(encoding="utf-8")
