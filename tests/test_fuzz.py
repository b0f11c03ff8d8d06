"""Whatever it is given, the package answers rightly or in one sentence of its own: no wrong answer, no hang, no other traceback.

A few cases of each kind run with the other tests; `make fuzz` runs 10⁵ of them.
"""

import gzip
import itertools
import json
import math
import os
import random
import re
import signal
import traceback
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from test_files import mutated

import helmholtz_mim as hm
from helmholtz_mim import BinaryLayer, CategoricalMIM, FactorialMIM, Flip, HelmholtzMachine, Patterns, Phases, SparseMIM, TrainConfig
from helmholtz_mim import exact_report, sample, states, train
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.comparison import Run
from helmholtz_mim.engine import decide_by_coin, watch_nothing
from helmholtz_mim.images import read_idx
from helmholtz_mim.quality import Judge, quality_report
from helmholtz_mim.store import Store

PACKAGE, LONG = Path(hm.__file__).parent, os.environ.get("FUZZ") == "1"
REFUSED = object()


def cases(few=8, many=2000, **strategies):
    """A test of so many examples drawn from strategies; every run of the suite draws the same."""
    options = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))

    def decorate(test):
        return settings(max_examples=many if LONG else few, derandomize=not LONG, **options)(given(**strategies)(test))

    return decorate


@pytest.fixture(autouse=True)
def singles():
    """The precision a program starts with."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for files, which is also the one of the user's own data; nothing is cached elsewhere."""
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", str(tmp_path))
    monkeypatch.setattr("helmholtz_mim.images.pooch.os_cache", lambda name: tmp_path / "cache")
    return tmp_path


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

ANYTHING = [None, True, -1, 0, 1.5, math.nan, math.inf, -math.inf, "3", "", b"\0", [], {}, (), object(), sample, np.int64(3), 2j, [2, 3]]
whatever = st.sampled_from([*ANYTHING, 2**63])


def rarely(strategy, other=whatever):
    """Nine times in ten what is meant."""
    return st.integers(0, 9).flatmap(lambda k: other if k == 9 else strategy)


counts = rarely(st.integers(1, 5))
efforts = rarely(st.integers(1, 5), st.sampled_from(ANYTHING))  # how long to go on: as long as one asks for
shares = rarely(st.floats(0, 1))
seeds = st.integers(0, 2**32)
names = rarely(st.sampled_from(["a", "ä b", "x" * 300, "no/such", "..", "", ".", "a\0b", "/"]))


@st.composite
def tables(draw, width=None, rows=None, anything=False):
    """Zeros and ones as a tensor, or in any form that people have; rarely with something wrong."""
    shape = (draw(st.integers(1, 6)) if rows is None else rows, draw(st.integers(1, 5)) if width is None else width)
    bits = (draw(st.integers(0, 2 ** math.prod(shape) - 1)) >> np.arange(math.prod(shape)).astype(object) & 1).astype(int).reshape(shape)
    odd = draw(st.integers(0, 11))
    if odd == 1:
        bits = bits.astype(float)
        bits[0, 0] = draw(st.sampled_from([math.nan, math.inf, -1, 0.5, 2, 255, 1e300]))
    if odd == 2:
        bits = draw(st.sampled_from([bits[0], bits[None], bits[:0], bits[:, :0], np.hstack([bits, bits[:, :1]]), bits * (1 + 0j)]))
    kinds = (torch.float64, torch.float16, torch.int8, torch.bool) if not np.iscomplexobj(bits) else ()
    forms = [torch.tensor] + [lambda a, d=d: torch.tensor(a).to(d) for d in kinds]
    if anything:
        forms += [np.asarray, lambda a: a.tolist(), lambda a: pd.DataFrame(a) if np.ndim(a) == 2 else a]
    return draw(whatever) if anything and odd == 0 else draw(st.sampled_from(forms))(bits)


def shuffled(draw, module):
    """Weights small, large, or rarely not finite."""
    scale = draw(st.sampled_from([0.0, 1.0, 1.0, 30.0, 1e4]))
    for tensor in module.state_dict().values():
        tensor.normal_(std=scale, generator=seeded(draw(st.integers(0, 99)))) if scale else None
    return module.to(draw(st.sampled_from([torch.float32, torch.float64])))


@st.composite
def machines(draw, sizes=None, finite=False):
    """A small machine, or a stack of them."""
    sizes = draw(st.lists(st.integers(1, 4), min_size=2, max_size=4)) if sizes is None else sizes
    machine = shuffled(draw, HelmholtzMachine(sizes, bias=draw(st.booleans()), replicas=draw(st.sampled_from([(), (2,), (2, 2)]))))
    if not finite and draw(st.integers(0, 19)) == 0:
        machine.generative[-1].weight.fill_(draw(st.sampled_from([math.nan, math.inf])))
    return machine


@st.composite
def layers(draw):
    """A layer with random weights."""
    sizes = draw(st.integers(0, 4)), draw(st.integers(1, 4))
    return shuffled(draw, BinaryLayer(*sizes, bias=draw(st.booleans()), replicas=draw(st.sampled_from([(), (2,)]))))


def data_for(machine, **options):
    """A table for that machine, and rarely for another."""
    return st.one_of(*[tables(machine.sizes[0], **options)] * 9, tables(**options))


# What ought to come out, by slow and obvious means, in double precision


