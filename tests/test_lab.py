"""JupyterLab in a real browser: what a person opens there runs as it is, shows its pictures, and one line of progress.

A copy of the notebooks is opened as `make lab` does it; nothing of the repository is written. Screenshots lie in
pytest's folder (`--basetemp`), to be looked at.
"""
import importlib.util
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path
from urllib.request import urlopen

import nbformat
import pytest

from taco.disk import file_digest
from taco.workflow.seal import DONE, lies_in
from tests.browser import chromium

pytestmark = pytest.mark.long

# the tour, a chapter of each room, a guide, and an experiment that nobody has made a run for: pictures, at least
OPENED = {
    "tour": 7, "data/00_record": 1, "tasks/01_task": 1, "learning/05_loss": 1, "atlas/01_neighbours": 1,
    "transfer/00_unet": 1, "workflow/01_run": 0, "cli/03_ending": 0, "guides/own_task": 3, "experiments/similarity": 1}
FLAGS = "--headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking --window-size=1200,1400"
PROGRESS = """
import time
import torch
from torch import nn
from taco.learning.loop import Fit, FitConfig, fit
class Line(Fit):
    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(1, 1)
    def loss(self, batch, step): return ((self.layer(batch) - 1)**2).mean()
def slow(step):
    time.sleep(.3 if step < 10 else .04)
    return torch.ones(4, 1)
fit(Line(), slow, FitConfig(steps=200, log_every=5, device="cpu"), progress=True);
"""


@pytest.fixture(scope="module")
def project(tmp_path_factory, root) -> Path:
    "What `jupyter lab nbs` opens, in a folder of its own, with a notebook that trains for ten seconds."
    folder = tmp_path_factory.mktemp("lab")
    for name in ("nbs", "profiles"):
        shutil.copytree(root / name, folder / name, ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(root / "settings.ini", folder)
    kernel = dict(kernelspec=dict(name="python3", display_name="Python 3", language="python"))
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(PROGRESS)], metadata=kernel)
    nbformat.write(book, folder / "nbs/progress.ipynb")
    tracker = folder / "settings/@jupyterlab/notebook-extension/tracker.jupyterlab-settings"
    tracker.parent.mkdir(parents=True)
    tracker.write_text(json.dumps(dict(windowingMode="none")))  # every cell is in the page, not those in sight alone
    return folder


@pytest.fixture(scope="module")
def server(project, root):
    "The address of a JupyterLab that belongs to this test alone."
    if importlib.util.find_spec("jupyterlab") is None: pytest.skip("JupyterLab is not installed (make env)")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = dict(port=port, port_retries=0, ip="127.0.0.1", token="", password="", allow_root=True, open_browser=False)
    call = [sys.executable, "-m", "jupyterlab", str(project / "nbs"), "--LabApp.expose_app_in_browser=True",
            "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate", "--LabApp.news_url=None",
            *(f"--ServerApp.{name}={value}" for name, value in words.items())]
    env = {k: v for k, v in os.environ.items() if not k.startswith(("JUPYTER", "MPLBACKEND"))}
    env |= {f"JUPYTER_{kind}_DIR": str(project / kind) for kind in ("CONFIG", "RUNTIME")}
    env |= dict(JUPYTERLAB_SETTINGS_DIR=str(project / "settings"), JUPYTERLAB_WORKSPACES_DIR=str(project / "spaces"),
                PYTHONPATH=str(root))
    with open(project / "server.txt", "w") as log:
        going = subprocess.Popen(call, env=env, stdout=log, stderr=log)
    address, end = f"http://127.0.0.1:{port}", time.monotonic() + 90
    while True:
        try:
            with urlopen(f"{address}/api") as answer: assert answer.status == 200
            break
        except OSError:
            assert going.poll() is None and time.monotonic() < end, (project / "server.txt").read_text()[-3000:]
            time.sleep(.3)
    yield address
    going.terminate()
    going.wait(30)


@pytest.fixture(scope="module")
def browser():
    with chromium(FLAGS) as chrome:
        chrome.set_script_timeout(100)
        yield chrome


