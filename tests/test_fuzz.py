"""Whatever it is given, the package answers rightly or in one sentence of its own: no wrong answer, no hang, no other traceback.

A few cases of each kind run with the other tests; `make fuzz` runs 10⁵ of them.
"""

import json
import math
import os
import signal
import traceback
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

import helmholtz_mim as hm
from helmholtz_mim import (
    BinaryLayer,
    CategoricalMIM,
    EarlyStopping,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    Patterns,
    Phases,
    SparseMIM,
    TrainConfig,
    exact_report,
    sample,
    states,
    train,
)
from helmholtz_mim.images import read_idx
from helmholtz_mim.quality import Judge, quality_report

PACKAGE, LONG = Path(hm.__file__).parent, os.environ.get("FUZZ") == "1"
REFUSED = object()


def cases(strategies, few=12, many=3000):
    """A test of that many examples drawn from keyword strategies; every run of the suite draws the same."""
    options = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))

    def decorate(test):
        return settings(max_examples=many if LONG else few, derandomize=not LONG, **options)(given(**strategies)(test))

    return decorate


@pytest.fixture(autouse=True)
def singles():
    """The precision a program starts with."""
    torch.set_default_dtype(torch.float32)


def attempt(call, *arguments, **options):
    """What a call returns, or REFUSED if the package raises a sentence of its own; a minute is too long."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(60)
    try:
        return call(*arguments, **options)
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        ours = Path(last.filename).is_relative_to(PACKAGE) and last.line.startswith("raise ")
        if not ours or not isinstance(error, (ValueError, TypeError, OSError, ImportError)):
            raise
        assert len(str(error)) > 20 and "\n" not in str(error)
        return REFUSED
    finally:
        signal.alarm(0)


def _too_long(*_):
    raise AssertionError("this took a minute")


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


# What is put in: mostly what is meant, and now and then anything

ANYTHING = [None, True, -1, 0, 1.5, math.nan, math.inf, -math.inf, "3", "", b"\0", [], {}, (), object(), sample, np.int64(3), 2**63, 2j]
whatever = st.sampled_from(ANYTHING)


def rarely(strategy, other=whatever):
    """Nine times in ten what is meant."""
    return st.integers(0, 9).flatmap(lambda k: other if k == 9 else strategy)


counts = rarely(st.integers(1, 5))
shares = rarely(st.floats(0, 1))
seeds = st.integers(0, 2**32)


@st.composite
def tables(draw, width=None, rows=None, tensors=True):
    """Zeros and ones as a tensor, or in any form that people have; rarely with something wrong."""
    shape = (draw(st.integers(1, 6)) if rows is None else rows, draw(st.integers(1, 5)) if width is None else width)
    bits = np.array(draw(st.lists(st.integers(0, 1), min_size=shape[0] * shape[1], max_size=shape[0] * shape[1]))).reshape(shape)
    odd = draw(st.integers(0, 11))
    if odd == 0 and not tensors:
        return draw(whatever)
    if odd == 1:
        bits = bits.astype(float)
        bits[0, 0] = draw(st.sampled_from([math.nan, math.inf, -1, 0.5, 2, 255, 1e300]))
    if odd == 2:
        bits = draw(st.sampled_from([bits[0], bits[None], bits[:0], bits[:, :0], np.hstack([bits, bits[:, :1]]), bits * (1 + 0j)]))
    forms = [torch.tensor] + [lambda a, d=d: torch.tensor(a).to(d) for d in (torch.float64, torch.float16, torch.int8, torch.bool)]
    if not tensors:
        forms += [np.asarray, lambda a: a.tolist(), lambda a: pd.DataFrame(a) if np.ndim(a) == 2 else a]
    return draw(st.sampled_from(forms))(bits)


@st.composite
def machines(draw, sizes=None, replicas=None):
    """A small machine with weights small, large, or rarely not finite."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)) if sizes is None else sizes
    replicas = draw(st.sampled_from([(), (2,), (2, 2)])) if replicas is None else replicas
    machine = HelmholtzMachine(sizes, bias=draw(st.booleans()), replicas=replicas).to(draw(st.sampled_from([torch.float32, torch.float64])))
    scale = draw(st.sampled_from([0.0, 1.0, 1.0, 30.0, 1e4]))
    for tensor in machine.state_dict().values():
        tensor.normal_(std=scale, generator=seeded(draw(st.integers(0, 99)))) if scale else None
    if draw(st.integers(0, 19)) == 0:
        machine.generative[-1].weight.fill_(draw(st.sampled_from([math.nan, math.inf])))
    return machine


