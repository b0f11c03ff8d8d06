"""Likelihoods against enumeration, and the theorems about their estimates."""

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import (
    HelmholtzMachine,
    Patterns,
    ais_log_likelihood,
    downward,
    effective_sample_size,
    exact_log_likelihood,
    ladder,
    log_likelihood,
    states,
)
from helmholtz_mim.measures import likelihood
from helmholtz_mim.measures.likelihood import gibbs_, log_weights, rungs

SIZES = (4, 3, 2)
seeds = st.integers(0, 2**32)


def random(sizes, seed, scale=1.5):
    """A machine with random weights, biases included."""
    generator, machine = torch.Generator().manual_seed(seed), HelmholtzMachine(sizes, bias=True)
    for tensor in machine.state_dict().values():
        tensor.normal_(std=scale, generator=generator)
    return machine


def perfect(seed, units=5):
    """A machine with one hidden unit whose recognition is the posterior."""
    machine = random((units, 1), seed)
    layer, r = machine.generative[0], machine.recognition[0]
    r.weight.copy_(layer.weight.T)
    odds = torch.log1p((layer.bias + layer.weight[:, 0]).exp()) - torch.log1p(layer.bias.exp())
    r.bias.copy_(machine.prior.bias - odds.sum())
    return machine


# The oracle


@given(seeds, st.sampled_from([(4, 3, 2), (5, 2), (3, 2, 3, 2)]))
def test_exact_likelihoods_are_those_of_the_dreams(seed, sizes):
    machine = random(sizes, seed)
    exact = exact_log_likelihood(machine, states(sizes[0]))
    assert_close(exact.exp(), downward(machine)[0])
    assert_close(exact.logsumexp(0), torch.tensor(0.0))


def test_exact_likelihoods_are_plain_sums_over_hidden_states(seed, generator):
    machine = random((30, 3, 2), seed)
    x = (torch.rand(7, 30, generator=generator) < 0.5).double()
    z = states(5).split((3, 2), -1)
    prior = machine.generative[1].log_prob(*z) + machine.prior.log_prob(z[1], z[1][:, :0])
    for datum, found in zip(x, exact_log_likelihood(machine, x), strict=True):
        terms = [p + machine.generative[0].log_prob(datum[None], h[None])[0] for p, h in zip(prior, z[0], strict=True)]
        assert_close(found, torch.stack(terms).logsumexp(0))


def test_enumeration_in_blocks_is_the_same_sum(monkeypatch, random_machine):
    machine, x = random_machine((6, 5, 3), replicas=(2, 3), bias=True), states(6)
    whole = exact_log_likelihood(machine, x)
    assert whole.shape == (2, 3, 64)
    assert_close(whole[1, 2], exact_log_likelihood(machine.replica(5), x))
    monkeypatch.setattr(likelihood, "BLOCK", 64 * 6 * 3)
    assert_close(exact_log_likelihood(machine, x), whole)


def test_improbable_data_have_finite_likelihoods(random_machine):
    machine = random_machine(SIZES, scale=10_000.0, bias=True)
    exact = exact_log_likelihood(machine, states(4))
    assert exact.isfinite().all() and exact.min() < -1000
    assert_close(exact.logsumexp(0), torch.tensor(0.0))


def test_too_many_states_are_refused():
    with pytest.raises(ValueError, match=r"2\^30 states, and 2\^26 is the limit: use log_likelihood"):
        exact_log_likelihood(HelmholtzMachine((4, 20, 10)), torch.zeros(1, 4))
    assert exact_log_likelihood(HelmholtzMachine((300, 3)), torch.zeros(1, 300)).shape == (1,)
    for sizes in ((4, 3, 2), (4, 5)):  # the widest pair of hidden layers, or the only one
        assert exact_log_likelihood(HelmholtzMachine(sizes), states(4), largest=5).shape == (16,)
        with pytest.raises(ValueError, match=r"2\^5 states, and 2\^4 is the limit"):
            exact_log_likelihood(HelmholtzMachine(sizes), states(4), largest=4)
    with pytest.raises(ValueError, match=r"^largest is a whole number of at least 1, not None"):
        exact_log_likelihood(HelmholtzMachine((4, 3)), states(4), largest=None)