OPEN = """
const done = arguments[1];
(async () => {
  const wait = async (what) => { while (!what()) await new Promise((good) => setTimeout(good, 100)); };
  const panel = () => window.jupyterapp?.shell.currentWidget;
  await wait(() => panel()?.context?.path === arguments[0]);
  await panel().context.ready;
  await panel().sessionContext.ready;
  await wait(() => panel().sessionContext.session?.kernel?.status === "idle");
  done("");
})().catch((error) => done(String(error)));
"""
RUN = """
window.ended = false;
window.jupyterapp.commands.execute("notebook:run-all-cells").finally(() => { window.ended = true; });
"""
CELLS = "return window.jupyterapp.shell.currentWidget.content.model.toJSON().cells"
PICTURES = """
const all = [...document.querySelectorAll(".jp-OutputArea-output img")];
all[0]?.scrollIntoView({ block: "center" });
return all.map((image) => image.complete && image.naturalWidth > 20);
"""


class Opened:
    "A notebook in the browser, with a kernel that waits."
    def __init__(self, browser, server: str, path: str):
        self.browser = browser
        browser.get(f"{server}/lab/tree/{path}?reset")
        said = browser.execute_async_script(OPEN, path)
        assert said == "", said

    def start(self) -> None: self.browser.execute_script(RUN)

    def run(self) -> list[dict]:
        "All its cells, as they are after `Run All Cells`."
        self.start()
        end = time.monotonic() + 600
        while not self.browser.execute_script("return window.ended"):
            assert time.monotonic() < end, "it does not come to an end"
            time.sleep(.3)
        return self.browser.execute_script(CELLS)

    def close(self) -> None:
        self.browser.execute_async_script(
            "window.jupyterapp.shell.currentWidget.sessionContext.shutdown().then(arguments[0], arguments[0])")


@pytest.fixture
def opened(browser, server):
    here = []
    def open_one(path: str) -> Opened:
        here.append(Opened(browser, server, path))
        return here[-1]
    yield open_one
    for one in here: one.close()


def text_of(outputs: list[dict]) -> str:
    return "".join("".join(o.get("text", "")) for o in outputs)


@pytest.mark.parametrize("name", OPENED)
def test_it_runs_as_it_is_and_shows_its_pictures(name, opened, browser, project, tmp_path):
    cells = opened(f"{name}.ipynb").run()
    code = [c for c in cells if c["cell_type"] == "code" and "".join(c["source"]).strip()]
    outputs = [o for c in code for o in c["outputs"]]
    errors = ["\n".join(o["traceback"])[-2000:] for o in outputs if o["output_type"] == "error"]
    assert errors == [] and all(c["execution_count"] for c in code), "a cell has not run"
    time.sleep(1)  # until pictures are decoded
    shown = browser.execute_script(PICTURES)
    browser.save_screenshot(str(tmp_path / f"{name.replace('/', '-')}.png"))
    assert all(shown) and len(shown) >= OPENED[name], f"{sum(shown)} of {len(shown)} pictures can be seen"
    assert "Warning" not in text_of(outputs)
    if name.startswith("experiments/"):
        step = Path(name).name
        assert f"which comes with taco, and writes to runs/shipped/{step}" in text_of(outputs)
        about = json.loads((project / "runs/shipped" / step / DONE).read_text())
        assert about["parameters"]["embed_run"] == "pretrained/embed" and about["figures"]
        assert about["needs"] == {"pretrained/embed": file_digest(lies_in("pretrained/embed") / DONE)}
        assert not (project / "runs/smoke").exists()


def test_progress_is_one_line_that_changes(opened, browser, tmp_path):
    "Two steps a second at first and then twenty: what is left is never told by the former."
    opened("progress.ipynb").start()
    seen: list[str] = []
    end = time.monotonic() + 120
    while not (seen and "200/200" in seen[-1]):
        assert time.monotonic() < end, seen
        now = browser.execute_script("return document.querySelector('.jp-OutputArea-output')?.innerText ?? ''").strip()
        if now and now not in seen:
            seen.append(now)
            if len(seen) == 5: browser.save_screenshot(str(tmp_path / "progress.png"))
        time.sleep(.1)
    assert len(seen) > 8 and all(re.fullmatch(r"step +\d+/200 .*", line) for line in seen), seen
    steps = {int(re.search(r"(\d+)/200", line)[1]): line.rpartition("pairs/s")[2].split() for line in seen}
    assert all(words == ["warming", "up"] for step, words in steps.items() if step <= 10)
    assert all(words[0] < "0:45" for step, words in steps.items() if step > 10), steps
