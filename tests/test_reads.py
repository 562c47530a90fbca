"""How often a step waits for the device: never, but where somebody looks at a number.

On the CPU reading a number is cheaper than anything else, so there the step reads. What a run does
on an accelerator is shown on one that is not there: see ``hosts/pretend.py``.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch
from pretend import DEVICE, Device
from torch import nn

from hookloop import Callback, Trainer, load

ROOT = Path(__file__).parents[1]
STEPS = 4


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Batches:
    """Some batches; knows how many reads, and copies, there were while one of them was used."""

    def __init__(self, device: Device | None = None) -> None:
        self._device = device or Device()
        self.reads = self.copies = 0

    def __len__(self) -> int:
        return STEPS

    def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        x = torch.linspace(-1, 1, 8).reshape(-1, 1)
        for _ in range(STEPS):
            device, reads, copies = self._device, len(self._device.reads), self._device.copies
            yield x, 3 * x
            self.reads += len(device.reads) - reads
            self.copies += device.copies - copies


class Arrival:
    """Stands for `torch.Event`, which no device that is not there has."""

    def __init__(self, device: torch.device) -> None:
        assert device == DEVICE

    def record(self, stream: Any) -> None:
        pass

    def synchronize(self) -> None:
        pass


class Answer(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = HTTPServer(("127.0.0.1", 0), Answer)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch, "Event", Arrival)
    monkeypatch.setattr(torch.accelerator, "current_stream", lambda device: None)


#: What a plugin cannot do without.
SETTINGS: dict[str, Callable[[Path, str], dict[str, Any]]] = {
    "backup_and_restore": lambda folder, _: {"backup_dir": folder / "backup"},
    "csv_logger": lambda folder, _: {"filename": folder / "log.csv"},
    "early_stopping": lambda *_: {},
    "lambda_callback": lambda *_: {"on_epoch_begin": lambda epoch, logs: None},
    "learning_rate_scheduler": lambda *_: {"schedule": lambda epoch, rate: 0.1},
    "model_checkpoint": lambda folder, _: {"filepath": folder / "{epoch}.pt"},
    "progbar_logger": lambda *_: {"file": Terminal()},
    "reduce_lr_on_plateau": lambda *_: {},
    "remote_monitor": lambda _, address: {"root": address},
    "swap_ema_weights": lambda *_: {},
    "tensorboard": lambda folder, _: {"log_dir": folder},
    "terminate_on_nan": lambda *_: {},
}


def made() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 4), nn.Tanh(), nn.Linear(4, 1))


def fit(device: Device, *callbacks: Any, verbose: int = 0) -> tuple[Batches, Any]:
    """Train two epochs; give the batches, which know of reads inside of steps, and the history."""
    batches = Batches(device)
    with device:
        trainer = Trainer(made().to(DEVICE), loss="mse", optimizer="sgd:lr=0.1", metrics=["mae"])
        x = torch.linspace(-1, 1, 8).reshape(-1, 1)
        history = trainer.fit(
            batches,
            epochs=2,
            validation_data=(x, 3 * x),
            callbacks=list(callbacks),
            verbose=verbose,
        )
    return batches, history


@pytest.mark.parametrize("verbose", [0, 2])
def test_a_run_reads_four_numbers_an_epoch_and_none_in_a_step(verbose: int) -> None:
    """Loss and metric, of training and of validation, when the epoch ends; nothing else."""
    device = Device()
    batches, _ = fit(device, verbose=verbose)

    assert batches.reads == 0
    assert device.reads == ["hookloop: number = value.item()"] * 8


def test_what_is_computed_there_is_what_the_cpu_computes() -> None:
    """So that the device that is not there can be believed."""
    _, there = fit(Device())
    batches, x = Batches(), torch.linspace(-1, 1, 8).reshape(-1, 1)
    trainer = Trainer(made(), loss="mse", optimizer="sgd:lr=0.1", metrics=["mae"], device="cpu")
    here = trainer.fit(batches, epochs=2, validation_data=(x, 3 * x), verbose=0)

    assert there.history == {key: pytest.approx(of, rel=1e-6) for key, of in here.history.items()}


@pytest.mark.parametrize("name", SETTINGS)
def test_a_plugin_reads_nothing_in_a_step(
    name: str, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its default settings, while nobody looks: the time of the progress bar stands still."""
    callback = load(name, **SETTINGS[name](tmp_path, address))
    if name == "progbar_logger":
        monkeypatch.setattr(type(callback), "clock", staticmethod(lambda: 0.0))
    device = Device()
    batches, history = fit(device, callback, verbose=1)

    assert history.epoch == [0, 1]
    assert batches.reads == 0
    # One copy a step is on its way while the device works; the step does not wait for it.
    assert batches.copies == (2 * STEPS if name == "terminate_on_nan" else 0)


def test_what_a_callback_logs_in_a_step_is_read_when_the_epoch_ends() -> None:
    """With `loop.log`, and into the logs that it was given."""

    class Logs(Callback):
        def on_train_batch_end(self, logs: Any) -> None:
            self.loop.log(twice=self.loop.loss.detach() * 2)
            logs["half"] = self.loop.loss.detach() / 2

    batches, history = fit(Device(), Logs())
    loss = history.history["loss"]

    assert batches.reads == 0
    assert history.history["twice"] == pytest.approx([2 * one for one in loss])
    assert history.history["half"] == pytest.approx([one / 2 for one in loss])


def test_every_plugin_is_asked() -> None:
    """One that comes later is added above."""
    folders = (ROOT / "plugins").glob("[!.]*/pyproject.toml")
    assert {path.parent.name for path in folders if path.parent.name[:3] != "in_"} == set(SETTINGS)


def test_somebody_who_looks_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    """A redraw reads the means, a callback what it asks for: the count can be other than 0."""
    bar = load("progbar_logger", file=Terminal())
    times = iter(range(1000))
    monkeypatch.setattr(type(bar), "clock", staticmethod(lambda: float(next(times))))

    class Looks(Callback):
        def on_train_batch_end(self, batch: int, logs: Any) -> None:
            if batch == 2:
                assert logs["loss"] > 0

    assert fit(Device(), bar, verbose=1)[0].reads == 2 * STEPS * 2
    assert fit(Device(), Looks())[0].reads == 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
@pytest.mark.parametrize("name", [None, *SETTINGS])
def test_a_step_on_cuda_never_synchronizes(
    name: str | None, tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """CUDA itself raises at whatever would wait, from the second batch of an epoch to its end."""
    monkeypatch.undo()

    class Strict(Batches):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            x = torch.linspace(-1, 1, 8, device="cuda").reshape(-1, 1)
            try:
                for _ in range(STEPS):
                    yield x, 3 * x
                    torch.cuda.set_sync_debug_mode("error")  # not in the first, where it warms up
            finally:
                torch.cuda.set_sync_debug_mode("default")

    callbacks = [load(name, **SETTINGS[name](tmp_path, address))] if name else []
    trainer = Trainer(made(), loss="mse", optimizer="adam", metrics=["mae"], device="cuda")
    trainer.fit(Strict(), epochs=2, callbacks=callbacks, verbose=0)

    assert trainer.history.epoch == [0, 1]