def finite(machine):
    return all(t.isfinite().all() for t in machine.state_dict().values())


def content(module):
    """Copies of all tensors of a machine or a layer."""
    return [t.clone() for t in module.state_dict().values()]


def same(one, other):
    return all(torch.equal(a, b) for a, b in zip(one, other, strict=True))


def plain(bits):
    """A table as the numbers that it holds, or None if it is no table of zeros and ones."""
    try:
        array = np.asarray(bits, dtype=complex)
    except (TypeError, ValueError):
        return None
    real = array.ndim == 2 and array.size and not np.iscomplexobj(np.asarray(bits))
    return array.real if real and np.isin(array, (0, 1)).all() else None


def words(n):
    """All patterns of so many bits, in counting order."""
    return np.array(list(itertools.product((0.0, 1.0), repeat=n))).reshape(2**n, n)


def log_prob(layer, y, x):
    """ln p(y | x) of all rows, for a layer without replicas."""
    s = x @ layer.weight.double().numpy().T + (0 if layer.bias is None else layer.bias.double().numpy())
    return -np.logaddexp(0, (1 - 2 * y) * s).sum(-1)


def log_channel(layer):
    """ln p(y | x) of all patterns, a row for each x."""
    m, n = layer.weight.shape
    return np.array([log_prob(layer, words(m), np.tile(x, (2**m, 1))) for x in words(n)])


def one_by_one(machine):
    return [machine.replica(k) for k in range(math.prod(machine.replicas))]


def log_downward(machine):
    """ln p of the states of every layer, from the top down."""
    found = [log_prob(machine.prior, words(machine.sizes[-1]), np.zeros((2 ** machine.sizes[-1], 0)))]
    for layer in reversed(machine.generative):
        found.append(np.logaddexp.reduce(found[-1][:, None] + log_channel(layer), 0))
    return found[::-1]


def log_upward(machine, patterns):
    """The same from the data up."""
    with np.errstate(divide="ignore"):
        seen = sum(w * (words(machine.sizes[0]) == row).all(1) for row, w in zip(patterns.bits.numpy(), patterns.weights.numpy()))
        found = [np.log(seen)]
    for layer in machine.recognition:
        found.append(np.logaddexp.reduce(found[-1][:, None] + log_channel(layer), 0))
    return found


# Layers


@cases(n=rarely(st.integers(0, 10)))
def test_states(n):
    table = attempt(states, n)
    if table is not REFUSED:
        assert np.array_equal(table, words(int(n)))


@cases(bits=tables(anything=True))
def test_encode(bits):
    numbers = attempt(hm.encode, bits)
    if numbers is not REFUSED and plain(bits) is not None:
        assert numbers.tolist() == [int("".join(str(int(b)) for b in row), 2) for row in plain(bits)]


@cases(n_in=rarely(st.integers(0, 5)), n_out=counts, bias=rarely(st.booleans()), replicas=rarely(st.sampled_from([(), (2,), 3])))
def test_layers(n_in, n_out, bias, replicas):
    layer = attempt(BinaryLayer, n_in, n_out, bias=bias, replicas=replicas)
    if layer is not REFUSED:
        assert layer.weight.shape[-2:] == (n_out, n_in) and layer(torch.ones(3, int(n_in))).eq(0.5).all()


@cases(layer=layers(), rows=st.integers(1, 5), lr=rarely(st.floats(0, 3)), data=st.data())
def test_steps(layer, rows, lr, data):
    """ln p and one step of the delta rule, or nothing is changed."""
    before, (m, n) = content(layer), layer.weight.shape[-2:]
    stack = before[0].reshape(-1 if n else math.prod(layer.weight.shape[:-2]), m, n).double().numpy()
    x = data.draw(rarely(tables(n, rows) if n else st.just(torch.zeros(rows, 0)), tables()))
    y = data.draw(rarely(tables(m, rows), tables()))
    x, y = (v.to(layer.weight) if data.draw(st.integers(0, 9)) and not v.is_complex() else v for v in (x, y))
    p, said = attempt(layer, x), attempt(layer.log_prob, y, x)
    done = attempt(layer.learn_, y, x, lr)
    if REFUSED in (p, said, done) or not x.ndim == y.ndim == 2:
        assert done is not REFUSED or same(before, content(layer))
        return
    bias = np.zeros((len(stack), m)) if layer.bias is None else before[1].reshape(-1, m).double().numpy()
    s = x.double().numpy() @ stack.swapaxes(-1, -2) + bias[:, None] if stack.size else np.tile(bias[:, None], (1, len(x), 1))
    close = dict(rtol=1e-3, atol=1e-3 * (1 + abs(s).max()))
    expected = -np.logaddexp(0, (1 - 2 * y.double().numpy()) * s).sum(-1)
    assert np.allclose(said.reshape(expected.shape), expected, **close) or not x.isfinite().all() or not y.isfinite().all()
    step = (before[0] + float(lr) / len(x) * (y - p).mT @ x).to(layer.weight)
    assert torch.allclose(layer.weight, step, rtol=1e-4, atol=1e-4, equal_nan=True)


