"""Albums of stored pictures: controls of ipywidgets in a notebook, and plain HTML in a page, without a kernel."""

import re
import sys
from pathlib import Path
from urllib.parse import urlsplit

import ipywidgets
import matplotlib.pyplot as plt
import pytest
from helmholtz_mim.interactive.gallery import album
from ipywidgets.embed import dependency_state

ROOT = Path(__file__).parent.parent
BUILT = ROOT / "_build/check/_build/html/nbs"
sys.path.insert(0, str(ROOT / "_ext"))
VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"


def with_albums(notebook):
    """What the book makes of a notebook; only where it can be built."""
    pytest.importorskip("sphinx")
    import albums

    return albums.with_albums(notebook, "01_layers.ipynb")

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
        page.wait_for_selector(".album img", state="attached")
        return page

    yield open_page
    for page in pages:
        assert not page.outside and not page.complaints
        page.close()


def seen(page):
    """The words of the pictures that are visible."""
    return page.eval_on_selector_all(".album img", "all => all.filter(i => i.offsetParent).map(i => i.alt)")


def turns(page, turn):
    """Whether another picture, and only that, is seen after a turn."""
    before = seen(page)
    turn(page)
    page.wait_for_function(
        "before => !before.includes([...document.querySelectorAll('.album img')].find(i => i.offsetParent)?.alt)", arg=before
    )
    return len(before) == len(seen(page)) == 1 and seen(page) != before


def by_mouse(page):
    page.locator(".album > label").last.click()


def by_keyboard(page):
    page.locator(".album > input:checked").focus()
    page.keyboard.press("ArrowRight")


def stored(widget):
    """A notebook with a cell that shows a widget."""
    cell = {"id": "shown", "outputs": [{"data": {VIEW: {"model_id": widget.model_id}}}]}
    return {"metadata": {"widgets": {STATE: {"state": dependency_state(widget)}}}, "cells": [cell]}


def test_an_album_turns_in_a_page_from_a_file(control, opened, tmp_path):
    notebook = with_albums(stored(album(dict(pictures()), control, "the")))
    data = notebook["cells"][0]["outputs"][0]["data"]
    assert data.keys() == {"text/html"} and "widgets" not in notebook["metadata"]
    styles = (ROOT / "assets/book.css").read_text(encoding="utf-8")
    (tmp_path / "page.html").write_text(f"<!doctype html><style>{styles}</style><body>{data['text/html']}", encoding="utf-8")
    page = opened(tmp_path / "page.html")
    assert seen(page) == ["the first"] and turns(page, by_keyboard) and seen(page) == ["the second"]
    assert turns(page, by_mouse) and seen(page) == ["the third"]
    assert page.get_by_role("radio", name="third").is_checked() and page.get_by_role("group", name="the").count() == 1


def test_a_widget_that_is_no_album_stops_the_build():
    for widget in (ipywidgets.VBox([ipywidgets.IntSlider(), ipywidgets.Stack()]), ipywidgets.IntSlider()):
        with pytest.raises(Exception, match=re.escape("01_layers.ipynb, cell shown: a page shows albums, and no other widget")):
            with_albums(stored(widget))


@pytest.mark.parametrize("chapter", ["11_collapse", "29_digits", "71_gallery"])
def test_albums_of_the_book_turn_beside_its_own_figures(chapter, opened):
    path = BUILT / f"{chapter}.html"
    if not path.is_file():
        pytest.skip("the book is not built; `make check` builds it")
    page = opened(path)
    assert turns(page, by_mouse) and turns(page, by_keyboard)
    assert page.locator("[data-figure] .lively, .lively").count() == page.locator("[data-figure]").count() > 0
