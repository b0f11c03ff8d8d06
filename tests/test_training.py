"""Configuration, streams, epochs, optimisers, and the history."""

import copy
import math
import pickle
from collections import Counter
from dataclasses import asdict, fields, replace

import numpy as np
import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from torch.testing import assert_close

from helmholtz_mim import (
    ENGINES,
    SGD,
    Adam,
    Flip,
    HelmholtzMachine,
    NotApplicable,
    Optimizer,
    Patterns,
    Reweighted,
    Rule,
    Stream,
    TrainConfig,
    WakeSleep,
    losses,
    sample,
    shifts,
    states,
    train,
    well_formed,
)
from helmholtz_mim.chains import log_prob
from helmholtz_mim.engines.reference import Reference
from helmholtz_mim.machine import NotFinite
from helmholtz_mim.streams import draw_order, splitmix64

RHYTHMS = well_formed(8)
each_engine = pytest.mark.parametrize("engine", ["torch", "compiled"])


def trained(seed=0, patterns=RHYTHMS, replicas=(), **options):
    """A machine after a short run, and the history of it."""
    config = {k: options.pop(k) for k in list(options) if k in TrainConfig.__annotations__}
    machine = HelmholtzMachine((8, 5, 2), replicas=replicas)
    generator = torch.Generator().manual_seed(seed)
    return machine, train(machine, patterns, TrainConfig(**dict(epochs=4) | config), generator=generator, **options)


# Configuration


@pytest.mark.parametrize("value", [0, -1, 1.5, "3", None, math.nan])
@pytest.mark.parametrize("name", ["epochs", "batch", "dreams", "every", "report_every"])
def test_counts_are_whole_numbers_of_at_least_one(name, value):
    if (name, value) == ("dreams", 0):
        assert TrainConfig(epochs=1, batch=7, dreams=0).dreams == 7
        return
    with pytest.raises(ValueError, match=f"{name} is a whole number of at least {0 if name == 'dreams' else 1}"):
        TrainConfig(**dict(epochs=1) | {name: value})


@pytest.mark.parametrize("lr", [0, -0.1, math.nan, math.inf, "0.1", None, True, 1j])
def test_learning_rates_are_positive_numbers(lr):
    with pytest.raises(ValueError, match="lr is a positive number"):
        TrainConfig(epochs=1, lr=lr)


def test_dreams_that_nobody_gave_follow_the_batch():
    followers = [TrainConfig(1, batch=7), TrainConfig(1, batch=7, dreams=0), replace(TrainConfig(1), batch=7)]
    followers += [copy.deepcopy(followers[0]), pickle.loads(pickle.dumps(followers[0]))]
    for config in followers:
        assert config.dreams == 7 and asdict(config)["dreams"] == 7 and config == TrainConfig(1, batch=7, dreams=7)
        assert replace(config, batch=100).dreams == 100
        assert replace(config, batch=100, dreams=7).dreams == 7
        assert replace(replace(config, dreams=3), batch=100).dreams == 3
    assert replace(TrainConfig(1, dreams=3), batch=100).dreams == 3


def test_counts_of_any_integer_type_are_the_same_protocol():
    assert TrainConfig(np.int64(3), np.uint8(5), torch.tensor(2), np.float32(0.5)) == TrainConfig(3, 5, 2, 0.5)


@pytest.mark.parametrize("name", ["epochs", "batch", "dreams", "every", "report_every"])
def test_truth_values_are_no_counts(name):
    with pytest.raises(ValueError, match=f"{name} is a whole number"):
        TrainConfig(**dict(epochs=1) | {name: True})
    with pytest.raises(ValueError, match=f"{name} is a whole number"):
        TrainConfig(**dict(epochs=1) | {name: False})


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(fraction=0.1, every=5), "every has no effect"),
        (dict(anneal=0.5), "give a fraction too"),
        (dict(fraction=0.1, anneal=0.0), "an anneal above 0"),
        (dict(fraction=1.1), "fraction lies between 0 and 1"),
        (dict(fraction="0.1"), "fraction lies between 0 and 1"),
        (dict(fraction=0.1, anneal=True), "anneal lies between 0 and 1"),
    ],
)
def test_settings_without_effect_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        TrainConfig(1, **options)


