"""What tensorboard writes is seen in TensorBoard itself, in a real browser.

The pictures in docs/pictures are taken here: HOOKLOOP_WRITE_SCREENSHOTS=1 replaces them. Without a
browser the tests are skipped, unless HOOKLOOP_BROWSER=1 says that there has to be one.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import nn

from hookloop import Trainer

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
DEMANDED = os.environ.get("HOOKLOOP_BROWSER") == "1"
PICTURES = Path(__file__).resolve().parent.parent / "docs" / "pictures"
FLAGS = (
    "--headless=new --no-sandbox --disable-gpu --disable-quic --no-first-run "
    "--disable-background-networking --disable-component-update --disable-sync "
    "--hide-scrollbars"
).split()
OPTIONS = "--host 127.0.0.1 --port 0 --reload_interval 1".split()
WORDS = "the a one two cat dog bird fish red blue green black runs sleeps eats sings".split()

pytestmark = pytest.mark.skipif(
    not (BROWSER and DRIVER) and not DEMANDED, reason="chromium or its driver is not installed"
)

#: Everything on a page, through shadow roots and frames: texts, and elements.
DEEP = """
const found = [], nodes = [], elements = [];
function walk(root) {
  for (const node of root.querySelectorAll('*')) {
    elements.push(node);
    if (node.shadowRoot) walk(node.shadowRoot);
    if (node.tagName === 'IFRAME' && node.contentDocument) walk(node.contentDocument);
    for (const child of node.childNodes)
      if (child.nodeType === 3 && child.data.trim() && node.tagName !== 'STYLE')
        found.push(child.data.trim()), nodes.push(child);
  }
}
walk(document);
"""
TEXTS = DEEP + "return found;"
COUNT = DEEP + (
    "return elements.filter(one => one.matches(arguments[0])"
    " && one.getBoundingClientRect().width > 0"
    " && (one.tagName !== 'IMG' || one.naturalWidth > 0)).length;"
)
#: What a user does on a page: opens a node of the graph, looks for words in the projector. True
#: once it could be done.
OPEN = (
    DEEP
    + """
const button = elements.find(one => one.matches('g.node[data-name="Classifier"] .buttoncontainer'));
return !!button && button.dispatchEvent(new MouseEvent('click'));
"""
)
SEARCH = (
    DEEP
    + """
const points = found.includes('Points:') && found[found.indexOf('Points:') + 1];
const box = elements.find(one => one.matches('#search-box'));
if (!box || points !== '16') return false;
const input = box.shadowRoot.querySelector('paper-input');
input.value = 's';
return input.dispatchEvent(new Event('input'));
"""
)
#: The pictures are not to show where the logs happened to be.
HIDE = DEEP + (
    "elements.filter(one => one.matches('tf-wbr-string') && one.value === arguments[0])"
    ".forEach(one => { one.value = 'logs'; });"
)


class Classifier(nn.Module):
    """Tells from the words of a sentence whether it is about an animal that sings."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(len(WORDS), 8)
        self.convolution = nn.Conv1d(8, 16, 3, padding=1)
        self.head = nn.Sequential(nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 2))

    def forward(self, sentences: torch.Tensor) -> torch.Tensor:
        """From word numbers, (batch, length), to logits, (batch, 2)."""
        return self.head(self.convolution(self.words(sentences).transpose(1, 2)).amax(2))


