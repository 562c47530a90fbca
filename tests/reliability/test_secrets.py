"""Secrets are never shown, raised, logged or saved; and a state says nothing of the machine."""

from __future__ import annotations

import os
import platform
import socket
import stat
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import hookloop
from hookloop import Callback, Trainer
from hookloop.checkpoints import save_state
from hookloop.cli import main
from hookloop.errors import HookloopError, warn
from hookloop.masking import masked

WORD = "hunter2-s3cr3t"
X = torch.linspace(-1, 1, 8).reshape(-1, 1)


class Sends(Callback):
    """Has secrets of every kind: declared, by name, in a mapping, in an address."""

    secret_settings = ("channel",)

    def __init__(
        self,
        channel: str = "",
        api_key: str = "",
        headers: dict[str, str] | None = None,
        url: str = "",
        patience: int = 0,
    ) -> None:
        if patience < 0:
            raise ValueError(f"patience={patience} with {channel}")

    def state_dict(self) -> dict[str, Any]:
        return {"sent": 0}

    def load_state_dict(self, state: Any) -> None: ...


def secrets() -> dict[str, Any]:
    return {
        "channel": WORD,
        "api_key": WORD,
        "headers": {"Authorization": WORD, "Accept": "all"},
        "url": f"https://me:{WORD}@example.org/x?token={WORD}",
    }


class Backup(Callback):
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_epoch_checkpoint(self) -> None:
        save_state(self.folder / "state-000001", self.loop.state_dict())
        save_state(self.folder / "run.pt", self.loop.state_dict())


def everything(folder: Path) -> bytes:
    return b"\n".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())


@pytest.mark.reliability("H8", "F9")
def test_no_secret_is_saved_or_shown(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    """In a state of both formats, in describe, in resume-info, in what is printed and logged."""
    callback = Sends(**secrets())
    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    seen: list[str] = []

    class Describes(Callback):
        def on_train_begin(self) -> None:
            seen.append(self.loop.describe() or "")
            seen.append(repr(self.loop.callbacks))

    trainer.fit((X, X), verbose=2, callbacks=[callback, Describes(), Backup(tmp_path)])
    assert main(["resume-info", str(tmp_path)]) == 0
    assert main(["resume-info", "--json", str(tmp_path)]) == 0
    shown = "".join([*seen, *capfd.readouterr(), caplog.text, repr(callback)])
    assert "sends" in shown
    assert WORD not in shown
    assert WORD.encode() not in everything(tmp_path)
    assert b"<secret>" in everything(tmp_path / "state-000001")


CHOICES = {
    "unknown setting": {**secrets(), "patiense": 3},
    "ill-typed": {**secrets(), "patience": "three"},
    "ill-typed secret": {**secrets(), "channel": [WORD]},
    "refused by the class": {**secrets(), "patience": -1},
}


@pytest.mark.reliability("H8", "F9")
@pytest.mark.parametrize("settings", CHOICES.values(), ids=CHOICES)
def test_no_secret_stands_in_an_error(
    settings: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also not in the one that led to it, which a traceback shows."""
    monkeypatch.setitem(sys.modules, "sends", sys.modules[__name__])
    with pytest.raises(HookloopError) as caught:
        hookloop.load_callbacks([("sends:Sends", settings)])
    error: BaseException | None = caught.value
    while error is not None:
        assert WORD not in str(error)
        error = error.__cause__


@pytest.mark.reliability("H8", "F9")
@pytest.mark.parametrize(
    "text",
    [
        f"sends:Sends:url='https://me:{WORD}@example.org",
        f"sends:Sends:api_key={WORD},,",
        f"sends:Sends:headers={{'Authorization': '{WORD}'}},'",
    ],
)
def test_no_secret_stands_in_an_error_about_text(
    text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which cannot be read, so that nobody knows which class it is for."""
    monkeypatch.setitem(sys.modules, "sends", sys.modules[__name__])
    with pytest.raises(HookloopError) as caught:
        hookloop.load_callbacks(text)
    assert WORD not in str(caught.value)


@pytest.mark.reliability("H8", "F9")
def test_no_secret_of_the_environment_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """When it adds a callback to a run, one line says so."""
    monkeypatch.setitem(sys.modules, "sends", sys.modules[__name__])
    monkeypatch.setenv("HOOKLOOP_CALLBACKS", f"sends:Sends:channel={WORD},patience=3")
    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    trainer.fit((X, X), verbose=0)
    said = capsys.readouterr().out
    assert said == "HOOKLOOP_CALLBACKS adds sends:Sends:channel=<secret>,patience=3\n"


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("https://me:pw@host/x", "https://<secret>@host/x"),
        ("postgres://me:p%40w@host:5/x", "postgres://<secret>@host:5/x"),
        ("https://host/x?token=abc&y=1", "https://host/x?token=<secret>&y=1"),
        ("{'api_key': 'abc', 'x': 1}", "{'api_key': <secret>, 'x': 1}"),
        ('Authorization: "Bearer abc"', "Authorization: <secret>"),
        ("password=abc,x=1", "password=<secret>,x=1"),
        ("access-key=abc", "access-key=<secret>"),
        ("max_tokens=5", "max_tokens=5"),
        ("mail me@example.org", "mail me@example.org"),
        ("has no setting 'token'.", "has no setting 'token'."),
    ],
)
def test_what_looks_like_a_secret_is_masked(text: str, shown: str) -> None:
    """By what stands before it; other text is left alone."""
    assert masked(text) == shown
    assert str(HookloopError(text, fix="x")) == f"{shown}\nfix: x"
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        warn(text)
    assert str(caught[0].message) == shown


