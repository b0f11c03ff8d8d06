"""Every refusal of training, its rules, methods and engines says what to do instead, and who does that succeeds."""

import ast
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import helmholtz_mim
from helmholtz_mim import (
    SGD,
    Adam,
    BinaryLayer,
    CategoricalMIM,
    EarlyStopping,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    Kernel,
    Optimizer,
    Patterns,
    Phases,
    Reweighted,
    Rule,
    TrainConfig,
    ais_log_likelihood,
    channel,
    exact_log_likelihood,
    exact_report,
    importance,
    mutual_information,
    sampled_report,
    save,
    scheme,
    states,
    train,
    up,
    upward,
    well_formed,
)
from helmholtz_mim.arguments import check_memory
from helmholtz_mim.engines.reference import Engine
from helmholtz_mim.ranks import Ranks
from helmholtz_mim.measures.meaning import causal
from helmholtz_mim.pushforward import log_table
from helmholtz_mim.rule import Remembering
from helmholtz_mim.rules.factorial import leave_one_out, soft_mean
from helmholtz_mim.training import ENGINES

PACKAGE = Path(helmholtz_mim.__file__).parent
TWICE = TrainConfig(2, report_every=2)
EACH = TrainConfig(1, every=1)


def chance(seed=1):
    return torch.Generator().manual_seed(seed)


def silent(machine, patterns):
    """A report of nothing."""
    return pd.DataFrame()


def trained(machine=None, config=TWICE, patterns=None, **options):
    """A machine after two epochs, if nobody refuses."""
    machine = HelmholtzMachine((8, 4, 2)).double() if machine is None else machine
    train(
        machine,
        well_formed(8) if patterns is None else patterns,
        config,
        **{"generator": chance(), "report": silent} | options,
    )
    return machine


def on(engine, **options):
    return lambda: trained(engine=engine, **{name: make() for name, make in options.items()})


def there(**options):
    """Who follows the advice to take an engine takes the one that it names."""
    return lambda engine: trained(engine=engine, **{name: make() for name, make in options.items()})


class Doubled(BinaryLayer):
    """A layer that means something else by its weights."""

    def logits(self, x):
        return 2 * super().logits(x)


def other(part="recognition"):
    """A machine in single precision that has one such layer."""
    machine = HelmholtzMachine((8, 4, 2)).double()
    machine.randomise_(1.0, generator=chance())
    layer = Doubled(8, 4) if part == "recognition" else Doubled(4, 8)
    getattr(machine, part)[0] = layer
    layer.weight.normal_(generator=chance())
    return machine


def narrow():
    """A machine whose first layer has fewer units than its sizes say."""
    machine = HelmholtzMachine((8, 4)).double()
    machine.generative[0], machine.recognition[0] = BinaryLayer(4, 8, bias=True), BinaryLayer(8, 4, bias=True)
    return machine


class Marked(Rule):
    """A rule whose compiled form has as many numbers as its maker gives it."""

    def __init__(self, memory, starts):
        self.memory, self.starts = memory, starts

    def __call__(self, layer, p, u):
        return (u < p).to(p)

    def kernel(self, chain):
        return Kernel(all_off, None, self.memory, self.starts, width=lambda units: 1)


def all_off(layer, p, u, memory, y):
    for j in range(p.size):
        y[j] = memory[0]


SHARED = np.ones((1, 3))


class Kept(Rule):
    """A coin with a kernel that has a memory, or with none that works."""

    def __init__(self, memory=None, decide=all_off):
        self.memory, self.decide = memory, decide

    def __call__(self, layer, p, u):
        return (u < p).to(p)

    def kernel(self, chain):
        memory = np.ones((1, 3)) if self.memory is None else self.memory
        return Kernel(self.decide, None, memory, np.arange(4), width=lambda units: 1)


def sharing():
    machine = HelmholtzMachine((8, 8, 8))
    machine.recognition[1] = machine.recognition[0]
    return machine


def likeliest(layer, p, u):
    return (p > 0.5).to(p)


def of_another_machine():
    trained(allocate=(rule := FactorialMIM()))
    trained(allocate=rule)


def asleep_and_awake():
    rule = FactorialMIM()
    trained(allocate=Phases(rule, rule))


