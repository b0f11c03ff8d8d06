"""The interactive figures of the chapters: what they compute is what Python computes, and mouse and keyboard move them."""

import base64
import re
from urllib.parse import urlsplit

import pytest
import torch
from helmholtz_mim.categorical import unit_gains
from helmholtz_mim.factorial import likelier

FIGURES = {"likelier": likelier}


@pytest.fixture
def opened(browser, tmp_path):
    """A function that opens a figure from a file, in a page that may ask nobody for anything and must not complain."""
    pages = []

    def open_page(figure, **options):
        path = tmp_path / "page.html"
        path.write_text(figure.page(), encoding="utf-8")
        page = browser.new_page(**options)
        page.outside, page.complaints = [], []
        page.on("request", lambda r: page.outside.append(r.url) if urlsplit(r.url).scheme not in ("file", "data", "blob") else None)
        page.on("pageerror", lambda error: page.complaints.append(str(error)))
        page.on("console", lambda message: page.complaints.append(message.text) if message.type == "error" else None)
        pages.append(page)
        page.goto(path.as_uri())
        return page

    yield open_page
    for page in pages:
        assert not page.outside and not page.complaints
        page.close()


@pytest.fixture
def alive(browser):
    """A function that shows a figure as a notebook would: `page.evaluate("state")` is what its model holds."""
    pages = []

    def show(figure):
        page = browser.new_page()
        pages.append(page)
        text = base64.b64encode(figure.live._esm.encode()).decode()
        page.evaluate(
            """async ([text, state]) => {
              const { default: figure } = await import(`data:text/javascript;base64,${text}`);
              window.state = state;
              const model = { get: (k) => state[k], set: (k, v) => (state[k] = v), on() {}, save_changes() {} };
              figure.render({ model, el: document.body.appendChild(document.createElement("div")) });
            }""",
            [text, figure.model],
        )
        return page

    yield show
    for page in pages:
        page.close()


def drawn(page):
    """All shapes and their places."""
    return page.eval_on_selector_all("[data-figure] svg", "nodes => nodes.map(n => n.innerHTML).join()")


def slide(page, name, value):
    page.get_by_label(name).fill(str(value))


def drag(page, svg, start, end):
    """Drag over a drawing, from one place to another in its own coordinates."""
    places = svg.evaluate(
        """(node, places) => places.map(([x, y]) => {
          const point = new DOMPoint(x, y).matrixTransform(node.getScreenCTM());
          return [point.x, point.y];
        })""",
        [start, end],
    )
    page.mouse.move(*places[0])
    page.mouse.down()
    page.mouse.move(*places[1], steps=4)
    page.mouse.up()


each_figure = pytest.mark.parametrize("figure", FIGURES.values(), ids=FIGURES)


@each_figure
def test_figure_is_small(figure):
    assert len(figure().html()) <= 300_000


@each_figure
def test_everything_has_a_name(opened, figure):
    page = opened(figure())
    unnamed = page.evaluate(
        """() => [...document.querySelectorAll('[data-figure] :is(button, input, select, svg)')]
          .filter((e) => !(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).length"""
    )
    assert unnamed == 0
    assert page.locator("[role=group][aria-label]").count() == 1
    assert page.locator("[aria-live=polite]").count() == 1


@each_figure
@pytest.mark.parametrize("width", [390, 820, 1280])
def test_figure_fits(opened, figure, width):
    page = opened(figure(), viewport={"width": width, "height": 844})
    assert page.evaluate("document.documentElement.scrollWidth - window.innerWidth") <= 0
    beyond = page.evaluate(
        """() => { const right = document.querySelector('[data-figure]').getBoundingClientRect().right + 1;
          return [...document.querySelectorAll('[data-figure] :is(text, span, button, label, output, p, td, th)')]
            .filter((e) => e.getBoundingClientRect().right > right).map((e) => e.textContent); }"""
    )
    assert not beyond


@each_figure
def test_figure_follows_the_theme(opened, figure):
    page = opened(figure())
    seen = []
    for theme in ("light", "dark"):
        page.evaluate(f"document.documentElement.dataset.theme = '{theme}'")
        seen.append(page.locator("[data-figure] .recognition").first.evaluate("e => getComputedStyle(e).color"))
    assert seen == ["rgb(0, 114, 178)", "rgb(108, 189, 240)"]


# Likelier than usual?


def test_scores_are_those_of_python(alive):
    page = alive(likelier())
    for q, t, epsilon in [(0.6, 0.2, 0.25), (0.0, 1.0, 0.5), (0.33, 0.34, 0.02), (0.9, 0.9, 0.98), (1.0, 0.01, 0.7)]:
        for name, value in {"now q": q, "usually t": t, "step ε": epsilon}.items():
            slide(page, name, value)
        gains = [unit_gains(torch.tensor([x]), torch.tensor(epsilon))[0] for x in (t, q)]
        assert page.evaluate("state.scores") == pytest.approx((gains[0] - gains[1]).tolist(), abs=1e-12)
        assert ("the unit fires" in page.inner_text(".likelier-verdict")) == (q > t)


def test_map_is_the_triangle_for_every_step(opened):
    page, sides = opened(likelier()), 48
    for epsilon in (0.02, 0.25, 0.5, 0.98):
        slide(page, "step ε", epsilon)
        path = page.locator("svg").nth(1).locator("path.recognition").get_attribute("d")
        corners = re.findall(r"M([\d.]+) ([\d.]+)h", path)
        assert len(corners) == sides * (sides - 1) // 2
        assert all(float(x) - 26 > 200 - (float(y) - 8) - 200 / sides + 0.1 for x, y in corners)


def test_points_can_be_dragged(opened):
    page = opened(likelier())
    hill, square = page.locator("svg").nth(0), page.locator("svg").nth(1)
    before = drawn(page)
    drag(page, hill, (30 + 0.2 * 360, 100), (30 + 0.8 * 360, 100))
    assert page.get_by_label("usually t").input_value() == "0.8" and page.get_by_label("now q").input_value() == "0.6"
    assert drawn(page) != before and "is silent" in page.inner_text(".likelier-verdict")
    drag(page, square, (26 + 0.5 * 200, 8 + 100), (26 + 0.9 * 200, 8 + 0.7 * 200))
    assert [page.get_by_label(name).input_value() for name in ("now q", "usually t")] == ["0.9", "0.3"]
    assert "the unit fires" in page.inner_text(".likelier-verdict") and "never disagreed" in page.inner_text(".likelier-verdict")


def test_points_obey_the_keyboard(opened):
    page = opened(likelier(q=0.5, t=0.5))
    before = drawn(page)
    assert "is silent" in page.inner_text(".likelier-verdict")
    page.get_by_label("now q").focus()
    page.keyboard.press("ArrowRight")
    assert "0.51 is likelier than the usual 0.50: the unit fires" in page.inner_text(".likelier-verdict")
    assert drawn(page) != before
    page.keyboard.press("Shift+Tab")
    page.keyboard.press("End")
    assert "is silent" in page.inner_text(".likelier-verdict")
