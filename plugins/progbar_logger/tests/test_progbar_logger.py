"""What is shown when, how often, and what that reads."""

from __future__ import annotations

import io
import re
import sys
from typing import Any

import pytest
import torch
from hookloop_progbar_logger import ProgbarLogger
from hookloop_progbar_logger._screen import Notebook, Plain, Terminal, choose
from torch import nn

from hookloop import BaseLogger, Callback, CallbackList, Logs, Trainer, load
from hookloop.errors import SettingError


class Teletype(io.StringIO):
    """A file that says that it is a terminal."""

    def isatty(self) -> bool:
        return True


class Clock:
    """A clock that goes on only when told to."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counted:
    """A number on a device: whoever reads it is counted."""

    ndim = 0

    def __init__(self, value: float) -> None:
        self.value, self.reads = value, 0

    def item(self) -> float:
        self.reads += 1
        return self.value


@pytest.fixture(autouse=True)
def _capable_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "80")


def started(bar: ProgbarLogger, *others: Any, **params: Any) -> tuple[CallbackList, Clock]:
    """Start a run in a hand-written loop, by a clock of its own."""
    clock = bar.clock = Clock()
    params = {"epochs": 2, "steps": 1000, **params}
    callbacks = CallbackList([*others, bar], model=None, params=params)
    callbacks.on_train_begin()
    return callbacks, clock


def draws(file: io.StringIO) -> int:
    """Count how often the bar was drawn: each time its label is written anew."""
    return file.getvalue().count("Epoch")


def batch_end(callbacks: CallbackList, batch: int, loss: Any) -> None:
    """End a batch as a loop on an accelerator does: without reading; the list itself would."""
    logs = Logs({"size": 1})
    dict.__setitem__(logs, "loss", loss)
    call = callbacks.loop.registry.dispatch("on_train_batch_end")
    assert call is not None
    call(callbacks.loop, batch, logs)


def plain(file: io.StringIO) -> str:
    """Give what was written to a terminal without its escape codes."""
    return re.sub(r"\x1b\[[\d;?]*\w", "", file.getvalue())


def masked(text: str) -> list[str]:
    """Give lines without what differs from run to run."""
    return re.sub(r"[\d.]+s - [\d.]+ (s/)?(\w+)(/s)?", r"TIME - \2", text).splitlines()


def constant(target: float) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.zeros(8, 1), torch.full((8, 1), target)


def trainer() -> Trainer:
    """A model that always answers 0, so that its loss is the square of the target."""
    return Trainer(nn.Linear(1, 1, bias=False), loss="mse", optimizer="sgd:lr=0.1", seed=0)


# -- files ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("verbose", ["auto", 1, 2])
def test_a_file_gets_one_plain_line_an_epoch(verbose: Any) -> None:
    """No carriage returns, no escape codes, whatever was asked for."""
    file = io.StringIO()

    trainer().fit(
        constant(1.0),
        batch_size=2,
        epochs=2,
        validation_data=constant(2.0),
        callbacks=[ProgbarLogger(file=file)],
        verbose=verbose,
    )

    assert masked(file.getvalue()) == [
        "Epoch 1/2 - 4/4 - TIME - batch - loss: 1.0000 - val_loss: 4.0000",
        "Epoch 2/2 - 4/4 - TIME - batch - loss: 1.0000 - val_loss: 4.0000",
    ]
    assert not re.search("[\r\x1b]", file.getvalue())


def test_escape_codes_stay_out_of_a_file_also_if_the_environment_wants_colors(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """FORCE_COLOR, which rich takes for a terminal, does not spoil log files."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("TTY_COMPATIBLE", "1")
    file = io.StringIO()

    trainer().fit(constant(1.0), callbacks=[ProgbarLogger(file=file)])

    assert not re.search("[\r\x1b]", file.getvalue())


def test_a_line_an_epoch_also_in_a_terminal() -> None:
    """verbose=2 means lines wherever they go."""
    file = Teletype()

    trainer().fit(constant(1.0), callbacks=[ProgbarLogger(file=file)], verbose=2)

    assert masked(file.getvalue()) == ["Epoch 1/1 - 1/1 - TIME - batch - loss: 1.0000"]


