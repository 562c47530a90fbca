"""Events outlive their run: sent by the next, by the command, after a kill, and in any order."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_remote_monitor import RemoteMonitor
from hookloop_remote_monitor._sync import main

from hookloop import Callback, CallbackList, Trainer, hookimpl
from hookloop.checkpoints import save_state
from hookloop.errors import FileError, SettingError

Run = Callable[..., CallbackList]


def leave(run: Run, root: str, spool: Path, *epochs: int, **settings: Any) -> None:
    """Have a run end that could deliver nothing."""
    callbacks = run(RemoteMonitor(root, spool=spool, flush_timeout=0.0, **settings))
    for epoch in epochs:
        callbacks.on_epoch_end(epoch, {"loss": 0.5})
    callbacks.on_train_end()


def keys(requests: list[Any]) -> list[str]:
    return list(dict.fromkeys(request.key for request in requests))


def indices(requests: list[Any]) -> list[int]:
    return [int(key.partition("-")[2]) for key in keys(requests)]


@pytest.mark.filterwarnings("ignore:.*cannot be reached:RuntimeWarning")
def test_the_next_run_sends_what_is_left_before_its_own(
    server: Any, run: Run, nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """In order, with the keys that they had; the end of the first says where they are."""
    leave(run, nobody, tmp_path / "spool", 0, 1, 2)
    assert capsys.readouterr().out == (
        f"remote_monitor: 3 events could not be delivered to {nobody} yet. The next run with this "
        f"spool sends them, and so does: hookloop remote-sync {tmp_path / 'spool'}\n"
    )
    callbacks = run(RemoteMonitor(server.root, spool=tmp_path / "spool"))
    callbacks.on_epoch_end(7, {"loss": 0.5})
    callbacks.on_train_end()
    assert indices(server.requests) == [0, 1, 2, 7]
    assert len({key.partition("-")[0] for key in keys(server.requests)}) == 2
    assert capsys.readouterr().out == ""


@pytest.mark.reliability("F4")
@pytest.mark.filterwarnings("ignore:.*(cannot be reached|were not delivered):RuntimeWarning")
def test_beyond_the_bound_the_oldest_are_lost_and_counted(
    server: Any, run: Run, nobody: str, tmp_path: Path
) -> None:
    """What is kept is sent without a gap."""
    with pytest.warns(
        RuntimeWarning, match="7 events were not delivered .* lost.\nfix: spool=PATH keeps"
    ):
        leave(run, nobody, tmp_path, *range(10), queue_size=3)
    run(RemoteMonitor(server.root, spool=tmp_path)).on_train_end()
    assert indices(server.requests) == [7, 8, 9]


CHILD = """
import sys
from hookloop import CallbackList
from hookloop_remote_monitor import RemoteMonitor
callbacks = CallbackList([RemoteMonitor(sys.argv[1], spool=sys.argv[2])], model=None)
callbacks.on_train_begin()
for epoch in range(int(sys.argv[3])):
    callbacks.on_epoch_end(epoch, {"loss": 0.5})
    print(epoch, flush=True)
