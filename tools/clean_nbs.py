"""nbdev_clean, then give widget models stable ids, so that running a notebook again leaves no diff.

usage: python tools/clean_nbs.py [notebook ...]
"""

import hashlib
import json
import re
import sys
from pathlib import Path

from nbdev.clean import nbdev_clean

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


def main(names: list[str]) -> None:
    for path in map(Path, names) if names else sorted(Path("nbs").glob("*.ipynb")):
        nbdev_clean(str(path))
        notebook = stable_ids(json.loads(path.read_text(encoding="utf-8")), path.stem)
        text = json.dumps(notebook, indent=1, ensure_ascii=False, sort_keys=True)
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
