"""Every warning fails a test, but those that Lightning itself gives in any run of these."""

from __future__ import annotations

import pytest

OF_LIGHTNING = (
    "ignore:`isinstance.treespec, LeafSpec.` is deprecated",
    "ignore:The '.*_dataloader' does not have many workers",
    "ignore:You're resuming from a checkpoint that ended before the epoch ended",
    "ignore:Be aware that when using .ckpt_path..*following callbacks. ..ModelCheckpoint",
    "ignore:Checkpoint directory .* exists and is not empty",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        for text in OF_LIGHTNING if "in_lightning" in item.path.parts else ():
            item.add_marker(pytest.mark.filterwarnings(text))
