"""What the callback does in a run."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_swap_ema_weights import SwapEMAWeights

from hookloop import Callback, CallbackList, Trainer, load
from hookloop.checkpoints import load_state, save_state
from hookloop.errors import CapabilityError, SettingError

Weights = dict[str, torch.Tensor]
X = torch.linspace(-1, 1, 12).reshape(-1, 1)
DATA = (X, 3 * X + 1)


class Probe(Callback):
    """Keeps a copy of the model's weights at each call of the hooks that are named."""

    def __init__(self, *hooks: str) -> None:
        self.found: dict[str, list[Weights]] = {hook: [] for hook in hooks}
        for hook in hooks:
            setattr(self, hook, self._taker(hook))

    def _taker(self, hook: str) -> Callable[[], None]:
        def take() -> None:
            self.found[hook].append(copy.deepcopy(dict(self.model.state_dict())))

        return take


class Boom(Callback):
    """Raises in one hook."""

    def __init__(self, hook: str) -> None:
        def fail() -> None:
            raise RuntimeError("boom")

        setattr(self, hook, fail)


def trainer(seed: int = 0, accumulate: int = 1) -> Trainer:
    torch.manual_seed(seed)
    model = torch.nn.Sequential(
        torch.nn.Linear(1, 4), torch.nn.BatchNorm1d(4), torch.nn.Dropout(0.2), torch.nn.Linear(4, 1)
    )
    return Trainer(
        model, loss="mse", optimizer="adam:lr=0.05", seed=0, device="cpu", accumulate=accumulate
    )


def fit(run: Trainer, *callbacks: Any, epochs: int = 3, **more: Any) -> Any:
    settings = {"batch_size": 4, "verbose": 0, "validation_data": DATA, **more}
    return run.fit(DATA, epochs=epochs, callbacks=list(callbacks), **settings)


def averaged(steps: list[Weights], decay: float) -> Weights:
    """The formula: the first weights, then decay of the old and the rest of the new, in double."""
    found = {key: value.double() for key, value in steps[0].items()}
    for weights in steps[1:]:
        for key, value in weights.items():
            found[key] = decay * found[key] + (1 - decay) * value.double()
    return {
        key: steps[-1][key] if key.endswith("num_batches_tracked") else value
        for key, value in found.items()
    }


def same(one: Any, other: Any) -> bool:
    return all(torch.equal(one[key], other[key]) for key in other)


def close(one: Any, other: Weights) -> bool:
    return all(torch.allclose(one[key].double(), other[key].double()) for key in other)


def test_found_by_name() -> None:
    """load() makes it by its name, with settings."""
    callback = load("swap_ema_weights:swap_on_epoch=true,decay=0.9")

    assert isinstance(callback, SwapEMAWeights)
    assert (callback.swap_on_epoch, callback.decay) == (True, 0.9)


@pytest.mark.parametrize(
    "setting",
    ["decay=-0.1", "decay=1.5", "decay=nan", "start_step=-1", "start_epoch=-1", "update_every=0"],
)
def test_settings_that_make_no_sense_are_refused(setting: str) -> None:
    """They are named when the callback is made."""
    with pytest.raises(SettingError, match=rf"{setting}(?s:.*)fix: "):
        load(f"swap_ema_weights:{setting}")


def test_a_loop_without_a_model_is_refused_before_training() -> None:
    """Where there are no weights it says so when the run starts."""
    with pytest.raises(CapabilityError, match="no model"):
        CallbackList([SwapEMAWeights()], model=None).on_train_begin()


def test_training_is_not_disturbed() -> None:
    """The weights of every step are those of a run without it."""
    plain, watched = Probe("on_train_batch_end"), Probe("on_train_batch_end")
    fit(trainer(), plain)
    fit(trainer(), SwapEMAWeights(decay=0.5), watched)

    pairs = zip(plain.found["on_train_batch_end"], watched.found["on_train_batch_end"], strict=True)
    assert all(same(one, other) for one, other in pairs)


