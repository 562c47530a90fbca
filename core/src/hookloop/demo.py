"""The demo: a small network learns handwritten digits, with callbacks chosen by name."""

from __future__ import annotations

import time
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hookloop
from hookloop import arguments, rng
from hookloop.callback import constructor, settings_of
from hookloop.checks import at_least
from hookloop.defaults import BAR, with_defaults
from hookloop.discovery import plugin_of
from hookloop.errors import HookloopError
from hookloop.files import prepare
from hookloop.loop import Loop
from hookloop.selection import instance_name, load_callbacks
from hookloop.tables import table

if TYPE_CHECKING:
    import argparse

    from torch import Tensor, nn

    Samples = tuple[Tensor, Tensor]

CHECKPOINT, CSV, PICTURE = "best.pt", "log.csv", "curves.png"
_TOLD = {
    CHECKPOINT: "the best checkpoint",
    CSV: "the numbers of every epoch",
    PICTURE: "the curves as a picture",
}


def add_options(parser: argparse.ArgumentParser) -> None:
    """Give the command its options, those for choosing callbacks included."""
    parser.add_argument("--epochs", type=int, default=30, help="at most (default: 30)")
    parser.add_argument("--seed", type=int, default=0, help="of weights and order (default: 0)")
    parser.add_argument(
        "--out",
        type=Path,
        default=Path("runs/digits"),
        metavar="FOLDER",
        help="where to leave checkpoint, CSV and picture (default: runs/digits)",
    )
    arguments.add_arguments(parser)
    parser.set_defaults(run=run)


