"""Monitor: which quantity, which way is better, and by how much. The only place that compares."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from typing import Any, Literal

from hookloop.errors import ArgumentError, MonitorError, did_you_mean, listed, warn

Direction = Literal["min", "max"]

#: The last words of a metric's name, and which way is better. Nothing else is guessed.
DIRECTIONS: dict[str, Direction] = {
    **dict.fromkeys(
        "loss error err mse mae rmse msle mape perplexity ppl nll hinge logcosh wer cer kl "
        "divergence crossentropy".split(),
        "min",
    ),
    **dict.fromkeys(
        "accuracy acc auc auroc f1 fmeasure precision recall r2 score bleu rouge iou dice map ap "
        "psnr ssim similarity".split(),
        "max",
    ),
}


def direction_of(name: str) -> Direction | None:
    """Look a metric's direction up by its name.

    ``val_`` and the names of outputs in front are passed over (``val_a_loss``, ``top5_acc``).

    Args:
        name: As reported in the logs.

    Returns:
        ``"min"``, ``"max"``, or None where the table does not know.
    """
    lowered = name.lower().replace("-", "_")
    words = lowered.split("_")
    for word in (words[-1], "".join(words[-2:]), "".join(words)):
        if word in DIRECTIONS:
            return DIRECTIONS[word]
    return "max" if lowered.endswith(("f1_score", "accuracy")) else None


class Monitor:
    """Follows one reported quantity and says when it has improved.

    Args:
        monitor: The name in the logs of ``on_epoch_end``, such as ``val_loss``.
        mode: ``"min"``, ``"max"``, or ``"auto"``: the metric object's own ``higher_is_better``
            where it has one, else by name from `DIRECTIONS`.
        min_delta: How much better a value must be to count, in the metric's unit; its sign is
            ignored.
        best: The value to beat from the start.
        who: Whose monitor it is, for messages.

    Raises:
        ArgumentError: For a mode that does not exist or a ``min_delta`` that is no number.
    """

    def __init__(
        self,
        monitor: str = "val_loss",
        *,
        mode: str = "auto",
        min_delta: float = 0.0,
        best: float | None = None,
        who: str = "monitor",
    ) -> None:
        if mode not in ("auto", "min", "max"):
            message = f"{who}: mode={mode!r} is no direction."
            raise ArgumentError(message, fix="mode='min', mode='max' or mode='auto'")
        if math.isnan(min_delta):
            raise ArgumentError(f"{who}: min_delta is not a number.", fix="min_delta=0.0")
        self.name = monitor
        self.min_delta = abs(float(min_delta))
        self.who = who
        self.best = best
        self._mode = mode
        self._first = best
        self._seen = False
        self._told = False
        self._how = "report it"
        self.direction: Direction | None = None if mode == "auto" else mode  # type: ignore[assignment]

    def start(
        self,
        metrics: Mapping[str, Any] | None = None,
        reported: Collection[str] | None = None,
        how_to_validate: str = "report it",
    ) -> None:
        """Forget what was seen, and settle the direction. Called when a run starts.

        Args:
            metrics: The run's metrics by name; one that says ``higher_is_better`` decides for
                itself.
            reported: What the loop is known to report; None if it cannot tell. Another name is
                warned of, as only a callback can report it.
            how_to_validate: What to do in this host where a quantity of validation is missing;
                ``loop.how_to_validate``.

        Raises:
            MonitorError: If ``mode="auto"`` cannot tell which way is better.
        """
        self.best = self._first
        self._seen = self._told = False
        self._how = how_to_validate
        doubt = self._doubt(reported)
        if self._mode == "auto":
            self.direction = self._declared(metrics or {}) or direction_of(self.name)
            if self.direction is None:
                message = (
                    f"{self.who}: cannot tell from its name whether a lower or a higher "
                    f"{self.name!r} is better.{doubt}"
                )
                raise MonitorError(message, fix="write mode='min' or mode='max'")
        if doubt:
            self._told = True
            fix = f"{self._fix(reported or ())}, unless a callback logs it"
            warn(f"{self.who}: {doubt.strip()}\nfix: {fix}")

    def _doubt(self, reported: Collection[str] | None) -> str:
        """Say that nothing in the loop reports the quantity; empty where that is not known."""
        if reported is None or self.name in reported:
            return ""
        guess = self._guess(reported)
        return f" Nothing is known to report {self.name!r}.{guess} Known: {listed(reported)}."

    def _guess(self, names: Collection[str]) -> str:
        """Suggest a near name, of validation for one of validation."""
        kind = self.name.startswith("val_")
        alike = [name for name in names if name.startswith("val_") == kind and name != self.name]
        return did_you_mean(self.name, alike)

    def _fix(self, names: Collection[str]) -> str:
        """Say how to have it reported; a loop that validates already needs not be told how."""
        validates = any(name.startswith("val_") for name in names)
        report = self._how if self.name.startswith("val_") and not validates else "report it"
        return f"{report}, or monitor one of these" if len(names) else report

    def _declared(self, metrics: Mapping[str, Any]) -> Direction | None:
        metric = metrics.get(self.name.removeprefix("val_"))
        higher = getattr(metric, "higher_is_better", None)
        return None if higher is None else "max" if higher else "min"

    def value(self, logs: Mapping[str, Any]) -> float | None:
        """Find the quantity in the logs of an epoch.

        Returns:
            The value, or None where it was not reported or is no single number; then the epoch
            does not count, which is said once.
        """
        found = logs.get(self.name)
        if isinstance(found, int | float):
            self._seen = True
            return float(found)
        self._say_missing(logs, found)
        return None

    def _say_missing(self, logs: Mapping[str, Any], found: Any) -> None:
        if self._told:
            return
        self._told = True
        what, fix = "was not reported", self._fix(logs)
        if found is not None:
            what = f"is a {type(found).__name__}, not a single number,"
            fix = "report a number, or monitor another one"
        warn(
            f"{self.who}: {self.name!r} {what} at the end of this epoch, which does not count; "
            f"reported: {listed(logs)}.{self._guess(logs)}\nfix: {fix}"
        )

    def finish(self) -> None:
        """Say it again, at the end of a run, if the quantity never came."""
        if self._told and not self._seen:
            warn(
                f"{self.who}: {self.name!r} was never reported in this run, so it decided nothing."
                "\nfix: monitor a quantity that is reported"
            )

    def beats(self, value: float, other: float | None) -> bool:
        """Tell whether a value is better than another by more than ``min_delta``.

        NaN never is; anything but NaN and the worst infinity beats None.
        """
        if self.direction is None:  # a host that never called start
            self.start()
        if self.direction == "max":
            value, other = -value, None if other is None else -other
        return value + self.min_delta < (math.inf if other is None else other)

    def improved(self, value: float) -> bool:
        """Take a new value; if it beats the best so far, it becomes the best."""
        if self.beats(value, self.best):
            self.best = value
            return True
        return False

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "seen": self._seen}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.best = None if state["best"] is None else float(state["best"])
        self._seen = bool(state["seen"])
