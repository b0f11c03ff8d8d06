"""One step over a batch: bare products, this package's engines, and Pyro's reweighted wake-sleep. Ratios from this one run.

usage: python benchmarks/batches.py

One thread, 784-200-200-10, batches of 100 patterns with 15 % of their bits on. Contenders take turns, and the best of several
rounds counts. Pyro is measured if it can be imported: it belongs into an environment of its own, with this package beside it
(pip install pyro-ppl==1.9.1). Pyro refuses a single particle, so it is compared at two.
"""

import time
from itertools import pairwise

import torch
from engine import best, runner
from wide import IMAGES, name, products, weights

from helmholtz_mim import Adam, Patterns, Reweighted

SIZES, BATCH = (784, 200, 200, 10), 100


def engine(kind, **options):
    """A function that trains for so many epochs and returns the seconds of one."""
    return runner(kind, SIZES, Patterns(IMAGES), BATCH, dtype=torch.float32, **options)


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
        start = time.perf_counter()
        with torch.enable_grad():
            for _ in range(epochs):
                for x in IMAGES.split(BATCH):
                    svi.step(x)
        return (time.perf_counter() - start) / epochs

    return run


def main():
    """Print the table."""
    torch.set_num_threads(1)
    contenders = {
        "bare products": products(SIZES, BATCH, torch.float32),
        "batched, plain steps": engine("batched"),
        "batched, Adam": engine("batched", optimizer=Adam()),
        "batched, two particles": engine("batched", method=Reweighted(2)),
        "batched, five particles": engine("batched", method=Reweighted(5)),
        "reference": engine("torch"),
        "reference, two particles": engine("torch", method=Reweighted(2)),
        "Pyro, two particles": pyro_step(),
    }
    contenders = {label: run for label, run in contenders.items() if run}
    times = {label: t / len(IMAGES) * BATCH * 1e3 for label, t in best(contenders, rounds=5, seconds=0.5).items()}
    bare, flops = times["bare products"], 12 * weights(SIZES) * BATCH
    print(f"One step of {BATCH} patterns, {name(SIZES)}, single precision: {flops / 1e6:.0f} MFLOP, "
          f"{flops / bare / 1e6:.0f} GFLOP/s in bare products")  # fmt: skip
    for label, t in times.items():
        print(f"  {label:<28} {t:6.2f} ms   bare products / this {bare / t:5.2f}")
    if "Pyro, two particles" in times:
        ratio = times["Pyro, two particles"] / times["batched, two particles"]
        print(f"  Pyro takes {ratio:.1f} times as long as the batched engine at two particles, "
              f"{times['Pyro, two particles'] / times['batched, plain steps']:.1f} times as one plain step")  # fmt: skip
    else:
        print("  Pyro is not installed here, so it was not measured")


if __name__ == "__main__":
    main()
