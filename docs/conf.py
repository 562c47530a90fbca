"""Builds the documentation site: ``make docs``.

The source is the whole checkout, so that a link from one page to another is the same on the site
and on a forge. Two things are added while it is built, and stand in no file: the tree of pages,
which follows the links of three pages, and what the code says of each plugin.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer

DOCS = Path(__file__).resolve().parent
sys.path.insert(0, str(DOCS))

import plugin_pages  # noqa: E402

project = "hookloop"
author = "The hookloop maintainers"
copyright = f"{author}. MIT licence"
html_title = "hookloop"
root_doc = "docs/index"
extensions = ["myst_parser"]
include_patterns = [
    "docs/**.md",
    "plugins/*/README.md",
    "examples/plugins/*/README.md",
    "CONTRIBUTING.md",
]
exclude_patterns = [".*", "**/.*", "build", "wheels", "**/build", "**/tests", "**/src"]
myst_heading_anchors = 4
myst_links_external_new_tab = False
nitpicky = True
smartquotes = False  # "--callback" keeps its dashes

html_theme = "furo"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_extra_path = ["_root"]  # index.html, which leads to docs/index.html
html_copy_source = False
html_show_sourcelink = False
html_show_sphinx = False
html_theme_options = {"navigation_with_keys": False}
highlight_language = "text"  # of blocks that name none: commands and their output
pygments_style = "friendly"
pygments_dark_style = "github-dark"

#: Pages whose links, where they begin a bullet or a row, are the pages below them in the tree. A
#: bold line of its own begins a part of it.
TREES = ("docs/index", "docs/plugins", "docs/decisions/README")
#: Pages that have below them what is in other folders, each with its README.
BELOW = {"docs/bridges": "plugins/in_*", "docs/writing-a-plugin": "examples/plugins/*"}
_LINK = re.compile(r"^(?:- |\| )\[[^\]]*\]\((?P<page>[^)#]+)\.md\)|^\*\*(?P<part>[^*]+)\*\*$", re.M)


def linked(text: str) -> dict[str, list[str]]:
    """Find the pages that the bullets and rows of a page begin with, by part of the tree."""
    parts: dict[str, list[str]] = {}
    part = ""
    for found in _LINK.finditer(text):
        part = found["part"] or part
        if found["page"]:
            parts.setdefault(part, []).append(found["page"])
    return parts


def tree(parts: dict[str, list[str]]) -> str:
    """Write what Sphinx reads the tree of pages from."""
    blocks = [
        "\n".join(
            ["```{toctree}", ":hidden:"] + [f":caption: {part}"] * bool(part) + ["", *pages, "```"]
        )
        for part, pages in parts.items()
    ]
    return "".join(f"\n\n{block}\n" for block in blocks)


def complete(app: Any, page: str, source: list[str]) -> None:
    """Add to a page what stands in no file; Sphinx calls it with each page that it reads."""
    if page in TREES:
        source[0] += tree(linked(source[0]))
    if page in BELOW:
        found = sorted(DOCS.parent.glob(f"{BELOW[page]}/README.md"))
        below = [f"../{path.relative_to(DOCS.parent).with_suffix('')}" for path in found]
        source[0] += tree({"": below} if below else {})
    folder = re.fullmatch(r"plugins/(\w+)/README", page)
    if folder:
        source[0] = plugin_pages.complete(source[0], folder[1])


def setup(app: Any) -> None:
    """Register what Sphinx does not know; Sphinx calls it."""
    app.add_lexer("output", TextLexer)
    app.connect("source-read", complete)
