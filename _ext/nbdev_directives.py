"""Give nbdev's `#|` cell directives their meaning on a Jupyter Book page.

Each notebook is edited as it is read: directive lines disappear, and become the cell tags that myst-nb knows.
"""

import json
import re

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


def drop_thebe(app, pagename, templatename, context, doctree):
    """Jupyter Book 1 always loads sphinx-thebe from another server; no page uses it."""
    for key in ("script_files", "script_files_page"):
        if key in context:
            context[key] = [
                file
                for file in context[key]
                if "thebe" not in str(getattr(file, "filename", file))
                and "THEBE_JS_URL" not in str(getattr(file, "attributes", {}).get("body", ""))
            ]


def setup(app):
    app.connect("source-read", read_notebook)
    app.connect("html-page-context", drop_thebe, priority=900)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
