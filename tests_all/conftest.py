"""The wheels that the tests of this folder install."""

from __future__ import annotations

import os
from pathlib import Path

import environments
import pytest
from filelock import FileLock


@pytest.fixture(scope="session")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel of each distribution: those in the folder HOOKLOOP_WHEELS, or else built here, once.

    ``make test-all`` builds them before, and names the folder.
    """
    built = os.environ.get("HOOKLOOP_WHEELS")
    if built:
        return Path(built).resolve()
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        shared = shared.parent  # one folder for all workers of this session
    out = shared / "wheels"
    with FileLock(shared / "wheels.lock"):
        if not out.exists():
            environments.build(out)
    return out