# Importance sampling


@pytest.mark.parametrize("particles", [1, 3, 20])
def test_mean_weights_are_unbiased(seed, generator, particles):
    machine, repeats = random(SIZES, seed, scale=0.7), 20_000  # few weights that outweigh all others
    x = states(4)[[3, 9]]
    p = log_likelihood(machine, x.repeat_interleave(repeats, 0), particles, generator=generator).exp().reshape(2, repeats)
    exact = exact_log_likelihood(machine, x).exp()
    assert ((p.mean(-1) - exact).abs() < 5 * p.std(-1) / repeats**0.5).all()


def test_estimates_rise_with_the_particles_towards_the_truth(seed, generator):
    machine = random(SIZES, seed)
    x = states(4).repeat(1000, 1)
    estimates, _ = rungs(machine, x, [1, 2, 4, 8, 16, 32], generator=generator)
    steps, gap = estimates.diff(dim=0), exact_log_likelihood(machine, x) - estimates
    assert (steps.mean(-1) > 2 * steps.std(-1) / len(x) ** 0.5).all()
    assert (gap.mean(-1) > 0).all()


def test_one_particle_is_the_variational_bound(seed, generator):
    machine, x = random(SIZES, seed), states(4)[[6]]
    z = states(5).split((3, 2), -1)
    log_q = machine.recognition[0].log_prob(z[0], x.expand(32, -1)) + machine.recognition[1].log_prob(z[1], z[0])
    log_p = machine.generative[0].log_prob(x.expand(32, -1), z[0]) + machine.generative[1].log_prob(z[0], z[1])
    elbo = log_q.exp() @ (log_p + machine.prior.log_prob(z[1], z[1][:, :0]) - log_q)
    estimates = log_likelihood(machine, x.repeat(80_000, 1), 1, generator=generator)
    assert abs(estimates.mean() - elbo) < 5 * estimates.std() / 80_000**0.5


@settings(max_examples=5)
@given(seeds)
def test_many_particles_find_the_exact_value(seed):
    machine = random(SIZES, seed, scale=1.0)
    found = log_likelihood(machine, states(4), 20_000, generator=torch.Generator().manual_seed(seed))
    ess = effective_sample_size(machine, states(4), 20_000, generator=torch.Generator().manual_seed(seed))
    error = (found - exact_log_likelihood(machine, states(4))).abs()
    assert (error < 5 / ess.sqrt()).all()


@given(seeds)
def test_the_posterior_as_proposal_leaves_no_variance(seed):
    machine, generator = perfect(seed), torch.Generator().manual_seed(seed)
    exact = exact_log_likelihood(machine, states(5))
    for particles in (1, 7):
        assert_close(log_likelihood(machine, states(5), particles, generator=generator), exact)
    assert_close(effective_sample_size(machine, states(5), 7, generator=generator), torch.full((32,), 7.0))


def test_running_sums_are_sums(monkeypatch, generator):
    weights, machine = 200 * torch.randn(3, 1000, generator=generator), HelmholtzMachine(SIZES)
    place = iter(range(0, 1001, 7))

    def replay(machine, x, particles, *, generator):
        start = next(place)
        return weights[:, start : start + particles]

    monkeypatch.setattr(likelihood, "log_weights", replay)
    monkeypatch.setattr(likelihood, "BLOCK", 3 * 7 * 4)  # seven particles of three data at a time
    found, ess = rungs(machine, states(4)[:3], [7, 70, 700], generator=generator)
    for i, k in enumerate((7, 70, 700)):
        w = weights[:, :k]
        assert_close(found[i], w.logsumexp(-1) - math.log(k))
        assert_close(ess[i], 1 / w.softmax(-1).square().sum(-1))