@cases(p=tables(), generator=rarely(st.just(seeded())))
def test_bernoulli(p, generator):
    assume(generator is not sample)  # any function may stand for chance
    for y in (attempt(hm.bernoulli, p, generator=generator), attempt(sample, 1, p, generator) if p.is_floating_point() else REFUSED):
        if y is not REFUSED:
            assert y.shape == p.shape and torch.isin(y, torch.tensor([0, 1], dtype=y.dtype)).all()
            assert not (y[p == 0] == 1).any() and not (y[p == 1] == 0).any()


@cases(replicas=rarely(st.sampled_from([(), (2,), (2, 3), 2])), shapes=st.lists(rarely(st.sampled_from([(2, 3), (2, 3, 4), (5,)]), st.just(()))))
def test_streams(replicas, shapes):
    stream = attempt(hm.Stream, replicas, generator=seeded())
    position, size = 0, 2**64
    for shape in shapes if stream is not REFUSED else ():
        found, axes = attempt(stream, shape), stream.keys.ndim
        if found is not REFUSED:
            assert shape[:axes] == stream.keys.shape
            count = math.prod(shape[axes:])
            for key, numbers in zip(stream.keys.flat, found.reshape(stream.keys.size, -1).tolist()):
                for i, u in enumerate(numbers, position + 1):
                    x = (int(key) + i * 0x9E3779B97F4A7C15) % size
                    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % size
                    x = (x ^ x >> 27) * 0x94D049BB133111EB % size
                    assert u == ((x ^ x >> 31) >> 11) * 2.0**-53
            position += count


# Machines


@cases(sizes=rarely(st.lists(counts, max_size=4)), bias=rarely(st.booleans()), replicas=rarely(st.sampled_from([(), (2,), (2, 3), 4])))
def test_machines(sizes, bias, replicas):
    machine = attempt(HelmholtzMachine, sizes, bias=bias, replicas=replicas)
    if machine is not REFUSED:
        assert machine.sizes == tuple(sizes) and len(machine.recognition) == len(sizes) - 1
        assert not any(t.any() for t in machine.state_dict().values())


@cases(machine=machines(), index=rarely(st.integers(-2, 5)), scale=rarely(st.floats(0, 10)))
def test_replicas(machine, index, scale):
    one = attempt(machine.replica, index)
    if one is not REFUSED:
        stack = machine.prior.bias.reshape(-1, machine.sizes[-1])
        assert one.replicas == () and torch.equal(one.prior.bias, stack[int(index)])
    before = content(machine)
    if attempt(machine.randomise_, scale, generator=seeded()) is REFUSED:
        assert same(before, content(machine)) or not all(t.isfinite().all() for t in before)
    else:
        assert all(layer.weight.abs().max() <= 10 * float(scale) for layer in (*machine.recognition, *machine.generative))


@cases(machine=machines(), name=names, notes=st.dictionaries(st.text(), whatever, max_size=2))
def test_saving(machine, name, notes, place):
    path = place / name if isinstance(name, str) and "/" not in name and "\0" not in name and name not in ("", ".", "..") else name
    if attempt(hm.save, machine, path, **{f"note {key}": note for key, note in notes.items()}) is REFUSED:
        assert not isinstance(path, Path) or not os.path.exists(path)
        attempt(hm.load, path)
    else:
        again = hm.load(path)
        assert repr(again) == repr(machine) and (same(content(machine), content(again)) or not finite(machine))
        path.unlink()


def damaged(path, number):
    """Whether a file has other content after an accident; every seventh escapes."""
    whole = path.read_bytes()
    path.write_bytes(mutated(whole, random.Random(number)) if number % 7 else whole)
    return path.read_bytes() != whole


@cases(machine=machines(finite=True), number=seeds, many=6000)
def test_machine_files(machine, number, place):
    hm.save(machine, place / "file", note=1)
    change = damaged(place / "file", number)
    again = attempt(hm.load, place / "file")
    assert (again is REFUSED) == change
    assert change or same(content(machine), content(again))


@cases(number=seeds, minutes=rarely(st.just(0)), few=4, many=3000)
def test_checkpoint_files(number, minutes, place):
    """A run goes on from its checkpoint to what it comes to without, or the file is refused."""

    def run(epochs, checkpoint=None):
        machine, config = HelmholtzMachine((4, 2)), TrainConfig(epochs, 8, report_every=1, dreams=1)
        options = dict(allocate=FactorialMIM(), engine="torch", generator=seeded(number))
        return machine, attempt(train, machine, states(4), config, checkpoint=checkpoint, **options)

    path = place / "checkpoint"
    path.unlink(missing_ok=True)
    first = attempt(Checkpoint, path, minutes)
    assume(first is not REFUSED)
    (one, history), (expected, _) = run(2, first), run(2)
    change = damaged(path, number)
    other, again = run(2, Checkpoint(path))
    assert history is not REFUSED and (again is REFUSED) == change and same(content(one), content(expected))
    assert change or (history.equals(again) and same(content(one), content(other)))


@cases(number=seeds, kind=st.sampled_from(["csv", "csv.gz", "bits"]), values=st.lists(st.integers(-9, 9), min_size=1), many=6000)
def test_store_files(number, kind, values, place):
    store, run = Store(place, "this test"), Run(seed=3)
    table = pd.DataFrame({"a": values, "b": [f"x, {v}" for v in values]})
    store.keep(run, {"x": torch.tensor(values)}, kind) if kind == "bits" else store.write(run, table, kind)
    change = damaged(store.path(run, kind), number)
    again = attempt(store.kept if kind == "bits" else store.read, run, kind)
    assert change or again is not REFUSED
    if again is not REFUSED:
        assert kind == "csv.gz" or not change  # the header of gzip has a date and a system, which do not matter
        assert again["x"].tolist() == values if kind == "bits" else again.equals(table)


