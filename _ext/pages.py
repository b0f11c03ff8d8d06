"""What the theme's pages lack for those who listen, and carry without need: repaired in the written pages.

Scripts and fonts that no page uses are left out, others wait until they are needed: a page weighs what it shows.
"""

import re
import shutil
from pathlib import Path

# From another server, or of no use: of thebe, of tabs, and of cards where a page has none.
UNUSED = re.compile("thebe|THEBE|design-tabs")

REPAIRS = [  # what is wrong, and what is right
    # The name of a button contains the words that are seen on it.
    (r'(<button class="btn search-button[^>]*?) title="Search" aria-label="Search"', r"\1"),
    # The sidebar belongs to a landmark.
    (r'<div id="pst-primary-sidebar" class', '<div id="pst-primary-sidebar" role="complementary" aria-label="Book" class'),
    # Entries of a bibliography are items of a list.
    (r' role="doc-biblioentry"', ' role="listitem"'),
    # A heading of a table without words is no heading.
    (r"<th((?:\s[^>]*)?)>\s*(?:<p>\s*</p>)?\s*</th>", r"<td\1></td>"),
    # A figure has one number, that of its chapter.
    (r'<span class="caption-number">Fig[^<]*</span>', ""),
    # Search needs its index on its own page.
    (r'\s*<script src="[^"]*(?:searchtools|language_data|searchindex)\.js[^"]*"></script>', ""),
]
SEARCH = "search.html"
# Who goes by keyboard comes to the first figure that moves as soon as to the text.
SKIP, FIGURE = '<a href="#main-content">Skip to main content</a>', '<div data-figure="'
SKIP_TO_FIGURE, FIRST_FIGURE = SKIP + ' <a href="#first-figure">Skip to the first figure</a>', '<div id="first-figure" data-figure="'
UNREAD = ["scripts/fontawesome.js", "scripts/fontawesome.js.map"]  # 1.5 MB; the style sheet has the same icons
# A rule about classes alone shows nothing where no page has them and no script names them.
RULES = re.compile(r"(?<=[{}])((?:\.[\w-]+(?:::?(?:before|after))?,?)+)\{[^{}]*\}")
COMPOSED = ("bs-", "tooltip", "popover")  # how names begin that a script puts together
FONTS = re.compile(r"@font-face\{[^}]*Font Awesome[^}]*\}")
FONT = '@font-face{font-family:Font Awesome\\ 6 Free;font-weight:900;src:url(../vendor/icons.woff) format("woff")}'
STYLES = "styles/pydata-sphinx-theme.css"


def drop_unused(app, pagename, templatename, context, doctree):
    """Leave out the scripts and style sheets that a page does not use."""
    body = context.get("body", "")
    unused = UNUSED if 'class="sd-' in body else re.compile(UNUSED.pattern + "|sphinx-design")
    for key in ("script_files", "script_files_page", "css_files"):
        if key in context:
            context[key] = [f for f in context[key] if not unused.search(_text(f))]


def _text(file):
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"


def repair(text, name):
    """A page as it should have been written."""
    for wrong, right in REPAIRS[: -1 if name == SEARCH else None]:
        text = re.sub(wrong, right, text)
    if FIGURE in text:
        text = text.replace(SKIP, SKIP_TO_FIGURE, 1).replace(FIGURE, FIRST_FIGURE, 1)
    return text


def repair_pages(app, error):
    if error is not None or app.builder.format != "html":
        return
    out, words = Path(app.outdir), set()
    for page in out.rglob("*.html"):
        if "_static" not in page.parts:
            text = repair(page.read_text(encoding="utf-8"), page.name)
            page.write_text(text, encoding="utf-8")
            words |= {name for names in re.findall(r'class="([^"]*)"', text) for name in names.split()}
    lighten(out / "_static", words)


def lighten(static, words):
    """Keep the rules and icons that a page or a script can show."""
    for name in UNREAD:
        (static / name).write_text("", encoding="utf-8")
    for script in static.rglob("*.js"):
        words |= set(re.findall(r"[\w-]+", script.read_text(encoding="utf-8")))

    def shown(rule):
        names = re.findall(r"\.([\w-]+)", rule[1])
        return rule[0] if any(name in words or name.startswith(COMPOSED) for name in names) else ""

    sheet = static / STYLES
    text = RULES.sub(shown, sheet.read_text(encoding="utf-8"))
    sheet.write_text(FONTS.sub("", text) + FONT, encoding="utf-8")
    shutil.rmtree(static / "vendor/fontawesome", ignore_errors=True)


def setup(app):
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("build-finished", repair_pages)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