def finite(machine):
    return all(t.isfinite().all() for t in machine.state_dict().values())


def plain(bits):
    """A table as the numbers that it holds, or None if it is no table of zeros and ones."""
    try:
        array = np.asarray(bits, dtype=complex)
    except (TypeError, ValueError):
        return None
    real = array.ndim == 2 and array.size and not np.iscomplexobj(np.asarray(bits))
    return array.real if real and np.isin(array, (0, 1)).all() else None


# Layers


@cases(dict(n=rarely(st.integers(0, 10))))
def test_states(n):
    table = attempt(states, n)
    if table is not REFUSED:
        assert table.shape == (2 ** int(n), int(n)) and hm.encode(table).tolist() == list(range(2 ** int(n)))


@cases(dict(bits=tables()))
def test_encode(bits):
    numbers = attempt(hm.encode, bits)
    if numbers is not REFUSED and plain(bits) is not None:
        assert numbers.tolist() == [int("".join(str(int(b)) for b in row), 2) for row in plain(bits)]


@cases(dict(n_in=rarely(st.integers(0, 5)), n_out=counts, bias=st.booleans(), replicas=rarely(st.sampled_from([(), (2,), 3]))))
def test_layer(n_in, n_out, bias, replicas):
    layer = attempt(BinaryLayer, n_in, n_out, bias=bias, replicas=replicas)
    if layer is not REFUSED:
        assert layer.weight.shape[-2:] == (n_out, n_in) and layer(torch.ones(3, int(n_in))).eq(0.5).all()


@cases(dict(p=tables(), seed=seeds))
def test_bernoulli(p, seed):
    assume(isinstance(p, torch.Tensor) and p.is_floating_point())
    y = attempt(hm.bernoulli, p, generator=seeded(seed))
    if y is not REFUSED:
        assert y.shape == p.shape and torch.isin(y, torch.tensor([0, 1], dtype=y.dtype)).all()
        assert (y[p == 0] == 0).all() and (y[p == 1] == 1).all()


# Machines


@cases(dict(sizes=rarely(st.lists(counts, max_size=4)), bias=st.booleans(), replicas=rarely(st.sampled_from([(), (2,), (2, 3), 4]))))
def test_machine(sizes, bias, replicas):
    machine = attempt(HelmholtzMachine, sizes, bias=bias, replicas=replicas)
    if machine is not REFUSED:
        assert machine.sizes == tuple(sizes) and len(machine.recognition) == len(sizes) - 1
        assert not any(t.any() for t in machine.state_dict().values())


@cases(dict(machine=machines(), index=rarely(st.integers(-2, 5))))
def test_replica(machine, index):
    one = attempt(machine.replica, index)
    if one is not REFUSED:
        assert one.replicas == () and 0 <= int(index) < max(1, math.prod(machine.replicas))
        stack = machine.prior.bias.reshape(-1, machine.sizes[-1])
        assert torch.equal(one.prior.bias, stack[int(index)]) or not finite(machine)


@cases(dict(machine=machines(), scale=rarely(st.floats(0, 10))))
def test_randomise(machine, scale):
    assume(finite(machine))
    again = attempt(machine.randomise_, scale, generator=seeded())
    assert again is REFUSED or finite(again)


@cases(dict(machine=machines(), replacement=st.binary(max_size=40), where=st.floats(0, 1), cut=st.booleans()), many=6000)
def test_saved_machines(machine, replacement, where, cut, tmp_path_factory):
    path = tmp_path_factory.getbasetemp() / "machine.safetensors"
    hm.save(machine, path, note=1)
    whole = path.read_bytes()
    place = int(where * len(whole))
    torn = whole[:place] + replacement + (b"" if cut else whole[place + len(replacement) :])
    path.write_bytes(torn)
    again = attempt(hm.load, path)
    assert (again is REFUSED) == (torn != whole)
    if again is not REFUSED:
        assert all(torch.equal(a, b) for a, b in zip(machine.state_dict().values(), again.state_dict().values()) if a.isfinite().all())


# Data


weightings = rarely(st.none() | st.lists(st.floats(0, 5), max_size=6))


