"""What bad input gets: for each mistake in choosing or writing a callback, the whole sentence.

Every text says what was asked and what was found, and ends with a line that says what to do. All
of it is found before training starts.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import hookloop
from hookloop import Callback, CallbackList, HookloopError, discovery, hookimpl

Bad = Callable[[], Any]

PLUGINS = {
    # distribution: (entry point, module, its source)
    "acme-ema": (
        "ema = acme_ema:Ema",
        "acme_ema",
        "from hookloop import Callback\n"
        "class Ema(Callback):\n"
        "    def __init__(self, decay: float = 0.9, every: int = 1): ...\n",
    ),
    "one-twin": ("twin = one_twin:Twin", "one_twin", ""),
    "two-twin": ("twin = two_twin:Twin", "two_twin", ""),
    "acme-broken": ("broken = acme_broken:Broken", "acme_broken", "1 / 0\n"),
    "acme-exits": ("exits = acme_exits:Exits", "acme_exits", "raise SystemExit('no licence')\n"),
    "acme-lacks": ("lacks = acme_lacks:Lacks", "acme_lacks", "import absent_module.inner\n"),
    "acme-gone": ("gone = acme_gone:Gone", None, ""),
    "acme-renamed": ("renamed = acme_renamed:Old", "acme_renamed", "class New: ...\n"),
    "acme-number": ("number = acme_number:N", "acme_number", "N = 3\n"),
    "acme-list": ("list = acme_list:make", "acme_list", "def make(): return []\n"),
    "acme-needs": (
        "needs = acme_needs:Needs",
        "acme_needs",
        "from hookloop import Callback\n"
        "class Needs(Callback):\n"
        "    def __init__(self, filename: str): ...\n",
    ),
    "acme-range": (
        "range = acme_range:Range",
        "acme_range",
        "from hookloop import Callback\n"
        "class Range(Callback):\n"
        "    def __init__(self, factor=0.5):\n"
        "        if factor >= 1: raise ValueError('factor has to be below 1')\n",
    ),
}


@pytest.fixture(autouse=True)
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Exactly the distributions above, and hookloop itself, with two extras of its own."""
    for name, (point, module, source) in {
        **PLUGINS,
        "hookloop": ("history = hookloop.history:History", None, ""),
    }.items():
        info = tmp_path / f"{name.replace('-', '_')}-1.5.dist-info"
        info.mkdir()
        extras = "Provides-Extra: csv-logger\nProvides-Extra: all\nProvides-Extra: in-lightning\n"
        (info / "METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.5\n{extras}"
        )
        (info / "entry_points.txt").write_text(f"[hookloop.callbacks]\n{point}\n")
        if module is not None:
            (tmp_path / f"{module}.py").write_text(source)
    loaded = set(sys.modules)
    monkeypatch.setattr(sys, "path", [str(tmp_path), *(p for p in sys.path if not _has_ours(p))])
    discovery.scan.cache_clear()
    yield
    for name in {
        name for name in sys.modules if name.startswith(("acme", "one_", "two_"))
    } - loaded:
        del sys.modules[name]
    monkeypatch.undo()
    discovery.scan.cache_clear()


def _has_ours(folder: str) -> bool:
    return any(Path(folder).glob("hookloop*.*-info"))  # .egg-info is of an editable install


# -- mistakes in choosing ---------------------------------------------------------------


INSTALLED = (
    "Installed: broken, ema, exits, gone, history, lacks, list, needs, number, range, renamed, "
    "twin."
)
LOOK = "correct the name, or pip install the distribution that provides it (see: hookloop list)"

