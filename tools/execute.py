"""Execute notebooks in place, two at a time, each in a fresh kernel.

usage: python tools/execute.py [notebook or folder ...]
"""

import sys
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import nbformat
from clean_nbs import stored_form
from nbclient import NotebookClient

TIMEOUT = 600  # seconds a cell


def execute(path: Path) -> float:
    """Run one notebook in its own folder, write it back, and return the seconds it took."""
    start = time.perf_counter()
    notebook = nbformat.read(path, as_version=4)
    client = NotebookClient(
        notebook,
        timeout=TIMEOUT,
        kernel_name="python3",
        record_timing=False,
        extra_arguments=["--IPKernelApp.log_level=40"],
        resources={"metadata": {"path": path.parent}},
    )
    client.execute()
    nbformat.write(stored_form(notebook), path)
    return time.perf_counter() - start


def main(names: list[str]) -> int:
    paths = [p for n in map(Path, names) for p in (sorted(n.glob("*.ipynb")) if n.is_dir() else [n])]
    failed = []
    with ProcessPoolExecutor(2) as pool:
        runs = {pool.submit(execute, path): path for path in paths}
        for done, run in enumerate(as_completed(runs), 1):
            progress, chapter = f"[{done}/{len(paths)}]", runs[run].stem
            try:
                print(f"{progress} {chapter:<20} {run.result():6.1f} s", flush=True)
            except Exception as error:
                failed.append(chapter)
                print(f"{progress} {chapter:<20} FAILED\n{error}", flush=True)
    if failed:
        print("Chapters that failed:", ", ".join(sorted(failed)))
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:] or ["nbs"]))
