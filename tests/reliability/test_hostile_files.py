"""Files that somebody could put in the place of saved ones: refused with a sentence, or harmless.

Whatever they hold, nothing of it runs, nothing is changed, and it takes neither long nor much room.
"""

from __future__ import annotations

import copy
import io
import json
import os
import random
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hostile
import pytest
import torch
from fuzzing import fuzz

import hookloop
from hookloop.checkpoints import load_checkpoint, load_state, save_state
from hookloop.errors import StateError

SEED = 20_26
#: How long the worst of them may take: on a quiet machine it is 0.4 s.
SECONDS = 10


@pytest.fixture(scope="module")
def states() -> list[dict[str, Any]]:
    return hostile.good_states()


@pytest.fixture(scope="module")
def good(states: list[dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A state in all formats; never written to."""
    folder = tmp_path_factory.mktemp("good") / "files"
    hostile.lay_out(folder, states[1])
    return folder


@pytest.fixture
def folder(good: Path, tmp_path: Path) -> Path:
    """A copy of it, to spoil."""
    return Path(shutil.copytree(good, tmp_path / "files"))


def judged(path: Path, good: dict[str, Any]) -> str:
    """Have it judged, within bounds of time and memory."""
    began, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    found = hostile.verdict(path, good)
    assert time.monotonic() - began < SECONDS
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 400_000  # kilobytes
    return found


def whole(folder: Path, file: str) -> Path:
    """Name what is loaded when a file is to be read: the folder of a state, or the file."""
    return folder / file.partition("/")[0]


def test_the_good_ones_are_loaded(folder: Path, states: list[dict[str, Any]]) -> None:
    """Or nothing that follows would show anything."""
    for name in (*hostile.STATES, *hostile.WEIGHTS):
        assert hostile.verdict(folder / name, states[1]) == "harmless"


@pytest.mark.reliability("C4", "C5", "H4")
@pytest.mark.parametrize("file", hostile.FILES)
def test_a_damaged_file_is_refused_or_harmless(
    folder: Path, file: str, states: list[dict[str, Any]]
) -> None:
    """Cut short, bits flipped, halves exchanged, emptied, doubled: 38 ways each, 228 in all."""
    print(f"{SEED=}")
    found = Counter[str]()
    path = folder / file
    original = path.read_bytes()
    for way, of, change in hostile.damaged(random.Random(SEED), each=12 - 1):
        if of == file:
            path.write_bytes(change(original))
            print(way)
            found[judged(whole(folder, file), states[1])] += 1
    assert found["refused"] >= 25  # a flipped bit may hit padding, and a zip may follow another


@pytest.mark.reliability("C5")
def test_files_of_two_states_are_not_mixed(
    folder: Path, tmp_path: Path, states: list[dict[str, Any]]
) -> None:
    """Each part of another state of the same run, with the other parts of this one."""
    other = tmp_path / "other"
    hostile.lay_out(other, states[0])
    for name in ("state.json", "tensors.safetensors", "manifest.json"):
        kept = (folder / "run" / name).read_bytes()
        (folder / "run" / name).write_bytes((other / "run" / name).read_bytes())
        assert hostile.verdict(folder / "run", states[1]) == "refused", name
        (folder / "run" / name).write_bytes(kept)


@pytest.mark.reliability("H1")
@pytest.mark.parametrize("file", hostile.FILES)
def test_nothing_of_a_pickle_runs(folder: Path, file: str, states: list[dict[str, Any]]) -> None:
    """12 calls in 3 forms, inside of a state and alone, in the place of every file."""
    marker = folder / "it-ran"
    for name, call in hostile.calls(marker).items():
        for form in ("torch", "torch legacy", "pickle") if file.endswith(".pt") else ("pickle",):
            for thing in (call, {**states[1], "model": {"0.weight": call}}):
                (folder / file).write_bytes(hostile.pickled(thing, form))
                if file.startswith("run/") and not file.endswith("manifest.json"):
                    hostile.seal(folder / "run")
                assert hostile.verdict(whole(folder, file), states[1]) == "refused", (name, form)
                assert not marker.exists(), (name, form)


@pytest.mark.reliability("H3")
def test_nothing_runs_where_torch_is_told_to_read_in_the_old_way(folder: Path) -> None:
    """With the variable that turns ``weights_only`` off wherever a program does not say it."""
    marker = folder / "it-ran"
    (folder / "run.pt").write_bytes(hostile.pickled(hostile.calls(marker)["os.mkdir"], "torch"))
    script = (
        "import sys, hookloop, torch\n"
        "from hookloop.checkpoints import load_state\n"
        "for read in (load_state, hookloop.load_checkpoint):\n"
        "    try: read(sys.argv[1])\n"
        "    except hookloop.HookloopError: pass\n"
        "    else: raise SystemExit('it was read')\n"
        "assert not __import__('os').path.exists(sys.argv[2]), 'it ran'\n"
        "torch.load(sys.argv[1])\n"
    )
    for value, runs in (("1", True), ("0", False)):
        ran = subprocess.run(
            [sys.executable, "-W", "ignore", "-c", script, folder / "run.pt", marker],
            env={**os.environ, "TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": value},
            capture_output=True,
            text=True,
            check=False,
        )
        assert "it was read" not in ran.stderr
        assert "it ran" not in ran.stderr
        assert marker.exists() is runs  # torch itself, in the last line: so the variable works
        if runs:
            marker.rmdir()


@pytest.mark.reliability("H5")
@pytest.mark.parametrize("name", hostile.HEADERS)
@pytest.mark.parametrize("file", ["weights.safetensors", "run/tensors.safetensors"])
def test_a_header_that_lies_is_refused(
    folder: Path, name: str, file: str, states: list[dict[str, Any]]
) -> None:
    """Lengths, offsets, shapes and names that no writer makes; in a folder, sealed."""
    (folder / file).write_bytes(hostile.HEADERS[name]())
    if file.startswith("run/"):
        hostile.seal(folder / "run")
    assert judged(whole(folder, file), states[1]) == "refused"


@pytest.mark.reliability("H5")
@pytest.mark.parametrize("name", hostile.JSON)
@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_json_that_no_writer_makes_is_refused(
    folder: Path, name: str, file: str, states: list[dict[str, Any]]
) -> None:
    """Too deep, too long, a key twice, marks that mean nothing: as state, and as manifest."""
    (folder / "run" / file).write_bytes(hostile.JSON[name]())
    if file == "state.json":
        hostile.seal(folder / "run")
    assert judged(folder / "run", states[1]) == "refused"


@pytest.mark.reliability("H5")
@pytest.mark.parametrize(
    ("file", "content", "said"),
    [
        ("weights.safetensors", hostile.HEADERS["a million keys"], "its header is said to have"),
        ("run/tensors.safetensors", hostile.HEADERS["2^62"], "its header is said to have"),
        ("run/state.json", hostile.JSON["100 MB"], "state.json has 100,000,002 bytes"),
        ("run/manifest.json", hostile.JSON["100 MB"], "it is too long"),
    ],
    ids=["keys", "header", "state", "manifest"],
)
def test_what_is_too_long_is_refused_before_it_is_parsed(
    folder: Path, file: str, content: Any, said: str
) -> None:
    """By its size, which the sentence says."""
    (folder / file).write_bytes(content())
    if file in ("run/tensors.safetensors", "run/state.json"):
        hostile.seal(folder / "run")
    with pytest.raises(StateError, match=said):
        load_checkpoint(whole(folder, file))


@pytest.mark.reliability("H5")
def test_what_could_not_be_loaded_is_not_saved(
    folder: Path, states: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same limits hold when a state is saved; the one before stays."""
    monkeypatch.setattr("hookloop.limits.LONGEST_PICKLE", 1000)
    monkeypatch.setattr("hookloop.checkpoints.LONGEST_JSON", 1000)
    for name in hostile.STATES:
        with pytest.raises(StateError, match=r"bytes beside its tensors.*\nfix: keep less in it"):
            save_state(folder / name, states[0])
    monkeypatch.undo()
    for name in hostile.STATES:
        assert hostile.verdict(folder / name, states[1]) == "harmless"


@pytest.mark.reliability("H5")
@pytest.mark.parametrize("file", ["state.json", "manifest.json"])
def test_a_key_that_stands_twice_is_refused(folder: Path, file: str) -> None:
    """Also where both say the same, in a state that is good otherwise."""
    path = folder / "run" / file
    path.write_bytes(path.read_bytes().replace(b"{", b'{"version":1,', 1))
    if file == "state.json":
        hostile.seal(folder / "run")
    with pytest.raises(StateError, match="a key stands twice"):
        load_state(folder / "run")


@pytest.mark.reliability("H6")
def test_a_state_has_no_files_of_others_deleted(tmp_path: Path) -> None:
    """model_checkpoint deletes what its state names, and that must be what its template gives."""
    mine = tmp_path / "thesis.tex"
    mine.write_text("of the user")
    settings = {"filepath": f"{tmp_path}/out/m-{{epoch}}.pt", "keep_last": 1}
    trainer = hookloop.Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    x, saves = torch.zeros(4, 1), hostile.Saves()
    trainer.fit((x, x), verbose=0, callbacks=[("model_checkpoint", settings), saves])
    kept = ("callbacks", "model_checkpoint", "state", "kept")
    for where, what in (
        ("doomed", [str(mine)]),
        ("files", [{"path": str(mine), "epoch": 1, "value": None}]),
        ("files", [{"path": f"{tmp_path}/out/m-../../thesis.tex", "epoch": 1, "value": None}]),
    ):
        torch.save(changed(saves.states[-1], (*kept, where), what), tmp_path / "run.pt")
        with pytest.raises(StateError, match=r"which .* never gives"):
            trainer.fit(
                (x, x),
                epochs=3,
                verbose=0,
                callbacks=[("model_checkpoint", settings)],
                resume=tmp_path / "run.pt",
            )
    assert mine.read_text() == "of the user"


@pytest.mark.reliability("H6")
@pytest.mark.parametrize("name", hostile.MANIFESTS)
def test_a_manifest_leads_nowhere(folder: Path, name: str, states: list[dict[str, Any]]) -> None:
    """Names of other folders, and sizes that are none."""
    (folder / "run/manifest.json").write_text(
        json.dumps({"version": 1, "files": hostile.MANIFESTS[name]})
    )
    assert judged(folder / "run", states[1]) == "refused"


def _device(path: Path) -> None:
    if os.geteuid() == 0:
        os.mknod(path, 0o020_600, os.makedev(1, 5))  # zeros without end
    else:
        path.symlink_to("/dev/zero")


OTHER_KINDS = {
    "symbolic link": lambda path, kept: path.symlink_to(kept),
    "link to nothing": lambda path, kept: path.symlink_to("/nowhere/at/all"),
    "link to itself": lambda path, kept: path.symlink_to(path.name),
    "FIFO": lambda path, kept: os.mkfifo(path),
    "device": lambda path, kept: _device(path),
    "folder": lambda path, kept: path.mkdir(),
    "nothing": lambda path, kept: None,
}


@pytest.mark.reliability("H6")
@pytest.mark.parametrize("kind", OTHER_KINDS)
def test_what_is_no_plain_file_is_not_opened(
    folder: Path, kind: str, states: list[dict[str, Any]]
) -> None:
    """A link, a FIFO that would wait for ever, a device without end: in the place of every file.

    A file that is named itself may be a link: to the newest one, say.
    """
    for file in hostile.FILES:
        path, kept = folder / file, folder / "kept"
        path.rename(kept)
        OTHER_KINDS[kind](path, kept)
        named_link = kind == "symbolic link" and "/" not in file
        wanted = "harmless" if named_link else "refused"
        assert judged(whole(folder, file), states[1]) == wanted, file
        if path.is_dir():
            path.rmdir()
        elif path.is_symlink() or path.exists():
            path.unlink()
        kept.rename(path)


@pytest.mark.reliability("H6")
def test_a_hard_link_is_read_and_never_written_through(
    folder: Path, tmp_path: Path, states: list[dict[str, Any]]
) -> None:
    """Backups are made of hard links; its content is checked, and a save makes a new file."""
    for name in ("state.json", "tensors.safetensors", "manifest.json"):
        os.link(folder / "run" / name, tmp_path / name)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert hostile.verdict(folder / "run", states[1]) == "harmless"
    save_state(folder / "run", states[0])
    assert hostile.verdict(folder / "run", states[0]) == "harmless"
    assert before == {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}


# -- archives --------------------------------------------------------------------------------------


def _endless() -> list[Any]:
    endless: list[Any] = []
    endless.append(endless)
    return endless


def _doubled() -> list[Any]:
    """A short pickle of a list that no loop gets through: 2^60 values."""
    doubled: list[Any] = [1]
    for _ in range(60):
        doubled = [doubled, doubled]
    return doubled


def _deep() -> list[Any]:
    deep: list[Any] = []
    for _ in range(300):
        deep = [deep]
    return deep


BOMBS = {
    "holds itself": _endless,
    "doubled 60 times": _doubled,
    "deep": _deep,
    "a tensor larger than its file": lambda: torch.zeros(1).expand(2**40),
    "no values": lambda: torch.empty(3, device="meta"),
    "sparse": lambda: torch.eye(3).to_sparse(),
}


@pytest.mark.reliability("H4", "H5")
@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize(
    "place", [("model", "0.bias"), ("callbacks", "strict", "state", "words"), ("history", "epoch")]
)
def test_a_short_file_that_is_large_inside_is_refused(
    tmp_path: Path, bomb: str, place: tuple[str, ...], states: list[dict[str, Any]]
) -> None:
    """Wherever in the state it stands."""
    state = changed(states[1], place, BOMBS[bomb]())
    torch.save(state, tmp_path / "run.pt")
    assert (tmp_path / "run.pt").stat().st_size < 50_000
    assert judged(tmp_path / "run.pt", states[1]) == "refused"
    if bomb not in ("no values", "sparse"):  # these are plain data, of the wrong kind
        with pytest.raises(StateError, match="is damaged or of another format"):
            load_state(tmp_path / "run.pt")


@pytest.mark.reliability("H4")
@pytest.mark.parametrize("file", ["run.pt", "weights.pt"])
def test_an_archive_that_is_not_torch_s_is_refused(
    folder: Path, file: str, states: list[dict[str, Any]]
) -> None:
    """Compressed, as bombs are; with parts missing; with another pickle inside; with paths out."""
    original = (folder / file).read_bytes()
    with zipfile.ZipFile(io.BytesIO(original)) as archive:
        pickle = next(name for name in archive.namelist() if name.endswith("data.pkl"))
        parts = {name: archive.read(name) for name in archive.namelist()}
    bomb = hostile.zipped({"x/data.pkl": bytes(50_000_000)}, zipfile.ZIP_DEFLATED)
    spoilt = {
        "bomb": bomb,
        "compressed": hostile.repacked(original, zipfile.ZIP_DEFLATED),
        "no pickle": hostile.zipped({n: c for n, c in parts.items() if n != pickle}),
        "no parts": hostile.zipped({}),
        "half a pickle": hostile.repacked(original, 0, **{"data.pkl": parts[pickle][:-20]}),
        "another pickle": hostile.repacked(original, 0, **{"data.pkl": b"\x80\x02]q\x00."}),
        "a path out": hostile.zipped({f"../../{n}": c for n, c in parts.items()}),
    }
    for name, content in spoilt.items():
        (folder / file).write_bytes(content)
        assert judged(folder / file, states[1]) == "refused", name


# -- states that were made by somebody who knows the format --------------------------------------


def changed(state: dict[str, Any], path: tuple[Any, ...], to: Any) -> dict[str, Any]:
    """Copy a state with one value replaced."""
    copied = copy.deepcopy(state)
    inside: Any = copied
    for key in path[:-1]:
        inside = inside[key]
    inside[path[-1]] = to
    return copied


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Give the path of everything in a state; of a long list, of its ends."""
    if path:
        yield path
    if isinstance(value, dict):
        for key, item in value.items():
            yield from places(item, (*path, key))
    elif isinstance(value, list):
        for index in {0, len(value) - 1} if value else ():
            yield from places(value[index], (*path, index))


FORGED = [None, "x", -1, 2**70, float("nan"), [], {}, [[]], {"a": 1}, torch.zeros(5), True]


def _forged(path: Path, what: Any) -> str:
    try:
        return "refused" if hostile.resumed(path, epochs=2) is None else "accepted"
    except Exception as error:
        raise AssertionError(f"after {what}") from error


def forge(folder: Path, states: list[dict[str, Any]], share: float) -> Counter[str]:
    """Replace each value of a state by each of some others, and have a run go on from it."""
    draw, found = random.Random(SEED), Counter[str]()
    for state in states:
        for path in places(state):
            for to in FORGED:
                if draw.random() > share:
                    continue
                torch.save(changed(state, path, to), folder / "run.pt")
                found[_forged(folder / "run.pt", (path, to))] += 1
    return found


@pytest.mark.reliability("H4")
def test_a_forged_state_is_refused_whole_or_used(
    tmp_path: Path, states: list[dict[str, Any]]
) -> None:
    """Any value replaced by one of another kind, with right sums: hundreds of them."""
    print(f"{SEED=}")
    found = forge(tmp_path, states, share=float(os.environ.get("HOOKLOOP_FORGED", "0.03")))
    assert found["refused"] > 75, found


@pytest.mark.reliability("G8")
@pytest.mark.parametrize("version", [2, 99, 0, -1, "1", None, 1.5])
def test_a_state_of_another_version_is_refused_with_a_sentence(
    tmp_path: Path, version: Any, states: list[dict[str, Any]]
) -> None:
    """In both formats, and a folder whose manifest is newer."""
    for name in hostile.STATES:
        save_state(tmp_path / name, {**states[1], "version": version})
        for read in (load_state, load_checkpoint):
            with pytest.raises(StateError) as caught:
                read(tmp_path / name)
            assert str(caught.value) == (
                f"The state is of version {version}; this hookloop reads 1.\n"
                "fix: pip install --upgrade hookloop"
            )
    manifest = json.loads((tmp_path / "run/manifest.json").read_text())
    (tmp_path / "run/manifest.json").write_text(json.dumps({**manifest, "version": version}))
    with pytest.raises(StateError, match=f"it is of version {version!r}; this hookloop reads 1"):
        load_state(tmp_path / "run")


@pytest.mark.reliability("H4")
def test_random_and_mutated_files_are_refused_or_read_within_bounds(folder: Path) -> None:
    """200 of them, in every way of reading: less than 200 MB more, and seconds, for any."""
    print(f"{SEED=}")
    found = fuzz(folder, SEED, 200)
    assert found["refused"] > 100