def test_a_protocol_says_nothing_that_only_one_method_knows():
    assert [f.name for f in fields(TrainConfig)] == ["epochs", "batch", "dreams", "lr", "every", "fraction", "anneal", "report_every"]


# Optimisers


@pytest.mark.parametrize(
    "make, sentence",
    [
        *((lambda kind=kind, lr=lr: kind(lr), "the learning rate lr is a positive number")
          for kind in (SGD, Adam) for lr in (0, -0.1, math.nan, math.inf, "0.1", True)),
        (lambda: Adam(schedule="cosin"), "no schedule called 'cosin': did you mean 'cosine'"),
        (lambda: SGD(schedule=None), "no schedule called None"),
        (lambda: SGD(momentum=-0.1), "momentum lies between 0 and 1"),
        (lambda: SGD(momentum=1), "momentum lies between 0 and 1"),
        (lambda: SGD(momentum="0.9"), "momentum lies between 0 and 1"),
        (lambda: Adam(decay=-0.1), "decay is a number of at least 0"),
        (lambda: Adam(decay=None), "decay is a number of at least 0"),
        (lambda: Optimizer().over([], 0.1), "Optimizer makes no optimiser: write its over"),
    ],
)  # fmt: skip
def test_optimisers_with_mistakes_are_refused(make, sentence):
    with pytest.raises((ValueError, NotImplementedError), match=sentence) as refusal:
        make()
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("schedule, halfway", [("constant", 1.0), ("linear", 0.5), ("cosine", 0.5)])
def test_the_rate_is_the_protocols_unless_the_optimiser_has_its_own(schedule, halfway):
    config = TrainConfig(1, lr=0.3)
    for kind in (SGD, Adam):
        assert kind(schedule=schedule).rate(config) == 0.3 and kind(0.02, schedule).rate(config) == 0.02
        assert math.isclose(kind(0.02, schedule).rate(config, 0.5), 0.02 * halfway)
    plain = [SGD(), SGD(0.2), SGD(schedule="linear"), SGD(momentum=0.5), Adam()]
    assert [one.plain for one in plain] == [True, True, True, False, False]


class Pupil:
    """Steps of torch's own optimiser along gradients that autograd finds."""

    def __init__(self, chain, make, rate):
        self.chain, self.weights = chain, [w for layer, _, _ in chain.links for w in layer.buffers() if w.numel()]
        self.optimizer = make(self.weights, rate)

    def teach_(self, z, weights=None):
        with torch.enable_grad():
            for w in self.weights:
                w.requires_grad_().grad = None
            likely = log_prob(self.chain, z)
            (-(likely.mean(-1) if weights is None else (likely * weights).sum(-1)).sum()).backward()
            self.optimizer.step()
            for w in self.weights:
                w.requires_grad_(False)

    def go_on_at(self, lr):
        for group in self.optimizer.param_groups:
            group["lr"] = lr


TORCH = {
    SGD(0.05): torch.optim.SGD,
    SGD(0.05, "linear", momentum=0.8): lambda w, lr: torch.optim.SGD(w, lr, momentum=0.8),
    Adam(): torch.optim.Adam,
    Adam(0.02, "cosine", decay=0.1): lambda w, lr: torch.optim.AdamW(w, lr, weight_decay=0.1),
}


class ByAutograd(Reference):
    """The reference, but for its steps."""

    def __init__(self, setup):
        super().__init__(setup)
        for phase in (self.day, self.night):
            phase.pupil = Pupil(phase.chain, TORCH[setup.optimizer], setup.optimizer.rate(setup.config))

    @property
    def parts(self):
        return {"machine": self.setup.machine}