def test_validation_sees_the_average_of_the_weights_after_each_step() -> None:
    """From the first test hook to the last, in every epoch."""
    probe = Probe("on_train_batch_end", "on_test_begin", "on_test_batch_end", "on_test_end")
    fit(trainer(), probe, SwapEMAWeights(decay=0.7))

    steps = probe.found["on_train_batch_end"]
    for epoch in range(3):
        expected = averaged(steps[: 3 * (epoch + 1)], 0.7)
        assert close(probe.found["on_test_begin"][epoch], expected)
        batches = probe.found["on_test_batch_end"][3 * epoch : 3 * (epoch + 1)]
        assert all(close(found, expected) for found in batches)
        assert close(probe.found["on_test_end"][epoch], expected)


def test_val_loss_is_that_of_the_averages() -> None:
    """What is reported is what a model with the averages would get."""
    probe = Probe("on_test_end")
    run = trainer()
    history = fit(run, probe, SwapEMAWeights(decay=0.7), epochs=1)
    run.model.load_state_dict(probe.found["on_test_end"][0])

    assert run.evaluate(DATA, batch_size=12, verbose=0)["loss"] == pytest.approx(
        history.history["val_loss"][0]
    )


def test_without_swap_on_epoch_only_evaluation_has_the_averages() -> None:
    """End of epoch, checkpoints and end of training have the model's own weights."""
    hooks = ("on_train_batch_end", "on_epoch_end", "on_epoch_checkpoint", "on_train_end")
    probe, run = Probe(*hooks), trainer()
    fit(run, SwapEMAWeights(decay=0.7), probe)

    last = [probe.found["on_train_batch_end"][index] for index in (2, 5, 8)]
    for hook in hooks[1:3]:
        assert all(same(a, b) for a, b in zip(probe.found[hook], last, strict=True))
    assert same(run.model.state_dict(), last[-1])


def test_with_swap_on_epoch_the_averages_last_from_epoch_end_to_epoch_begin() -> None:
    """Deciders and savers of the epoch have what was evaluated; the next batch has not."""
    hooks = ("on_test_end", "on_epoch_end", "on_epoch_checkpoint", "on_epoch_begin")
    probe, run = Probe(*hooks, "on_train_batch_end"), trainer()
    fit(run, probe, SwapEMAWeights(True, decay=0.7))

    shown = probe.found["on_test_end"]
    for hook in hooks[1:3]:
        assert all(same(a, b) for a, b in zip(probe.found[hook], shown, strict=True))
    steps = probe.found["on_train_batch_end"]
    assert close(run.model.state_dict(), averaged(steps, 0.7))
    plain = Probe("on_train_batch_end")
    fit(trainer(), plain)
    assert all(same(a, b) for a, b in zip(steps, plain.found["on_train_batch_end"], strict=True))


@pytest.mark.parametrize("hook", ["on_epoch_begin", "on_train_batch_end", "on_epoch_end"])
def test_training_that_stops_early_ends_with_the_averages(hook: str) -> None:
    """Keras leaves other weights then, unless it was the last epoch that was planned."""

    class Stop(Callback):
        def __init__(self) -> None:
            setattr(self, hook, self._stop)

        def _stop(self) -> None:
            if self.loop.epoch == 1:
                self.loop.stop("enough")

    probe, run = Probe("on_train_batch_end"), trainer()
    history = fit(run, probe, Stop(), SwapEMAWeights(True, decay=0.7), epochs=9)

    assert (history.outcome, history.epoch) == ("stopped", [0, 1])
    assert close(run.model.state_dict(), averaged(probe.found["on_train_batch_end"], 0.7))


