"""Allocation rules: theorems over random cases, oracles, compiled forms, and what they refuse."""

import math

import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as some
from torch.testing import assert_close

from helmholtz_mim import (
    ENGINES,
    HelmholtzMachine,
    NotApplicable,
    Patterns,
    Phases,
    TrainConfig,
    down,
    encode,
    entropy,
    sample,
    states,
    train,
    up,
    well_formed,
)
from helmholtz_mim.machine import NotFinite
from helmholtz_mim.rule import Rule, phases
from helmholtz_mim.rules.categorical import (
    CategoricalMIM,
    categorical_entropy_after,
    local_step,
    over_states,
    unit_gains,
)
from helmholtz_mim.rules.factorial import FactorialMIM, leave_one_out, self_consistent, soft_mean, tempered
from helmholtz_mim.rules.perturbation import Flip

RHYTHMS = well_formed(8)
RHYTHMS.bits = RHYTHMS.bits.double()
seeds = some.integers(0, 10**6)
fractions = some.floats(1e-4, 0.9)


def begun(rule, machine, seed=0):
    """The rule, after it has looked at the machine."""
    rule.begin(up(machine), RHYTHMS, 0.1, torch.Generator().manual_seed(seed))
    return rule


def doing(c, epsilon, q):
    """The score of every state of a layer, by making the change and measuring again."""
    m, scores = len(q), []
    delta = epsilon / (1 - epsilon) / 2.0 ** (m - 2)
    h = entropy(c / c.sum())
    for k, y in enumerate(states(m)):
        changed = c.clone()
        changed[k] += delta * c.sum()
        moved = (1 - epsilon) * q + epsilon * y
        after = h + 2.0 ** (m - 2) * (entropy(changed / changed.sum()) - h)
        scores.append(after - entropy(torch.stack([moved, 1 - moved], -1)).sum())
    return torch.stack(scores)


@given(seeds, fractions)
def test_factorial_mim_is_a_threshold(seed, epsilon):
    q, t = torch.rand(2, 500, generator=torch.Generator().manual_seed(seed))
    clear = (q - t).abs() > 1e-7
    gain = unit_gains(t, torch.tensor(epsilon)) - unit_gains(q, torch.tensor(epsilon))
    assert torch.equal((gain[:, 1] > gain[:, 0])[clear], (q > t)[clear])


@given(seeds, some.integers(1, 7), fractions)
def test_categorical_scores_are_what_doing_it_gives(seed, m, epsilon):
    g = torch.Generator().manual_seed(seed)
    c, q, e = torch.rand(2**m, generator=g) ** 6, torch.rand(m, generator=g), torch.tensor([epsilon])
    quick = categorical_entropy_after(c, e) - over_states(unit_gains(q, e))
    assert_close(quick, doing(c, epsilon, q), rtol=1e-7, atol=1e-7)


@given(seeds, some.integers(2, 7))
def test_small_steps_find_the_largest_pointwise_information(seed, m):
    g = torch.Generator().manual_seed(seed)
    c, q = 0.2 + torch.rand(2**m, generator=g), torch.rand(m, generator=g)
    limit = over_states(torch.stack([(1 - q).log(), q.log()], -1)) - (c / c.sum()).log()
    e = torch.tensor([1e-6])
    exact = categorical_entropy_after(c, e) - over_states(unit_gains(q, e))
    assert limit.max() - limit[exact.argmax()] < 1e-3


@given(seeds, some.integers(1, 40), some.integers(1, 5))
def test_the_self_consistent_threshold_is_the_only_crossing(seed, batch, units):
    q = torch.rand(batch, units, generator=torch.Generator().manual_seed(seed)) ** 2
    tau = self_consistent(q)
    fired = (q > tau).double().mean(0)
    assert (q[:, None] > fired - 1e-12)[:, 0][q > tau].all()  # all that fire are above the level they make
    for j in range(units):
        possible = [k for k in range(batch + 1) if (q[:, j] > k / batch).sum() >= k]
        assert round(fired[j].item() * batch) == max(possible)


@given(seeds)
def test_batch_thresholds(seed):
    q = torch.rand(2, 9, 3, generator=torch.Generator().manual_seed(seed))
    assert_close(soft_mean(q)[0, 0, 1], q[0, :, 1].mean())
    assert_close(leave_one_out(q)[1, 4, 2], torch.cat([q[1, :4, 2], q[1, 5:, 2]]).mean())


