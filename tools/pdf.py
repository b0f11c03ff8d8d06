"""The story on paper: the chapters up to the larger machines, printed from the built pages by a browser and bound into one PDF.

Links between these chapters lead to their places in the PDF, all others to the book online.

usage: python tools/pdf.py [folder of the pages]
"""

import io
import os
import re
import shutil
import sys
from itertools import accumulate
from pathlib import Path
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

import yaml
from playwright.sync_api import Page, sync_playwright
from pypdf import PdfReader, PdfWriter
from pypdf.generic import ArrayObject, FloatObject, NameObject, NullObject, TextStringObject

ROOT = Path(__file__).parent.parent
BROWSERS = "chromium", "chromium-browser", "google-chrome"
NAME = "helmholtz_mim.pdf"
OFFER = f'<li><a href="../{NAME}" class="btn btn-sm dropdown-item">The story as a PDF</a></li>'
HERE = "http://pages.invalid/"  # in links, the folder of the pages
MARGIN = {"top": "18mm", "bottom": "18mm", "left": "16mm", "right": "16mm"}

# A figure is at rest when its steps no longer grow; one that has not begun is waited for longer.
REST = """(figure) => new Promise((settle) => {
  let last, same = 0;
  const timer = setInterval(() => {
    const steps = [...document.querySelectorAll("[data-steps]")].find((part) => figure.contains(part))?.dataset.steps;
    same = steps === last ? same + 1 : 0;
    last = steps;
    if (same >= (steps === undefined ? 1 : steps > 0 ? 6 : 30)) settle(clearInterval(timer));
  }, 200);
})"""
# Links are said from the folder of the pages, and every place that one may lead to is named.
PREPARE = """([folder, here]) => {
  for (const link of document.links) link.href = link.href.replace(folder, here);
  const places = [...document.querySelectorAll(".bd-article [id]")].map(({ id }) => `<a hidden href="#${encodeURIComponent(id)}"></a>`);
  document.querySelector(".bd-article").insertAdjacentHTML("beforeend", places.join(""));
  document.documentElement.classList.add("story");
}"""
NUMBERS = """<style>
  @page { margin: 0 }
  body { margin: 0 }
  p { box-sizing: border-box; break-inside: avoid; font: 9pt serif; height: 290mm; margin: 0; padding-top: 283mm; text-align: center }
  p + p { break-before: page }
</style>"""


class Chapter(NamedTuple):
    name: str  # nbs/01_layers.html
    title: str
    print: PdfReader


def story(toc: dict) -> list[tuple[str, list[str]]]:
    """The parts before the larger machines, by their captions, with the files of their pages; first the first page."""
    captions = [part["caption"] for part in toc["parts"]]
    parts = toc["parts"][: captions.index("Larger machines")]
    return [("", [f"{toc['root']}.html"])] + [(part["caption"], [f"{page['file']}.html" for page in part["chapters"]]) for part in parts]


def online(settings: str) -> str:
    """The book's address on the net, from settings.ini."""
    host, base = (re.search(rf"^{key} = *(.*)$", settings, re.M) for key in ("doc_host", "doc_baseurl"))
    return f"{host[1]}{base[1]}/" if host and base else ""


def printed(view: Page, folder: Path, name: str) -> Chapter:
    """One page as it is printed, when its figures have come to rest."""
    view.goto((folder / name).as_uri())
    for figure in view.locator("[data-figure]").all():
        figure.scroll_into_view_if_needed()
        figure.locator(".lively").first.wait_for()
        figure.evaluate(REST)
    view.evaluate(PREPARE, [f"{folder.as_uri()}/", HERE])
    title = view.locator(".bd-article h1").evaluate("(h1) => h1.firstChild.textContent.trim()")
    return Chapter(name, title, PdfReader(io.BytesIO(view.pdf(format="A4", print_background=True, scale=0.9, margin=MARGIN))))


def place(chapter: Chapter, start: int, fragment: str) -> tuple[int, float]:
    """Where a link leads to: page, counted from 0, and height on it."""
    found = chapter.print.named_destinations.get(f"/{unquote(fragment)}")
    page = chapter.print.get_destination_page_number(found) if found else None
    return (start + page, float(found.top)) if page is not None else (start, float(chapter.print.pages[0].mediabox.top))