@pytest.mark.parametrize("swap_on_epoch", [False, True])
def test_evaluation_and_prediction_after_fit_have_the_averages_and_leave_none(
    swap_on_epoch: bool,
) -> None:
    """The same instance serves; what the model was is what it is afterwards."""
    swap, probe, run = (
        SwapEMAWeights(swap_on_epoch, decay=0.7),
        Probe("on_train_batch_end"),
        trainer(),
    )
    fit(run, probe, swap)
    expected = averaged(probe.found["on_train_batch_end"], 0.7)
    before = copy.deepcopy(run.model.state_dict())
    during = Probe("on_test_begin", "on_test_end", "on_predict_begin", "on_predict_end")

    run.evaluate(DATA, callbacks=[during, swap], verbose=0)
    assert same(run.model.state_dict(), before)
    run.predict(X, callbacks=[swap, during], verbose=0)

    assert same(run.model.state_dict(), before)
    assert all(close(found[0], expected) for found in during.found.values())


@pytest.mark.parametrize("of", ["none", "another model"])
def test_an_instance_without_averages_of_the_model_says_so(of: str) -> None:
    """Whoever asks for averages that are not there is not left to believe it has them."""
    swap, run = SwapEMAWeights(), trainer()
    if of == "another model":
        fit(trainer(), swap)

    before = run.evaluate(DATA, verbose=0)
    with pytest.warns(UserWarning, match=r"(?s)no averages of this model.*fix: pass the instance"):
        assert run.evaluate(DATA, callbacks=[swap], verbose=0) == before


@pytest.mark.parametrize("hook", ["on_test_begin", "on_test_batch_end", "on_test_end"])
@pytest.mark.parametrize("first", [True, False], ids=["boom-first", "boom-last"])
def test_after_an_exception_in_validation_the_model_has_its_own_weights(
    hook: str, first: bool
) -> None:
    """Whoever raises, and wherever it stands in the list."""
    probe, run = Probe("on_train_batch_end"), trainer()
    others = [Boom(hook), SwapEMAWeights(True, decay=0.7)]
    with pytest.raises(RuntimeError, match="boom"):
        fit(run, probe, *(others if first else others[::-1]))

    assert same(run.model.state_dict(), probe.found["on_train_batch_end"][-1])


@pytest.mark.parametrize(
    "hook", ["on_epoch_end", "on_epoch_checkpoint", "on_batch_checkpoint", "on_train_batch_end"]
)
def test_after_an_exception_elsewhere_the_model_has_its_own_weights(hook: str) -> None:
    """A run that failed ends with the weights of its last step, whatever was shown."""
    probe, run = Probe("on_train_batch_end"), trainer()
    with pytest.raises(RuntimeError, match="boom"):
        fit(run, probe, SwapEMAWeights(True, decay=0.7, for_checkpoints=True), Boom(hook))

    assert same(run.model.state_dict(), probe.found["on_train_batch_end"][-1])


@pytest.mark.parametrize("way", ["evaluate", "predict"])
def test_after_an_exception_in_evaluation_alone_the_model_has_its_own_weights(way: str) -> None:
    """Also where it is no part of a fit."""
    swap, run = SwapEMAWeights(decay=0.7), trainer()
    fit(run, swap)
    before = copy.deepcopy(run.model.state_dict())
    hook = {"evaluate": "on_test_batch_end", "predict": "on_predict_batch_end"}[way]

    with pytest.raises(RuntimeError, match="boom"):
        getattr(run, way)(DATA, callbacks=[swap, Boom(hook)], verbose=0)

    assert same(run.model.state_dict(), before)


def test_a_nested_evaluation_sees_what_the_model_has_at_that_moment() -> None:
    """loop.evaluate() in a batch measures the model itself, and disturbs no average."""

    class Nested(Callback):
        def __init__(self) -> None:
            self.losses: list[float] = []

        def on_train_batch_end(self) -> None:
            self.losses.append(self.loop.evaluate(DATA)["loss"])

    nested, swap, probe = Nested(), SwapEMAWeights(decay=0.7), Probe("on_train_batch_end")
    run = trainer()
    fit(run, nested, swap, probe)
    steps = probe.found["on_train_batch_end"]

    assert swap.averages is not None
    assert close(swap.averages.tensors(), _without_counters(averaged(steps, 0.7)))
    run.model.load_state_dict(steps[4])
    assert run.evaluate(DATA, verbose=0)["loss"] == pytest.approx(nested.losses[4])


