"""The engine for large batches: uniform numbers, steps, methods, refusals, early stopping."""

from functools import cache

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.testing import assert_close

from helmholtz_mim import (
    SGD,
    Adam,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    NotApplicable,
    Patterns,
    Phases,
    Reweighted,
    Stream,
    TrainConfig,
    WakeSleep,
    digits,
    down,
    log_prob,
    sample,
    train,
    up,
)
from helmholtz_mim.engines import batched
from helmholtz_mim.engines.batched import Batched, BatchPhase, Buffers, InPlace, SinglePrecision
from helmholtz_mim.engines.reference import Reference, Setup
from helmholtz_mim.measures.likelihood import EarlyStopping
from helmholtz_mim.protocol import SCHEDULES, LocalOptimizer
from helmholtz_mim.rule import phases
from helmholtz_mim.rules.factorial import leave_one_out

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def single_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


def uniform_numbers(seed=0):
    return SinglePrecision(Stream((), generator=torch.Generator().manual_seed(seed)), CPU)


def silent(machine, patterns):
    return pd.DataFrame()


def trained(config, sizes=(64, 30, 10), seed=0, bias=True, **options):
    machine = HelmholtzMachine(sizes, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    options = {"report": silent, "engine": "batched"} | options
    train(machine, Patterns(digits().bits[:230]), config, generator=generator, **options)
    return machine


def test_numbers_are_uniform_and_uncorrelated(seed):
    u = uniform_numbers(seed)((400_001,)).double()
    assert 0 <= u.min() and u.max() < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-6
    half = len(u) // 2
    for lag in (1, 2, half, half + 1):
        assert abs(torch.corrcoef(torch.stack([u[lag:], u[:-lag]]))[0, 1]) < 0.02


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_numbers_depend_on_the_position_alone(counts):
    source = uniform_numbers()
    for count in counts:
        before = source.stream.position
        u = source((count,))
        other = uniform_numbers()
        other.stream.position = before
        assert torch.equal(u, other((count,)))
        assert source.stream.position == before + (count + 1) // 2


OPTIMIZERS = {
    "plain": SGD(),
    "momentum": SGD(momentum=0.9),
    "adam": Adam(),
    "adamw": Adam(decay=0.01),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_the_seed_decides_every_weight(name, seed):
    config = TrainConfig(epochs=3, batch=50, lr=0.01, report_every=3)
    optimizer = type(OPTIMIZERS[name])(**vars(OPTIMIZERS[name]) | {"schedule": "cosine"})
    one, again, other = (trained(config, seed=s, optimizer=optimizer) for s in (seed, seed, seed + 1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not value.numel() or not torch.equal(value, other.state_dict()[name])


def room(machine):
    """Buffers of a machine for any number of rows, kept."""
    return cache(lambda rows: Buffers(machine, rows))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("name", OPTIMIZERS)
def test_steps_in_place_are_those_of_the_local_optimizer(name, bias, weighted, generator):
    start = HelmholtzMachine((64, 30, 10), bias=bias).randomise_(0.5, generator=generator)
    one, other = (HelmholtzMachine((64, 30, 10), bias=bias) for _ in range(2))
    z = [torch.rand(20, n, generator=generator).round() for n in start.sizes]
    weights = torch.rand(20, generator=generator) if weighted else None
    for machine in (one, other):
        machine.load_state_dict(start.state_dict())
    for chain in (up, down):
        pupils = (
            InPlace(chain(one), OPTIMIZERS[name], 0.03, room(one)),
            LocalOptimizer(chain(other), OPTIMIZERS[name], 0.03),
        )
        for rate in (0.03, 0.02):
            for pupil in pupils:
                pupil.go_on_at(rate)
                pupil.teach_(z, weights)
    for name, value in one.state_dict().items():
        assert_close(other.state_dict()[name], value, rtol=1e-4, atol=1e-5)
        assert not value.numel() or not torch.equal(value, start.state_dict()[name])


def test_the_first_step_with_momentum_is_a_plain_one(generator):
    start = HelmholtzMachine((64, 30, 10), bias=True).randomise_(0.5, generator=generator)
    one, other = (HelmholtzMachine((64, 30, 10), bias=True) for _ in range(2))
    z = [torch.rand(20, n, generator=generator).round() for n in start.sizes]
    for machine, optimizer in ((one, SGD()), (other, SGD(momentum=0.9))):
        machine.load_state_dict(start.state_dict())
        for chain in (down(machine), up(machine)):
            InPlace(chain, optimizer, 0.3, room(machine)).teach_(z)
    for name, value in one.state_dict().items():
        assert_close(other.state_dict()[name], value)


@pytest.mark.parametrize("chain", [up, down])
def test_a_batch_is_as_likely_as_its_chain_says(chain, generator):
    machine = HelmholtzMachine((64, 30, 10), bias=True).randomise_(2.0, generator=generator)
    z = [torch.rand(20, n, generator=generator).round() for n in machine.sizes]
    phase = BatchPhase(chain(machine), sample, InPlace(chain(machine), SGD(), 0.1, room(machine)), uniform_numbers())
    assert_close(phase.log_prob(z), log_prob(chain(machine), z), rtol=1e-5, atol=1e-4)


class Readable(Reference):
    """The reference, with the numbers of large batches."""

    def step(self, data, turn):
        s = self.setup
        self.day.uniforms = self.night.uniforms = SinglePrecision(s.stream, CPU)
        s.method.step_(self.day, self.night, self.bits[data], turn, s.config.dreams)


METHODS = {
    "wake-sleep": lambda: dict(),
    "flips": lambda: dict(allocate=Flip(0.3)),
    "both phases": lambda: dict(allocate=Phases(FactorialMIM(2.0, 1.0), FactorialMIM(threshold=leave_one_out))),
    "sleep": lambda: dict(method=Reweighted(3)),
    "wake": lambda: dict(method=Reweighted(3, "wake"), allocate=FactorialMIM()),
    "both and Adam": lambda: dict(method=Reweighted(2, "both"), optimizer=Adam(0.01, schedule="linear")),
    "momentum": lambda: dict(optimizer=SGD(0.05, momentum=0.5)),
}


@pytest.mark.parametrize("name", METHODS)
def test_an_odd_last_batch_counts_as_much_as_its_mean(name, seed):
    config = TrainConfig(epochs=2, batch=100, every=2, report_every=2)  # 230 images: 100, 100 and 30
    fast, slow = (
        trained(config, seed=seed, engine=engine, **METHODS[name]()) for engine in ("batched", f"{__name__}:Readable")
    )
    for name, value in fast.state_dict().items():
        assert_close(slow.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_begin_at_one_and_never_rise(schedule):
    values = [SCHEDULES[schedule](done / 100) for done in range(101)]
    assert values[0] == 1 and all(a >= b >= 0 for a, b in zip(values, values[1:], strict=False))


def test_a_schedule_slows_learning_down(seed):
    steady, falling = (
        trained(TrainConfig(epochs=8, batch=50, report_every=8), optimizer=SGD(schedule=s), seed=seed)
        for s in ("constant", "linear")
    )
    assert falling.recognition[0].weight.norm() < steady.recognition[0].weight.norm()


def test_what_needs_another_engine_is_refused():
    config = TrainConfig(epochs=1, batch=50)
    with pytest.raises(NotApplicable, match="machines in single precision: use engine='torch'"):
        train(HelmholtzMachine((64, 5)).double(), digits(), config, engine="batched", generator=torch.Generator())
    with pytest.raises(NotApplicable, match="compiled engine takes plain steps"):
        trained(config, engine="compiled", optimizer=Adam())


def setup(machine, patterns, config, method=None, optimizer=None):
    """Everything about a run that samples."""
    stream = Stream((), generator=torch.Generator())
    return Setup(
        machine, patterns, config, method or WakeSleep(), phases(sample), optimizer or SGD(), stream, stream.fork()
    )


def test_it_is_the_faster_for_wide_batches_and_for_optimisers():
    wide, narrow = HelmholtzMachine((784, 200)), HelmholtzMachine((64, 10))
    patterns, batch = Patterns(torch.eye(784)), TrainConfig(epochs=1, batch=100)
    assert Batched.is_faster(setup(wide, patterns, batch))
    assert not Batched.is_faster(setup(wide, patterns, TrainConfig(epochs=1)))
    assert Batched.is_faster(setup(wide, patterns, TrainConfig(epochs=1), method=Reweighted(7)))
    assert not Batched.is_faster(setup(wide, Patterns(torch.eye(784)[:5]), batch))
    assert not Batched.is_faster(setup(narrow, digits(), batch))
    assert Batched.is_faster(setup(narrow, digits(), TrainConfig(epochs=1), optimizer=Adam()))


def test_training_makes_the_data_likelier(seed):
    x = digits().bits[:200]
    stop = EarlyStopping(x)
    for epochs in (1, 30):
        stop(trained(TrainConfig(epochs=epochs, batch=20, lr=0.3, report_every=30), seed=seed))
    assert stop.scores[1] > stop.scores[0] + 3


def test_early_stopping_keeps_the_best_weights():
    machine, stop = HelmholtzMachine((64, 5), bias=True), EarlyStopping(digits().bits[:50], patience=2)
    assert not stop(machine)
    best = {name: value.clone() for name, value in machine.state_dict().items()}
    machine.generative[0].weight += 20
    assert not stop(machine) and stop(machine)
    assert all(torch.equal(value, best[name]) for name, value in stop.restore_(machine).state_dict().items())


def test_training_ends_when_it_is_told_to():
    asked = []
    config = TrainConfig(epochs=50, batch=50, report_every=5)
    trained(config, stop=lambda machine: asked.append(machine) or len(asked) == 3)
    assert len(asked) == 3


@pytest.mark.parametrize(
    "options",
    [dict(patience=0), dict(patience=None), dict(particles=1.5), dict(seed=-1), dict(x=torch.full((2, 4), 0.5))],
)
def test_early_stopping_with_mistakes_is_refused(options):
    with pytest.raises(ValueError, match=r"whole number of at least|zeros and ones"):
        EarlyStopping(**dict(x=torch.ones(2, 4)) | options)


def test_there_are_no_best_weights_before_a_report():
    with pytest.raises(ValueError, match="there are no best weights yet"):
        EarlyStopping(torch.ones(2, 4)).restore_(HelmholtzMachine((4, 2)))


def coins(z, s, u):
    """Whether bits are those of u < σ(s), but where the two nearly agree."""
    chance = s.double().sigmoid()
    return (((u < chance) == (z == 1)) | ((u - chance).abs() < 1e-6)).all() and (z.eq(0) | z.eq(1)).all()


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (100, 64), (7, 33)])
def test_compiled_passes_are_those_of_torch(shape, generator, monkeypatch):
    s, z = torch.randn(shape, generator=generator) * 8, torch.rand(shape, generator=generator).round()
    weights, uniforms, again = torch.rand(shape[:1], generator=generator), uniform_numbers(), uniform_numbers()
    total, expected = torch.ones(shape[0]), torch.ones(shape[0])
    found, tossed = batched.miss_(s.clone(), z, weights), torch.empty(shape)
    batched.log_prob_(s, z, total)
    batched.toss_(s, tossed, uniforms)
    assert coins(tossed, s, again(shape).double()) and uniforms.stream.position == again.stream.position
    monkeypatch.setattr(batched, "here", lambda t: False)
    batched.log_prob_(s, z, expected)
    assert_close(total, expected, rtol=1e-5, atol=1e-5)
    assert_close(found, batched.miss_(s.clone(), z, weights), rtol=1e-5, atol=1e-6)
    elsewhere, numbers = torch.empty(shape), uniform_numbers()
    batched.toss_(s, elsewhere, numbers)
    assert coins(elsewhere, s, u := uniform_numbers()(shape).double()) and coins(tossed, s, u)


def test_no_error_is_too_small_for_a_product():
    """Logits at which probabilities, or their errors by weight, would be subnormal: processors multiply those many times more slowly."""
    s = torch.linspace(-110, 110, 3001).reshape(1, -1)
    error = batched.miss_(s.clone(), torch.zeros_like(s), torch.full((1,), 1e-3))
    assert not ((error != 0) & (error.abs() < torch.finfo(torch.float32).tiny)).any()
    assert_close(error.double(), 1e-3 * s.double().sigmoid(), rtol=1e-5, atol=1e-37)


def test_what_is_not_a_number_stays_none(generator):
    s = torch.tensor([[float("nan"), 200.0, -200.0]])
    error = batched.miss_(s, torch.zeros(1, 3), torch.ones(1))[0]
    assert error[0].isnan() and error[1] == 1 and 0 <= error[2] < 1e-37


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 12), st.integers(1, 30), st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
def test_sums_of_active_rows_are_products(rows, n, m, density, number):
    random = torch.Generator().manual_seed(number)
    x = (torch.rand(rows, n, generator=random) < density).float()
    w, error = torch.randn(n, m, generator=random), torch.randn(rows, m, generator=random)
    on = batched.units_on(x.numpy())
    up, step = torch.ones(rows, m), torch.ones(n, m)
    batched.add_rows(w.numpy(), *on, up.numpy())
    batched.add_rows(error.numpy(), *batched.by_unit(*on, n), step.numpy())
    assert_close(up, 1 + x @ w, rtol=1e-4, atol=1e-5)
    assert_close(step, 1 + x.mT @ error, rtol=1e-4, atol=1e-5)


class Dense(Batched):
    """Large batches without skipping zeros."""

    run = Reference.run


@pytest.mark.parametrize("method", [WakeSleep(), Reweighted(3, "both")], ids=str)
@pytest.mark.parametrize("bias", [False, True])
def test_skipping_zeros_changes_rounding_only(bias, method, seed, monkeypatch):
    sums, real = [], batched.add_rows
    monkeypatch.setattr(batched, "add_rows", lambda *args: sums.append(real(*args)))
    monkeypatch.setattr(batched.torch, "get_num_threads", lambda: 1)
    config = TrainConfig(epochs=3, batch=50, report_every=3)
    dense = trained(config, seed=seed, bias=bias, method=method, engine=f"{__name__}:Dense")
    assert not sums
    skipping = trained(config, seed=seed, bias=bias, method=method)
    assert sums
    for name, value in dense.state_dict().items():
        assert_close(skipping.state_dict()[name], value, rtol=1e-4, atol=1e-4)


def test_zeros_are_skipped_where_it_pays(generator, monkeypatch):
    w, x = torch.randn(30, 64, generator=generator), (torch.rand(50, 64, generator=generator) < 0.2).float()
    monkeypatch.setattr(batched.torch, "get_num_threads", lambda: 1)
    assert batched.few(w, x) is None  # the rows of inputs are in pieces
    with batched.by_input(w):
        assert batched.few(w, x) and batched.few(w, 1 - x) is None
        monkeypatch.setattr(batched.torch, "get_num_threads", lambda: 8)
        assert batched.few(w, x) is None


def test_weights_lie_otherwise_for_an_epoch_only():
    w = torch.arange(6.0).reshape(2, 3)
    place, row = w.data_ptr(), w[1]
    with pytest.raises(KeyboardInterrupt), batched.by_input(w):
        assert w.mT.is_contiguous() and w.tolist() == [[0, 1, 2], [3, 4, 5]]
        w += 1
        raise KeyboardInterrupt
    assert w.is_contiguous() and w.data_ptr() == place and row.tolist() == [4, 5, 6]


def test_logits_are_worked_out_once_and_never_late(generator, monkeypatch):
    machine = HelmholtzMachine((64, 30, 10), bias=True).randomise_(1.0, generator=generator)
    buffers, made, real = room(machine), [], batched.logits_
    monkeypatch.setattr(batched, "logits_", lambda *args: made.append(args) or real(*args))
    pupils = [InPlace(chain(machine), SGD(), 0.1, buffers) for chain in (up, down)]
    day, night = (BatchPhase(pupil.chain, sample, pupil, uniform_numbers()) for pupil in pupils)

    def agrees(phase):
        assert_close(phase.log_prob(z), log_prob(phase.chain, z), rtol=1e-5, atol=1e-4)

    z = day.draw(torch.rand(20, 64, generator=generator).round(), torch.zeros(20, dtype=torch.bool))
    agrees(day), agrees(night)
    assert len(made) == 2 + 3
    agrees(day), agrees(night)
    assert len(made) == 2 + 3
    changes = {
        "a pattern": lambda: z[1].neg_().add_(1),
        "a weight": lambda: machine.generative[0].weight.mul_(0.5),
        "a lesson by day": lambda: day.teach_(z),
        "a lesson by night": lambda: night.teach_(z, torch.rand(20, generator=generator)),
        "another draw": lambda: night.draw(20, torch.zeros(1, dtype=torch.bool)),
    }
    for change in changes.values():
        change()
        agrees(day), agrees(night)
    z = [layer.clone() for layer in z]
    agrees(day), agrees(night)


def test_logits_follow_a_lesson_that_skips_zeros(generator):
    machine = HelmholtzMachine((64, 30)).randomise_(1.0, generator=generator)
    pupil = InPlace(up(machine), SGD(), 0.1, room(machine))
    phase = BatchPhase(up(machine), sample, pupil, uniform_numbers())
    with batched.by_input(machine.recognition[0].weight):
        z = phase.draw((torch.rand(20, 64, generator=generator) < 0.1).float(), torch.zeros(20, dtype=torch.bool))
        phase.teach_(z)
        assert_close(phase.log_prob(z), log_prob(up(machine), z), rtol=1e-5, atol=1e-4)