def bound(rule):
    """A rule that has begun."""
    machine = HelmholtzMachine((8, 4, 2))
    rule.begin(up(machine), well_formed(8), 0.1, chance())
    return rule


def wide(rule, **options):
    return trained(HelmholtzMachine((8, 20, 2)), allocate=rule, **options)


def unmoved(rule):
    """Two epochs of data in which no unit is ever on."""
    return trained(patterns=Patterns(torch.zeros(3, 8)), allocate=rule)


def exploding(lr):
    """Training from weights near the edge of single precision, 3.4e38."""
    machine = HelmholtzMachine((8, 5, 2), bias=True).float().randomise_(5e37, generator=chance(0))
    return trained(machine, TrainConfig(6, batch=10, lr=lr, report_every=6), engine="torch", generator=chance(0))


def single():
    return HelmholtzMachine((8, 4, 2)).float()


def among(count, cut="spread", width=1):
    """Training as the first of so many ranks, so many on a computer, of which the others are made up, and differ."""

    def call():
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, count)))
            patch.setenv("LOCAL_WORLD_SIZE", str(width))
            patch.setattr(Ranks, "everybody", lambda self, mine: torch.stack([mine + k for k in range(self.count)]))
            return trained(single(), engine=cut)

    return call


ENGINE_CASES = {
    "more ranks than units": (among(9), r"start at most (\d+)", lambda most: trained(single(), engine="spread")),
    "more ranks than rows": (
        among(9, "rows"),
        r"start at most (\d), or take larger batches",
        lambda most: trained(single(), config=replace(TWICE, batch=9), engine="rows"),
    ),
    "ranks that fill no computer": (among(3, "grid", 2), "start as many on every computer", on("grid", machine=single)),
    "ranks that differ": (among(2), "start all of them with the same command", on("spread", machine=single)),
    "a rule for whole layers, spread": (
        on("spread", machine=single, allocate=CategoricalMIM),
        "engine='(.*)'",
        there(machine=single, allocate=CategoricalMIM),
    ),
    "a method, compiled": (on("compiled", method=Reweighted), "engine='(.*)'", there(method=Reweighted)),
    "Adam, compiled": (on("compiled", optimizer=Adam), "engine='(.*)'", there(optimizer=Adam)),
    "momentum, compiled": (
        on("compiled", optimizer=lambda: SGD(momentum=0.9)),
        "engine='(.*)'",
        there(optimizer=lambda: SGD(momentum=0.9)),
    ),
    "a device, compiled": (
        on("compiled", machine=lambda: HelmholtzMachine((8, 4)).to("meta")),
        "engine='(.*)'",
        there(machine=lambda: HelmholtzMachine((8, 4)).to("meta")),
    ),
    "half precision, compiled": (
        on("compiled", machine=lambda: HelmholtzMachine((8, 4)).bfloat16()),
        "engine='(.*)'",
        there(machine=lambda: HelmholtzMachine((8, 4)).bfloat16()),
    ),
    "shared weights, compiled": (
        on("compiled", machine=lambda: sharing()),
        "engine='(.*)'",
        there(machine=lambda: sharing()),
    ),
    "a kernel that is none, compiled": (
        on("compiled", allocate=lambda: Kept(decide="nothing")),
        "cannot compile the kernel.*engine='(.*)'",
        there(allocate=lambda: Kept(decide="nothing")),
    ),
    "one memory for two rules, compiled": (
        on("compiled", allocate=lambda: Phases(*(Kept(memory=SHARED) for _ in range(2)))),
        "engine='(.*)'",
        there(allocate=lambda: Phases(*(Kept(memory=SHARED) for _ in range(2)))),
    ),
    "a function, compiled": (
        on("compiled", allocate=lambda: likeliest),
        "engine='(.*)'",
        there(allocate=lambda: likeliest),
    ),
    "a threshold, compiled": (
        on("compiled", allocate=lambda: FactorialMIM(threshold=soft_mean)),
        "whole batch: use engine='(.*)'",
        there(allocate=lambda: FactorialMIM(threshold=soft_mean)),
    ),
    "a table in batches, compiled": (
        on("compiled", allocate=CategoricalMIM, config=lambda: replace(TWICE, batch=9, every=1)),
        "engine='(.*)'",
        there(allocate=CategoricalMIM, config=lambda: replace(TWICE, batch=9, every=1)),
    ),
    "a layer, compiled": (on("compiled", machine=other), "engine='(.*)'", there(machine=other)),
    "sizes, compiled": (on("compiled", machine=narrow), "engine='(.*)'", there(machine=narrow)),
    "a layer, in batches": (
        on("batched", machine=lambda: other().float()),
        "engine='(.*)'",
        there(machine=lambda: other().float()),
    ),
    "double precision, in batches": (on("batched"), "engine='(.*)'", there()),
    "replicas, spread": (
        on("spread", machine=lambda: HelmholtzMachine((8, 4), replicas=(2,)).float()),
        "engine='(.*)'",
        there(machine=lambda: HelmholtzMachine((8, 4), replicas=(2,)).float()),
    ),
    "a memory that does not fit": (
        lambda: trained(allocate=Marked(np.zeros((2, 1)), np.arange(3)), engine="compiled"),
        r"float64 array with (\d+) rows, and let `starts` give each layer from (\d) to (\d)",
        lambda rows, first, last: trained(
            allocate=Marked(np.zeros((int(rows), int(last))), np.array([0] * int(first) + [0, 1, 2])), engine="compiled"
        ),
    ),
    "no engine at all": (
        lambda: with_engines({}),
        "add (.*) to the table again",
        lambda name: with_engines({"torch": f"helmholtz_mim.{name}"}),
    ),
    "an engine by a wrong name": (on("compile"), "did you mean '(.*)'", there()),
    "an engine by nobody's name": (
        on("torch:Engine"),
        "write module:Class, with",
        lambda: there()("helmholtz_mim.engines.reference:Reference"),
    ),
}


