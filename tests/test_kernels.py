"""Compiled kernels stay inside their memory, raise nothing, and agree with the readable form at every limit."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import same_weights
from hypothesis import example, given
from hypothesis import strategies as some
from numba import njit

from helmholtz_mim import HelmholtzMachine, Kernel, NotApplicable, Patterns, Phases, Stream, TrainConfig
from helmholtz_mim import down, encode, sample, states, train, up
from helmholtz_mim.elementary import where
from helmholtz_mim.engines import batched, compiled, loop
from helmholtz_mim.engines.compiled import fitting, pointer, signatures
from helmholtz_mim.engines.lanes import LANES, cells
from helmholtz_mim.engines.loop import OneByOne, SideBySide
from helmholtz_mim.rules.categorical import CategoricalMIM, allocate_best, allocate_sharpened, local_step, unit_gains, update_table
from helmholtz_mim.rules.factorial import FactorialMIM, allocate_tempered, tempered, update_habit
from helmholtz_mim.rules.perturbation import Flip
from helmholtz_mim.rule import Rule
from helmholtz_mim.streams import fill_double, fill_single

RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.3),
    "threshold": FactorialMIM,
    "tempered": lambda: FactorialMIM(3.0, 1.0),
    "table": CategoricalMIM,
    "half a table": lambda: CategoricalMIM(share=0.5),
    "drawn from a table": lambda: CategoricalMIM(sharpness=10.0),
}
WAYS = {
    "awake": lambda make: make(),
    "asleep": lambda make: Phases(asleep=make()),
    "both": lambda make: Phases(make(), make()),
}


FORMS = {"side by side": SideBySide, "one by one": OneByOne}


def trained(rule, sizes=(8, 5, 3), lr=0.1, scale=0.5, chosen="compiled", dtype=torch.float64, **protocol):
    """A machine after two short epochs in which the rule decides often."""
    machine = HelmholtzMachine(sizes, replicas=(2,), bias=True).to(dtype)
    machine.randomise_(scale, generator=torch.Generator().manual_seed(1))
    world = Patterns(states(sizes[0])[3::5][:12])
    config = TrainConfig(**dict(epochs=2, every=2, lr=lr) | protocol)
    train(machine, world, config, allocate=rule, engine=chosen, generator=torch.Generator().manual_seed(2))
    return machine


# Bounds

COMPILED = {name: code for name, code in vars(loop).items() if hasattr(code, "py_func")}


@pytest.fixture(params=FORMS)
def form(request, monkeypatch):
    """Each layout in turn, for machines of every size."""
    monkeypatch.setattr(compiled, "form_for", lambda sizes, replicas: FORMS[request.param])


@pytest.fixture
def bounds_checked(monkeypatch):
    """The compiled loop and all kernels as plain Python, where numpy refuses an index outside of its array."""
    for name, code in COMPILED.items():
        monkeypatch.setattr(loop, name, code.py_func)
    monkeypatch.setattr(compiled, "epochs", loop.epochs)
    monkeypatch.setattr(compiled, "layout", lambda *which: loop.layout(*which).view(np.recarray))  # whose fields have names
    monkeypatch.setattr(compiled, "pointer", lambda function, signature: function)


def test_all_that_is_compiled_is_checked():
    assert set(COMPILED) == {"learn", "show", "consult", "remember", "phase", "epochs"}
    assert not [name for name, code in vars(compiled).items() if hasattr(code, "py_func") and name not in COMPILED]


@pytest.mark.filterwarnings("ignore:overflow encountered")  # of the streams' integers, which wrap around
@pytest.mark.filterwarnings("ignore:(divide by zero|invalid value) encountered")  # in branches that are not chosen
@pytest.mark.parametrize("sizes", [(4, 1), (3, 4, 1), (9, 2, 6, 3)])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
def test_no_kernel_leaves_its_slice(name, way, sizes, form, bounds_checked, monkeypatch):
    """And Python, number by number, does what the processor does, to the last bit."""
    for batch in (1, 5) if "table" not in name else (1,):
        options = dict(batch=batch, dreams=min(batch, 2), dtype=torch.float32 if way == "asleep" else torch.float64)
        checked = trained(WAYS[way](RULES[name]), sizes, **options)
        with monkeypatch.context() as patch:
            for function, machine_code in COMPILED.items():
                patch.setattr(loop, function, machine_code)
            patch.setattr(compiled, "epochs", COMPILED["epochs"])
            patch.setattr(compiled, "layout", loop.layout)
            patch.setattr(compiled, "pointer", pointer)
            fast = trained(WAYS[way](RULES[name]), sizes, **options)
        assert same_weights(checked, fast)


def allocate_one_too_far(layer, p, u, memory, y):
    for j in range(p.size):
        y[j] = memory[4 + j]


class OneTooFar(FactorialMIM):
    """A rule whose kernel reads one number more than it says."""

    def fields(self, units):
        return {name: count for name, count in super().fields(units).items() if name != "sums"}

    def kernel(self, chain):
        return replace(super().kernel(chain), allocate=allocate_one_too_far, update=None)

    def estimate(self, *_):
        pass


@pytest.mark.filterwarnings("ignore:overflow encountered")
def test_one_number_too_far_is_noticed(form, bounds_checked):
    with pytest.raises(IndexError):
        trained(OneTooFar(), (3, 2))


def test_numbers_of_batches_stay_inside():
    for size in (0, 1, 2, 7):
        u = np.full(size + 2, 9.0, np.float32)
        with np.errstate(over="ignore"):
            fill_single(np.uint64(7), 3, u[1 : size + 1])
        assert u[0] == u[-1] == 9 and (u[1:-1] < 1).all()


@njit
def tossed(key, position, u, on):
    """Random numbers as a phase tosses them: side by side, or for the units of one layer."""
    loop.toss(loop.plain(key, on)[0], position, cells(u), len(u), on)


@pytest.mark.parametrize("dtype, digits", [(np.float64, 53), (np.float32, 24)])
@given(key=some.integers(0, 2**64 - 1 - LANES), position=some.integers(0, 2**60), size=some.integers(0, 3))
def test_uniform_numbers_are_those_of_the_stream_in_every_form(dtype, digits, key, position, size):
    stream = Stream((LANES,), generator=torch.Generator().manual_seed(0))
    stream.keys, stream.position = np.arange(LANES, dtype=np.uint64) + np.uint64(key), position
    plain, units, replicas = np.full(size * LANES, 9.0), *np.full((2, size, LANES), 9.0, dtype)
    with np.errstate(over="ignore"):
        fill_double(np.uint64(key), position, plain)
    tossed(stream.keys[:1], position, units, np.zeros(1, np.int64))
    tossed(stream.keys[None], position, replicas, None)
    numbers = stream((LANES, size * LANES)).numpy()
    assert plain.tolist() == numbers[0].tolist()
    numbers = np.floor(numbers * 2.0**digits) / 2.0**digits  # the upper bits of the same words
    assert units.reshape(-1).tolist() == numbers[0].tolist() and (replicas == numbers[:, :size].T).all()


@given(some.integers(0, 2**64 - 1), some.integers(0, 2**60), some.integers(0, 12))
def test_single_precision_takes_two_numbers_from_each_output(key, position, size):
    plain, fast, double = (np.full(size, 9.0, dtype) for dtype in (np.float32, np.float32, np.float64))
    with np.errstate(over="ignore"):
        used = fill_single(np.uint64(key), position, plain)
        fill_double(np.uint64(key), position, double)
    assert used == batched.fill(np.uint64(key), position, fast) == (size + 1) // 2
    assert plain.tolist() == fast.tolist()
    assert (abs(plain[:used] - double[:used]) < 2.0**-24).all()


def own_slice_for_the_data(t):
    """A memory with one number for the layer that the kernel never decides about."""
    return replace(t, memory=np.pad(t.memory, ((0, 0), (1, 0))), starts=t.starts + (np.arange(len(t.starts)) > 0))


MISFITS = {
    "no memory": lambda t: replace(t, memory=None),
    "no starts": lambda t: replace(t, starts=None),
    "too few starts": lambda t: replace(t, starts=t.starts[:-1]),
    "falling starts": lambda t: replace(t, starts=t.starts[::-1]),
    "starts before the memory": lambda t: replace(t, starts=t.starts - 1),
    "starts past the memory": lambda t: replace(t, starts=t.starts + 1),
    "fractions": lambda t: replace(t, starts=t.starts + 0.5),
    "too narrow a slice": lambda t: replace(t, width=lambda units: 4 + 2 * units),
    "too narrow a slice for another layer": own_slice_for_the_data,
    "too few rows": lambda t: replace(t, memory=t.memory[:1]),
    "single precision": lambda t: replace(t, memory=t.memory.astype(np.float32)),
    "columns first": lambda t: replace(t, memory=np.asfortranarray(t.memory)),
    "one row": lambda t: replace(t, memory=t.memory[0]),
}


def bound(rule, chain):
    """The rule, ready for that chain."""
    rule.bind(chain)
    return rule


@pytest.mark.parametrize("name", MISFITS)
def test_a_kernel_that_does_not_fit_is_refused(name):
    chain = up(HelmholtzMachine((8, 5, 3), replicas=(2,)))
    kernel = bound(FactorialMIM(), chain).kernel(chain)
    memory, starts = fitting(kernel, chain)
    assert memory is kernel.memory and starts.tolist() == kernel.starts.tolist()
    with pytest.raises(ValueError, match="does not fit the machine") as refusal:
        fitting(MISFITS[name](kernel), chain)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("one, other, layers", [(up, down, "0 to 1"), (down, up, "1 to 2")])
def test_a_kernel_made_for_the_other_phase_is_refused(one, other, layers):
    machine = HelmholtzMachine((8, 5, 3))
    kernel = bound(FactorialMIM(), one(machine)).kernel(one(machine))
    with pytest.raises(ValueError, match=f"each layer from {layers}"):
        fitting(kernel, other(machine))


def test_a_kernel_that_keeps_nothing_needs_no_memory():
    chain = up(HelmholtzMachine((8, 5, 3), replicas=(2, 2)))
    memory, starts = fitting(Kernel(fill_double), chain)
    assert memory.shape == (4, 0) and starts.tolist() == [0, 0, 0, 0]


# Limits

ends = some.sampled_from([0.0, 5e-324, 1e-300, 1e-16, 0.5, 1 - 2**-53, 1.0])
chances = some.one_of(ends, some.floats(0, 1))
weights = some.one_of(some.sampled_from([0.0, 1.0, 3.0, 1e300]), some.floats(0, 10))
coins = some.sampled_from([0.0, 0.25, 0.75, 1 - 2**-53])
small_steps = some.one_of(some.sampled_from([1e-9, 1 - 1e-9]), some.floats(1e-6, 0.99))


@njit
def call(kernel, layer, p, u, memory, y):
    """A kernel as the engine calls it: through C, where an exception would be lost."""
    kernel(layer, p, u, memory, y)


@njit
def call_side_by_side(kernel, layer, p, u, memory, y):
    """The same for eight replicas."""
    kernel(layer, cells(p), cells(u), cells(memory), cells(y))


@njit
def show(kernel, layer, y, rows, left, memory):
    """The same for what updates."""
    kernel(layer, y, rows, left, memory)


@njit
def show_side_by_side(kernel, layer, y, rows, left, memory):
    """And that for eight replicas."""
    kernel(layer, cells(y), rows, left, cells(memory))


def in_all_lanes(numbers):
    """Numbers of one replica for eight that are alike."""
    return np.repeat(np.array(numbers, float)[:, None], LANES, 1)


def by_kernel(allocate, numbers, p, u):
    """What a kernel decides about a layer; side by side the same, lane by lane."""
    y = np.full(len(p), 7.0)  # what a kernel that gives up leaves behind
    call(pointer(allocate, signatures(OneByOne)[0]), 1, np.array(p), np.array(u), numbers.copy(), y)
    assert set(y.tolist()) <= {0.0, 1.0}
    p, u, numbers, lanes = map(in_all_lanes, (p, u, numbers, 7 + 0 * y))
    call_side_by_side(pointer(allocate, signatures(SideBySide)[0]), 1, p, u, numbers, lanes)
    assert (lanes == y[:, None]).all()
    return y.tolist()


def after_update(update, numbers, y, rows, left):
    """A layer's memory after a kernel was shown a pattern; side by side the same, lane by lane."""
    lanes, numbers = in_all_lanes(numbers), numbers.copy()
    show(pointer(update, signatures(OneByOne)[1]), 1, np.array(y), rows, left, numbers)
    show_side_by_side(pointer(update, signatures(SideBySide)[1]), 1, in_all_lanes(y), rows, left, lanes)
    assert (lanes == numbers[:, None]).all()
    return numbers