sys.stdin.read()
"""


@pytest.mark.reliability("F3")
@pytest.mark.parametrize("answered", [0, 3, 40])
def test_a_killed_process_loses_no_event(
    server: Any, run: Run, tmp_path: Path, answered: int
) -> None:
    """Every event that a hook has returned from arrives; one that arrives twice has one key."""
    count = iter(range(1000))
    server.behave = lambda handler: next(count) >= answered and server.release.wait(5)
    words = [sys.executable, "-c", CHILD, server.root, str(tmp_path / "spool"), "50"]
    with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, text=True) as child:
        for epoch in range(50):
            assert child.stdout is not None
            assert child.stdout.readline() == f"{epoch}\n"
        server.wait(lambda: len(server.requests) > answered)
        child.send_signal(signal.SIGKILL)
    server.behave = lambda handler: None
    run(RemoteMonitor(server.root, spool=tmp_path / "spool")).on_train_end()
    server.wait(lambda: len(server.accepted) >= 50)
    assert indices(server.requests) == list(range(50))
    assert len(server.requests) <= 50 + 2
    assert len({request.body for request in server.requests}) == 50


@pytest.mark.reliability("F3")
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.filterwarnings("ignore:.*1 events were not delivered:RuntimeWarning")  # half written
def test_a_process_that_is_killed_at_any_time_loses_no_event(
    server: Any, run: Run, tmp_path: Path, seed: int
) -> None:
    """While it writes the next one, or sends; those that it says to have are there."""
    drawn, told = random.Random(seed), -1
    server.behave = lambda handler: drawn.random() < 0.3 and (handler.answer(503) or True)
    words = [sys.executable, "-c", CHILD, server.root, str(tmp_path / "spool"), "100000"]
    with subprocess.Popen(words, stdin=-1, stdout=-1, stderr=-1, text=True) as child:
        assert child.stdout is not None
        for _ in range(drawn.randrange(1, 300)):
            told = int(child.stdout.readline())
        child.send_signal(signal.SIGKILL)
        told = max([told, *(int(line) for line in child.stdout if line.endswith("\n"))])
    server.behave = lambda handler: None
    run(RemoteMonitor(server.root, spool=tmp_path / "spool", flush_timeout=60.0)).on_train_end()
    assert indices(server.accepted)[: told + 1] == list(range(told + 1))
    assert len({request.body for request in server.accepted}) == len(keys(server.accepted))


@pytest.mark.filterwarnings("ignore:.*cannot be reached:RuntimeWarning")
def test_the_command_sends_what_is_left(
    server: Any, run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """``hookloop remote-sync PATH``, as a process of its own, with nothing more to say."""
    server.stop()
    leave(run, server.root, tmp_path / "spool", 0, 1, 2)
    server.start()
    command = [Path(sys.executable).with_name("hookloop"), "remote-sync", tmp_path / "spool"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"3 events delivered to {server.root}, 0 refused, 0 left\n"
    assert indices(server.requests) == [0, 1, 2]
    again = subprocess.run(command, capture_output=True, text=True, check=False)
    assert again.stdout == f"0 events delivered to {server.root}, 0 refused, 0 left\n"


@pytest.mark.filterwarnings("ignore:.*cannot be reached:RuntimeWarning")
def test_the_command_gives_up_when_its_time_is_over(
    run: Run, nobody: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """With status 1, the reason, and the events where they were."""
    leave(run, nobody, tmp_path, 0, 1)
    capsys.readouterr()
    assert main([str(tmp_path), "--timeout", "0.5"]) == 1
    shown = capsys.readouterr()
    assert shown.out == f"0 events delivered to {nobody}, 0 refused, 2 left\n"
    assert shown.err == (
        f"hookloop remote-sync: {nobody} cannot be reached (Connection refused); events are kept\n"
    )


@pytest.mark.filterwarnings("ignore:.*cannot be reached:RuntimeWarning")
def test_the_command_asks_for_what_is_kept_on_no_disk(
    server: Any, run: Run, nobody: str, tmp_path: Path
) -> None:
    """Headers, users, paths and queries may be secrets; they are to be given again."""
    settings = {"path": "/hook/s3cret", "headers": {"Authorization": "Bearer s3cret"}}
    leave(run, nobody.replace("//", "//me:s3cret@"), tmp_path, 0, **settings)
    with pytest.raises(SettingError, match="again: --root, --path, --header"):
        main([str(tmp_path)])
    words = ["--root", server.root, "--path", "/x", "--header", "Authorization: Bearer s3cret"]
    assert main([str(tmp_path), *words]) == 0
    [got] = server.requests
    assert (got.path, got.headers["Authorization"]) == ("/x", "Bearer s3cret")


def test_the_command_makes_no_spool_of_another_folder(tmp_path: Path) -> None:
    """A mistyped path is said, and nothing is written there."""
    with pytest.raises(FileError, match="is no spool of remote_monitor"):
        main([str(tmp_path / "typo")])
    assert list(tmp_path.iterdir()) == []


def test_one_spool_belongs_to_one_run(server: Any, run: Run, tmp_path: Path) -> None:
    """A second is refused before it trains, and so is the command."""
    callbacks = run(RemoteMonitor(server.root, spool=tmp_path))
    words = [sys.executable, "-c", CHILD, server.root, str(tmp_path), "1"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert f"{tmp_path} is in use by process {os.getpid()}" in done.stderr
    with pytest.raises(FileError, match="in use by"):
        main([str(tmp_path)])
    callbacks.on_train_end()
    run(RemoteMonitor(server.root, spool=tmp_path)).on_train_end()


def test_a_run_that_never_ended_stands_in_nobodys_way(
    server: Any, run: Run, tmp_path: Path
) -> None:
    """As in a loop of one's own that failed: the next one goes on with its spool."""
    monitor = RemoteMonitor(server.root, spool=tmp_path)
    run(monitor).on_epoch_end(0, {})
    run(monitor).on_train_end()
    assert indices(server.requests) == [0]