@pytest.mark.parametrize("batch, particles, replicas", [(1, 1000, ()), (16, 300, ()), (16, 10, (2, 3)), (500, 3, ()), (500, 3, (2,))])
def test_memory_is_bounded(monkeypatch, generator, batch, particles, replicas):
    machine, held = HelmholtzMachine(SIZES, replicas=replicas), []

    def spy(machine, x, k, *, generator):
        held.append(x.numel() * k)
        return log_weights(machine, x, k, generator=generator)

    monkeypatch.setattr(likelihood, "log_weights", spy)
    monkeypatch.setattr(likelihood, "BLOCK", 800)
    found = log_likelihood(machine, torch.zeros(batch, 4), particles, generator=generator)
    assert found.shape == (*replicas, batch) and sum(held) == math.prod(replicas) * batch * particles * 4
    assert max(held) <= 800
    assert_close(found, torch.full_like(found, -4 * math.log(2)))  # ignorance has no variance either


def test_replicas_are_evaluated_one_by_one(random_machine, generator):
    machine = random_machine(SIZES, replicas=(2, 2), bias=True, scale=0.3)
    for found in (
        log_likelihood(machine, states(4), 20_000, generator=generator),
        ais_log_likelihood(machine, states(4), 400, 30, generator=generator),
    ):
        assert found.shape == (2, 2, 16)
        assert (found - exact_log_likelihood(machine, states(4))).abs().max() < 0.05


def test_single_precision_machines_are_evaluated(seed, generator):
    machine = random(SIZES, seed, scale=0.5)
    exact = exact_log_likelihood(machine, states(4))
    assert_close(exact_log_likelihood(machine.float(), states(4)), exact, rtol=0, atol=1e-5)
    found = log_likelihood(machine, states(4), 20_000, generator=generator)
    assert found.dtype == torch.float64 and (found - exact).abs().max() < 0.1


@pytest.mark.parametrize("ask", [log_likelihood, ais_log_likelihood, lambda m, x, k, generator: exact_log_likelihood(m, x)])
def test_data_that_are_no_patterns_are_refused(ask, generator):
    machine = HelmholtzMachine(SIZES)
    for odd in (0.5, 255.0, math.nan):
        with pytest.raises(ValueError, match="binarise them first"):
            ask(machine, torch.full((1, 4), odd), 10, generator=generator)
    with pytest.raises(ValueError, match="data layer has 4 units, the patterns have 5"):
        ask(machine, torch.zeros(1, 5), 10, generator=generator)


# The ladder


def test_a_ladder_reports_mean_and_interval_over_the_data(seed, generator):
    machine, x = perfect(seed), states(5)[::3]
    table = ladder(machine, x, (1, 10), generator=generator)
    exact = exact_log_likelihood(machine, x)
    assert table.particles.tolist() == [1, 10] and table.replica.tolist() == [0, 0]
    half = 2.2281389 * exact.std().item() / 11**0.5  # Student's t for 10 degrees of freedom
    for row in table.itertuples():
        assert_close(row.nats, exact.mean().item())
        assert_close((row.low, row.high), (exact.mean().item() - half, exact.mean().item() + half))
        assert_close(row.bits_per_dim, -exact.mean().item() / 5 / math.log(2))
        assert_close(row.ess, float(row.particles))
    assert math.isnan(table.climb[0]) and abs(table.climb[1]) < 1e-9


def test_the_interval_of_two_data_is_wide_and_of_one_there_is_none(seed, generator):
    machine, x = perfect(seed), states(5)[[3, 17]]
    pair, (one,) = exact_log_likelihood(machine, x), exact_log_likelihood(machine, x[:1])
    table, alone = ladder(machine, x, (1,), generator=generator), ladder(machine, x[:1], (1,), generator=generator)
    half = 12.7062047 * (pair[0] - pair[1]).abs().item() / 2  # Student's t for one degree of freedom
    assert_close((table.low[0], table.high[0]), (pair.mean().item() - half, pair.mean().item() + half))
    assert_close((alone.low[0], alone.nats[0], alone.high[0]), (one.item(),) * 3)


def test_weights_of_patterns_count(seed, generator):
    machine, world = perfect(seed), Patterns(states(5)[:3], weights=[1, 2, 5])
    exact = exact_log_likelihood(machine, world.bits)
    assert_close(ladder(machine, world, (1,), generator=generator).nats[0], (exact @ world.weights).item())


