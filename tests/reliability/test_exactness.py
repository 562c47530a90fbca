"""What a run that goes on has in common with one that was never interrupted: everything.

The processes that are really killed are in `test_kills.py`; here a run is cut by going on from each
of its states.
"""

from __future__ import annotations

import random
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from comparing import differences
from torch import nn
from torch.utils.data import DataLoader, Dataset

from hookloop import Callback, Trainer, hookimpl, rng
from hookloop.checkpoints import load_state, save_state

GENERATOR = torch.Generator().manual_seed(1)
X = torch.randn(24, 4, generator=GENERATOR)
Y = (X.sum(1) > 0).long()


class Jittered(Dataset[Any]):
    """Augments with random numbers, or not at all."""

    def __init__(self, strength: float = 0.1) -> None:
        self._strength = strength

    def __len__(self) -> int:
        return len(X)

    def __getitem__(self, index: int) -> Any:
        noise = self._strength * torch.randn(4) if self._strength else 0
        return X[index] + noise, Y[index]


class Saver(Callback):
    """Saves the state of the run at every checkpoint hook."""

    needs = ("state",)

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.paths: list[Path] = []

    def _save(self) -> None:
        self.paths.append(self.folder / f"{len(self.paths):02d}")
        save_state(self.paths[-1], self.loop.state_dict())

    @hookimpl(trylast=True)
    def on_batch_checkpoint(self) -> None:
        self._save()

    @hookimpl(trylast=True)
    def on_epoch_checkpoint(self) -> None:
        self._save()


class Draws(Callback):
    """Has a generator of its own, which is its own to save."""

    def __init__(self) -> None:
        self.dice = random.Random(8)
        self.generator = torch.Generator().manual_seed(8)

    def on_train_batch_end(self) -> None:
        noise = torch.rand(1, generator=self.generator).item()
        self.loop.log(own=self.dice.random() + noise)

    def state_dict(self) -> dict[str, Any]:
        version, internal, gauss = self.dice.getstate()
        held = [version, list(internal), gauss]
        return {"dice": held, "generator": self.generator.get_state()}

    def load_state_dict(self, state: Any) -> None:
        version, internal, gauss = state["dice"]
        self.dice.setstate((version, tuple(internal), gauss))
        self.generator.set_state(state["generator"])


def run(
    data: Any = None, *, callbacks: Any = (), dtype: Any = None, about: Any = None, **fit: Any
) -> Trainer:
    """Train for two epochs of four batches."""
    rng.seed_all(2)
    model = nn.Sequential(nn.Linear(4, 6), nn.Dropout(0.3), nn.Linear(6, 2)).to(dtype)
    settings = {"loss": "cross_entropy", "optimizer": "adam:lr=0.02", "seed": 4, **(about or {})}
    trainer = Trainer(model, device="cpu", **settings)
    given = data if data is not None else (X.to(dtype), Y)
    size = {} if isinstance(given, DataLoader) else {"batch_size": 6}
    defaults = {"epochs": 2, "validation_data": (X.to(dtype), Y), "verbose": 0, **size}
    trainer.fit(given, callbacks=list(callbacks), **{**defaults, **fit})
    return trainer


def end_of(trainer: Trainer) -> list[Any]:
    """What two equal runs have in common, and the next hundred random numbers of each kind."""
    history = trainer.history
    assert history is not None
    return [
        trainer.module.state_dict(),
        trainer.optimizer.state_dict(),
        history.history,
        history.epoch,
        [random.random() for _ in range(100)],
        numpy.random.rand(100).tolist(),
        torch.rand(100),
    ]


def loader(workers: int, strength: float = 0.1) -> Any:
    return DataLoader(Jittered(strength), 6, shuffle=True, num_workers=workers)


CASES: dict[str, Callable[[], dict[str, Any]]] = {
    "float32": dict,
    "bfloat16 weights": lambda: {"dtype": torch.bfloat16},
    "bf16 autocast": lambda: {"about": {"precision": "bf16"}},
    "callback with generators": lambda: {"callbacks": [Draws()]},
    "four micro-batches a step": lambda: {"about": {"accumulate": 4}},
    "augmented, no workers": lambda: {"data": loader(0)},
    "augmented, 2 workers": lambda: {"data": loader(2)},
    "augmented, 4 workers": lambda: {"data": loader(4)},
}


@pytest.mark.filterwarnings("ignore:This DataLoader will create 4 worker")  # than there are cores
@pytest.mark.reliability("A1", "A4", "A6", "A7", "A8", "A9")
@pytest.mark.parametrize("case", CASES)
def test_a_run_goes_on_exactly_from_each_of_its_states(case: str, tmp_path: Path) -> None:
    """The first and last step of an epoch, after validation, the end; and so do random numbers."""
    made = CASES[case]
    saver, given = Saver(tmp_path), made()
    expected = end_of(run(**{**given, "callbacks": [*given.get("callbacks", ()), saver]}))
    paths = saver.paths if case == "float32" else saver.paths[1::3]
    assert len(saver.paths) == (4 if "micro" in case else 10)
    for path in paths:
        given = made()
        callbacks = [*given.get("callbacks", ()), Saver(tmp_path / "more")]
        again = end_of(run(**{**given, "callbacks": callbacks, "resume": path}))
        assert differences(again, expected) == [], path


