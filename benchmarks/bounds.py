"""Figures and what they may be at most: which of them are past it."""

from __future__ import annotations

from collections.abc import Mapping


def broken(figures: Mapping[str, float], bounds: Mapping[str, float]) -> list[str]:
    """Tell which figures are past their bounds, in a sentence each.

    A bound without a figure is broken too: nobody has looked.

    Args:
        figures: What was measured, by name.
        bounds: What it may be at most.
    """
    found = []
    for name, bound in bounds.items():
        if name not in figures:
            found.append(f"{name}: was not measured (at most {bound:g})")
        elif not figures[name] <= bound:  # so that NaN is past every bound
            found.append(f"{name}: {figures[name]:.4g}, at most {bound:g}")
    return found


def lower(first: Mapping[str, float], second: Mapping[str, float]) -> dict[str, float]:
    """Take of each figure the lower one of two measurements.

    Other work on the machine makes a program slower and never faster, so of two estimates of what
    it costs on a quiet machine the lower one is nearer.
    """
    return {**first, **{k: min(v, first.get(k, v)) for k, v in second.items()}}
