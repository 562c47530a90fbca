"""The command line, as a user runs it: in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hookloop import __version__
from hookloop.cli import main
from hookloop.discovery import Plugin
from hookloop.probe import probe

GOOD = """
    from hookloop import Callback, hookimpl


    class Good(Callback):
        \"\"\"Counts what it sees.

        Longer words on that.

        Args:
            path: Where to write, in ``CSV``.
            every: Epochs between two rows,
                counted from the first.
            words: What to say.

        Attributes:
            seen: Epochs so far.

        Raises:
            ValueError: Never.
        \"\"\"

        observer = True

        def __init__(self, path: str, every: int = 3, *, words: str | None = "a, b") -> None:
            self.seen = 0

        @hookimpl(trylast=True)
        def on_epoch_end(self, epoch):
            self.seen += 1

        def on_train_begin(self):
            pass

        def state_dict(self):
            \"\"\"the number of epochs\"\"\"
            return {"seen": self.seen}
"""
README = """# good

```python
print("an example")
```

| setting | meaning | unit | default |
|---|---|---|---|
| `path` | where | | |
| `every` | rows | epochs | `3` |

**State saved:** the `seen` epochs,
and no more.

Other words.
"""


def install(
    place: Path,
    distribution: str,
    entry: str,
    *,
    module: str = "",
    readme: str = "",
    metadata: bool = True,
) -> None:
    """Make what pip leaves behind: metadata with one entry point, and one module."""
    info = place / f"{distribution}-1.5.dist-info"
    info.mkdir(parents=True)
    (info / "entry_points.txt").write_text(f"[hookloop.callbacks]\n{entry}\n")
    if metadata:
        head = f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.5\n"
        (info / "METADATA").write_text(f"{head}\n{readme}")
    name = entry.partition("=")[2].partition(":")[0].strip()
    (place / f"{name}.py").write_text(textwrap.dedent(module))


def hookloop(*words: str, place: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run the command with a folder of further distributions."""
    return subprocess.run(
        [sys.executable, "-m", "hookloop.cli", *words],
        env={**os.environ, "PYTHONPATH": str(place or ""), "COLUMNS": "80"},
        capture_output=True,
        text=True,
        check=False,
    )


def rows(done: subprocess.CompletedProcess[str], distribution: str) -> list[dict[str, object]]:
    return [row for row in json.loads(done.stdout) if row["distribution"] == distribution]


# -- hookloop ----------------------------------------------------------------------------


def test_the_installed_script_tells_its_version() -> None:
    """What pip puts on the path is this command."""
    script = Path(sys.executable).with_name("hookloop")
    done = subprocess.run([script, "--version"], capture_output=True, text=True, check=True)
    assert done.stdout == f"hookloop {__version__}\n"


def test_without_a_command_the_commands_are_shown() -> None:
    """Whoever types the bare name sees what there is to type."""
    done = hookloop()
    assert done.returncode == 0
    assert [w in done.stdout for w in ("list", "info", "demo")] == [True] * 3


def test_an_unknown_command_is_refused_with_status_2() -> None:
    """A slip of the finger is no traceback."""
    done = hookloop("lst")
    assert done.returncode == 2
    assert "invalid choice: 'lst'" in done.stderr


