"""How fast exact reports and step sizes are: ratios to the package as it was at commit 6a0e7ca, in CPU time of one thread.

usage: python benchmarks/exact.py

Both versions take turns in processes of their own, and the best of several rounds counts.
"""

import io
import os
import subprocess
import sys
import tarfile
import tempfile
import time
from pathlib import Path

import torch

ROOT, BEFORE, REPLICAS, SIZES = Path(__file__).parent.parent, "6a0e7ca", 16, (12, 10, 8, 6, 3)
WORK = f"""
import time, torch
from helmholtz_mim import FactorialMIM, HelmholtzMachine, down, exact_report, up, well_formed
world, rules = well_formed(12), (FactorialMIM(), FactorialMIM())
machine = HelmholtzMachine({SIZES}, replicas=({REPLICAS},)).randomise_(1.0, generator=torch.Generator().manual_seed(0))
jobs = [lambda: exact_report(machine, world), lambda: rules[0].begin(up(machine), world, 0.1, None),
        lambda: rules[1].begin(down(machine), world, 0.1, None)]
for job in jobs:
    job()
    times = []
    for _ in range(8):
        start = time.process_time()
        job()
        times.append(time.process_time() - start)
    print(min(times) / {REPLICAS} * 1e3)
"""


def measured(folder):
    """Milliseconds a replica: a report, and the beginning of an epoch upwards and downwards."""
    environment = os.environ | dict(OMP_NUM_THREADS="1", PYTHONPATH=str(folder))
    run = subprocess.run([sys.executable, "-c", WORK], capture_output=True, text=True, check=True, env=environment, cwd=folder)
    return [float(line) for line in run.stdout.split()[-3:]]


def product(outputs, inputs):
    """Milliseconds a replica that the bare product of the two half tables takes."""
    left, right = (torch.rand(REPLICAS, 2**n, inputs).double() for n in ((outputs + 1) // 2, outputs // 2))
    times = []
    for _ in range(20):
        start = time.process_time()
        _ = left @ right.mT
        times.append(time.process_time() - start)
    return min(times) / REPLICAS * 1e3


def main(rounds=3):
    torch.set_num_threads(1)
    archive = subprocess.run(["git", "archive", BEFORE, "helmholtz_mim"], cwd=ROOT, capture_output=True, check=True).stdout
    with tempfile.TemporaryDirectory() as old:
        tarfile.open(fileobj=io.BytesIO(archive)).extractall(old, filter="data")
        turns = [(measured(old), measured(ROOT)) for _ in range(rounds)]
    rising = [(SIZES[1], 905)] + [(m, 2**n) for n, m in zip(SIZES[1:], SIZES[2:], strict=False)]
    falling = [(n, 2**m) for n, m in zip(SIZES, SIZES[1:], strict=False)]
    floors = [sum(product(*p) for p in pairs) for pairs in (rising + falling, rising, falling)]
    print(f"Milliseconds of CPU time a replica, {REPLICAS} replicas of {'-'.join(map(str, SIZES))} on 905 patterns, one thread")
    print(f"  {'':<14} {'before':>7} {'now':>7} {'ratio':>6} {'bare products':>14}")
    olds, news = (map(min, zip(*side, strict=True)) for side in zip(*turns, strict=True))
    for name, before, now, floor in zip(("report", "begin, upward", "begin, downward"), olds, news, floors, strict=True):
        print(f"  {name:<14} {before:>7.2f} {now:>7.2f} {before / now:>6.1f} {floor:>14.2f}")


if __name__ == "__main__":
    main()
