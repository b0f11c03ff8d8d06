"""What a caller writes, with types: `test_user_script.py` runs it, and lets type checkers read it."""

from functools import partial
from pathlib import Path
from typing import assert_type

import pandas as pd
import torch
from torch import Tensor

import helmholtz_mim as hm
from helmholtz_mim import (
    DATASETS,
    ENGINES,
    SGD,
    Adam,
    Checkpoint,
    Completion,
    EarlyStopping,
    FactorialMIM,
    HelmholtzMachine,
    Interrupted,
    NotApplicable,
    Optimizer,
    Patterns,
    Phases,
    Reweighted,
    Rule,
    TrainConfig,
    WakeSleep,
    collapse_report,
    complete,
    complete_gibbs,
    dataset,
    down,
    downward,
    dream,
    encode,
    exact_completion,
    exact_log_likelihood,
    exact_report,
    gibbs,
    intervals,
    kl,
    ladder,
    load,
    log_likelihood,
    losses,
    mutual_information,
    recognise,
    reconstruct,
    sample,
    sampled_report,
    save,
    scheme,
    states,
    train,
    up,
    upward,
    verdict,
    wake,
    well_formed,
)


class Likelier(Rule):
    """A rule of one's own."""

    def __call__(self, layer: int, p: Tensor, u: Tensor) -> Tensor:
        return (p > 0.5).to(p)


class RMSprop(Optimizer):
    """An optimiser of one's own."""

    def over(self, weights: list[Tensor], lr: float) -> torch.optim.Optimizer:
        return torch.optim.RMSprop(weights, lr)


def tossed(layer: int, p: Tensor, u: Tensor) -> Tensor:
    """A function is a rule, too."""
    return (u < p).to(p)


def trained(patterns: Patterns, generator: torch.Generator) -> tuple[HelmholtzMachine, pd.DataFrame]:
    """A machine, and what was measured on the way."""
    machine = HelmholtzMachine((8, 4, 2), bias=True, replicas=3)
    config = TrainConfig(epochs=4, batch=9, fraction=0.5, anneal=0.7, report_every=2)
    stop = EarlyStopping(patterns, patience=2, particles=3)
    history = train(
        machine, patterns, config, allocate=Phases(awake=FactorialMIM()), method=Reweighted(particles=2),
        optimizer=Adam(0.003, schedule="cosine"), report=exact_report, stop=stop,
        checkpoint=Checkpoint("run.safetensors"), engine="auto", generator=generator,
    )  # fmt: skip
    assert_type(history, pd.DataFrame)
    return stop.restore_(machine), history


def train_otherwise(patterns: Patterns, generator: torch.Generator) -> None:
    """All that an argument of training may be."""
    assert_type(ENGINES, dict[str, str])
    once = TrainConfig(1, every=2)
    report = partial(sampled_report, samples=80, generator=generator)
    for allocate in (sample, Likelier(), tossed, scheme("flip", rate=0.1)):
        train(HelmholtzMachine((8, 4)), patterns, once, allocate=allocate, engine="torch", generator=generator)
    train(HelmholtzMachine((8, 4)), patterns.bits, once, report=report, optimizer=RMSprop(0.01), generator=generator)
    try:
        machine = HelmholtzMachine((8, 4))
        train(machine, patterns, once, method=WakeSleep(), optimizer=SGD(momentum=0.5), engine="batched", generator=generator)
    except NotApplicable as reason:
        print(reason)
    except Interrupted as interrupted:
        assert_type(interrupted.history, pd.DataFrame)


def main() -> None:
    """Data, training, measures, dreams, completion, files."""
    generator = torch.Generator().manual_seed(0)
    patterns = well_formed(8)
    assert_type(patterns, Patterns)
    assert_type(dataset("bars"), Patterns)
    assert_type(DATASETS["bars"](), Patterns)
    assert_type(patterns.entropy, float)
    assert_type(hm.Patterns([[0, 1], [1, 1]], weights=[1, 2]).units, int)

    machine, history = trained(patterns, generator)
    train_otherwise(patterns, generator)
    save(machine, Path("machine.safetensors"), epochs=4)
    assert_type(load("machine.safetensors"), HelmholtzMachine)
    last = history.query("step == step.max()")
    print(last.groupby(["measure", "direction"])["value"].mean())

    x = patterns.bits
    z = wake(machine, patterns, generator=generator)
    assert_type(z, list[Tensor])
    assert_type(dream(machine, 5, Likelier(), generator=generator), list[Tensor])
    assert_type(hm.log_prob(down(machine), z) - hm.log_prob(up(machine), z), Tensor)
    assert_type(machine.recognition[0](x), Tensor)
    assert_type(machine.recognition[0].log_prob(z[1], z[0]), Tensor)
    assert_type(encode(states(3)), Tensor)

    p, q = upward(machine, patterns), downward(machine)
    assert_type(kl(p[0], q[0]), Tensor)
    assert_type(mutual_information(machine.recognition[0], p[0]), Tensor)
    assert_type(exact_log_likelihood(machine, x), Tensor)
    assert_type(log_likelihood(machine, x, 10, generator=generator), Tensor)
    assert_type(ladder(machine, patterns, (1, 2000), generator=generator), pd.DataFrame)
    assert_type(losses(machine, patterns, generator=generator), pd.DataFrame)
    assert_type(exact_report(machine, patterns), pd.DataFrame)
    assert_type(intervals(sampled_report(machine, patterns, samples=80, generator=generator)), pd.DataFrame)

    mask = torch.arange(8) < 4
    found = complete(machine, patterns, mask, 3, particles=50, generator=generator)
    assert_type(found, Completion)
    assert_type(found.probability, Tensor)
    assert_type(exact_completion(machine, x, mask), Tensor)
    assert_type(complete_gibbs(machine, x, mask, 3, steps=2, move=gibbs, generator=generator), Tensor)
    assert_type(reconstruct(machine, x, layer=1, generator=generator), Tensor)
    assert_type(recognise(machine, x, samples=2, generator=generator), list[Tensor])

    code = z[1][0]
    report = collapse_report(code.numpy())
    assert_type(report, pd.DataFrame)
    assert_type(verdict(report), str)
    print(verdict(report))


if __name__ == "__main__":
    main()
