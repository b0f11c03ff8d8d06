"""Albums of pictures as plain HTML: a page without a kernel needs no widgets, and 3.6 MB of scripts less.

What a notebook stores of an album, a control beside a stack of pictures, becomes radio buttons and the pictures; style sheets
show the one that is chosen, and the keyboard works.
"""

import json
from html import escape
from pathlib import Path

from sphinx.errors import ExtensionError

VIEW, STATE = "application/vnd.jupyter.widget-view+json", "application/vnd.jupyter.widget-state+json"


def album_html(state, model):
    """The HTML of a stored album; a `KeyError` if the widget is of another kind."""

    def at(reference):
        return state[reference.removeprefix("IPY_MODEL_")]["state"]

    control, stack = map(at, at(model)["children"])
    pages = [at(child)["value"] for child in stack["children"]]
    names, chosen = control["_options_labels"], control.get("index", 0)
    parts = []
    for k, (name, page) in enumerate(zip(names, pages, strict=True)):
        label, checked = f"{model[:8]}-{k}", " checked" * (k == chosen)
        parts.append(
            f'<input type="radio" name="album-{model[:8]}" id="album-{label}"{checked}><label for="album-{label}">{escape(name)}</label>'
            f"<div>{page}</div>"
        )
    return f'<fieldset class="album"><legend>{escape(control.get("description", ""))}</legend>{"".join(parts)}</fieldset>'


def with_albums(notebook, name):
    """The notebook with HTML in the place of every stored album; no other widget may be shown."""
    state = notebook["metadata"].pop("widgets", {}).get(STATE, {}).get("state", {})
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            if VIEW in data and "text/html" not in data:
                try:
                    data["text/html"] = album_html(state, data.pop(VIEW)["model_id"])
                except (KeyError, ValueError) as error:
                    where = f"{name}, cell {cell.get('id')}"
                    raise ExtensionError(f"{where}: a page shows albums, and no other widget; give it HTML") from error
    return notebook


def read_notebook(app, docname, source):
    path = Path(app.env.doc2path(docname))
    if path.suffix == ".ipynb":
        source[0] = json.dumps(with_albums(json.loads(source[0]), path.name))


def setup(app):
    app.connect("source-read", read_notebook)
    return {"version": "1", "parallel_read_safe": True, "parallel_write_safe": True}
