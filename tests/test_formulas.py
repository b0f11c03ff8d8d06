"""Formulas of the book: MathML that means and looks what its LaTeX says, and a build that stops where there is none."""

import re
import sys
from pathlib import Path
from types import SimpleNamespace
from xml.etree import ElementTree

import pytest
from docutils import nodes
from sphinx.errors import ExtensionError

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/check/_build/html"
sys.path.insert(0, str(ROOT / "_ext"))
import formulas


def tree(tex, display=False):
    return ElementTree.fromstring(formulas.mathml(tex, display))


def said(tex, display=False):
    """All characters of a formula, in order."""
    return "".join(tree(tex, display).itertext())


def operators(tex, name):
    return [element for element in tree(tex).iter("mo") if element.text == name]


@pytest.mark.parametrize(
    "tex, characters",
    [
        (r"\mathbb{E}_q \ln p", "𝔼qln\u2061p"),
        (r"\mathbb{1}[q > \tau]", "𝟙[q>τ]"),
        (r"\mathbf{W} \boldsymbol\theta", "𝐖𝜽"),
        (r"\mathbb{R}", "ℝ"),
        (r"\mathrm{KL}(p \,\|\, q)", "KL(p‖q)"),
        (r"\mathrm E\,x", "Ex"),
        (r"y \sim x", "y∼x"),
        (r"\Bigl\langle x \Bigr\rangle", "⟨x⟩"),
        (r"\hat\theta \bar q \tilde w", "θˆq¯w˜"),
        (r"\text{a < b}", "a\xa0<\xa0b"),
        (r"\arg\max_k", "arg\u2061maxk"),
        (r"\left(\frac{1}{2}\right)", "(12)"),
    ],
)
def test_a_formula_says_what_it_means(tex, characters):
    assert said(tex) == characters


def test_names_are_upright_and_letters_slant():
    variants = {e.text: e.get("mathvariant") for e in tree(r"\mathrm E\, \Delta x \mathrm{lr}").iter("mi")}
    assert variants == {"E": "normal", "Δ": "normal", "x": None, "lr": None}


def test_limits_stand_under_sums_in_a_display():
    for tex in (r"\sum_{i=1}^n x", r"\left(\sum_{i=1}^n x\right)"):
        limits = tree(tex, display=True).find(".//munderover")
        assert limits[0].text == "∑" and limits[0].get("movablelimits") == "true"
    assert tree(r"k = \max_k x", display=True).find(".//munder")[0].text == "max"


@pytest.mark.parametrize(
    "tex, form",
    [("-x", "prefix"), (r"\sigma(-s)", "prefix"), ("a - b", None), (r"2^{-n}", "prefix"), ("p(x) - q", None), ("a = -b", "prefix")],
)
def test_a_minus_belongs_to_one_number_or_stands_between_two(tex, form):
    assert operators(tex, "−")[0].get("form") == form


def test_space_is_where_tex_has_it():
    assert [e.get("rspace") for e in operators(r"\ln p", "\u2061")] == [formulas.THIN]
    assert [e.get("rspace") for e in operators(r"\ln(p)", "\u2061")] == ["0"]
    assert len(tree(r"x \ln p").findall(".//mspace")) == 1 and not tree(r"{} = \ln p").findall(".//mspace")
    tight = {"z{=}1": "=", "x_{l-1}": "−", "a/b": "/"}
    assert [operators(tex, name)[0].get("lspace") for tex, name in tight.items()] == ["0"] * 3
    assert operators("a = b", "=")[0].get("lspace") is None


def test_equations_are_aligned_and_cases_have_a_brace():
    for name in ("align", "align*", "aligned"):
        cells = tree(rf"\begin{{{name}}} a &= b \\ c &= d \end{{{name}}}", display=True).findall(".//mtr/mtd")
        assert [cell.get("class") for cell in cells] == ["right", "left"] * 2
    cases = tree(r"\begin{cases} 1 & x > 0 \\ 0 & \text{otherwise} \end{cases}", display=True)
    assert len(cases.findall(".//mtr")) == 2 and cases.find(".//mo").get("stretchy") == "true"
    assert said(r"\begin{equation}\label{here} a = b \end{equation}", True) == "a=b"