# Data


@cases(bits=tables(anything=True), weights=rarely(st.none() | st.lists(st.floats(0, 5), max_size=6)), epoch=rarely(st.none()), many=4000)
def test_patterns(bits, weights, epoch):
    patterns = attempt(Patterns, bits, weights, epoch)
    if patterns is not REFUSED:
        assert plain(bits) is not None, "only zeros and ones are patterns"
        assert np.array_equal(patterns.bits.numpy(), plain(bits)) and len(patterns) == len(plain(bits)) == len(patterns.weights)
        shares, total = Counter(), sum(weights or [1] * len(patterns))
        for row, weight in zip(plain(bits), weights or [1] * len(patterns)):
            shares[tuple(row)] += weight / total
        assert abs(patterns.entropy + sum(p * math.log(p) for p in shares.values() if p)) < 1e-6 and abs(patterns.weights.sum() - 1) < 1e-9
        assert patterns.epoch == (len(patterns) if epoch is None else epoch)


def good(word):
    return not re.search("0000|00100|^100|001$", word)


WORLDS = {
    "well_formed": [rarely(st.integers(3, 12))],
    "heartbeat": [rarely(st.integers(1, 12)), rarely(st.integers(1, 12)), counts],
    "shifts": [rarely(st.integers(1, 6)), shares, counts],
    "bars": [rarely(st.integers(1, 4)), shares, shares, counts],
    "dataset": [rarely(st.sampled_from(list(hm.DATASETS)))],
}
EXPECTED = {
    "well_formed": lambda bits, n: len(bits) == sum(good("1" + "".join(w)) for w in itertools.product("01", repeat=int(n) - 1)),
    "heartbeat": lambda bits, n, period, _: bits.tolist() == [[float(t % period == phase) for t in range(n)] for phase in range(period)],
    "dataset": lambda bits, name: len(bits) == len(hm.DATASETS[name]()),
}


@pytest.mark.parametrize("name", WORLDS)
@cases(data=st.data(), many=1200)
def test_worlds(name, data):
    options = [data.draw(argument) for argument in WORLDS[name]]
    patterns = attempt(getattr(hm, name), *options)
    if patterns is not REFUSED:
        assert len(patterns.bits.unique(dim=0)) == len(patterns)
        assert name not in EXPECTED or EXPECTED[name](patterns.bits, *options)
        if name in ("shifts", "bars"):  # however often two words are the same, a bit is on at that rate
            assert torch.allclose(patterns.means, torch.tensor(float(options[1])), atol=1e-5) and patterns.units == (
                2 * options[0] if name == "shifts" else options[0] ** 2
            )


@cases(grey=tables(anything=True), generator=rarely(st.just(seeded())))
def test_binarise(grey, generator):
    assume(generator is not sample)
    patterns = attempt(hm.binarise, grey, generator=generator)
    if patterns is not REFUSED:
        values = np.asarray(grey, float)
        assert ((0 <= values) & (values <= 1)).all() and np.array_equal(patterns.bits.numpy()[values == 1], values[values == 1])


@cases(threshold=shares, chosen=rarely(st.none() | st.lists(st.integers(-1, 10), max_size=3)), few=3, many=500)
def test_digits(threshold, chosen):
    grey, found = attempt(hm.grey_digits, digits=chosen), attempt(hm.digits, threshold=threshold, digits=chosen)
    if found is not REFUSED:
        levels, labels = grey
        assert torch.equal(found.bits, (levels > threshold).float()) and levels.min() >= 0 and levels.max() <= 1
        assert chosen is None or set(labels.tolist()) == set(np.atleast_1d(chosen).tolist())


@cases(raw=st.binary(max_size=60), shape=st.lists(st.integers(0, 4), max_size=4), fits=st.booleans(), number=seeds, name=names, many=6000)
def test_idx_files(raw, shape, fits, number, name, place):
    raw = raw.ljust(math.prod(shape), b"\7")[: math.prod(shape)] if fits else raw
    whole = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + raw
    (place / "idx").write_bytes(gzip.compress(whole, mtime=0) if number % 2 else whole)
    change, array = damaged(place / "idx", number), attempt(read_idx, place / "idx")
    assert attempt(read_idx, name) is REFUSED
    if not change:
        assert (array is not REFUSED) == (len(raw) == math.prod(shape) and shape != [])
        assert array is REFUSED or (array.tobytes() == raw and list(array.shape) == shape)


@cases(bits=tables(8), packed=st.booleans(), number=seeds, split=rarely(st.sampled_from(["train", "valid", "test"])), many=6000)
def test_static_digits(bits, packed, number, split, place):
    wide = np.tile(bits.numpy(), (1, 98)) if bits.ndim == 2 else bits.numpy()
    packs = packed and plain(bits) is not None
    arrays = {"train": np.packbits(wide.astype(np.uint8), axis=1) if packs else wide, "valid": np.array([None]) if number % 2 else wide}
    (np.savez_compressed if number % 3 else np.savez)(place / "binarized_mnist.npz", **arrays)
    change, found = damaged(place / "binarized_mnist.npz", number), attempt(hm.mnist, split, "static")
    if not change:
        assert (found is not REFUSED) == (plain(bits) is not None and (split == "train" or (split == "valid" and number % 2 == 0)))
    if found is not REFUSED:
        assert np.array_equal(found.bits, wide)


