"""Wake and sleep: shapes, what each may move, and in which direction."""

import numpy as np
import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import (
    CategoricalMIM,
    FactorialMIM,
    HelmholtzMachine,
    Phases,
    TrainConfig,
    down,
    draw,
    dream,
    learn_generative_,
    learn_recognition_,
    states,
    teach_,
    train,
    up,
    wake,
    well_formed,
)
from helmholtz_mim.rule import Decides, in_turn

stacks = st.lists(st.integers(1, 3), max_size=2).map(tuple)


def coins(shape):
    return torch.randint(0, 2, shape, generator=torch.Generator().manual_seed(1)).double()


def log_joint(machine, z, way):
    """Mean ln p of complete assignments, summed over replicas, that the lesson of one phase should raise."""
    if way == "recognition":
        terms = [r.log_prob(z[l + 1], z[l]) for l, r in enumerate(machine.recognition)]
    else:
        terms = [g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative)]
        terms.append(machine.prior.log_prob(z[-1], z[-1][..., :0]))
    return sum(terms).mean(-1).sum()


@given(st.lists(st.integers(1, 4), min_size=2, max_size=4), st.integers(1, 5), stacks, st.booleans())
def test_phases_give_one_binary_pattern_per_layer(sizes, count, replicas, bias):
    machine = HelmholtzMachine(sizes, replicas=replicas, bias=bias)
    generator = torch.Generator().manual_seed(0)
    for z in (wake(machine, coins((count, sizes[0])), generator=generator), dream(machine, count, generator=generator)):
        assert [tuple(layer.shape) for layer in z] == [(*replicas, count, n) for n in sizes]
        assert all(((layer == 0) | (layer == 1)).all() for layer in z)


def test_waking_starts_from_the_data(random_machine, generator):
    shared, own = coins((6, 5)), coins((3, 6, 5))
    machine = random_machine((5, 4, 2), replicas=(3,))
    assert torch.equal(wake(machine, shared, generator=generator)[0], shared.expand(3, 6, 5))
    assert torch.equal(wake(machine, own, generator=generator)[0], own)


@pytest.mark.parametrize("units", [4, 6, 0])
def test_patterns_of_another_width_are_refused(units, random_machine, generator):
    with pytest.raises(ValueError, match=f"data layer has 5 units, the patterns have {units}"):
        wake(random_machine((5, 3)), torch.zeros(2, units), generator=generator)


def test_the_rule_decides_each_layer_from_its_probabilities(random_machine, generator):
    machine, x, asked = random_machine((5, 4, 2)), coins((6, 5)), []

    def rule(layer, p, u):
        asked.append((layer, p, u))
        return p.round()

    def numbers(shape):
        return torch.rand(shape, generator=copy, dtype=torch.float64)

    copy = generator.clone_state()

    z = wake(machine, x, rule, generator=generator)
    assert [layer for layer, _, _ in asked] == [1, 2] and all(torch.equal(u, numbers(p.shape)) for _, p, u in asked)
    assert_close(asked[1][1], machine.recognition[1](z[1]))
    assert torch.equal(z[2], asked[1][1].round())
    asked.clear()
    z = dream(machine, 6, rule, generator=generator)
    assert [layer for layer, _, _ in asked] == [1, 0], "the top is drawn from the prior"
    assert torch.equal(z[2], (numbers(z[2].shape) < machine.prior(z[2][:, :0])).double())
    assert all(torch.equal(u, numbers(p.shape)) for _, p, u in asked)
    assert torch.equal(z[0], machine.generative[0](z[1]).round())


@pytest.mark.parametrize("x", [torch.full((2, 5), 0.5), torch.zeros(5), torch.zeros(2, 2, 5), "01010", None, [[0, 1]]])
def test_data_that_do_not_fit_are_refused(x, random_machine, generator):
    with pytest.raises(ValueError, match=r"binarise|shaped|real numbers|5 units"):
        wake(random_machine((5, 3), replicas=(3,)), x, generator=generator)


