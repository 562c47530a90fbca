"""Golden files: what an earlier hookloop saved is read by this one, as it was."""

from __future__ import annotations

from pathlib import Path

import hostile
import pytest
from comparing import differences

from hookloop.checkpoints import load_checkpoint, load_state

GOLDEN = Path(__file__).parent / "golden"
STATES = ["version-1", "version-1.pt", "version-1-undated", "version-1-undated.pt"]


@pytest.mark.reliability("G8")
@pytest.mark.parametrize("name", STATES)
def test_a_state_of_version_1_is_gone_on_from(name: str) -> None:
    """Also one that does not say when it was saved, as the first ones did not."""
    after = hostile.resumed(GOLDEN / name, epochs=2)
    saved = load_state(GOLDEN / name)
    assert after is not None
    assert differences(after["model"], dict(saved["model"])) == []
    assert saved["loop"]["step"] == 6
    assert after["strict"] == {"count": 2, "words": ["a"]}


@pytest.mark.reliability("G8")
@pytest.mark.parametrize("name", [*STATES, "version-1.safetensors"])
def test_weights_of_version_1_are_read(name: str) -> None:
    """The same numbers from each of the files, with one of them written down here."""
    weights = load_checkpoint(GOLDEN / name)
    assert sorted(weights) == ["0.bias", "0.weight", "2.bias", "2.weight"]
    assert differences(weights, load_checkpoint(GOLDEN / "version-1")) == []
    assert weights["2.bias"].item() == -0.3952520787715912
