"""The built pages are for everybody: axe finds nothing to object to in either theme, and pictures are words, too."""

import json
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/check/_build/html"
PAGES = sorted(p for p in HTML.rglob("*.html") if "_static" not in p.parts and 'http-equiv="' not in p.read_text(encoding="utf-8").lower())
DARK = {"11_collapse", "29_digits", "71_gallery"}  # with figures and albums of every kind
AXE = (ROOT / "tests/vendor/axe.min.js").read_text(encoding="utf-8")
sys.path.insert(0, str(ROOT / "_ext"))

built = pytest.mark.skipif(not PAGES, reason="the book is not built; `make check` builds it")

# Everything is opened, so that it is looked at. Of the code of a page the beginnings of its first cells are enough, with one word
# of each colour; of long tables the first rows; of drawings their words and a few lines; and of the lists of chapters that of one
# page.
READY = """() => {
  document.querySelectorAll(".bd-article details").forEach((details) => { details.open = true; });
  const kinds = new Set();
  document.querySelectorAll(".bd-article .highlight pre").forEach((pre, k) => [...pre.childNodes].forEach((piece, n) => {
    if ((k > 2 || n > 60) && kinds.has(piece.className)) piece.remove();
    kinds.add(piece.className);
  }));
  document.querySelectorAll(".bd-article tbody tr:nth-child(n + 13)").forEach((row) => row.remove());
  document.querySelectorAll(".bd-article svg :is(path, use, clipPath):nth-child(n + 4)").forEach((line) => line.remove());
}"""
RUN = """async ([rules, exclude]) => {
  const which = rules.length ? { runOnly: rules } : { rules: { "target-size": { enabled: true } } };
  const { violations } = await axe.run({ exclude }, { resultTypes: ["violations"], ...which });
  const places = (nodes) => nodes.slice(0, 3).map(({ html }) => html.slice(0, 160)).join(" | ");
  return violations.map(({ id, impact, nodes }) => `${id} (${impact}): ${places(nodes)}`);
}"""
CHAPTER_LIST = [".bd-sidebar-primary nav"]


def violations(view, rules=(), exclude=()):
    view.evaluate(AXE)
    return view.evaluate(RUN, [[*rules], [*exclude]])


def in_the_dark(view):
    """The same page in its dark theme."""
    view.emulate_media(color_scheme="dark", reduced_motion="reduce")
    view.wait_for_function("document.documentElement.dataset.theme === 'dark'")


@built
def test_axe_finds_nothing_on_any_page(browser):
    """Every page in the light, every ninth in the dark as well, where only colours are others."""
    view, found = browser.new_page(viewport={"width": 1280, "height": 900}), {}
    for k, page in enumerate(PAGES):
        view.emulate_media(color_scheme="light", reduced_motion="reduce")
        view.goto(page.as_uri())
        view.evaluate(READY)
        faults = violations(view, exclude=CHAPTER_LIST if k else [])
        if k % 9 == 0 or page.stem in DARK:
            in_the_dark(view)
            faults += violations(view, ["color-contrast"], CHAPTER_LIST if k else [])
        if faults:
            found[str(page.relative_to(HTML))] = faults
    view.close()
    assert len(PAGES) > 50 and not found


@built
def test_the_lab_is_within_ten_tabs(browser):
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.goto((HTML / "nbs/index.html").as_uri())
    view.keyboard.press("Tab")
    view.keyboard.press("Tab")
    view.keyboard.press("Enter")
    inside = "document.activeElement.closest('[data-figure^=collapse_lab]') !== null"
    tabs = 2
    while tabs < 10 and not view.evaluate(inside):
        view.keyboard.press("Tab")
        tabs += 1
    assert view.evaluate(inside)
    view.close()


def test_axe_is_awake(browser):
    """It objects to a picture without words, to pale letters and to small targets."""
    view = browser.new_page()
    view.set_content(
        '<html lang="en"><title>t</title><main><h1>h</h1><img src="a.png"><p style="color: #d55e00; background: #fdfcfa">pale</p>'
        '<button style="height: 9px; width: 9px; padding: 0">a</button>'
        '<button style="height: 9px; width: 9px; padding: 0">b</button></main>'
    )
    assert {fault.split()[0] for fault in violations(view)} == {"image-alt", "color-contrast", "target-size"}
    view.close()


def pictures():
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            if any({"image/png", "image/svg+xml"} & output.get("data", {}).keys() for output in cell.get("outputs", [])):
                yield pytest.param("".join(cell["source"]), id=f"{path.stem}:{cell['id']}")


@pytest.mark.parametrize("source", [*pictures()])
def test_a_cell_that_stores_a_picture_says_what_is_seen(source):
    words = re.findall(r"^#\| alt (.*)$", source, re.M)
    assert len(words) == 1 and 40 < len(words[0]) < 320 and words[0].endswith("."), "write `#| alt what is seen.` into the cell"


@built
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_every_picture_of_a_page_has_words(page):
    for tag in re.findall(r"<img\b[^>]*>", page.read_text(encoding="utf-8")):
        alt = re.search(r'\balt="([^"]*)"', tag)
        assert alt and re.search(r"\w \w|\w{4}", alt[1]) and not re.search(r"_images|\.png|[0-9a-f]{16}", alt[1]), tag[:200]


@built
def test_the_words_of_a_cell_are_those_of_its_picture():
    page = (HTML / "nbs/01_layers.html").read_text(encoding="utf-8")
    assert 'aria-label="Probability of firing against delta-rule steps' in page and "#| alt" not in page


def test_a_picture_gets_its_words_from_the_cell():
    from nbdev_directives import edit_cell

    cell = {"cell_type": "code", "metadata": {}, "source": "#| fold a curve\n#| alt It rises.\nplot()\n"}
    edit_cell(cell)
    assert cell["source"] == "plot()\n" and cell["metadata"]["fold"] == "a curve"
    assert cell["metadata"]["mystnb"] == {"image": {"alt": "It rises."}}