def test_the_same_instance_may_watch_an_evaluation_inside_of_its_fit() -> None:
    """The nested evaluation has the averages, and training goes on as if it had not been."""
    run = trainer()
    swap, probe = SwapEMAWeights(decay=0.7), Probe("on_train_batch_end")
    inside = Probe("on_test_begin")

    class Nested(Callback):
        def on_epoch_end(self) -> None:
            run.evaluate(DATA, callbacks=[swap, inside], verbose=0)

    fit(run, probe, swap, Nested())

    steps = probe.found["on_train_batch_end"]
    assert same(run.model.state_dict(), steps[-1])
    for epoch, found in enumerate(inside.found["on_test_begin"]):
        assert close(found, averaged(steps[: 3 * (epoch + 1)], 0.7))


@pytest.mark.parametrize(
    ("settings", "taken"),
    [
        ({"start_step": 4}, [4, 5, 6, 7, 8]),
        ({"start_epoch": 1}, [3, 4, 5, 6, 7, 8]),
        ({"update_every": 2}, [1, 3, 5, 7]),
        ({"update_every": 3, "start_step": 3}, [5, 8]),
    ],
    ids=["start_step", "start_epoch", "update_every", "both"],
)
def test_which_steps_are_averaged(settings: dict[str, int], taken: list[int]) -> None:
    """From the start on, one step in so many; indices of the nine steps of the run."""
    probe, swap = Probe("on_train_batch_end"), SwapEMAWeights(decay=0.7, **settings)
    fit(trainer(), probe, swap)

    steps = [probe.found["on_train_batch_end"][index] for index in taken]
    assert swap.averages is not None
    assert swap.averages.count == len(taken)
    assert close(swap.averages.tensors(), _without_counters(averaged(steps, 0.7)))


def test_before_the_first_average_the_model_itself_is_evaluated() -> None:
    """Nothing is swapped while there is nothing to swap in, and nothing is said."""
    probe = Probe("on_train_batch_end", "on_test_begin")
    fit(trainer(), probe, SwapEMAWeights(True, start_epoch=9))

    last = probe.found["on_train_batch_end"][2::3]
    assert all(same(a, b) for a, b in zip(probe.found["on_test_begin"], last, strict=True))


@pytest.mark.parametrize("batches", [3, 4], ids=["cut-window", "whole-windows"])
def test_with_accumulation_each_optimizer_step_counts_once(batches: int) -> None:
    """Also the step of a window that the end of the epoch has cut."""
    data = [(X[:3], DATA[1][:3])] * batches
    swap = SwapEMAWeights(decay=0.7)

    class Unknown:
        def __iter__(self) -> Any:
            return iter(data)

    run = trainer(accumulate=2)
    run.fit(Unknown(), epochs=2, callbacks=[swap], verbose=0)

    assert swap.averages is not None
    assert swap.averages.count == 4


def test_a_second_fit_averages_afresh() -> None:
    """It begins with the weights that the model has."""
    swap, probe, run = SwapEMAWeights(True, decay=0.7), Probe("on_train_batch_end"), trainer()
    fit(run, swap)
    fit(run, swap, probe, epochs=1)

    assert close(run.model.state_dict(), averaged(probe.found["on_train_batch_end"], 0.7))


# -- checkpoints and state -----------------------------------------------------------------------


class Save(Callback):
    """Saves the state of the run once, at an epoch's or at a batch's end."""

    def __init__(self, path: Path, epoch: int, batch: int | None) -> None:
        self.path, self.at = path, (epoch, batch)

    def on_epoch_checkpoint(self, epoch: int) -> None:
        if self.at == (epoch, None):
            save_state(self.path, self.loop.state_dict())

    def on_batch_checkpoint(self, batch: int) -> None:
        if self.at == (self.loop.epoch, batch):
            save_state(self.path, self.loop.state_dict())


