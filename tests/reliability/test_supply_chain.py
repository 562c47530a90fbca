"""What is installed runs when it is named, and not before; a name has one owner, or none."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

LOUD = "from pathlib import Path\nfrom hookloop import Callback\nPath({marker!r}).touch()\n{more}"
CLASS = "class Loud(Callback):\n    def on_train_begin(self): ...\n"
TRAIN = (
    "import hookloop, torch\n"
    "x = torch.zeros(4, 1)\n"
    "trainer = hookloop.Trainer(torch.nn.Linear(1, 1), loss='mse', optimizer='sgd')\n"
    "trainer.fit((x, x), verbose=2, callbacks=['early_stopping:monitor=loss'])\n"
    "trainer.evaluate((x, x)); trainer.predict(x)\n"
    "hookloop.available()\n"
)


def install(place: Path, distribution: str, line: str, module: str) -> Path:
    """Leave what pip leaves of a distribution whose module makes a file when it is imported."""
    info = place / f"{distribution}-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {distribution}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[hookloop.callbacks]\n{line}\n")
    name = line.partition("=")[2].partition(":")[0].strip()
    marker = place / f"{name}-ran"
    (place / f"{name}.py").write_text(LOUD.format(marker=str(marker), more=module))
    return marker


def python(place: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env={**os.environ, "PYTHONPATH": str(place)},
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.reliability("J1", "J4")
def test_what_is_installed_and_not_named_never_runs(tmp_path: Path) -> None:
    """Not on import, in a training with others, nor when it is listed; then it does, named."""
    marker = install(tmp_path, "acme-loud", "loud = acme_loud:Loud", CLASS)
    listed = python(tmp_path, "-m", "hookloop", "list")
    assert "acme_loud:Loud" in listed.stdout
    trained = python(tmp_path, "-c", TRAIN)
    assert trained.returncode == 0, trained.stderr
    assert not marker.exists()
    named = python(tmp_path, "-c", "import hookloop; hookloop.load('loud')")
    assert named.returncode == 0, named.stderr
    assert marker.exists()


@pytest.mark.reliability("J2", "J3", "G10")
def test_a_name_is_loaded_from_its_one_owner_and_nothing_beside_it(tmp_path: Path) -> None:
    """Two owners are an error that names both and runs neither; so is one that cannot be imported,
    and a name that nobody has.
    """
    one = install(tmp_path, "acme-one", "loud = acme_one:Loud", CLASS)
    two = install(tmp_path, "acme-two", "loud = acme_two:Loud", CLASS)
    broken = install(tmp_path, "acme-broken", "broken = acme_broken:Loud", "import not_there\n")
    both = python(tmp_path, "-c", "import hookloop; hookloop.load('loud')")
    assert "acme-one" in both.stderr
    assert "acme-two" in both.stderr
    assert not one.exists()
    assert not two.exists()
    chosen = python(tmp_path, "-c", "import hookloop; hookloop.load('acme-two/loud')")
    assert chosen.returncode == 0, chosen.stderr
    assert (one.exists(), two.exists(), broken.exists()) == (False, True, False)
    two.unlink()
    failing = python(tmp_path, "-c", "import hookloop; hookloop.load('broken')")
    assert "not_there" in failing.stderr
    assert "acme-broken 1.0" in failing.stderr
    unknown = python(tmp_path, "-c", "import hookloop; hookloop.load('louder')")
    assert "Did you mean 'loud'?" in unknown.stderr
    assert (one.exists(), two.exists()) == (False, False)