def test_the_climb_is_per_decade(seed, generator):
    machine = random((6, 4, 2), seed, scale=3.0)
    with pytest.warns(UserWarning):
        table = ladder(machine, states(6), (1, 4, 100), generator=generator)
    expected = table.nats.diff() / torch.tensor([1.0, 4, 100]).log10().diff(prepend=torch.zeros(1)).numpy()
    assert_close(table.climb[1:].tolist(), expected[1:].tolist())


def test_a_ladder_warns_while_it_climbs(seed, generator):
    poor = random((6, 4, 2), seed, scale=3.0)
    with pytest.warns(UserWarning, match=r"still climbs \d+\.\d\d nats per decade at 10 particles.*use more particles"):
        ladder(poor, states(6), (1, 10), generator=generator)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ladder(perfect(seed), states(5), (1, 10), generator=generator)
        ladder(poor, states(6), (10,), generator=generator)  # one rung cannot climb


@pytest.mark.parametrize("climb", [-1.0, 0.2, 0.28, 0.32, 0.5, 2.0])
def test_a_climb_of_three_tenths_of_a_nat_is_steep(climb, monkeypatch, generator):
    """Of the last two decades only the last counts, and of replicas the steepest."""
    log_mean = torch.tensor([[0.0, 0.0], [9.0, 9.0], [9.0, 9.0 + 2 * climb]]).unsqueeze(-1).expand(3, 2, 16) - 20
    monkeypatch.setattr(likelihood, "rungs", lambda machine, x, counts, *, generator: (log_mean, log_mean.exp()))
    machine = HelmholtzMachine(SIZES, replicas=(2,))
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        ladder(machine, states(4), (1, 10, 1000), generator=generator)
    assert [f"still climbs {climb:.2f} nats" in str(one.message) for one in heard] == [True] * (climb > 0.3)


def test_every_replica_has_its_ladder(generator, random_machine):
    machine = random_machine(SIZES, replicas=(3,), scale=0.5)
    table = ladder(machine, states(4), (1, 10_000), generator=generator)
    top = table[table.particles == 10_000]
    assert top.replica.tolist() == [0, 1, 2]
    assert_close(torch.tensor(top.nats.to_numpy()), exact_log_likelihood(machine, states(4)).mean(-1), rtol=0, atol=0.02)


@pytest.mark.parametrize("counts", [(), (10, 1), (1, 1)])
def test_counts_that_do_not_rise_are_refused(counts, generator):
    with pytest.raises(ValueError, match="counts of particles rise from 1 or more"):
        ladder(HelmholtzMachine(SIZES), states(4), counts, generator=generator)


# Annealing


@pytest.mark.parametrize("beta", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("sizes", [(4, 3, 2), (3, 2, 2, 1)])
def test_a_sweep_leaves_the_distribution_as_it_is(seed, generator, beta, sizes):
    machine, hidden, count = random(sizes, seed), sum(sizes[1:]), 90_000
    z, x = states(hidden).split(sizes[1:], -1), states(sizes[0])[[5]].expand(2**hidden, -1)
    log_f = beta * machine.generative[0].log_prob(x, z[0]) + machine.prior.log_prob(z[-1], z[-1][:, :0])
    f = (log_f + sum(g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative[1:]))).softmax(0)
    which = torch.multinomial(f, count, True, generator=generator)
    chain = [x[:1].expand(count, -1), *(layer[which].clone() for layer in z)]
    gibbs_(machine, chain, beta, generator=generator)
    places = 2 ** torch.arange(hidden - 1, -1, -1)
    after = (torch.cat(chain[1:], -1).long() * places).sum(-1)
    frequency = torch.bincount(after, minlength=2**hidden) / count
    assert (after != which).double().mean() > 0.1
    assert ((frequency - f).abs() < 5.5 * (f * (1 - f) / count).sqrt() + 1e-9).all()


