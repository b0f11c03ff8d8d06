"""Let nbval test notebooks that nbdev_clean has cleaned, and tell how long each of them takes.

nbdev_clean sets every execution count to null, and nbval then refuses each cell that has outputs.
Number the code cells in memory, and read `#| eval: false` as nbval's own skip tag.
"""

import json
import os
import re
from collections import Counter
from pathlib import Path

import nbformat

os.environ.setdefault("IN_TEST", "1")
_read = nbformat.read
_seconds = Counter()  # of each notebook
MINUTE = 60


def _numbered(fp, as_version, **kwargs):
    notebook = _read(fp, as_version, **kwargs)
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
        if re.match(r"\s*#\|\s*eval:\s*false", cell.source):
            cell.metadata.setdefault("tags", []).append("nbval-skip")
        for output in cell.outputs:
            output.get("data", {}).pop("image/svg+xml", None)  # drawn by `tools/execute.py` only, and no more compared than a PNG
    return notebook


def pytest_configure(config):
    if config.option.nbval or config.option.nbval_lax:
        import nbval.plugin

        nbval.plugin.nbformat.read = _numbered


def pytest_runtest_logreport(report):
    path = report.nodeid.partition("::")[0]
    if path.endswith(".ipynb"):
        _seconds[Path(path).stem] += report.duration


def pytest_terminal_summary(terminalreporter, config):
    """Keep the seconds of each notebook in `_build/tested.json`, and name those that took longer than their minute."""
    if _seconds:
        kept = config.rootpath / "_build/tested.json"
        kept.parent.mkdir(exist_ok=True)
        kept.write_text(json.dumps({name: round(seconds, 1) for name, seconds in sorted(_seconds.items())}, indent=1))
    for name, seconds in _seconds.most_common():
        if seconds > MINUTE:
            terminalreporter.write_line(f"{name} took {seconds:.0f} s, longer than its {MINUTE}: shorten it", yellow=True)
