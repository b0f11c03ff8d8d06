"""What an allocation costs: ratios, all measured in this one run.

usage: python benchmarks/allocation.py

Steps with every layer allocated take turns with steps in which every layer is sampled, on one thread; the best of
several rounds counts. The machine has random weights that hardly move, so that all rules meet the same activity: a
step's cost grows with the units that are on, and rules differ in how many they leave on.
"""

import time

import torch

from helmholtz_mim import CategoricalMIM, FactorialMIM, Flip, HelmholtzMachine, TrainConfig, sample, well_formed
from helmholtz_mim.engines.compiled import compiled
from helmholtz_mim.streams import Stream

RHYTHMS, EPOCHS, ROUNDS = well_formed(12), 40, 7


def runner(rule, every):
    """A function that gives the microseconds of a step of a machine whose layers are allocated every so often."""
    generator = torch.Generator().manual_seed(0)
    machine = HelmholtzMachine((12, 10, 8, 6, 3)).double().randomise_(1.0, generator=generator)
    if hasattr(rule, "begin"):
        rule.begin(machine, RHYTHMS, 0.1, generator)
    streams = (Stream((), generator=generator) for _ in range(2))
    advance = compiled(machine, RHYTHMS, TrainConfig(epochs=1, lr=1e-12, every=every), rule, *streams)
    advance(1)

    def microseconds():
        start = time.perf_counter()
        advance(EPOCHS)
        return (time.perf_counter() - start) / EPOCHS / RHYTHMS.epoch * 1e6

    return microseconds


def main():
    """Print a line for each rule."""
    torch.set_num_threads(1)
    never = 10**9
    contenders = {"sampled": runner(sample, never)}
    for name, make in [("flip", Flip), ("factorial", FactorialMIM), ("categorical", CategoricalMIM)]:
        contenders[f"{name}, always"], contenders[f"{name}, never"] = runner(make(), 1), runner(make(), never)
    times = {name: run() for name, run in contenders.items()}
    for _ in range(ROUNDS):
        times = {name: min(times[name], run()) for name, run in contenders.items()}
    print("one wake-sleep step on 12-10-8-6-3, one thread")
    for name, microseconds in times.items():
        print(f"  {name:20} {microseconds:7.2f} µs   {microseconds / times['sampled']:6.2f} × a sampled step")
    cost = times["categorical, always"] - times["categorical, never"]
    print(f"one categorical allocation of all layers: {cost:.1f} µs (the original code: 26 000 µs, {26000 / cost:.0f} times as much)")


if __name__ == "__main__":
    main()