@pytest.mark.parametrize("terminal", [True, False])
def test_verbose_0_is_silent(terminal: bool, capsys: pytest.CaptureFixture[str]) -> None:
    """Nothing at all, in fit, evaluate and predict."""
    file = Teletype() if terminal else io.StringIO()
    run = trainer()
    options: dict[str, Any] = {"callbacks": [ProgbarLogger(file=file)], "verbose": 0}

    run.fit(constant(1.0), **options)
    run.evaluate(constant(1.0), **options)
    run.predict(constant(1.0)[0], **options)

    assert file.getvalue() == ""
    assert capsys.readouterr() == ("", "")


def test_evaluate_and_predict_write_a_line_each_also_after_fit() -> None:
    """One instance serves them all; validation inside of fit has no line of its own."""
    file = io.StringIO()
    run, bar = trainer(), ProgbarLogger(file=file)

    run.fit(constant(1.0), callbacks=[bar], validation_data=constant(2.0))
    run.evaluate(constant(3.0), batch_size=4, callbacks=[bar])
    run.predict(constant(1.0)[0], batch_size=4, callbacks=[bar])

    assert masked(file.getvalue()) == [
        "Epoch 1/1 - 1/1 - TIME - batch - loss: 1.0000 - val_loss: 4.0000",
        "Evaluate - 2/2 - TIME - batch - loss: 9.0000",
        "Predict - 2/2 - TIME - batch",
    ]


