"""Exact diagnostics against plain sums over states, against samples, and against theorems."""

import itertools
import math
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import (
    BinaryLayer,
    FactorialMIM,
    HelmholtzMachine,
    Patterns,
    channel,
    clamped_kl,
    downward,
    down,
    dream,
    encode,
    entropy,
    exact_report,
    kl,
    losses,
    mutual_information,
    states,
    up,
    upward,
    wake,
    well_formed,
)
from helmholtz_mim.layers import logit_entropy
from helmholtz_mim.pushforward import log_kl, push, push_in_logs

SIZES = (4, 3, 2)
WORLD = Patterns(states(4)[[1, 2, 9, 11, 11, 15]], weights=[1, 2, 3, 1, 1, 0])  # one twice, one never
seeds, widths = st.integers(0, 2**32), st.integers(1, 5)


def random_layer(n_in, n_out, seed, scale=2.0):
    generator = torch.Generator().manual_seed(seed)
    layer = BinaryLayer(n_in, n_out, bias=True).double()
    for tensor in layer.state_dict().values():
        tensor.normal_(std=scale, generator=generator)
    return layer


def random_distribution(n, seed):
    p = torch.rand(2**n, generator=torch.Generator().manual_seed(seed)).pow(3)
    return p / p.sum()


def measured(report):
    """(measure, direction, layer) to value, for a report on one machine."""
    return report.set_index(["measure", "direction", "layer"]).value.to_dict()


# Channels


@given(st.integers(1, 3), st.integers(1, 3), seeds)
def test_a_channel_is_what_a_double_loop_makes_of_it(n_in, n_out, seed):
    layer, table = random_layer(n_in, n_out, seed), torch.empty(2**n_in, 2**n_out)
    for x, y in itertools.product(range(2**n_in), range(2**n_out)):
        table[x, y] = layer.log_prob(states(n_out)[[y]], states(n_in)[[x]]).exp()
    assert_close(channel(layer), table)
    assert_close(channel(layer).sum(-1), torch.ones(2**n_in))


@given(widths, widths, seeds)
def test_pushing_a_distribution_is_a_double_loop_over_states(n_in, n_out, seed):
    layer, p = random_layer(n_in, n_out, seed), random_distribution(n_in, seed + 1)
    p[0] = 0.0
    table, pushed = channel(layer), torch.zeros(2**n_out)
    for x, y in itertools.product(range(2**n_in), range(2**n_out)):
        pushed[y] += p[x] * table[x, y]
    for way in (push(p.log(), layer, states(n_in)), push_in_logs(p.log(), layer.logits(states(n_in)))):
        assert_close(way.exp(), pushed)


def test_logarithms_are_pushed_only_where_numbers_are_too_small(seed, monkeypatch):
    def slow(*arguments):
        raise AssertionError("the slow way was taken")

    monkeypatch.setattr(sys.modules[push.__module__], "push_in_logs", slow)
    layer, p = random_layer(12, 11, seed, scale=0.5), random_distribution(12, seed + 1)
    assert_close(push(p.log(), layer, states(12)).exp(), p @ channel(layer))
    layer.weight.mul_(1e4)
    with pytest.raises(AssertionError, match="the slow way"):
        push(torch.zeros(1), layer, torch.ones(1, 12))


def test_long_inputs_are_pushed_in_blocks(seed):
    layer, p = random_layer(12, 11, seed, scale=0.5), random_distribution(12, seed + 1)
    assert_close(push(p.log(), layer, states(12)).exp(), p @ channel(layer))
    assert_close(push_in_logs(p.log(), layer.logits(states(12))).exp(), p @ channel(layer))


@pytest.mark.parametrize("weight", [300.0, 1e4])
def test_nothing_is_clamped(weight):
    layer = BinaryLayer(3, 4)
    layer.weight.fill_(weight)
    p = torch.tensor([0.0, 0.5, 0, 0, 0.5, 0, 0, 0])  # one unit on, so that each output is on for certain
    rare = push(p.log(), layer, states(3))
    assert_close(rare, -weight * (4 - states(4).sum(-1)))
    assert_close(rare, push_in_logs(p.log(), layer.logits(states(3))))


