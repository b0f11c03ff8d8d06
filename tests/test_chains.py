"""The two chains of a machine: what is drawn along them, how likely it is, and how they learn."""

import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as some
from torch.testing import assert_close

from helmholtz_mim import Flip, HelmholtzMachine, down, draw, log_prob, sample, states, teach_, up
from helmholtz_mim.chains import draws, opposite

shapes = some.lists(some.integers(1, 4), min_size=2, max_size=4)
stacks = some.lists(some.integers(1, 3), max_size=2).map(tuple)
seeds = some.integers(0, 10**6)
ways = some.sampled_from([up, down])


def machine_of(sizes, replicas=(), bias=True, seed=0, scale=1.0):
    """A machine with random weights and biases."""
    generator, machine = torch.Generator().manual_seed(seed), HelmholtzMachine(sizes, replicas=replicas, bias=bias)
    for tensor in machine.state_dict().values():
        tensor.normal_(std=scale, generator=generator)
    return machine


def start_of(chain, rows, generator):
    """What a chain begins with: data, or how many dreams."""
    machine = chain.machine
    return torch.rand(*machine.replicas, rows, machine.sizes[0], generator=generator).round() if chain.way == "recognition" else rows


def patterns_of(machine, rows, generator):
    """Any pattern in every layer."""
    return [torch.rand(*machine.replicas, rows, n, generator=generator).round() for n in machine.sizes]


@given(shapes, stacks)
def test_links_reach_every_layer_once_and_read_what_is_there(sizes, replicas):
    machine, top = HelmholtzMachine(sizes, replicas=replicas), len(sizes) - 1
    for chain in (up(machine), down(machine)):
        known = {0} if chain.way == "recognition" else {None}
        for layer, to, of in chain.links:
            assert of in known and to not in known
            assert layer.weight.shape == (*replicas, sizes[to], 0 if of is None else sizes[of])
            known.add(to)
        assert known - {None} == set(range(top + 1))
        layers = [layer for layer, _, _ in chain.links]
        assert opposite(opposite(chain)) == chain and opposite(chain).machine is machine
        assert not {id(layer) for layer in layers} & {id(layer) for layer, _, _ in opposite(chain).links}
    assert (up(machine).way, down(machine).way) == ("recognition", "generative")


@given(shapes, stacks, some.integers(0, 5), ways, seeds)
def test_patterns_are_drawn_in_every_layer(sizes, replicas, rows, way, seed):
    generator, chain = torch.Generator().manual_seed(seed), way(machine_of(sizes, replicas))
    start = start_of(chain, rows, generator)
    z = draw(chain, start, sample, generator)
    assert [tuple(layer.shape) for layer in z] == [(*replicas, rows, n) for n in sizes]
    assert all(((layer == 0) | (layer == 1)).all() for layer in z)
    assert way is down or torch.equal(z[0], start)


@given(shapes, stacks, some.sampled_from([sample, Flip(0.3)]), ways, seeds)
def test_draws_are_a_draw_link_by_link(sizes, replicas, rule, way, seed):
    chain = way(machine_of(sizes, replicas))
    start = start_of(chain, 5, torch.Generator().manual_seed(seed))
    z = draw(chain, start, rule, torch.Generator().manual_seed(seed))
    steps = [(link, s, [*seen]) for link, s, seen in draws(chain, start, rule, torch.Generator().manual_seed(seed))]
    assert [link for link, _, _ in steps] == [*chain.links]
    for (to, of), s, seen in ((link[1:], s, seen) for link, s, seen in steps):
        known = z[to][..., :0] if of is None else z[of]
        assert torch.equal(seen[to], z[to])
        assert_close(s, dict((link.to, link.layer) for link in chain.links)[to].logits(known))
    assert all(torch.equal(one, other) for one, other in zip(steps[-1][2], z, strict=True))


@given(shapes, seeds)
def test_dreams_may_begin_with_a_pattern_of_the_top(sizes, seed):
    chain, generator = down(machine_of(sizes)), torch.Generator().manual_seed(seed)
    top = torch.rand(6, sizes[-1], generator=generator).round()
    asked = []

    def rule(layer, p, u):
        asked.append(layer)
        return (u < p).to(p)

    rule.deterministic = False
    z = draw(chain, top, rule, generator)
    assert torch.equal(z[-1], top) and asked == [*range(len(sizes) - 2, -1, -1)]


