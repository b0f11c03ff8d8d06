"""Sampled diagnostics against enumeration: bounds on their side, estimates and intervals where they should be."""

import itertools
import math

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import t as student
from torch.testing import assert_close

from helmholtz_mim import HelmholtzMachine, Patterns, encode, exact_report, intervals, sampled_report, states, up
from helmholtz_mim.layers import binary_entropy
from helmholtz_mim.measures import sampled
from helmholtz_mim.measures.exact import mutual_information
from helmholtz_mim.pushforward import upward
from helmholtz_mim.measures.sampled import activity, collect, jackknife, likeness, source

SIZES = (4, 3, 2)
WORLD = Patterns(states(4)[[1, 2, 9, 11, 11, 15]], weights=[1, 2, 3, 1, 1, 0])  # one twice, one never
seeds = st.integers(0, 2**32)
WAYS = ("recognition", "generative")
SURE = 3  # half-widths; Student's t of 39 degrees of freedom misses by more once in two million


def measured(report):
    """(measure, direction, layer) to value, for a report on one machine."""
    return report.set_index(["measure", "direction", "layer"]).value.to_dict()


def joint(machine, patterns, way):
    """States of all layers, and the probability of each, by a plain list of everything."""
    z = states(sum(machine.sizes)).split(machine.sizes, dim=-1)
    if way == "generative":
        log_p = machine.prior.log_prob(z[-1], z[-1][:, :0])
        return z, (log_p + sum(g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative))).exp()
    data = torch.zeros(2 ** machine.sizes[0]).index_add(0, encode(patterns.bits), patterns.weights)
    log_q = sum(r.log_prob(z[l + 1], z[l]) for l, r in enumerate(machine.recognition))
    return z, data[encode(z[0])] * log_q.exp()


def conditional(layer, p, x):
    """H(Y|X) by a plain sum."""
    q = layer(x)
    return p @ -(torch.special.xlogy(q, q) + torch.special.xlogy(1 - q, 1 - q)).sum(-1)


def lower_bounds(machine, patterns, way):
    """The bounds of Barber and Agakov on the information of each pair, as they are defined."""
    z, p = joint(machine, patterns, way)
    order = list(range(len(z))) if way == "recognition" else list(range(len(z)))[::-1]
    draw, guess = (machine.recognition, machine.generative) if way == "recognition" else (machine.generative, machine.recognition)
    first = torch.zeros(2 ** machine.sizes[order[0]]).index_add(0, encode(z[order[0]]), p)
    past, found = -torch.special.xlogy(first, first).sum(), {}
    for before, after in itertools.pairwise(order):
        pair = min(before, after)
        found[pair] = past + p @ guess[pair].log_prob(z[before], z[after])
        past = found[pair] + conditional(draw[pair], p, z[before])
    return found


# The truth lies between the bounds


@settings(max_examples=12)
@given(seeds)
def test_bounds_lie_on_their_sides_of_the_truth(seed):
    g = torch.Generator().manual_seed(seed)
    machine = HelmholtzMachine(SIZES, bias=True).randomise_(2.0, generator=g)
    truth, found = measured(exact_report(machine, WORLD)), measured(sampled_report(machine, WORLD, samples=4000, generator=g))
    for (measure, way, layer), value in found.items():
        if measure in ("H lower bound", "I lower bound", "H upper bound", "I upper bound"):
            slack = SURE * found[f"{measure} ±", way, layer] + 1e-12
            gap = (truth[measure[0], way, layer] - value) * (1 if "lower" in measure else -1)
            assert gap > -slack, (measure, way, layer)


