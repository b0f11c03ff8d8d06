"""The playground: a reader's program in a Python of the page trains the machine of the chapters, and is stopped where it must be."""

import gzip
import importlib.util
import json
import re
import shutil
import subprocess
from base64 import b64decode
from hashlib import sha256
from pathlib import Path
from urllib.parse import urlsplit

import pandas as pd
import pytest
import torch
from helmholtz_mim import HelmholtzMachine, Stream, TrainConfig, exact_report, scheme, train, well_formed
from helmholtz_mim.data.worlds import SIZES
from helmholtz_mim.interactive.gallery import playground

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "assets/vendor/pyodide.js"
NOTEBOOK = json.loads((ROOT / "nbs/playground.ipynb").read_text(encoding="utf-8"))


def programs():
    """Those of the page, as its cell defines them."""
    names = {}
    exec("".join(next(c["source"] for c in NOTEBOOK["cells"] if c["id"] == "pg-02")), names)
    return names["programs"]


def chance():
    return torch.Generator().manual_seed(1)


def recorded(names, epochs):
    runs = {}
    for name in names:
        config = TrainConfig(epochs, report_every=epochs // 5)
        machine = HelmholtzMachine(SIZES["well-formed"])
        runs[name] = train(machine, well_formed(12), config, allocate=scheme(name), report=exact_report, generator=chance())
    return pd.concat(runs, names=["scheme"]).reset_index("scheme")


# What is vendored


def test_the_script_holds_the_files_that_the_tool_names():
    spec = importlib.util.spec_from_file_location("vendor_python", ROOT / "tools/vendor_python.py")
    spec.loader.exec_module(tool := importlib.util.module_from_spec(spec))
    head, _, text = SCRIPT.read_text(encoding="utf-8").partition("globalThis.PYODIDE = ")
    held = json.loads(text.rstrip(";\n"))
    assert head == tool.HEAD and held["version"] == tool.VERSION
    assert {name: sha256(gzip.decompress(b64decode(packed))).hexdigest() for name, packed in held["files"].items()} == tool.DIGESTS
    licence = (ROOT / "assets/vendor/licenses/pyodide.txt").read_text(encoding="utf-8")
    assert "Mozilla Public License Version 2.0" in licence and "PYTHON SOFTWARE FOUNDATION LICENSE VERSION 2" in licence
    assert f"Pyodide {tool.VERSION}" in (ROOT / "assets/vendor/README.md").read_text(encoding="utf-8")


def test_large_files_stand_where_the_package_does_not_take_them():
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True).stdout.split("\0")
    if not any(listed):
        pytest.skip("no repository: an unpacked source")
    large = {path for path in filter(None, listed) if (ROOT / path).is_file() and (ROOT / path).stat().st_size > 500_000}
    assert not [path for path in large if not path.startswith(("assets/", "results/", "tests/vendor/"))]
    assert "assets/vendor/pyodide.js" in large


def test_the_page_names_the_script_and_its_size():
    (html,) = ["".join(o["data"]["text/html"]) for c in NOTEBOOK["cells"] for o in c.get("outputs", []) if "text/html" in o.get("data", {})]
    address, size = re.search(r'"python":\{"address":"([^"]+)","bytes":(\d+)\}', html).groups()
    assert address.replace("../_static/", "") == SCRIPT.relative_to(ROOT / "assets").as_posix()
    assert int(size) == SCRIPT.stat().st_size


# In a page from a file, with the network off


@pytest.fixture(scope="module")
def place(browser, tmp_path_factory):
    """A page whose requests are noted, and its address."""
    folder = tmp_path_factory.mktemp("page")
    shutil.copy(SCRIPT, folder)
    runs = recorded(["wake-sleep", "mim"], 10)
    key = int(Stream((), generator=chance()).keys)
    figure = playground(runs, programs(), key, python="pyodide.js", size=SCRIPT.stat().st_size)
    (folder / "page.html").write_text(figure.page(), encoding="utf-8")
    context = browser.new_context(viewport={"width": 390, "height": 844}, offline=True)
    page = context.new_page()
    page.runs, page.figure, page.requested, page.complaints = runs, figure, [], []
    page.on("request", lambda request: page.requested.append(request.url))
    page.on("pageerror", lambda error: page.complaints.append(str(error)))
    page.address = (folder / "page.html").as_uri()
    page.goto(page.address)
    yield page
    assert not page.complaints
    context.close()


def run(page, program):
    """Press the button, and wait for the end."""
    page.get_by_label("your rule, in Python").fill(program)
    page.locator("button.primary").click()
    page.wait_for_function("document.querySelector('.lively').dataset.going === 'false'", timeout=60_000)
    return page.inner_text(".wrong").split("\n")[0]


