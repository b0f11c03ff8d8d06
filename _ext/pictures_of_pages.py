"""Pictures of a page: drawings in the page itself, in its letters and colours, with words, numbers and captions.

`#| alt what is seen` says a picture in words; `#| caption what to see` gives it a number and a line below. An interactive
figure has its own caption, and gets a number, too.
"""

import json
import re
from html import escape
from pathlib import Path

from nbdev_directives import DIRECTIVE

SVG, PNG = "image/svg+xml", "image/png"
LIVELY = re.compile(r'(<noscript><img[^>]*><p>|"caption":")(?=[^<"])')


def shown(cell):
    """How myst-nb shows the images of a cell."""
    return cell["metadata"].setdefault("mystnb", {})


def directives(cell):
    found = map(DIRECTIVE.match, "".join(cell["source"]).splitlines())
    return {line["name"]: line["value"] for line in found if line}


def drawing(svg, key, kind):
    """A drawing with ids of its own."""
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{key}-{kind}-", svg)
    return svg.replace("<svg ", f'<svg class="{kind}" ', 1)


def picture(output, alt, key):
    """A drawing for the page and one for a phone, of which the style sheet shows one; or one that scrolls there."""
    wide, narrow = "".join(output["data"].pop(SVG)), output["metadata"].get(SVG, {}).get("narrow")
    if narrow:
        kind, drawings = '"picture"', drawing(wide, key, "wide") + drawing(narrow, key, "narrow")
    else:
        kind, drawings = '"picture scrolls" tabindex="0"', drawing(wide, key, "only")
    return f'<div class={kind} role="img" aria-label="{escape(alt)}">{drawings}</div>'


def with_caption(output, cell, number, words):
    """The figure of an output: HTML of its own, or of the image."""
    data = output["data"]
    if "text/html" in data:
        line = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(words, quote=False))
        caption = f"<figcaption><strong>{number}.</strong> {line}</figcaption>"
        data["text/html"] = f"<figure>{''.join(data['text/html'])}{caption}</figure>"
    elif PNG in data:
        shown(cell)["figure"] = {"caption": f"**{number}.** {words}"}


def with_pictures(notebook, stem):
    """The notebook with its drawings in HTML, and its figures numbered from one."""
    chapter, count = re.match(r"\d*", stem)[0], 0
    for cell in notebook["cells"]:
        said = directives(cell) if cell["cell_type"] == "code" else {}
        outputs = [output for output in cell.get("outputs", []) if "data" in output]
        for k, output in enumerate(outputs):
            if SVG in output["data"]:
                output["data"]["text/html"] = picture(output, said.get("alt", ""), f"{cell['id']}-{k}")
            if width := output.get("metadata", {}).get(PNG, {}).get("width"):
                shown(cell)["image"] = {"width": f"{width}px"}
        lively = [output for output in outputs if 'data-figure="' in "".join(output["data"].get("text/html", ""))]
        if lively or "caption" in said:
            count += 1
            number = f"Figure {int(chapter)}.{count}" if chapter else f"Figure {count}"
        if "caption" in said and outputs:
            with_caption(outputs[-1], cell, number, said["caption"])
        elif lively:
            lively[0]["data"]["text/html"] = LIVELY.sub(rf"\g<1>{number}. ", "".join(lively[0]["data"]["text/html"]))
    return notebook


def read_notebook(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        source[0] = json.dumps(with_pictures(json.loads(source[0]), path.stem))


def setup(app):
    app.connect("source-read", read_notebook, priority=400)  # before directives disappear
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
