"""The bridges, and the framework each of them needs: tests run where that is installed."""

from __future__ import annotations

from importlib.util import find_spec

#: Folder of the bridge under plugins/, and the module of its framework.
FRAMEWORKS = {
    "in_lightning": "lightning",
    "in_transformers": "transformers",
    "in_keras": "keras",
    "in_skorch": "skorch",
    "in_ignite": "ignite",
}


def missing() -> list[str]:
    """Give the bridges whose framework is not installed here."""
    return [bridge for bridge, module in FRAMEWORKS.items() if find_spec(module) is None]
