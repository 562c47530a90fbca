"""What a person sees: real scripts in a real pseudo-terminal, their bytes rendered by pyte."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pyte
import pytest

BEGIN = '''
import sys
from hookloop import BaseLogger, Callback, CallbackList
from hookloop_progbar_logger import ProgbarLogger

class Clock(Callback):
    """A quarter of a second a batch, so that all times are known."""
    now = 0.0
    def on_train_batch_end(self):
        Clock.now += 0.25
    on_test_batch_end = on_predict_batch_end = on_train_batch_end

ProgbarLogger.clock = staticmethod(lambda: Clock.now)
'''

FIT = """
import torch
from hookloop import Trainer

class Talking(Callback):
    def on_train_batch_end(self, batch):
        if self.loop.epoch == 1 and batch == 1:
            self.loop.message("[b]Saved[/b] to runs/best.pt")
            print("printed by somebody")

def constant(target):
    return torch.zeros(8, 1), torch.full((8, 1), target)

model = torch.nn.Linear(1, 1, bias=False)
trainer = Trainer(model, loss="mse", optimizer="sgd", metrics=["mae"], seed=0)
data = {"batch_size": 2, "validation_data": constant(2.0)}
trainer.fit(constant(1.0), epochs=2, callbacks=[Clock(), Talking()], **data)
trainer.evaluate(constant(3.0), batch_size=2, callbacks=[Clock()])
trainer.predict(constant(3.0)[0], batch_size=2, callbacks=[Clock()])
print("done")
"""


def in_terminal(tmp_path: Path, script: str, columns: int = 80) -> bytes:
    """Run a script in a terminal of 24 lines; give all that it wrote."""
    path = tmp_path / "script.py"
    path.write_text(BEGIN + script)
    controller, terminal = pty.openpty()
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    unset = ("COLUMNS", "LINES", "NO_COLOR", "FORCE_COLOR", "HOOKLOOP_CALLBACKS")
    environment = {key: value for key, value in os.environ.items() if key not in unset}
    environment |= {"TERM": "xterm-256color", "PYTHONUTF8": "1"}
    with subprocess.Popen(
        [sys.executable, path], stdin=terminal, stdout=terminal, stderr=terminal, env=environment
    ):
        os.close(terminal)
        written = b""
        while some := _read(controller):
            written += some
    os.close(controller)
    return written


def _read(controller: int) -> bytes:
    try:
        return os.read(controller, 65536)
    except OSError:  # the other end is closed
        return b""


def seen(written: bytes, columns: int = 80) -> tuple[list[str], bool]:
    """Give the lines on the screen, and whether the cursor is there."""
    screen = pyte.Screen(columns, 24)
    pyte.ByteStream(screen).feed(written)
    lines = [line.rstrip() for line in screen.display]
    while lines and not lines[-1]:
        lines.pop()
    return lines, not screen.cursor.hidden


def frames(written: bytes) -> list[list[str]]:
    """Give what is on the screen after each redraw: a redraw begins by erasing a line."""
    parts = written.split(b"\r\x1b[2K")
    return [seen(b"\r\x1b[2K".join(parts[: n + 1]))[0] for n in range(len(parts))]


def test_a_person_sees_a_line_an_epoch_with_its_metrics_below(tmp_path: Path) -> None:
    """Messages and prints appear above the bar of the epoch in which they came."""
    bar = "━" * 30

    assert seen(in_terminal(tmp_path, FIT)) == (
        [
            f"Epoch 1/2 {bar} 4/4 • 2.0s • 4.0 batch/s",
            "  loss: 1.0000 • mae: 1.0000 • val_loss: 4.0000 • val_mae: 2.0000",
            "[b]Saved[/b] to runs/best.pt",
            "printed by somebody",
            f"Epoch 2/2 {bar} 4/4 • 2.0s • 4.0 batch/s",
            "  loss: 1.0000 • mae: 1.0000 • val_loss: 4.0000 • val_mae: 2.0000",
            f"Evaluate {bar} 4/4 • 1.0s • 4.0 batch/s",
            "  loss: 9.0000 • mae: 3.0000",
            f"Predict {bar} 4/4 • 1.0s • 4.0 batch/s",
            "done",
        ],
        True,
    )


def test_a_person_sees_the_bar_grow_and_validation_beside_it(tmp_path: Path) -> None:
    """Each redraw replaces the one before; nothing of it remains."""
    script = """
callbacks = CallbackList([BaseLogger(), Clock(), "progbar_logger"], model=None,
                         params={"epochs": 1, "steps": 3})
callbacks.on_train_begin()
callbacks.on_epoch_begin(0)
for batch, loss in enumerate([3.0, 2.0, 1.0]):
    callbacks.on_train_batch_end(batch, {"loss": loss})