@given(shapes, seeds)
def test_a_deterministic_rule_takes_no_numbers(sizes, seed):
    machine, asked = machine_of(sizes), []

    def rule(layer, p, u):
        assert u is None
        return p.round()

    def numbers(shape):
        asked.append(shape)
        return torch.full(shape, 0.5)

    rule.deterministic = True
    draw(up(machine), torch.ones(3, sizes[0]), rule, numbers)
    assert not asked
    draw(down(machine), 3, rule, numbers)
    assert asked == [(3, sizes[-1])], "the prior tosses always"


@given(shapes, some.sampled_from([(1,), (3,), (2, 2)]), ways, seeds)
def test_replicas_are_machines_side_by_side(sizes, replicas, way, seed):
    stack, generator = machine_of(sizes, replicas, seed=seed), torch.Generator().manual_seed(seed)
    z, lone = patterns_of(stack, 4, generator), [stack.replica(k) for k in range(torch.Size(replicas).numel())]
    weights = torch.rand(*replicas, 4, generator=generator)
    each = [[layer.flatten(0, len(replicas) - 1)[k] for layer in z] for k in range(len(lone))]
    likely = log_prob(way(stack), z).reshape(len(lone), 4)
    teach_(way(stack), z, 0.3, weights)
    for k, (machine, own) in enumerate(zip(lone, each, strict=True)):
        assert_close(likely[k], log_prob(way(machine), own))
        teach_(way(machine), own, 0.3, weights.reshape(len(lone), 4)[k])
        assert same_weights(machine, stack.replica(k), atol=1e-12)


@given(shapes.filter(lambda sizes: sum(sizes) <= 9), seeds)
def test_probabilities_of_all_patterns_add_up(sizes, seed):
    """Downward to one; upward to one for every datum."""
    machine, all_of_them = machine_of(sizes, seed=seed), states(sum(sizes))
    z = [*all_of_them.split(sizes, -1)]
    assert_close(log_prob(down(machine), z).exp().sum(), torch.tensor(1.0))
    assert_close(log_prob(up(machine), z).exp().reshape(2 ** sizes[0], -1).sum(-1), torch.ones(2 ** sizes[0]))


@pytest.mark.parametrize("way", [up, down])
def test_patterns_come_as_often_as_they_are_likely(way, random_machine, generator):
    machine, rows = random_machine((2, 3, 1)), 100_000
    chain = way(machine)
    start = states(2)[2].expand(rows, -1) if way is up else rows
    seen = torch.cat(draw(chain, start, sample, generator), -1)
    all_of_them = states(6)
    chance = log_prob(chain, [*all_of_them.split([2, 3, 1], -1)]).exp()
    if way is up:
        chance = torch.where((all_of_them[:, :2] == states(2)[2]).all(-1), chance, 0.0)
    share = torch.bincount((seen @ 2.0 ** torch.arange(5, -1, -1)).long(), minlength=64) / rows
    assert ((share - chance).abs() <= 5.5 * (chance * (1 - chance) / rows).sqrt() + 1e-9).all()


@given(shapes, stacks, ways, some.booleans(), some.booleans(), seeds)
def test_a_lesson_climbs_the_log_probability_of_its_own_chain(sizes, replicas, way, bias, weighted, seed):
    machine = machine_of(sizes, replicas, bias, seed)
    taught, generator = machine_of(sizes, replicas, bias, seed), torch.Generator().manual_seed(seed)
    z, weights = patterns_of(machine, 5, generator), torch.rand(*replicas, 5, generator=generator)
    teach_(way(taught), z, 0.2, weights if weighted else None)
    with torch.enable_grad():
        for tensor in machine.state_dict(keep_vars=True).values():
            tensor.requires_grad_()
        (log_prob(way(machine), z) * (weights if weighted else 1 / 5)).sum().backward()
    for name, tensor in machine.state_dict(keep_vars=True).items():
        step = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        assert_close(taught.state_dict()[name], (tensor + 0.2 * step).detach())


@given(shapes, stacks, ways, seeds)
def test_even_weights_are_the_mean(sizes, replicas, way, seed):
    plain, even = (machine_of(sizes, replicas, seed=seed) for _ in range(2))
    z = patterns_of(plain, 4, torch.Generator().manual_seed(seed))
    teach_(way(plain), z, 0.2)
    teach_(way(even), z, 0.2, torch.full((*replicas, 4), 0.25))
    assert same_weights(plain, even, atol=1e-12) and not same_weights(plain, machine_of(sizes, replicas, seed=seed))