@given(seeds, some.floats(0.001, 3.0), some.booleans())
def test_the_step_size_is_a_fraction(seed, lr, bias):
    machine = HelmholtzMachine((8, 5, 3), bias=bias).randomise_(3.0, generator=torch.Generator().manual_seed(seed))
    epsilon = local_step(machine.recognition[0], RHYTHMS.bits, RHYTHMS.weights, lr)
    assert 0 < epsilon < 1


RULES = {
    "flip": (lambda: Flip(0.3), {}),
    "flip, batches": (lambda: Flip(0.3), dict(batch=5)),
    "factorial": (FactorialMIM, {}),
    "factorial, batches": (FactorialMIM, dict(batch=7, dreams=3)),
    "factorial, a fraction": (FactorialMIM, dict(batch=5, every=10, fraction=0.4, anneal=0.7)),
    "factorial, by chance": (FactorialMIM, dict(every=10, fraction=0.3)),
    "tempered": (lambda: FactorialMIM(3.0, 1.0), {}),
    "categorical": (CategoricalMIM, {}),
    "mean of entropies": (lambda: CategoricalMIM(share=0.5), {}),
    "factorial entropy": (lambda: CategoricalMIM(share=0.0), {}),
    "sampled": (lambda: CategoricalMIM(sharpness=10.0), {}),
    "asleep": (lambda: Phases(asleep=CategoricalMIM()), {}),
    "both": (lambda: Phases(FactorialMIM(), FactorialMIM()), dict(dreams=4)),
}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", RULES)
def test_both_forms_of_a_rule_make_the_same_machine(name, bias, seed):
    make, protocol = RULES[name]
    machines = []
    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine((8, 5, 4, 2), bias=bias, replicas=(2,))
        config = TrainConfig(**{"epochs": 5, "every": 3} | protocol)
        train(machine, RHYTHMS, config, allocate=make(), engine=engine, generator=torch.Generator().manual_seed(seed))
        machines.append(machine)
    assert same_weights(*machines, atol=1e-9)


def test_a_rule_never_called_upon_changes_nothing(seed):
    machines = []
    for rule in (FactorialMIM(), Flip()):
        machine = HelmholtzMachine((8, 5, 2), replicas=(2,))
        config = TrainConfig(epochs=2, every=10**6)
        train(machine, RHYTHMS, config, allocate=rule, generator=torch.Generator().manual_seed(seed))
        machines.append(machine)
    assert same_weights(*machines)


def test_a_table_of_constant_mass_stays_a_distribution_when_rescaled(generator):
    machine = HelmholtzMachine((8, 3)).randomise_(1.0, generator=generator)
    rule = begun(CategoricalMIM(epsilon=0.8), machine)
    z = [RHYTHMS.bits[:1], torch.ones(1, 3)]
    for _ in range(200):
        rule.observe(z)
    s, table = rule.recall(1).mass, rule.recall(1).table
    assert s < 3000 and math.isclose(table.sum(), s, rel_tol=1e-9) and table.argmax() == 7


def usual_of(machine, patterns, layer, generator):
    """How often each unit of a layer fires, as the factorial rule finds it when an epoch begins."""
    rule = FactorialMIM(epsilon=None)
    rule.begin(up(machine), patterns, 0.1, generator)
    return rule.usual(layer, torch.zeros(*machine.replicas, 1, machine.sizes[layer])).squeeze(-2)


def test_a_machine_that_can_be_enumerated_has_exact_frequencies(random_machine, generator):
    machine = random_machine((8, 5, 2), bias=True)
    expected = RHYTHMS.weights @ machine.recognition[0](RHYTHMS.bits)
    assert_close(usual_of(machine, RHYTHMS, 1, generator), expected)


def test_the_local_rule_looks_at_nothing_but_what_was_used(random_machine, generator):
    """From one half on, a fraction ε of the way to every pattern; and an epoch that begins changes nothing."""
    machine, rule = random_machine((8, 5, 2)), FactorialMIM(epsilon=0.25)
    rule.bind(up(machine))
    assert (rule.recall(1).usual == 0.5).all() and (rule.recall(2).usual == 0.5).all()
    rule.observe([None, torch.tensor([[1.0, 0, 1, 0, 1]]), torch.ones(1, 2)])
    followed = torch.tensor([0.625, 0.375, 0.625, 0.375, 0.625]).double()
    assert_close(rule.recall(1).usual, followed)
    rule.begin(up(machine), RHYTHMS, 0.1, generator)
    assert_close(rule.recall(1).usual, followed)
    assert rule.estimate_every > 10**15 and FactorialMIM(epsilon=None).estimate_every == 1


