"""Discovery: what is installed is read without importing it, and nothing broken gets in the way."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Iterator
from importlib import metadata
from pathlib import Path

import pytest

from hookloop import HookloopError, available, discovery, load_callbacks
from hookloop.cli import main
from hookloop.defaults import with_bar
from hookloop.discovery import Plugin, installed, plugin_of, scan

Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Install]:
    """Make distributions: folders with metadata on the path, as pip makes them."""
    monkeypatch.syspath_prepend(tmp_path)
    loaded = set(sys.modules)

    def install(folder: str, points: str | bytes, metadata: str | bytes | None = "") -> None:
        info = tmp_path / f"{folder}.dist-info"
        info.mkdir()
        name, version = folder.split("-")
        if metadata == "":
            metadata = (
                f"Metadata-Version: 2.1\nName: {name.replace('_', '-')}\nVersion: {version}\n"
            )
        for file, text in (("METADATA", metadata), ("entry_points.txt", points)):
            if text is not None:
                (info / file).write_bytes(text.encode() if isinstance(text, str) else text)
        scan.cache_clear()

    yield install
    for name in set(sys.modules) - loaded:
        del sys.modules[name]
    monkeypatch.undo()
    scan.cache_clear()


def points(line: str) -> str:
    return f"[hookloop.callbacks]\n{line}\n"


def test_installed_callbacks_are_listed_without_importing_any(install: Install) -> None:
    """Name as its owner writes it, and who that is."""
    install("acme_ema-1.2", points("My-Ema = not_there:Ema"))
    assert available()["My-Ema"] == [Plugin("My-Ema", "acme-ema", "1.2", "not_there:Ema")]


def test_a_process_looks_through_all_distributions_once(
    install: Install, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """For the list, for each name, for the progress bar, for commands, and for a wrong name."""
    install("acme_ema-1.2", points("ema = not_there:Ema"))
    scans: list[int] = []
    real = metadata.distributions

    def counted() -> Iterable[metadata.Distribution]:
        scans.append(1)
        return real()

    monkeypatch.setattr(metadata, "distributions", counted)
    main(["list"])
    for words in (["nothing"], ["--help"]):
        with pytest.raises(SystemExit):
            main(words)
    load_callbacks(["history", "early_stopping", "csv_logger:filename=log.csv"])
    with_bar([], "auto")
    with pytest.raises(HookloopError):
        load_callbacks("early_stoping")

    assert "ema " in capsys.readouterr().out
    assert scans == [1]


def test_the_core_s_own_are_always_there() -> None:
    """By the same way as any other."""
    plugin = available()["history"][0]
    assert (plugin.distribution, plugin.object) == ("hookloop", "hookloop.history:History")


@pytest.mark.reliability("J2")
def test_two_owners_are_both_listed(install: Install) -> None:
    """Only whoever names it has to decide."""
    install("one-1.0", points("ema = a:A"))
    install("two-2.0", points("e_m_a = b:B"))
    assert [plugin.distribution for plugin in installed()["ema"]] == ["one", "two"]


def test_one_distribution_seen_twice_is_one_owner(install: Install) -> None:
    """As with an editable install beside its folder; the first on the path counts."""
    install("acme_ema-1.0", points("ema = a:A"))
    install("acme.ema-2.0", points("ema = b:B"))
    assert len(installed()["ema"]) == 1


def test_names_of_distributions_compare_as_pip_compares_them(install: Install) -> None:
    """``foo-bar`` is ``Foo.Bar`` and not ``foobar``."""
    install("foo_bar-1.0", points("ema = a:A"))
    install("foobar-1.0", points("ema = b:B"))
    assert len(installed()["ema"]) == 2
    assert discovery.find("ema", "Foo.Bar").object == "a:A"


BROKEN: list[tuple[str, str | bytes, str | bytes | None]] = [
    ("no_metadata-1.0", points("ema = a:A"), None),
    ("empty_metadata-1.0", points("ema = a:A"), "\n"),
    ("binary_metadata-1.0", points("ema = a:A"), b"\xff\xfe\x00"),
    ("no_equals-1.0", points("just some words"), ""),
    ("no_object-1.0", points("ema ="), ""),
    ("binary_points-1.0", b"[hookloop.callbacks]\n\xff = a:A\n", ""),
    ("no_section-1.0", "hookloop.callbacks\nema = a:A\n", ""),
    ("extras-1.0", points("ema = a:A [extra]"), ""),
]


@pytest.mark.parametrize(("folder", "lines", "metadata"), BROKEN, ids=[b[0] for b in BROKEN])
@pytest.mark.reliability("J3")
def test_a_damaged_installation_matters_to_nobody_else(
    install: Install, folder: str, lines: str | bytes, metadata: str | bytes | None
) -> None:
    """The others are listed and load; naming the damaged one is an error of ours."""
    install(folder, lines, metadata)
    install("good-1.0", points("good = hookloop.history:History"))
    assert {"good", "history"} <= set(available())
    assert discovery.find("good").load().__name__ == "History"
    with pytest.raises(HookloopError, match=r"\nfix: "):
        discovery.find("ema").load()


def test_an_installation_without_metadata_is_named_by_its_folder(install: Install) -> None:
    """So that errors about it say what to look for."""
    install("no_metadata-1.0", points("ema = a:A"), None)
    assert installed()["ema"][0].distribution == "no_metadata"


def test_a_class_is_known_by_its_entry_point_without_importing_others(install: Install) -> None:
    """An instance made by hand has the same name as one made by name."""
    from hookloop import History

    install("acme-1.0", points("other = not_there:Thing"))
    plugin = plugin_of(History)
    assert plugin is not None
    assert plugin.name == "history"
    assert plugin_of(dict) is None
    assert "not_there" not in sys.modules


def test_the_readme_of_an_editable_installation_is_that_of_its_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an installation copied is older than what its author is writing."""
    folder, info = tmp_path / "a folder", tmp_path / "place" / "edited-1.0.dist-info"
    folder.mkdir()
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: edited\nVersion: 1.0\n\nold\n")
    monkeypatch.syspath_prepend(info.parent)
    assert discovery.readme("edited") == "old\n"
    about = {"url": folder.as_uri(), "dir_info": {"editable": True}}
    (info / "direct_url.json").write_text(json.dumps(about))
    assert discovery.readme("edited") == "old\n"
    (folder / "README.md").write_text("new\n")
    assert discovery.readme("edited") == "new\n"
