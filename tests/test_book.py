"""The built book stands alone: every link leads somewhere, no page asks another server for anything, and code folds and opens."""

import json
import re
import sys
from functools import cache, partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "_ext"))
from redirects import moved

HTML = ROOT / "_build/check/_build/html"
PAGES = sorted(p for p in HTML.rglob("*.html") if "_static" not in p.parts)
CHAPTERS = [p for p in PAGES if re.match(r"\d", p.stem) and (ROOT / f"nbs/{p.stem}.ipynb").exists()]
READ = [p for p in PAGES if p.stem not in moved() or p in CHAPTERS]  # all but those that only lead to others
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(HTML)))
each_read_page = pytest.mark.parametrize("page", READ, ids=lambda p: str(p.relative_to(HTML)))
each_chapter = pytest.mark.parametrize("page", CHAPTERS, ids=lambda p: p.stem)

pytestmark = pytest.mark.skipif(not PAGES, reason="the book is not built; `make check` builds it")


@cache
def soup(page):
    return BeautifulSoup(page.read_text(encoding="utf-8"), "html.parser")


def refresh(page):
    """Where a page that only redirects leads."""
    tag = soup(page).find("meta", attrs={"http-equiv": re.compile("refresh", re.I)})
    return tag["content"].partition("url=")[2] if tag else None


def resources(page):
    """Addresses a browser loads with the page by itself."""
    for tag in soup(page).find_all(src=True):
        yield tag["src"]
    for tag in soup(page).find_all("link", href=True):
        if not {"canonical", "next", "prev", "search", "index", "author"} & set(tag.get("rel", [])):
            yield tag["href"]
    for style in [t.text for t in soup(page).find_all("style")] + [t["style"] for t in soup(page).find_all(style=True)]:
        yield from re.findall(r"url\(\s*[\"']?([^\"')]+)", style)


def links(page):
    yield from (tag["href"] for tag in soup(page).find_all(href=True) if "canonical" not in tag.get("rel", []))
    yield from resources(page)
    if target := refresh(page):
        yield target


def test_home_leads_to_the_first_page():
    assert refresh(HTML / "index.html") == "nbs/index.html"


@each_page
def test_page_has_a_title(page):
    if not refresh(page):
        assert soup(page).title.text.strip()


@each_page
def test_resources_are_our_own(page):
    assert not [a for a in resources(page) if urlsplit(a).netloc]


@pytest.mark.parametrize("sheet", sorted(HTML.rglob("*.css")), ids=lambda p: p.name)
def test_style_sheets_are_our_own(sheet):
    assert not re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]+", sheet.read_text(encoding="utf-8"))


@cache
def places(page):
    """What a link to that page may name."""
    return {tag["id"] for tag in soup(page).find_all(id=True)}


@each_page
def test_links_lead_somewhere(page):
    for address in set(links(page)):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_file(), address
        if parts.fragment and target.suffix == ".html":
            assert unquote(parts.fragment) in places(target), address


def weight(addresses):
    """The bytes of the files that a page asked for."""
    return sum(Path(unquote(urlsplit(address).path)).stat().st_size for address in set(addresses) if address.startswith("file:"))


LIGHTEST, HEAVIEST = 900_000, 1_800_000  # bytes: of the first page, and of any


MACHINE = re.compile(r"file:/|/(?:root|home|Users|work|opt)/\w|[A-Z]:\\\\")


@each_page
def test_no_page_knows_the_machine_that_built_it(page):
    text = page.read_text(encoding="utf-8")
    assert not MACHINE.findall(text) and str(ROOT) not in text


@pytest.mark.parametrize("old", sorted(moved()))
def test_earlier_addresses_of_chapters_lead_to_them(old):
    page = HTML / f"nbs/{old}.html"
    if (ROOT / f"nbs/{old}.ipynb").exists():  # a chapter of today
        assert not refresh(page)
    else:
        target = page.parent / refresh(page)
        assert re.sub(r"^\d+_", "", target.stem) == moved()[old] and not refresh(target)
        assert soup(page).find("link", rel="canonical")["href"] == soup(page).a["href"] == target.name


def test_no_chapter_is_its_own_past():
    assert not set(moved()) & {path.stem for path in (ROOT / "nbs").glob("*.ipynb")}


@pytest.mark.parametrize("name", ["index", "11_collapse", "71_gallery"])
def test_the_first_figure_is_there_before_the_page_is_complete(browser, name):
    view = browser.new_page()
    drawn = "document.querySelectorAll('[data-figure] .lively svg *').length"
    view.add_init_script(f"window.addEventListener('load', () => {{ window.drawn = {drawn}; }}, {{ capture: true }})")
    view.goto((HTML / f"nbs/{name}.html").as_uri())
    assert view.evaluate("window.drawn") > 10
    view.close()


