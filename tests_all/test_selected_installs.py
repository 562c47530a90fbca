"""Core with one plugin, in an environment that has nothing else: installed from wheels, by pip.

That all of them together pass the whole suite is the last step of ``make test-all``.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import environments
import pytest
from environments import FOLDERS, ROOT, TOOLS

PLUGINS = {
    folder.name: name
    for name, folder in FOLDERS.items()
    if folder.parent.name == "plugins" and not folder.name.startswith("in_")
}
OWN = {"base_logger": "hookloop", "history": "hookloop"}

#: How each is chosen that cannot do with its defaults; those that write, write where they are.
CHOSEN = {
    "backup_and_restore": {"backup_dir": "backup", "delete_checkpoint": False},
    "csv_logger": {"filename": "log.csv"},
    "early_stopping": {"monitor": "loss"},
    "learning_rate_scheduler": {"schedule": "step:step_size=1"},
    "model_checkpoint": {"filepath": "model.pt"},
    "reduce_lr_on_plateau": {"monitor": "loss"},
    "remote_monitor": {"root": "http://127.0.0.1:9"},
}
TRAIN = """
import json, sys, warnings
import hookloop, torch

class Sees(hookloop.Callback):
    def on_train_begin(self):
        self.names = list(self.loop.callbacks)

