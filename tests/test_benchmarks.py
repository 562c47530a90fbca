"""The benchmarks' own parts: what is made of times, and that a figure past its bound is noticed."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import bench
import check
import counting
import figures
import harness
import performance_page
import pytest
from bench import Part
from bounds import broken, lower

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results"


def test_the_quiet_estimate_is_the_tenth_percentile() -> None:
    """Of 11 windows from 0 to 10 it is 1; a slow outlier changes nothing; one window is itself."""
    assert figures.quiet([float(n) for n in range(11)]) == 1.0
    assert figures.quiet([*map(float, range(10)), 1e6]) == 1.0
    assert figures.quiet([3.0]) == 3.0


def test_ratios_are_to_the_same_estimate_of_the_base() -> None:
    """Quiet to quiet, median to median."""
    found = figures.ratios({"by hand": [1.0, 2.0, 4.0], "fit": [2.0, 8.0, 9.0]}, "by hand")

    assert found["by hand"] == figures.Ratio(1.0, 1.0)
    assert found["fit"].quiet == pytest.approx((2 + 0.2 * 6) / (1 + 0.2 * 1))
    assert found["fit"].median == pytest.approx(4.0)


@pytest.mark.parametrize(
    ("cost", "order"),
    [(lambda n: 5.0, 0.0), (lambda n: 3.0 * n, 1.0), (lambda n: 0.1 * n * n, 2.0)],
    ids=["flat", "linear", "quadratic"],
)
def test_the_order_of_growth_is_the_exponent(cost, order) -> None:
    """A cost that goes with n to the k has the order k."""
    sizes = [10, 100, 1000, 5000]

    assert figures.order(sizes, [cost(n) for n in sizes]) == pytest.approx(order, abs=1e-9)


def test_an_order_is_not_fitted_through_two_points() -> None:
    """A line fits any two points, so that says nothing."""
    with pytest.raises(ValueError, match="three points"):
        figures.order([1, 2], [1, 2])


def test_everybody_takes_a_turn_in_each_round_and_the_warm_up_does_not_count() -> None:
    """With three contestants and two rounds each runs three times, and gives two times."""
    seen: list[str] = []

    def run(name: str) -> list[float]:
        seen.append(name)
        return [float(len(seen))]

    times = harness.take_turns({name: lambda name=name: run(name) for name in "abc"}, 2)

    assert "".join(seen) == "cab" + "abc" + "bca"
    assert times == {"a": [4.0, 9.0], "b": [5.0, 7.0], "c": [6.0, 8.0]}


@pytest.mark.parametrize(
    ("found", "sentences"),
    [
        ({"step": 1.05}, []),
        ({"step": 1.06}, []),
        ({"step": 1.0601}, ["step: 1.06, at most 1.06"]),
        ({"step": math.nan}, ["step: nan, at most 1.06"]),
        ({}, ["step: was not measured (at most 1.06)"]),
    ],
    ids=["below", "at it", "past it", "no number", "not measured"],
)
def test_a_figure_is_held_to_its_bound(found: dict[str, float], sentences: list[str]) -> None:
    """What is past its bound is named, and so is what nobody has measured."""
    assert broken(found, {"step": 1.06}) == sentences


def test_of_two_estimates_the_lower_counts() -> None:
    """Other work makes a program slower, never faster."""
    assert lower({"a": 2.0, "b": 1.0}, {"a": 1.5, "b": 3.0}) == {"a": 1.5, "b": 1.0}


def test_bounds_of_instructions_hold_only_where_they_are_counted() -> None:
    """Without valgrind those of times are left, and a bound without a twin stays in any case."""
    part = Part("", dict, {"step: fit": 1.02, "step, time: fit": 1.06, "fit entry, ms": 20.0})

    assert part.limits(counted=True) == {
        "step: fit": 1.02,
        "step, time: fit": 1.06,
        "fit entry, ms": 20.0,
    }
    assert part.limits(counted=False) == {"step, time: fit": 1.06, "fit entry, ms": 20.0}


class Measured:
    """A part that gives one figure after the other, and then the last of them."""

    def __init__(self, *values: float) -> None:
        self.values, self.times = list(values), 0

    def __call__(self, *, quick: bool) -> dict[str, float]:
        self.times += 1
        return {"step, time: fit": self.values.pop(0) if len(self.values) > 1 else self.values[0]}


@pytest.mark.parametrize(
    ("values", "code", "times"),
    [((1.05,), 0, 1), ((1.2, 1.05), 0, 2), ((1.2, 1.1), 1, 2)],
    ids=["within", "within when measured again", "past"],
)
def test_the_check_fails_if_a_figure_is_past_its_bound(
    values: tuple[float, ...], code: int, times: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It exits with 1, after it has measured once more."""
    measured = Measured(*values)
    part = Part("", measured, {"step, time: fit": 1.06})
    monkeypatch.setattr(bench, "parts", lambda: {"step": part})
    monkeypatch.setattr(
        check.growth, "measure", lambda quick: dict.fromkeys(check.growth.BOUNDS, 0)
    )
    monkeypatch.setattr(sys, "argv", ["check.py"])
    monkeypatch.setattr(counting, "can_count", lambda: False)

    assert check.main() == code
    assert measured.times == times