@cases(dict(bits=tables(tensors=False), weights=weightings, epoch=rarely(st.none() | st.integers(1, 9))))
def test_patterns(bits, weights, epoch):
    patterns = attempt(Patterns, bits, weights, epoch)
    if patterns is not REFUSED:
        assert plain(bits) is not None, "only zeros and ones are patterns"
        assert np.array_equal(patterns.bits.numpy(), plain(bits)) and len(patterns) == len(plain(bits)) == len(patterns.weights)
        assert abs(patterns.weights.sum() - 1) < 1e-9 and -1e-12 <= patterns.entropy <= math.log(len(patterns)) + 1e-9
        assert patterns.epoch == (len(patterns) if epoch is None else epoch)


WORLDS = {
    "well_formed": (hm.well_formed, [rarely(st.integers(3, 12))]),
    "heartbeat": (hm.heartbeat, [rarely(st.integers(1, 12)), rarely(st.integers(1, 12)), counts]),
    "shifts": (hm.shifts, [rarely(st.integers(1, 6)), shares, counts]),
    "bars": (hm.bars, [rarely(st.integers(1, 4)), shares, shares, counts]),
    "dataset": (hm.dataset, [rarely(st.sampled_from(["well-formed", "heartbeat", "bars"]))]),
}


@pytest.mark.parametrize("name", WORLDS)
@cases(dict(data=st.data()), many=1000)
def test_worlds(name, data):
    make, arguments = WORLDS[name]
    patterns = attempt(make, *(data.draw(argument) for argument in arguments))
    if patterns is not REFUSED:
        assert isinstance(patterns, Patterns) and len(patterns.bits.unique(dim=0)) == len(patterns)


@cases(dict(grey=tables(), seed=seeds))
def test_binarise(grey, seed):
    patterns = attempt(hm.binarise, grey, generator=seeded(seed))
    if patterns is not REFUSED:
        values = np.asarray(grey, float)
        assert ((0 <= values) & (values <= 1)).all() and np.array_equal(patterns.bits.numpy()[values == 1], values[values == 1])


@cases(dict(raw=st.binary(max_size=60), shape=st.lists(st.integers(0, 3), max_size=4), gzipped=st.booleans()))
def test_idx_files(raw, shape, gzipped, tmp_path_factory):
    import gzip

    path = tmp_path_factory.getbasetemp() / "some-idx"
    header = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape)
    content = raw if len(raw) % 3 == 0 else header + raw
    path.write_bytes(gzip.compress(content) if gzipped else content)
    array = attempt(read_idx, path)
    assert array is REFUSED or array.tobytes() == raw or array.tobytes() == raw[len(raw) - array.size :]


# The two phases, and training


@cases(dict(machine=machines(), data=st.data(), seed=seeds))
def test_wake(machine, data, seed):
    x = data.draw(tables(data.draw(rarely(st.just(machine.sizes[0]), st.integers(1, 5)))))
    z = attempt(hm.wake, machine, x, generator=seeded(seed))
    if z is not REFUSED:
        assert [y.shape[-1] for y in z] == list(machine.sizes) and all(y.shape[:-2] == machine.replicas for y in z)
        assert all(((y == 0) | (y == 1)).all() for y in z) and finite(machine)


@cases(dict(machine=machines(), count=rarely(st.integers(1, 5)), seed=seeds))
def test_dream(machine, count, seed):
    z = attempt(hm.dream, machine, count, generator=seeded(seed))
    if z is not REFUSED:
        assert [tuple(y.shape) for y in z] == [(*machine.replicas, count, n) for n in machine.sizes] and finite(machine)


@st.composite
def configs(draw):
    """Keyword arguments of a short training."""
    options = dict(epochs=draw(st.integers(1, 3)), batch=draw(counts), lr=draw(rarely(st.floats(0.01, 5))))
    further = dict(dreams=counts, every=counts, report_every=counts, fraction=shares, anneal=shares, particles=counts)
    further |= dict(recognition=rarely(st.sampled_from(["sleep", "wake", "both"])), optimizer=rarely(st.sampled_from(["sgd", "adam"])))
    further["schedule"] = rarely(st.sampled_from(["constant", "linear", "cosine"]))
    return options | {name: draw(further[name]) for name in draw(st.lists(st.sampled_from(sorted(further)), max_size=3))}


@cases(dict(options=configs(), batch=st.integers(1, 9)))
def test_configurations(options, batch):
    config = attempt(TrainConfig, **options)
    if config is not REFUSED:
        assert config.dreams == options.get("dreams", 0) or config.dreams == config.batch
        assert replace(config, lr=1.0).dreams == config.dreams
        if not options.get("dreams"):
            assert replace(config, batch=batch).dreams == batch


RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.3),
    "mim": FactorialMIM,
    "mim, soft": lambda: FactorialMIM(1.0, 2.0),
    "mim, batch": lambda: FactorialMIM(threshold=hm.factorial.self_consistent),
    "categorical": CategoricalMIM,
    "categorical, soft": lambda: CategoricalMIM(sharpness=10.0),
    "sparse": SparseMIM,
    "asleep": lambda: Phases(asleep=FactorialMIM(direction="generative")),
    "wrong way": lambda: FactorialMIM(direction="generative"),
    "wrong phase": lambda: Phases(asleep=CategoricalMIM()),
}
ENGINES = ["auto", "torch", "compiled", "batched", "reweighted", "no such engine"]


@cases(dict(options=configs(), rule=st.sampled_from(list(RULES)), engine=st.sampled_from(ENGINES), seed=seeds, data=st.data()), many=20_000)
def test_training(options, rule, engine, seed, data):
    config = attempt(TrainConfig, **options)
    assume(config is not REFUSED)
    machine = data.draw(machines())
    patterns = attempt(Patterns, data.draw(tables(machine.sizes[0])), epoch=data.draw(st.none() | st.integers(1, 9)))
    assume(patterns is not REFUSED)
    known = finite(machine)
    history = attempt(train, machine, patterns, config, allocate=RULES[rule](), engine=engine, generator=seeded(seed))
    if history is not REFUSED:
        assert known and finite(machine) and np.isfinite(history.value).all() and "wrong" not in rule
        assert engine != "no such engine" and history.replica.nunique() == math.prod(machine.replicas)


TWINS = [rule for rule in RULES if rule not in ("mim, batch", "sparse")]