callbacks.on_test_begin()
callbacks.on_test_batch_end(0, {"loss": 5.0})
callbacks.on_test_end({"loss": 5.0})
callbacks.on_epoch_end(0)
callbacks.on_train_end()
"""
    shown = frames(in_terminal(tmp_path, script))

    assert [lines for n, lines in enumerate(shown) if not n or lines != shown[n - 1]] == [
        ["Epoch 1/1 ────────────────────────────── 0/3 • 0:00:00"],
        [
            "Epoch 1/1 ━━━━━━━━━━──────────────────── 1/3 • 0:00:01 left • 4.0 batch/s",
            "  loss: 3.0000",
        ],
        [
            "Epoch 1/1 ━━━━━━━━━━━━━━━━━━━━────────── 2/3 • 0:00:01 left • 4.0 batch/s",
            "  loss: 2.5000",
        ],
        [
            "Epoch 1/1 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 3/3 • 0:00:00 left • 4.0 batch/s",
            "  loss: 2.0000",
        ],
        [
            "Epoch 1/1 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 3/3 • validation 0 • 0:00:01",
            "  loss: 2.0000",
        ],
        [
            "Epoch 1/1 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 3/3 • validation 1 • 0:00:01",
            "  loss: 2.0000",
        ],
        [
            "Epoch 1/1 ━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 3/3 • 1.0s • 4.0 batch/s",
            "  loss: 2.0000 • val_loss: 5.0000",
        ],
    ]


@pytest.mark.parametrize(
    ("columns", "metrics"),
    [
        (20, ["  loss: 1.0000", "  accuracy: 0.5000", "  a_long_o…: 0.2500"]),
        (40, ["  loss: 1.0000 • accuracy: 0.5000", "  a_long_one: 0.2500"]),
        (61, ["  loss: 1.0000 • accuracy: 0.5000 • a_long_one: 0.2500"]),
    ],
    ids=str,
)
def test_nothing_wraps_in_a_narrow_terminal(
    columns: int, metrics: list[str], tmp_path: Path
) -> None:
    """A finished epoch has all its metrics, and of the redraws before nothing is left."""
    script = """
callbacks = CallbackList(["progbar_logger"], model=None, params={"epochs": 100, "steps": 1000})
callbacks.on_train_begin()
for epoch in range(2):
    callbacks.on_epoch_begin(epoch)
    for batch in range(1000):
        Clock.now += 0.1
        callbacks.on_train_batch_end(batch, {"loss": 1.0, "accuracy": 0.5, "a_long_one": 0.25})
    callbacks.on_epoch_end(epoch, {"loss": 1.0, "accuracy": 0.5, "a_long_one": 0.25})
callbacks.on_train_end()
"""
    lines, cursor = seen(in_terminal(tmp_path, script, columns), columns)

    assert cursor
    assert [line if line[0] == " " else line[:6] for line in lines] == ["Epoch ", *metrics] * 2


ENDS = {
    "exception": ("raise ValueError('boom')", "ValueError: boom"),
    "interrupt": ("import os, signal; os.kill(os.getpid(), signal.SIGINT)", "KeyboardInterrupt"),
    "exit": ("sys.exit('bye')", "bye"),
}


@pytest.mark.parametrize("how", ENDS)
def test_the_bar_stays_where_it_was_and_the_cursor_returns(how: str, tmp_path: Path) -> None:
    """What ends a run is printed below the bar, not over it."""
    action, last = ENDS[how]
    script = f"""
import torch
from hookloop import Trainer

class Ending(Callback):
    def on_train_batch_end(self, batch):
        if batch == 2:
            sys.tracebacklimit = 0
            {action}

trainer = Trainer(torch.nn.Linear(1, 1, bias=False), loss="mse", optimizer="sgd")
trainer.fit((torch.zeros(8, 1), torch.ones(8, 1)), batch_size=2, callbacks=[Clock(), Ending()])
"""
    lines, cursor = seen(in_terminal(tmp_path, script))

    assert cursor
    assert lines[0].startswith("Epoch 1/1 ━━━━━━━━━━━━━━━")
    assert lines[1] == "  loss: 1.0000"
    assert any(line.startswith(last) for line in lines[2:])


def test_a_loop_that_never_says_that_it_ended_gets_its_cursor_back(tmp_path: Path) -> None:
    """Also where nobody calls an end hook."""
    script = """
callbacks = CallbackList(["progbar_logger"], model=None, params={"epochs": 1, "steps": 3})
callbacks.on_train_begin()
callbacks.on_epoch_begin(0)
"""
    assert seen(in_terminal(tmp_path, script)) == (
        ["Epoch 1/1 ────────────────────────────── 0/3 • 0:00:00"],
        True,
    )