@pytest.mark.parametrize("replicas", [(), (2,), (2, 3)])
@pytest.mark.parametrize("method", [WakeSleep(), Reweighted(3, "both")], ids=str)
@pytest.mark.parametrize("optimizer", TORCH, ids=str)
def test_steps_are_those_of_torch_along_the_gradients_of_autograd(optimizer, method, replicas, seed):
    machines = []
    for engine in ("torch", f"{__name__}:ByAutograd"):
        machine = HelmholtzMachine((8, 5, 2), bias=True, replicas=replicas).double()
        machine.randomise_(0.5, generator=torch.Generator().manual_seed(seed + 1))
        config, options = TrainConfig(4, batch=20, lr=0.01), dict(method=method, optimizer=optimizer, engine=engine)
        train(machine, RHYTHMS, config, allocate=Flip(), generator=torch.Generator().manual_seed(seed), **options)
        machines.append(machine)
    (one, other), start = machines, HelmholtzMachine((8, 5, 2), bias=True, replicas=replicas).double()
    start.randomise_(0.5, generator=torch.Generator().manual_seed(seed + 1))
    for name, value in one.state_dict().items():
        assert_close(value, other.state_dict()[name], rtol=1e-7, atol=1e-10)
        assert not value.numel() or not torch.allclose(value, start.state_dict()[name], atol=1e-3)


def test_an_optimiser_sees_a_falling_rate_once_an_epoch():
    seen = []

    class Told(SGD):
        def rate(self, config, done=0.0):
            seen.append(done)
            return super().rate(config, done)

    trained(engine="torch", optimizer=Told(schedule="linear"), epochs=4)
    assert sorted(set(seen)) == [0, 0.25, 0.5, 0.75]


# Streams


def splitmix_by_hand(key, counter):
    """SplitMix64 with Python's unbounded integers."""
    mask = 2**64 - 1
    x = (key + counter * 0x9E3779B97F4A7C15) & mask
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & mask
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & mask
    return x ^ (x >> 31)


def test_published_values_of_splitmix():
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert splitmix64(np.uint64(1234567), np.arange(1, 6, dtype=np.uint64)).tolist() == known


@given(st.integers(0, 2**64 - 1), st.integers(0, 2**40), st.integers(1, 20))
def test_a_stream_is_a_function_of_key_and_position(key, position, count):
    stream = Stream((), generator=torch.Generator().manual_seed(0))
    stream.keys, stream.position = np.array(key, dtype=np.uint64), position
    expected = [(splitmix_by_hand(key, position + 1 + i) >> 11) / 2**53 for i in range(count)]
    assert stream((count,)).tolist() == expected
    assert stream.position == position + count


def test_replicas_draw_from_streams_of_their_own(generator):
    stack, alone = (Stream(replicas, generator=generator) for replicas in ((2, 3), ()))
    alone.keys = stack.keys[1, 2]
    u = stack((2, 3, 1500, 2))
    assert torch.equal(u[1, 2], alone((1500, 2)))
    assert ((u >= 0) & (u < 1)).all() and len(u.unique()) == u.numel()
    assert torch.corrcoef(u.reshape(6, -1)).triu(1).abs().max() < 5.5 / math.sqrt(3000)


def test_the_numbers_of_a_stream_are_uniform(generator):
    u = Stream((), generator=generator)((200_000,))
    assert chisquare(torch.histc(u, 64, 0, 1).numpy()).pvalue > 1e-6


