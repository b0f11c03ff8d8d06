"""Wide layers: when the compiled engine pays, and what matrix products leave to be gained. Ratios from this one run.

usage: python benchmarks/wide.py

One replica, one thread, patterns of 784 bits with 15 % of them on, as in MNIST. Contenders take turns, and the best of
several rounds counts.
"""

import time
from itertools import pairwise

import torch
from engine import against_before, best, runner, setup

from helmholtz_mim import HelmholtzMachine, Patterns, TrainConfig
from helmholtz_mim.engines.compiled import Compiled

INK = 0.15
IMAGES = (torch.rand(1000, 784, generator=torch.Generator().manual_seed(0)) < INK).float()


def name(sizes):
    """784-200-100, say."""
    return "-".join(map(str, sizes))


def weights(sizes):
    """How many weights either network has."""
    return sum(below * above for below, above in pairwise(sizes))


def floor(sizes):
    """Microseconds of arithmetic in one online step, with scalar and with packed exponentials (the chapter on the loop counts it)."""
    units, hidden, first = sum(sizes), sum(sizes[1:]), sizes[0] * sizes[1]
    down = 3 * 0.5 * weights(sizes)  # the rows of hidden units, half of which are on
    up = 3 * (INK * first + 0.5 * (weights(sizes) - first))  # the rows of pixels and of hidden units
    rest = (units + hidden) * 2 + (down + up) * 0.25
    return [(2 * (units + hidden) * each + rest) / 1000 for each in (4.5, 1.0)]


def online(sizes=(784, 200, 100, 50)):
    """Both engines, one pattern at a time."""
    patterns = Patterns(IMAGES)
    contenders = {
        "reference, float32": runner("torch", sizes, patterns, dtype=torch.float32),
        "reference, float64": runner("torch", sizes, patterns),
        "compiled, float64": runner("compiled", sizes, patterns),
    }
    times = {k: t / len(patterns) * 1e6 for k, t in best(contenders, rounds=5).items()}
    fast = times["compiled, float64"]
    print(f"One online wake-sleep step, {name(sizes)}")
    for label, t in times.items():
        print(f"  {label} {t:>6.0f} us: {t / fast:.1f} times the compiled step")
    scalar, packed = floor(sizes)
    print(f"  arithmetic floor {scalar:.0f} us with scalar exponentials ({fast / scalar:.1f} times), "
          f"{packed:.0f} us with packed ones ({fast / packed:.1f} times)")  # fmt: skip


def traffic(sizes=(784, 200, 100, 50)):
    """Single precision against the loop of before, and against the bytes that a step touches, at the speed of a copy."""
    print(f"One online wake-sleep step, {name(sizes)}, single precision, CPU time")
    ((_, now),) = against_before([("wide", (sizes, 1, "float32", "sample", 1), 10)])
    all_pairs, first = weights(sizes), sizes[0] * sizes[1]
    rows = INK * first + 0.5 * (all_pairs - first) + 0.5 * all_pairs  # of inputs that are on, up and down
    touched = 4 * 4 * rows  # drawn with, predicted with, then read and written by the lesson; four bytes each
    source, seconds = torch.ones(all_pairs), []
    target = torch.empty_like(source)
    for _ in range(200):
        start = time.perf_counter()
        target.copy_(source)
        seconds.append(time.perf_counter() - start)
    speed = 2 * 4 * all_pairs / min(seconds)
    floor_us = touched / speed * 1e6
    print(f"  {touched / 1e6:.2f} MB touched, {floor_us:.0f} us at the {speed / 1e9:.1f} GB/s of a copy: {now / floor_us:.1f} times that")


def products(sizes, batch, dtype):
    """A function that does the matrix products of so many epochs and nothing else, into memory that is there already."""
    shapes = list(pairwise(sizes))
    up = [torch.randn(above, below, dtype=dtype) * 0.1 for below, above in shapes]
    down = [w.mT.contiguous() for w in up]
    z = [torch.rand(batch, n, dtype=dtype).round() for n in sizes]
    out = [torch.empty_like(x) for x in z]

    def step():
        for l in range(len(shapes)):
            for _ in range(2):  # awake and asleep: one product each way
                torch.mm(z[l], up[l].mT, out=out[l + 1])
                torch.mm(z[l + 1], down[l].mT, out=out[l])
            down[l].addmm_(z[l].mT, z[l + 1], alpha=1e-9)
            up[l].addmm_(z[l + 1].mT, z[l], alpha=1e-9)

    def run(epochs):
        start = time.perf_counter()
        for _ in range(epochs * len(IMAGES) // batch):
            step()
        return (time.perf_counter() - start) / epochs

    return run


def batches(sizes=(784, 200, 200, 10), batch=100):
    """The reference step against its bare products."""
    for dtype in (torch.float32, torch.float64):
        contenders = {
            "reference step": runner("torch", sizes, Patterns(IMAGES), batch, dtype=dtype),
            "bare products": products(sizes, batch, dtype),
        }
        times = {k: t / len(IMAGES) * batch * 1e3 for k, t in best(contenders, rounds=5, seconds=0.5).items()}
        step, bare = times.values()
        flops = 12 * weights(sizes) * batch
        print(f"One step of {batch} patterns, {name(sizes)}, {str(dtype).removeprefix('torch.')}")
        print(f"  reference {step:.2f} ms, its {6 * (len(sizes) - 1)} products alone {bare:.2f} ms ({flops / bare / 1e6:.0f} GFLOP/s): "
              f"{bare / step:.2f} of the speed of bare products")  # fmt: skip


def crossing():
    """From which batch on matrix products win, and where `engine="auto"` takes them."""
    print("How many times faster the compiled engine is than the reference, both in float32;")
    print('engine="auto" leaves batches marked * to matrix products')
    sizes_of_batch = (1, 3, 10, 30, 100)
    print(f"  {'layers':<16} {'weights':>8}" + "".join(f" {f'batch {b}':>10}" for b in sizes_of_batch))
    for sizes in [(12, 10, 8, 6, 3), (64, 48, 32, 16), (196, 64, 32), (784, 50), (784, 200, 200)]:
        patterns = Patterns(IMAGES[: 1000 if sizes[0] < 784 else 300, : sizes[0]])
        row = ""
        for batch in sizes_of_batch:
            contenders = {e: runner(e, sizes, patterns, batch, dtype=torch.float32) for e in ("torch", "compiled")}
            times = best(contenders, rounds=3, seconds=0.1)
            run = setup(HelmholtzMachine(sizes), patterns, TrainConfig(epochs=1, batch=batch))
            mark = " " if Compiled.is_faster(run) else "*"
            row += f" {times['torch'] / times['compiled']:>9.2f}{mark}"
        print(f"  {name(sizes):<16} {weights(sizes):>8}{row}", flush=True)


def main():
    """Print the three measurements."""
    torch.set_num_threads(1)
    traffic()
    online()
    batches()
    crossing()


if __name__ == "__main__":
    main()