@pytest.fixture
def served():
    """The address of the book on a server of this machine: a page from a file may not read others, as a search does."""

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *words):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(HTML)))
    Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_search_loads_its_index_on_its_own_page_only_and_finds(browser, served):
    assert [page.name for page in PAGES if "searchindex.js" in page.read_text(encoding="utf-8")] == ["search.html"]
    view = browser.new_page()
    view.goto(f"{served}/search.html?q=entropy")
    view.locator("#search-results li a").first.wait_for()
    view.close()


def test_the_font_has_every_icon_that_pages_and_style_sheets_name():
    from fontTools.ttLib import TTFont

    sheet = (HTML / "_static/styles/pydata-sphinx-theme.css").read_text(encoding="utf-8")
    named = {name for page in PAGES for tag in soup(page).select(".fa-solid, .fas") for name in tag["class"] if name.startswith("fa-")}
    rules = re.findall(r'((?:\.fa-[\w-]+:before,?)+){content:"\\(\w+)"}', sheet)
    codes = {name: code for names, code in rules for name in re.findall(r"fa-[\w-]+", names)}
    sizes = {"fa-solid", "fa-lg", "fa-fw", "fa-xs", "fa-sm", "fa-2x"}
    glyphs = TTFont(HTML / "_static/vendor/icons.woff").getBestCmap()
    assert len(named) > 8 and not [name for name in named - sizes if int(codes[name], 16) not in glyphs]


@each_read_page
def test_page_is_light_quiet_fits_a_phone_and_has_its_switch(browser, page):
    view = browser.new_page(viewport={"width": 390, "height": 844})
    requested, missed, errors = [], [], []
    view.on("requestfailed", lambda request: missed.append(request.url))
    view.on("request", lambda request: requested.append(request.url))
    view.on("pageerror", lambda e: errors.append(str(e)))
    view.goto(page.as_uri())
    view.wait_for_load_state("networkidle")
    too_wide = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    folds, switches = view.locator("details.fold").count(), view.locator("button.code-switch:visible").count()
    view.close()
    assert weight(requested) <= (LIGHTEST if page.stem == "index" else HEAVIEST)
    assert not [url for url in requested if urlsplit(url).scheme not in ("file", "data", "blob")]
    assert not missed and not errors
    assert too_wide <= 0, f"{too_wide} px wider than a phone"
    assert switches == (folds > 0)


# Numbers and folds


@each_chapter
def test_the_number_of_a_chapter_is_that_of_its_file(page):
    number = f"{int(page.stem[:2])}. "
    entries = [tag.text.strip() for tag in soup(HTML / "nbs/index.html").select(f'nav a[href$="{page.name}"]')]
    assert entries and all(text.startswith(number) for text in entries)
    assert soup(page).select_one("article h1").text.startswith(number) and soup(page).title.text.strip().startswith(number)


def test_only_chapters_are_numbered():
    titles = [soup(HTML / f"nbs/{stem}.html").select_one("article h1").text for stem in ("index", "glossary", "reference")]
    sections = [tag.text for page in CHAPTERS for tag in soup(page).select("article h2")]
    assert CHAPTERS and not [text for text in titles + sections if re.match(r"\d+\.", text)]


# Terms

NO_PROSE = {"h1", "h2", "h3", "h4", "h5", "h6", "a", "summary", "figcaption", "table", "button", "label", "code", "pre", "math", "nav"}


def barred(tag):
    return tag.name in NO_PROSE or "cell_output" in tag.get("class", ())


@each_chapter
def test_a_term_is_linked_once_with_its_card_and_only_in_prose(page):
    terms, article = soup(page).select(".term"), soup(page).article
    linked = [a["href"].partition("#")[2] for a in article.select('a[href*="glossary.html#term-"]')]
    assert len(linked) == len(set(linked)) == len(terms)
    for term in terms:
        card = term.select_one(f":scope > a + #{term.a['aria-describedby']}[role=tooltip]")
        assert card.text.strip().endswith((".", ".)")) and term.find_parent("p") and not term.find_parent(barred)
    assert sum(len(str(term)) for term in terms) < 30_000


def test_chapters_have_terms_and_the_glossary_has_none():
    assert all(soup(page).select(".term") for page in CHAPTERS if int(page.stem[:2]) < 40)
    assert not soup(HTML / "nbs/glossary.html").select(".term")