def test_tempered_evidence_at_certainty_is_the_limit():
    p, t = torch.tensor([0.0, 1, 0, 1, 0.7]), torch.tensor([0.0, 1, 1, 0, 0.2])
    logit = lambda q: math.log(q / (1 - q))
    for alpha, beta, limit in ((2.0, 0.5, math.inf), (0.5, 2.0, -math.inf), (1.0, 1.0, 0.0)):
        expected = [-limit, limit, -math.inf, math.inf, alpha * logit(0.7) - beta * logit(0.2)]
        assert_close(tempered(p, t, alpha, beta), torch.tensor(expected))
    assert_close(leave_one_out(torch.tensor([[0.2], [0.6]])), torch.tensor([[0.6], [0.2]]))


@pytest.mark.parametrize("replicas", [(), (3,)])
def test_a_machine_too_wide_to_enumerate_is_sampled_by_the_weights_of_the_data(replicas, generator):
    sizes = (20, 12, 4)  # 2^32 joint states of the lowest pair
    machine = HelmholtzMachine(sizes, bias=True, replicas=replicas).double()
    for tensor in machine.state_dict().values():
        tensor.normal_(generator=generator)
    world = Patterns((torch.rand(5, 20, generator=generator) < 0.5).double(), weights=[1, 2, 0, 3, 4])
    middle = machine.recognition[0](world.bits).mT @ world.weights
    assert_close(usual_of(machine, world, 1, generator), middle, rtol=0, atol=5 * 0.5 / 1000**0.5)
    z, one, top = states(12), machine.recognition[0], 0.0
    for datum, weight in zip(world.bits, world.weights, strict=True):
        p = one.log_prob(z, datum.expand(len(z), -1)).exp()
        top = top + weight * (p.unsqueeze(-2) @ machine.recognition[1](z)).squeeze(-2)
    assert_close(usual_of(machine, world, 2, generator), top, rtol=0, atol=5 * 0.5 / 1000**0.5)