# The report


def joint_tables(machine, patterns, way):
    """For each pair of layers the table p(z_l, z_{l+1}), by a plain sum over all states of all layers."""
    z = states(sum(machine.sizes)).split(machine.sizes, dim=-1)
    if way == "generative":
        p = machine.prior.log_prob(z[-1], z[-1][:, :0]).exp()
        for l, g in enumerate(machine.generative):
            p = p * g.log_prob(z[l], z[l + 1]).exp()
    else:
        data = torch.zeros(2 ** machine.sizes[0]).index_add(0, encode(patterns.bits), patterns.weights)
        p = data[encode(z[0])]
        for l, r in enumerate(machine.recognition):
            p = p * r.log_prob(z[l + 1], z[l]).exp()
    tables = []
    for l, (n, m) in enumerate(itertools.pairwise(machine.sizes)):
        place = encode(z[l]) * 2**m + encode(z[l + 1])
        tables.append(torch.zeros(2 ** (n + m)).index_add(0, place, p).reshape(2**n, 2**m))
    return tables


def information(table):
    return entropy(table.sum(0)) + entropy(table.sum(1)) - entropy(table.flatten())


@given(seeds)
def test_the_report_is_a_plain_sum_over_joint_states(seed):
    machine = HelmholtzMachine(SIZES, bias=True).randomise_(2.0, generator=torch.Generator().manual_seed(seed))
    value, layers = measured(exact_report(machine, WORLD)), {}
    for way in ("recognition", "generative"):
        tables = joint_tables(machine, WORLD, way)
        layers[way] = [tables[0].sum(1), *(t.sum(0) for t in tables)]
        for l, table in enumerate(tables):
            assert_close(value["I", way, l], information(table).item())
    for l, n in enumerate(SIZES):
        pair = layers["recognition"][l], layers["generative"][l]
        for way, p, q in [("recognition", *pair), ("generative", *pair[::-1])]:
            assert_close(value["H", way, l], entropy(p).item())
            assert_close(value["H/max", way, l], entropy(p).item() / n / math.log(2))
            assert_close(value["top", way, l], p.max().item())
            assert_close(value["KL", way, l], kl(p, q).item())


def test_distributions_are_those_of_the_joint_states(random_machine):
    machine = random_machine(SIZES, bias=True, replicas=(2, 3))
    up, down = upward(machine, WORLD), downward(machine)
    for way, found in [("recognition", up), ("generative", down)]:
        tables = joint_tables(machine.replica(4), WORLD, way)
        for l, p in enumerate([tables[0].sum(1), *(t.sum(0) for t in tables)]):
            assert found[l].shape == (2, 3, 2 ** SIZES[l])
            assert_close(found[l][1, 1], p)


def test_the_report_agrees_with_a_large_sample(random_machine, generator):
    machine, count = random_machine(SIZES, bias=True), 400_000
    value = measured(exact_report(machine, WORLD))
    data = WORLD.bits.double()[torch.multinomial(WORLD.weights, count, True, generator=generator)]
    awake, asleep = wake(machine, data, generator=generator), dream(machine, count, generator=generator)
    for way, z in [("recognition", awake), ("generative", asleep)]:
        for l, (n, m) in enumerate(itertools.pairwise(SIZES)):
            place = encode(z[l]) * 2**m + encode(z[l + 1])
            table = torch.bincount(place, minlength=2 ** (n + m)).double().reshape(2**n, 2**m) / count
            assert_close(value["I", way, l], information(table).item(), rtol=0, atol=0.01)
            assert_close(value["H", way, l], entropy(table.sum(1)).item(), rtol=0, atol=0.01)


