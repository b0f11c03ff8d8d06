"""nbdev_clean, then make pictures small and give widget models stable ids, so that a second run leaves no diff.

A figure that is alive in a stored page keeps that form only, with its module as it is now: its widget needs a kernel.

usage: python tools/clean_nbs.py [notebook ...]
"""

import base64
import hashlib
import io
import json
import re
import sys
from pathlib import Path

from nbdev.clean import nbdev_clean
from PIL import Image

from helmholtz_mim.interactive.page import EXPORT, bundle

STATE, VIEW = "application/vnd.jupyter.widget-state+json", "application/vnd.jupyter.widget-view+json"
REFERENCE = re.compile(r"IPY_MODEL_([0-9a-f]{32})")


def stable_ids(notebook: dict, stem: str) -> dict:
    """Rename widget models in order of use: cell outputs first, then whatever those reference."""
    models = notebook["metadata"].get("widgets", {}).get(STATE, {}).get("state", {})
    order: list[str] = []

    def visit(model):
        if model in models and model not in order:
            order.append(model)
            for reference in REFERENCE.findall(json.dumps(models[model], sort_keys=True)):
                visit(reference)

    def renamed(text):
        for i, model in enumerate(order):
            text = text.replace(model, hashlib.md5(f"{stem}/{i}".encode()).hexdigest())
        return text

    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if VIEW in output.get("data", {}):
                visit(output["data"][VIEW]["model_id"])
    links = [m for m in models if m not in order]  # nothing references a link
    for model in sorted(links, key=lambda m: renamed(json.dumps(models[m], sort_keys=True))):
        visit(model)

    notebook = json.loads(renamed(json.dumps(notebook)))
    if models:
        state = notebook["metadata"]["widgets"][STATE]
        state["state"] = dict(sorted(state["state"].items()))
    return notebook


def stored_form(notebook: dict) -> dict:
    """Drop the widget view of every output that is also HTML, and the state of all widgets that no view is left of."""
    outputs = [output.get("data", {}) for cell in notebook["cells"] for output in cell.get("outputs", [])]
    for data in outputs:
        if "text/html" in data:
            data.pop(VIEW, None)
    shown = [data[VIEW]["model_id"] for data in outputs if VIEW in data]
    stored = notebook["metadata"].get("widgets", {}).get(STATE, {})
    if kept := in_use(stored.get("state", {}), shown):
        stored["state"] = kept
    else:
        notebook["metadata"].pop("widgets", None)
    return notebook


def in_use(models: dict, shown: list[str]) -> dict:
    """The models that are shown, those they are made of, and the links between these."""
    names: set[str] = set()

    def parts(model):
        return set(REFERENCE.findall(json.dumps(models[model])))

    def visit(model):
        if model in models and model not in names:
            names.add(model)
            for part in parts(model):
                visit(part)

    for model in shown:
        visit(model)
    links = {m for m in models if models[m]["model_name"].endswith("LinkModel") and parts(m) <= names}
    return {m: models[m] for m in models if m in names | links}


def with_current_modules(notebook: dict) -> dict:
    """Give interactive figures the JavaScript of today; their state stays as the chapter made it."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            html = "".join(output.get("data", {}).get("text/html", ""))
            if figure := re.search(r'<div data-figure="(\w+)-', html):
                code = bundle(figure[1]).replace(EXPORT, "")
                html = re.sub(r'(<script type="module">\n).*?(?=mount\(render, ")', lambda m, code=code: m[1] + code, html, flags=re.S)
                output["data"]["text/html"] = html.splitlines(keepends=True)
    return notebook


def with_palette(png: str) -> str:
    """The picture with 64 colours, a third of the size; both as base64."""
    picture = Image.open(io.BytesIO(base64.b64decode(png)))
    if picture.mode == "P":
        return png
    small = io.BytesIO()
    picture.convert("RGB").quantize(64, dither=Image.Dither.NONE).save(small, "PNG", optimize=True)
    return base64.b64encode(small.getvalue()).decode()


def small_pictures(notebook: dict) -> None:
    """Give every stored picture a palette."""
    for cell in notebook["cells"]:
        for output in cell.get("outputs", []):
            if "image/png" in output.get("data", {}):
                output["data"]["image/png"] = with_palette("".join(output["data"]["image/png"]))


def main(names: list[str]) -> None:
    for path in map(Path, names) if names else sorted(Path("nbs").glob("*.ipynb")):
        nbdev_clean(str(path))
        notebook = stable_ids(stored_form(json.loads(path.read_text(encoding="utf-8"))), path.stem)
        small_pictures(with_current_modules(notebook))
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