def test_nobody_reading_is_no_traceback() -> None:
    """``hookloop list | head`` ends quietly."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            [sys.executable, "-m", "hookloop.cli", "list"],
            stdout=writer,
            stderr=subprocess.PIPE,
            check=False,
        )
    finally:
        os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


# -- hookloop list -------------------------------------------------------------------------


def test_list_shows_name_distribution_version_object_and_status(tmp_path: Path) -> None:
    """One line for each callback, without importing it: its module does not even exist."""
    install(tmp_path, "zz_dist", "zz_last = zz_module:Class")
    (tmp_path / "zz_module.py").unlink()
    done = hookloop("list", place=tmp_path)
    lines = [line.split() for line in done.stdout.splitlines()]
    assert lines[0] == ["NAME", "DISTRIBUTION", "VERSION", "OBJECT", "STATUS"]
    assert lines[-1] == ["zz_last", "zz_dist", "1.5", "zz_module:Class", "ok"]
    assert ["history", "hookloop", __version__, "hookloop.history:History", "ok"] in lines
    assert (done.returncode, done.stderr) == (0, "")


def test_list_as_json_has_the_same_fields(tmp_path: Path) -> None:
    """What scripts read."""
    install(tmp_path, "zz_dist", "zz_last = zz_module:Class")
    assert rows(hookloop("list", "--json", place=tmp_path), "zz_dist") == [
        {
            "name": "zz_last",
            "distribution": "zz_dist",
            "version": "1.5",
            "object": "zz_module:Class",
            "status": "ok",
        }
    ]


@pytest.mark.reliability("J4")
def test_list_imports_neither_torch_nor_numpy_nor_pluggy_nor_a_plugin(tmp_path: Path) -> None:
    """It answers in the time that Python and the scan of the metadata take."""
    install(tmp_path, "zz_dist", "zz_last = zz_module:Class")
    code = """
        import sys
        from hookloop.cli import main
        main(["list"])
        heavy = ("torch", "numpy", "pluggy", "zz_module", "hookloop_early_stopping", "subprocess")
        print("imported:", [name for name in heavy if name in sys.modules])
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.splitlines()[-1] == "imported: []"


def test_list_shows_two_owners_of_a_name(tmp_path: Path) -> None:
    """Both are there, each marked; without ``--check`` that is no failure."""
    install(tmp_path, "one_dist", "zz_same = one_module:Class")
    install(tmp_path, "two_dist", "zz-same = two_module:Class")
    done = hookloop("list", place=tmp_path)
    shown = [line for line in done.stdout.splitlines() if "_dist" in line]
    assert [line.endswith("ambiguous: 2 owners") for line in shown] == [True, True]
    assert done.returncode == 0


def test_list_of_some_names_shows_these_alone(tmp_path: Path) -> None:
    """In any spelling."""
    install(tmp_path, "zz_dist", "zz_last = zz_module:Class")
    found = json.loads(hookloop("list", "--json", "ZZ-Last", "history", place=tmp_path).stdout)
    assert [row["name"] for row in found] == ["zz_last", "history"]


def test_list_of_a_name_that_is_not_there_is_refused() -> None:
    """As everywhere else: with what is near."""
    done = hookloop("list", "histroy")
    assert done.returncode == 2
    assert "Did you mean 'history'?" in done.stderr


def test_list_survives_a_distribution_without_metadata(tmp_path: Path) -> None:
    """It goes by the name of its folder."""
    install(tmp_path, "torn_dist", "zz_torn = torn_module:Class", metadata=False)
    done = hookloop("list", place=tmp_path)
    (line,) = (line for line in done.stdout.splitlines() if "torn" in line)
    assert line.split() == ["zz_torn", "torn_dist", "-", "torn_module:Class", "damaged", "metadata"]


@pytest.mark.parametrize(
    "content",
    [b"[hookloop.callbacks]\nno equals sign\n", b"[hookloop.callbacks]\n\xff\xfe = a:b\n"],
)
def test_list_survives_entry_points_that_cannot_be_read(tmp_path: Path, content: bytes) -> None:
    """One damaged installation matters to nobody else."""
    install(tmp_path, "torn_dist", "zz_torn = torn_module:Class")
    (tmp_path / "torn_dist-1.5.dist-info" / "entry_points.txt").write_bytes(content)
    done = hookloop("list", place=tmp_path)
    assert "hookloop.history:History" in done.stdout
    assert (done.returncode, done.stderr) == (0, "")


