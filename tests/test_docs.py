"""The documentation is true: its code runs and prints what it says, its tables match the code."""

from __future__ import annotations

import ast
import contextlib
import io
import itertools
import re
import sys
import tomllib
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import generate
import plugin_pages
import pytest
import torch
from frameworks import missing

from hookloop import rng
from hookloop.arguments import ADD, REMOVE
from hookloop.callback import constructor
from hookloop.capabilities import FEATURES
from hookloop.discovery import find
from hookloop.loop import Loop
from hookloop.monitor import DIRECTIONS
from hookloop.objectives import LOSSES, METRICS
from hookloop.optimizers import OPTIMIZERS

ROOT = Path(__file__).resolve().parent.parent
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("core/*.md"),
        *ROOT.glob("docs/**/*.md"),
        *ROOT.glob("plugins/*/*.md"),
        *ROOT.glob("examples/plugins/*/*.md"),
    }
)
#: Blocks and pages that need a framework which is not here; make test-bridges runs them.
ELSEWHERE = missing()
#: With this torch's random numbers begin in every process, so in that of a reader too.
NEW_PROCESS = 67280421310721
FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.DOTALL | re.MULTILINE)


@dataclass(frozen=True)
class Block:
    """A fenced block of python, and what the page says that it prints."""

    line: int
    source: str
    output: str | None
    warns: bool


def blocks(page: Path, *, everywhere: bool = False) -> list[Block]:
    """Find a page's blocks of python that run here; one of output belongs to the one before it."""
    text = page.read_text(encoding="utf-8")
    found = list(FENCE.finditer(text))
    output = {}
    for one, following in itertools.pairwise(found):
        if following["info"] == "output" and not text[one.end() : following.start()].strip():
            output[one.start()] = following["text"]
    return [
        Block(
            text.count("\n", 0, one.start("text")),
            one["text"],
            output.get(one.start()),
            "warns" in one["info"].split(),
        )
        for one in found
        if one["info"].split()[:1] == ["python"]
        and (everywhere or not _elsewhere(page, one["info"]))
    ]


def _elsewhere(page: Path, info: str) -> bool:
    """Tell whether a block needs a framework: by its own word, or as its page is a bridge's."""
    return any(word in ELSEWHERE for word in (*page.parts, *info.split()))


def run(page: Path) -> list[tuple[Block, str]]:
    """Run a page's blocks in order, in one namespace and in the current folder."""
    torch.manual_seed(NEW_PROCESS)
    namespace: dict[str, Any] = {"__name__": "__documentation__"}
    printed = []
    for block in blocks(page):
        # The empty lines in front make tracebacks name the page's own lines.
        code = compile("\n" * block.line + block.source, str(page), "exec", dont_inherit=True)
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()) as out:
            warnings.simplefilter("ignore" if block.warns else "error")
            exec(code, namespace)
        printed.append((block, out.getvalue()))
    return printed


def names(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty current folder, from which modules can be imported, outside of any run."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for variable in (ADD, REMOVE):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setattr(sys, "argv", ["train.py"])
    with rng.fork():
        yield tmp_path


@pytest.mark.parametrize("page", [p for p in PAGES if blocks(p)], ids=names)
def test_the_code_of_a_page_runs_and_prints_what_the_page_says(page: Path, folder: Path) -> None:
    """A reader who copies the blocks of a page, in order, sees what the page shows."""
    printed = run(page)

    shown = [(block.line, block.output) for block, _ in printed if block.output is not None]
    assert [(b.line, text) for b, text in printed if b.output is not None] == shown


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_block_of_output_follows_a_block_of_python(page: Path) -> None:
    """No output stands where nothing that runs would print it."""
    text = page.read_text(encoding="utf-8")
    outputs = [one for one in FENCE.finditer(text) if one["info"].strip() == "output"]

    found = blocks(page, everywhere=True)
    assert len(outputs) == sum(block.output is not None for block in found)


def test_a_block_that_prints_something_else_is_seen(folder: Path) -> None:
    """The check itself fails on a page whose output is wrong."""
    page = folder / "page.md"
    page.write_text("```python\nprint(1 + 1)\n```\n\n```output\n3\n```\n")

    [(block, text)] = run(page)

    assert (block.output, text) == ("3\n", "2\n")


def test_a_block_that_warns_fails_unless_the_page_says_so(folder: Path) -> None:
    """A warning in the documentation is an error; ``python warns`` allows it."""
    page = folder / "page.md"
    page.write_text("```python\nimport warnings\nwarnings.warn('careful')\n```\n")

    with pytest.raises(UserWarning, match="careful"):
        run(page)
    page.write_text(page.read_text().replace("```python", "```python warns"))
    run(page)


# -- links ---------------------------------------------------------------


def links(page: Path) -> list[str]:
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    return [
        target
        for target in re.findall(r"\[[^\]]*\]\(([^)\s]+)\)", text)
        if not re.match(r"[a-z]+:", target)
    ]


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    heads = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", head.lower()).replace(" ", "-") for head in heads}


@pytest.mark.parametrize("page", PAGES, ids=names)
def test_every_relative_link_leads_somewhere(page: Path) -> None:
    """Whoever follows a link of the documentation finds a file, and the heading in it."""
    broken = []
    for link in links(page):
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)

    assert broken == []


