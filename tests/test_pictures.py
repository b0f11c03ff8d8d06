"""Drawings in the pages: in the page's colours, which stand out; legible, small, and with a caption each."""

import json
import re
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pytest

from helmholtz_mim.experiments.comparison import SCHEMES
from helmholtz_mim.figures import LAYERS, PALETTE, plot_layers

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/check/_build/html"
PAGES = [page for page in sorted((HTML / "nbs").glob("*.html")) if (ROOT / "nbs" / page.stem).with_suffix(".ipynb").exists()]
sys.path += [str(ROOT / "_ext"), str(ROOT / "tools")]
import pictures as drawings  # of the tools
from pictures_of_pages import with_pictures

built = pytest.mark.skipif(not PAGES, reason="the book is not built; `make check` builds it")
ON_IMAGES = {"#111111", "#fefefe"}  # words on an image, which looks the same in the dark
GROUNDS = {"paper", "faint", "rule", "pale"}


def variables(text):
    return dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", text))


CSS = (ROOT / "assets/book.css").read_text(encoding="utf-8").partition("@media print")[0]
BLOCKS = re.findall(r'data-theme="(light|dark)"\][^{}]*\{([^{}]*)\}', CSS)
THEMES = {theme: variables("".join(block for name, block in BLOCKS if name == theme)) for theme in ("light", "dark")}


def luminance(color):
    values = np.array([int(color[i : i + 2], 16) for i in (1, 3, 5)]) / 255
    return np.where(values > 0.04045, ((values + 0.055) / 1.055) ** 2.4, values / 12.92) @ (0.2126, 0.7152, 0.0722)


