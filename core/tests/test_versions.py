"""Versions and requirements, compared with what packaging says of them."""

from __future__ import annotations

import itertools

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from hookloop.versions import allows, is_too_old, read_requirement

VERSIONS = """
0.1 0.1.0 0.1.7 0.2.0.dev1 0.2.0a1 0.2.0b2 0.2.0rc1 0.2 0.2.0.post1 0.2.1 0.10 1.0 1.0rc1.dev2
1.0.post2 1.7 2.10.0+cpu 2.9.1 1!0.1 v0.1
""".split()
SETS = """
>=0.1,<0.2 >=0.1 <0.2 <0.2rc1 >0.2 >0.2.post0 ==0.2 ==0.2.0 !=0.2 ==0.2.* !=0.2.* ~=0.1 ~=0.2.0
<=0.2 >=2.10 >=1.7,!=1.7.0 ===0.2 >=0.2.0a1 <1!0.1 ~=1.0.post1
""".split()


@pytest.mark.parametrize("versions", SETS)
def test_a_version_is_allowed_where_packaging_allows_it(versions: str) -> None:
    """Pre-releases included: what is installed is installed."""
    for version in VERSIONS:
        expected = SpecifierSet(versions).contains(version, prereleases=True)
        assert allows(versions, version) == expected, version


def test_what_cannot_be_read_is_no_fault() -> None:
    """A version or bound of another make is left alone."""
    assert allows(">=0.1", "unknown")
    assert allows(">=banana", "0.1")
    assert allows("", "0.1")


@pytest.mark.parametrize(
    ("versions", "version", "old"),
    [
        (">=0.2,<0.3", "0.1.4", True),
        (">=0.2,<0.3", "0.3.0", False),
        ("~=1.4", "1.3", True),
        ("<2", "3", False),
    ],
)
def test_which_side_it_is_off(versions: str, version: str, old: bool) -> None:
    """Below the range something is to be upgraded; above it, something else is."""
    assert is_too_old(versions, version) == old


@pytest.mark.parametrize(
    "text",
    [
        f"{name}{extras}{versions}{marker}"
        for name, extras, versions, marker in itertools.product(
            ["torch", "a.b-c_d"],
            ["", "[one,two]"],
            ["", ">=2.10", " >=1.0, <2"],
            ["", '; extra == "test"', '; python_version < "3.12"'],
        )
    ],
)
def test_a_requirement_is_read_as_packaging_reads_it(text: str) -> None:
    """Name, versions, and when it holds."""
    expected, found = Requirement(text), read_requirement(text)

    assert found is not None
    assert found.name == expected.name
    assert SpecifierSet(found.versions) == expected.specifier
    assert bool(found.marker) == bool(expected.marker)


def test_a_requirement_of_an_address_is_none() -> None:
    """It names no version to compare."""
    assert read_requirement("thing @ file:///somewhere") is None
