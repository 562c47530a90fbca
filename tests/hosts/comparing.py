"""Comparing what two runs left, bit for bit."""

from __future__ import annotations

import math
from typing import Any

import torch


def differences(one: Any, other: Any, path: str = "") -> list[str]:
    """Name the places where two states differ, in any bit."""
    if isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor):
        same = one.dtype == other.dtype and torch.equal(one, other)
        return [] if same else [path]
    if isinstance(one, dict) and isinstance(other, dict) and one.keys() == other.keys():
        return [
            where for key in one for where in differences(one[key], other[key], f"{path}/{key}")
        ]
    if isinstance(one, list | tuple) and isinstance(other, list | tuple) and len(one) == len(other):
        pairs = enumerate(zip(one, other, strict=True))
        return [where for i, (a, b) in pairs for where in differences(a, b, f"{path}/{i}")]
    if (
        isinstance(one, float)
        and isinstance(other, float)
        and math.isnan(one)
        and math.isnan(other)
    ):
        return []
    return [] if one == other else [f"{path}: {one!r} != {other!r}"]
