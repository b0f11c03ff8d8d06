"""Figures in a real JupyterLab: what the hand does and the figure computes is read in Python, and Python moves the figure."""

import json
import os
import re
import subprocess
import sys
import time
from importlib.util import find_spec
from urllib.parse import urlsplit

import nbformat
import pytest

TOKEN = "figures"
CELLS = """
import json
import torch
from helmholtz_mim import BinaryLayer, HelmholtzMachine, exact_report, well_formed
from helmholtz_mim.data.worlds import SIZES
from helmholtz_mim.interactive.gallery import channel_inspector, collapse_lab

layer = BinaryLayer(3, 2)
layer.weight.normal_(generator=torch.Generator().manual_seed(0))
inspector = channel_inspector(layer)
inspector

print(json.dumps([inspector.value(name) for name in ("x", "sharpness", "H", "I", "noise")]))

inspector.live.x = 6
inspector.live.sharpness = 2.5

inspector.live.x = 99

print(json.dumps([inspector.value("x"), inspector.value("sharpness"), inspector.value("I")]))

lab = collapse_lab(epochs=3)
lab

machine, weights = HelmholtzMachine(SIZES["well-formed"]).double(), lab.value("weights")
for layer, rows in zip([*machine.recognition, *machine.generative], [*weights["recognition"], *weights["generative"]]):
    layer.weight.copy_(torch.tensor(rows[:-1]).mT)
machine.prior.bias.copy_(torch.tensor(weights["generative"][-1][0]))
report = exact_report(machine, well_formed(12)).query("direction == 'recognition'").groupby("measure").value
print(json.dumps([lab.value("steps"), *([*report.get_group(m)] for m in "HI"), *(lab.value(m)["recognition"] for m in "HI")]))

lab.live.scheme = "mim"
lab.live.every = 20
lab.live.running = True

lab.live.running = False

print(json.dumps([lab.value("scheme"), lab.value("every"), lab.value("steps"), [point["steps"] for point in lab.value("history")]]))
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """The address of a JupyterLab of our own, which asks nobody outside for anything, with a notebook of the cells above."""
    if not find_spec("jupyterlab"):
        if os.environ.get("REQUIRE_BROWSER") == "1":
            raise ImportError("no JupyterLab: pip install -r requirements-dev.lock")
        pytest.skip("no JupyterLab: pip install -r requirements-dev.lock")
    folder = tmp_path_factory.mktemp("lab")
    cells = [nbformat.v4.new_code_cell(text) for text in CELLS.strip().split("\n\n")]
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), folder / "figures.ipynb")
    homes = {f"JUPYTER_{kind}_DIR": str(folder / kind) for kind in ("CONFIG", "DATA", "RUNTIME")} | {"IPYTHONDIR": str(folder / "ipython")}
    own = ["--no-browser", "--allow-root", "--ip=127.0.0.1", "--port=0", f"--IdentityProvider.token={TOKEN}"]
    quiet = ["check_for_updates_class=jupyterlab.NeverCheckForUpdate", "news_url=None", "extension_manager=readonly"]
    command = [sys.executable, "-m", "jupyterlab", *own, *(f"--LabApp.{option}" for option in quiet)]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(command, env=os.environ | homes, cwd=folder, stdout=log, stderr=log)
        try:
            yield address(process, folder)
        finally:
            process.terminate()
            process.wait(10)


def address(process, folder, patience=30):
    """Where a server that has just been started listens."""
    until = time.monotonic() + patience
    while process.poll() is None and time.monotonic() < until:
        if found := re.search(r"http://127\.0\.0\.1:[1-9]\d*", (folder / "log").read_text()):
            return found[0]
        time.sleep(0.1)
    raise RuntimeError(f"JupyterLab did not start:\n{(folder / 'log').read_text()[-2000:]}")


@pytest.fixture(scope="module")
def notebook(browser, server):
    """The notebook, open in JupyterLab, with a kernel that waits for work."""
    page = browser.new_page(viewport={"width": 1280, "height": 3600})
    page.outside = []
    page.on("request", lambda r: page.outside.append(r.url) if urlsplit(r.url).hostname not in (None, "127.0.0.1") else None)
    page.goto(f"{server}/lab/tree/figures.ipynb?token={TOKEN}&reset")
    page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for(timeout=30_000)
    run(page, 0)
    yield page
    assert not page.outside
    page.close()


def run(page, number):
    """Run a cell of the notebook; gives its output, which must not be an error."""
    cell = page.locator(".jp-Notebook .jp-CodeCell").nth(number)
    prompt, until = cell.locator(".jp-InputPrompt"), time.monotonic() + 30
    while not re.search(r"\d", prompt.inner_text()) and time.monotonic() < until:
        if "*" not in prompt.inner_text():  # while the page is still settling, keys may go astray
            cell.locator(".cm-content").click()
            page.keyboard.press("Control+Enter")
        page.wait_for_timeout(300)
    assert "Traceback" not in cell.inner_text(), cell.inner_text()
    return cell.locator(".jp-OutputArea")


def read(page, number):
    """What a cell that ends with `print(json.dumps(…))` gives."""
    return json.loads(run(page, number).inner_text())


def lasting(figure, steps):
    """A figure that has trained so many steps, or more."""
    figure.page.wait_for_function("steps => +document.querySelector('[data-steps]')?.dataset.steps >= steps", arg=steps)


def test_figures_talk_to_python(notebook):
    from playwright.sync_api import expect

    figure = run(notebook, 1)
    figure.get_by_label("sharpness").focus()
    notebook.keyboard.press("Home")
    assert "0.000 nats" in figure.locator("dd").nth(2).inner_text()
    x, sharpness, entropy, information, noise = read(notebook, 2)
    assert (x, sharpness) == (0, 0) and entropy == pytest.approx(noise) == pytest.approx(1.3863, abs=1e-4)
    assert abs(information) < 1e-9

    run(notebook, 3)
    expect(figure.get_by_label("input state x")).to_have_value("6")
    expect(figure.get_by_label("sharpness")).to_have_value("2.5")
    shown = float(figure.locator("dd").nth(2).inner_text().split()[0])
    run(notebook, 4)
    expect(figure.get_by_role("alert")).to_have_text("x cannot be 99: it is a whole number from 0 to 7.")
    x, sharpness, information = read(notebook, 5)
    assert (x, sharpness) == (6, 2.5) and information == pytest.approx(shown, abs=5e-4) and information > 0.1


def test_lab_talks_to_python(notebook):
    from playwright.sync_api import expect

    figure = run(notebook, 6)
    lasting(figure, 3 * 905)
    expect(figure.get_by_role("button", name="Play")).to_be_visible()
    steps, *exact, entropies, information = read(notebook, 7)
    assert steps == 3 * 905 and exact == [pytest.approx(entropies), pytest.approx(information)] and min(information) > 0.01

    run(notebook, 8)
    lasting(figure, 20 * 905)
    expect(figure.get_by_role("radio", name="MIM")).to_be_checked()
    run(notebook, 9)
    expect(figure.get_by_role("button", name="Play")).to_be_visible()
    scheme, every, steps, history = read(notebook, 10)
    assert (scheme, every) == ("mim", 20) and history[0] == 0 and history[-1] == steps >= 20 * 905