def contrast(one, other):
    low, high = sorted(map(luminance, (one, other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_is_that_of_the_standard():
    assert contrast("#000000", "#ffffff") == pytest.approx(21) and contrast("#767676", "#ffffff") == pytest.approx(4.54, abs=0.01)


@pytest.mark.parametrize("theme", THEMES)
def test_marks_and_words_stand_out_from_the_page(theme):
    palette = THEMES[theme]
    found = {name: contrast(color, palette["paper"]) for name, color in palette.items() if name not in GROUNDS}
    assert len(found) > 14 and min(found.values()) >= 3, found
    assert not [name for name, ratio in found.items() if ratio < 4.5 and name != "quiet"]


def test_pages_pictures_and_interactive_figures_share_one_palette():
    layers = {f"layer-{l}": color for l, color in enumerate(LAYERS)}
    assert {**PALETTE, **layers}.items() <= THEMES["light"].items()
    assert THEMES["light"].keys() == THEMES["dark"].keys() and not set(THEMES["light"].values()) & ON_IMAGES
    assert {scheme.color for scheme in SCHEMES.values()} <= set(PALETTE.values())
    light, dark = (variables(line) for line in re.split("data-theme", kit())[:2])
    shared = light.keys() & THEMES["light"].keys()
    assert len(shared) == 8 and all((light[name], dark[name]) == (THEMES["light"][name], THEMES["dark"][name]) for name in shared)


def kit():
    return (ROOT / "helmholtz_mim/interactive/js/kit.js").read_text(encoding="utf-8")


def stored():
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if "image/svg+xml" in output.get("data", {}):
                    narrow = output["metadata"].get("image/svg+xml", {}).get("narrow", "")
                    yield pytest.param("".join(output["data"]["image/svg+xml"]), narrow, id=f"{path.stem}:{cell['id']}")


@pytest.mark.parametrize(("wide", "narrow"), [*stored()])
def test_a_stored_drawing_is_small_legible_and_of_the_palette(wide, narrow):
    for text, inches in ((wide, drawings.WIDE + 0.2), (narrow, drawings.NARROW + 0.3)):
        assert len(text) <= 150_000
        loose = re.sub(r"var\(--[\w-]+, #[0-9a-f]{3,6}\)", "", text)
        assert set(re.findall(r"#[0-9a-f]{6}\b", loose)) <= ON_IMAGES, "take colours from `figures.PALETTE`"
        assert min(map(float, re.findall(r"<text[^>]*font-size: ([\d.]+)px", text)), default=drawings.POINTS) >= drawings.POINTS
        assert float((re.search(r'viewBox="0 0 (\d+)', text) or [0, 0])[1]) <= 72 * inches


def test_a_stored_sheet_knows_its_width():
    """Only the extension says how wide a sheet is shown: a PNG without it is a drawing that failed."""
    for path in (ROOT / "nbs").glob("*.ipynb"):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}) and "".join(output["data"].get("text/plain", "")).startswith("<Figure"):
                    assert output["metadata"].get("image/png"), (path.stem, cell["id"])


def pictures():
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
            kinds = {kind for output in cell.get("outputs", []) for kind in output.get("data", {})}
            if kinds & {"image/png", "image/svg+xml"}:
                yield pytest.param("".join(cell["source"]), id=f"{path.stem}:{cell['id']}")


@pytest.mark.parametrize("source", [*pictures()])
def test_a_picture_says_what_to_see(source):
    words = re.findall(r"^#\| caption (.*)$", source, re.M)
    assert len(words) == 1 and 20 < len(words[0]) < 260 and words[0].endswith("."), "write `#| caption what to see.` into the cell"


@pytest.fixture
def figure():
    """Two panels side by side, of a long history."""
    fig, axes = plt.subplots(1, 2, figsize=(11, 3), layout="constrained")
    for ax in axes:
        ax.plot(np.sin(np.arange(200)), color=PALETTE["recognition"], label="sine")
        ax.set_title("a title", fontsize=7)
    yield fig
    plt.close(fig)


def test_a_plot_is_drawn_twice_and_always_alike(figure):
    wide, said = drawings.as_svg(figure)
    assert "var(--recognition, #0072b2)" in wide and ">a title</text>" in wide and drawings.as_png(figure) is None
    sizes = [[float(x) for x in re.search(r'viewBox="0 0 (\d+) (\d+)"', text).groups()] for text in (wide, said["narrow"])]
    assert sizes[0][0] > 2 * sizes[1][0] and sizes[1][1] > 1.5 * sizes[0][1], "wide, and stacked"
    assert all(text not in wide for text in ("<style", "<metadata", "DejaVu", "figure_1"))
    again = plt.figure(figsize=(3, 2))
    again.add_subplot().plot([1, 2, 1])
    assert drawings.svg(again) == drawings.svg(again)
    plt.close(again)


def test_the_largest_machine_of_the_book_is_drawn_small():
    draw = np.random.default_rng(0).dirichlet
    states = [draw(np.full(2**n, 0.5)) for n in (12, 10, 8, 6, 3)]
    wide, said = drawings.as_svg(plot_layers(states, states))
    plt.close("all")
    assert 5_000 < len(said["narrow"]) < 60_000 and 5_000 < len(wide) < 60_000


def test_a_sheet_of_images_stays_one_and_one_with_numbers_scrolls():
    fig, ax = plt.subplots(figsize=(4, 2))
    ax.imshow(np.eye(4))
    ax.set(xticks=[], yticks=[])
    png, said = drawings.as_png(fig)
    assert drawings.as_svg(fig) is None and said["width"] < 4 * drawings.PIXELS + 1 and png.startswith(b"\x89PNG")
    ax.text(1, 1, "0.5")
    wide, said = drawings.as_svg(fig)
    assert not said and "<image" in wide and drawings.as_png(fig) is None
    plt.close(fig)


def test_a_path_keeps_its_shape_in_fewer_letters():
    assert drawings.short("M 1.04 2 \nL 1.04 5.5 \nL 1.06 5.5 \nL 3 5.5 \nL 4 1 \nz\n") == "M1 2v3.5h0.1h1.9l1 -4.5z"


SVG = '<svg viewBox="0 0 9 9"><path id="m1"/><use xlink:href="#m1" clip-path="url(#p1)"/></svg>'


def cell(source, data, narrow=SVG):
    output = {"output_type": "display_data", "data": data, "metadata": {"image/svg+xml": {"narrow": narrow}}}
    return {"cell_type": "code", "id": "a-1", "metadata": {}, "source": source, "outputs": [output]}


def test_figures_of_a_page_have_words_numbers_and_ids_of_their_own():
    lively = '<div data-figure="coin-1"><noscript><img src="a" alt="b"><p>Still.</p></noscript></div>{"caption":"A coin."}'
    cells = [
        cell("#| alt Up.\n#| caption It `rises`.\nplot()", {"image/svg+xml": SVG}),
        cell("coin()", {"text/html": lively}),
        cell("#| alt Digits.\n#| caption Seen.\nshow()", {"image/png": "…"}),
    ]
    first, second, third = with_pictures({"cells": cells}, "11_collapse")["cells"]
    html = first["outputs"][0]["data"]["text/html"]
    assert 'role="img" aria-label="Up."' in html and "<strong>Figure 11.1.</strong> It <code>rises</code>.</figcaption>" in html
    ids = re.findall(r'id="([^"]*)"', html)
    assert ids == ["a-1-0-wide-m1", "a-1-0-narrow-m1"] and all(f'href="#{name}"' in html for name in ids)
    html = second["outputs"][0]["data"]["text/html"]
    assert "<p>Figure 11.2. Still." in html and '"caption":"Figure 11.2. A coin."' in html
    assert third["metadata"]["mystnb"]["figure"] == {"caption": "**Figure 11.3.** Seen."}
    alone = with_pictures({"cells": [cell("#| alt Up.\n#| caption It.", {"image/svg+xml": SVG}, "")]}, "index")["cells"][0]
    html = alone["outputs"][0]["data"]["text/html"]
    assert "<strong>Figure 1.</strong>" in html and 'class="picture scrolls" tabindex="0"' in html and html.count("<svg") == 1


@built
@pytest.mark.parametrize("page", PAGES, ids=lambda p: p.stem)
def test_a_page_names_nothing_twice_and_counts_its_figures(page):
    text = re.sub(r"<script.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.S)
    names = re.findall(r'<[^>]*\sid="([^"]*)"', text)
    assert len(names) > 5 and len(names) == len(set(names)), {name for name in names if names.count(name) > 1}
    numbers = re.findall(r"(?:<strong>|<p>)Figure (?:\d+\.)?(\d+)\.", text)
    assert [int(number) for number in numbers] == list(range(1, len(numbers) + 1))


@built
def test_a_chapter_with_pictures_has_their_numbers():
    text = (HTML / "nbs/11_collapse.html").read_text(encoding="utf-8")
    assert len(re.findall(r"(?:<strong>|<p>)Figure 11\.\d\.", text)) > 3


LETTERS = """(all) => all.filter((text) => text.textContent.trim() && text.getBoundingClientRect().width).map((text) =>
  parseFloat(getComputedStyle(text).fontSize) * text.ownerSVGElement.getScreenCTM().a)"""
INK = "(text) => getComputedStyle(text).fill"


@built
@pytest.mark.parametrize("width", [1280, 390])
def test_letters_are_large_enough_and_change_in_the_dark(browser, width):
    view = browser.new_page(viewport={"width": width, "height": 900})
    for name in ("11_collapse", "15_verdict", "16_evidence"):
        view.goto((HTML / f"nbs/{name}.html").as_uri())
        letters = view.locator(".picture text")
        assert min(letters.evaluate_all(LETTERS)) > 10.8, name
        inks = []
        for theme in ("light", "dark"):
            view.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
            inks.append(letters.first.evaluate(INK))
        assert inks == ["rgb(36, 40, 45)", "rgb(221, 225, 230)"]
    view.close()