@pytest.fixture(scope="module")
def logs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The log folder of an example run that uses everything."""
    folder = tmp_path_factory.mktemp("logs")
    metadata = folder / "words.tsv"
    metadata.write_text("".join(f"{word}\n" for word in WORDS))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        sentences = torch.randint(0, len(WORDS), (256, 5))
        model = Classifier()
        trainer = Trainer(
            model, loss="cross_entropy", optimizer="adam:lr=0.01", metrics=["accuracy"], seed=0
        )
        settings = {
            "log_dir": str(folder),
            "histogram_freq": 1,
            "write_images": True,
            "write_grads": True,
            "embeddings_freq": 1,
            "embeddings_metadata": str(metadata),
        }
        trainer.fit(
            (sentences, (sentences == WORDS.index("sings")).any(1).long()),
            epochs=8,
            validation_split=0.25,
            callbacks=[("tensorboard", settings)],
            verbose=0,
        )
    return folder


@pytest.fixture(scope="module")
def address(logs: Path) -> Iterator[str]:
    """Where TensorBoard itself serves the example run."""
    server = subprocess.Popen(
        [sys.executable, "-m", "tensorboard.main", "--logdir", str(logs), *OPTIONS],
        stderr=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        text=True,
    )
    watchdog = threading.Timer(60, server.kill)
    watchdog.start()
    try:
        lines = iter(server.stderr.readline, "")
        found = next(filter(None, (re.search(r"http://127\.0\.0\.1:\d+/", one) for one in lines)))
        watchdog.cancel()
        yield found[0]
    finally:
        watchdog.cancel()
        server.kill()
        server.communicate()


class Still:
    """Whether a page looks as it did when last asked; the projector turns for ever."""

    def __init__(self) -> None:
        self.before, self.asked = "", 0

    def __call__(self, driver) -> bool:
        now = driver.get_screenshot_as_base64()
        still, self.before, self.asked = now == self.before, now, self.asked + 1
        return still or self.asked > 10


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator:
    """A browser with nothing in it yet."""
    from selenium import webdriver

    assert None not in (BROWSER, DRIVER), (
        "HOOKLOOP_BROWSER=1, and there is no chromium with chromedriver"
    )
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (*FLAGS, f"--user-data-dir={tmp_path_factory.mktemp('browser')}"):
        options.add_argument(flag)
    driver = webdriver.Chrome(options, webdriver.ChromeService(DRIVER))
    driver.set_page_load_timeout(30)
    size = {"width": 1200, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    yield driver
    driver.quit()


PAGES = {
    "scalars": (
        "scalars&tagFilter=epoch_(loss|acc)&_smoothingWeight=0",
        None,
        ["epoch_loss", "epoch_accuracy", "epoch_learning_rate", "train", "validation"],
        ("vz-line-chart2", 4),
    ),
    "histograms": (
        "histograms&tagFilter=words",
        None,
        ["words/weight/histogram", "words/weight/gradient_histogram", "words/output_histogram"],
        ("vz-histogram-timeseries", 3),
    ),
    "images": (
        "images&tagFilter=weight",
        None,
        ["words/weight/image", "convolution/weight/image"],
        ("img", 3),
    ),
    "graph": (
        "graphs",
        OPEN,
        ["Classifier", "Sequential[head]", "Embedding[wor…", "Conv1d[convolu…"],
        ("g.node", 5),
    ),
    "projector": (
        "projector",
        SEARCH,
        ["words", "16", "8", "5 matches.", "fish", "runs", "sleeps", "eats", "sings"],
        ("canvas", 1),
    ),
}


@pytest.mark.parametrize("name", PAGES)
def test_tensorboard_shows(browser, address, logs, tmp_path: Path, name: str) -> None:
    """The page has the names, and what is drawn under them."""
    from selenium.webdriver.support.ui import WebDriverWait

    page, act, texts, (selector, least) = PAGES[name]
    picture = tmp_path / f"tensorboard-{name}.png"
    waiting = WebDriverWait(browser, 30, poll_frequency=0.3)
    browser.get("about:blank")
    browser.get(f"{address}#{page}")

    def missing() -> set[str]:
        return set(texts) - set(browser.execute_script(TEXTS))

    try:
        if act is not None:
            waiting.until(lambda driver: driver.execute_script(act), "nothing to act on")
        waiting.until(lambda driver: not missing(), f"of {texts}")
        waiting.until(lambda driver: driver.execute_script(COUNT, selector) >= least, selector)
        waiting.until(Still(), "the page goes on moving")
    finally:
        browser.execute_script(HIDE, str(logs))
        browser.save_screenshot(str(picture))
    assert missing() == set()
    if os.environ.get("HOOKLOOP_WRITE_SCREENSHOTS") == "1":
        PICTURES.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, PICTURES / picture.name)
