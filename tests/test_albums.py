"""Albums of stored pictures: controls of ipywidgets that work in a page from a file, without a kernel."""

import json
from pathlib import Path
from urllib.parse import urlsplit

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from helmholtz_mim.interactive.gallery import album
from ipywidgets.embed import dependency_state

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "_build/check/_build/html/nbs"
NAMES = ("first", "second", "third")


def pictures():
    """A figure for each name, all different."""
    for k, name in enumerate(NAMES):
        figure, axes = plt.subplots(figsize=(2, 1))
        axes.plot([0, k])
        yield name, figure


@pytest.fixture(params=["ToggleButtons", "SelectionSlider"])
def control(request):
    return getattr(ipywidgets, request.param)


def test_an_album_has_a_page_for_every_picture_and_closes_the_figures(control):
    before = plt.get_fignums()
    chosen, stack = album(dict(pictures()), control, "the").children
    assert isinstance(chosen, control) and chosen.options == NAMES and chosen.description == "the"
    assert ['alt="the ' + name in page.value for name, page in zip(NAMES, stack.children, strict=True)] == [True] * 3
    assert len({page.value for page in stack.children}) == 3 and stack.selected_index == chosen.index == 0
    assert plt.get_fignums() == before


@pytest.fixture
def opened(browser):
    """A function that opens a page from a file; it may ask nobody for anything and must not complain."""
    pages = []

    def open_page(path):
        page = browser.new_page()
        page.outside, page.complaints = [], []
        page.on("request", lambda r: page.outside.append(r.url) if urlsplit(r.url).scheme not in ("file", "data", "blob") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        pages.append(page)
        page.goto(path.as_uri())
        page.wait_for_selector(".jupyter-widgets img", state="attached")
        return page

    yield open_page
    for page in pages:
        assert not page.outside and not page.complaints
        page.close()


def seen(page):
    """The words of the pictures that are visible."""
    return page.eval_on_selector_all(".jupyter-widgets img", "all => all.filter(i => i.offsetParent).map(i => i.alt)")


def turn(page):
    """Go to another picture, by mouse where there are buttons and by keyboard where there is a slider."""
    if (buttons := page.locator(".widget-toggle-buttons button")).count():
        buttons.last.click()
    else:
        page.locator(".jupyter-widgets [role=slider]").first.focus()
        page.keyboard.press("ArrowRight")


def turns(page):
    """Whether another picture, and only that, is seen after a turn."""
    before = seen(page)
    turn(page)
    page.wait_for_function(
        "before => !before.includes([...document.querySelectorAll('.jupyter-widgets img')].find(i => i.offsetParent)?.alt)", arg=before
    )
    return len(before) == len(seen(page)) == 1 and seen(page) != before


def script(kind, data):
    """What a page stores of a widget."""
    text = json.dumps({"version_major": 2, "version_minor": 0, **data}).replace("<", "\\u003c")
    return f'<script type="application/vnd.jupyter.widget-{kind}+json">{text}</script>'


def test_an_album_turns_in_a_page_from_a_file(control, opened, tmp_path):
    shown = album(dict(pictures()), control, "the")
    stored = script("state", {"state": dependency_state(shown)}) + script("view", {"model_id": shown.model_id})
    vendor = [(ROOT / "assets/vendor" / name).as_uri() for name in ("require.js", "widgets-config.js", "embed-amd.js")]
    scripts = "".join(f'<script src="{address}"></script>' for address in vendor)
    (tmp_path / "page.html").write_text(f"<!doctype html><body>{stored}{scripts}", encoding="utf-8")
    page = opened(tmp_path / "page.html")
    assert seen(page) == ["the first"] and turns(page)
    assert seen(page) == ["the third" if control is ipywidgets.ToggleButtons else "the second"]


@pytest.mark.parametrize("chapter", ["11_collapse", "26_digits", "53_gallery"])
def test_albums_of_the_book_turn_beside_its_own_figures(chapter, opened):
    path = BUILT / f"{chapter}.html"
    if not path.is_file():
        pytest.skip("the book is not built; `make check` builds it")
    page = opened(path)
    assert turns(page)
    assert page.locator("[data-figure] .lively, .lively").count() == page.locator("[data-figure]").count() > 0