@pytest.mark.parametrize("count", [-1, 2.5, True, "3", None, 10**18])
def test_dreams_are_counted(count, random_machine, generator):
    with pytest.raises(ValueError, match=r"whole number of at least 0|this computer has"):
        dream(random_machine((5, 3)), count, generator=generator)
    assert dream(random_machine((5, 3)), np.int64(2), generator=generator)[0].shape == (2, 5)


@pytest.mark.parametrize("rule", ["mim", None, FactorialMIM])
def test_a_rule_is_neither_a_name_nor_a_class(rule, random_machine, generator):
    machine = random_machine((8, 3))
    for go in (
        lambda: wake(machine, torch.zeros(2, 8), rule, generator=generator),
        lambda: dream(machine, 2, rule, generator=generator),
        lambda: train(machine, well_formed(8), TrainConfig(1), allocate=rule, generator=generator),
        lambda: train(machine, well_formed(8), TrainConfig(1), allocate=Phases(asleep=rule), generator=generator),
    ):
        with pytest.raises(ValueError, match=r"allocate is a rule, such as sample or FactorialMIM\(\)"):
            go()


@pytest.mark.parametrize("rule", [FactorialMIM, CategoricalMIM])
@pytest.mark.parametrize("engine", ["torch", "compiled", "auto"])
def test_a_rule_with_a_memory_is_for_one_phase_of_one_machine(rule, engine, generator):
    def go(allocate, machine):
        train(machine, well_formed(8), TrainConfig(1, every=2), allocate=allocate, engine=engine, generator=generator)

    machine, both = HelmholtzMachine((8, 3)), rule()
    with pytest.raises(ValueError, match=r"remembers the recognition chain, and one rule cannot remember both: .*Phases\(awake="):
        go(Phases(both, both), machine)
    first = rule()
    go(Phases(asleep=first), machine)
    go(Phases(asleep=first), machine)
    with pytest.raises(ValueError, match=r"remembers the generative chain, and one rule"):
        go(first, machine)
    with pytest.raises(ValueError, match="remembers another machine: make a new rule for a new machine") as refusal:
        go(Phases(asleep=first), HelmholtzMachine((8, 3)))
    assert rule.__name__ in str(refusal.value) and "\n" not in str(refusal.value)
    go(Phases(rule(), rule()), machine)


@pytest.mark.parametrize("rule", [FactorialMIM, CategoricalMIM])
def test_a_rule_that_knows_no_machine_says_so(rule, random_machine, generator):
    for go in (lambda r: wake(random_machine((8, 3)), torch.zeros(2, 8), r, generator=generator), lambda r: r.recall(1)):
        with pytest.raises(ValueError, match=f"this {rule.__name__} knows no machine yet"):
            go(rule())


def in_order(numbers):
    """A generator that gives those tensors, one after the other."""
    source = iter(numbers)
    return lambda shape: next(source)