CHOOSING: dict[str, tuple[Any, str]] = {
    "unknown name": (
        "zzz",
        f"No callback 'zzz' is installed. {INSTALLED}\nfix: {LOOK}",
    ),
    "near miss": (
        "emma",
        f"No callback 'emma' is installed. Did you mean 'ema'? {INSTALLED}\nfix: {LOOK}",
    ),
    "near miss of one of ours": (
        "csv_loger",
        f"No callback 'csv_loger' is installed. Did you mean 'csv_logger'? {INSTALLED}"
        f"\nfix: {LOOK}",
    ),
    "one of ours that is not installed": (
        "CSVLogger:filename=x.csv",
        "The callback 'CSVLogger' is not installed; it is one of hookloop's own."
        "\nfix: pip install hookloop-csv-logger",
    ),
    "two owners": (
        "twin",
        "The callback 'twin' is provided by one-twin 1.5 and two-twin 1.5."
        "\nfix: one-twin/twin or two-twin/twin",
    ),
    "another owner": (
        "one-twin/ema",
        "No callback 'ema' of one-twin is installed; acme-ema provides one.\nfix: acme-ema/ema",
    ),
    "broken import": (
        "broken",
        "The callback 'broken' of acme-broken 1.5 (acme_broken:Broken) cannot be imported: "
        "ZeroDivisionError: division by zero\nfix: pip install --upgrade acme-broken",
    ),
    "import that exits": (
        "exits",
        "The callback 'exits' of acme-exits 1.5 (acme_exits:Exits) cannot be imported: "
        "SystemExit: no licence\nfix: pip install --upgrade acme-exits",
    ),
    "missing dependency": (
        "lacks",
        "The callback 'lacks' of acme-lacks 1.5 (acme_lacks:Lacks) cannot be imported: "
        "ModuleNotFoundError: No module named 'absent_module'"
        "\nfix: pip install absent_module (the missing module), or "
        "pip install --upgrade acme-lacks",
    ),
    "its own module is missing": (
        "gone",
        "The callback 'gone' of acme-gone 1.5 (acme_gone:Gone) cannot be imported: "
        "ModuleNotFoundError: No module named 'acme_gone'\nfix: pip install --upgrade acme-gone",
    ),
    "its object is missing": (
        "renamed",
        "The callback 'renamed' of acme-renamed 1.5 (acme_renamed:Old) cannot be imported: "
        "AttributeError: module 'acme_renamed' has no attribute 'Old'"
        "\nfix: pip install --upgrade acme-renamed",
    ),
    "its object makes nothing": (
        "number",
        "The callback 'number' of acme-number 1.5 (acme_number:N) is a int, which cannot make a "
        "callback.\nfix: name a class, or a function that returns a callback",
    ),
    "it makes no callback": (
        "list",
        "A list stands inside the list of callbacks.\nfix: pass one flat list, as in "
        "[*first, *second]",
    ),
    "nothing of that module": (
        "absent_module:Thing",
        "The callback 'absent_module:Thing' cannot be imported: ModuleNotFoundError: No module "
        "named 'absent_module'"
        "\nfix: correct the name, or pip install what provides the module 'absent_module'",
    ),
    "unknown setting": (
        "ema:dekay=0.5",
        "ema has no setting 'dekay'. Did you mean 'decay'?\nfix: its settings are: decay, every",
    ),
    "missing setting": (
        "needs",
        "needs needs the setting 'filename'.\nfix: write \"needs:filename=...\"",
    ),
    "ill-typed setting": (
        "ema:every=often",
        "ema: every='often' is a str, not int.\nfix: pass every as int",
    ),
    "ill-typed setting as data": (
        {"ema": {"decay": "0.5"}},
        "ema: decay='0.5' is a str, not float.\nfix: pass decay as float",
    ),
    "setting out of range": (
        "range:factor=2",
        "range refused its settings (factor=2): factor has to be below 1"
        "\nfix: see: hookloop info range",
    ),
    "settings that are none": (
        {"ema": 3},
        'The settings of \'ema\' are 3, not names with values.\nfix: {"ema": {"setting": value}}',
    ),
    "settings beside the name": (
        {"name": "ema", "decay": 0.5},
        "The settings of 'name' are 'ema', not names with values."
        '\nfix: {"ema": {"decay": 0.5}}',
    ),
    "pair with a number": (
        ("ema", 0.5),
        'The pair (\'ema\', 0.5) needs a mapping after the name.\nfix: ("ema", {"setting": value})',
    ),
    "pair with a number in a list": (
        [("ema", 0.5)],
        'The pair (\'ema\', 0.5) needs a mapping after the name.\nfix: ("ema", {"setting": value})',
    ),
    "class after a dot": (
        "__main__.NB",
        f"No callback '__main__.NB' is installed. {INSTALLED}"
        '\nfix: write "__main__:NB" for the class NB of the module __main__',
    ),
    "settings without names": (
        ("ema", {1: 2}),
        "The settings of 'ema' are {1: 2}, not names with values."
        '\nfix: {"ema": {"setting": value}}',
    ),
    "setting without a name": (
        "ema:3",
        "'ema:3': '3' is no setting."
        '\nfix: settings are written name=value, as in "ema:name=value"',
    ),
    "comma in a bare value": (
        "needs:filename=a,b.csv",
        "'needs:filename=a,b.csv': 'b.csv' is no setting."
        "\nfix: write name=value, and quote a value that holds a comma: filename='a,b.csv'",
    ),
    "class for instance": (
        Callback,
        "Callback is a class, not an instance.\nfix: write Callback(...)",
    ),
    "nested list": (
        [[Callback()]],
        "A list stands inside the list of callbacks."
        "\nfix: pass one flat list, as in [*first, *second]",
    ),
    "nested tuple": (
        [("history", "history")],
        "A tuple stands inside the list of callbacks."
        "\nfix: pass one flat list, as in [*first, *second]",
    ),
    "None": (
        None,
        "None is no callback.\nfix: leave it out, or pass callbacks=[]",
    ),
    "None in a list": (
        [None],
        "None is no callback.\nfix: leave it out, or pass callbacks=[]",
    ),
    "something else": (
        3,
        "3 is no callback: a int without any hook method."
        "\nfix: pass a name, an instance, or an object with hooks",
    ),
}


