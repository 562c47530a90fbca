"""A secret that a run was given is in none of the files and texts that come out of it."""

from __future__ import annotations

import logging
import os
import socket
import traceback
import warnings
from pathlib import Path
from typing import Any

import agreement
import policy
import pytest
import torch
from policy import Ends

from hookloop import Trainer

SECRET = "tr0ub4dor-and-3"


@pytest.fixture
def refusing() -> str:
    """The address of a server that refuses connections."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return f"127.0.0.1:{listening.getsockname()[1]}"


def chosen(folder: Path, host: str) -> list[Any]:
    headers = {"Authorization": f"Bearer {SECRET}", "X-Key": os.environ["HOOK_TOKEN"]}
    address = {"root": f"http://me:{SECRET}@{host}", "path": f"/{SECRET}?token={SECRET}"}
    remote = {**address, "headers": headers, "spool": folder / "spool", "flush_timeout": 0.0}
    backup = {"backup_dir": folder / "backup", "save_freq": 1, "delete_checkpoint": False}
    return [
        ("remote_monitor", remote),
        f"csv_logger:filename='{folder / 'log.csv'}'",
        f"tensorboard:log_dir='{folder / 'logs'}'",
        f"model_checkpoint:filepath='{folder / 'whole.pt'}'",
        ("backup_and_restore", backup),
    ]


@pytest.mark.reliability("F9", "H8")
@pytest.mark.parametrize("fails", [False, True], ids=["finished", "failed"])
def test_a_secret_is_in_no_file_and_no_text(
    fails: bool,
    tmp_path: Path,
    refusing: str,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Of headers, address and environment; with a server that is away, in a run that fails too."""
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("HOOK_TOKEN", SECRET)
    model, texts = agreement.model(), list[str]()
    optimizer = torch.optim.SGD(model.parameters(), lr=agreement.RATE)
    trainer = Trainer(model, loss="mse", optimizer=optimizer, device="cpu")
    callbacks = [*chosen(tmp_path, refusing), *([Ends()] if fails else [])]
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        try:
            trainer.fit(policy.arrays("training"), epochs=2, callbacks=callbacks, verbose=0)
        except RuntimeError as error:
            texts += traceback.format_exception(error)
    texts += [str(one.message) for one in warned]
    texts += [*capfd.readouterr(), caplog.text, repr(trainer.history), repr(vars(trainer.history))]
    files = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert len(files) > 8
    assert any("remote_monitor" in text for text in texts)
    assert [path for path in files if SECRET.encode() in path.read_bytes()] == []
    assert [text for text in texts if SECRET in text] == []
