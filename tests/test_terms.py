"""Terms of the glossary: found in prose only, linked once, and explained on a card that every reader can open."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from docutils import nodes
from docutils.core import publish_doctree
from test_accessibility import AXE, in_the_dark

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/check/_build/html"
sys.path.insert(0, str(ROOT / "_ext"))
import terms

built = pytest.mark.skipif(not (HTML / "nbs/glossary.html").exists(), reason="the book is not built; `make check` builds it")


def definition(words, comment=""):
    return nodes.definition("", nodes.paragraph("", "", *words), nodes.raw("", comment, format="html"))


@pytest.mark.parametrize(
    "comment, expected",
    [("", ["night", "nights"]), ("<!-- linked as by night, nights -->", ["by night", "nights"]), ("<!-- not linked -->", [])],
)
def test_a_comment_says_which_words_are_linked(comment, expected):
    assert terms.forms("night", definition([nodes.Text("Dark.")], comment)) == expected


def test_a_card_is_the_first_sentence():
    words = nodes.Text("One of "), nodes.math("", "2^n"), nodes.Text(", or 0.5, are "), nodes.emphasis("", "odd"), nodes.Text(". More.")
    kept = terms.sentence(definition(words)[0])
    assert "".join(node.astext() for node in kept) == "One of 2^n, or 0.5, are odd."
    assert [type(node) for node in kept[1::2]] == [nodes.math, nodes.emphasis]


TEXT = """
A dream in a title
==================

*A dream in a tagline.*

.. figure:: dream.png

   A dream in a caption.

   A dream again.

Day-dream, ``dream``, `dream <https://example.org>`__, *Dreams* and a dream of
a wake  phase.

=====  =====
dream  state
=====  =====

* The wake
  phase of a state.
"""


class Environment:
    def __init__(self, tree):
        self.get_doctree = {terms.GLOSSARY: tree}.get


@pytest.fixture
def env():
    words = {"dream": "dream, dreams", "wake": "wake phase", "state": "state", "phase": "wake"}
    items = [nodes.definition_list_item("", nodes.term("", anchor, ids=[anchor])) for anchor in words]
    for item, forms in zip(items, words.values(), strict=True):
        item += definition([nodes.Text("Said.")], f"<!-- linked as {forms} -->")
    return Environment(nodes.definition_list("", *items))


def test_first_uses_in_prose_become_terms(env):
    tree = publish_doctree(TEXT, settings_overrides={"report_level": 5})
    before = tree.astext()
    app = SimpleNamespace(env=env, builder=SimpleNamespace(format="html"))
    terms.link_first_uses(app, tree, "nbs/01_layers")
    found = [(term["anchor"], term.astext().split()) for term in tree.findall(terms.Term)]
    assert found == [("dream", ["Dreams"]), ("wake", ["wake", "phase"]), ("state", ["state"])] and tree.astext() == before


def test_the_glossary_itself_is_left_alone(env):
    tree = publish_doctree("A dream.")
    terms.link_first_uses(SimpleNamespace(env=env, builder=SimpleNamespace(format="html")), tree, terms.GLOSSARY)
    assert not [*tree.findall(terms.Term)]


# In the built page

FITS = """(link) => new Promise((settle) => {
  link.focus();
  requestAnimationFrame(() => requestAnimationFrame(() => {  // scrolled, and the card has followed
    const { left, right, top, bottom, width } = link.nextSibling.getBoundingClientRect();
    const word = link.getBoundingClientRect();
    const beside = Math.min(Math.abs(top - word.bottom), Math.abs(bottom - word.top)) < 10;
    settle(width > 0 && left > 0 && right < innerWidth && top > 0 && bottom < innerHeight && beside);
  }));
})"""


def opened(view):
    return view.locator(".gloss:visible")


@pytest.fixture(scope="module", params=[True, False], ids=["", "without scripts"])
def phone(browser, request):
    """A page on a phone, whose finger cannot hover."""
    options = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True, "reduced_motion": "reduce"}
    context = browser.new_context(**options, java_script_enabled=request.param)
    view = context.new_page()
    view.goto((HTML / "nbs/14_factorial.html").as_uri())
    yield view
    context.close()


@built
def test_a_finger_opens_the_card_and_then_follows_the_link(phone):
    term = phone.locator(".term").nth(1)
    term.tap()
    assert opened(phone).count() == 1 and phone.url.endswith("14_factorial.html")
    phone.locator(".bd-article h1").tap()
    assert not opened(phone).count()
    term.tap()
    term.locator("a").tap()
    phone.wait_for_url("**/glossary.html#term-*")
    phone.go_back()


@built
@pytest.mark.parametrize("phone", [True], ids=[""], indirect=True)
def test_a_card_fits_the_phone_wherever_its_word_stands(phone):
    for link in phone.locator(".term > a").all():
        assert link.evaluate(FITS), link.text_content()
    phone.locator(".bd-article h1").tap()


@pytest.fixture(scope="module")
def page(browser):
    view = browser.new_page(viewport={"width": 1280, "height": 844}, reduced_motion="reduce")
    view.goto((HTML / "nbs/14_factorial.html").as_uri())
    yield view
    view.close()


@built
def test_mouse_and_keyboard_open_a_card_and_escape_closes_it(page):
    first, second = page.locator(".term").all()[:2]
    first.hover()
    assert opened(page).count() == 1
    opened(page).hover()  # the way from the word to its card does not close it
    assert opened(page).count() == 1
    page.keyboard.press("Escape")
    assert not opened(page).count()
    page.locator(".bd-article h1").hover()
    first.locator("a").focus()
    assert opened(page).count() == 1
    page.keyboard.press("Tab")
    assert second.locator(".gloss").is_visible() and opened(page).count() == 1
    page.keyboard.press("Escape")
    assert not opened(page).count()


@built
def test_a_screen_reader_hears_the_card_with_the_link(page):
    from playwright.sync_api import expect

    words = page.locator("#gloss-layer").text_content()
    expect(page.locator("#gloss-layer").locator("xpath=../a")).to_have_accessible_description(words)
    assert len(words) > 40


@built
def test_paper_shows_no_cards_and_no_dots(page):
    page.locator(".term > a").first.focus()
    page.emulate_media(media="print")
    line = "(all) => [...new Set(all.map((link) => getComputedStyle(link).textDecorationLine))]"
    assert not opened(page).count() and page.locator(".term > a").evaluate_all(line) == ["none"]
    page.emulate_media(media="screen")


FAULTS = """async () => {
  document.querySelectorAll(".gloss").forEach((card) => card.setAttribute("style", "display: block; position: static"));
  const one = document.querySelector(".term");
  const { violations } = await axe.run(one, { runOnly: ["color-contrast", "link-in-text-block", "aria-tooltip-name"] });
  return violations.map(({ id, nodes }) => `${id}: ${nodes[0].html.slice(0, 160)}`);
}"""


@built
def test_cards_are_readable_in_either_theme(page):
    page.evaluate(AXE)
    assert not page.evaluate(FAULTS)
    in_the_dark(page)
    assert not page.evaluate(FAULTS)
