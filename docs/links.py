"""Checks a built site: every link inside of it leads to a file, and to an anchor in it.

``make docs`` runs it on what it has built: ``.venv/bin/python docs/links.py build/site``.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from functools import cache
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit


class Page(HTMLParser):
    """What a page links to, and which anchors it has.

    Attributes:
        links: Targets of ``href`` and ``src``, as they are written.
        anchors: Values of ``id`` and ``name``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Take what one tag says; `HTMLParser` calls it."""
        for name, value in attrs:
            if name in {"href", "src"}:
                self.links.append(value or "")
            elif name in {"id", "name"} and value:
                self.anchors.add(value)


@cache
def page(path: Path) -> Page:
    """Read a page, once."""
    return Page(path.read_text(encoding="utf-8"))


def broken(site: Path) -> Iterator[str]:
    """Tell of each link inside a site that leads nowhere.

    Args:
        site: Folder of the built pages.

    Yields:
        The page that has the link, and the link.
    """
    for path in sorted(site.rglob("*.html")):
        for link in page(path).links:
            parts = urlsplit(link)
            if not (parts.scheme or parts.netloc) and not _resolves(
                path, parts.path, parts.fragment
            ):
                yield f"{path.relative_to(site)}: {link}"


def _resolves(source: Path, path: str, anchor: str) -> bool:
    target = (source.parent / unquote(path)).resolve() if path else source
    if not target.is_file():
        return False
    return not anchor or target.suffix != ".html" or unquote(anchor) in page(target).anchors


def main() -> int:
    """Print what is broken in the site that the command line names; exit with 1 if anything is."""
    site = Path(sys.argv[1])
    pages = len(list(site.rglob("*.html")))
    found = list(broken(site))
    print("\n".join([*found, f"{pages} pages, {len(found)} broken links inside"]))
    return int(bool(found) or not pages)


if __name__ == "__main__":
    sys.exit(main())
