"""Which core the packages of today ask for, and what is tested of that."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

from hookloop import __version__

ROOT = Path(__file__).parents[1]
MANIFESTS = sorted(
    [*ROOT.glob("plugins/*/pyproject.toml"), *ROOT.glob("examples/plugins/*/pyproject.toml")]
)


def core_of(manifest: Path) -> Requirement:
    """Give what a package says of core."""
    project = tomllib.loads(manifest.read_text(encoding="utf-8"))["project"]
    needs = [Requirement(text) for text in project["dependencies"]]
    (core,) = (need for need in needs if need.name == "hookloop")
    return core


def oldest(manifest: Path) -> Version:
    """Give the oldest core that a package allows."""
    return max(Version(one.version) for one in core_of(manifest).specifier if one.operator == ">=")


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda path: path.parent.name)
def test_a_package_takes_the_core_of_today_and_not_the_next_minor_release(manifest: Path) -> None:
    """The range begins with a release that was tested, and ends before one that was not."""
    today = Version(__version__)
    following = f"{today.major}.{today.minor + 1}"

    assert __version__ in core_of(manifest).specifier
    assert following not in core_of(manifest).specifier
    assert oldest(manifest) <= today


def test_the_oldest_core_that_is_allowed_is_the_one_that_all_tests_run_with() -> None:
    """There is one release of core so far, so that all tests are tests of the oldest.

    As soon as core rises above it this fails. Then the plugins of today have to be run with a wheel
    of the oldest, built from its tag: ``docs/compatibility.md`` says so.
    """
    assert {oldest(manifest) for manifest in MANIFESTS} == {Version(__version__)}