def test_two_callbacks_of_one_run_need_two_spools(server: Any, run: Run, tmp_path: Path) -> None:
    """Refused before training."""
    with pytest.raises(FileError, match=r"in use by (.|\n)*remote_monitor#2"):
        run(*(RemoteMonitor(server.root, spool=tmp_path) for _ in range(2)))


def test_a_file_in_place_of_the_folder_is_refused(run: Run, tmp_path: Path) -> None:
    """Before training."""
    (tmp_path / "spool").write_text("")
    with pytest.raises(FileError, match="cannot be written"):
        run(RemoteMonitor(spool=tmp_path / "spool"))


def test_a_spool_that_cannot_be_written_is_said_once(server: Any, run: Run, tmp_path: Path) -> None:
    """Its events are sent from memory."""
    callbacks = run(RemoteMonitor(server.root, spool=tmp_path / "spool"))
    shutil.rmtree(tmp_path / "spool")
    with pytest.warns(RuntimeWarning) as warned:
        callbacks.on_epoch_end(0, {"loss": 0.5})
    callbacks.on_epoch_end(1, {"loss": 0.5})
    callbacks.on_train_end()
    told = "events are kept in memory: the spool says 'No such file or directory'."
    sentences = [str(one.message).partition("\nfix: ")[0] for one in warned]
    assert sentences == [f"remote_monitor: {told}"]
    assert indices(server.requests) == [0, 1]


# -- resuming ---------------------------------------------------------------


class Saver(Callback):
    """Saves the state of the run after its second epoch."""

    def __init__(self, path: Path) -> None:
        self.path = path

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self, epoch: int, logs: Any = None) -> None:
        if epoch == 1 and not self.path.exists():
            save_state(self.path, self.loop.state_dict())


def train(root: str, saved: Path, resume: Path | None, **settings: Any) -> None:
    x = torch.linspace(-1, 1, 8).reshape(-1, 1)
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", seed=0)
    callbacks = [RemoteMonitor(root, **settings), Saver(saved)]
    trainer.fit((x, x), epochs=4, callbacks=callbacks, verbose=0, resume=resume)


def test_an_epoch_that_a_resumed_run_repeats_has_the_key_that_it_had(
    server: Any, tmp_path: Path
) -> None:
    """So that the server can tell that it is the same one, and counts it once."""
    train(server.root, tmp_path / "state", None)
    first = [(request.key, request.body) for request in server.requests]
    server.requests.clear()
    train(server.root, tmp_path / "state", tmp_path / "state")
    assert [(request.key, request.body) for request in server.requests] == first[2:]


def test_a_resumed_run_may_have_moved_to_another_server(server: Any, tmp_path: Path) -> None:
    """Address and headers are no part of the saved state, so that no secret is."""
    settings: dict[str, Any] = {"headers": {"Authorization": "Bearer s3cret"}}
    train(server.root, tmp_path / "state", None, path="/hook/s3cret", **settings)
    assert not [path for path in (tmp_path / "state").iterdir() if b"s3cret" in path.read_bytes()]
    train(server.root.replace("127.0.0.1", "localhost"), tmp_path / "state", tmp_path / "state")
    assert len(server.requests) == 6