@cases(
    split=rarely(st.sampled_from(["train", "test"])), binarise=rarely(st.sampled_from(["threshold", "dynamic"])), threshold=shares,
    chosen=rarely(st.none()), torn=st.binary(), many=500,
)  # fmt: skip
def test_mnist_that_is_not_here(split, binarise, threshold, chosen, torn, place):
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"):
        (place / name).write_bytes(torn)
    assert attempt(hm.grey_mnist, split, digits=chosen, download=False) is REFUSED
    assert attempt(hm.mnist, split, binarise, threshold=threshold, digits=chosen, generator=seeded(), download=False) is REFUSED


# The two phases, and training

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


@cases(machine=machines(), count=rarely(st.integers(1, 5)), rule=rarely(st.just(sample)), generator=rarely(st.just(seeded())), data=st.data())
def test_phases(machine, count, rule, generator, data):
    assume(generator is not sample)
    shape = (*machine.replicas, None)
    awake = attempt(hm.wake, machine, data.draw(data_for(machine, anything=True)), rule, generator=generator)
    asleep = attempt(hm.dream, machine, count, rule, generator=generator)
    for z in (awake, asleep):
        if z is not REFUSED:
            assert finite(machine) and all(((y == 0) | (y == 1)).all() for y in z)
            assert [y.shape for y in z] == [(*shape[:-1], z[0].shape[-2], n) for n in machine.sizes]


@cases(machine=machines(finite=True), rows=st.integers(1, 4), lr=rarely(st.floats(0, 3)), broken=rarely(st.none()), particles=counts)
def test_learning(machine, rows, lr, broken, particles):
    """The importance of patterns, and one step towards them."""
    z = hm.wake(machine, states(machine.sizes[0])[-rows:], generator=seeded())
    w = attempt(hm.log_importance, machine, z[:-1] if broken is True else z)
    if w is not REFUSED:
        for k, one in enumerate(one_by_one(machine)):
            y = [part.reshape(-1, *part.shape[-2:])[k].double().numpy() for part in z]
            expected = log_prob(one.prior, y[-1], y[-1][:, :0])
            for l, (up, down) in enumerate(zip(one.recognition, one.generative)):
                expected = expected + log_prob(down, y[l], y[l + 1]) - log_prob(up, y[l + 1], y[l])
            assert np.allclose(w.reshape(-1, len(expected))[k], expected, rtol=1e-3, atol=1e-3 * (1 + abs(expected).max()))
    weights = attempt(hm.importance, w if w is not REFUSED else broken, particles)
    assert weights is REFUSED or torch.allclose(weights.sum(-1), torch.ones(()).to(weights), atol=1e-5)
    weights = weights if weights is not REFUSED else broken
    before, steps = content(machine), (hm.learn_generative_, hm.learn_recognition_)
    for step in steps:
        if attempt(step, machine, z if broken is None else broken, lr, weights) is not REFUSED:
            other = [l for l in (machine.generative if step is hm.learn_recognition_ else machine.recognition)]
            assert same(content(other[0]), content(other[0])) and finite(machine)
    attempt(hm.learn_reweighted_, machine, z, weights, lr, True)
    assert (lr != 0) or same(before, content(machine))


@st.composite
def configs(draw):
    """Keyword arguments of a short training."""
    options = dict(epochs=draw(st.integers(1, 3)), batch=draw(counts), lr=draw(rarely(st.floats(0.01, 5))))
    further = dict(dreams=counts, every=counts, report_every=counts, fraction=shares, anneal=shares, particles=efforts)
    further |= dict(recognition=rarely(st.sampled_from(["sleep", "wake", "both"])), optimizer=rarely(st.sampled_from(["sgd", "adam"])))
    further["schedule"] = rarely(st.sampled_from(["constant", "linear", "cosine"]))
    return options | {name: draw(further[name]) for name in draw(st.lists(st.sampled_from(sorted(further)), max_size=3))}


@cases(options=configs(), epochs=counts, batch=st.integers(1, 9))
def test_configurations(options, epochs, batch):
    config = attempt(TrainConfig, **options | {"epochs": epochs})
    if config is not REFUSED:
        assert config.dreams == options.get("dreams", 0) or config.dreams == config.batch
        assert replace(config, lr=1.0).dreams == config.dreams
        assert options.get("dreams") or replace(config, batch=batch).dreams == batch


@cases(
    options=configs(), rule=rarely(st.sampled_from(list(RULES))), engine=rarely(st.sampled_from(["auto", *hm.ENGINES])), seed=seeds,
    report=rarely(st.none()), data=st.data(), few=12, many=14_000,
)  # fmt: skip
def test_training(options, rule, engine, seed, report, data):
    config = attempt(TrainConfig, **options)
    assume(config is not REFUSED and report is not sample)
    machine = data.draw(machines())
    patterns = data.draw(data_for(machine, anything=True))
    known, rules = finite(machine), RULES[rule]() if isinstance(rule, str) and rule in RULES else rule
    history = attempt(train, machine, patterns, config, allocate=rules, report=report, engine=engine, generator=seeded(seed))
    if history is not REFUSED:
        assert known and finite(machine) and np.isfinite(history.value).all() and rules not in ("wrong way", "wrong phase")
        assert plain(patterns) is not None and engine in ("auto", *hm.ENGINES) and history.replica.nunique() == math.prod(machine.replicas)


