"""Writes the golden files: states as this hookloop saves them. Run when the format changes.

Those of earlier versions stay as they are: a later hookloop has to read them.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "hosts"))

import hostile

from hookloop.checkpoints import safetensors_bytes, save_state

HERE = Path(__file__).parent

if __name__ == "__main__":
    state = hostile.good_states()[1]
    save_state(HERE / "version-1", state)
    save_state(HERE / "version-1.pt", state)
    (HERE / "version-1.safetensors").write_bytes(safetensors_bytes(state["model"]))
