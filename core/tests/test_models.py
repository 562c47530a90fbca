"""Calling models, unwrapping them, and choosing their device."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from hookloop.models import best_device, caller, unwrapped

X = torch.ones(2, 3)


@pytest.mark.parametrize(
    ("inputs", "expected"),
    [
        (X, ((X,), {})),
        ((X, 2), ((X, 2), {})),
        ([X, X], ((X, X), {})),
        ({"x": X}, ((), {"x": X})),
        ("text", (("text",), {})),
        (nn.Parameter(X), ((nn.Parameter(X),), {})),
    ],
    ids="tensor tuple list mapping other subclass".split(),
)
def test_a_batch_becomes_the_arguments_of_the_model(inputs, expected):
    """Tuples and lists are positions, mappings keywords, anything else the one argument."""
    args, kwargs = caller(lambda *args, **kwargs: (args, kwargs))(inputs)
    assert [type(one) for one in args] == [type(one) for one in expected[0]]
    assert kwargs.keys() == expected[1].keys()


def test_wrappers_are_taken_off_however_many_there_are():
    """torch.compile's and the parallel ones, in any order; a plain module is itself."""
    inner = nn.Linear(1, 1)
    outer = nn.Module()
    outer._orig_mod = nn.DataParallel(inner)
    assert unwrapped(outer) is inner
    assert unwrapped(inner) is inner


def test_the_device_is_the_users_or_the_best_there_is():
    """auto leaves a model where it is, unless that is the CPU and there is something faster."""
    model = nn.Linear(1, 1)
    assert best_device("cpu", model) == torch.device("cpu")
    assert best_device("auto", model.to("meta")) == torch.device("meta")
    best = "cuda" if torch.cuda.is_available() else "cpu"
    if not torch.backends.mps.is_available():
        assert best_device("auto", nn.Linear(1, 1)).type == best
