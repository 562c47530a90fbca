"""Scripts that play many runs in processes of their own: once for all of pytest's workers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
from filelock import FileLock


def once(
    script: str,
    factory: pytest.TempPathFactory,
    folder: AbstractContextManager[Any],
    *arguments: str,
) -> dict[str, Any]:
    """Run a script of this folder unless another worker has, and give what it says at its end.

    Args:
        script: Its name. Its last line is a JSON object.
        factory: Of temporary folders, from which all workers find the result.
        folder: Gives the folder in which it plays, while it does.
        arguments: What else it is given.
    """
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    results = root / f"{script}.json"
    with FileLock(root / f"{script}.lock"):
        if not results.exists():
            with folder as place:
                done = subprocess.run(
                    [sys.executable, Path(__file__).with_name(script), place, *arguments],
                    capture_output=True,
                    text=True,
                    timeout=300,
                    check=False,
                )
            assert done.returncode == 0, done.stderr
            results.write_text(done.stdout.splitlines()[-1])
        return dict(json.loads(results.read_text()))
