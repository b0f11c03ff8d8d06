"""The compiled engine is the readable loop: same coins, same weights."""

import itertools

import numpy as np
import pytest
import torch
from conftest import same_weights
from numba import cfunc

from helmholtz_mim import (
    ENGINES,
    BinaryLayer,
    HelmholtzMachine,
    NotApplicable,
    Patterns,
    Stream,
    TrainConfig,
    Twin,
    sample,
    states,
    train,
    well_formed,
)
from helmholtz_mim.engines.compiled import decide_signature, no_state, pays, watch_signature

PROTOCOLS = {"online": (1, 1), "long nights": (1, 12), "long days": (7, 1), "mini-batch": (10, 10), "full batch": (99, 99)}
WORLDS = {  # neither has a whole number of batches of ten
    "even": well_formed(8),
    "weighted": Patterns(states(8)[3::7], weights=torch.arange(1, 38), epoch=55),
}


def trained(engine, world, batch, dreams, bias=False, scale=0.0, replicas=(), steps=1000, machine=None, seed=7, **options):
    """A machine after at least so many steps."""
    machine = machine or HelmholtzMachine((8, 5, 3), bias=bias, replicas=replicas).double()
    machine.randomise_(scale, generator=torch.Generator().manual_seed(seed + 1000))
    epochs = -(-steps // -(-world.epoch // batch))
    config = TrainConfig(epochs, batch, dreams, every=options.pop("every", 10), report_every=epochs)
    train(machine, world, config, engine=engine, generator=torch.Generator().manual_seed(seed), **options)
    return machine


every_kind = itertools.product(PROTOCOLS, WORLDS, [False, True], [0.0, 0.7], [(2, 2)])
every_stack = itertools.product(PROTOCOLS, ["weighted"], [True], [0.7], [(), (3,)])


@pytest.mark.parametrize("protocol, world, bias, scale, replicas", [*every_kind, *every_stack])
def test_engines_agree(protocol, world, bias, scale, replicas, seed):
    slow, fast = (
        trained(engine, WORLDS[world], *PROTOCOLS[protocol], bias, scale, replicas, seed=seed) for engine in ("torch", "compiled")
    )
    assert same_weights(slow, fast, atol=1e-9)
    assert slow.recognition[0].weight.abs().max() > 0.01


def test_threads_make_no_difference():
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(trained("compiled", WORLDS["even"], 1, 1, replicas=(7,)))
    finally:
        torch.set_num_threads(threads)
    assert same_weights(results[0], results[1]) and same_weights(results[0], results[2])


def test_replicas_make_no_difference_to_each_other(seed):
    stack, fewer = (trained("compiled", WORLDS["even"], 1, 1, replicas=(n,), seed=seed) for n in (5, 3))
    assert all(same_weights(stack.replica(i), fewer.replica(i)) for i in range(3))


def test_a_machine_in_single_precision_is_trained_in_double(seed):
    small = HelmholtzMachine((8, 5, 3), bias=True, replicas=(2,)).float()
    trained("compiled", WORLDS["weighted"], 1, 1, machine=small, seed=seed)
    exact = trained("compiled", WORLDS["weighted"], 1, 1, bias=True, replicas=(2,), seed=seed)
    assert small.prior.bias.dtype == torch.float32
    assert same_weights(small, exact.float())


def test_auto_takes_the_compiled_engine_where_it_applies(seed):
    auto, fast, slow = (trained(e, WORLDS["even"], 1, 1, steps=2000, seed=seed) for e in ("auto", "compiled", "torch"))
    assert same_weights(auto, fast) and not same_weights(auto, slow)


def test_auto_takes_matrix_products_for_batches_on_wide_layers(seed, generator):
    bits = torch.rand(60, 400, generator=generator) < 0.15
    for batch, wins, loses in [(1, "compiled", "torch"), (60, "torch", "compiled"), (10**6, "torch", "compiled")]:
        runs = {}
        for engine in ("auto", wins, loses):
            machine = HelmholtzMachine((400, 50)).double()
            runs[engine] = trained(engine, Patterns(bits), batch, min(batch, 60), machine=machine, steps=3, seed=seed)
        assert same_weights(runs["auto"], runs[wins]) and not same_weights(runs["auto"], runs[loses])
        assert same_weights(runs[wins], runs[loses], atol=1e-9)


@pytest.mark.parametrize("batch, dreams, expected", [(1, 1, True), (10, 1, False), (1, 10, False), (3, 3, True)])
def test_the_engine_pays_for_single_patterns_and_small_batches(batch, dreams, expected):
    images = Patterns(torch.eye(784)[:20])
    assert pays(HelmholtzMachine((784, 200, 200)), images, TrainConfig(1, batch, dreams)) is expected
    assert pays(HelmholtzMachine((784, 2000)), images, TrainConfig(1, batch, dreams)) is (batch == dreams == 1)
    assert pays(HelmholtzMachine((8, 5, 3)), WORLDS["even"], TrainConfig(1, 1000, 1000))


# Rules


def all_on(layer, p, generator):
    return torch.ones_like(p)


def test_a_rule_without_a_twin_runs_on_the_readable_loop():
    auto, slow = (trained(e, WORLDS["even"], 1, 1, steps=100, allocate=all_on, every=1) for e in ("auto", "torch"))
    plain = trained("auto", WORLDS["even"], 1, 1, steps=100)
    assert same_weights(auto, slow) and not same_weights(auto, plain)


def test_a_rule_without_a_twin_is_refused_by_the_engine():
    with pytest.raises(NotApplicable, match="'all_on' has no compiled twin: use engine='torch'"):
        trained("compiled", WORLDS["even"], 1, 1, allocate=all_on)


def test_other_devices_are_refused_by_the_engine():
    with pytest.raises(NotApplicable, match="on the CPU: use engine='torch'"):
        trained("compiled", WORLDS["even"], 1, 1, machine=HelmholtzMachine((8, 5, 3)).to("meta"))


class Doubled(BinaryLayer):
    """A layer that computes something else from weights of the same shape."""

    def logits(self, x):
        return 2 * super().logits(x)


def with_another(part, layer):
    """A machine in single precision whose first layer of that part is exchanged."""
    machine = HelmholtzMachine((8, 5, 3))
    if part == "prior":
        machine.prior = layer
    else:
        getattr(machine, part)[0] = layer
    return machine.float()


OTHERS = {
    "recognition": Doubled(8, 5),
    "generative": torch.nn.Linear(5, 8, bias=False).requires_grad_(False),
    "prior": Doubled(0, 3, bias=True),
}


@pytest.mark.parametrize("engine", ["compiled", "batched"])
@pytest.mark.parametrize("part", OTHERS)
def test_layers_of_another_kind_are_left_to_the_readable_loop(part, engine):
    machine = with_another(part, OTHERS[part])
    streams = [Stream((), generator=torch.Generator()) for _ in range(2)]
    with pytest.raises(NotApplicable, match="engine='torch'") as refusal:
        ENGINES[engine](machine, WORLDS["even"], TrainConfig(1), sample, *streams)
    assert type(OTHERS[part]).__name__ in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("engine", ["compiled", "batched"])
def test_layers_of_other_sizes_are_refused(engine):
    with pytest.raises(NotApplicable, match="of other sizes"):
        trained(engine, WORLDS["even"], 1, 1, machine=with_another("recognition", BinaryLayer(8, 4)), steps=10)


def test_another_kind_of_layer_is_trained_by_its_own_methods():
    double, plain = with_another("recognition", Doubled(8, 5)), HelmholtzMachine((8, 5, 3)).float()
    for machine in (double, plain):
        trained("auto", WORLDS["even"], 1, 1, machine=machine, scale=0.0, steps=200)
    assert not same_weights(double, plain)


@cfunc(decide_signature)
def decide_rarest(layer, p, u, state, y):
    for j in range(p.size):
        y[j] = 1.0 if 2 * state[j] < state[p.size] else 0.0


@cfunc(watch_signature)
def watch_rarest(layer, y, batch, left, state):
    for j in range(y.size):
        state[j] += y[j]
    state[y.size] += 1


class Rarest:
    """Turn on the units that were on less than half of the time: a rule with a memory and a twin."""

    def __init__(self, machine):
        self.counts, starts = no_state(machine)
        hidden = [n + 1 for n in machine.sizes[1:]]
        self.starts = np.concatenate([[0, 0], np.cumsum(hidden)]).astype(starts.dtype)
        self.counts = np.zeros((len(self.counts), sum(hidden)))

    def at(self, layer):
        return self.counts[:, self.starts[layer] : self.starts[layer + 1]]

    def __call__(self, layer, p, generator):
        seen = torch.from_numpy(self.at(layer).copy())
        return (2 * seen[:, :-1] < seen[:, -1:]).to(p).unsqueeze(-2).expand(p.shape)

    def observe(self, z):
        for layer, y in enumerate(z[1:], 1):
            self.at(layer)[:, :-1] += y.sum(-2).numpy()
            self.at(layer)[:, -1] += y.shape[-2]

    def twin(self, machine):
        return Twin(decide_rarest, watch_rarest, self.counts, self.starts, width=lambda units: units + 1)


def test_a_rule_may_bring_its_own_twin(seed):
    runs = {}
    for engine in ("torch", "compiled"):
        rule = Rarest(HelmholtzMachine((8, 5, 3), replicas=(3,)))
        runs[engine] = trained(engine, WORLDS["even"], 1, 1, replicas=(3,), allocate=rule, every=4, seed=seed), rule
    assert same_weights(runs["torch"][0], runs["compiled"][0], atol=1e-9)
    assert np.array_equal(runs["torch"][1].counts, runs["compiled"][1].counts)
    assert not same_weights(runs["compiled"][0], trained("compiled", WORLDS["even"], 1, 1, replicas=(3,), seed=seed))
