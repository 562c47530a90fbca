"""What the callback does in a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from hookloop_reduce_lr_on_plateau import ReduceLROnPlateau

from hookloop import Callback, CallbackList, HookloopError, Trainer, load
from hookloop.checkpoints import save_state
from hookloop.errors import CapabilityError, SettingError

# Here a callback reports val_loss, which the loop cannot know when it starts.
pytestmark = pytest.mark.filterwarnings("ignore:.*Nothing is known to report 'val_loss'")

DATA = (torch.ones(4, 1), torch.zeros(4, 1))


class Lines(Callback):
    """Keeps what is said to the user."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def on_message(self, text: str) -> bool:
        self.lines.append(text)
        return True


class Report(Callback):
    """Reports the given values as ``val_loss``, one an epoch."""

    def __init__(self, values: list[float]) -> None:
        self.values = values

    def on_epoch_end(self, epoch: int, logs: dict[str, Any]) -> None:
        logs["val_loss"] = self.values[epoch]


def trainer(lr: float = 1e-3, groups: tuple[float, ...] = ()) -> Trainer:
    torch.manual_seed(0)
    model = torch.nn.Linear(1, 1)
    own = list(model.parameters())
    params = [{"params": [p], "lr": rate} for p, rate in zip(own, groups, strict=False)]
    optimizer = torch.optim.SGD(params if groups else own, lr=lr)
    return Trainer(model, loss="mse", optimizer=optimizer, seed=0)


def test_found_by_name() -> None:
    """load() makes it by its name, with settings."""
    callback = load("reduce_lr_on_plateau:patience=3,min_lr=0.001")

    assert isinstance(callback, ReduceLROnPlateau)
    assert (callback.patience, callback.min_lr) == (3, 0.001)


def test_defaults_are_those_of_keras() -> None:
    """Without settings it does what Keras's callback does without settings."""
    callback = ReduceLROnPlateau()

    assert vars(callback)["_settings"] == {
        "monitor": "val_loss", "factor": 0.1, "patience": 10, "verbose": 0, "mode": "auto",
        "min_delta": 1e-4, "cooldown": 0, "min_lr": 0.0, "epsilon": None,
    }  # fmt: skip


@pytest.mark.parametrize("factor", [0.0, -0.5, 1.0, 2.0, float("nan")])
def test_factor_outside_0_and_1_is_refused(factor: float) -> None:
    """A factor that does not lower the rate step by step is refused when it is given."""
    with pytest.raises(SettingError, match=r"(?s)factor=.*fix: a factor between 0 and 1"):
        ReduceLROnPlateau(factor=factor)


@pytest.mark.parametrize("name", ["patience", "cooldown", "min_lr"])
def test_negative_settings_are_refused(name: str) -> None:
    """Counts and rates below 0 make no sense."""
    with pytest.raises(SettingError, match=f"{name}=-1"):
        ReduceLROnPlateau(**{name: -1})


def test_unknown_setting_is_refused() -> None:
    """Keras swallows a misspelt setting; here it is named, with the one that was meant."""
    with pytest.raises(SettingError, match=r"no setting 'patiance'\. Did you mean 'patience'\?"):
        load("reduce_lr_on_plateau:patiance=3")
    with pytest.raises(TypeError, match="patiance"):
        ReduceLROnPlateau(patiance=3)  # type: ignore[call-arg]


def test_unknown_mode_is_refused() -> None:
    """A mode that does not exist is not taken for another."""
    with pytest.raises(HookloopError, match="mode='up'"):
        ReduceLROnPlateau(mode="up")


def test_epsilon_is_the_old_name_of_min_delta() -> None:
    """The name of Keras 2.0 is understood, and answered with the present one."""
    with pytest.warns(DeprecationWarning, match=r"(?s)epsilon.*fix: min_delta=0\.01"):
        callback = ReduceLROnPlateau(epsilon=0.01)

    assert callback.min_delta == 0.01


def test_epsilon_and_min_delta_together_are_refused() -> None:
    """One setting under two names has no single value."""
    with pytest.raises(SettingError, match="one setting"):
        ReduceLROnPlateau(epsilon=0.01, min_delta=0.02)


def test_history_has_the_rate_in_force_during_the_epoch() -> None:
    """`lr` is logged before it is lowered, as Keras does with `learning_rate`."""
    history = trainer(lr=0.5).fit(
        DATA,
        epochs=4,
        callbacks=[Report([1, 1, 1, 1]), ReduceLROnPlateau(factor=0.5, patience=1)],
        verbose=0,
    )

    assert history.history["lr"] == [0.5, 0.5, 0.25, 0.125]


@pytest.mark.parametrize("name", ["learning_rate", "lr"])
def test_the_rate_itself_can_be_monitored(name: str) -> None:
    """`learning_rate` is understood as the `lr` that is logged: not falling is a plateau."""
    history = trainer(lr=0.5).fit(
        DATA, epochs=3, callbacks=[ReduceLROnPlateau(name, factor=0.5, patience=1)], verbose=0
    )

    assert history.history["lr"] == [0.5, 0.5, 0.25]


def test_all_groups_scale_alike() -> None:
    """The ratio between parameter groups stays, min_lr being the first group's."""
    run = trainer(groups=(0.4, 0.1))
    run.fit(
        DATA,
        epochs=2,
        callbacks=[Report([1, 1]), ReduceLROnPlateau(factor=0.5, patience=1)],
        verbose=0,
    )

    assert [group["lr"] for group in run.optimizer.param_groups] == pytest.approx([0.2, 0.05])


