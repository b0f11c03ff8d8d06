"""Stacks of machines in large batches, and steps that could be recorded: what a graphics card needs of an engine, shown without one."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map

from helmholtz_mim import SGD, Adam, FactorialMIM, Flip, HelmholtzMachine, Phases, Reweighted, TrainConfig, WakeSleep, down, up, well_formed
from helmholtz_mim.engines import batched
from helmholtz_mim.engines.batched import Batched
from helmholtz_mim.engines.reference import Setup
from helmholtz_mim.rule import InTurn, sample
from helmholtz_mim.rules.factorial import leave_one_out
from helmholtz_mim.streams import Stream

pytestmark = pytest.mark.usefixtures("single_precision")
METHODS = {"wake-sleep": WakeSleep(), "reweighted": Reweighted(3, "both")}
RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.2),
    "habit": FactorialMIM,
    "others": lambda: FactorialMIM(threshold=leave_one_out),
}
OPTIMIZERS = {"plain": SGD(), "adam": Adam(0.01)}


def streams(seeds, number):
    """Streams of a stack, each as a machine alone would have it; of a machine alone if the seed is no list."""
    keys = [Stream((), generator=torch.Generator().manual_seed(10 * int(seed) + number)).keys for seed in np.ravel(seeds)]
    stream = Stream(np.shape(seeds) or (), generator=torch.Generator())
    stream.keys = np.array(keys).reshape(np.shape(seeds))
    return stream


def machine_of(seeds):
    """Machines of random weights, each as it would be alone."""
    alone = [
        HelmholtzMachine((8, 6, 4), bias=True).randomise_(0.5, generator=torch.Generator().manual_seed(int(seed)))
        for seed in np.ravel(seeds)
    ]
    machine = HelmholtzMachine((8, 6, 4), bias=True, replicas=np.shape(seeds))
    for name, value in machine.state_dict().items():
        value.copy_(torch.stack([one.state_dict()[name] for one in alone]).reshape(value.shape))
    return machine


def engine_of(seeds, rule, method, optimizer, config):
    """The engine of a stack, or of one machine."""
    machine, rules = machine_of(seeds), Phases(awake=rule())
    rules.awake.bind(up(machine))
    rules.asleep.bind(down(machine))
    return Batched(Setup(machine, well_formed(8), config, method, rules, optimizer, streams(seeds, 0), streams(seeds, 1)))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_a_stack_learns_as_each_machine_would_alone(rule, method, optimizer):
    config = TrainConfig(epochs=2, batch=16, every=2)
    how = RULES[rule], METHODS[method], OPTIMIZERS[optimizer], config
    seeds = np.array([[1, 2], [3, 4]])
    stack = engine_of(seeds, *how)
    for epoch in range(2):
        stack.run(epoch, 1)
    for place, seed in np.ndenumerate(seeds):
        one = engine_of(seed, *how)
        before = machine_of(seed).state_dict()
        for epoch in range(2):
            one.run(epoch, 1)
        for name, value in one.setup.machine.state_dict().items():
            assert_close(stack.setup.machine.state_dict()[name][place], value, rtol=1e-4, atol=1e-5)
            assert not value.numel() or not torch.equal(value, before[name])


class Recorder(TorchDispatchMode):
    """Writes down every kernel that is run, as a graph of a graphics card does, and refuses what such a graph refuses."""

    WAITS = (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.nonzero.default, torch.ops.aten.item.default)

    def __init__(self):
        super().__init__()
        self.kernels = []

    def __torch_dispatch__(self, kernel, types, args=(), kwargs=None):
        assert kernel not in self.WAITS, f"{kernel} waits for the card"
        result = kernel(*args, **(kwargs or {}))
        self.kernels.append((kernel, args, kwargs or {}, result))
        return result

    def replay(self):
        """All kernels once more, on what their tensors hold now."""
        new = {}

        def now(value):
            return new.get(id(value), value) if isinstance(value, torch.Tensor) else value

        def put(old, value):
            if isinstance(old, torch.Tensor):
                new[id(old)] = value

        for kernel, args, kwargs, result in self.kernels:
            again = kernel(*tree_map(now, args), **tree_map(now, kwargs))
            olds, values = (x if isinstance(x, (tuple, list)) else [x] for x in (result, again))
            for old, value in zip(olds, values, strict=True):
                put(old, value)


def as_a_card(engine):
    """That engine with the code of a card, on the processor: numbers of PyTorch's generator, and no compiled loops."""
    engine.uniforms.remote = torch.Generator().manual_seed(7)
    return engine


@pytest.mark.parametrize("seeds", [1, [1, 2, 3]], ids=["one machine", "a stack"])
@pytest.mark.parametrize("optimizer", OPTIMIZERS)
@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("rule", RULES)
def test_a_recorded_step_goes_on_as_the_engine_does(rule, method, optimizer, seeds, monkeypatch):
    monkeypatch.setattr(batched, "here", lambda t: False)
    monkeypatch.setattr(batched, "in_turn", lambda rule, turn: rule if rule is sample else InTurn(rule, turn))  # as on a device
    config = TrainConfig(epochs=1, batch=16, fraction=0.5)
    engines = [as_a_card(engine_of(seeds, RULES[rule], METHODS[method], OPTIMIZERS[optimizer], config)) for _ in range(2)]
    replicas = np.shape(seeds)
    generator = torch.Generator().manual_seed(0)
    lessons = [
        (torch.randint(10, (*replicas, 16), generator=generator), torch.rand((*replicas, 16), generator=generator) < 0.5)
        for _ in range(4)
    ]
    eager, graph = engines
    for data, turn in lessons:
        eager.step(data, turn)
    data, turn = (t.clone() for t in lessons[0])
    graph.step(data, turn)  # warms up: every buffer is there
    recorder = Recorder()
    data.copy_(lessons[1][0]), turn.copy_(lessons[1][1])
    with recorder:
        graph.step(data, turn)
    for lesson in lessons[2:]:
        data.copy_(lesson[0]), turn.copy_(lesson[1])
        recorder.replay()
    for name, value in eager.setup.machine.state_dict().items():
        assert torch.equal(graph.setup.machine.state_dict()[name], value), name