@pytest.mark.parametrize("way", WAYS)
def test_lower_bounds_are_those_of_the_definition(random_machine, generator, way):
    machine = random_machine(SIZES, bias=True)
    found = measured(sampled_report(machine, WORLD, samples=100_000, generator=generator))
    for l, value in lower_bounds(machine, WORLD, way).items():
        assert abs(found["I lower bound", way, l] - value) < SURE * found["I lower bound ±", way, l] < 0.2
        drawn = l + 1 if way == "recognition" else l
        given_other = found["H lower bound", way, drawn] - found["I lower bound", way, l]
        z, p = joint(machine, WORLD, way)
        layer = (machine.recognition if way == "recognition" else machine.generative)[l]
        assert_close(given_other, conditional(layer, p, z[l if way == "recognition" else l + 1]).item(), rtol=0, atol=0.02)


@pytest.mark.parametrize("way", WAYS)
def test_upper_bounds_take_units_one_by_one(random_machine, generator, way):
    machine = random_machine(SIZES, bias=True)
    found = measured(sampled_report(machine, WORLD, samples=100_000, generator=generator))
    z, p = joint(machine, WORLD, way)
    for l in range(3):
        alone = binary_entropy(p @ z[l]).sum().item()
        assert abs(found["H upper bound", way, l] - alone) < SURE * found["H upper bound ±", way, l] + 1e-12
    for l in range(2):
        layer, x, y = (
            (machine.recognition[l], z[l], z[l + 1]) if way == "recognition" else (machine.generative[l], z[l + 1], z[l])
        )
        bound = binary_entropy(p @ y).sum() - conditional(layer, p, x)
        assert abs(found["I upper bound", way, l] - bound) < SURE * found["I upper bound ±", way, l]


def test_a_perfect_guesser_makes_the_lower_bound_exact(generator):
    machine = HelmholtzMachine((5, 1), bias=True)
    layer, prior = machine.generative[0], machine.prior
    for tensor, std in ((layer.weight, 3.0), (layer.bias, 1.0), (prior.bias, 0.5)):
        tensor.normal_(std=std, generator=generator)
    on, off = layer.bias + layer.weight[:, 0], layer.bias
    machine.recognition[0].weight.copy_(layer.weight.T)
    machine.recognition[0].bias.copy_(prior.bias - (on.exp().log1p() - off.exp().log1p()).sum())
    found = measured(sampled_report(machine, Patterns(states(5)), samples=100_000, generator=generator))
    p = prior.bias.sigmoid()
    exact = mutual_information(layer, torch.cat([1 - p, p])).item()
    assert exact > 0.1
    assert abs(found["I lower bound", "generative", 0] - exact) < SURE * found["I lower bound ±", "generative", 0]


def test_the_bound_on_the_likelihood_falls_into_layers(random_machine, generator):
    machine = random_machine((4, 3, 3, 2), bias=True)
    found = measured(sampled_report(machine, WORLD, samples=100_000, generator=generator))
    z, q = joint(machine, WORLD, "recognition")
    up = [r.log_prob(z[l + 1], z[l]) for l, r in enumerate(machine.recognition)]
    down = [*(g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative)), machine.prior.log_prob(z[-1], z[-1][:, :0])]
    for l in (1, 2, 3):
        assert abs(found["KL in ELBO", "recognition", l] - q @ (up[l - 1] - down[l])) < SURE * found["KL in ELBO ±", "recognition", l]
    elbo = q @ (sum(down) - sum(up))
    assert abs(found["ELBO", "recognition", 0] - elbo) < SURE * found["ELBO ±", "recognition", 0]


# Intervals


def test_intervals_hold_their_promise(random_machine, generator):
    one, count = random_machine(SIZES, bias=True), 1000
    stack = HelmholtzMachine(SIZES, bias=True, replicas=(count,))
    stack.load_state_dict({k: v.expand(count, *v.shape) for k, v in one.state_dict().items()})
    table = intervals(sampled_report(stack, WORLD, samples=2000, generator=generator))
    for way in WAYS:
        for l, value in lower_bounds(one, WORLD, way).items():
            rows = table.query("measure == 'I lower bound' and direction == @way and layer == @l")
            assert len(rows) == count
            share = ((rows.low <= value.item()) & (value.item() <= rows.high)).mean()
            assert 0.90 <= share <= 0.99, (way, l, share)