def test_verbose_says_what_keras_says() -> None:
    """One line for each reduction, epochs counted from 1; the floor is said once."""
    lines = Lines()
    plateau = ReduceLROnPlateau(factor=0.5, patience=1, verbose=1, min_lr=0.05)
    trainer(lr=0.1).fit(DATA, epochs=5, callbacks=[Report([1] * 5), plateau, lines], verbose=0)

    assert lines.lines == [
        "Epoch 2: ReduceLROnPlateau reducing learning rate to 0.05.",
        "Epoch 3: ReduceLROnPlateau learning rate stays at 0.05, its lowest.",
    ]


def test_nothing_is_said_without_verbose() -> None:
    """verbose=0 is silent."""
    lines = Lines()
    plateau = ReduceLROnPlateau(factor=0.5, patience=1)
    trainer().fit(DATA, epochs=3, callbacks=[Report([1] * 3), plateau, lines], verbose=0)

    assert lines.lines == []


def test_a_scheduler_that_overwrites_the_rate_is_named_once() -> None:
    """A torch scheduler beside it undoes each reduction: said in one line for the whole run."""
    run = trainer(lr=0.1)
    scheduler = torch.optim.lr_scheduler.LambdaLR(run.optimizer, lambda epoch: 1.0)

    class Step(Callback):
        def on_epoch_end(self) -> None:
            scheduler.step()

    lines = Lines()
    plateau = ReduceLROnPlateau(factor=0.5, patience=1)
    run.fit(DATA, epochs=5, callbacks=[Report([1] * 5), plateau, Step(), lines], verbose=0)

    assert [line.splitlines()[0] for line in lines.lines] == [
        "The learning rate was set to 0.05 by reduce_lr_on_plateau and overwritten with 0.1 by a "
        "scheduler or other code."
    ]


def test_a_callback_that_overwrites_the_rate_is_named_once() -> None:
    """So is another callback that goes through loop.set_lr."""

    class Constant(Callback):
        def on_epoch_begin(self) -> None:
            self.loop.set_lr(0.1, by="constant")

    lines = Lines()
    plateau = ReduceLROnPlateau(factor=0.5, patience=1)
    run = trainer(lr=0.1)
    run.fit(DATA, epochs=5, callbacks=[Constant(), Report([1] * 5), plateau, lines], verbose=0)

    assert len(lines.lines) == 1
    assert "constant" in lines.lines[0]
    assert "reduce_lr_on_plateau" in lines.lines[0]


def test_a_missing_metric_is_said_and_the_epoch_does_not_count() -> None:
    """Neither patience nor cooldown goes on without the metric."""
    run = trainer(lr=0.1)
    plateau = ReduceLROnPlateau(factor=0.5, patience=1)

    with pytest.warns(UserWarning, match="'val_loss' was (not|never) reported"):
        run.fit(DATA, epochs=3, callbacks=[plateau], verbose=0)

    assert (run.optimizer.param_groups[0]["lr"], plateau.wait) == (0.1, 0)


def test_a_metric_without_a_direction_is_refused_before_training() -> None:
    """mode="auto" that cannot tell is an error at the start, not after an epoch."""
    with pytest.raises(HookloopError, match=r"(?s)'wombats'.*mode='min' or mode='max'"):
        trainer().fit(DATA, callbacks=[ReduceLROnPlateau("wombats")], verbose=0)


def test_a_loop_without_an_optimizer_is_refused_before_training() -> None:
    """Where there is no rate it says so when the run starts."""
    callbacks = CallbackList([ReduceLROnPlateau("loss")], model=torch.nn.Linear(1, 1))

    with pytest.raises(CapabilityError, match="no optimizer"):
        callbacks.on_train_begin()


def test_a_second_fit_begins_afresh() -> None:
    """Best value, patience and cooldown are of one run."""
    plateau = ReduceLROnPlateau(factor=0.5, patience=3, cooldown=2)
    run = trainer(lr=0.1)
    for _ in range(2):
        run.fit(DATA, epochs=3, callbacks=[Report([1] * 3), plateau], verbose=0)

    assert run.optimizer.param_groups[0]["lr"] == 0.1
    assert (plateau.wait, plateau.cooldown_counter) == (2, 0)


@pytest.mark.parametrize("cut", [1, 2, 3, 4, 5, 6])
def test_a_resumed_run_lowers_the_rate_when_the_uninterrupted_one_does(
    cut: int, tmp_path: Path
) -> None:
    """Best value, patience and cooldown survive a restart at any epoch."""
    values = [5.0, 5.0, 4.0, 4.5, 4.5, 3.9, 4.1, 4.1]

    class Save(Callback):
        def on_epoch_checkpoint(self, epoch: int) -> None:
            if epoch + 1 == cut:
                save_state(tmp_path / "run.pt", self.loop.state_dict())

    def callbacks() -> list[Any]:
        return [Report(values), ReduceLROnPlateau(factor=0.5, patience=1, cooldown=1), Save()]

    whole = trainer().fit(DATA, epochs=8, callbacks=callbacks(), verbose=0)
    trainer().fit(DATA, epochs=cut, callbacks=callbacks(), verbose=0)
    resumed = trainer().fit(
        DATA, epochs=8, callbacks=callbacks(), resume=tmp_path / "run.pt", verbose=0
    )

    assert resumed.history["lr"] == whole.history["lr"]
    assert len(set(whole.history["lr"])) > 2
