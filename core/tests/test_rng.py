"""Random numbers: saved, restored, forked, and derived from a seed and an epoch."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from hookloop import Callback, Trainer, rng, twister
from hookloop.errors import StateError


def draws() -> tuple[float, float, float, float]:
    """One number of each generator, and NumPy's cached Gaussian."""
    return random.random(), random.gauss(0, 1), float(np.random.normal()), torch.rand(()).item()


def test_what_was_captured_is_drawn_again() -> None:
    """All generators, also in the middle of a pair of Gaussians, also through a file."""
    rng.seed_all(3)
    draws()
    state = rng.capture()
    first = [draws() for _ in range(3)]
    rng.restore(state)
    assert [draws() for _ in range(3)] == first


def test_the_state_is_plain_data_and_tensors(tmp_path) -> None:  # type: ignore[no-untyped-def]
    """So that it loads with ``weights_only=True``."""
    state = rng.capture()
    torch.save(state, tmp_path / "rng.pt")
    expected = draws()
    rng.restore(torch.load(tmp_path / "rng.pt", weights_only=True))
    assert draws() == expected


def test_a_fork_leaves_no_trace_also_after_an_exception() -> None:
    """Validation in the middle of training changes nothing of it."""
    rng.seed_all(3)
    expected = draws()
    rng.seed_all(3)
    with pytest.raises(KeyError), rng.fork():
        rng.seed_all(9)
        draws()
        raise KeyError
    assert draws() == expected


def test_an_epoch_s_generators_depend_on_seed_and_epoch_alone() -> None:
    """And not on what was drawn before."""
    found = []
    for before in (1, 2):
        rng.seed_all(before)
        with rng.derived(7, 3):
            found.append(draws())
    assert found[0] == found[1]


def test_neighbouring_seeds_and_epochs_have_different_orders() -> None:
    """A thousand pairs, no two alike: seed 1 of epoch 0 is not seed 0 of epoch 1."""
    assert len({rng.mixed(seed, epoch) for seed in range(32) for epoch in range(32)}) == 1024
    assert all(0 <= rng.mixed(2**63 - 1, epoch) < 2**63 for epoch in range(100))


@pytest.mark.parametrize("before", [0, 1], ids=["whole", "half of a pair is kept"])
@pytest.mark.parametrize("inside", [0, 1, 2])
@pytest.mark.parametrize("between", [0, 1, 2])
def test_numpy_s_numbers_are_put_back_however_many_were_drawn(
    before: int, inside: int, between: int
) -> None:
    """Normal numbers are made in pairs: the second one is kept, and is put back too."""
    np.random.seed(5)
    expected = [np.random.normal() for _ in range(9)]
    np.random.seed(5)
    found = [np.random.normal() for _ in range(before)]
    for _ in range(2):
        with rng.fork():
            for _ in range(inside):
                np.random.normal()
        found += [np.random.normal() for _ in range(between)]
    found += [np.random.normal() for _ in range(9 - len(found))]
    assert found == expected


def test_numpy_s_state_is_put_back_to_the_last_number() -> None:
    """What NumPy says of it is the same before and after; and its memory was found here."""
    np.random.seed(5)
    for _ in range(3):
        np.random.normal()
    before = np.random.get_state(legacy=False)
    with rng.fork():
        np.random.normal(size=1001)
    after = np.random.get_state(legacy=False)
    assert before.pop("state")["key"].tolist() == after.pop("state")["key"].tolist()
    assert before == after
    assert len(twister.take()) == 4  # two parts each: found, as they are, in memory


@pytest.mark.parametrize("before", [0, 1], ids=["whole", "half of a pair is kept"])
def test_python_s_state_is_put_back_to_the_last_number(before: int) -> None:
    """With the normal number that is kept of a pair, whatever was drawn and seeded meanwhile."""
    random.seed(5)
    for _ in range(before):
        random.gauss(0, 1)
    expected = random.getstate()
    with rng.derived(3, 4):
        for _ in range(1001):
            random.gauss(0, 1)
    assert random.getstate() == expected


def test_numbers_that_are_not_where_they_are_expected_are_put_back_too(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """Somebody has put a function of his own in the place of Python's: its memory is unknown."""
    monkeypatch.setattr(random, "random", lambda: 0.5)
    random.seed(5)
    expected = random.getstate()
    with rng.fork():
        random.gauss(0, 1)
    assert random.getstate() == expected


@contextmanager
def in_use(generator: Any) -> Iterator[None]:
    """Have NumPy draw from a generator of one's own."""
    usual = np.random.get_bit_generator()
    np.random.set_bit_generator(generator)
    try:
        yield
    finally:
        np.random.set_bit_generator(usual)


def is_put_back(generator: Any) -> bool:
    """Tell whether another generator of NumPy's goes on after a fork as if nothing had been."""
    with in_use(generator):
        with rng.fork():
            expected = np.random.random()
        return bool(np.random.random() == expected)


def test_a_function_in_the_place_of_numpy_s_is_no_reason_to_fail(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    """As tests put there; the generator is another one, so that it is looked for anew."""
    monkeypatch.setattr(np.random, "normal", lambda: 0.5)
    assert is_put_back(np.random.MT19937(3))


def test_another_generator_of_numpy_s_is_put_back_too() -> None:
    """Its state is asked for and put back by NumPy's own functions."""
    assert is_put_back(np.random.PCG64(3))


@pytest.mark.parametrize("kind", ["PCG64", "PCG64DXSM", "Philox", "SFC64"])
@pytest.mark.parametrize("path", ["state", "state.pt"])
def test_a_run_with_another_generator_of_numpy_s_goes_on(
    kind: str, path: str, tmp_path: Path
) -> None:
    """Its state is in that of the run; one of another kind is refused."""
    drawn: list[float] = []

    class Draws(Callback):
        def on_epoch_begin(self) -> None:
            drawn.append(float(np.random.normal()))

    def fit(epochs: int, **more: Any) -> list[float]:
        x = torch.zeros(4, 1)
        drawn.clear()
        trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", device="cpu")
        callbacks = [Draws(), ("model_checkpoint", {"filepath": tmp_path / path})]
        trainer.fit((x, x), epochs=epochs, callbacks=callbacks, verbose=0, **more)
        return [*drawn]

    with in_use(getattr(np.random, kind)(3)):
        whole = fit(epochs=2)
    with in_use(getattr(np.random, kind)(3)):
        killed = fit(epochs=1)
    with in_use(getattr(np.random, kind)(4)):
        assert [*killed, *fit(epochs=2, resume=tmp_path / path)] == whole
    with pytest.raises(StateError, match="no states of the generators in use"):
        fit(epochs=3, resume=tmp_path / path)