warnings.simplefilter("ignore")
sees, x = Sees(), torch.linspace(-1, 1, 32).reshape(-1, 1)
trainer = hookloop.Trainer(torch.nn.Linear(1, 1), loss="mse", optimizer="sgd", seed=0)
history = trainer.fit((x, 2 * x), epochs=2, verbose=0, callbacks=[*json.loads(sys.argv[1]), sees])
print(json.dumps([history.epoch, history.outcome, sees.names]))
"""


class Environment:
    """A fresh environment, and an empty folder to run it in.

    Args:
        folder: Where both shall be.
        wheels: The only place where pip may look.
        names: Distributions of ours to install.
        shared: Distributions of others to link.
    """

    def __init__(self, folder: Path, wheels: Path, names: list[str], shared: list[str]) -> None:
        self.wheels = wheels
        self.python = environments.make(folder / "environment", wheels, names, shared)
        self.folder = folder / "empty"
        self.folder.mkdir()

    def run(self, *words: str | Path) -> subprocess.CompletedProcess[str]:
        """Run its Python with some words."""
        return subprocess.run(
            [self.python, *words],
            cwd=self.folder,
            env=environments.clean(),
            capture_output=True,
            text=True,
            check=False,
        )

    def listed(self) -> dict[str, str]:
        """Name the callbacks that it has, and their distributions."""
        shown = json.loads(self.run("-m", "hookloop.cli", "list", "--json").stdout)
        return {one["name"]: one["distribution"] for one in shown}

    def train(self, *items: Any) -> Any:
        """Train for two epochs; give the epochs, the outcome and the callbacks of the run."""
        done = self.run("-c", TRAIN, json.dumps(items))
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout.splitlines()[-1])


def core_needs() -> list[str]:
    return environments.needs("hookloop")


@pytest.mark.reliability("J5")
def test_core_alone_lists_its_own_two_and_trains(wheels: Path, tmp_path: Path) -> None:
    """Everything else is named with the line that installs it."""
    environment = Environment(tmp_path, wheels, ["hookloop"], core_needs())

    assert environment.listed() == OWN
    assert environment.train() == [[0, 1], "finished", ["base_logger", "sees", "history"]]
    without = environment.run("-c", TRAIN, json.dumps(["early_stopping"]))
    assert without.stderr.endswith(
        "hookloop.errors.UnknownCallbackError: The callback 'early_stopping' is not installed; it "
        "is one of hookloop's own.\nfix: pip install hookloop-early-stopping\n"
    )


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.reliability("J5")
def test_a_plugin_alone_trains_by_name_and_passes_its_tests(
    plugin: str, wheels: Path, tmp_path: Path
) -> None:
    """It needs no other plugin, nothing that it does not declare, and not its source."""
    distribution = PLUGINS[plugin]
    shared = [*core_needs(), *environments.needs(distribution), *TOOLS]
    environment = Environment(tmp_path, wheels, [distribution], shared)  # pip adds core itself

    assert environment.listed() == {**OWN, plugin: distribution}
    where = environment.run("-c", f"import hookloop, hookloop_{plugin} as p; print(p.__file__)")
    assert Path(where.stdout.strip()).is_relative_to(tmp_path / "environment")
    assert environment.train({plugin: CHOSEN.get(plugin, {})}) == [
        [0, 1],
        "finished",
        ["base_logger", plugin, "sees", "history"],
    ]
    for part in ("tests", "README.md"):
        copy = shutil.copytree if part == "tests" else shutil.copy
        copy(FOLDERS[distribution] / part, environment.folder / part)
    shutil.copy(ROOT / "pyproject.toml", environment.folder)
    tested = environment.run("-m", "pytest", "-q", "-p", "no:cacheprovider", "tests")
    assert tested.returncode == 0, tested.stdout + tested.stderr
    assert " passed" in tested.stdout


@pytest.mark.parametrize("plugin", PLUGINS)
def test_uninstalling_a_plugin_leaves_the_others_working(
    plugin: str, everything: Environment
) -> None:
    """The rest is listed, and trains together; the one that is gone has its line."""
    environments.uninstall(everything.python, PLUGINS[plugin])
    try:
        others = [name for name in PLUGINS if name != plugin]
        assert everything.listed() == {**OWN, **{name: PLUGINS[name] for name in others}}
        outcome = everything.train(*({name: CHOSEN.get(name, {})} for name in others))
        assert outcome[:2] == [[0, 1], "finished"]
        assert set(others) <= set(outcome[2])
        gone = everything.run("-m", "hookloop.cli", "info", plugin)
        assert gone.stderr.endswith(f"\nfix: pip install {PLUGINS[plugin]}\n")
    finally:
        environments.install(everything.python, everything.wheels, PLUGINS[plugin])


@pytest.fixture(scope="module")
def everything(wheels: Path, tmp_path_factory: pytest.TempPathFactory) -> Environment:
    """An environment with core and every plugin; who takes something away puts it back."""
    shared = sorted({*core_needs(), *(n for d in PLUGINS.values() for n in environments.needs(d))})
    folder = tmp_path_factory.mktemp("everything")
    return Environment(folder, wheels, list(PLUGINS.values()), shared)


@pytest.mark.parametrize(
    "module",
    ["import absent_library\n", "raise SystemExit('no licence')\n", "def broken(:\n", None],
    ids=["a library is missing", "it exits", "a typing error", "its module is missing"],
)
def test_installing_a_broken_plugin_leaves_the_others_working(
    module: str | None, everything: Environment, tmp_path: Path
) -> None:
    """It matters only to whoever names it."""
    wheel = broken_wheel(tmp_path, module)
    environments.install(everything.python, wheel.parent, "acme-broken")
    try:
        assert everything.listed() == {**OWN, **PLUGINS, "broken": "acme-broken"}
        assert everything.train("early_stopping:monitor=loss")[:2] == [[0, 1], "finished"]
        named = everything.run("-c", TRAIN, '["broken"]')
        assert "PluginImportError: The callback 'broken' of acme-broken 1.5" in named.stderr
        assert "\nfix: pip install " in named.stderr
    finally:
        environments.uninstall(everything.python, "acme-broken")
    assert "broken" not in everything.listed()


def broken_wheel(folder: Path, module: str | None) -> Path:
    """Write a wheel whose plugin cannot be imported; with None it has an entry point only."""
    from zipfile import ZipFile

    info = "acme_broken-1.5.dist-info"
    members = {
        f"{info}/METADATA": "Metadata-Version: 2.1\nName: acme-broken\nVersion: 1.5\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": "[hookloop.callbacks]\nbroken = acme_broken:Broken\n",
    }
    if module is not None:
        members["acme_broken.py"] = module
    rows = "".join(f"{name},,\n" for name in [*members, f"{info}/RECORD"])
    path = folder / "acme_broken-1.5-py3-none-any.whl"
    with ZipFile(path, "w") as wheel:
        for name, text in {**members, f"{info}/RECORD": rows}.items():
            wheel.writestr(name, text)
    return path