@pytest.mark.parametrize("count", [1, 5])
def test_a_rule_decides_only_for_whose_turn_it_is(count, random_machine, generator):
    chain, asked = up(random_machine((5, 4, 2), replicas=(3,))), []

    def rule(layer, p, u):
        asked.append(layer)
        return 1 - (u < p).to(p)

    x, turn = coins((3, count, 5)), torch.arange(3 * count).reshape(3, count) % 2 == 0
    u = [torch.rand(3, count, n, generator=generator) for n in (4, 2)]
    runs = {}
    for name, whose in {"none": turn & False, "some": turn, "all": turn | True}.items():
        asked.clear()
        runs[name] = draw(chain, x, in_turn(Decides(rule), whose), in_order(u))
        assert asked == ([] if name == "none" else [1, 2])
    for name in ("none", "all"):
        chosen = turn if name == "all" else ~turn
        assert all(torch.equal(z[chosen], other[chosen]) for z, other in zip(runs["some"], runs[name], strict=True))
    assert torch.equal(runs["all"][1], 1 - runs["none"][1])


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("replicas", [(), (3,), (2, 2)])
@pytest.mark.parametrize("way", ["generative", "recognition"])
def test_a_lesson_is_a_gradient_step_of_its_own_network_only(way, replicas, bias, random_machine, generator):
    machine = random_machine((5, 4, 3), bias=bias, replicas=replicas)
    before = {k: v.clone().requires_grad_() for k, v in machine.state_dict().items()}
    if way == "generative":
        z = wake(machine, coins((7, 5)), generator=generator)
        learn_generative_(machine, z, lr=0.2)
    else:
        z = dream(machine, 7, generator=generator)
        learn_recognition_(machine, z, lr=0.2)

    twin = random_machine((5, 4, 3), bias=bias, replicas=replicas)
    for name, value in before.items():
        layer, _, entry = name.rpartition(".")
        setattr(twin.get_submodule(layer), entry, value)
    log_joint(twin, z, way).backward()
    for name, value in machine.state_dict().items():
        gradient = before[name].grad
        if name.startswith("recognition") == (way == "recognition"):
            assert_close(value, (before[name] + 0.2 * gradient).detach())
            assert not gradient.numel() or gradient.any()
        else:
            assert gradient is None and torch.equal(value, before[name])


def test_the_prior_learns_how_often_its_units_are_on():
    machine, top = HelmholtzMachine((2, 3)), torch.tensor([[1.0, 1, 0], [1, 0, 0], [1, 1, 0], [1, 0, 0]])
    for _ in range(2000):
        learn_generative_(machine, [torch.zeros(4, 2), top], lr=1.0)
    assert_close(machine.prior(torch.empty(1, 0))[0], torch.tensor([1.0, 0.5, 0.0]), rtol=0, atol=2e-3)


def test_dreams_follow_the_prior(generator):
    machine = HelmholtzMachine((2, 3))
    machine.prior.bias.copy_(torch.tensor([0.25, 0.5, 0.9]).logit())
    seen = dream(machine, 100_000, generator=generator)[1].mean(0)
    assert_close(seen, torch.tensor([0.25, 0.5, 0.9]), rtol=0, atol=0.01)


def test_phases_repeat_with_the_seed(random_machine, seed):
    machine, runs = random_machine((5, 4, 2)), []
    for _ in range(2):
        generator, copy = torch.Generator().manual_seed(seed), machine.replica(0)
        learn_generative_(copy, wake(copy, coins((6, 5)), generator=generator), lr=0.1)
        learn_recognition_(copy, dream(copy, 6, generator=generator), lr=0.1)
        runs.append(copy)
    assert same_weights(*runs) and not same_weights(runs[0], machine)


@pytest.mark.parametrize("z", [None, [], [torch.ones(2, 5)], torch.ones(3, 2, 5), "zz"])
def test_a_lesson_is_about_every_layer(z, random_machine):
    machine, untouched = random_machine((5, 3, 5)), random_machine((5, 3, 5))
    for learn in (learn_generative_, learn_recognition_):
        with pytest.raises(ValueError, match="a list of patterns for the 3 layers"):
            learn(machine, z, 0.1)
    assert same_weights(machine, untouched)


@pytest.mark.parametrize("learn, chain", [(learn_generative_, down), (learn_recognition_, up)])
def test_lessons_heed_weights(learn, chain, random_machine, generator):
    one, other = random_machine((5, 4, 2)), random_machine((5, 4, 2))
    z = wake(one, states(5), generator=generator)
    weights = torch.rand(32, generator=generator)
    learn(one, z, 0.1, weights)
    teach_(chain(other), z, 0.1, weights)
    assert same_weights(one, other)
    learn(other, z, 0.1)
    assert not same_weights(one, other)