@pytest.mark.reliability("A6")
@pytest.mark.parametrize("where", [1, 4], ids=["inside", "between"])
def test_other_workers_are_named_and_change_nothing_of_the_order(
    where: int, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exact where the data draw no random numbers; whether they do nobody else can know."""
    saver = Saver(tmp_path)
    expected = end_of(run(loader(0, 0), callbacks=[saver]))
    capsys.readouterr()
    again = end_of(
        run(loader(2, 0), callbacks=[Saver(tmp_path / "more")], resume=saver.paths[where])
    )
    assert differences(again, expected) == []
    assert (
        "loader workers 0 then, 2 now (random numbers that the data draw may be others)"
        in capsys.readouterr().out
    )


LOGGERS = [
    "csv_logger:filename=log.csv",
    "tensorboard:log_dir=logs,histogram_freq=1,update_freq=batch",
    "progbar_logger",
    "remote_monitor:root=http://127.0.0.1:9",
    "backup_and_restore:backup_dir=backup,save_freq=1",
    "model_checkpoint:filepath=best.pt,save_freq=1",
]


@pytest.mark.reliability("A10")
@pytest.mark.filterwarnings("ignore")
def test_saving_and_logging_change_nothing_of_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each alone beside a run with none; and two runs with none are equal."""
    expected = end_of(run())
    assert differences(end_of(run()), expected) == []
    for number, chosen in enumerate(LOGGERS):
        folder = tmp_path / str(number)
        folder.mkdir()
        monkeypatch.chdir(folder)
        found = end_of(run(callbacks=[chosen]))
        assert differences(found[:2] + found[4:], expected[:2] + expected[4:]) == [], chosen


class Hooks(Callback):
    """Writes down which hook is called, under a name of its own."""

    def __init__(self, name: str, calls: list[str]) -> None:
        self.name, self.calls = name, calls

    def on_train_batch_end(self, batch: int) -> None:
        self.calls.append(f"{self.name} {self.loop.epoch} {batch}")

    def on_epoch_end(self, epoch: int) -> None:
        self.calls.append(f"{self.name} end {epoch}")


@pytest.mark.reliability("E9")
def test_the_order_of_hooks_is_the_list_s_after_going_on_too(tmp_path: Path) -> None:
    """The same calls, from where the run goes on."""

    def called(**fit: Any) -> list[str]:
        calls: list[str] = []
        both = [Hooks("first", calls), Hooks("second", calls)]
        run(callbacks=[*both, *fit.pop("callbacks", ())], **fit)
        return calls

    saver = Saver(tmp_path)
    whole = called(callbacks=[saver])
    assert whole[:2] == ["first 0 0", "second 0 0"]
    assert called(resume=saver.paths[1]) == whole[4:]


class Interrupted(torch.optim.Adam):
    """Is interrupted by SIGTERM in the midst of one step, parameter by parameter."""

    step_to_hit, after = 0, 0.0
    done = 0

    def step(self, closure: Any = None) -> Any:
        self.done += 1
        if self.done == self.step_to_hit:
            signal.setitimer(signal.ITIMER_REAL, max(self.after, 1e-6))
        return super().step(closure)


@pytest.mark.reliability("D4")
def test_a_signal_in_the_midst_of_a_step_leaves_no_step_half_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Forty runs of 200 small tensors: the saved state has the same count for all of them."""
    monkeypatch.chdir(tmp_path)
    before = signal.signal(signal.SIGALRM, lambda *_: signal.raise_signal(signal.SIGTERM))
    dice = random.Random(4)
    try:
        for number in range(40):
            folder = tmp_path / f"{number}"
            _interrupted(dice, folder)
            at = load_state(next(folder.glob("state-*")))
            steps = {int(held["step"]) for held in at["optimizers"][0]["state"].values()}
            assert steps == {at["loop"]["step"]}, number
    finally:
        signal.signal(signal.SIGALRM, before)


def _interrupted(dice: random.Random, folder: Path) -> None:
    model = nn.Sequential(*(nn.Linear(1, 1) for _ in range(100)))
    optimizer = Interrupted(model.parameters(), lr=0.01, foreach=False)
    optimizer.step_to_hit, optimizer.after = dice.randint(1, 4), dice.random() * 0.004
    trainer = Trainer(model, loss="mse", optimizer=optimizer, device="cpu", seed=1)
    backup = ("backup_and_restore", {"backup_dir": folder})
    with pytest.raises(SystemExit) as ended:
        trainer.fit((X[:, :1], X[:, :1]), epochs=50, batch_size=6, callbacks=[backup], verbose=0)
    assert ended.value.code == 143