def with_memory(rule, numbers, units):
    """The rule, with those numbers as its memory of the one layer above the data."""
    bound(rule, up(HelmholtzMachine((1, units)))).memory.settle(torch.from_numpy(numbers)[None])
    return rule


def by_rule(rule, numbers, p, u):
    """What the rule decides with the same memory."""
    return with_memory(rule, numbers, len(p))(1, torch.tensor([p]), torch.tensor([u]))[0].tolist()


@given(some.lists(some.tuples(chances, chances, coins), min_size=1, max_size=4), weights, weights)
@example([(1.0, 1.0, 0.25), (0.0, 0.0, 0.75)], 1.0, 1.0)
@example([(1.0, 1.0, 0.75), (0.0, 0.0, 0.25)], 2.0, 1.0)
@example([(1.0, 1.0 + 2**-52, 0.25)], 1.0, 0.5)
@example([(1.0, 0.0, 0.25), (0.0, 1.0, 0.75)], 0.0, 0.0)
@example([(1.0, 0.5, 0.0), (0.5, 1.0, 0.0)], 1.0, 1.0)
def test_tempered_choices_agree_at_every_limit(units, alpha, beta):
    p, t, u = (list(column) for column in zip(*units, strict=True))
    numbers = np.array([alpha, beta, 0.1, *t, *(0 * x for x in t)])
    fast, slow = by_kernel(allocate_tempered, numbers, p, u), by_rule(FactorialMIM(alpha, beta), numbers, p, u)
    chance = tempered(torch.tensor(p), torch.tensor(t), alpha, beta).sigmoid()
    on_the_edge = [abs(x - c) < 1e-9 for x, c in zip(u, chance.tolist(), strict=True)]
    assert not chance.isnan().any()
    assert all(s == f or edge for s, f, edge in zip(slow, fast, on_the_edge, strict=True))