def test_list_fits_a_terminal_of_80_columns(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """There the objects are left out, which ``--json`` has; a pipe gets all."""
    monkeypatch.setenv("COLUMNS", "80")
    assert main(["list"]) == 0
    piped = capsys.readouterr().out.splitlines()
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    assert main(["list"]) == 0
    shown = capsys.readouterr().out.splitlines()
    assert piped[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "OBJECT", "STATUS"]
    assert shown[0].split() == ["NAME", "DISTRIBUTION", "VERSION", "STATUS"]
    assert len(shown) == len(piped)
    assert max(map(len, shown)) <= 80


# -- hookloop list --check -----------------------------------------------------------------


def test_check_adds_hooks_and_import_time(tmp_path: Path) -> None:
    """In the order in which a run calls them."""
    install(tmp_path, "good_dist", "zz_good = good_module:Good", module=GOOD)
    done = hookloop("list", "--check", "--json", "zz_good", place=tmp_path)
    (row,) = rows(done, "good_dist")
    assert row["hooks"] == ["on_train_begin", "on_epoch_end"]
    assert isinstance(row["import_seconds"], float)
    assert (row["status"], row["problem"]) == ("ok", None)


def test_check_finds_what_cannot_be_imported(tmp_path: Path) -> None:
    """The sentence names the callback, the distribution and the missing module; status 1."""
    install(tmp_path, "bad_dist", "zz_bad = bad_module:Bad", module="import no_such_module")
    done = hookloop("list", "--check", "zz_bad", place=tmp_path)
    assert done.returncode == 1
    assert done.stdout.split("\n\n")[1] == (
        "broken: The callback 'zz_bad' of bad_dist 1.5 (bad_module:Bad) cannot be imported: "
        "ModuleNotFoundError: No module named 'no_such_module'\n"
        "fix: pip install no_such_module (the missing module), or pip install --upgrade bad_dist\n"
    )


def test_check_calls_two_owners_a_failure(tmp_path: Path) -> None:
    """Each says how it is named without doubt."""
    for who in ("one", "two"):
        install(tmp_path, f"{who}_dist", f"zz_good = {who}_module:Good", module=GOOD)
    done = hookloop("list", "--check", "zz_good", place=tmp_path)
    assert done.returncode == 1
    assert "fix: name this one as one_dist/zz_good" in done.stdout
    assert "fix: name this one as two_dist/zz_good" in done.stdout


def test_check_calls_damaged_metadata_a_failure(tmp_path: Path) -> None:
    """Also where the callback itself would work."""
    install(tmp_path, "torn_dist", "zz_good = torn_module:Good", module=GOOD, metadata=False)
    done = hookloop("list", "--check", "zz_good", place=tmp_path)
    assert done.returncode == 1
    assert "fix: pip install --force-reinstall torn_dist" in done.stdout


@pytest.mark.parametrize(
    ("module", "timeout", "problem"),
    [
        ("import os; os._exit(7)", 60, "ends the process that imports it, with status 7"),
        ("raise SystemExit(3)", 60, "cannot be imported: SystemExit: 3"),
        ("import threading; threading.Event().wait()", 0.5, "was not imported within 0.5 seconds"),
        ("Class = 3", 60, "is a int, which cannot make a callback"),
        ("class Class:\n    def on_epoch_edn(self): ...", 60, "Did you mean 'on_epoch_end'?"),
    ],
    ids=["exits", "raises-exit", "hangs", "no-class", "misspelt-hook"],
)
def test_a_probe_survives_any_plugin(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, timeout: float, problem: str
) -> None:
    """What is wrong comes back as a sentence with a fix, whatever the module does."""
    (tmp_path / "odd_module.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = probe(Plugin("zz_odd", "odd_dist", "1.5", "odd_module:Class"), timeout)
    assert found.problem is not None
    assert problem in found.problem
    assert "\nfix: " in found.problem


def test_a_probe_is_not_confused_by_what_a_plugin_prints(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor does a thread that never ends keep it waiting."""
    noise = """
        import os, threading
        print("{}")
        os.write(1, b"noise")
        threading.Thread(target=threading.Event().wait).start()
    """
    module = textwrap.dedent(noise) + textwrap.dedent(GOOD)
    (tmp_path / "loud_module.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    found = probe(Plugin("zz_loud", "loud_dist", "1.5", "loud_module:Good"), 60)
    assert (found.problem, found.hooks) == (None, ["on_train_begin", "on_epoch_end"])


# -- hookloop info -------------------------------------------------------------------------


def test_info_shows_what_a_callback_is(tmp_path: Path) -> None:
    """All that a user asks: what it does, settings, hooks, failure, state, an example."""
    install(tmp_path, "good_dist", "zz_good = good_module:Good", module=GOOD, readme=README)
    done = hookloop("info", "zz-good", place=tmp_path)
    assert done.stdout == textwrap.dedent("""\
        zz_good  (good_dist 1.5, good_module:Good)

        Counts what it sees.

        Longer words on that.

        Settings
          path: str (required)
              Where to write, in CSV.
          every: int = 3  [epochs]
              Epochs between two rows, counted from the first.
          words: str | None = 'a, b'
              What to say.

        Hooks
          on_train_begin, on_epoch_end (trylast)

        If it fails
          it is turned off, and training goes on

        State it saves
          the seen epochs, and no more.

        Attributes
          seen
              Epochs so far.

        By name
          callbacks=["zz_good:path=..."]
          --callback zz_good:path=...

        Example
          print("an example")
    """)
    assert (done.returncode, done.stderr) == (0, "")


def test_info_of_a_callback_without_a_readme(tmp_path: Path) -> None:
    """State is told by ``state_dict`` itself, and no example is invented."""
    install(tmp_path, "good_dist", "zz_good = good_module:Good", module=GOOD)
    shown = hookloop("info", "zz_good", place=tmp_path).stdout
    assert "State it saves\n  the number of epochs\n" in shown
    assert "Example" not in shown


def test_info_of_an_object_that_is_not_packaged(tmp_path: Path) -> None:
    """``package.module:Class`` is described like any other."""
    (tmp_path / "loose_module.py").write_text(textwrap.dedent(GOOD))
    shown = hookloop("info", "loose_module:Good", place=tmp_path).stdout
    assert shown.startswith("Good  (not packaged, loose_module:Good)\n")
    assert '  callbacks=["loose_module:Good:path=..."]\n' in shown


def test_info_as_json(tmp_path: Path) -> None:
    """The same, for scripts."""
    install(tmp_path, "good_dist", "zz_good = good_module:Good", module=GOOD, readme=README)
    found = json.loads(hookloop("info", "zz_good", "--json", place=tmp_path).stdout)
    assert found["settings"][1] == {
        "name": "every",
        "type": "int",
        "default": "3",
        "unit": "epochs",
        "meaning": "Epochs between two rows, counted from the first.",
    }
    assert found["hooks"] == [
        {"name": "on_train_begin", "order": ""},
        {"name": "on_epoch_end", "order": "trylast"},
    ]
    assert found["example"] == 'print("an example")\n'


def test_info_of_core_itself_takes_no_example_from_its_readme(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """That README is about all of hookloop, not about one of its callbacks."""
    assert main(["info", "base_logger"]) == 0
    shown = capsys.readouterr().out
    assert "Averages what batches report" in shown
    assert "Example" not in shown


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("bse_logger", "Did you mean 'base_logger'?"),
        ("no_such_dist/history", "hookloop provides one.\nfix: hookloop/history"),
        ("no_such_module:Class", "No module named 'no_such_module'"),
        ("", "'' names no callback."),
    ],
    ids=["near-miss", "wrong-owner", "no-module", "empty"],
)
def test_info_of_what_is_not_there_is_a_sentence_with_a_fix(
    capsys: pytest.CaptureFixture[str], name: str, said: str
) -> None:
    """On standard error, with status 2 and no traceback."""
    assert main(["info", name]) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.startswith("hookloop: ")
    assert said in shown.err
    assert "\nfix: " in shown.err


def test_info_shows_settings_that_the_docstring_tells_of_together(tmp_path: Path) -> None:
    """``**group`` in the docstring stands below the settings that it is about."""
    module = """
        class Grouped:
            \"\"\"Does much::

                like this

            Args:
                **group: What all of them mean.
            \"\"\"

            def __init__(self, *, one=None): ...
            def on_epoch_end(self): ...
    """
    (tmp_path / "group_module.py").write_text(textwrap.dedent(module))
    shown = hookloop("info", "group_module:Grouped", place=tmp_path).stdout
    assert "Does much:\n\n    like this\n" in shown
    assert "Settings\n  one = None\n  **group\n      What all of them mean.\n" in shown