@pytest.mark.parametrize(("items", "text"), CHOOSING.values(), ids=CHOOSING)
def test_a_mistake_in_choosing_gets_its_sentence(items: Any, text: str) -> None:
    """The same wherever callbacks are accepted."""
    with pytest.raises(HookloopError) as caught:
        hookloop.load_callbacks(items)
    assert str(caught.value) == text


# -- mistakes in writing ---------------------------------------------------------------


def sub(**members: Any) -> Any:
    """A callback of a class with these members."""
    return type("Mine", (Callback,), members)()


async def coroutine(self: Any) -> None: ...


async def async_generator(self: Any) -> Any:
    yield


def generator(self: Any) -> Any:
    yield


def plain(self: Any) -> None: ...


class BothPlain:
    def on_batch_end(self) -> None: ...

    def on_train_batch_end(self) -> None: ...


class MisspeltPlain:
    def on_epoch_ends(self) -> None: ...


SPELL = (
    "spell it as one of the hooks, begin it with an underscore if it is a helper, or mark it with "
    "@hookloop.hookimpl(optionalhook=True) if another plugin brings it"
)

WRITING: dict[str, tuple[Any, str]] = {
    "misspelt hook": (
        sub(on_epoch_ends=plain),
        f"mine: on_epoch_ends is no hook. Did you mean 'on_epoch_end'?\nfix: {SPELL}",
    ),
    "misspelt hook of a foreign class": (
        MisspeltPlain(),
        f"misspelt_plain: on_epoch_ends is no hook. Did you mean 'on_epoch_end'?\nfix: {SPELL}",
    ),
    "marked helper": (
        sub(epoch_end=hookimpl(plain)),
        f"mine: epoch_end is no hook. Did you mean 'on_epoch_end'?\nfix: {SPELL}",
    ),
    "no self": (
        sub(on_epoch_end=lambda epoch, logs: None),
        "mine: Mine.on_epoch_end does not take self.\nfix: def on_epoch_end(self, ...)",
    ),
    "no self and nothing else": (
        sub(on_train_begin=lambda: None),
        "mine: Mine.on_train_begin does not take self.\nfix: def on_train_begin(self, ...)",
    ),
    "unknown argument": (
        sub(on_epoch_end=lambda self, epok: None),
        "mine: Mine.on_epoch_end asks for 'epok', which on_epoch_end does not have. Did you mean "
        "'epoch'?\nfix: take any of: loop, epoch, logs",
    ),
    "unknown argument with a default": (
        sub(on_epoch_end=lambda self, epoch, log=None: None),
        "mine: Mine.on_epoch_end asks for 'log', which on_epoch_end does not have. Did you mean "
        "'logs'?\nfix: take any of: loop, epoch, logs",
    ),
    "unknown keyword-only argument": (
        sub(on_train_begin=lambda self, *, epoch=0: None),
        "mine: Mine.on_train_begin asks for 'epoch', which on_train_begin does not have."
        "\nfix: take any of: loop, logs, or read self.loop.epoch",
    ),
    "only *args": (
        sub(on_epoch_end=lambda self, *args: None),
        "mine: Mine.on_epoch_end takes *args, but hooks are called by name."
        "\nfix: take any of: loop, epoch, logs, or **kwargs",
    ),
    "both spellings": (
        sub(on_batch_end=plain, on_train_batch_end=plain),
        "mine: on_train_batch_end and on_batch_end are two spellings of one hook."
        "\nfix: keep on_train_batch_end and delete the other",
    ),
    "both spellings in a foreign class": (
        BothPlain(),
        "both_plain: on_train_batch_end and on_batch_end are two spellings of one hook."
        "\nfix: keep on_train_batch_end and delete the other",
    ),
    "property": (
        sub(on_epoch_end=property(lambda self: 3)),
        "mine: Mine.on_epoch_end is a int, not a method."
        "\nfix: make it a method, or None if the hook is not implemented",
    ),
    "value": (
        sub(on_epoch_end="later"),
        "mine: Mine.on_epoch_end is a str, not a method."
        "\nfix: make it a method, or None if the hook is not implemented",
    ),
    "coroutine": (
        sub(on_epoch_end=coroutine),
        "mine: Mine.on_epoch_end is a coroutine, which nobody awaits.\nfix: use def, not async def",
    ),
    "async generator": (
        sub(on_epoch_end=async_generator),
        "mine: Mine.on_epoch_end is a coroutine, which nobody awaits.\nfix: use def, not async def",
    ),
    "generator": (
        sub(on_epoch_end=generator),
        "mine: Mine.on_epoch_end is a generator, so calling it would run nothing of it."
        "\nfix: remove `yield`, or mark it @hookloop.hookimpl(wrapper=True)",
    ),
    "wrapper that never yields": (
        sub(on_epoch_end=hookimpl(wrapper=True)(lambda self: None)),
        "mine: Mine.on_epoch_end is a wrapper that never yields.\nfix: `return (yield)` in it",
    ),
    "hooks of its own that are none": (
        sub(hookspecs=SimpleNamespace(on_saved=plain)),
        "mine: `hookspecs` of Mine specifies no hook."
        "\nfix: decorate its functions with @hookloop.hookspec",
    ),
}


