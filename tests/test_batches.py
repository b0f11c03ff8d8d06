"""The engine for large batches: coins, chains, refusals, early stopping."""

import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats
from torch.testing import assert_close

from helmholtz_mim import (
    HelmholtzMachine,
    NotApplicable,
    Patterns,
    Stream,
    TrainConfig,
    digits,
    dream,
    learn_generative_,
    learn_recognition_,
    train,
    wake,
)
from helmholtz_mim.protocol import SCHEDULES
from helmholtz_mim.engines.batched import Coins, Descent, generative_chain, learn_, pays, recognition_chain
from helmholtz_mim.measures.likelihood import EarlyStopping
from helmholtz_mim.engines.compiled import Room
from helmholtz_mim.training import stepping

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def single_precision():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    yield
    torch.set_default_dtype(before)


def coins(seed=0):
    return Coins(Stream((), generator=torch.Generator().manual_seed(seed)), CPU)


def silent(machine, patterns):
    return pd.DataFrame()


def trained(config, sizes=(64, 30, 10), seed=0, bias=True, **options):
    machine = HelmholtzMachine(sizes, bias=bias)
    generator = torch.Generator().manual_seed(seed)
    options = {"report": silent, "engine": "batched"} | options
    train(machine, Patterns(digits().bits[:230]), config, generator=generator, **options)
    return machine


def test_coins_are_uniform_and_uncorrelated(seed):
    u = coins(seed)((400_001,)).double()
    assert 0 <= u.min() and u.max() < 1
    assert stats.kstest(u.numpy(), "uniform").pvalue > 1e-6
    half = len(u) // 2
    for lag in (1, 2, half, half + 1):
        assert abs(torch.corrcoef(torch.stack([u[lag:], u[:-lag]]))[0, 1]) < 0.02


@settings(deadline=None, max_examples=25)
@given(st.lists(st.integers(1, 50), min_size=1, max_size=5))
def test_coins_depend_on_the_position_alone(counts):
    source = coins()
    for count in counts:
        before = source.stream.position
        u = source((count,))
        other = coins()
        other.stream.position = before
        assert torch.equal(u, other((count,)))
        assert source.stream.position == before + (count + 1) // 2


@pytest.mark.parametrize("optimizer", ["sgd", "momentum", "adam", "adamw"])
def test_the_seed_decides_every_weight(optimizer, seed):
    config = TrainConfig(epochs=3, batch=50, lr=0.01, optimizer=optimizer, schedule="cosine", report_every=3)
    one, again, other = (trained(config, seed=s) for s in (seed, seed, seed + 1))
    for name, value in one.state_dict().items():
        assert torch.equal(value, again.state_dict()[name])
        assert not value.numel() or not torch.equal(value, other.state_dict()[name])


def test_plain_steps_are_those_of_the_optimiser(generator):
    start = HelmholtzMachine((64, 30, 10), bias=True).randomise_(0.5, generator=generator)
    one, other = (HelmholtzMachine((64, 30, 10), bias=True) for _ in range(2))
    room = Room(one, 20)
    for z in room.z:
        z.bernoulli_(0.5, generator=generator)
    for machine, optimizer in ((one, "sgd"), (other, "momentum")):
        machine.load_state_dict(start.state_dict())
        chain = [*generative_chain(machine), *recognition_chain(machine)]
        learn_(chain, room, Descent(chain, TrainConfig(epochs=1, lr=0.3, optimizer=optimizer)))
    for name, value in one.state_dict().items():
        assert_close(other.state_dict()[name], value)


def test_an_odd_last_batch_counts_as_much_as_its_mean(seed, generator):
    config = TrainConfig(epochs=2, batch=100, report_every=2)  # 230 images: 100, 100 and 30
    machine = HelmholtzMachine((64, 30, 10), bias=True)
    stream, turns = (Stream((), generator=generator) for _ in range(2))
    source, bits = Coins(stream, CPU), digits().bits[:230]

    def step(data, turn):
        learn_generative_(machine, wake(machine, bits[data], generator=source), config.lr)
        learn_recognition_(machine, dream(machine, config.dreams, generator=source), config.lr)

    stepping(step, machine, Patterns(bits), config, stream, turns)(2)
    for name, value in trained(config, seed=seed).state_dict().items():
        assert_close(machine.state_dict()[name], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_schedules_begin_at_one_and_never_rise(schedule):
    values = [SCHEDULES[schedule](done / 100) for done in range(101)]
    assert values[0] == 1 and all(a >= b >= 0 for a, b in zip(values, values[1:], strict=False))


def test_a_schedule_slows_learning_down(seed):
    steady, falling = (trained(TrainConfig(epochs=8, batch=50, schedule=s, report_every=8), seed=seed) for s in ("constant", "linear"))
    assert falling.recognition[0].weight.norm() < steady.recognition[0].weight.norm()


def test_what_needs_another_engine_is_refused():
    config = TrainConfig(epochs=1, batch=50)
    for machine in (HelmholtzMachine((64, 5), replicas=(2,)), HelmholtzMachine((64, 5)).double()):
        with pytest.raises(NotApplicable, match="compiled"):
            train(machine, digits(), config, engine="batched", generator=torch.Generator())
    with pytest.raises(ValueError, match="schedule"):
        trained(TrainConfig(epochs=1, schedule="cosin"))
    for engine in ("torch", "compiled", "reweighted"):
        with pytest.raises(NotApplicable, match="batched"):
            trained(TrainConfig(epochs=1, optimizer="adam"), engine=engine)


def test_auto_takes_it_for_wide_batches_and_for_optimisers():
    wide, narrow = HelmholtzMachine((784, 200)), HelmholtzMachine((64, 10))
    patterns = Patterns(torch.eye(784))
    assert pays(wide, patterns, TrainConfig(epochs=1, batch=100))
    assert not pays(wide, patterns, TrainConfig(epochs=1))
    assert not pays(narrow, digits(), TrainConfig(epochs=1, batch=100))
    assert pays(narrow, digits(), TrainConfig(epochs=1, optimizer="adam"))


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
