"""EarlyStopping in real loops: what it stops, restores, says, saves and refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hookloop_early_stopping import EarlyStopping

from hookloop import CallbackList, Trainer, attach, load
from hookloop.errors import CapabilityError, MonitorError, SettingError


def drive(callback: EarlyStopping, values: list[float | None], name: str = "val_loss"):
    """Run one epoch a value in a hand-written loop, until it is stopped; give model and loop.

    The weight of the model is the index of the epoch, so that it tells which epoch it is from.
    """
    model = torch.nn.Linear(1, 1, bias=False)
    callbacks = CallbackList([callback], model=model)
    callbacks.on_train_begin()
    loop = callbacks.loop
    for epoch, value in enumerate(values):
        with torch.no_grad():
            model.weight.fill_(float(epoch))
        callbacks.on_epoch_end(epoch, {} if value is None else {name: value})
        if loop.stop_training:
            break
    callbacks.on_train_end()
    return model, loop


def test_the_example_of_the_keras_documentation_runs_four_epochs():
    """Five samples, patience 3: "only 4 epochs are run"."""
    model = torch.nn.Linear(20, 10)
    trainer = Trainer(model, loss="mse", optimizer="sgd:lr=0.0", seed=0)
    x = np.arange(100).reshape(5, 20).astype("float32")
    history = trainer.fit(
        (x, np.zeros((5, 10), "float32")),
        epochs=10,
        batch_size=1,
        callbacks=[EarlyStopping(monitor="loss", patience=3)],
        shuffle=False,
        verbose=0,
    )
    assert len(history.history["loss"]) == 4
    assert history.outcome == "stopped"


def test_the_reason_names_metric_value_and_epoch():
    """Who reads stop_reason knows why."""
    _, loop = drive(EarlyStopping(patience=2), [1.0, 0.123456789, 0.5, 0.6])
    assert loop.stop_reason == (
        "early_stopping: val_loss has not improved on 0.12346 (epoch 2) for 2 epochs"
    )


def test_the_reason_names_the_baseline_where_that_is_why():
    """A run may stop while it improves, so the reason says what it missed."""
    _, loop = drive(EarlyStopping(patience=2, baseline=0.1), [1.0, 0.9, 0.8])
    assert (
        loop.stop_reason == "early_stopping: val_loss has not beaten the baseline 0.1 for 2 epochs"
    )


@pytest.mark.parametrize(
    ("settings", "weight"),
    [
        ({"patience": 2, "restore_best_weights": True}, 1.0),
        ({"patience": 2}, 3.0),
        ({"patience": 9, "restore_best_weights": True}, 1.0),
        ({"patience": 9, "restore_best_weights": True, "restore": "on_stop"}, 4.0),
        ({"patience": 2, "restore_best_weights": True, "restore": "on_stop"}, 1.0),
    ],
    ids=["stopped", "not asked for", "ran out", "ran out, on_stop", "stopped, on_stop"],
)
def test_the_best_weights_come_back_when_asked_for(settings, weight):
    """As in Keras 3 however training ended, unless restore='on_stop'."""
    model, _ = drive(EarlyStopping(**settings), [1.0, 0.5, 0.7, 0.6, 0.8])
    assert model.weight.item() == weight


def test_weights_are_copied_only_when_they_are_to_be_restored():
    """A large model is not held twice for nothing."""
    callback = EarlyStopping(patience=2)
    drive(callback, [1.0, 0.5])
    assert callback.best_weights is None


def test_the_copy_of_the_weights_reuses_its_memory():
    """A better epoch is copied over the one before."""
    callback = EarlyStopping(restore_best_weights=True, patience=9)
    model = torch.nn.Linear(1, 1)
    callbacks = CallbackList([callback], model=model)
    callbacks.on_train_begin()
    callbacks.on_epoch_end(0, {"val_loss": 1.0})
    first = callback.best_weights["weight"].data_ptr()
    callbacks.on_epoch_end(1, {"val_loss": 0.5})
    assert callback.best_weights["weight"].data_ptr() == first


def test_epochs_before_start_from_epoch_do_not_count():
    """Neither as the best nor as waited for."""
    callback = EarlyStopping(patience=1, start_from_epoch=3)
    drive(callback, [0.1, 5.0, 5.0, 4.0, 3.0, 3.5, 1.0])
    assert (callback.stopped_epoch, callback.best, callback.best_epoch) == (5, 3.0, 4)


def test_epochs_without_the_metric_do_not_count():
    """With validation_freq=2 patience counts validations; the gap is said once."""
    callback = EarlyStopping(patience=2)
    with pytest.warns(UserWarning, match="'val_loss' was not reported") as said:
        drive(callback, [1.0, None, 2.0, None, 3.0, None])
    assert len(said) == 1
    assert callback.stopped_epoch == 4


def test_a_metric_that_never_comes_is_said_again_at_the_end():
    """Nobody learns after a night that early stopping did nothing."""
    with pytest.warns(UserWarning, match="val_los") as said:
        drive(EarlyStopping(monitor="val_los", mode="min"), [1.0, 2.0])
    assert [str(one.message).partition("\n")[0] for one in said] == [
        "early_stopping: 'val_los' was not reported at the end of this epoch, which does not "
        "count; reported: val_loss. Did you mean 'val_loss'?",
        "early_stopping: 'val_los' was never reported in this run, so it decided nothing.",
    ]


def test_how_to_have_a_metric_reported_is_said_in_words_of_the_loop():
    """Only the Trainer takes data for validation; another loop validates by itself."""
    model, data = torch.nn.Linear(1, 1), (torch.ones(4, 1), torch.ones(4, 1))

    def by_attach():
        with attach(model, callbacks=["early_stopping"], epochs=1) as loop:
            for _ in loop.epochs():
                loop.log(loss=1.0)

    runs = {
        "pass validation_data=": lambda: Trainer(model, loss="mse", optimizer="sgd").fit(
            data, callbacks=["early_stopping"], verbose=0
        ),
        "log it in `with loop.validation():`": by_attach,
        "give it to on_epoch_end": lambda: drive(EarlyStopping(), [1.0], "loss"),
    }
    for how, run in runs.items():
        with pytest.warns(UserWarning, match="'val_loss'") as said:
            run()
        assert f"\nfix: {how}, or monitor one of these" in str(said[0].message)


def test_verbose_says_where_it_stopped_and_what_it_restored(capsys):
    """The texts of Keras."""
    drive(EarlyStopping(patience=1, verbose=1, restore_best_weights=True), [1.0, 2.0])
    assert capsys.readouterr().out.splitlines() == [
        "Epoch 2: early stopping",
        "Restoring model weights from the end of the best epoch: 1.",
    ]


def test_a_second_run_begins_afresh():
    """A reused instance forgets the best, the wait and the weights of the run before."""
    callback = EarlyStopping(patience=2, restore_best_weights=True)
    drive(callback, [0.1, 0.2, 0.3])
    model, loop = drive(callback, [5.0, 4.0, 4.5])
    assert not loop.stop_training
    assert (callback.best, callback.best_epoch, callback.wait) == (4.0, 1, 1)
    assert model.weight.item() == 1.0


def test_the_metric_objects_own_direction_decides():
    """A metric whose name says nothing is compared as it says of itself."""

    class Gain:
        higher_is_better = True
        name = "gain"

        def reset(self):
            self.total = 0.0

        def update(self, outputs, targets):
            self.total += 1.0

        def compute(self):
            return self.total

    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", metrics=[Gain()])
    x = torch.zeros(8, 1)
    history = trainer.fit(
        (x, x), epochs=5, callbacks=["early_stopping:monitor=gain,patience=2"], verbose=0
    )
    assert (
        history.stop_reason == "early_stopping: gain has not improved on 1 (epoch 1) for 2 epochs"
    )


def test_a_metric_of_unknown_direction_is_refused_before_training():
    """Keras finds out after a whole epoch."""
    trainer = Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd")
    before = trainer.module.weight.clone()
    x = torch.ones(8, 1)
    with pytest.raises(MonitorError, match="write mode='min' or mode='max'"):
        trainer.fit((x, x), callbacks=["early_stopping:monitor=wealth"], verbose=0)
    assert torch.equal(trainer.module.weight, before)


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"patience": -1}, "early_stopping: patience=-1 is negative."),
        ({"start_from_epoch": -2}, "early_stopping: start_from_epoch=-2 is negative."),
        ({"restore": "sometimes"}, "early_stopping: restore='sometimes' is not offered."),
        ({"mode": "down"}, "early_stopping: mode='down' is no direction."),
        ({"min_delta": float("nan")}, "early_stopping: min_delta is not a number."),
        ({"baseline": float("nan")}, "early_stopping: baseline is not a number."),
    ],
    ids=lambda value: "" if isinstance(value, str) else next(iter(value)),
)
def test_settings_that_make_no_sense_are_refused(settings, text):
    """When the callback is made, with what to write instead."""
    with pytest.raises((SettingError, ValueError)) as refused:
        EarlyStopping(**settings)
    first, fix = str(refused.value).split("\n")
    assert first == text
    assert fix.startswith("fix: ")


def test_its_decisions_survive_a_restart():
    """Interrupted anywhere, it stops where the undisturbed run stops, with the same best."""
    values = [1.0, 0.6, 0.7, 0.55, 0.8, 0.7, 0.9]
    whole = EarlyStopping(patience=3, restore_best_weights=True)
    drive(whole, values)
    for cut in range(1, 6):
        model = torch.nn.Linear(1, 1, bias=False)
        first = EarlyStopping(patience=3, restore_best_weights=True)
        second = EarlyStopping(patience=3, restore_best_weights=True)
        for callback, part in ((first, range(cut)), (second, range(cut, len(values)))):
            callbacks = CallbackList([callback], model=model)
            callbacks.on_train_begin()
            if callback is second:
                callback.load_state_dict(first.state_dict())
            for epoch in part:
                if not callbacks.loop.stop_training:
                    model.weight.data.fill_(float(epoch))
                    callbacks.on_epoch_end(epoch, {"val_loss": values[epoch]})
        assert second.stopped_epoch == whole.stopped_epoch == 6
        assert (second.best, second.best_epoch) == (0.55, 3)
        assert torch.equal(second.best_weights["weight"], whole.best_weights["weight"])


def test_it_is_chosen_by_name_with_settings():
    """As text, with what Keras calls its arguments."""
    callback = load("EarlyStopping:patience=3,mode=max,restore_best_weights=true")
    assert (callback.patience, callback.restore_best_weights) == (3, True)


def test_restoring_weights_needs_a_model_from_the_start():
    """A loop without one is refused before its first epoch."""
    callbacks = CallbackList([EarlyStopping(restore_best_weights=True)], model=None)
    with pytest.raises(CapabilityError) as refused:
        callbacks.on_train_begin()
    assert str(refused.value) == (
        "early_stopping restores weights, and CallbackList was given no model.\n"
        "fix: pass model=, or restore_best_weights=False"
    )