@pytest.mark.parametrize("tex", [r"\unheardof{x}", r"\frac{1}", r"{x", r"\left( x"])
def test_the_build_stops_at_a_formula_that_cannot_be_converted_and_names_it(tex):
    translator = SimpleNamespace(builder=SimpleNamespace(current_docname="nbs/01_layers"))
    with pytest.raises(ExtensionError, match=r"nbs/01_layers.*no MathML for the formula") as error:
        formulas.converted(translator, nodes.math(tex, tex))
    assert repr(tex) in str(error.value)


built = pytest.mark.skipif(not HTML.exists(), reason="the book is not built; `make check` builds it")
MATH = re.compile(r"<math.*?</math>", re.S)


@built
def test_pages_hold_formulas_and_neither_their_source_nor_a_script_for_them():
    pages = {path.stem: path.read_text(encoding="utf-8") for path in HTML.glob("nbs/*.html")}
    assert len(MATH.findall(pages["19_drift"])) > 100 and 'display="block"' in pages["13_categorical"]
    for name, page in pages.items():
        assert not re.search(r"MathJax|<script[^>]*mathjax", page), name
        assert not [math for math in MATH.findall(page) if "\\" in math], name


@built
def test_the_font_has_every_character_of_every_formula():
    from fontTools.ttLib import TTFont

    font = TTFont(ROOT / "assets/vendor/book-math.woff")
    pages = "".join(path.read_text(encoding="utf-8") for path in HTML.glob("nbs/*.html"))
    text = "".join(re.sub(r"<[^>]*>", "", math) for math in MATH.findall(pages))
    missing = set(re.sub(r"&\w+;|\s|\u2061", "", text)) - {chr(code) for code in font.getBestCmap()}
    assert "𝔼" in text and not missing and "MATH" in font


@built
def test_a_long_formula_scrolls_in_its_own_box(browser):
    view = browser.new_page(viewport={"width": 390, "height": 844})
    view.goto((HTML / "nbs/13_categorical.html").as_uri())
    view.wait_for_function("[...document.querySelectorAll('.formula')].some((box) => box.tabIndex === 0)")
    boxes = view.locator(".formula").evaluate_all("(all) => all.map((box) => [box.scrollWidth > box.clientWidth, box.tabIndex])")
    assert (True, 0) in map(tuple, boxes) and (True, -1) not in map(tuple, boxes)  # by keyboard, too
    assert view.evaluate("document.documentElement.scrollWidth <= window.innerWidth")
    view.close()


BEYOND = """() => [...document.querySelectorAll("math")].filter((math) => {
  const box = math.closest(".formula, .long, .pst-scrollable-table-container") ?? document.documentElement;
  const right = (box === document.documentElement ? math : box).getBoundingClientRect().right;
  return right > innerWidth + 1;
}).map((math) => math.textContent)"""


@built
@pytest.mark.parametrize("chapter", ["04_machine", "13_categorical", "19_drift", "23_sampled", "26_likelihood", "28_inference"])
def test_no_formula_leaves_a_phone(browser, chapter):
    view = browser.new_page(viewport={"width": 390, "height": 844})
    view.goto((HTML / f"nbs/{chapter}.html").as_uri())
    view.evaluate("document.fonts.ready")
    assert not view.evaluate(BEYOND)
    view.close()


@built
def test_a_formula_is_as_high_as_what_it_holds(browser):
    """Fractions, sums and brackets are drawn, not only written one after another: the font for them is there."""
    view = browser.new_page()
    view.goto((HTML / "nbs/26_likelihood.html").as_uri())
    view.evaluate("document.fonts.ready")
    assert view.evaluate("document.fonts.check('16px \"Book Math\"')")
    above = "([top, bottom]) => top.getBoundingClientRect().bottom <= bottom.getBoundingClientRect().top + 2"
    bars = view.evaluate(f"[...document.querySelectorAll('mfrac')].map((bar) => [...bar.children]).map({above})")
    assert bars and all(bars)
    view.close()
