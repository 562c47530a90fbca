"""What is sent, byte for byte."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import requests
import torch
from hookloop_remote_monitor._event import Event, event, plain


def test_a_form_is_what_keras_sends() -> None:
    """One field, whose text is the JSON of epoch and logs."""
    made = event("k", {"epoch": 0, "loss": 0.5, "val_loss": 0.25}, "data", as_json=False)
    assert made.kind == "application/x-www-form-urlencoded"
    assert made.body == (
        "data=%7B%22epoch%22%3A+0%2C+%22loss%22%3A+0.5%2C+%22val_loss%22%3A+0.25%7D"
    )


def test_json_is_what_keras_sends() -> None:
    """With ``send_as_json`` the body is the JSON alone."""
    made = event("k", {"epoch": 0, "loss": 0.5}, "data", as_json=True)
    assert made == Event("k", "application/json", '{"epoch": 0, "loss": 0.5}')


@pytest.mark.parametrize("as_json", [False, True])
@pytest.mark.parametrize(
    "send",
    [
        {"epoch": 3, "loss": 1e-07, "n": 12},
        {"epoch": 0, "médiane & co": "a=b&c d+é\u2028"},
        {"epoch": 0, "list": [1, [2.5, None]], "deep": {"a": True}},
        {},
    ],
    ids=["numbers", "text", "nested", "empty"],
)
def test_the_body_is_that_of_requests(send: dict[str, Any], as_json: bool) -> None:
    """The same bytes and content type as ``requests.post(url, {field: ...})`` and ``json=``."""
    body = {"json": send} if as_json else {"data": {"my field": json.dumps(send)}}
    wanted = requests.Request("POST", "http://localhost", **body).prepare()
    made = event("k", send, "my field", as_json=as_json)
    assert made.body.encode() == (
        wanted.body if isinstance(wanted.body, bytes) else wanted.body.encode()
    )
    assert made.kind == wanted.headers["Content-Type"]


@pytest.mark.reliability("F6")
@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (float("nan"), None),
        (float("-inf"), None),
        ([1.0, float("inf")], [1.0, None]),
        (torch.tensor(2), 2.0),
        (torch.tensor(float("nan")), None),
        (torch.tensor([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        (torch.tensor([0.5, float("nan")], requires_grad=True), [0.5, None]),
        (np.float32(0.5), 0.5),
        (np.int64(3), 3.0),
        (np.array([1.5, np.nan]), [1.5, None]),
        (np.str_("text"), "text"),
        ({1: np.array([2])}, {"1": [2]}),
        ((1, {2}), [1, [2]]),
        (1 + 2j, "(1+2j)"),
        (True, True),
        (None, None),
    ],
    ids=repr,
)
def test_every_value_becomes_valid_json(value: Any, wanted: Any) -> None:
    """NaN and infinity are null, arrays lists, 0-d tensors floats, anything else its text."""
    assert plain(value) == wanted
    assert type(plain(value)) is type(wanted)