@pytest.mark.parametrize("steps", [1, 2, 10])
def test_annealing_is_unbiased_at_any_length(seed, generator, steps):
    machine, repeats = random(SIZES, seed, scale=1.0), 16_000
    x = states(4)[[3, 9]]
    p = ais_log_likelihood(machine, x.repeat_interleave(repeats, 0), 2, steps, generator=generator).exp().reshape(2, repeats)
    exact = exact_log_likelihood(machine, x).exp()
    assert ((p.mean(-1) - exact).abs() < 5 * p.std(-1) / repeats**0.5).all()


def test_longer_annealing_comes_closer(seed, generator):
    machine = random((8, 4, 2), seed)
    x = states(8)[::2].repeat(16, 1)
    gap = [
        (exact_log_likelihood(machine, x) - ais_log_likelihood(machine, x, 1, steps, generator=generator)).mean()
        for steps in (1, 10, 200)
    ]
    assert gap[0] > gap[1] > gap[2] and abs(gap[2]) < 0.1


def test_annealing_ignores_recognition(seed):
    machine = random(SIZES, seed)
    same = [torch.Generator().manual_seed(seed) for _ in range(2)]
    before = ais_log_likelihood(machine, states(4), 5, 5, generator=same[0])
    for layer in machine.recognition:
        layer.weight.fill_(77.0)
    assert_close(ais_log_likelihood(machine, states(4), 5, 5, generator=same[1]), before)


@pytest.mark.parametrize("replicas", [(), (2,)])
def test_annealing_in_blocks(replicas, monkeypatch, generator):
    monkeypatch.setattr(likelihood, "BLOCK", 60 * math.prod(replicas))  # three data at a time
    machine = HelmholtzMachine(SIZES, replicas=replicas)
    found = ais_log_likelihood(machine, states(4), 5, 3, generator=generator)
    assert_close(found, torch.full((*replicas, 16), -4 * math.log(2)))


def test_annealing_takes_sixteen_chains_and_a_hundred_steps(seed):
    machine, (one, other) = random(SIZES, seed), (torch.Generator().manual_seed(seed) for _ in range(2))
    expected = ais_log_likelihood(machine, states(4)[:2], 16, 100, generator=other)
    assert torch.equal(ais_log_likelihood(machine, states(4)[:2], generator=one), expected)


def test_single_precision_machines_are_annealed_in_double(seed, generator):
    machine = random(SIZES, seed, scale=0.5).float()
    torch.set_default_dtype(torch.float32)  # as it is outside of these tests
    assert ais_log_likelihood(machine, states(4), 2, 3, generator=generator).dtype == torch.float64


@pytest.mark.parametrize("chains, steps", [(0, 1), (1, 0)])
def test_annealing_takes_a_step(chains, steps, generator):
    with pytest.raises(ValueError, match=r"(chains|steps) is a whole number of at least 1"):
        ais_log_likelihood(HelmholtzMachine(SIZES), states(4), chains, steps, generator=generator)


@pytest.mark.parametrize("count", [0, -1, 2.5, True, "10", None])
def test_particles_and_chains_are_whole_numbers(count, generator):
    machine, x = HelmholtzMachine(SIZES), states(4)
    for ask, name in [(log_likelihood, "particles"), (effective_sample_size, "particles"), (ais_log_likelihood, "chains")]:
        with pytest.raises(ValueError, match=f"^{name} is a whole number of at least 1"):
            ask(machine, x, count, generator=generator)
    with pytest.raises(ValueError, match=r"^each of counts of particles is a whole number of at least 1"):
        ladder(machine, x, (count,), generator=generator)
    with pytest.raises(ValueError, match=r"^each of counts of particles is a whole number of at least 1"):
        rungs(machine, x, (count,), generator=generator)


def test_likelihoods_of_no_data_are_refused(generator):
    for ask in (log_likelihood, ais_log_likelihood, lambda m, x, k, generator: exact_log_likelihood(m, x)):
        with pytest.raises(ValueError, match="at least one pattern"):
            ask(HelmholtzMachine(SIZES), torch.empty(0, 4), 10, generator=generator)
        with pytest.raises(ValueError, match=r"shaped \(batch, 4\)"):
            ask(HelmholtzMachine(SIZES), torch.zeros(4), 10, generator=generator)