def test_standard_output_is_looked_up_when_the_run_starts(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever redirects output before fit gets the lines, not who did when the bar was made."""
    bar, file = ProgbarLogger(), io.StringIO()
    monkeypatch.setattr(sys, "stdout", file)

    trainer().fit(constant(1.0), callbacks=[bar])

    assert masked(file.getvalue()) == ["Epoch 1/1 - 1/1 - TIME - batch - loss: 1.0000"]


def test_what_the_encoding_of_a_file_cannot_write_is_escaped(tmp_path: Any) -> None:
    """A metric with a Greek name does not end the lines."""
    with (tmp_path / "log.txt").open("w", encoding="ascii") as file:
        callbacks, _ = started(ProgbarLogger(file=file))
        callbacks.on_epoch_end(0, {"μ": 1.0})
        callbacks.on_train_end()

    assert (tmp_path / "log.txt").read_text() == "Epoch 1/2 - 0.0s - \\u03bc: 1.0000\n"


def test_the_numbers_are_exactly_those_of_the_history() -> None:
    """What is printed at the end of an epoch is what was logged, and all of it."""
    file = io.StringIO()
    x = torch.linspace(-1, 1, 50).reshape(-1, 1)
    run = Trainer(nn.Linear(1, 1), loss="mse", optimizer="sgd:lr=0.1", metrics=["mae"], seed=0)

    history = run.fit(
        (x, 3 * x), epochs=3, validation_split=0.2, callbacks=[ProgbarLogger(file=file)]
    ).history

    printed = [dict(re.findall(r"(\w+): ([\d.]+)", line)) for line in file.getvalue().splitlines()]
    assert printed == [
        {key: f"{values[epoch]:.4f}" for key, values in history.items()} for epoch in range(3)
    ]


# -- how often -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("per_second", "expected"), [(10, 10), (2, 2)])
def test_it_redraws_at_most_so_many_times_a_second(per_second: float, expected: int) -> None:
    """1000 batches in a second are drawn ten times, at the default."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(file=file, refresh_per_second=per_second))
    callbacks.on_epoch_begin(0)
    for batch in range(1000):
        clock.now = batch / 1000
        callbacks.on_train_batch_end(batch, {"loss": 1.0})

    assert draws(file) == expected
    callbacks.on_train_end()


def test_epochs_shorter_than_a_redraw_are_drawn_once_each() -> None:
    """Only their last state is shown."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(file=file), epochs=20, steps=1)
    for epoch in range(20):
        callbacks.on_epoch_begin(epoch)
        clock.now += 0.002
        callbacks.on_train_batch_end(0, {"loss": 1.0})
        callbacks.on_epoch_end(epoch, {"loss": 1.0})
    callbacks.on_train_end()

    assert draws(file) == 21  # and the very first, when the run began


@pytest.mark.parametrize(("seconds", "shown"), [(0.002, False), (0.5, True)], ids=["short", "long"])
def test_validation_is_shown_at_once_unless_the_epoch_is_too_short_to_be_seen(
    seconds: float, shown: bool
) -> None:
    """Also right after a redraw: its first batch may take long."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(file=file), steps=1)
    callbacks.on_epoch_begin(0)
    clock.now += seconds
    callbacks.on_train_batch_end(0, {"loss": 1.0})
    callbacks.on_test_begin()

    assert ("validation 0" in plain(file)) is shown
    callbacks.on_test_end({})
    callbacks.on_train_end()


@pytest.mark.parametrize("file", [Teletype(), io.StringIO()], ids=["terminal", "file"])
def test_no_value_is_read_between_redraws(file: io.StringIO) -> None:
    """A value on a device is waited for at redraws only, and never for a file."""
    callbacks, clock = started(ProgbarLogger(file=file))
    callbacks.on_epoch_begin(0)
    losses = [Counted(1.0) for _ in range(1000)]
    for batch, loss in enumerate(losses):
        clock.now = batch / 1000
        batch_end(callbacks, batch, loss)

    assert sum(loss.reads for loss in losses) == (9 if file.isatty() else 0)
    callbacks.on_train_end()


def test_the_shown_means_are_those_of_base_logger_without_reading_batches() -> None:
    """With it in the run, a moving bar shows what the epoch's mean is so far."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(file=file), BaseLogger(), steps=4)
    callbacks.on_epoch_begin(0)
    for batch, loss in enumerate([4.0, 2.0, 0.0]):
        clock.now += 1.0
        callbacks.on_train_batch_end(batch, {"loss": loss, "size": 2})

    assert re.findall(r"\d\.\d{4}", file.getvalue()) == ["4.0000", "3.0000", "2.0000"]
    callbacks.on_train_end()


def test_stateful_metrics_are_shown_as_they_are() -> None:
    """What accumulates by itself is not averaged again."""
    file = Teletype()
    bar = ProgbarLogger(file=file, stateful_metrics=["seen"])
    callbacks, clock = started(bar, BaseLogger(), steps=4)
    callbacks.on_epoch_begin(0)
    for batch in range(3):
        clock.now += 1.0
        callbacks.on_train_batch_end(batch, {"seen": float(batch), "size": 2})

    assert re.findall(r"\d\.\d{4}", file.getvalue()) == ["0.0000", "1.0000", "2.0000"]
    callbacks.on_train_end()


# -- counting --------------------------------------------------------------------------------------


def test_samples_are_counted_if_asked_for() -> None:
    """With the total that the run announces, the short last batch included."""
    file = io.StringIO()
    bar = ProgbarLogger("samples", file=file)

    trainer().fit((torch.zeros(7, 1), torch.ones(7, 1)), batch_size=3, callbacks=[bar])

    assert masked(file.getvalue()) == ["Epoch 1/1 - 7/7 - TIME - sample - loss: 1.0000"]


@pytest.mark.parametrize("mode", ["steps", "samples"])
def test_an_unknown_length_is_known_after_the_first_epoch(mode: Any) -> None:
    """The first epoch has no end in sight, the second a total."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(mode, file=file), steps=None)
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(3):
            clock.now += 1.0
            callbacks.on_train_batch_end(batch, {"size": 1})
        callbacks.on_epoch_end(epoch, {})
    callbacks.on_train_end()

    counts = re.findall(r"[━─] (\d/.)", plain(file))
    assert counts == ["1/?", "2/?", "3/?", "3/3", "1/3", "2/3", "3/3", "3/3"]


def test_an_epoch_that_was_cut_is_not_taken_for_the_length() -> None:
    """A stop in the middle says nothing about where the end is."""
    bar = ProgbarLogger(file=Teletype())
    callbacks, _ = started(bar, steps=None)
    callbacks.on_epoch_begin(0)
    callbacks.on_train_batch_end(0, {})
    callbacks.loop.stop("enough")
    callbacks.on_epoch_end(0, {})

    assert bar._known == {}
    callbacks.on_train_end()


def test_a_resumed_epoch_goes_on_where_it_was() -> None:
    """The first batch has number 500: that is where the bar stands, and no speed."""
    file = Teletype()
    callbacks, clock = started(ProgbarLogger(file=file))
    callbacks.on_epoch_begin(0)
    clock.now = 10.0
    callbacks.on_train_batch_end(500, {})

    assert " 501/1000 • 1:23:10 left • 10.0 s/batch" in plain(file)
    callbacks.on_train_end()


def test_epochs_without_batch_hooks_have_a_line_too() -> None:
    """A loop that reports epochs only is shown what it reports."""
    file = io.StringIO()
    callbacks, _ = started(ProgbarLogger(file=file), epochs=None, steps=None)
    callbacks.on_epoch_begin(0)
    callbacks.on_epoch_end(0, {"loss": 0.5, "note": "text", "curve": [1, 2]})
    callbacks.on_train_end()

    assert file.getvalue() == "Epoch 1 - 0.0s - loss: 0.5000\n"


# -- messages, failures, settings ------------------------------------------------------------------


def test_a_message_goes_to_the_file_of_the_bar() -> None:
    """In its place among the lines, and to nobody else."""
    file = io.StringIO()
    callbacks, _ = started(ProgbarLogger(file=file))
    callbacks.loop.message("[b]literally[/b]")
    callbacks.on_train_end()

    assert file.getvalue() == "[b]literally[/b]\n"


def test_a_message_before_and_after_the_run_is_left_to_the_loop(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Outside of a run there is no bar that it could go above."""
    file = io.StringIO()
    callbacks, _ = started(ProgbarLogger(file=file))
    loop = callbacks.loop
    callbacks.on_train_end()
    loop.message("afterwards")

    assert (file.getvalue(), capsys.readouterr().out) == ("", "afterwards\n")


class Failing(Counted):
    def item(self) -> float:
        raise ValueError("lost device")


def test_a_bar_that_fails_gives_the_terminal_back() -> None:
    """It is off from then on, with one warning; training goes on, the cursor is there again."""
    file, stdout = Teletype(), sys.stdout
    callbacks, clock = started(ProgbarLogger(file=file))
    callbacks.on_epoch_begin(0)
    clock.now = 1.0
    with pytest.warns(RuntimeWarning, match="progbar_logger failed in on_train_batch_end"):
        batch_end(callbacks, 0, Failing(1.0))
    callbacks.on_train_batch_end(1, {"loss": 1.0})
    callbacks.on_train_end()

    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1
    assert sys.stdout is stdout


@pytest.mark.parametrize("hook", ["on_train_batch_end", "on_test_batch_end", "on_epoch_end"])
def test_the_terminal_is_given_back_whatever_ends_the_run(hook: str) -> None:
    """An exception in training, in validation and at the end of the epoch."""
    file, stdout = Teletype(), sys.stdout

    def fail(self: Any) -> None:
        raise RuntimeError("stop here")

    failing = type("Failing", (Callback,), {hook: fail})()
    with pytest.raises(RuntimeError, match="stop here"):
        trainer().fit(
            constant(1.0),
            validation_data=constant(2.0),
            callbacks=[failing, ProgbarLogger(file=file)],
        )

    assert file.getvalue().count("\x1b[?25l") == file.getvalue().count("\x1b[?25h") == 1
    assert sys.stdout is stdout


@pytest.mark.parametrize("what", ["evaluate", "predict"])
def test_an_evaluation_that_fails_claims_no_result(what: str) -> None:
    """No last line is written for what did not end."""
    file = io.StringIO()

    class Failing(Callback):
        def on_test_batch_end(self) -> None:
            raise RuntimeError("stop here")

        on_predict_batch_end = on_test_batch_end

    data: Any = constant(1.0) if what == "evaluate" else constant(1.0)[0]
    with pytest.raises(RuntimeError, match="stop here"):
        getattr(trainer(), what)(data, callbacks=[Failing(), ProgbarLogger(file=file)])

    assert file.getvalue() == ""


def test_an_evaluation_inside_of_a_shown_run_writes_a_line_above_its_bar(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Two bars would fight for the terminal: the inner run gets a line."""
    file = Teletype()
    monkeypatch.setattr(sys, "stdout", file)

    class Evaluating(Callback):
        def on_epoch_end(self) -> None:
            trainer().evaluate(constant(3.0))

    trainer().fit(constant(1.0), callbacks=[Evaluating()])

    lines = [line.rstrip() for line in plain(file).splitlines()]
    assert sum(line.startswith("Evaluate - 1/1 - ") for line in lines) == 1
    assert lines[-1] == "  loss: 1.0000"


@pytest.mark.parametrize(
    ("settings", "fix"),
    [
        ({"count_mode": "batches"}, "count_mode='steps' or count_mode='samples'"),
        ({"refresh_per_second": 0}, "above 0, up to 10"),
        ({"refresh_per_second": 11}, "above 0, up to 10"),
        ({"stateful_metrics": "auc"}, r"stateful_metrics=\['auc'\]"),
    ],
    ids=["count_mode", "never", "too_often", "text"],
)
def test_settings_that_make_no_sense_are_refused(settings: Any, fix: str) -> None:
    """With what does."""
    with pytest.raises(SettingError, match=f"(?s)fix: .*{fix}"):
        ProgbarLogger(**settings)


def test_it_is_what_fit_shows_unless_told_otherwise(capsys: pytest.CaptureFixture[str]) -> None:
    """Installed, it takes the place of core's own lines, unnamed."""
    trainer().fit(constant(1.0))

    assert masked(capsys.readouterr().out) == ["Epoch 1/1 - 1/1 - TIME - batch - loss: 1.0000"]


def test_it_is_found_by_name_and_only_observes() -> None:
    """A name and settings make one; its failure never ends a run."""
    bar = load("progbar_logger", count_mode="samples")

    assert (type(bar), bar.observer) == (ProgbarLogger, True)


# -- where -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("file", "verbose", "term", "kind"),
    [
        (Teletype(), "auto", "xterm", Terminal),
        (Teletype(), 1, "xterm", Terminal),
        (Teletype(), None, "xterm", Terminal),
        (Teletype(), 2, "xterm", Plain),
        (Teletype(), 1, "dumb", Plain),
        (io.StringIO(), 1, "xterm", Plain),
        (Teletype(), 0, "xterm", type(None)),
    ],
    ids=["auto", "1", "unsaid", "2", "dumb", "file", "0"],
)
def test_where_the_run_is_shown(
    file: Any, verbose: Any, term: str, kind: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A live bar only where it can be one."""
    monkeypatch.setenv("TERM", term)

    assert type(choose(file, verbose)) is kind


class Handle:
    """An output of a notebook's cell."""

    def __init__(self, outputs: list[str]) -> None:
        self.outputs, self.place = outputs, len(outputs) - 1

    def update(self, text: Any) -> None:
        self.outputs[self.place] = text.plain


def test_a_notebook_shows_one_output_an_epoch_and_messages_above() -> None:
    """The bar is replaced while it changes, and stays when it is finished."""
    outputs: list[str] = []

    def display(text: Any, *, display_id: bool) -> Handle:
        assert display_id
        outputs.append(text.plain)
        return Handle(outputs)

    bar = ProgbarLogger()
    callbacks, clock = started(bar, steps=2)
    bar._screen, bar._due = Notebook(display), 0.0
    for epoch in range(2):
        callbacks.on_epoch_begin(epoch)
        for batch in range(2):
            clock.now += 1.0
            callbacks.on_train_batch_end(batch, {"loss": 1.0})
        if not epoch:
            callbacks.loop.message("[i]half way[/i]")
        callbacks.on_epoch_end(epoch, {"loss": 0.5})
    callbacks.on_train_end()

    finished = "━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 2/2 • 2.0s • 1.0 batch/s\n  loss: 0.5000"
    assert outputs == [
        "[i]half way[/i]",
        f"Epoch 1/2 {finished}",
        f"Epoch 2/2 {finished}",
    ]
