"""The built book stands alone: every link leads somewhere, and no page asks another server for anything."""

import re
from functools import cache
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from bs4 import BeautifulSoup

HTML = Path(__file__).parent.parent / "_build/check/_build/html"
PAGES = sorted(p for p in HTML.rglob("*.html") if "_static" not in p.parts)
each_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(HTML)))

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


@each_page
def test_links_lead_somewhere(page):
    for address in links(page):
        parts = urlsplit(address)
        if parts.scheme or parts.netloc:
            continue
        target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
        assert target.is_file(), address
        if parts.fragment and target.suffix == ".html":
            assert soup(target).find(id=unquote(parts.fragment)), address


@each_page
def test_page_is_quiet_and_fits_a_phone(browser, page):
    view = browser.new_page(viewport={"width": 390, "height": 844})
    requested, errors = [], []
    view.on("request", lambda request: requested.append(request.url))
    view.on("pageerror", lambda e: errors.append(str(e)))
    view.goto(page.as_uri())
    view.wait_for_load_state("networkidle")
    too_wide = view.evaluate("document.documentElement.scrollWidth - window.innerWidth")
    view.close()
    assert not [url for url in requested if urlsplit(url).scheme not in ("file", "data", "blob")]
    assert not errors
    assert too_wide <= 0, f"{too_wide} px wider than a phone"