def test_patterns_that_never_occur_are_off_the_support(random_machine):
    machine = random_machine(SIZES, bias=True)
    value, model = measured(exact_report(machine, WORLD)), downward(machine)[0]
    support = model[[1, 2, 9, 11]]
    assert_close(value["off-support", "generative", 0], 1 - support.sum().item())
    assert_close(value["KL on support", "generative", 0], kl(support / support.sum(), torch.tensor([1, 2, 3, 2]) / 8).item())
    assert value["KL", "generative", 0] == math.inf


def test_data_everywhere_leaves_nothing_off_the_support(random_machine):
    machine, everything = random_machine(SIZES), Patterns(states(4), weights=torch.arange(1, 17))
    value = measured(exact_report(machine, everything))
    assert value["off-support", "generative", 0] == 0
    assert_close(value["KL on support", "generative", 0], value["KL", "generative", 0])


def test_saturated_machines_have_finite_reports(random_machine):
    machine = random_machine(SIZES, bias=True, scale=1000.0)
    report = exact_report(machine, Patterns(states(4)))
    assert report.value.map(math.isfinite).all()
    assert (report.query("measure in ('H', 'KL', 'I')").value > -1e-9).all()


def test_replicas_are_reported_one_by_one(random_machine):
    machine = random_machine(SIZES, bias=True, replicas=(2, 3))
    report = exact_report(machine, WORLD)
    assert report.replica.unique().tolist() == list(range(6))
    alone, together = measured(exact_report(machine.replica(4), WORLD)), measured(report[report.replica == 4])
    assert_close(together, alone)


def test_single_precision_machines_are_reported_in_double(random_machine):
    machine = random_machine(SIZES, bias=True).float()
    single, double = (measured(exact_report(m, WORLD)) for m in (machine, machine.replica(0).double()))
    assert_close(single, double, rtol=1e-4, atol=1e-5)
    assert all(p.dtype == torch.float64 for p in [*upward(machine, WORLD), *downward(machine)])


# Theorems


@given(widths, widths, widths, seeds)
def test_information_is_bounded_and_only_lost_on_the_way(n, m, k, seed):
    first, second, p = random_layer(n, m, seed), random_layer(m, k, seed + 1), random_distribution(n, seed + 2)
    middle, through = p @ channel(first), channel(first) @ channel(second)
    near, late = mutual_information(first, p), mutual_information(second, middle)
    assert -1e-12 <= near <= min(entropy(p), entropy(middle)) + 1e-12
    assert information(p[:, None] * through) <= min(near, late) + 1e-12


@given(st.integers(1, 6), seeds)
def test_independent_units_have_at_least_the_entropy_of_the_layer(n, seed):
    p = random_distribution(n, seed)
    means = p @ states(n)
    assert entropy(torch.stack([means, 1 - means], -1)).sum() >= entropy(p) - 1e-12


@given(st.integers(1, 6), seeds)
def test_divergence_is_positive_except_from_itself(n, seed):
    p, q = random_distribution(n, seed), random_distribution(n, seed + 1)
    assert kl(p, q) > 0 and kl(p, p) == 0
    assert_close(clamped_kl(p, q), kl(p, q))


def test_of_replicas_each_has_its_own_information(seed):
    layers = [random_layer(3, 2, seed + k) for k in range(4)]
    p = torch.stack([random_distribution(3, seed + k) for k in range(4)])
    stack = BinaryLayer(3, 2, bias=True, replicas=(4,)).double()
    stack.load_state_dict({name: torch.stack([one.state_dict()[name] for one in layers]) for name in layers[0].state_dict()})
    tables = [channel(one) for one in layers]
    assert_close(channel(stack), torch.stack(tables))
    expected = [information(q[:, None] * table) for q, table in zip(p, tables, strict=True)]
    assert_close(mutual_information(stack, p), torch.stack(expected))
    assert_close(push_in_logs(p.log(), stack.logits(states(3))).exp(), torch.stack([q @ table for q, table in zip(p, tables, strict=True)]))
    many = mutual_information(BinaryLayer(1, 1, replicas=(30,)), torch.tensor([0.5, 0.5]))
    assert many.shape == (30,), "as many as there are bits in the limit"