@pytest.mark.reliability("H8")
def test_a_state_says_nothing_of_the_machine_or_who_runs_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No environment, no arguments, no host, no user, no folder: with every plugin that saves."""
    marks = {"MY_VARIABLE": "value-of-the-environment"}
    monkeypatch.setenv(*next(iter(marks.items())))
    monkeypatch.setattr(sys, "argv", ["train.py", "--word=of-the-arguments"])
    monkeypatch.setattr(socket, "gethostname", lambda: "name-of-the-host")
    monkeypatch.setattr(platform, "node", lambda: "name-of-the-host")
    monkeypatch.setenv("USER", "name-of-the-user")
    folder = tmp_path / "out"
    folder.mkdir()
    monkeypatch.chdir(folder)
    callbacks = [
        "csv_logger:filename=log.csv", "model_checkpoint:filepath=m-{epoch}.pt,keep_last=1",
        "early_stopping:monitor=loss", "reduce_lr_on_plateau:monitor=loss", "swap_ema_weights",
        "tensorboard:log_dir=logs", "learning_rate_scheduler:schedule='step:step_size=1'",
        {"remote_monitor": {"root": "http://127.0.0.1:9", "flush_timeout": 0.0}},
    ]  # fmt: skip
    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        trainer.fit((X, X), epochs=2, verbose=0, callbacks=[*callbacks, Backup(tmp_path / "saved")])
    saved = everything(tmp_path / "saved")
    for word in ("of-the-environment", "of-the-arguments", "of-the-host", "of-the-user"):
        assert word.encode() not in saved
    assert str(folder).encode() not in saved
    assert b"127.0.0.1" not in saved


@pytest.mark.reliability("H7")
@pytest.mark.parametrize(("mask", "file", "folder"), [(0o022, 0o644, 0o755), (0o077, 0o600, 0o700)])
def test_files_follow_the_umask(tmp_path: Path, mask: int, file: int, folder: int) -> None:
    """So ``umask 077`` keeps states from others; nothing is made wider or narrower than it says."""
    state = {"format": "hookloop.state", "version": 1, "model": {}, "optimizers": []}
    before = os.umask(mask)
    try:
        save_state(tmp_path / "a/run", state)
        save_state(tmp_path / "a/run.pt", state)
    finally:
        os.umask(before)
    modes = {p.name: stat.S_IMODE(p.stat().st_mode) for p in (tmp_path / "a").rglob("*")}
    assert modes == {
        "run": folder,
        "run.pt": file,
        **dict.fromkeys(("state.json", "tensors.safetensors", "manifest.json"), file),
    }


@pytest.mark.reliability("H10")
def test_names_in_a_state_select_nothing_to_import(tmp_path: Path) -> None:
    """A state of callbacks that do not exist here is gone on from; none of them is looked for."""

    class Strange(Callback):
        name = "no_such_module_anywhere:Class"

        def state_dict(self) -> dict[str, Any]:
            return {"x": 1}

        def load_state_dict(self, state: Any) -> None: ...

    trainer = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
    trainer.fit((X, X), verbose=0, callbacks=[Strange(), Backup(tmp_path)])
    before = set(sys.modules)
    for name in ("run.pt", "state-000001"):
        again = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
        assert again.fit((X, X), epochs=2, verbose=0, resume=tmp_path / name).epoch == [0, 1]
    assert set(sys.modules) == before