def test_the_jackknife_corrects_the_entropy_of_frequencies(generator):
    tosses = (torch.rand(50_000, 20, 5, 1, generator=generator) < 0.3).double()  # 50 000 times, 20 blocks of 5
    plain = binary_entropy(tosses.mean((1, 2))).mean()
    corrected, _ = jackknife(lambda a: binary_entropy(a[0]), [tosses.mean(2)])
    exact = binary_entropy(torch.tensor(0.3))
    assert exact - plain > 0.003 > 0.001 > abs(exact - corrected.mean())


def test_the_jackknife_of_a_mean_is_the_interval_of_student(generator):
    x = torch.randn(3, 12, 2, generator=generator)
    mean, half = jackknife(lambda a: a[0], [x])
    assert_close(mean, x.mean(1))
    assert_close(half, student.ppf(0.975, 11) * x.std(1) / 12**0.5)


def test_intervals_join_a_measure_and_its_error():
    columns = dict(step=0, replica=[0, 0, 1, 1], layer=2, direction="recognition")
    report = pd.DataFrame(columns | dict(measure=["a", "a ±", "a", "a ±"], value=[1.0, 0.5, 2.0, 0.1]))
    table = intervals(report)
    assert table.measure.tolist() == ["a", "a"] and table.value.tolist() == [1, 2]
    assert table.low.tolist() == [0.5, 1.9] and table.high.tolist() == [1.5, 2.1]


# Units at work


def exact_activity(machine, patterns, depth):
    """Var over data of E[unit | datum] in a layer, by pushing each datum up alone."""
    means = [upward(machine, Patterns(x[None]))[depth] @ states(machine.sizes[depth]) for x in patterns.bits]
    means, w = torch.stack(means), patterns.weights[:, None]
    return (w * means.square()).sum(0) - (w * means).sum(0).square()


@pytest.mark.parametrize("depth", [1, 2])
def test_activity_is_the_variance_of_the_expected_response(random_machine, generator, depth):
    machine = random_machine(SIZES, bias=True)
    averages, _ = collect(up(machine), WORLD, 60_000, generator=generator)
    value, half = jackknife(lambda a: activity(a[0]), [averages[depth]])
    assert ((value - exact_activity(machine, WORLD, depth)).abs() < SURE * half).all()


def test_constant_units_are_found(generator):
    machine = HelmholtzMachine((4, 5), bias=True)
    machine.recognition[0].bias.copy_(torch.tensor([-9.0, 9, 9, 0, 0]))
    machine.recognition[0].weight[3, 0] = 30.0
    found = measured(sampled_report(machine, Patterns(states(4)), samples=4000, generator=generator))
    counts = {m: found[m, "recognition", 1] for m in ("dead", "saturated", "active", "duplicate")}
    assert counts == dict(dead=1, saturated=2, active=1, duplicate=0)


def test_units_beyond_a_threshold_are_counted_and_those_before_it_are_not(generator):
    """Dead below .01, saturated above .99, active above a variance of .01, a duplicate above a correlation of .95."""
    machine = HelmholtzMachine((1, 5), bias=True)
    machine.prior.bias.copy_(torch.tensor([0.001, 0.02, 0.5, 0.98, 0.999]).logit())
    away = torch.tensor([0.3, 0.12, 0.08, 0.05, 0.0])  # from .5, which either state of the datum brings
    machine.recognition[0].weight.copy_(2 * (0.5 + away).logit().unsqueeze(-1))
    machine.recognition[0].bias.copy_(-(0.5 + away).logit())
    found = measured(sampled_report(machine, Patterns(states(1)), samples=40_000, generator=generator))
    assert [found[m, "generative", 1] for m in ("dead", "saturated")] == [1, 1]
    assert found["active", "recognition", 1] == 2
    copies = HelmholtzMachine((4, 1), bias=True)
    slope = 2 * torch.tensor([1 - 1e-9, 0.96, 0.99, 0.5]).logit().unsqueeze(-1)  # correlations of .92 and .98 with the first
    copies.generative[0].weight.copy_(slope), copies.generative[0].bias.copy_(-slope[:, 0] / 2)
    assert measured(sampled_report(copies, Patterns(states(4)), samples=40_000, generator=generator))["duplicate", "generative", 0] == 1


