"""What an allocation costs: ratios, all measured in this one run.

usage: python benchmarks/allocation.py

Steps with every layer allocated take turns with steps in which every layer is sampled, on one thread; the best of
several rounds counts. The machine has random weights that hardly move, so that all rules meet the same activity: a
step's cost grows with the units that are on, and rules differ in how many they leave on.
"""

import torch
from engine import setup, timed

from helmholtz_mim import CategoricalMIM, FactorialMIM, Flip, HelmholtzMachine, TrainConfig, sample, up, well_formed

RHYTHMS, EPOCHS, ROUNDS = well_formed(12), 40, 7


def runner(rule, every):
    """A function that gives the microseconds of a step of a machine whose layers are allocated every so often."""
    generator = torch.Generator().manual_seed(0)
    machine = HelmholtzMachine((12, 10, 8, 6, 3)).double().randomise_(1.0, generator=generator)
    run = setup(machine, RHYTHMS, TrainConfig(epochs=1, lr=1e-12, every=every), rule)
    rule.begin(up(machine), RHYTHMS, 0.1, generator)
    seconds = timed("compiled", run)
    return lambda: seconds(EPOCHS) / RHYTHMS.epoch * 1e6


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