def test_the_limits_of_tempering():
    inf = math.inf
    for p, t, alpha, beta, s in [
        (1, 1, 1, 1, 0), (0, 0, 1, 1, 0),  # a tie is a fair coin, as for every p = t
        (1, 1, 2, 1, inf), (0, 0, 2, 1, -inf), (1, 1, 1, 2, -inf), (0, 0, 1, 2, inf),  # as for p = t near them
        (1, 0.5, 0, 1, 0), (0, 0.5, 0, 1, 0), (0.5, 1, 1, 0, 0), (1, 1, 0, 1, -inf), (1, 1, 1, 0, inf),  # no weight, no say
        (1, 0.5, 1, 1, inf), (0.5, 1, 1, 1, -inf), (1, 0, 1, 1, inf), (0, 1, 1, 1, -inf),
    ]:  # fmt: skip
        assert tempered(torch.tensor([p]).double(), torch.tensor([t]).double(), alpha, beta).item() == s, (p, t, alpha, beta)


states_used = some.one_of(some.sampled_from([0.0, 5e-324, 1e-310, 1e-200, 1.0, 900.0]), some.floats(0, 1))


@given(some.integers(1, 4), some.data(), small_steps, some.sampled_from([0.0, 0.5, 1.0]))
def test_chosen_states_are_as_good_at_every_limit(m, data, epsilon, share):
    p, t = (data.draw(some.lists(chances, min_size=m, max_size=m)) for _ in range(2))
    c = np.array(data.draw(some.lists(states_used, min_size=2**m, max_size=2**m)))
    c[data.draw(some.integers(0, 2**m - 1))] += 1.0
    numbers = np.array([share, math.inf, epsilon, c.sum(), *t, *c, *(0 * c)])
    rule = CategoricalMIM(share)
    slow, fast = by_rule(rule, numbers, p, [0.5] * m), by_kernel(allocate_best, numbers, p, [0.5] * m)
    scores = rule.scores(1, torch.tensor([p]))[0]
    assert scores.isfinite().all()
    one, other = (scores[encode(torch.tensor(y))].item() for y in (slow, fast))
    assert abs(one - other) <= 1e-6 * scores.abs().max()