@pytest.mark.parametrize(("callback", "text"), WRITING.values(), ids=WRITING)
def test_a_mistake_in_writing_a_callback_gets_its_sentence(callback: Any, text: str) -> None:
    """Before training starts."""
    with pytest.raises(HookloopError) as caught:
        CallbackList(callback, model=None).on_train_begin()
    assert str(caught.value) == text


# -- paths ---------------------------------------------------------------


def bad_template() -> None:
    from hookloop.templates import PathTemplate

    PathTemplate("model.{epoch:02q}.pt")


def missing_brace() -> None:
    from hookloop.templates import PathTemplate

    PathTemplate("model.{epoch.pt")


def through_a_file() -> None:
    from hookloop.files import prepare
    from hookloop.loop import Loop

    Path("file").write_text("")
    prepare("file/model.pt", Loop(model=None), "model_checkpoint")


def twice() -> None:
    from hookloop.files import prepare
    from hookloop.loop import Loop

    loop = Loop(model=None)
    prepare("log.csv", loop, "csv_logger")
    prepare("log.csv", loop, "csv_logger#2")


def on_a_folder() -> None:
    from hookloop.files import prepare
    from hookloop.loop import Loop

    Path("runs").mkdir()
    prepare("runs", Loop(model=None), "model_checkpoint")


PATHS: dict[str, tuple[Bad, str]] = {
    "template with a bad format": (
        bad_template,
        "The path template 'model.{epoch:02q}.pt' cannot be formatted: {epoch:02q}: Unknown format "
        "code 'q' for object of type 'int'."
        "\nfix: write {epoch:02d} for a counter, {val_loss:.2f} for a number",
    ),
    "template with an open brace": (
        missing_brace,
        "The path template 'model.{epoch.pt' cannot be formatted: expected '}' before end of "
        "string.\nfix: close every brace, and write {{ for a brace",
    ),
    "folder that cannot be made": (
        through_a_file,
        "file/model.pt cannot be written: File exists."
        "\nfix: choose a folder: a part of the path is a file",
    ),
    "folder in place of a file": (
        on_a_folder,
        "runs cannot be written: Is a directory.\nfix: choose a file name: this path is a folder",
    ),
    "two callbacks with one path": (
        twice,
        "csv_logger#2 and csv_logger both write log.csv.\nfix: give each a path of its own",
    ),
}


@pytest.mark.parametrize(("act", "text"), PATHS.values(), ids=PATHS)
def test_a_path_that_cannot_be_written_gets_its_sentence(
    act: Bad, text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """When the callback is made, or when the run starts."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    with pytest.raises(HookloopError) as caught:
        act()
    assert str(caught.value) == text


def test_an_unwritable_folder_is_refused_before_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the system refuses it; here by a disk that may not be written to."""
    import errno
    import os

    from hookloop import files
    from hookloop.loop import Loop

    class ReadOnly(files.Disk):
        def open(self, path: Path) -> Any:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(files, "disk", ReadOnly())
    path = tmp_path / "model.pt"
    with pytest.raises(HookloopError) as caught:
        files.prepare(path, Loop(model=None), "model_checkpoint")
    assert str(caught.value) == (
        f"{path} cannot be written: Permission denied.\nfix: choose a folder that you may write to"
    )


def test_errors_are_also_of_the_kinds_that_python_code_expects() -> None:
    """``except ValueError`` around a bad setting works, and so does ``except ImportError``."""
    from hookloop import errors

    bases = {
        errors.SelectionError: ValueError,
        errors.UnknownCallbackError: LookupError,
        errors.PluginImportError: ImportError,
        errors.SettingError: TypeError,
        errors.HookError: TypeError,
        errors.ArgumentError: ValueError,
        errors.FileError: OSError,
    }
    assert all(issubclass(error, base) for error, base in bases.items())
    ours = [e for e in vars(errors).values() if isinstance(e, type) and issubclass(e, Exception)]
    assert all(issubclass(error, HookloopError) for error in ours)