def test_copies_are_counted_but_not_the_original():
    x = states(3)[:, [0, 0, 1, 1, 2, 0]]
    x[:, 3] = 1 - x[:, 3]  # a copy turned round says as much
    r, half = likeness(x.T @ x / len(x), len(x))
    assert_close(r, torch.tensor([0.0, 1, 0, 1, 0, 1]))
    assert_close(half, 1.96 * (1 - r) / 8**0.5)


def test_likeness_is_the_largest_correlation_with_a_unit_before(generator):
    x = (torch.rand(500, 4, generator=generator) < torch.tensor([0.5, 0.3, 0.7, 0.5])).double()
    x[:300, 2], x[:, 3] = x[:300, 0], 1.0  # partly a copy; always on
    r, half = likeness(x.T @ x / 500, 500)
    table = torch.corrcoef(x[:, :3].T).abs()
    assert_close(r, torch.stack([torch.tensor(0.0), table[1, 0], table[2, :2].max(), torch.tensor(0.0)]))
    assert_close(half, 1.96 * (1 - r**2) / 500**0.5)


def test_undecided_units_are_reported(generator):
    """A unit at the edge of being dead cannot be told from a dead one, by 95 % of the reports."""
    machine = HelmholtzMachine((2, 3), bias=True, replicas=(100,))
    machine.prior.bias.copy_(torch.tensor([0.01, 0.5, 0.001]).logit().expand(100, 3))
    table = sampled_report(machine, Patterns(states(2)), samples=1000, generator=generator)
    undecided = table.query("measure == 'dead ±' and direction == 'generative' and layer == 1").value
    assert undecided.mean() > 0.75 and undecided.max() < 3


# The table


def test_columns_are_those_of_the_exact_report(random_machine, generator):
    machine = random_machine(SIZES, replicas=(2, 3))
    table = sampled_report(machine, WORLD, samples=400, generator=generator)
    assert table.columns.tolist() == exact_report(machine, WORLD).columns.tolist()
    assert table.replica.unique().tolist() == list(range(6))
    sizes = table.groupby(["replica", "measure", "direction", "layer"]).size()
    assert (sizes == 1).all() and (table.groupby(["measure", "direction", "layer"]).size() == 6).all()
    half = table.measure.str.endswith(" ±")
    assert half.sum() == (~half).sum() and (table.value[half] >= 0).all()


def test_replicas_are_reported_one_by_one(random_machine, generator):
    machine = random_machine(SIZES, bias=True, replicas=(3,))
    table = sampled_report(machine, WORLD, samples=20_000, generator=generator)
    for r in range(3):
        found = measured(table[table.replica == r])
        for l, value in lower_bounds(machine.replica(r), WORLD, "generative").items():
            assert abs(found["I lower bound", "generative", l] - value) < SURE * found["I lower bound ±", "generative", l]


def test_one_seed_gives_one_table(random_machine, seed):
    machine = random_machine(SIZES)
    one, two, other = (
        sampled_report(machine, WORLD, samples=400, generator=torch.Generator().manual_seed(s)) for s in (seed, seed, seed + 1)
    )
    assert one.equals(two) and not one.equals(other)