def lead(writer: PdfWriter, annotation, starts: dict[str, tuple[Chapter, int]], base: str) -> bool:
    """Let a link lead into the PDF, or to the book online; whether it leads anywhere."""
    address = annotation.get("/A", {}).get("/URI", "")
    if not address.startswith(HERE):
        return urlsplit(address).scheme in ("http", "https")
    name, _, fragment = address.removeprefix(HERE).partition("#")
    if name in starts:
        page, height = place(*starts[name], fragment)
        del annotation["/A"]
        target = writer.pages[page].indirect_reference
        annotation[NameObject("/Dest")] = ArrayObject([target, NameObject("/XYZ"), NullObject(), FloatObject(height), NullObject()])
    else:
        annotation["/A"][NameObject("/URI")] = TextStringObject(base + address.removeprefix(HERE))
    return name in starts or bool(base)


def bind(parts: list[tuple[str, list[Chapter]]], numbers: PdfReader, base: str) -> PdfWriter:
    """All chapters in one, with bookmarks, links and page numbers."""
    writer = PdfWriter()
    chapters = [chapter for _, some in parts for chapter in some]
    begin = [0, *accumulate(len(chapter.print.pages) for chapter in chapters)]
    starts = {chapter.name: (chapter, start) for chapter, start in zip(chapters, begin, strict=False)}
    for chapter in chapters:
        writer.append(chapter.print, import_outline=False)
    for caption, some in parts:
        above = writer.add_outline_item(title=caption, page_number=starts[some[0].name][1]) if caption else None
        for chapter in some:
            writer.add_outline_item(title=chapter.title, page_number=starts[chapter.name][1], parent=above)
    for page, number in zip(writer.pages, numbers.pages, strict=True):
        page.merge_page(number)
        page.compress_content_streams()
        links = page.get("/Annots", ArrayObject())
        page[NameObject("/Annots")] = ArrayObject(link for link in links if lead(writer, link.get_object(), starts, base))
    return writer


def write_story(browser, folder: Path, parts: list[tuple[str, list[str]]], base: str) -> Path:
    """Print the pages of a folder, and write the PDF beside them."""
    view = browser.new_page(viewport={"width": 1000, "height": 1400}, reduced_motion="reduce", color_scheme="light")
    chapters = [(caption, [printed(view, folder, name) for name in names]) for caption, names in parts]
    pages = sum(len(chapter.print.pages) for _, some in chapters for chapter in some)
    view.set_content(NUMBERS + "".join(f"<p>{k + 1}</p>" for k in range(pages)))
    writer = bind(chapters, PdfReader(io.BytesIO(view.pdf(format="A4"))), base)
    view.close()
    config = yaml.safe_load((ROOT / "_config.yml").read_text(encoding="utf-8"))
    writer.add_metadata({"/Title": config["title"], "/Author": config["author"]})
    writer.page_mode = "/UseOutlines"
    writer.compress_identical_objects()
    writer.write(folder / NAME)
    return folder / NAME


def offer(page: Path) -> None:
    """Put the PDF into a page's menu of downloads."""
    text = page.read_text(encoding="utf-8")
    if OFFER not in text:
        menu = r'(dropdown-download-buttons".*?<ul class="dropdown-menu">)'
        page.write_text(re.sub(menu, rf"\1{OFFER}", text, count=1, flags=re.S), encoding="utf-8")


def main() -> None:
    folder = Path(sys.argv[1] if sys.argv[1:] else "_build/book/_build/html").resolve()
    executable = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not executable:
        sys.exit("No PDF: it takes a Chromium, from your system's package manager.")
    parts = story(yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8")))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=executable, args=["--no-sandbox", "--disable-gpu"])
        path = write_story(browser, folder, parts, online((ROOT / "settings.ini").read_text(encoding="utf-8")))
    offer(folder / "nbs/index.html")
    print(f"The story is ready as a PDF: {os.path.relpath(path)}, {path.stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