@given(st.integers(1, 9), st.integers(0, 9), st.integers(0, 9), st.sampled_from([(), (3,)]))
def test_a_block_is_the_next_numbers_whether_used_or_not(before, count, used, replicas):
    stream, same = (Stream(replicas, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    stream((*replicas, before))
    numbers = same((*replicas, before + count + 5))[..., before:]
    block = stream.block(count)
    used = min(used, count)
    assert torch.equal(block((*replicas, used)), numbers[..., :used])
    assert torch.equal(stream((*replicas, 5)), numbers[..., count:])
    assert torch.equal(block((*replicas, count - used)), numbers[..., used:count])
    assert (stream.position, block.position) == (before + count + 5, before + count)


# Epochs


@given(st.integers(1, 20), st.integers(1, 3), st.integers(0, 2**32))
def test_an_epoch_of_even_patterns_is_a_permutation(count, copies, seed):
    patterns = Patterns(states(5)[:count], epoch=copies * count)
    order = draw_order(patterns, Stream((3,), generator=torch.Generator().manual_seed(seed)), (3,))
    assert torch.equal(order.sort(-1).values, torch.arange(count).repeat_interleave(copies).expand(3, -1))


def test_all_permutations_are_equally_likely(generator):
    orders = draw_order(Patterns(states(2)[:3]), Stream((12_000,), generator=generator), (12_000,))
    seen = Counter(map(tuple, orders.tolist()))
    assert len(seen) == 6 and chisquare(list(seen.values())).pvalue > 1e-6


@pytest.mark.parametrize("weights", [[5, 1, 1, 3], [1, 0, 2, 0], [1, 1, 1, 1]])
def test_other_epochs_follow_the_weights(weights, generator):
    patterns = Patterns(states(2), weights, epoch=40_001)
    order = draw_order(patterns, Stream((), generator=generator))
    seen, possible = torch.bincount(order, minlength=4), patterns.weights > 0
    assert seen.sum() == 40_001 and not seen[~possible].any()
    assert chisquare(seen[possible].numpy(), (40_001 * patterns.weights[possible]).numpy()).pvalue > 1e-6


def test_the_last_batch_takes_what_is_left():
    batches = []

    def rule(layer, p, u):
        batches.extend([p.shape[-2]] * (layer == 1))
        return sample(layer, p, u)

    trained(batch=50, epochs=2, every=1, allocate=rule)
    assert batches == [50, 22, 50, 22]


def test_the_rule_decides_every_so_many_th_wake_phase():
    steps = []

    class Counts(Rule):
        def __call__(self, layer, p, u):
            steps.extend([self.step] * (layer == 1))
            return sample(layer, p, u)

        def observe(self, z):
            self.step += 1

    rule = Counts()
    rule.step = 1
    trained(epochs=1, every=10, allocate=rule)
    assert steps == [10, 20, 30, 40, 50, 60, 70] and rule.step == 73


class Certain(Rule):
    """Switches everything on, and keeps the share of data whose wide layer says that it decided."""

    def __init__(self):
        self.shares = []

    def __call__(self, layer, p, u):
        return torch.ones_like(p)

    def observe(self, z):
        self.shares.append(z[1].all(-1).double().mean().item())


@pytest.mark.parametrize("anneal, left", [(None, [1, 1, 1, 1, 1]), (1.0, [1, 0.8, 0.6, 0.4, 0.2]), (0.4, [1, 0.5, 0, 0, 0])])
@pytest.mark.parametrize("engine", ["torch", "batched"])
def test_the_fraction_falls_to_zero_by_the_part_that_anneal_names(engine, anneal, left, seed):
    """Chance switches 60 units on at once in one datum of 10^18."""
    machine, rule, count = HelmholtzMachine((8, 60)).float(), Certain(), 4000
    patterns, generator = Patterns(RHYTHMS.bits, epoch=count), torch.Generator().manual_seed(seed)
    config = TrainConfig(epochs=5, batch=count, lr=1e-9, fraction=0.6, anneal=anneal)
    train(machine, patterns, config, allocate=rule, engine=engine, generator=generator)
    for share, part in zip(rule.shares, left, strict=True):
        q = 0.6 * part
        assert abs(share - q) <= 5.5 * math.sqrt(q * (1 - q) / count), rule.shares


# History


@each_engine
def test_the_history_is_long_and_counts_steps(engine):
    _, history = trained(epochs=7, batch=10, report_every=3, replicas=(3,), engine=engine)
    assert list(history.columns) == ["step", "replica", "layer", "direction", "measure", "value"]
    assert history.step.unique().tolist() == [0, 3 * 8, 6 * 8, 7 * 8]
    assert history.groupby("step").size().nunique() == 1
    assert history.replica.unique().tolist() == [0, 1, 2]
    assert not history.duplicated(["step", "replica", "layer", "direction", "measure"]).any()


@each_engine
def test_reports_see_the_machine_as_it_is_and_do_not_disturb_it(engine, seed):
    seen = []

    def report(machine, patterns):
        seen.append(machine.generative[0].weight.clone())
        return losses(machine, patterns, generator=torch.Generator().manual_seed(0))

    often, _ = trained(seed, epochs=5, report_every=1, report=report, engine=engine)
    once, _ = trained(seed, epochs=5, report_every=5, engine=engine)
    assert same_weights(often, once)
    assert len(seen) == 6 and not seen[0].any() and torch.equal(seen[-1], often.generative[0].weight)
    shorter, _ = trained(seed, epochs=3, engine=engine)
    assert torch.equal(seen[3], shorter.generative[0].weight)


@each_engine
def test_same_seed_same_result(engine, seed):
    one, again, other = (trained(s, replicas=(2,), engine=engine)[0] for s in (seed, seed, seed + 1))
    assert same_weights(one, again) and not same_weights(one, other)
    assert not same_weights(one.replica(0), one.replica(1))


def test_a_new_machine_is_as_surprised_as_a_coin():
    _, history = trained(patterns=shifts(4, epoch=10), replicas=(2,))
    assert np.allclose(history[history.step == 0].value, math.log(2))


@each_engine
def test_training_makes_dreams_likelier_to_be_data(engine, seed):
    _, history = trained(seed, epochs=300, batch=72, engine=engine)
    loss = history.query("layer == 0 and direction == 'generative'").value
    assert loss.iloc[-1] < 0.9 * loss.iloc[0]


def test_plain_tensors_are_patterns():
    bits = RHYTHMS.bits
    assert same_weights(trained(patterns=bits)[0], trained(patterns=Patterns(bits))[0])


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(patterns=torch.zeros(3, 5)), "data layer has 8 units, the patterns have 5"),
        (dict(patterns=RHYTHMS.bits / 2), "binarise them first"),
        (dict(engine="tourch"), "did you mean 'torch'"),
    ],
)
def test_mistakes_are_met_with_a_sentence(options, sentence):
    with pytest.raises(ValueError) as error:
        trained(**options)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "change, sentence",
    [
        (dict(machine=None), "this needs a HelmholtzMachine, not None"),
        (dict(config=dict(epochs=1)), r"config is a protocol, such as TrainConfig\(600\), not {'epochs': 1}"),
        (dict(config=TrainConfig(1, dreams=10**15)), "this computer has"),
        (dict(method="reweighted"), r"method is an algorithm, such as WakeSleep\(\) or Reweighted\(5\), not 'reweighted'"),
        (dict(method=Reweighted), r"method is an algorithm, such as WakeSleep\(\) or Reweighted\(5\), not <class"),
        (dict(optimizer="adam"), r"optimizer is an optimiser, such as SGD\(\) or Adam\(0.003\), not 'adam'"),
        (dict(optimizer=torch.optim.Adam), r"optimizer is an optimiser, such as SGD\(\) or Adam\(0.003\), not <class"),
        (dict(optimizer=Adam(1e39), machine=HelmholtzMachine((8, 2)).float()), r"the learning rate 1e\+39 is beyond"),
        (dict(engine="nowhere:Engine"), "there is no engine nowhere:Engine .*write module:Class"),
        (dict(engine="helmholtz_mim.engines.reference:Referense"), "there is no engine .*write module:Class"),
        (dict(patterns=None), "there is a nan"),
        (dict(config=TrainConfig(1, lr=1e39), machine=HelmholtzMachine((8, 2)).float()), r"rate 1e\+39 is beyond what .* torch.float32"),
        (dict(generator=0), "comes from a generator"),
        (dict(report="exact"), "report is a function, not 'exact'"),
        (dict(stop=5), "stop is a function, not 5"),
        (dict(checkpoint="run.checkpoint"), "checkpoint is a function"),
        (dict(engine=None), "no engine called None"),
    ],
)
def test_arguments_of_another_kind_are_met_with_a_sentence(change, sentence):
    generator = torch.Generator().manual_seed(0)
    run = dict(machine=HelmholtzMachine((8, 2)), patterns=RHYTHMS, config=TrainConfig(1), generator=generator) | change
    with pytest.raises(ValueError, match=sentence):
        train(**run)


