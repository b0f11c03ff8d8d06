"""One step over a batch: bare products, this package's engines, and Pyro's reweighted wake-sleep. Ratios from this one run.

usage: python benchmarks/batches.py

One thread, 784-200-200-10, batches of 100 patterns with 15 % of their bits on. Contenders take turns, and the least CPU time
of several rounds counts. "Bare products" are the matrix products that a step cannot do without, zeros included, into memory
that is there already. Pyro is measured if it can be imported: it belongs into an environment of its own, with this package
beside it (pip install pyro-ppl==1.9.1). Pyro refuses a single particle, so it is compared at two.
"""

import time
from itertools import pairwise

import torch
from engine import best, runner
from wide import IMAGES, name, weights

from helmholtz_mim import Adam, Patterns, Reweighted
from helmholtz_mim.engines.batched import Batched
from helmholtz_mim.engines.reference import Engine

SIZES, BATCH = (784, 200, 200, 10), 100


class Dense(Batched):
    """The batched engine without skipping zeros."""

    run = Engine.run


def cpu(run):
    """A function that calls another with a number of epochs, and returns the seconds of CPU time of one."""

    def seconds(epochs):
        begin = time.process_time()
        run(epochs)
        return (time.process_time() - begin) / epochs

    return seconds


def engine(kind, **options):
    """A function that trains for so many epochs and returns the seconds of one."""
    return cpu(runner(kind, SIZES, Patterns(IMAGES), BATCH, dtype=torch.float32, **options))


def products(rows):
    """The products of an epoch whose days are so many rows wide and whose nights are a batch wide."""
    shapes = list(pairwise(SIZES))
    up = [torch.randn(above, below) * 0.1 for below, above in shapes]
    down = [w.mT.contiguous() for w in up]
    day, night = ([torch.rand(many, n).round() for n in SIZES] for many in (rows, BATCH))
    out = {many: [torch.empty(many, n) for n in SIZES] for many in (rows, BATCH)}

    def phase(z, taught):
        for l in range(len(shapes)):  # one product each way, to draw and to predict
            torch.mm(z[l], up[l].mT, out=out[len(z[l])][l + 1])
            torch.mm(z[l + 1], down[l].mT, out=out[len(z[l])][l])
            taught(l)

    def step():
        phase(day, lambda l: down[l].addmm_(day[l].mT, day[l + 1], alpha=1e-9))
        phase(night, lambda l: up[l].addmm_(night[l + 1].mT, night[l], alpha=1e-9))

    def run(epochs):
        for _ in range(epochs * len(IMAGES) // BATCH):
            step()

    return cpu(run)


def pyro_step():
    """Pyro's ReweightedWakeSleep on the same machine: two particles, recognition from sleep; None without Pyro."""
    try:
        import pyro
        import pyro.distributions as dist
        from pyro.infer import ReweightedWakeSleep
    except ImportError:
        return None
    up = torch.nn.ModuleList(torch.nn.Linear(below, above) for below, above in pairwise(SIZES))
    down = torch.nn.ModuleList(torch.nn.Linear(above, below) for below, above in pairwise(SIZES))
    prior = torch.nn.Parameter(torch.zeros(SIZES[-1]))

    def draw(layer, logits, **options):
        return pyro.sample(f"z{layer}", dist.Bernoulli(logits=logits).to_event(1), **options)

    def model(x):
        pyro.module("down", down)
        z = prior
        with pyro.plate("data", len(x)):
            z = draw(len(SIZES) - 1, pyro.param("prior", prior).expand(len(x), -1))
            for l in range(len(SIZES) - 2, -1, -1):
                z = draw(l, down[l](z), **({"obs": x} if l == 0 else {}))

    def guide(x, observations=None):
        pyro.module("up", up)
        z = observations["z0"] if observations else x
        with pyro.plate("data", len(x)):
            for l, layer in enumerate(up, start=1):
                z = draw(l, layer(z))

    loss = ReweightedWakeSleep(num_particles=2, insomnia=0.0, num_sleep_particles=1, max_plate_nesting=1)
    svi = pyro.infer.SVI(model, guide, pyro.optim.SGD({"lr": 0.1 / BATCH}), loss=loss)

    def run(epochs):
        with torch.enable_grad():
            for _ in range(epochs):
                for x in IMAGES.split(BATCH):
                    svi.step(x)

    return cpu(run)


def main():
    """Print the table."""
    torch.set_num_threads(1)
    two, five = Reweighted(2), Reweighted(5)
    # each with the bare products that it is compared to
    contenders = {
        "bare products": (products(BATCH), "bare products"),
        "batched, plain steps": (engine("batched"), "bare products"),
        "  without skipping zeros": (engine("batches:Dense"), "bare products"),
        "batched, Adam": (engine("batched", optimizer=Adam()), "bare products"),
        "reference": (engine("torch"), "bare products"),
        "products, two particles": (products(2 * BATCH), "products, two particles"),
        "batched, two particles": (engine("batched", method=two), "products, two particles"),
        "reference, two particles": (engine("torch", method=two), "products, two particles"),
        "Pyro, two particles": (pyro_step(), "products, two particles"),
        "products, five particles": (products(5 * BATCH), "products, five particles"),
        "batched, five particles": (engine("batched", method=five), "products, five particles"),
        "  without skipping zeros, five": (engine("batches:Dense", method=five), "products, five particles"),
    }
    runs = {label: run for label, (run, _) in contenders.items() if run}
    times = {label: t / len(IMAGES) * BATCH * 1e3 for label, t in best(runs, rounds=7, seconds=0.4).items()}
    flops = 12 * weights(SIZES) * BATCH
    print(f"One step of {BATCH} patterns, {name(SIZES)}, single precision, one thread: {flops / 1e6:.0f} MFLOP, "
          f"{flops / times['bare products'] / 1e6:.0f} GFLOP/s in bare products")  # fmt: skip
    for label, t in times.items():
        print(f"  {label:<30} {t:6.2f} ms   its products / this {times[contenders[label][1]] / t:5.2f}")
    if "Pyro, two particles" in times:
        ratio = times["Pyro, two particles"] / times["batched, two particles"]
        print(f"  Pyro takes {ratio:.1f} times as long as the batched engine at two particles, "
              f"{times['Pyro, two particles'] / times['batched, plain steps']:.1f} times as one plain step")  # fmt: skip
    else:
        print("  Pyro is not installed here, so it was not measured")


if __name__ == "__main__":
    main()