def tossed(self, layer, p, u):
    return (u < p).to(p)


def written(kind, **methods):
    """One of a new kind that has those methods."""
    return type("Written", (kind,), methods)()


class Idle(Engine):
    """An engine without a step."""


class Busy(Idle):
    """An engine whose steps do nothing."""

    def step(self, data, turn):
        pass


def with_engines(table):
    """Train with another table of engines."""
    before = dict(ENGINES)
    try:
        ENGINES.clear()
        ENGINES.update(table)
        return trained()
    finally:
        ENGINES.clear()
        ENGINES.update(before)


RULE_CASES = {
    "no rule": (
        lambda: trained(allocate="mim"),
        r"such as sample or (\w+)\(\)",
        lambda name: trained(allocate=getattr(helmholtz_mim, name)()),
    ),
    "a rule of another machine": (of_another_machine, "make a new rule", lambda: trained(allocate=FactorialMIM())),
    "a rule for both phases": (
        asleep_and_awake,
        r"one for each, Phases\((\w+)=…, (\w+)=…\)",
        lambda *names: trained(allocate=Phases(**{name: FactorialMIM() for name in names})),
    ),
    "a rule without a machine": (
        lambda: FactorialMIM()(1, torch.ones(1, 4), None),
        "train with it, or bind it to a chain and let it begin",
        lambda: bound(FactorialMIM())(1, torch.ones(1, 4), None),
    ),
    "a rule trained with": (
        lambda: CategoricalMIM()(1, torch.ones(1, 4), None),
        "train with it",
        lambda: trained(allocate=(rule := CategoricalMIM())) and rule(1, torch.ones(1, 4), None),
    ),
    "too wide for a table": (
        lambda: wide(CategoricalMIM()),
        r"use (\w+), which",
        lambda name: wide(getattr(helmholtz_mim, name)()),
    ),
    "no step": (
        lambda: unmoved(FactorialMIM(epsilon=None)),
        "give the rule an epsilon",
        lambda: unmoved(FactorialMIM(epsilon=0.1)),
    ),
    "all the way": (
        lambda: trained(config=replace(TWICE, lr=1e6), allocate=CategoricalMIM()),
        "lower the learning rate, or",
        lambda: trained(config=replace(TWICE, lr=0.1), allocate=CategoricalMIM()),
    ),
    "all the way, otherwise": (
        lambda: trained(config=replace(TWICE, lr=1e6), allocate=CategoricalMIM()),
        "or give the rule an epsilon",
        lambda: trained(config=replace(TWICE, lr=1e6), allocate=CategoricalMIM(epsilon=0.1)),
    ),
    "epsilon": (lambda: FactorialMIM(epsilon=2), "lies between 0 and 1", lambda: FactorialMIM(epsilon=0.5)),
    "share": (
        lambda: CategoricalMIM(share=2),
        "share lies between 0 and 1 and sharpness above 0",
        lambda: CategoricalMIM(0.5, 1.0),
    ),
    "one infinite temper": (lambda: FactorialMIM(1.0), "both finite", lambda: FactorialMIM(1.0, 1.0)),
    "threshold": (
        lambda: FactorialMIM(threshold=0.5),
        "threshold is a function",
        lambda: FactorialMIM(threshold=soft_mean),
    ),
    "nobody to leave out": (
        lambda: leave_one_out(torch.ones(1, 3)),
        "at least two",
        lambda: leave_one_out(torch.ones(2, 3)),
    ),
    "rate": (lambda: Flip(2), "lies between 0 and 1", lambda: Flip(0.5)),
    "a step of another layer": (
        lambda: trained(other(), allocate=FactorialMIM(epsilon=None)),
        "give the rule an epsilon",
        lambda: trained(other(), allocate=FactorialMIM(epsilon=0.1)),
    ),
    "an option that a scheme has not": (
        lambda: scheme("flip", speed=1),
        r"give one of (\w+)",
        lambda name: scheme("flip", **{name: 0.1}),
    ),
    "a scheme that nobody has": (lambda: scheme("mime"), "did you mean '(.*)'", scheme),
}
ADVISED = r"such as .*?(\w+)\((?:(\w+)=)?([\d.]+)\), not"