def test_a_frequency_that_rounding_carried_past_one_counts_as_one():
    exact, carried = unit_gains(torch.tensor([1.0, 1.0 + 2**-52]), torch.tensor([1e-9]))
    assert torch.allclose(exact, carried) and exact[1] == 0


@pytest.mark.parametrize("u, first", [(0.0, [0, 0]), (0.3, [0, 1]), (0.6, [1, 0]), (1 - 2**-53, [1, 1])])
def test_states_that_are_all_as_good_are_equally_likely(u, first):
    p = [1.0, 0.3]
    numbers = np.array([0.0, 10.0, 0.1, 1.0, *p, *[0.25] * 4, *[0.0] * 4])
    assert by_kernel(allocate_sharpened, numbers, p, [u, u]) == first
    assert by_rule(CategoricalMIM(0.0, 10.0), numbers, p, [u, u]) == first


@given(some.lists(some.tuples(chances, some.booleans()), min_size=1, max_size=4), small_steps, some.floats(0.1, 999))
def test_tables_move_alike_in_every_form(units, epsilon, mass):
    usual, y = (list(map(float, column)) for column in zip(*units, strict=True))
    table = np.linspace(1, 2, 2 ** len(y))
    slow = np.array([1.0, math.inf, epsilon, mass, *usual, *(table / table.sum() * mass), *(0 * table)])
    fast = after_update(update_table, slow, y, 1, 0)
    with_memory(CategoricalMIM(), slow, len(y)).observe([torch.empty(1, 0), torch.tensor([y])])
    assert np.allclose(fast, slow, rtol=1e-9, atol=1e-300)