# The reasons of engines


def taken(sizes, replicas=(), method=WakeSleep(), optimizer=SGD(), **protocol):  # noqa: B008 (both are frozen)
    """The engine that "auto" takes, as the run itself says."""
    machine, names = HelmholtzMachine(sizes, replicas=replicas).float(), []
    patterns, config = Patterns(torch.eye(sizes[0])), TrainConfig(epochs=1, **protocol)
    options = dict(method=method, optimizer=optimizer, checkpoint=lambda run: names.append(run.engine))
    train(machine, patterns, config, generator=torch.Generator().manual_seed(0), **options)
    (name,) = set(names)
    return name


def test_auto_takes_the_engine_for_batches_where_products_are_large():
    wide = (784, 100)
    assert taken(wide, batch=100) == "batched"
    assert "batched" not in (taken(wide, batch=100, replicas=(2,)), taken((16, 10), batch=100), taken((16, 10)))


def test_auto_takes_the_reference_where_the_faster_ones_refuse():
    assert taken((8, 2), replicas=2, optimizer=Adam()) == taken((8, 2), replicas=2, method=Reweighted(2)) == "torch"
    assert taken((8, 2), optimizer=Adam()) == "batched" and taken((8, 2)) == "compiled"


def test_an_engine_from_outside_goes_by_its_own_name():
    names = []
    trained(engine=f"{__name__}:ByAutograd", optimizer=Adam(), checkpoint=lambda run: names.append(run.engine))
    assert set(names) == {f"{__name__}:ByAutograd"}


