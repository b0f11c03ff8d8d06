"""How long the package takes to load: processor time of `import torch`, and of all names of the package beyond it.

Every import happens in a fresh interpreter, in turn; the median of several is what is printed.

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


def measured() -> tuple[float, float, list[str]]:
    """Seconds of torch, seconds beyond it, and which heavy packages came along."""
    words = subprocess.run([sys.executable, "-c", CODE], capture_output=True, text=True, check=True).stdout.split()
    return float(words[0]), float(words[1]), words[2:]


def main(repetitions: int = 7) -> None:
    measured()  # the disk's own memory is warm after this
    torch, beyond, heavy = zip(*(measured() for _ in range(repetitions)), strict=True)
    base, more = median(torch), median(beyond)
    print(f"import torch                 {base:.2f} s ({min(torch):.2f} to {max(torch):.2f})")
    spread = f"{min(beyond):.2f} to {max(beyond):.2f}"
    print(f"from helmholtz_mim import *  {more:.2f} s beyond it ({spread}), {more / base:.2f} of torch's own time")
    print(f"loaded with it: {', '.join(heavy[0]) or 'none of ' + ', '.join(HEAVY)}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