def fetched(page):
    return [url for url in page.requested if url.endswith("pyodide.js")]


def test_python_comes_when_it_is_asked_for_and_trains_the_same_machine(place):
    mim = programs()["MIM, factorial"]
    assert not fetched(place) and place.locator("button.primary").inner_text() == "Load Python (8.4 MB) and run"
    assert run(place, mim) == "" and len(fetched(place)) == 1
    assert not [url for url in place.requested if urlsplit(url).scheme not in ("file", "blob")]
    yours, _, same = [row.split("\t") for row in place.locator("table").first.inner_text().split("\n")[2:]]
    assert yours[0] == "yours" and yours[1:] == same[1:]
    assert "likelier than usual\t100.0 %" in place.locator("table").nth(1).inner_text()
    assert place.evaluate("document.documentElement.scrollWidth") <= 390


STOPPED = "Stopped: for two seconds nothing came back from the program. Does a loop in it end?"
OUTSIDE = "to_js([]).constructor.constructor('return fetch')()"


@pytest.mark.parametrize(
    ("program", "sentence"),
    [
        ("def rule(layer, p, u):\n    return [q > t for q in p]", "Line 2: name 't' is not defined (NameError)."),
        ("def rule(layer, p, u)\n    return p", "Line 1: expected ':' (SyntaxError)."),
        ("usual = {}", "The program defines no rule: write def rule(layer, p, u), as the examples do."),
        ("def rule(layer, p, u):\n    return [1, 0]", "Rule gave [1, 0] for layer 1: return a list of 10 bits, 0 or 1 for each unit."),
        (f"from pyodide.ffi import to_js\n{OUTSIDE}", "Line 2: ReferenceError: fetch is not defined (JsException)."),
        ("def rule(layer, p, u):\n    while True: print(1)", STOPPED),
        ("def rule(layer, p, u):\n    return None", "Rule gave None for layer 1: return a list of 10 bits, 0 or 1 for each unit."),
    ],
    ids=["name", "syntax", "no rule", "too few", "no network", "endless", "after that"],
)
def test_what_does_not_work_is_said_in_a_sentence(place, program, sentence):
    assert run(place, program) == sentence
    assert place.locator("button.primary").inner_text() == "Run" and len(fetched(place)) == 1


def test_opposite_choices_destroy_what_choosing_could_win(place):
    assert run(place, programs()["MIM, factorial"].replace("p[j] > t[j]", "p[j] <= t[j]")) == ""
    agreed, won, *_ = [row.split("\t")[1] for row in place.locator("table").nth(1).inner_text().split("\n")[2:]]
    assert agreed == "0.0 %" and won.startswith("−")


def test_tab_indents_and_escape_leaves(place):
    editor = place.get_by_label("your rule, in Python")
    editor.fill("")
    editor.press_sequentially("def rule(layer, p, u):\nreturn p")
    assert editor.input_value() == "def rule(layer, p, u):\n    return p"
    editor.press("Tab")
    editor.press("Shift+Tab")
    editor.press("Shift+Tab")
    assert editor.input_value() == "def rule(layer, p, u):\nreturn p    "
    editor.press("Escape")
    editor.press("Tab")
    assert place.evaluate("document.activeElement.tagName") == "BUTTON"


def test_a_program_that_came_with_a_link_waits_for_the_reader(place):
    text = "def rule(layer, p, u):\n    return [1 + 0 * q for q in p]  # & = + %"
    place.get_by_label("your rule, in Python").fill(text)
    place.wait_for_function("location.hash.includes('1+%2B+0')")
    link, asked = place.url, len(fetched(place))
    place.goto("about:blank")
    place.goto(link)
    assert place.get_by_label("your rule, in Python").input_value() == text
    assert place.get_by_label("begin with").input_value() == ""
    place.wait_for_timeout(300)
    assert len(fetched(place)) == asked and place.locator("button.primary").inner_text().startswith("Load Python")
    place.get_by_label("begin with").select_option("perturbation")
    place.wait_for_function("location.hash === '#playground.example=perturbation'")


def test_where_no_python_is_named_nothing_runs(browser, tmp_path, place):
    bare = playground(place.runs, programs(), 1)
    (tmp_path / "page.html").write_text(bare.page(), encoding="utf-8")
    page = browser.new_page()
    page.goto((tmp_path / "page.html").as_uri())
    assert page.locator("button.primary").count() == 0 and "allocate=rule" in page.inner_text(".playground")
    page.close()