def test_auto_needs_an_engine_that_refuses_nothing(monkeypatch):
    monkeypatch.delitem(ENGINES, "torch")
    with pytest.raises(NotApplicable, match=r"no engine runs this: add engines.reference:Reference"):
        trained(optimizer=Adam(), replicas=(2,))


# Divergence


@pytest.mark.parametrize(
    "engine, method",
    [("torch", WakeSleep()), ("compiled", WakeSleep()), ("batched", WakeSleep()), ("torch", Reweighted(2)), ("batched", Reweighted(2))],
)
@pytest.mark.parametrize("report_every, when", [(1, "after epoch 1"), (3, "between epochs 1 and 3")])
def test_a_run_that_diverges_says_where(engine, method, report_every, when):
    machine = HelmholtzMachine((8, 5, 2), bias=True).float()
    _ = machine.randomise_(5e37, generator=torch.Generator().manual_seed(0))  # near the edge of single precision: 3.4e38
    config = TrainConfig(epochs=6, batch=10, lr=3e38, report_every=report_every)
    seen = []
    with pytest.raises(NotFinite) as error:
        train(machine, RHYTHMS, config, method=method, engine=engine, stop=seen.append, generator=torch.Generator().manual_seed(0))
    assert str(error.value).endswith(f"has a weight that is not finite {when}: train again from the start with a smaller lr")
    assert str(error.value).startswith(("recognition[", "generative[", "prior")) and not seen
    with pytest.raises(NotFinite, match="has a weight that is not finite: train again"):
        train(machine, RHYTHMS, TrainConfig(1), method=method, engine=engine, generator=torch.Generator().manual_seed(0))


# Replicas beside each other


@pytest.mark.parametrize("protocol", [dict(fraction=0.4), dict(fraction=0.4, anneal=0.9), dict(every=3)])
@pytest.mark.parametrize("batch", [1, 10])
@each_engine
def test_a_replica_does_not_depend_on_how_many_run_beside_it(engine, batch, protocol):
    few, many = (
        trained(batch=batch, engine=engine, allocate=Flip(0.5), replicas=(count,), **protocol)[0].double() for count in (3, 16)
    )
    for k in range(3):
        assert same_weights(few.replica(k), many.replica(k), atol=1e-9)
    assert not same_weights(few.replica(0), few.replica(1), atol=1e-3)


def test_a_fork_is_another_stream_of_the_same_key():
    stack, alone = Stream((2, 3), generator=torch.Generator().manual_seed(0)), Stream((), generator=torch.Generator().manual_seed(0))
    alone.keys = stack.keys[1, 2]
    alone((5,))
    assert stack.fork().keys[1, 2] == alone.fork().keys == splitmix_by_hand(int(alone.keys), 2**63)
    assert alone.fork().position == 0 and alone.position == 5
    u, v = stack((2, 3, 1000)).reshape(6, -1), stack.fork()((2, 3, 1000)).reshape(6, -1)
    assert torch.corrcoef(torch.cat([u, v])).triu(1).abs().max() < 5 / math.sqrt(1000)


def test_a_stream_is_for_its_own_replicas():
    with pytest.raises(ValueError, match=r"this stream is for replicas \(2,\), not for numbers of shape \(3, 4\)"):
        Stream((2,), generator=torch.Generator())((3, 4))