@given(some.lists(some.sampled_from([0.0, 1.0]), min_size=1, max_size=5), some.integers(1, 60))
def test_frequencies_of_batches_stay_frequencies(y, batch):
    n, rule = len(y), FactorialMIM()
    numbers = np.array([math.inf, math.inf, 0.3, *y, *(0.0 for _ in y)])
    for left in range(batch - 1, -1, -1):
        numbers = after_update(update_habit, numbers, y, batch, left)
    assert numbers[3 : 3 + n].tolist() == y  # what is always on is on with frequency 1, to the last bit
    with_memory(rule, numbers, n).observe([torch.empty(0), torch.tensor(y).expand(batch, -1)])
    assert numbers[3 : 3 + n].tolist() == y


@pytest.mark.parametrize("temper", [(1.0, 1.0), (1.0, 0.0), (0.0, 1.0), (3.0, 1.0)])
@pytest.mark.parametrize("batch", [1, 10])
def test_engines_agree_when_units_saturate(temper, batch):
    one, other = (
        trained(FactorialMIM(*temper), lr=3.0, scale=20.0, batch=batch, epochs=4, every=1, chosen=e) for e in ("torch", "compiled")
    )
    assert same_weights(one, other, atol=1e-6) and one.generative[0].weight.isfinite().all()


def test_steps_that_go_all_the_way_are_refused_by_tables():
    rule = bound(CategoricalMIM(), up(HelmholtzMachine((3, 2))))
    with pytest.raises(ValueError, match="lower the learning rate"):
        rule.estimate(1, torch.full((4,), 0.25), states(2), torch.ones(()))


@given(some.floats(1, 1e6), some.sampled_from([0.0, 0.1, 1.0, 30.0]))
def test_long_steps_are_fractions_too(lr, scale):
    layer = HelmholtzMachine((30, 4)).randomise_(scale, generator=torch.Generator().manual_seed(0)).recognition[0]
    x = torch.rand(20, 30, generator=torch.Generator().manual_seed(1)).round()
    fractions = [local_step(layer, one[None], torch.ones(1), lr).item() for one in x]
    s, reach = layer.logits(x), lr * x.sum(-1, keepdim=True)
    p = s.sigmoid()
    defined = torch.stack([(p - (s - reach * (p - y)).sigmoid()) / (p - y) for y in (0.0, 1.0)]).mean((0, -1))
    clear = defined.isfinite()  # no unit is so certain that the definition is 0 / 0
    assert all(0 <= f <= 1 + 1e-9 for f in fractions)
    if scale <= 1:
        assert clear.all() and torch.allclose(torch.tensor(fractions), defined, rtol=1e-6)