def build_model() -> nn.Module:
    """Make the network: two convolutions, (samples, 1, 8, 8) to (samples, 10) scores."""
    from torch import nn

    return nn.Sequential(
        *(nn.Conv2d(1, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU()),
        *(nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU()),
        *(nn.MaxPool2d(2), nn.Dropout(0.25), nn.Flatten()),
        *(nn.Linear(64 * 4 * 4, 64), nn.ReLU(), nn.Dropout(0.5), nn.Linear(64, 10)),
    )


def load_digits() -> tuple[Samples, Samples]:
    """Give scikit-learn's digits, always split alike: 1,437 to train on, 360 to validate.

    Returns:
        For each part the images, float32 of shape (samples, 1, 8, 8) in [0, 1], and the digits,
        int64 of shape (samples,).
    """
    import torch
    from sklearn import datasets, model_selection

    pixels, digits = datasets.load_digits(return_X_y=True)
    images = torch.tensor(pixels, dtype=torch.float32).reshape(-1, 1, 8, 8) / 16
    targets = torch.tensor(digits)
    train, validation = model_selection.train_test_split(
        torch.arange(len(targets)), test_size=360, stratify=digits, random_state=0
    )
    return (images[train], targets[train]), (images[validation], targets[validation])


def default_callbacks(out: Path) -> list[Any]:
    """Name the demo's callbacks, with settings: what ``callbacks=`` of ``fit`` takes."""
    return [
        "early_stopping:patience=6,restore_best_weights=true",
        ("model_checkpoint", {"filepath": str(out / CHECKPOINT), "save_best_only": True}),
        ("csv_logger", {"filename": str(out / CSV)}),
        BAR,
    ]


def run(asked: argparse.Namespace) -> int:
    """Train, show what happens, and say what is left on disk."""
    _refuse_missing()
    at_least("--epochs", asked.epochs, 1)
    at_least("--seed", asked.seed, 0)
    chosen = arguments.from_arguments(asked, default=default_callbacks(asked.out))
    chosen, said = arguments.with_environment(chosen)
    callbacks = with_defaults(load_callbacks(chosen), verbose=0)
    train, validation = load_digits()
    model = _seeded_model(asked.seed)
    prepare(asked.out / PICTURE, Loop(model=None), "hookloop demo")  # or it is known at the end
    _show_start(model, train, validation, callbacks, said)
    trainer = hookloop.Trainer(
        model,
        loss="cross_entropy",
        optimizer="adam:lr=0.001",
        metrics=["accuracy"],
        seed=asked.seed,
    )
    before, clock = _versions(asked.out), time.perf_counter()
    with arguments.outermost():  # the environment has had its say already, and was shown
        history = trainer.fit(
            train,
            epochs=asked.epochs,
            batch_size=32,
            validation_data=validation,
            callbacks=callbacks,
            verbose="auto" if any(instance_name(c) == BAR for c in callbacks) else 0,
        )
    seconds = time.perf_counter() - clock
    history.plot(asked.out / PICTURE)
    _show_result(history, trainer.measure(validation), len(validation[1]), seconds)
    _show_files(asked.out, before, validation)
    return 0


def _refuse_missing() -> None:
    for module, distribution in (("sklearn", "scikit-learn"), ("matplotlib", "matplotlib")):
        if find_spec(module) is None:
            message = f"hookloop demo needs {distribution}, which is not installed."
            raise HookloopError(message, fix='pip install "hookloop[demo]"')


def _seeded_model(seed: int) -> nn.Module:
    import torch

    # The layers are so small that threads would mostly wait for each other: on a busy machine two
    # are ten times slower than one. And with one, every machine adds up in the same order.
    torch.set_num_threads(1)
    rng.seed_all(seed)
    return build_model()


# -- what is shown -----------------------------------------------------------------------


def _show_start(
    model: nn.Module, train: Samples, validation: Samples, callbacks: list[Any], said: str | None
) -> None:
    weights = sum(parameter.numel() for parameter in model.parameters())
    count = len(train[1]) + len(validation[1])
    print(f"hookloop {hookloop.__version__}: {count:,} handwritten digits of 8x8 pixels,")
    print(f"{len(train[1]):,} to train on, {len(validation[1])} to validate with;")
    print(f"a convolutional network of {weights:,} weights.\n")
    if said:
        print(said)
    print("Callbacks in force:")
    print(table([_row(callback) for callback in callbacks], spare=[1], indent="  "))
    print(flush=True)


def _row(callback: Any) -> tuple[str, str, str]:
    plugin = plugin_of(type(callback))
    owner = f"{plugin.distribution} {plugin.version}" if plugin else type(callback).__module__
    parameters = constructor(type(callback)).parameters
    settings = {k: v for k, v in settings_of(callback).items() if v != parameters[k].default and v}
    return instance_name(callback), owner, " ".join(f"{k}={v}" for k, v in settings.items())


def _show_result(
    history: hookloop.History, measured: dict[str, float], count: int, seconds: float
) -> None:
    right = round(measured["accuracy"] * count)
    epochs = "1 epoch" if len(history.epoch) == 1 else f"{len(history.epoch)} epochs"
    stopped = f" Stopped by {history.stop_reason}." if history.stop_reason else ""
    print(f"\n{epochs} in {seconds:.1f} s.{stopped}")
    print(f"The model recognizes {right} of {count} validation images, {_percent(measured)}.\n")


def _versions(out: Path) -> dict[Path, tuple[int, int]]:
    """Tell the files of a folder, and whether one of them is another than before."""
    found = [(path, path.stat()) for path in sorted(out.glob("*"))]
    return {path: (stat.st_ino, stat.st_mtime_ns) for path, stat in found}


def _show_files(out: Path, before: dict[Path, tuple[int, int]], validation: Samples) -> None:
    print(f"In {out}:")
    for path, version in _versions(out).items():
        told, is_new = _TOLD.get(path.name, ""), before.get(path) != version
        if path.name == CHECKPOINT:
            told += f", {_percent(_measure(path, validation))} right"
            told += "" if is_new else " (of an earlier run, which was no worse)"
        if is_new or path.name == CHECKPOINT:
            print(f"  {path.name:12}{told}".rstrip())
    if (out / CHECKPOINT).exists():
        print("\nTo load the model again, in Python:")
        for line in loading(out / CHECKPOINT):
            print(f"  {line}")


def loading(path: Path) -> list[str]:
    """Write the three lines of Python that load a checkpoint of the demo."""
    return [
        "import hookloop, hookloop.demo",
        "model = hookloop.demo.build_model().eval()",
        f"hookloop.load_weights(model, {str(path)!r})",
    ]


def _measure(path: Path, validation: Samples) -> dict[str, float]:
    """Measure a checkpoint as it lies on disk."""
    model = build_model()
    hookloop.load_weights(model, path)
    trainer = hookloop.Trainer(model, loss="cross_entropy", optimizer="sgd", metrics=["accuracy"])
    return trainer.measure(validation)


def _percent(measured: dict[str, float]) -> str:
    return f"{100 * measured['accuracy']:.1f} %"