def built(name, option, number):
    """What an advice such as Reweighted(particles=5) makes."""
    make, number = getattr(helmholtz_mim, name), float(number) if "." in number else int(number)
    return make(**{option: number}) if option else make(number)


PROTOCOL_CASES = {
    "lr": (lambda: TrainConfig(1, lr=-1), "lr is a positive number", lambda: TrainConfig(1, lr=1)),
    "fraction": (lambda: TrainConfig(1, fraction=2), "lies between 0 and 1", lambda: TrainConfig(1, fraction=0.2)),
    "anneal alone": (
        lambda: TrainConfig(1, anneal=0.5),
        "give a fraction too, and an anneal above 0",
        lambda: TrainConfig(1, anneal=0.5, fraction=0.1),
    ),
    "anneal at 0": (
        lambda: TrainConfig(1, anneal=0, fraction=0.1),
        "an anneal above 0",
        lambda: TrainConfig(1, anneal=0.1, fraction=0.1),
    ),
    "fraction and every": (
        lambda: TrainConfig(1, fraction=0.1, every=2),
        "give one of the two",
        lambda: TrainConfig(1, every=2),
    ),
    "momentum": (lambda: SGD(momentum=2), "lies between 0 and 1", lambda: SGD(momentum=0.5)),
    "decay": (lambda: Adam(decay=-1), "a number of at least 0", lambda: Adam(decay=0.1)),
    "the optimiser's lr": (lambda: Adam(0), "lr is a positive number", lambda: Adam(0.1)),
    "schedule": (
        lambda: Adam(schedule="linearly"),
        "did you mean '(.*)'",
        lambda name: trained(optimizer=Adam(schedule=name)),
    ),
    "too fast for the precision": (lambda: exploding(1e39), "take a smaller one", lambda: exploding(0.1)),
    "no method": (lambda: trained(method="wake-sleep"), ADVISED, lambda *advice: trained(method=built(*advice))),
    "no optimiser": (lambda: trained(optimizer="SGD"), ADVISED, lambda *advice: trained(optimizer=built(*advice))),
    "no protocol": (
        lambda: trained(config=3),
        ADVISED,
        lambda *advice: trained(config=replace(built(*advice), epochs=2)),
    ),
    "no night": (
        lambda: trained(config=TrainConfig(1, dreams=7), method=Reweighted(2, "wake")),
        "leave dreams out of the protocol",
        lambda: trained(config=TrainConfig(1), method=Reweighted(2, "wake")),
    ),
    "recognition": (
        lambda: Reweighted(recognition="day"),
        "learns from '(.*?)'",
        lambda name: trained(method=Reweighted(recognition=name)),
    ),
    "one particle": (
        lambda: Reweighted(1, "both"),
        r"give (\w+)=(\d) or more, or",
        lambda name, count: trained(method=Reweighted(**{name: int(count)}, recognition="both")),
    ),
    "one particle, otherwise": (
        lambda: Reweighted(1, "wake"),
        "or leave it out",
        lambda: trained(method=Reweighted(1)),
    ),
    "groups": (lambda: importance(torch.ones(3), 2), "in groups of 2 particles", lambda: importance(torch.ones(4), 2)),
    "other data": (
        lambda: trained(patterns=torch.ones(2, 3)),
        r"make a machine of sizes \((\d), …\), or",
        lambda units: trained(HelmholtzMachine((int(units), 2)), patterns=torch.ones(2, 3)),
    ),
    "weights that are not finite": (
        lambda: exploding(3e38),
        "train again from the start with a smaller lr",
        lambda: exploding(0.1),
    ),
}
UNWRITTEN_CASES = {
    "a rule without a decision": (
        lambda: trained(allocate=Rule(), config=EACH),
        r"write its (\w+)\(layer, p, u\)",
        lambda name: trained(allocate=written(Rule, **{name: tossed}), config=EACH),
    ),
    "a memory of nothing": (
        lambda: trained(allocate=written(Remembering)),
        r"write its (\w+)\(units\)",
        lambda name: trained(
            allocate=written(Remembering, **{name: lambda self, units: {"used": units}}, __call__=tossed)
        ),
    ),
    "an engine without steps": (
        lambda: trained(engine=f"{__name__}:Idle"),
        r"write its (\w+)\(data, turn\)",
        lambda name: hasattr(Idle, name) and trained(engine=f"{__name__}:Busy"),
    ),
    "an optimiser of nothing": (
        lambda: trained(optimizer=Optimizer()),
        r"write its (\w+)\(weights, lr\)",
        lambda name: trained(
            optimizer=written(Optimizer, **{name: lambda self, weights, lr: torch.optim.SGD(weights, lr)})
        ),
    ),
}
CASES = ENGINE_CASES | RULE_CASES | PROTOCOL_CASES | UNWRITTEN_CASES


