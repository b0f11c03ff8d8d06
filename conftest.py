"""Let nbval test notebooks that nbdev_clean has cleaned.

nbdev_clean sets every execution count to null, and nbval then refuses each cell that has outputs.
Number the code cells in memory, and read `#| eval: false` as nbval's own skip tag.
"""

import os
import re

import nbformat

os.environ.setdefault("IN_TEST", "1")
_read = nbformat.read


def _numbered(fp, as_version, **kwargs):
    notebook = _read(fp, as_version, **kwargs)
    for number, cell in enumerate((c for c in notebook.cells if c.cell_type == "code"), 1):
        cell.execution_count = number
        if re.match(r"\s*#\|\s*eval:\s*false", cell.source):
            cell.metadata.setdefault("tags", []).append("nbval-skip")
    return notebook


def pytest_configure(config):
    if config.option.nbval or config.option.nbval_lax:
        import nbval.plugin

        nbval.plugin.nbformat.read = _numbered