@cases(dict(rule=st.sampled_from(TWINS), seed=seeds, lr=st.floats(0.01, 30), data=st.data()), many=6000)
def test_engines_agree(rule, seed, lr, data):
    """The compiled loop does what the readable one does, whatever the weights."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    patterns = Patterns(data.draw(st.sampled_from([states(sizes[0]), states(sizes[0])[:1], states(sizes[0])[-2:]])), epoch=7)
    batch = 1 if "categorical" in rule else data.draw(st.integers(1, 4))
    found = []
    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine(sizes, bias=seed % 2 == 0, replicas=(2,)).double()
        options = dict(allocate=RULES[rule](), engine=engine, generator=seeded(seed))
        history = attempt(train, machine, patterns, TrainConfig(3, batch, lr=lr, every=2), **options)
        found.append(machine if history is not REFUSED else REFUSED)
    if REFUSED in found:
        assert found == [REFUSED, REFUSED]
    else:
        for a, b in zip(*(machine.state_dict().values() for machine in found)):
            assert torch.allclose(a, b, rtol=1e-6, atol=1e-9)


@cases(dict(alpha=rarely(st.floats(0, 5)), beta=rarely(st.floats(0, 5)), direction=rarely(st.just("recognition")), epsilon=shares))
def test_rules(alpha, beta, direction, epsilon):
    for make in (
        lambda: FactorialMIM(alpha, beta, direction=direction, epsilon=epsilon),
        lambda: CategoricalMIM(alpha, beta, direction=direction, epsilon=epsilon),
        lambda: SparseMIM(direction, epsilon),
        lambda: Flip(alpha),
        lambda: hm.scheme(direction),
    ):
        attempt(make)


# Measures


@cases(dict(machine=machines(), data=st.data()), many=6000)
def test_exact_reports(machine, data):
    patterns = attempt(Patterns, data.draw(tables(data.draw(rarely(st.just(machine.sizes[0]), st.integers(1, 5))))))
    assume(patterns is not REFUSED)
    report = attempt(exact_report, machine, patterns)
    if report is not REFUSED:
        assert finite(machine) and not report.value.isna().any()
        of = dict(list(report.groupby("measure").value))
        assert (of["H"] > -1e-9).all() and of["H/max"].between(-1e-9, 1 + 1e-9).all() and of["top"].between(0, 1 + 1e-9).all()
        assert (of["I"] > -1e-9).all() and (of["KL"] > -1e-9).all() and of["off-support"].between(-1e-9, 1 + 1e-9).all()
        for distribution in (*hm.upward(machine, patterns), *hm.downward(machine)):
            assert torch.allclose(distribution.sum(-1), torch.ones(()).double(), atol=1e-9)


@cases(dict(machine=machines(), data=st.data(), samples=rarely(st.integers(80, 200))), few=4, many=500)
def test_sampled_reports(machine, data, samples):
    patterns = attempt(Patterns, data.draw(tables(machine.sizes[0])))
    assume(patterns is not REFUSED)
    report = attempt(hm.sampled_report, machine, patterns, samples=samples, generator=seeded())
    if report is not REFUSED:
        assert finite(machine) and not report.value.isna().any() and {"low", "high"} <= set(hm.intervals(report).columns)


masses = st.lists(st.floats(0, 1), min_size=1, max_size=6).filter(lambda p: sum(p) > 1e-3)
distributions = masses.map(lambda p: torch.tensor(p).double() / sum(p))


@cases(dict(p=distributions, q=distributions))
def test_entropies(p, q):
    size = min(len(p), len(q))
    assert -1e-12 <= attempt(hm.entropy, p) <= math.log(len(p)) + 1e-9
    if p[:size].sum() > 0 and q[:size].sum() > 0:
        p, q = (a[:size] / a[:size].sum() for a in (p, q))
        assert attempt(hm.kl, p, q) > -1e-9 and attempt(hm.kl, p, p) < 1e-9
        assert attempt(hm.clamped_kl, p, q, -1000.0) > -1e-9


@cases(dict(machine=machines(), data=st.data(), particles=rarely(st.integers(1, 20)), chains=counts, seed=seeds), many=6000)
def test_likelihoods(machine, data, particles, chains, seed):
    x = data.draw(tables(data.draw(rarely(st.just(machine.sizes[0]), st.integers(1, 5)))))
    exact = attempt(hm.exact_log_likelihood, machine, x)
    found = [attempt(make, machine, x, particles, generator=seeded(seed)) for make in (hm.log_likelihood, hm.effective_sample_size)]
    found.append(attempt(hm.ais_log_likelihood, machine, x, chains, 3, generator=seeded(seed)))
    for values in (exact, *found):
        if values is not REFUSED:
            assert finite(machine) and values.shape == (*machine.replicas, len(plain(x))) and not values.isnan().any()
    if exact is not REFUSED:
        assert (exact < 1e-9).all()
        everything = hm.exact_log_likelihood(machine, states(machine.sizes[0])).logsumexp(-1)
        assert everything.abs().max() < 1e-4 * (1 + exact.abs().max())
    if found[1] is not REFUSED:
        assert found[1].min() >= 1 - 1e-9 and found[1].max() <= particles + 1e-6


@cases(dict(machine=machines(), data=st.data(), counts=rarely(st.lists(st.integers(1, 30), max_size=3))), few=6, many=1500)
@pytest.mark.filterwarnings("ignore:the log-likelihood still climbs")
def test_ladders(machine, data, counts):
    table = attempt(hm.ladder, machine, data.draw(tables(machine.sizes[0])), counts, generator=seeded())
    if table is not REFUSED:
        assert len(table) == len(counts) * math.prod(machine.replicas) and table.nats.notna().all()


@cases(dict(log_w=st.lists(st.floats(-1e3, 1e3), min_size=1, max_size=12), particles=counts))
def test_importance(log_w, particles):
    weights = attempt(hm.importance, torch.tensor(log_w), particles)
    if weights is not REFUSED:
        assert abs(weights.sum() - 1) < 1e-5 and len(log_w) % particles == 0


@cases(dict(data=st.data(), k=counts, seed=seeds), few=5, many=800)
def test_quality(data, k, seed):
    images, real = (data.draw(tables(4, rows)) for rows in (6, 7))
    judge = Judge([[torch.ones(4, 3).double(), torch.zeros(3).double()], [torch.eye(3).double(), torch.zeros(3).double()]], torch.arange(3))
    report = attempt(quality_report, images, real, judge, k=k, resamples=5, generator=seeded(seed))
    if report is not REFUSED:
        assert report.value.notna().all()


@cases(dict(x=tables(4), patience=counts, particles=counts), few=5, many=500)
def test_early_stopping(x, patience, particles):
    stop = attempt(EarlyStopping, x, patience, particles)
    if stop is not REFUSED:
        assert attempt(stop, HelmholtzMachine((4, 2))) in (False, REFUSED)


def test_a_traceback_of_somebody_else_is_noticed():
    with pytest.raises(RuntimeError):
        attempt(torch.mm, torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError):
        attempt(json.loads, "{")
    assert attempt(hm.well_formed, 2) is REFUSED and attempt(hm.entropy, torch.ones(1)) == 0