MEASURE_CASES = {
    "states": (lambda: states(30), "use at most (\\d+) units", lambda most: states(int(most) // 2)),
    "exact": (
        lambda: exact_report(HelmholtzMachine((20, 20)), Patterns(torch.eye(20))),
        r"or (\w+), which estimates",
        lambda name: getattr(helmholtz_mim, name)(
            HelmholtzMachine((20, 20)), Patterns(torch.eye(20)), generator=chance()
        ),
    ),
    "exact, narrower": (
        lambda: upward(HelmholtzMachine((20, 20)), Patterns(torch.eye(20))),
        "use narrower layers",
        lambda: upward(HelmholtzMachine((20, 4)), Patterns(torch.eye(20))),
    ),
    "enumeration": (
        lambda: exact_log_likelihood(HelmholtzMachine((8, 40)), torch.eye(8)),
        r"use (\w+)$",
        lambda name: getattr(helmholtz_mim, name)(HelmholtzMachine((8, 40)), torch.eye(8), 3, generator=chance()),
    ),
    "inputs": (
        lambda: mutual_information(BinaryLayer(3, 2), torch.ones(4) / 4),
        r"2\^(\d) input states.*give one for each",
        lambda n: mutual_information(BinaryLayer(3, 2), torch.full((2 ** int(n),), 1 / 2 ** int(n))),
    ),
    "samples": (
        lambda: sampled_report(HelmholtzMachine((8, 4)), well_formed(8), samples=7, generator=chance()),
        r"need (\d+) samples or more",
        lambda most: sampled_report(HelmholtzMachine((8, 4)), well_formed(8), samples=int(most), generator=chance()),
    ),
    "replicas": (
        lambda: causal(HelmholtzMachine((4, 3), replicas=(2,)), 1),
        r"machine\.replica\(index\)",
        lambda: causal(HelmholtzMachine((4, 3), replicas=(2,)).replica(0), 1),
    ),
    "the best weights": (
        lambda: EarlyStopping(torch.eye(8)).restore_(HelmholtzMachine((8, 4))),
        "give this to train as stop=",
        lambda: trained(stop=(stop := EarlyStopping(torch.eye(8)))) and stop.restore_(HelmholtzMachine((8, 4, 2))),
    ),
    "grey data": (
        lambda: Patterns([[0.5]]),
        "binarise them first",
        lambda: helmholtz_mim.binarise(torch.tensor([[0.5]])),
    ),
    "a seed": (
        lambda: trained(generator=3),
        r"such as torch\.Generator\(\)\.manual_seed\((\d)\)",
        lambda seed: trained(generator=torch.Generator().manual_seed(int(seed))),
    ),
    "memory": (lambda: check_memory("this", 10**18), "make it smaller", lambda: check_memory("this", 10)),
    "the channel of another layer": (
        lambda: channel(other().recognition[0]),
        re.escape("use log_table(layer.logits(states(n))).exp(), n its inputs"),
        lambda: log_table(other().recognition[0].logits(states(8))).exp(),
    ),
    "the information of another layer": (
        lambda: mutual_information(other().recognition[0], torch.ones(256) / 256),
        r"use (\w+), which asks any layer",
        lambda name: getattr(helmholtz_mim, name)(other(), well_formed(8)),
    ),
    "annealing through another layer": (
        lambda: ais_log_likelihood(other("generative"), torch.eye(8), generator=chance()),
        r"use (\w+), which needs no sweeps",
        lambda name: getattr(helmholtz_mim, name)(other("generative"), torch.eye(8), 3, generator=chance()),
    ),
    "random weights of another layer": (
        lambda: other().randomise_(1.0, generator=chance()),
        "randomise before you exchange layers",
        other,
    ),
    "a replica with another layer": (
        lambda: stack().replica(1),
        "load a replica's part of its state_dict",
        lambda: other().load_state_dict({name: value[1] for name, value in stack().state_dict().items()}),
    ),
    "another layer in a file": (
        lambda: save(other(), "nowhere.safetensors"),
        r"keep its state_dict\(\), and load that into a machine with such layers",
        lambda: other().load_state_dict(other().state_dict()),
    ),
}


def stack():
    """Two machines in one with another layer."""
    machine = HelmholtzMachine((8, 4, 2), replicas=(2,)).double()
    machine.recognition[0] = Doubled(8, 4, replicas=(2,))
    return machine


ALL = CASES | MEASURE_CASES


def refusal(provoke):
    """What is said to who does that."""
    with pytest.raises((ValueError, NotImplementedError)) as caught:
        provoke()
    return str(caught.value)


@pytest.mark.parametrize("name", ALL)
def test_advice_is_true(name):
    provoke, advice, follow = ALL[name]
    said = refusal(provoke)
    assert "\n" not in said
    found = re.search(advice, said)
    assert found, said
    follow(*found.groups())


KINDS = ("ValueError", "NotApplicable", "NotImplementedError")
ROOMS = ["rule.py", "protocol.py", "training.py", *(f"{wing}/*.py" for wing in ("methods", "rules", "engines"))]


def refusals():
    """For each refusal of these rooms, where it stands and the longest piece of its sentence that is always the same."""
    for path in sorted(path for pattern in ROOMS for path in PACKAGE.glob(pattern)):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Raise) and getattr(node.exc, "func", None) and node.exc.func.id in KINDS:
                pieces = [
                    n.value for n in ast.walk(node.exc) if isinstance(n, ast.Constant) and isinstance(n.value, str)
                ]
                yield pytest.param(max(pieces, key=len), id=f"{path.stem}-{node.lineno}")


@pytest.fixture(scope="module")
def sentences():
    """All that is said to the cases above."""
    torch.set_default_dtype(torch.float64)
    return [refusal(provoke) for provoke, _, _ in CASES.values()]


@pytest.mark.parametrize("piece", [*refusals()])
def test_every_refusal_is_followed(piece, sentences):
    assert any(piece in said for said in sentences), "add a case that provokes it and follows its advice"
