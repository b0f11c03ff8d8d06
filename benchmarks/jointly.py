"""A likelihood by one process, and by all ranks together, in turn: python -m torch.distributed.run --standalone
--nproc-per-node 2 benchmarks/jointly.py. One thread a rank; the fastest of some, and how many times faster together."""

import time

import torch
import torch.distributed as dist

from helmholtz_mim import HelmholtzMachine, log_likelihood
from helmholtz_mim.ranks import jointly, together

MACHINES = [((784, 200, 200, 200), 200, 100), ((2048, 2048), 100, 20)]  # sizes, data, particles


def timed(machine, x, particles):
    """Seconds, and what was found."""
    begin = time.perf_counter()
    found = log_likelihood(machine, x, particles, generator=torch.Generator().manual_seed(1))
    return time.perf_counter() - begin, found


def main():
    with together(600) as ranks:
        for sizes, data, particles in MACHINES:
            chance = torch.Generator().manual_seed(0)
            machine = HelmholtzMachine(sizes, bias=True).randomise_(0.05, generator=chance)
            x = (torch.rand(data, sizes[0], generator=chance) < 0.5).float()
            alone, shared = [], []
            for _ in range(5):
                dist.barrier()
                if ranks.rank == 0:
                    alone.append(timed(machine, x, particles))
                dist.barrier()
                with jointly(ranks):
                    shared.append(timed(machine, x, particles))
            if ranks.rank == 0:
                one, all_of_them = min(alone)[0], min(shared)[0]
                apart = (alone[0][1] - shared[0][1]).abs().max()
                words = f"alone {one:.2f} s, {ranks.count} ranks {all_of_them:.2f} s: {one / all_of_them:.2f} times faster"
                print("-".join(map(str, sizes)), f"{data} data, {particles} particles: {words}; {apart:.1g} nats apart", flush=True)


if __name__ == "__main__":
    torch.set_num_threads(1)
    main()
