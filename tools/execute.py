"""Execute notebooks in place, two at a time, each in a fresh kernel.

A notebook that fails stays as it is, with the results stored in it. The end says which cell failed and how long each
notebook took; `_build/failed.txt` and `_build/seconds.json` keep both.

usage: python tools/execute.py [notebook or folder ...]
"""

import json
import os
import re
import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import NamedTuple

import nbformat
from clean_nbs import stored_form
from nbclient import NotebookClient

TIMEOUT = 600  # seconds a cell
MINUTE = 60  # seconds a notebook may take
BUILD = Path("_build")
TOOLS = str(Path(__file__).parent.resolve())  # where a kernel finds the extension that draws


class Outcome(NamedTuple):
    """Seconds that a notebook took, and what went wrong, if anything."""

    seconds: float
    failure: str = ""


def code(source: str) -> str:
    """The first line of a cell that is neither empty nor a directive."""
    return next((line for line in source.splitlines() if line.strip() and not line.startswith("#|")), "")


def sentence(error: Exception) -> str:
    """The last line of an error, without colours."""
    lines = re.sub(r"\x1b\[[\d;]*m", "", str(error)).strip().splitlines()
    return lines[-1] if lines else type(error).__name__


def execute(path: Path) -> Outcome:
    """Run one notebook in its own folder, and write it back if all of it ran."""
    start, reached = time.perf_counter(), []
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40", "--IPKernelApp.extra_extensions=pictures"],
        resources={"metadata": {"path": path.parent}},
        on_cell_execute=lambda cell, cell_index: reached.append((cell_index, cell)),
    )
    try:
        client.execute(env={**os.environ, "PYTHONPATH": os.pathsep.join([TOOLS, os.environ.get("PYTHONPATH", "")])})
    except Exception as error:
        index, cell = reached[-1] if reached else (0, notebook.cells[0])
        where = f"cell {index + 1} ({cell.get('id', 'without id')}): {code(cell.source)}"
        return Outcome(time.perf_counter() - start, f"{where}\n    {sentence(error)}")
    nbformat.write(stored_form(notebook), path)
    return Outcome(time.perf_counter() - start)


def outcomes(paths: list[Path]) -> dict[str, Outcome]:
    """The outcome for each notebook, told as it comes."""
    found = {}
    with ProcessPoolExecutor(2) as pool:
        runs = {pool.submit(execute, path): path.stem for path in paths}
        for done, run in enumerate(as_completed(runs), 1):
            error = run.exception()  # a process that died
            outcome = found[runs[run]] = Outcome(0.0, f"a process of its own: {sentence(error)}") if error else run.result()
            verdict = "FAILED" if outcome.failure else ""
            print(f"[{done}/{len(paths)}] {runs[run]:<20} {outcome.seconds:6.1f} s {verdict}".rstrip(), flush=True)
    return found


def failures(found: dict[str, Outcome]) -> str:
    """Which cells failed, and what a reader sees instead."""
    failed = {name: outcome.failure for name, outcome in sorted(found.items()) if outcome.failure}
    told = [f"{name} shows stored results, since it failed in {failure}" for name, failure in failed.items()]
    return "".join(line + "\n" for line in told)


def times(found: dict[str, Outcome]) -> str:
    """Seconds of each notebook, slowest first, and those beyond their minute."""
    order = sorted(found.items(), key=lambda item: -item[1].seconds)
    slow = [name for name, outcome in order if outcome.seconds > MINUTE]
    table = [f"{outcome.seconds:8.1f} s  {name}" for name, outcome in order]
    warning = [f"Slower than their {MINUTE} seconds on this machine: {', '.join(slow)}"] if slow else []
    return "\n".join([*table, *warning])


def main(names: list[str]) -> int:
    found = outcomes([p for n in map(Path, names) for p in (sorted(n.glob("*.ipynb")) if n.is_dir() else [n])])
    BUILD.mkdir(exist_ok=True)
    (BUILD / "seconds.json").write_text(json.dumps({name: round(o.seconds, 1) for name, o in sorted(found.items())}, indent=1))
    (BUILD / "failed.txt").write_text(failures(found), encoding="utf-8")
    print(times(found), failures(found), sep="\n", end="", flush=True)
    return any(outcome.failure for outcome in found.values())


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["nbs"]))