def test_what_cannot_happen_costs_what_its_logarithm_is_said_to_be():
    p, q = torch.tensor([[0.5, 0.5, 0], [0, 0, 1]]), torch.tensor([0.25, 0, 0.75])
    for log_zero in (-20.0, -0.5):
        expected = [-math.log(2) - 0.5 * math.log(0.25) - 0.5 * log_zero, -math.log(0.75)]
        assert_close(clamped_kl(p, q, log_zero), torch.tensor(expected))
    assert_close(clamped_kl(p, q), clamped_kl(p, q, -100.0))
    with pytest.raises(ValueError, match="a number below 0, not 0"):
        clamped_kl(p, q, 0)


def test_entropy_of_known_distributions():
    assert entropy(torch.tensor([1.0, 0, 0])) == 0
    assert_close(entropy(torch.full((3, 8), 1 / 8)), torch.full((3,), 3 * math.log(2)))


# Limits


def test_tables_beyond_the_limit_are_refused():
    wide = HelmholtzMachine((17, 10))
    data, layer = Patterns(torch.zeros(1, 17)), wide.recognition[0]
    for ask in (lambda: exact_report(wide, data), lambda: downward(wide), lambda: channel(layer)):
        with pytest.raises(ValueError, match=r"2\^27 entries, and 2\^26 is the limit.*sampled_report"):
            ask()
    assert len(downward(wide, largest=27)) == 2
    with pytest.raises(ValueError, match=r"2\^27 entries"):
        mutual_information(BinaryLayer(17, 10, replicas=(2,)), torch.tensor([0.5, 0.5]))


@pytest.mark.parametrize("units", [3, 5])
def test_patterns_of_another_width_are_refused(units):
    for ask in (exact_report, upward):
        with pytest.raises(ValueError, match=f"data layer has 4 units, the patterns have {units}"):
            ask(HelmholtzMachine(SIZES), Patterns(torch.zeros(1, units)))


