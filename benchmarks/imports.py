"""How long it takes to load: processor time of `import torch`, of all names of the package beyond it, and of a command.

Everything happens in a fresh interpreter, in turn; the median of several is what is printed.

usage: python benchmarks/imports.py [repetitions]
"""

import subprocess
import sys
from statistics import median

HEAVY = ("numba", "scipy", "matplotlib", "sklearn", "ipywidgets")
CODE = f"""
import sys, time
start = time.process_time()
import torch
middle = time.process_time()
from helmholtz_mim import *
print(middle - start, time.process_time() - middle, *(name for name in {HEAVY} if name in sys.modules))
"""
LINE = f"""
import contextlib, io, sys, time
from helmholtz_mim.__main__ import main
with contextlib.suppress(SystemExit), contextlib.redirect_stdout(io.StringIO()):
    main(sys.argv[1:])
print(time.process_time(), *(name for name in {HEAVY} if name in sys.modules))
"""
LINES = ("--version", "--help")


def measured(code: str, *words: str) -> list[str]:
    """What the code prints: seconds, and which heavy packages came along."""
    command = [sys.executable, "-c", code, *words]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def told(what: str, seconds: list[float], base: float, heavy: list[str]) -> None:
    """Print the median, in seconds and as a share of torch's own, its range, and what was loaded."""
    spread = f"{min(seconds):.2f} to {max(seconds):.2f}"
    with_it = ", ".join(heavy) or "nothing heavy"
    print(f"{what:<36}{median(seconds):.2f} s ({spread}), {median(seconds) / base:.2f} of torch's own time, with {with_it}")


def main(repetitions: int = 7) -> None:
    measured(CODE)  # the disk's own memory is warm after this
    runs = [(measured(CODE), [measured(LINE, line) for line in LINES]) for _ in range(repetitions)]
    base = median(float(own[0]) for own, _ in runs)
    told("import torch", [float(own[0]) for own, _ in runs], base, [])
    told("from helmholtz_mim import *, beyond", [float(own[1]) for own, _ in runs], base, runs[0][0][2:])
    for line, found in zip(LINES, zip(*(lines for _, lines in runs), strict=True), strict=True):
        told(f"helmholtz-mim {line}", [float(seconds) for seconds, *_ in found], base, found[0][1:])


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
