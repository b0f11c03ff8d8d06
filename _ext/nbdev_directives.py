"""Give nbdev's `#|` cell directives their meaning on a Jupyter Book page.

Each notebook is edited as it is read: directive lines disappear, and become the cell tags that myst-nb knows.
"""

import json
import re
from pathlib import Path

from docutils import nodes

DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(?P<name>[\w-]+):?\s*(?P<value>.*?)\s*$")
NBVAL = re.compile(r"^\s*#\s*NBVAL_\w+\s*$")
TAGS = {
    ("hide", ""): "remove-cell",
    ("include", "false"): "remove-cell",
    ("echo", "false"): "remove-input",
    ("hide_input", ""): "remove-input",
    ("output", "false"): "remove-output",
    ("hide_output", ""): "remove-output",
    ("code-fold", "true"): "hide-input",
    ("eval", "false"): "skip-execution",
}


def edit_cell(cell):
    if cell["cell_type"] != "code":
        return
    tags = cell["metadata"].setdefault("tags", [])
    lines = []
    for line in "".join(cell["source"]).splitlines(keepends=True):
        if found := DIRECTIVE.match(line):
            name, value = found["name"], found["value"].lower()
            tag = "remove-cell" if name == "default_exp" else TAGS.get((name, value))
            if tag and tag not in tags:
                tags.append(tag)
        elif not NBVAL.match(line):
            lines.append(line)
    cell["source"] = "".join(lines).lstrip("\n")


def read_notebook(app, docname, source):
    if not str(app.env.doc2path(docname)).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        edit_cell(cell)
    source[0] = json.dumps(notebook)


UNUSED = re.compile("thebe|THEBE")  # from another server, and no page uses it
ICONS = "_static/scripts/fontawesome.js"  # 1.5 MB; the style sheet has the same icons


def drop_unused(app, pagename, templatename, context, doctree):
    """Leave out the scripts that a page does not use: sphinx-thebe, and MathJax where there is no formula."""
    formulas = doctree is None or next(doctree.findall(lambda n: isinstance(n, (nodes.math, nodes.math_block))), None)
    unused = UNUSED if formulas else re.compile(UNUSED.pattern + "|mathjax|MathJax")
    for key in ("script_files", "script_files_page"):
        if key in context:
            context[key] = [f for f in context[key] if not unused.search(_text(f))]


def _text(file):
    return f"{getattr(file, 'filename', file)} {getattr(file, 'attributes', {}).get('body', '')}"


def empty_icons(app, error):
    """The theme names its script of icons in every page: leave it there, with nothing in it."""
    script = Path(app.outdir) / ICONS
    if error is None and script.is_file():
        script.write_text("", encoding="utf-8")


def setup(app):
    app.connect("source-read", read_notebook)
    app.connect("html-page-context", drop_unused, priority=900)
    app.connect("build-finished", empty_icons)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