def test_every_page_can_be_reached_from_the_readme() -> None:
    """No page of docs/ is known only to those who look into the folder."""
    seen, ahead = set(), [ROOT / "README.md"]
    while ahead:
        page = ahead.pop()
        seen.add(page)
        targets = {(page.parent / link.partition("#")[0]).resolve() for link in links(page)}
        ahead += [p for p in targets if p.suffix == ".md" and p.exists() and p not in seen]

    assert [names(page) for page in ROOT.glob("docs/**/*.md") if page not in seen] == []


# -- what is generated, or written twice ---------------------------------------------------------


def test_generated_pages_are_what_the_generator_writes() -> None:
    """Nobody edits a generated page, or forgets to generate: python docs/generate.py."""
    stale = [
        names(path)
        for path, text in generate.pages().items()
        if path.read_text(encoding="utf-8") != text
    ]

    assert stale == []


def _extras() -> dict[str, list[str]]:
    core = tomllib.loads((ROOT / "core" / "pyproject.toml").read_text(encoding="utf-8"))
    return core["project"]["optional-dependencies"]


def _resolved(extra: str) -> set[str]:
    """The distributions that an extra installs, through the extras that it names."""
    found: set[str] = set()
    for requirement in _extras()[extra]:
        inner = re.fullmatch(r"hookloop\[(.+)\]", requirement)
        if inner is None:
            found.add(requirement)
        else:
            found = found.union(*(_resolved(one.strip()) for one in inner[1].split(",")))
    return found


@pytest.mark.parametrize("plugin", generate.plugins(), ids=lambda plugin: plugin.name)
def test_every_plugin_is_in_the_readme_and_in_the_extras(plugin: Any) -> None:
    """A plugin under plugins/ can be found by whoever reads the README or uses an extra."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8")

    assert plugin.promise, "its README begins with one sentence that says what it does"
    assert f"| [`{plugin.name}`](plugins/{plugin.folder}/README.md) |" in readme
    assert _extras()[plugin.name.replace("_", "-")] == [plugin.distribution]
    assert plugin.distribution in _resolved("all")


@pytest.mark.parametrize("plugin", generate.plugins(), ids=lambda plugin: plugin.name)
def test_the_settings_in_a_readme_are_those_of_the_constructor(plugin: Any) -> None:
    """The table of settings of a plugin names each argument, with the default that it has."""
    factory = find(plugin.name, plugin.distribution).load()

    assert plugin_pages.written(plugin.notes) == plugin_pages.real(factory)


def first_column(page: str, heading: str) -> list[str]:
    """The names in backticks in the first column of the table under a heading."""
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    section = re.split(r"^#+ ", text.partition(f"# {heading}\n")[2], flags=re.MULTILINE)[0]
    rows = re.findall(r"^\| (`[^|]+) \|", section, re.MULTILINE)
    return [name for row in rows for name in re.findall(r"`([^`]+)`", row)]


@pytest.mark.parametrize(
    "keras",
    [name for name in generate.KERAS if first_column("keras.md", name)],
)
def test_docs_for_keras_users_name_every_argument(keras: str) -> None:
    """The table of a callback in docs/keras.md has each argument of the one that is here."""
    parameters = constructor(find(generate.KERAS[keras]).load()).parameters

    assert set(parameters) <= set(first_column("keras.md", keras))


@pytest.mark.parametrize(
    ("heading", "table"),
    [("Losses", LOSSES), ("Optimizers", OPTIMIZERS), ("Metrics", METRICS)],
    ids=["losses", "optimizers", "metrics"],
)
def test_tables_of_names_are_those_of_core(heading: str, table: dict[str, Any]) -> None:
    """docs/trainer.md lists every name that may be typed, and no other."""
    assert sorted(first_column("trainer.md", heading)) == sorted(table)


@pytest.mark.parametrize("way", ["min", "max"])
def test_the_words_that_decide_a_direction_are_those_of_core(way: str) -> None:
    """docs/trainer.md lists every word by which mode="auto" knows which way is better."""
    text = (ROOT / "docs" / "trainer.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{way}` \| (.+) \|$", text, re.MULTILINE)

    assert sorted(re.findall(r"`([^`]+)`", row[1])) == sorted(
        word for word, direction in DIRECTIONS.items() if direction == way
    )


def test_the_table_of_the_loop_has_every_public_member() -> None:
    """docs/loop.md leaves out nothing that its reader may use."""
    inside = {
        "ends_badly", "requests", "flagged", "watch", "clear_flags", "check_rate", "extra_state",
        "load_extra_state", "check_extra_state", "config", "differences", "made", "registry",
        "logs", "position", "start", "pending_state", "bases", "buffers", "switches",
        "features", "stops", "asked", "signal", "rate_set", "schedulers", "apply_state",
    }  # fmt: skip
    source = ast.parse(Path(sys.modules[Loop.__module__].__file__).read_text(encoding="utf-8"))
    own = {
        node.attr
        for node in ast.walk(source)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    members = {name for name in {*vars(Loop), *own} if not name.startswith("_")} - inside
    listed = {re.match(r"\w+", name)[0] for name in first_column("loop.md", "The table")}

    assert members - listed == set()
    assert listed - {*vars(Loop), *own} == set()


def test_the_map_of_the_core_has_every_module() -> None:
    """CONTRIBUTING.md says of each module of core what it is for."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| (`[^|]+) \|", text.partition("| modules | what |")[2], re.MULTILINE)
    mapped = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
    modules = {path.stem for path in (ROOT / "core/src/hookloop").glob("*.py")} - {"__init__"}

    assert mapped == modules


def test_the_features_of_loops_are_those_of_core() -> None:
    """docs/loop.md lists the closed set of features."""
    assert first_column("loop.md", "Features") == list(FEATURES)
