"""The documentation site builds without a warning, and every link inside of it leads somewhere."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import generate
import links
import pytest

from hookloop import hookspecs

ROOT = Path(__file__).resolve().parent.parent


def build(source: Path, out: Path) -> subprocess.CompletedProcess[str]:
    """Build the site, as ``make docs`` does."""
    sphinx = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-n", "-E", "-q", "-b", "html"]
    command = [*sphinx, "-c", source / "docs", source, out]
    return subprocess.run(command, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site, built anew."""
    out = tmp_path_factory.mktemp("site")
    built = build(ROOT, out)
    assert (built.returncode, built.stderr) == (0, "")
    return out


def test_every_link_inside_the_site_leads_somewhere(site: Path) -> None:
    """To a file, and to the anchor in it."""
    assert list(links.broken(site)) == []


def test_every_page_and_plugin_is_on_the_site(site: Path) -> None:
    """And the first page leads to those that have no page above them."""
    pages = [*ROOT.glob("docs/**/*.md"), *ROOT.glob("plugins/*/README.md")]
    built = [site / page.relative_to(ROOT).with_suffix(".html") for page in pages]

    assert [page for page in built if not page.exists()] == []
    assert "docs/index.html" in links.page(site / "index.html").links
    shown = links.page(site / "docs" / "index.html").links
    for plugin in generate.plugins():
        assert f"../plugins/{plugin.folder}/README.html" in shown


def test_every_hook_can_be_linked_to(site: Path) -> None:
    """By its name, as the pages of plugins do."""
    assert set(hookspecs.names()) <= links.page(site / "docs" / "hooks.html").anchors


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The sources of the site, in a folder that a test may change."""
    shutil.copy(ROOT / "CONTRIBUTING.md", tmp_path)
    shutil.copytree(ROOT / "docs", tmp_path / "docs")
    ignore = shutil.ignore_patterns("src", "tests", "build", "*.egg-info")
    shutil.copytree(ROOT / "plugins", tmp_path / "plugins", ignore=ignore)
    return tmp_path


@pytest.mark.parametrize(
    ("page", "text", "warning"),
    [
        ("docs/trainer.md", "[nowhere](nowhere.md)", "'nowhere.md'"),
        ("docs/trainer.md", "[hooks](hooks.md#on_teatime)", "'on_teatime'"),
        ("docs/teatime.md", "# Teatime", "isn't included in any toctree"),
        ("plugins/csv_logger/README.md", "[x](../csv/README.md)", "'../csv/README.md'"),
    ],
    ids=["a page that is not there", "an anchor that is not there", "a lost page", "in a plugin"],
)
def test_a_mistake_in_a_page_fails_the_build(
    checkout: Path, page: str, text: str, warning: str
) -> None:
    """The check itself fails on what it is for."""
    with (checkout / page).open("a") as file:
        file.write(f"\n{text}\n")
    built = build(checkout, checkout / "site")

    assert built.returncode == 1
    assert warning in built.stderr


def test_a_link_that_leads_nowhere_is_found_in_built_pages(tmp_path: Path) -> None:
    """Files, anchors, pictures and styles alike; what is outside of the site is left alone."""
    (tmp_path / "a.html").write_text(
        '<link href="s.css"><h1 id="top">A</h1><a href="b.html#x">b</a><a href="b.html#y">y</a>'
        '<a href="c.html">c</a><a href="#top">up</a><a href="#down">down</a><img src="p.png">'
        '<a href="https://example.invalid/">out</a><a href="mailto:a@example.invalid">mail</a>'
    )
    (tmp_path / "b.html").write_text('<p id="x">B</p>')

    assert list(links.broken(tmp_path)) == [
        "a.html: s.css",
        "a.html: b.html#y",
        "a.html: c.html",
        "a.html: #down",
        "a.html: p.png",
    ]
