"""What is in the wheels that a user installs."""

from __future__ import annotations

from pathlib import Path
from zipfile import ZipFile

import environments
import pytest


@pytest.mark.parametrize("distribution", environments.FOLDERS)
def test_a_wheel_holds_its_package_its_types_and_nothing_else(
    wheels: Path, distribution: str
) -> None:
    """``py.typed`` is in, tests are not, and the metadata are complete."""
    package = distribution.replace("-", "_")
    [wheel] = wheels.glob(f"{package}-*.whl")
    with ZipFile(wheel) as archive:
        names = archive.namelist()
        [path] = [name for name in names if name.endswith("METADATA")]
        about = archive.read(path).decode()

    assert f"{package}/py.typed" in names
    assert {name.partition("/")[0].partition("-")[0] for name in names} == {package}
    assert not [name for name in names if "test" in name and "/testing/" not in name]
    for field in ("Requires-Python: >=3.11", "License-Expression: MIT", "Summary: "):
        assert field in about