def test_a_broken_count_of_instructions_is_not_measured_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is the same to the digit, so a second time would only take time."""
    figure = {"step: fit": 1.03, "step, time: fit": 1.0}
    calls: list[bool] = []

    def measure(*, quick: bool) -> dict[str, float]:
        calls.append(quick)
        return dict(figure)

    part = Part("", measure, {"step: fit": 1.02, "step, time: fit": 1.06})

    found, bounds = check.held({"step": part}, quick=False, counted=True)

    assert broken(found, bounds) == ["step: fit: 1.03, at most 1.02"]
    assert calls == [False]


@pytest.mark.parametrize("what", ["bench", "peers", "growth"])
def test_results_say_where_and_when_they_were_measured(what: str) -> None:
    """What docs/performance.md is made of names machine, versions, date and load."""
    found = json.loads((RESULTS / f"{what}.json").read_text())

    assert found["what"] == what
    assert {"date", "machine", "versions", "load", "quick", "figures"} <= set(found)
    assert {"python", "torch"} <= set(found["versions"])
    assert {"system", "processor", "cores"} == set(found["machine"]) - {"gpu"}


def test_a_peer_that_is_ahead_needs_a_reason() -> None:
    """The page cannot be written with a row in which hookloop is not ahead, and nobody says why."""
    rows = {"an unheard-of row": {"by hand": 1.0, "hookloop": 2.0, "Keras": 1.0}}

    with pytest.raises(ValueError, match="needs a reason"):
        performance_page.not_ahead(rows)


@pytest.mark.parametrize(
    ("ours", "line"),
    [(0.9, "It is ahead in every row."), (1.5, "ahead: Keras"), (1.01, "level: Keras")],
    ids=["ahead", "behind", "level"],
)
def test_the_page_says_where_hookloop_is_not_ahead(ours: float, line: str) -> None:
    """Behind or level with a peer, the row is named."""
    rows = {"import": {"by hand": 1.0, "hookloop": ours, "Keras": 1.0}}

    assert line in performance_page.not_ahead(rows)


def test_every_trainer_is_in_every_row_that_it_can_do() -> None:
    """The committed comparison has nobody left out but a loop without callbacks."""
    found = json.loads((RESULTS / "peers.json").read_text())["figures"]
    everybody = {"hookloop", "Ignite", "skorch", "Accelerate", "Lightning", "transformers", "Keras"}

    for row, values in found.items():
        missing = everybody - set(values)
        assert missing <= ({"Accelerate"} if "do nothing" in row else set()), row


def test_the_growth_benchmark_explains_itself() -> None:
    """Each program says what it does, so --help works without anything being measured."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / "growth.py"), "--help"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "make bench-growth" in done.stdout
