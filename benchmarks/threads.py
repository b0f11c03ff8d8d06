"""What the number of threads costs, alone and in a crowd: ratios, all measured in this one run.

usage: python benchmarks/threads.py

A few epochs of the README's example, reports included, with as many threads as torch takes by itself and with one; then
the same beside two busy processes for every processor. The default should be never far from the better of the two.
"""

import os
import subprocess
import sys
import time

import torch

from helmholtz_mim import HelmholtzMachine, TrainConfig, exact_report, scheme, train, well_formed

ROUNDS, EPOCHS = 3, 10


def seconds(threads):
    """How long the example takes with so many threads; the best of several rounds."""
    torch.set_num_threads(threads)
    return min(example() for _ in range(ROUNDS))


def example():
    """The seconds of one short run."""
    machine, config = HelmholtzMachine((12, 10, 8, 6, 3), replicas=(16,)), TrainConfig(EPOCHS, report_every=2)
    start = time.perf_counter()
    train(machine, well_formed(12), config, allocate=scheme("mim"), report=exact_report, generator=torch.Generator().manual_seed(0))
    return time.perf_counter() - start


def main():
    """Print a line for the machine as it is, and one for the machine in a crowd."""
    default = torch.get_num_threads()
    example()
    for neighbours in (0, 2 * os.cpu_count()):
        crowd = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(neighbours)]
        many, one = seconds(default), seconds(1)
        for process in crowd:
            process.kill()
        print(f"beside {neighbours} busy processes: {many:.2f} s with {default} threads, {one:.2f} s with one: {many / one:.2f} ×")


if __name__ == "__main__":
    main()
