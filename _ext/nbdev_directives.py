"""Give nbdev's `#|` cell directives their meaning on a Jupyter Book page, and chapters their numbers.

Each notebook is edited as it is read: directive lines disappear, and become the cell tags that myst-nb knows. `#| fold what
it holds` lets the page show a line with these words, which opens to the code; outputs stay in sight. `#| alt what is seen`
says a picture in words to those who do not see it.
"""

import json
import re
from html import escape
from pathlib import Path

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

DIRECTIVE = re.compile(r"^\s*#\s*\|\s*(?P<name>[\w-]+):?\s*(?P<value>.*?)\s*$")
NBVAL = re.compile(r"^\s*#\s*NBVAL_\w+\s*$")
TAGS = {
    ("hide", ""): "remove-cell",
    ("include", "false"): "remove-cell",
    ("echo", "false"): "remove-input",
    ("hide_input", ""): "remove-input",
    ("output", "false"): "remove-output",
    ("hide_output", ""): "remove-output",
    ("eval", "false"): "skip-execution",
}


def edit_cell(cell):
    if cell["cell_type"] != "code":
        return
    tags = cell["metadata"].setdefault("tags", [])
    lines = []
    for line in "".join(cell["source"]).splitlines(keepends=True):
        if found := DIRECTIVE.match(line):
            name, value = found["name"], found["value"]
            if name == "fold":
                cell["metadata"]["fold"] = value
            if name == "alt":
                cell["metadata"].setdefault("mystnb", {}).setdefault("image", {})["alt"] = value
            tag = "remove-cell" if name == "default_exp" else TAGS.get((name, value.lower()))
            if tag and tag not in tags:
                tags.append(tag)
        elif not NBVAL.match(line):
            lines.append(line)
    cell["source"] = "".join(lines).lstrip("\n")


def number_title(notebook, stem):
    """The number of a chapter is that of its file: 01_layers begins `# 1. A layer of coins`."""
    if number := re.match(r"(\d+)_", stem):
        first = notebook["cells"][0]
        first["source"] = re.sub(r"^# ", f"# {int(number[1])}. ", "".join(first["source"]), count=1)


def read_notebook(app, docname, source):
    path = app.env.doc2path(docname)
    if not str(path).endswith(".ipynb"):
        return
    notebook = json.loads(source[0])
    for cell in notebook["cells"]:
        edit_cell(cell)
    number_title(notebook, Path(path).stem)
    source[0] = json.dumps(notebook)


class Fold(nodes.Element):
    """Code behind a line that says what it holds."""


def open_fold(translator, node):
    words = re.sub(r"`(.+?)`", r"<code>\1</code>", escape(node["words"]))
    translator.body.append(f'<details class="fold"><summary>{words}</summary>\n')


def close_fold(translator, node):
    translator.body.append("</details>\n")


class FoldCells(SphinxPostTransform):
    """Put the source of a cell into its fold."""

    default_priority = 199
    formats = ("html",)

    def run(self, **kwargs):
        for source in list(self.document.findall(nodes.container)):
            if source.get("nb_element") == "cell_code_source":
                words = source.parent.get("cell_metadata", {}).get("fold")
                if words:
                    fold = Fold(words=words)
                    source.replace_self(fold)
                    fold += source


def setup(app):
    app.add_node(Fold, html=(open_fold, close_fold))
    app.add_post_transform(FoldCells)
    app.connect("source-read", read_notebook)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
