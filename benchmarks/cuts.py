"""Seconds of a step alone, and of two ranks that share the units or the rows: python -m torch.distributed.run --standalone
--nproc-per-node 2 benchmarks/cuts.py [FILE]. One thread a rank; medians, alone and together in turn. Writes results/cuts/steps.csv."""

import sys
import time
from pathlib import Path
from statistics import median

import pandas as pd
import torch
import torch.distributed as dist

from helmholtz_mim import HelmholtzMachine, Patterns, TrainConfig, train
from helmholtz_mim.ranks import Ranks, together

MACHINES = [((w, w), 100) for w in (512, 1024, 2048, 4096, 8192)] + [((w, w), 1000) for w in (512, 2048)]
OTHERS = [((784, 512, 512, 256), 100), ((3000, 3000, 3000), 200)]  # no model is fitted to these
ENGINES = {"alone": "batched", "units": "spread", "rows": "rows"}


def engine_for(name, sizes, batch, chance):
    """An engine at work with a machine of such layers."""
    seen = []
    machine = HelmholtzMachine(sizes, bias=True).randomise_(0.01, generator=chance)
    bits = Patterns(torch.rand(batch, sizes[0], generator=chance) < 0.5)
    train(machine, bits, TrainConfig(1, batch=batch), engine=ENGINES[name], checkpoint=seen.append, generator=chance)
    return seen[-1].trainer.engine


def timed(engine, batch, most=40, budget=2.0):
    """Seconds of each of some steps; of as many on every rank."""
    ranks, data, turn = getattr(engine, "ranks", Ranks()), torch.arange(batch), torch.zeros(batch, dtype=torch.bool)

    def step():
        begin = time.perf_counter()
        engine.step(data, turn)
        return time.perf_counter() - begin

    step()
    steps = int(min(most, max(5, budget / step())))
    return [step() for _ in range(ranks.told(steps))]


def main(path="results/cuts/steps.csv"):
    rows = []
    with together(600) as ranks:
        for sizes, batch in MACHINES + OTHERS:
            for cut in ENGINES:
                dist.barrier()
                if cut == "alone" and ranks.rank:
                    continue
                engine = engine_for(cut, sizes, batch, torch.Generator().manual_seed(0))
                times = timed(engine, batch)
                count = 1 if cut == "alone" else ranks.count
                rows.append(["-".join(map(str, sizes)), batch, cut, count, len(times), f"{median(times):.4g}", f"{min(times):.4g}"])
                if ranks.rank == 0:
                    print(*rows[-1], flush=True)
                del engine
        if ranks.rank == 0:
            Path(path).parent.mkdir(parents=True, exist_ok=True)
            pd.DataFrame(rows, columns="sizes batch cut ranks steps seconds fastest".split()).to_csv(path, index=False)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*sys.argv[1:])