def test_a_report_is_of_ten_thousand_samples_and_of_eighty_at_least(random_machine, seed):
    machine, (one, two) = random_machine(SIZES), (torch.Generator().manual_seed(seed) for _ in range(2))
    assert sampled_report(machine, WORLD, generator=one).equals(sampled_report(machine, WORLD, samples=10_000, generator=two))
    names = {"H lower bound", "H upper bound", "I lower bound", "I upper bound", "active", "dead", "saturated", "duplicate"}
    names |= {"KL in ELBO", "ELBO"}
    assert set(intervals(sampled_report(machine, WORLD, samples=80, generator=one)).measure) == names


def test_chunks_change_nothing_but_memory(random_machine, generator, monkeypatch):
    machine, rows = random_machine(SIZES, scale=1e4), []
    walk = sampled.walk
    monkeypatch.setattr(sampled, "walk", lambda chain, start, **o: (rows.append(len(start)), walk(chain, start, **o))[1])
    monkeypatch.setattr(sampled, "CHUNK", 4 * 7)
    averages, pairs = collect(up(machine), WORLD, 1000, generator=generator)
    assert max(rows) == 7 and sum(rows) == 1000
    assert_close(averages[1][..., :3].mean(-2), pairs[1].diagonal())  # certain coins: probabilities are states


def test_saturated_machines_have_finite_reports(random_machine, generator):
    machine = random_machine(SIZES, bias=True, scale=1000.0)
    assert sampled_report(machine, WORLD, samples=400, generator=generator).value.map(math.isfinite).all()


def test_single_precision_machines_are_reported_in_double(random_machine, generator):
    machine = random_machine(SIZES, bias=True)
    single = measured(sampled_report(machine.replica(0).float(), WORLD, samples=100_000, generator=generator))
    for l, value in lower_bounds(machine, WORLD, "generative").items():
        assert abs(single["I lower bound", "generative", l] - value) < SURE * single["I lower bound ±", "generative", l]


def test_ignorance_is_reported_as_ignorance(generator):
    found = measured(sampled_report(HelmholtzMachine((20, 15, 10)), Patterns(torch.eye(20)), samples=400, generator=generator))
    assert all(abs(v) < 1e-9 for (m, _, _), v in found.items() if m.startswith("I upper") or m == "active")
    assert_close(found["H upper bound", "generative", 1], 15 * math.log(2))
    assert_close(found["ELBO", "recognition", 0], -20 * math.log(2))


def test_data_are_drawn_by_their_weights(random_machine, generator):
    machine = random_machine(SIZES, replicas=(2,))
    x = source(up(machine), WORLD, 50_000, generator=generator)
    frequency = torch.bincount(encode(x).flatten(), minlength=16) / 100_000
    assert frequency[15] == 0 and x.shape == (2, 50_000, 4)
    assert_close(frequency[[1, 2, 9, 11]], torch.tensor([1, 2, 3, 2]) / 8, rtol=0, atol=0.01)


def test_what_does_not_fit_is_refused(generator):
    with pytest.raises(ValueError, match="data layer has 4 units, the patterns have 3"):
        sampled_report(HelmholtzMachine(SIZES), Patterns(states(3)), generator=generator)
    with pytest.raises(ValueError, match="80 samples or more, not 79"):
        sampled_report(HelmholtzMachine(SIZES), WORLD, samples=79, generator=generator)


@pytest.mark.parametrize("options", [dict(samples=None), dict(samples=100.0), dict(samples=2**63), dict(generator=0), dict(patterns=None)])
def test_mistakes_are_met_with_a_sentence(options):
    given = dict(patterns=states(2), samples=80, generator=torch.Generator().manual_seed(0)) | options
    with pytest.raises(ValueError, match=r"^samples is a whole number|would need|chance comes from|patterns"):
        sampled_report(HelmholtzMachine((2, 2)), **given)


@pytest.mark.parametrize(
    "report",
    [None, pd.DataFrame(), exact_report(HelmholtzMachine((2, 1)), states(2))], ids=["none", "empty", "exact"],
)
def test_intervals_are_of_sampled_reports(report):
    with pytest.raises(ValueError, match="intervals are made of what sampled_report returns"):
        intervals(report)
