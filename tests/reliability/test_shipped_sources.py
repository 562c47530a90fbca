"""What the sources that are shipped never call: readers that run code, and code made of text."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = sorted(
    path
    for part in ("core/src", "plugins", "examples/plugins")
    for path in (ROOT / part).rglob("*.py")
    if "src" in path.parts and "build" not in path.parts
)
#: Modules whose readers run what they read, and what else makes code of text.
MODULES = {
    "pickle",
    "cPickle",
    "marshal",
    "shelve",
    "dill",
    "cloudpickle",
    "joblib",
    "yaml",
    "jsonpickle",
}
CALLS = {"eval", "exec", "compile", "__import__", "execfile"}
#: Each with the reason why it is one.
ALLOWED = {
    ("checkpoints.py", "pickle"): "for the class of an error, which torch raises",
    ("torch_format.py", "pickle"): "writes what torch reads with weights_only; reads nothing",
    ("registry.py", "exec"): "compiles calls of hooks from their names, of which it made sure",
    ("registry.py", "compile"): "the same, so that tracebacks show where they are",
    ("readme.py", "exec"): "the kit runs the example of the plugin that it checks",
    ("readme.py", "compile"): "the same, so that tracebacks show where",
    ("packaging.py", "pickle"): "the kit pickles a callback of its own making, and reads that",
}


def found(path: Path) -> Iterator[tuple[str, int]]:
    """Give what a source uses of the above, with the line."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name.partition(".")[0] in MODULES:
                    yield alias.name, node.lineno
        elif isinstance(node, ast.ImportFrom):
            if (node.module or "").partition(".")[0] in MODULES:
                yield str(node.module), node.lineno
        elif isinstance(node, ast.Call):
            yield from _of_call(node)


def _of_call(node: ast.Call) -> Iterator[tuple[str, int]]:
    called, safe = ast.unparse(node.func), {k.arg: ast.unparse(k.value) for k in node.keywords}
    if called in CALLS:
        yield called, node.lineno
    if called == "torch.load" and safe.get("weights_only") != "True":
        yield called, node.lineno
    if called.endswith(("numpy.load", "np.load")) and safe.get("allow_pickle", "False") != "False":
        yield called, node.lineno
    if called in ("os.system", "os.popen") or safe.get("shell", "False") != "False":
        yield called, node.lineno
    if (
        called.startswith("torch.")
        and called.endswith((".load", ".hub.load"))
        and called != "torch.load"
    ):
        yield called, node.lineno
    if called.endswith("add_safe_globals"):
        yield called, node.lineno


@pytest.mark.reliability("H2")
def test_no_source_reads_what_could_run() -> None:
    """Core, plugins, bridges and examples: no exception but those that are listed, with why."""
    assert len(SOURCES) > 100
    seen = {(path.name, what) for path in SOURCES for what, _ in found(path)}
    assert seen == set(ALLOWED)


PLANTED = [
    "import pickle",
    "from marshal import loads",
    "import yaml",
    "eval('1')",
    "exec(text)",
    "torch.load(path)",
    "torch.load(path, weights_only=False)",
    "torch.load(path, weights_only=safe)",
    "numpy.load(path, allow_pickle=True)",
    "os.system(text)",
    "subprocess.run(text, shell=True)",
    "torch.hub.load(name)",
    "torch.jit.load(path)",
    "torch.serialization.add_safe_globals([X])",
]


@pytest.mark.reliability("H2")
@pytest.mark.parametrize("line", PLANTED)
def test_a_planted_reader_is_found(tmp_path: Path, line: str) -> None:
    """So the rule can fail."""
    path = tmp_path / "x.py"
    path.write_text(line)
    assert len(list(found(path))) == 1


@pytest.mark.reliability("H2")
def test_what_is_safe_is_not_found(tmp_path: Path) -> None:
    """Nor does it cry wolf."""
    path = tmp_path / "x.py"
    path.write_text(
        "import json\ntorch.load(path, map_location='cpu', weights_only=True)\n"
        "re.compile('x')\nast.literal_eval('1')\nmodel.eval()\nsafetensors.torch.load(data)\n"
    )
    assert list(found(path)) == []
