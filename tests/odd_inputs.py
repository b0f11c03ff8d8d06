"""What the fuzz puts in, how it looks at what comes out, and what ought to: mostly what is meant, and now and then anything."""

import itertools
import math
import os
import signal
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import helmholtz_mim as hm
from helmholtz_mim import BinaryLayer, HelmholtzMachine, sample

PACKAGE, LONG = Path(hm.__file__).parent, os.environ.get("FUZZ") == "1"
REFUSED = object()


def cases(few=8, many=2000, **strategies):
    """A test of so many examples drawn from strategies; every run of the suite draws the same."""
    options = dict(deadline=None, database=None, suppress_health_check=list(HealthCheck))

    def decorate(test):
        return settings(max_examples=many if LONG else few, derandomize=not LONG, **options)(given(**strategies)(test))

    return decorate


def attempt(call, *arguments, **options):
    """What a call returns, or REFUSED if the package raises a sentence of its own; a minute is too long."""
    signal.signal(signal.SIGALRM, _too_long)
    signal.alarm(60)
    try:
        return call(*arguments, **options)
    except Exception as error:
        *_, last = traceback.extract_tb(error.__traceback__)
        ours = Path(last.filename).is_relative_to(PACKAGE) and last.line.startswith("raise ")
        if not ours or not isinstance(error, (ValueError, TypeError, OSError, ImportError, NotImplementedError)):
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