@cases(
    rule=st.sampled_from([rule for rule in RULES if rule not in ("mim, batch", "sparse")]), seed=seeds, lr=st.floats(0.01, 30),
    every=st.integers(1, 3), data=st.data(), many=6000,
)  # fmt: skip
def test_engines_agree(rule, seed, lr, every, data):
    """The compiled loop does what the readable one does, whatever the weights."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    patterns = Patterns(data.draw(st.sampled_from([states(sizes[0]), states(sizes[0])[:1], states(sizes[0])[-2:]])), epoch=7)
    batch = 1 if "categorical" in rule else data.draw(st.integers(1, 4))
    found = []
    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine(sizes, bias=seed % 2 == 0, replicas=(2,)).double()
        options = dict(allocate=RULES[rule](), engine=engine, generator=seeded(seed))
        history = attempt(train, machine, patterns, TrainConfig(3, batch, lr=lr, every=every), **options)
        found.append(machine if history is not REFUSED else REFUSED)
    if REFUSED in found:
        assert found == [REFUSED, REFUSED]
    else:
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(*map(content, found), strict=True))


class Foreign:
    """A rule of somebody else, whose twin may have a state of any kind."""

    def __init__(self, *state):
        self.state = state

    def __call__(self, layer, p, generator):
        return sample(layer, p, generator)

    def twin(self, machine):
        return hm.Twin(decide_by_coin, watch_nothing, *self.state, width=lambda units: 2)


@cases(
    rows=st.integers(0, 3), starts=st.lists(st.integers(-1, 6), max_size=4), kind=st.sampled_from(["f8", "f8", "f4", "i8"]), flat=st.booleans()
)
def test_twins(rows, starts, kind, flat):
    state = np.zeros(rows * 6 if flat else (rows, 6), kind)
    machine, options = HelmholtzMachine((2, 3), replicas=(2,)), dict(engine="compiled", generator=seeded())
    done = attempt(train, machine, states(2), TrainConfig(1), allocate=Foreign(state, np.array(starts, int)), **options)
    fits = kind == "f8" and not flat and rows == 2 and len(starts) == 3 and 0 <= starts[0] <= starts[1] <= starts[2] <= 6
    assert (done is not REFUSED) == (fits and starts[2] - starts[1] >= 2 and starts[1] - starts[0] in (0, *range(2, 7)))


@cases(alpha=rarely(st.floats(0, 5)), beta=rarely(st.floats(0, 5)), direction=rarely(st.just("recognition")), epsilon=shares, few=20)
def test_rules(alpha, beta, direction, epsilon):
    """Whatever is accepted decides."""
    makers = (
        lambda: FactorialMIM(alpha, beta, direction=direction, epsilon=epsilon),
        lambda: CategoricalMIM(alpha, beta, direction=direction, epsilon=epsilon),
        lambda: SparseMIM(direction, epsilon),
        lambda: Flip(alpha),
        lambda: Phases(alpha, beta),
        lambda: FactorialMIM(threshold=alpha),
        lambda: hm.scheme(direction),
        lambda: hm.scheme("flip", rate=alpha),
        lambda: hm.scheme("mim", rate=alpha),
    )
    for rule in (attempt(make) for make in makers):
        if rule is not REFUSED and rule != Phases(sample, sample) and alpha is not sample:
            attempt(train, HelmholtzMachine((2, 2)), states(2), TrainConfig(1, every=1), allocate=rule, generator=seeded())


@cases(machine=machines(finite=True), epsilon=st.floats(0.01, 0.9), p=tables(rows=3))
def test_the_sparse_rule_finds_the_best_state(machine, epsilon, p):
    rules = [make(epsilon=epsilon) for make in (CategoricalMIM, SparseMIM)]
    n = machine.sizes[1]
    p = torch.rand(*machine.replicas, 3, n, generator=seeded(n)).double()
    for rule in rules:
        attempt(rule.begin, machine, Patterns(states(machine.sizes[0])), 0.1, seeded())
    scores, y = rules[0].scores(1, p), rules[1](1, p, seeded())
    assert torch.allclose(scores.gather(-1, hm.encode(y)[..., None])[..., 0], scores.amax(-1), rtol=1e-9, atol=1e-9)


# Measures


@cases(machine=machines(), data=st.data(), few=6, many=4000)
def test_exact_reports(machine, data):
    bits = data.draw(data_for(machine, anything=True))
    report = attempt(exact_report, machine, bits)
    found = attempt(hm.upward, machine, bits), attempt(hm.downward, machine)
    if report is REFUSED:
        return
    assert finite(machine) and not report.value.isna().any()
    of = report.set_index(["replica", "direction", "layer", "measure"]).value
    for k, one in enumerate(one_by_one(machine)):
        logs = {"recognition": log_upward(one, Patterns(bits)), "generative": log_downward(one)}
        for (way, ours), tables in zip(logs.items(), found):
            other = logs["generative" if way == "recognition" else "recognition"]
            for l, log_p in enumerate(ours):
                p = np.exp(log_p)
                assert np.allclose(tables[l].reshape(-1, len(p))[k], p, rtol=1e-3, atol=1e-5)
                assert of[k, way, l, "top"] == pytest.approx(p.max(), abs=1e-5)
                assert of[k, way, l, "H"] == pytest.approx(-(p[p > 0] * log_p[p > 0]).sum(), abs=1e-4)
                divergence = (p[p > 0] * (log_p - other[l])[p > 0]).sum()
                assert of[k, way, l, "KL"] == pytest.approx(divergence, rel=1e-3, abs=1e-3)
        for way, l, layer, source in [("recognition", l, r, logs["recognition"][l]) for l, r in enumerate(one.recognition)] + [
            ("generative", l, g, logs["generative"][l + 1]) for l, g in enumerate(one.generative)
        ]:
            joint = source[:, None] + log_channel(layer)
            gain = np.where(np.exp(joint) > 0, log_channel(layer) - np.logaddexp.reduce(joint, 0), 0)
            assert of[k, way, l, "I"] == pytest.approx((np.exp(joint) * gain).sum(), abs=1e-4)
        seen = Patterns(bits).weights.new_zeros(2 ** machine.sizes[0]).index_fill(0, hm.encode(Patterns(bits).bits), 1).numpy() > 0
        assert of[k, "generative", 0, "off-support"] == pytest.approx(np.exp(logs["generative"][0])[~seen].sum(), abs=1e-5)


@cases(layer=layers(), p=st.lists(st.floats(0, 1), min_size=1, max_size=16), odd=rarely(st.none()))
def test_channels(layer, p, odd):
    table, n = attempt(hm.channel, layer), layer.weight.shape[-1]
    p = torch.tensor(p).double() if odd is None else odd
    found = attempt(hm.mutual_information, layer, p)
    assert (found is not REFUSED) == (odd is None and len(p) == 2**n)
    if layer.weight.ndim == 2:
        expected = np.exp(log_channel(layer))
        assert np.allclose(table, expected, rtol=1e-3, atol=1e-5)
        if found is not REFUSED and p.sum() > 0:
            q, given = p.numpy() / p.sum().item(), table.numpy()
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = q[:, None] * given * np.log(given / (q @ given))
            assert hm.mutual_information(layer, torch.from_numpy(q)).item() == pytest.approx(np.nansum(terms), abs=1e-6)


@cases(p=st.lists(st.floats(0, 1), min_size=1, max_size=6), q=st.lists(st.floats(0, 1), min_size=1, max_size=6), odd=rarely(st.none()))
def test_entropies(p, q, odd):
    assume(sum(p) > 1e-3 and sum(q) > 1e-3)
    p, q = (np.array(v) / sum(v) for v in (p, q))
    ours = [torch.from_numpy(v) for v in (p, q)]
    h = -sum(v * math.log(v) for v in p if v)
    assert attempt(hm.entropy, ours[0]).item() == pytest.approx(h, abs=1e-9)
    for measure in (hm.kl, hm.clamped_kl):
        assert attempt(measure, ours[0], odd) is REFUSED
        assert (attempt(measure, *ours) is REFUSED) == (len(p) != len(q))
    attempt(hm.entropy, odd), attempt(hm.clamped_kl, *ours, odd)
    if len(p) == len(q):
        logs = [-1000.0 if b == 0 else math.log(b) for b in q]
        assert hm.clamped_kl(*ours, -1000.0).item() == pytest.approx(-h - p @ logs, abs=1e-6)
        infinite = any(a and not b for a, b in zip(p, q))
        assert hm.kl(*ours).item() == (math.inf if infinite else pytest.approx(-h - p @ logs, abs=1e-6))


@cases(machine=machines(), data=st.data(), samples=rarely(st.integers(80, 200)), generator=rarely(st.just(seeded())), few=4, many=500)
def test_sampled_reports(machine, data, samples, generator):
    report = attempt(hm.sampled_report, machine, data.draw(data_for(machine, anything=True)), samples=samples, generator=generator)
    found = attempt(hm.intervals, report if report is not REFUSED else samples)
    assert (found is REFUSED) == (report is REFUSED)
    if report is not REFUSED:
        assert finite(machine) and not report.value.isna().any() and (found.low <= found.high).all() and 2 * len(found) == len(report)


@cases(machine=machines(), data=st.data(), particles=rarely(st.integers(1, 20), st.sampled_from(ANYTHING)), chains=counts, many=4000)
def test_likelihoods(machine, data, particles, chains):
    x, options = data.draw(data_for(machine, anything=True)), dict(generator=seeded())
    exact, surprise = attempt(hm.exact_log_likelihood, machine, x), attempt(hm.losses, machine, x, **options)
    found = [attempt(make, machine, x, particles, **options) for make in (hm.log_likelihood, hm.effective_sample_size)]
    found.append(attempt(hm.ais_log_likelihood, machine, x, chains, 3, **options))
    for values in (exact, *found):
        if values is not REFUSED:
            assert finite(machine) and values.shape == (*machine.replicas, len(plain(x))) and not values.isnan().any()
    assert (surprise is REFUSED) or (surprise.value >= 0).all()
    if exact is not REFUSED:
        expected = [log_downward(one)[0][hm.encode(x).numpy()] for one in one_by_one(machine)]
        assert np.allclose(exact.reshape(len(expected), -1), expected, rtol=1e-3, atol=1e-3 * (1 + np.abs(expected).max()))
    if found[1] is not REFUSED:
        assert found[1].min() >= 1 - 1e-9 and found[1].max() <= particles + 1e-6


@cases(machine=machines(), data=st.data(), numbers=rarely(st.lists(st.integers(1, 30), max_size=3), st.sampled_from(ANYTHING)), few=4, many=1500)
@pytest.mark.filterwarnings("ignore:the log-likelihood still climbs")
def test_ladders(machine, data, numbers):
    table = attempt(hm.ladder, machine, data.draw(data_for(machine, anything=True)), numbers, generator=seeded())
    if table is not REFUSED:
        assert table.nats.notna().all() and (table.low <= table.high).all() and table.ess.between(1 - 1e-9, table.particles + 1e-6).all()
        assert len(table) == np.size(numbers) * math.prod(machine.replicas)


@cases(x=tables(4, anything=True), patience=counts, particles=efforts, seed=rarely(seeds), scores=st.lists(st.sampled_from([0, 1]), max_size=6))
def test_early_stopping(x, patience, particles, seed, scores):
    stop, machine = attempt(hm.EarlyStopping, x, patience, particles, seed), HelmholtzMachine((4, 2))
    if stop is not REFUSED:
        assert attempt(stop.restore_, machine) is REFUSED
        assert attempt(stop, machine) in (False, REFUSED)
        stop.scores = scores
        since = len(scores) - 1 - scores.index(max(scores)) if scores else 0
        assert attempt(stop, machine) in (since + (stop.scores[-1] <= max(stop.scores[:-1], default=-math.inf)) >= patience, REFUSED)


# Judges

WEIGHTS = st.sampled_from([None, torch.zeros(3), torch.ones(4, 3), torch.eye(3), torch.ones(3, 3).double(), torch.zeros(2), 3])


@cases(layers=rarely(st.lists(st.tuples(WEIGHTS, WEIGHTS), max_size=3)), names=rarely(st.sampled_from([torch.arange(3), "abc"])), images=tables(4))
def test_judges(layers, names, images):
    judge = attempt(Judge, layers, names)
    if judge is not REFUSED:
        found = attempt(judge.outputs, images)
        assert found is REFUSED or (found.shape == images.shape[:1] and found.max() < 3)
        assert found is REFUSED or len(attempt(judge, images)) == len(found)


@cases(images=tables(3), labels=rarely(tables(1)), hidden=efforts, epochs=efforts, seed=rarely(seeds), few=3, many=300)
def test_trained_judges(images, labels, hidden, epochs, seed):
    labels = labels[:, 0] if getattr(labels, "ndim", 0) == 2 and labels.shape[1] else labels
    judge = attempt(Judge.trained, images, labels, hidden=hidden, epochs=epochs, seed=seed)
    assert judge is REFUSED or set(judge(images).tolist()) <= set(labels.int().tolist())


@cases(data=st.data(), k=counts, resamples=efforts, generator=rarely(st.just(seeded())), few=4, many=600)
def test_quality(data, k, resamples, generator):
    images, real, seen = (data.draw(tables(4, rows)) for rows in (6, 7, 3))
    judge = Judge([(torch.ones(4, 3).double(), torch.zeros(3)), (torch.eye(3).double(), torch.zeros(3).double())], torch.arange(3))
    seen = data.draw(st.sampled_from([None, seen]))
    report = attempt(quality_report, images, real, judge, seen, k=k, resamples=resamples, generator=generator)
    if report is not REFUSED and images.ndim == 2:
        of, (a, b) = report.set_index("measure").value, (v.double().numpy() for v in (images, real))
        sums = [v.sum(1) for v in (a, b)]  # which three features of this judge are
        reach = [np.sort(abs(s[:, None] - s), 1)[:, k] * (1 + 1e-9) for s in sums]
        near = [(abs(sums[1 - i][:, None] - sums[i]) <= reach[i]).any(1).mean() for i in (1, 0)]
        assert [of["precision"], of["recall"]] == pytest.approx(near)
        gaps = [abs(v[:, None] - v).sum(-1)[~np.eye(len(v), dtype=bool)] for v in (a, b)]
        curves = [np.bincount(gap.astype(int), minlength=5).cumsum() / len(gap) for gap in gaps]
        assert of["pairs off"] == pytest.approx(abs(curves[0] - curves[1]).sum()) and report.value.notna().all()


# The fuzz itself


def test_every_public_name_is_tried():
    here = Path(__file__).read_text()
    public = [name for name in hm.__all__ if getattr(getattr(hm, name), "__module__", "").startswith("helmholtz_mim")]
    assert {"train", "save", "mnist"} < set(public)
    missing = [name for name in public if not re.search(rf"\b(hm\.)?{name}\b", here.partition("# The fuzz itself")[0])]
    assert not missing or missing == ["Interrupted", "NotApplicable"], "which nobody calls"


def test_a_traceback_of_somebody_else_is_noticed():
    with pytest.raises(RuntimeError):
        attempt(torch.mm, torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError):
        attempt(json.loads, "{")
    assert attempt(hm.well_formed, 2) is REFUSED and attempt(hm.entropy, torch.ones(1)) == 0