MEMORY = """
import re, torch
from pathlib import Path
from helmholtz_mim import HelmholtzMachine, exact_report, well_formed
_ = exact_report(HelmholtzMachine((8, 3)), well_formed(8))
machine = HelmholtzMachine((12, 10, 8, 6, 3), replicas=(REPLICAS,)).randomise_(SCALE, generator=torch.Generator().manual_seed(0))
Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) * 1024
before = peak()
_ = exact_report(machine, well_formed(12))
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="memory is read from Linux")
@pytest.mark.parametrize("replicas, scale", [(1, 1.0), (16, 1.0), (16, 300.0)])
def test_a_report_fits_into_200_megabytes(replicas, scale):
    code = MEMORY.replace("REPLICAS", str(replicas)).replace("SCALE", str(scale))
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(run.stdout) < 200e6


def test_the_faithful_machine_starts_from_ignorance():
    value = measured(exact_report(HelmholtzMachine((12, 10, 8, 6, 3)), well_formed(12)))
    assert_close(value["KL", "recognition", 0], 12 * math.log(2) - math.log(905))
    assert_close(value["off-support", "generative", 0], 1 - 905 / 4096)
    assert all(abs(v) < 1e-9 for (measure, _, _), v in value.items() if measure == "I")


SMALL = {
    "exact_report": exact_report,
    "begin": lambda machine, patterns: FactorialMIM(epsilon=None).begin(up(machine), patterns, 0.1, torch.Generator().manual_seed(0)),
    "losses": lambda machine, patterns: losses(machine, patterns, generator=torch.Generator().manual_seed(0)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_products_ask_for_one_thread(name, monkeypatch, random_machine):
    """Shared out, they would wait for whoever else uses the processors."""
    machine, asked = random_machine((5, 4, 3)), []
    monkeypatch.setattr(torch, "get_num_threads", lambda: 7)
    monkeypatch.setattr(torch, "set_num_threads", asked.append)
    SMALL[name](machine, Patterns(states(5)))
    assert asked == [1, 7]
    with pytest.raises((ValueError, RuntimeError)):
        SMALL[name](machine, Patterns(states(4)))
    assert asked == [1, 7] * 2, "also after a refusal"


@pytest.mark.parametrize(
    "p",
    [None, [0.5, 0.5], torch.tensor([1, 0]), torch.tensor(1.0), torch.tensor([1.5, -0.5]), torch.ones(2) * 1j, torch.ones(3)],
)
def test_what_is_no_distribution_is_refused(p):
    half, layer = torch.tensor([0.5, 0.5]), BinaryLayer(1, 2)
    for measure in (lambda: kl(half, p), lambda: clamped_kl(half, p), lambda: mutual_information(layer, p)):
        with pytest.raises(ValueError, match=r"distributions are tensors of probabilities of as many states|has 2\^1 input states"):
            measure()


def test_the_sentence_says_what_the_distributions_are():
    half = torch.tensor([0.5, 0.5])
    for other, words in ((None, "None"), ("half", "'half'"), (torch.ones(3), r"\(3,\) of torch.float64")):
        with pytest.raises(ValueError, match=rf"none below zero, not \(2,\) of torch.float64 and {words}$"):
            kl(half, other)


def test_reports_take_tables_of_bits(random_machine):
    machine, bits = random_machine((3, 2)), states(3)[1:]
    assert exact_report(machine, bits.tolist()).equals(exact_report(machine, Patterns(bits)))
    assert all(torch.equal(a, b) for a, b in zip(upward(machine, bits), upward(machine, Patterns(bits)), strict=True))
    with pytest.raises(ValueError, match="largest is a whole number of at least 0, not None"):
        exact_report(machine, bits, largest=None)
    with pytest.raises(ValueError, match="log_zero stands for the logarithm of zero"):
        clamped_kl(torch.ones(1), torch.ones(1), math.nan)


@pytest.mark.parametrize("scale", [0.0, 1.0, 30.0, 3000.0])
@pytest.mark.parametrize("replicas", [(), (2, 3)])
def test_fast_reports_are_what_the_definitions_say(scale, replicas, random_machine):
    """Entropies unit by unit, and distributions pushed in log space, without half tables."""
    machine = random_machine((5, 4, 1, 3), bias=True, scale=scale, replicas=replicas)
    report = exact_report(machine, Patterns(states(5)))
    for way, pushed in (("recognition", upward(machine, states(5))), ("generative", downward(machine))):
        for chain in (up(machine), down(machine)):
            for layer, to, of in chain.links if chain.way == way else ():
                if of is not None:
                    s, p = layer.logits(states(machine.sizes[of])), pushed[of]
                    out = push_in_logs(p.log(), s)
                    assert_close(pushed[to], out.exp(), rtol=1e-12, atol=1e-14)
                    noise = (p * logit_entropy(s).sum(-1)).sum(-1)
                    rows = (report.measure == "I") & (report.direction == way) & (report.layer == min(to, of))
                    expected = (entropy(out.exp()) - noise).flatten()
                    assert_close(torch.tensor(report.value[rows].to_numpy()), expected, rtol=0, atol=1e-12)


def test_a_divergence_between_two_precisions_is_that_of_the_finer():
    p, q = (torch.tensor(x).double().log() for x in ([0.5, 0.5, 0.0], [0.25, 0.5, 0.25]))
    expected = log_kl(p, q)
    assert_close(expected, torch.tensor(0.5 * math.log(2)).double())
    assert_close(log_kl(p.float(), q), expected)
    assert_close(log_kl(p, q.float()), expected)