@pytest.mark.parametrize("for_checkpoints", [False, True])
def test_savers_see_the_averages_if_asked_for(for_checkpoints: bool) -> None:
    """In both checkpoint hooks, and only while these run."""
    probe = Probe("on_train_batch_end", "on_batch_checkpoint", "on_epoch_checkpoint")
    run = trainer()
    fit(run, SwapEMAWeights(decay=0.7, for_checkpoints=for_checkpoints), probe)

    steps = probe.found["on_train_batch_end"]
    for index, found in enumerate(probe.found["on_batch_checkpoint"]):
        assert close(found, averaged(steps[: index + 1], 0.7) if for_checkpoints else steps[index])
    for epoch, found in enumerate(probe.found["on_epoch_checkpoint"]):
        last = steps[: 3 * (epoch + 1)]
        assert close(found, averaged(last, 0.7) if for_checkpoints else last[-1])
    assert same(run.model.state_dict(), steps[-1])


@pytest.mark.parametrize("batch", [None, 0, 2], ids=["epoch", "first-batch", "last-batch"])
@pytest.mark.parametrize("for_checkpoints", [False, True], ids=["", "for-checkpoints"])
@pytest.mark.parametrize("swap_on_epoch", [False, True], ids=["", "swap-on-epoch"])
@pytest.mark.parametrize("path", ["state.pt", "state"])
def test_a_resumed_run_ends_bit_for_bit_as_the_whole_one(
    swap_on_epoch: bool, for_checkpoints: bool, batch: int | None, path: str, tmp_path: Path
) -> None:
    """Weights, averages, optimizer and history, from a state of any place."""

    def swap() -> SwapEMAWeights:
        return SwapEMAWeights(swap_on_epoch, decay=0.7, for_checkpoints=for_checkpoints)

    first, whole, resumed = swap(), trainer(), trainer(seed=1)
    history = fit(whole, first, Save(tmp_path / path, 1, batch), epochs=4)
    second = swap()
    again = fit(resumed, second, epochs=4, resume=tmp_path / path)

    assert again.history == history.history
    assert same(resumed.model.state_dict(), whole.model.state_dict())
    assert first.averages is not None
    assert second.averages is not None
    assert same(second.averages.tensors(), first.averages.tensors())
    assert second.averages.count == first.averages.count == 12


def test_a_state_holds_the_averages_and_the_weights(tmp_path: Path) -> None:
    """With for_checkpoints the weights to load are the averages; the others are kept beside."""
    probe = Probe("on_train_batch_end")
    swap, path = SwapEMAWeights(decay=0.7, for_checkpoints=True), tmp_path / "state.pt"
    fit(trainer(), probe, swap, Save(path, 0, None), epochs=1)
    saved = load_state(path)

    steps = probe.found["on_train_batch_end"]
    assert close(saved["model"], averaged(steps, 0.7))
    assert same(
        saved["callbacks"]["swap_ema_weights"]["state"]["tensors"], _without_counters(steps[-1])
    )


def test_a_resumed_run_with_nothing_left_to_train_has_its_own_weights(tmp_path: Path) -> None:
    """Also where the state was saved with the averages in the model."""
    probe, path = Probe("on_train_batch_end"), tmp_path / "state.pt"
    settings = {"decay": 0.7, "for_checkpoints": True}
    fit(trainer(), probe, SwapEMAWeights(**settings), Save(path, 1, None), epochs=2)
    run = trainer(seed=1)
    fit(run, SwapEMAWeights(**settings), _Quiet(), epochs=2, resume=path)

    assert same(run.model.state_dict(), probe.found["on_train_batch_end"][-1])


class _Quiet(Callback):
    def on_message(self) -> bool:
        return True


def _without_counters(weights: Weights) -> Weights:
    return {key: value for key, value in weights.items() if "num_batches" not in key}