def test_allocation_is_a_function_of_the_input_alone(generator):
    machine = HelmholtzMachine((8, 5, 2)).randomise_(1.0, generator=generator)
    p = machine.recognition[0](RHYTHMS.bits)
    for rule in (FactorialMIM(), CategoricalMIM()):
        begun(rule, machine)
        one, other = (rule(1, p, torch.rand(p.shape, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
        assert rule.deterministic and torch.equal(one, other) and torch.equal(one, rule(1, p, None))
        assert len(encode(one).unique()) > 1


def test_tempering_lies_between_wake_sleep_and_mim(generator):
    machine = HelmholtzMachine((8, 5, 2)).randomise_(1.0, generator=generator)
    p = machine.recognition[0](RHYTHMS.bits).expand(2000, -1, -1)
    u = torch.rand(p.shape, generator=generator)
    plain = begun(FactorialMIM(1.0, 0.0), machine)(1, p, u).mean(0)
    assert (plain - p[0]).abs().max() < 5 * 0.5 / 2000**0.5
    hard, mim = (begun(FactorialMIM(*a), machine)(1, p[:1], u[:1]) for a in ((1e6, 1e6), (math.inf, math.inf)))
    assert torch.equal(hard, mim)


@pytest.mark.parametrize("engine", ["auto", *ENGINES])
@pytest.mark.parametrize("kind", [FactorialMIM, CategoricalMIM])
def test_one_rule_with_a_memory_in_two_phases_is_refused(kind, engine):
    machine, rule = HelmholtzMachine((8, 5, 2)).float(), kind()
    with pytest.raises(ValueError, match="remembers the recognition chain, and one rule cannot remember both") as refusal:
        train(
            machine, RHYTHMS, TrainConfig(1), allocate=Phases(rule, rule), engine=engine, generator=torch.Generator().manual_seed(0)
        )
    assert "\n" not in str(refusal.value) and "Phases(awake=…, asleep=…)" in str(refusal.value)
    assert same_weights(machine, HelmholtzMachine((8, 5, 2)).float())


@pytest.mark.parametrize("kind", [FactorialMIM, CategoricalMIM])
def test_the_direction_of_a_rule_is_the_chain_that_it_was_bound_to_first(kind):
    machine, day, night = HelmholtzMachine((8, 5, 2)), kind(), kind()
    day.bind(up(machine)), night.bind(down(machine))
    day.bind(up(machine)), night.bind(down(machine))  # the same again is welcome
    assert [*day.memory.layers] == [1, 2] and sorted(night.memory.layers) == [0, 1]
    for rule, other, way in ((day, down, "recognition"), (night, up, "generative")):
        with pytest.raises(ValueError, match=f"remembers the {way} chain"):
            rule.bind(other(machine))


class Counting(Rule):
    """A rule that sees what was used, and remembers nothing of a machine."""

    def __call__(self, layer, p, u):
        return sample(layer, p, u)

    def observe(self, z):
        self.seen = getattr(self, "seen", 0) + 1


def test_a_rule_without_a_memory_serves_two_phases():
    rule, without = Counting(), Flip(0.2)
    for one, other in [(without, without), (sample, sample), (rule, Counting()), (rule, sample), (sample, rule), (rule, rule)]:
        assert phases(Phases(one, other)) == Phases(one, other)
    assert phases(rule) == Phases(rule, sample)


REFUSED = {
    "rate": (lambda m: Flip(-0.1), "between 0 and 1"),
    "rate of nothing": (lambda m: Flip(None), "between 0 and 1, not at None"),
    "epsilon in words": (lambda m: CategoricalMIM(epsilon="0.1"), "between 0 and 1, not at '0.1'"),
    "sharpness": (lambda m: CategoricalMIM(sharpness=math.nan), "sharpness above 0, not at 1.0 and nan"),
    "temper that is no number": (lambda m: FactorialMIM(math.nan, 1.0), "finite and not negative; not nan and 1.0"),
    "threshold": (lambda m: FactorialMIM(threshold=0.5), "threshold is a function, not 0.5"),
    "epsilon above": (lambda m: CategoricalMIM(epsilon=1.0), "between 0 and 1"),
    "epsilon below": (lambda m: FactorialMIM(epsilon=0.0), "between 0 and 1"),
    "share": (lambda m: CategoricalMIM(share=-1.0), "between 0 and 1"),
    "temper": (lambda m: FactorialMIM(alpha=1.0), "both infinite, or both finite"),
    "a rate in words": (lambda m: Flip("often"), "between 0 and 1, not at 'often'"),
    "a switch for a rate": (lambda m: Flip(True), "between 0 and 1, not at True"),
    "share in words": (lambda m: CategoricalMIM("all"), "share lies between 0 and 1"),
    "temper in words": (lambda m: FactorialMIM("much", "little"), "both infinite, or both finite"),
    "temper of no number": (lambda m: FactorialMIM(math.nan, math.nan), "not nan and nan"),
    "the other chain": (lambda m: begun(FactorialMIM(), m).bind(down(m)), r"recognition chain.*Phases\(awake=…, asleep=…\)"),
    "too wide": (lambda m: begun(CategoricalMIM(), HelmholtzMachine((8, 20, 2))), "has 2.20 states.*use FactorialMIM"),
    "other machine": (lambda m: begun(begun(FactorialMIM(), m), HelmholtzMachine((8, 4, 2))), "make a new rule"),
    "no machine": (lambda m: FactorialMIM()(1, torch.rand(1, 5), None), "bind it to a chain and let it begin"),
    "batch of one": (lambda m: leave_one_out(torch.rand(1, 3)), "at least two"),
    "every": (lambda m: TrainConfig(1, every=0), "at least 1"),
    "negative every": (lambda m: TrainConfig(1, every=-3), "at least 1"),
    "fraction": (lambda m: TrainConfig(1, fraction=1.2), "between 0 and 1"),
    "anneal": (lambda m: TrainConfig(1, anneal=0.5), "fraction"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refusals_are_one_sentence(name):
    mistake, words = REFUSED[name]
    with pytest.raises(ValueError, match=words) as refusal:
        mistake(HelmholtzMachine((8, 5, 2)))
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("engine", ["torch", "batched"])
@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("decide", [lambda layer, p, u: (p > 0.5).to(p)[:1], lambda layer, p, u: None])
def test_a_pattern_of_another_shape_is_not_stretched(decide, every, engine):
    machine, run = HelmholtzMachine((8, 5, 2), replicas=2).float(), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"a rule decided (\(1, 4, 5\)|None) for layer 1: return bits shaped as p, \(2, 4, 5\)"):
        train(machine, RHYTHMS, TrainConfig(4, batch=4, every=every), allocate=decide, engine=engine, generator=run)


@pytest.mark.parametrize("every", [1, 2])
@pytest.mark.parametrize("engine", ["torch", "batched"])
@pytest.mark.parametrize("decide", [lambda layer, p, u: p, lambda layer, p, u: 3 * p, lambda layer, p, u: p * math.nan])
def test_what_is_no_bit_is_not_learnt(decide, every, engine):
    machine, run = HelmholtzMachine((8, 5, 2), replicas=2).float(), torch.Generator().manual_seed(0)
    with pytest.raises(ValueError, match=r"a rule decided (\d\.\d+|nan) for a unit of layer 1: return zeros and ones"):
        train(machine, RHYTHMS, TrainConfig(4, batch=4, every=every), allocate=decide, engine=engine, generator=run)


@pytest.mark.parametrize("engine", ["torch", "batched"])
def test_a_rule_is_not_blamed_for_weights_that_are_no_numbers(engine):
    machine, run = HelmholtzMachine((8, 5, 2), replicas=2).float(), torch.Generator().manual_seed(0)
    with pytest.raises(NotFinite, match="train again from the start with a smaller lr"):
        train(machine, RHYTHMS, TrainConfig(9, lr=3e38, every=1), allocate=lambda layer, p, u: p.round(), engine=engine, generator=run)


def test_rules_that_need_the_batch_say_so():
    machine, run = HelmholtzMachine((8, 5, 2)), torch.Generator().manual_seed(0)
    for rule in (FactorialMIM(threshold=soft_mean), CategoricalMIM()):
        with pytest.raises(NotApplicable, match="engine='torch'"):
            train(machine, RHYTHMS, TrainConfig(1, batch=4), allocate=rule, engine="compiled", generator=run)
        train(machine, RHYTHMS, TrainConfig(1, batch=4, every=2), allocate=rule, generator=run)


@pytest.mark.parametrize("lr", [0.1, 10.0, 1e4])
def test_a_step_of_any_size_goes_the_fraction_that_it_goes(lr, random_machine):
    layer, x = random_machine((4, 3)).recognition[0], states(4)[1:]
    before, ways = layer(x), []
    for y in (0.0, 1.0):
        moved = layer.logits(x) - lr * (x.sum(-1, keepdim=True) + (layer.bias is not None)) * (before - y)
        ways.append((before - moved.sigmoid()) / (before - y))
    even = torch.full((len(x),), 1 / len(x))
    assert_close(local_step(layer, x, even, lr), torch.stack(ways).mean())


@pytest.mark.parametrize("replicas", [(), (2,)])
def test_a_table_is_counted_where_the_layers_below_are_too_wide(replicas, random_machine, generator):
    machine, rule = random_machine((24, 6, 3), replicas=replicas), CategoricalMIM(epsilon=0.1)
    data = Patterns(torch.rand(50, 24, generator=generator).round())
    rule.begin(up(machine), data, 0.1, generator)
    for layer, units in ((1, 6), (2, 3)):
        memory = rule.memory[layer]
        assert memory.table.shape == (*replicas, 2**units) and (memory.table * 1000 - (memory.table * 1000).round()).abs().max() < 1e-9
        assert_close(memory.table.sum(-1), torch.ones(replicas))
        assert_close(memory.usual, memory.table @ states(units))


@pytest.mark.parametrize("weight", [40.0, 400.0])
def test_steps_of_almost_certain_units_are_not_lost(weight):
    """Towards its own answer a unit goes lr of the way times what is left, and so does it towards the other."""
    layer = HelmholtzMachine((1, 1)).recognition[0]
    layer.weight.fill_(weight)
    step = local_step(layer, torch.ones(1, 1), torch.ones(1), 0.1)
    left = math.exp(-weight)
    expected = left * (0.1 + math.expm1(0.1)) / 2  # to first order in what is left
    assert_close(step.item(), expected, rtol=1e-12, atol=0.0)