def code_cells(stem):
    cells = json.loads((ROOT / f"nbs/{stem}.ipynb").read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


@each_chapter
def test_folded_code_stands_behind_its_own_words(page):
    words = [m[1].replace("`", "") for source in code_cells(page.stem) if (m := re.search(r"^#\| fold (.*)$", source, re.M))]
    folds = soup(page).select("details.fold")
    assert words == [fold.summary.text for fold in folds]
    assert all(fold.select_one(".cell_input pre").text.strip() and not fold.select(".cell_output") for fold in folds)
    assert "#|" not in "".join(tag.text for tag in soup(page).select(".cell_input"))


def opened(view):
    return view.evaluate("[...document.querySelectorAll('details.fold')].map((fold) => fold.open)")


NO_STORAGE = "Object.defineProperty(window, 'localStorage', { get() { throw new Error('refused'); } })"


@pytest.mark.parametrize("script", ["", NO_STORAGE], ids=["remembered", "no storage"])
def test_one_switch_opens_and_folds_all_code(browser, script):
    context = browser.new_context()
    context.add_init_script(script)
    view = context.new_page()
    view.goto(CHAPTERS[0].as_uri())
    switch = view.get_by_role("button", name="Show all code")
    assert not any(opened(view))
    view.keyboard.press("Tab")
    switch.focus()
    assert switch.evaluate("(button) => getComputedStyle(button).outlineStyle") == "solid"
    view.keyboard.press("Enter")
    assert all(opened(view))
    view.get_by_role("button", name="Fold the code").wait_for()
    view.goto(CHAPTERS[1].as_uri())
    if script:
        view.get_by_role("button", name="Show all code").click()
    assert all(opened(view))
    view.get_by_role("button", name="Fold the code").click()
    assert not any(opened(view))
    context.close()


def test_the_switch_says_what_it_does_next(browser):
    view = browser.new_page()
    view.goto(CHAPTERS[0].as_uri())
    for summary in view.locator("details.fold > summary").all():
        view.get_by_role("button", name="Show all code").wait_for()
        summary.press("Enter")
    view.get_by_role("button", name="Fold the code").wait_for()
    view.close()


@pytest.mark.parametrize("scripts", [True, False], ids=["", "without scripts"])
def test_paper_shows_all_code_black_on_white(browser, scripts):
    context = browser.new_context(color_scheme="dark", java_script_enabled=scripts)
    view = context.new_page()
    view.goto(CHAPTERS[0].as_uri())
    view.emulate_media(media="print", color_scheme="dark")
    if scripts:
        view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        assert all(opened(view))
    code = view.locator("details.fold .cell_input pre")
    assert code.count() and all(pre.bounding_box()["height"] > 20 for pre in code.all())
    colors = "(all) => [...new Set(all.map((tag) => getComputedStyle(tag).color))]"
    assert view.locator(".cell_input pre, .cell_input pre span").evaluate_all(colors) == ["rgb(0, 0, 0)"]
    assert view.locator("body").evaluate("(body) => getComputedStyle(body).backgroundColor") == "rgb(255, 255, 255)"
    if scripts:
        view.evaluate("window.dispatchEvent(new Event('afterprint'))")
        assert not any(opened(view)) and view.locator("html").get_attribute("data-theme") == "dark"
    context.close()


BRIGHT = """(all) => all.filter((tag) => tag.innerText).map((tag) => getComputedStyle(tag).color)
  .filter((color) => color.match(/[0-9.]+/g).slice(0, 3).reduce((sum, part) => sum + +part, 0) > 450)"""


def test_tables_and_captions_are_dark_on_paper(browser):
    view = browser.new_page(color_scheme="dark")
    view.goto((HTML / "nbs/11_collapse.html").as_uri())
    view.wait_for_load_state("networkidle")
    texts = view.locator(".bd-article :is(p, li, th, td, h1, h2, .caption)")
    assert texts.evaluate_all(BRIGHT)
    view.emulate_media(media="print", color_scheme="dark")
    view.evaluate("window.dispatchEvent(new Event('beforeprint'))")
    assert not texts.evaluate_all(BRIGHT)
    view.close()


CUT = """() => {
  document.querySelectorAll(".bd-article details").forEach((details) => { details.open = true; });
  const style = document.createElement("style");
  style.textContent = "div.cell_input pre { white-space: pre !important; }";  // lines of code shall not even wrap
  document.head.append(style);
  const article = document.querySelector(".bd-article"), edge = article.getBoundingClientRect().right;
  const boxes = [...article.querySelectorAll("pre, div.cell_input, div.cell_output, table")];
  const over = (box) => Math.max(box.scrollWidth - box.clientWidth, box.getBoundingClientRect().right - edge);
  return boxes.filter((box) => box.clientWidth && over(box) > 1).map((box) => box.innerText.slice(0, 80));
}"""


@each_read_page
def test_nothing_is_cut_off_on_a_small_laptop(browser, page):
    if refresh(page):
        return
    view = browser.new_page(viewport={"width": 1280, "height": 800})
    view.goto(page.as_uri())
    view.wait_for_load_state("networkidle")
    cut = view.evaluate(CUT) if view.locator(".bd-article").count() else []
    view.close()
    assert not cut