def test_tables_have_a_limit():
    bound(CategoricalMIM(), up(HelmholtzMachine((17, 16))))
    for chain in (up(HelmholtzMachine((8, 17))), down(HelmholtzMachine((17, 8)))):
        with pytest.raises(ValueError, match=r"layer of 17 units has 2\^17 states.*FactorialMIM"):
            CategoricalMIM().bind(chain)


# Kernels as others might write them: side by side, or one by one where they cannot be, but never otherwise


def from_a_list(layer, p, u, memory, y):
    listed = [p[j] for j in range(len(p))]
    for j in range(len(p)):
        y[j] = u[j] < listed[j]


def from_the_end(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = u[j] < p[j] * memory[-1]


def by_slices(layer, p, u, memory, y):
    end, rest, none = memory[-2:], memory[:-1], memory[3:1]
    for j in range(len(p)):
        y[j] = u[j] < p[j] * end[1] + (len(rest) - 3) + len(none)


def every_other(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = u[j] < p[j] * memory[::2][1]


def counting_truths(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = ((u[j] < 0.5) + (p[j] > 0.2)) > 1.5


def choosing_whole_numbers(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = where(u[j] < p[j], 1, 0)


def comparing_truths(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = (u[j] < p[j]) == (u[j] < 0.5)


def adding_in_place(layer, p, u, memory, y):
    for j in range(len(p)):
        x = p[j]
        x += memory[0]
        x *= 0.5
        y[j] = u[j] < x


def without_clean_bits(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = 2.0 * (u[j] < p[j])


def calling_itself(layer, p, u, memory, y):
    for j in range(len(p)):
        y[j] = u[j] < halved_often(p[j], 3)


def halved_often(x, times):
    return x if times == 0 else halved_often(x * 0.5, times - 1)


class Odd(Rule):
    def __init__(self, allocate):
        self.allocate = allocate

    def kernel(self, chain):
        starts = 4 * np.arange(len(chain.machine.sizes) + 1)
        memory = np.tile([0.25, 0.5, 0.75, 1.0], (5, len(chain.machine.sizes)))
        return Kernel(self.allocate, None, memory, starts, width=lambda units: 4)


def odd(allocate=None, machine=None):
    """A stack of five after three epochs in which such a kernel decides every second step."""
    machine = machine or HelmholtzMachine((8, 5, 3), replicas=5)
    world, config = Patterns(states(machine.sizes[0])[:12]), TrainConfig(3, every=2)
    rule, generator = Odd(allocate) if allocate else sample, torch.Generator().manual_seed(2)
    train(machine, world, config, allocate=rule, engine="compiled", generator=generator)
    return machine


ODD = [from_a_list, from_the_end, by_slices, every_other, counting_truths, choosing_whole_numbers, comparing_truths,
       adding_in_place, without_clean_bits]  # fmt: skip


@pytest.mark.parametrize("allocate", ODD)
def test_kernels_from_outside_are_the_same_in_both_layouts(allocate, monkeypatch):
    together = odd(allocate)
    monkeypatch.setattr(compiled, "form_for", lambda *_: OneByOne)
    assert same_weights(together, odd(allocate))


@pytest.mark.parametrize("allocate", [calling_itself, partial(from_a_list, 1), lambda layer, p: None])
def test_a_kernel_that_cannot_be_compiled_is_refused(allocate):
    with pytest.raises(NotApplicable, match="use engine='torch'"):
        odd(allocate)


def test_layers_that_share_their_weights_are_left_to_the_reference():
    machine = HelmholtzMachine((4, 4, 4), replicas=2)
    machine.recognition[1] = machine.recognition[0]
    with pytest.raises(NotApplicable, match="weights of their own"):
        odd(machine=machine)
