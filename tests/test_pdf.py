"""The PDF of the story: bookmarks, links that stay inside or lead to the book online, no code, and nothing of the machine that made it."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from pypdf import PdfReader
from pypdf.generic import DictionaryObject, IndirectObject, StreamObject, TextStringObject

ROOT = Path(__file__).parent.parent
HTML = ROOT / "_build/check/_build/html"
sys.path.insert(0, str(ROOT / "tools"))
import pdf

ONLINE = "https://book.example/"
NAMES = "nbs/09_pushforward.html", "nbs/10_exact.html"  # each leads to the other
LINK = "nbs/link.html"
built = pytest.mark.skipif(not (HTML / NAMES[0]).exists(), reason="the book is not built; `make check` builds it")


def test_the_story_ends_before_the_larger_machines():
    parts = pdf.story(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    names = [name for _, some in parts for name in some]
    assert names[:2] == ["nbs/index.html", "nbs/01_layers.html"] and 20 < len(names) < 30
    assert "Larger machines" not in [caption for caption, _ in parts] and not [name for name in names if "glossary" in name]


def test_the_address_online_is_that_of_the_settings():
    assert pdf.online((ROOT / "settings.ini").read_text(encoding="utf-8")).startswith("https://")
    assert pdf.online("lib_name = x\n") == ""


@pytest.mark.parametrize("chromium, told", [("", "echo \"Without a PDF"), ("chromium", ".venv/bin/python tools/pdf.py")])
def test_the_book_brings_its_pdf_where_there_is_a_browser(chromium, told):
    command = ["make", "--dry-run", "--old-file", ".venv/ready", "book", f"CHROMIUM={chromium}"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    assert told in subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout


def test_the_first_page_offers_the_pdf_once(tmp_path):
    (tmp_path / "nbs").mkdir()
    first = tmp_path / "nbs/index.html"
    first.write_text('<div class="dropdown-download-buttons"><button></button>\n<ul class="dropdown-menu">\n</ul></div>', encoding="utf-8")
    for _ in range(2):
        pdf.offer(first)
    assert first.read_text(encoding="utf-8").count('href="../helmholtz_mim.pdf"') == 1


@pytest.mark.parametrize(
    "address, base, kept",
    [
        (f"{pdf.HERE}a.html", ONLINE, f"{ONLINE}a.html"),
        (f"{pdf.HERE}a.html", "", None),
        ("https://a.example/", "", "https://a.example/"),
        ("file:///a", ONLINE, None),
    ],
)
def test_a_link_that_leads_nowhere_is_dropped(address, base, kept):
    link = DictionaryObject({"/A": DictionaryObject({"/URI": TextStringObject(address)})})
    assert pdf.lead(None, link, {}, base) is (kept is not None)
    assert kept is None or link["/A"]["/URI"] == kept


@pytest.fixture(scope="module")
def story(browser, tmp_path_factory):
    """Two chapters, of which the second has a figure that is alive, and a page with one link: the PDF, and the words of its pages."""
    folder = tmp_path_factory.mktemp("pages")
    (folder / "nbs").mkdir()
    for part in (*NAMES, "_static", "_images"):
        (folder / part).symlink_to(HTML / part)
    link = '<a href="10_exact.html#exercises">link</a>'
    (folder / LINK).write_text(f'<div class="bd-article"><h1>One</h1>{link}</div>', encoding="utf-8")
    reader = PdfReader(pdf.write_story(browser, folder, [("", [NAMES[0]]), ("Measures", [NAMES[1], LINK])], ONLINE))
    return reader, [page.extract_text() for page in reader.pages]


def links(reader):
    return [link.get_object() for page in reader.pages for link in page.get("/Annots", [])]


@built
def test_bookmarks_and_numbers(story):
    reader, texts = story
    first, caption, (second, _) = reader.outline
    assert [first.title[:3], caption.title, second.title[:3]] == ["9. ", "Measures", "10."]
    start = reader.get_destination_page_number(second)
    assert reader.get_destination_page_number(first) == 0 < start == reader.get_destination_page_number(caption)
    assert "What a layer knows" in texts[start] and "Helmholtz" in reader.metadata.title
    assert [text.split()[-1] for text in texts] == [str(k + 1) for k in range(len(texts))]


@built
def test_links_lead_to_their_places_or_online(story):
    reader, texts = story
    targets = [link["/Dest"] for link in links(reader) if "/Dest" in link]
    inside = [reader.get_page_number(target[0].get_object()) for target in targets]
    outside = [link["/A"]["/URI"] for link in links(reader) if "/A" in link]
    second = reader.get_destination_page_number(reader.outline[1])
    assert "Exercises" in texts[inside[-1]] and second < inside[-1] and 0 < targets[-1][3] < reader.pages[0].mediabox.top - 50
    assert len(inside) + len(outside) == len(links(reader))
    assert {0, second} <= set(inside) and f"{ONLINE}nbs/glossary.html#term-layer" in outside
    assert all(link.startswith(("http://", "https://")) and "invalid" not in link for link in outside)


@built
def test_paper_has_prose_and_figures_and_neither_code_nor_menus(story):
    text = "".join(story[1])
    assert "Exercises" in text and "Takeaway" in text
    assert not re.search(r"def \w+\(|import |Show all code|Skip to main|Search", text)


def contents(value, seen):
    """Every text and every stream of a PDF, unpacked."""
    if isinstance(value, IndirectObject):
        if value.idnum in seen:
            return
        seen.add(value.idnum)
        value = value.get_object()
    if isinstance(value, StreamObject) and value.get("/Filter") != "/DCTDecode":
        yield value.get_data()
    for part in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        yield from contents(part, seen)
    yield str(value).encode()


@built
def test_it_knows_nothing_of_the_machine(story):
    reader, _ = story
    for text in [reader.stream.getvalue(), *contents(reader.trailer, set())]:
        assert not re.search(rb"file:/|pages\.invalid|/(?:root|home|Users|work|tmp)/\w", text) and str(ROOT).encode() not in text


@built
def test_a_figure_that_draws_nothing_keeps_nobody_waiting(browser):
    """Chapter 21 has one of buttons alone."""
    view = browser.new_page()
    view.set_default_timeout(10_000)
    assert len(pdf.printed(view, HTML, "nbs/21_rhythms.html").print.pages) > 1
    view.close()
