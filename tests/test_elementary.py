"""Exponentials and logarithms that are written out: right to the last digits, and the same everywhere."""

import math
import struct

import mpmath
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as some
from numba import njit

from helmholtz_mim import elementary
from helmholtz_mim.engines.lanes import LANES, cells

mpmath.mp.prec = 200
TINY, LEAST, MOST = 5e-324, 2.2250738585072014e-308, 1.7976931348623157e308
POSITIVE = np.array([
    *np.exp(np.linspace(-744, 709, 4001)), *np.linspace(0.5, 2, 4001), *(1 + s * 2.0**-k for k in range(1, 53) for s in (1, -1)),
    *(TINY * 2.0**k for k in range(53)), LEAST, np.nextafter(LEAST, 0), MOST, math.sqrt(2), np.nextafter(math.sqrt(2), 2), 1.0,
])  # fmt: skip
ANY = np.array([s * x for s in (1, -1) for x in (*POSITIVE, *np.linspace(0, 800, 8001), *np.arange(1, 1000) * math.log(2) / 2, 0.0)])
FUNCTIONS = {
    "exp": (mpmath.exp, -708.0, 709.0, 2),
    "exp_single": (mpmath.exp, -87.0, 88.0, 1),
    "sigmoid": (lambda s: 1 / (1 + mpmath.exp(-s)), -708.0, 708.0, 2),
    "log": (mpmath.log, TINY, MOST, 1),
    "log1p": (mpmath.log1p, 0.0, MOST, 2),
}
DTYPES = {"exp_single": np.float32}


def numbers(name):
    """A grid over all that a function is written for, in its precision."""
    _, low, high, _ = FUNCTIONS[name]
    x = ANY.astype(DTYPES.get(name, np.float64))
    return np.unique(x[(x >= low) & (x <= high)])


def ulps(y, exact):
    """How many units in the last place a number is off."""
    nearest = type(y)(float(exact))
    return float(abs(mpmath.mpf(float(y)) - exact) / mpmath.mpf(float(np.spacing(abs(nearest)))))


def calculate(name, x):
    """A function of the chapter, of many numbers; as the limits come, without warnings."""
    with np.errstate(all="ignore"):
        return getattr(elementary, name)(x)


@pytest.mark.parametrize("name", FUNCTIONS)
def test_right_over_the_whole_range(name):
    exact, _, _, limit = FUNCTIONS[name]
    x = numbers(name)
    y = calculate(name, x)
    assert y.dtype == x.dtype and len(x) > 4000
    worst = max(ulps(value, exact(mpmath.mpf(float(at)))) for at, value in zip(x, y, strict=True) if exact(mpmath.mpf(float(at))))
    assert worst <= limit, worst


@pytest.mark.parametrize("name", FUNCTIONS)
@given(data=some.data())
def test_right_anywhere(name, data):
    exact, low, high, limit = FUNCTIONS[name]
    x = data.draw(some.floats(low, high, width=32 if name in DTYPES else 64))
    value = calculate(name, np.array([x], DTYPES.get(name, np.float64)))[0]
    assert ulps(value, exact(mpmath.mpf(x))) <= limit


def test_beyond_the_range_as_at_its_ends():
    far = np.array([-math.inf, -1e300, -709.0, 709.5, 1e300, math.inf])
    assert calculate("exp", far).tolist() == [*calculate("exp", np.full(3, -708.0)), *calculate("exp", np.full(3, 709.0))]
    ends = calculate("exp_single", np.array([-87.0, 88.0], np.float32))
    assert calculate("exp_single", far.astype(np.float32)).tolist() == [*ends[[0, 0, 0]], *ends[[1, 1, 1]]]
    assert ((calculate("sigmoid", far) >= 0) & (calculate("sigmoid", far) <= 1)).all()
    assert calculate("sigmoid", np.array([0.0, -0.0, 40.0, math.inf])).tolist() == [0.5, 0.5, 1.0, 1.0]


def test_limits_and_what_is_no_number():
    inf, nan = math.inf, math.nan
    log = calculate("log", np.array([0.0, -0.0, 1.0, inf, -1.0, -TINY, -inf, nan]))
    assert log[:4].tolist() == [-inf, -inf, 0.0, inf] and np.isnan(log[4:]).all()
    assert calculate("log1p", np.array([0.0, -0.0, inf])).tolist() == [0.0, 0.0, inf]
    assert calculate("exp", np.array([0.0, -0.0])).tolist() == [1.0, 1.0]
    for name in FUNCTIONS:
        assert np.isnan(calculate(name, np.array([nan], DTYPES.get(name, np.float64)))).all(), name


def test_nothing_falls_where_the_exponential_rises():
    for name in ("exp", "exp_single", "sigmoid", "log"):
        x = numbers(name)
        near = np.nextafter(x, x.dtype.type(np.inf))
        slack = 1 + 2 * np.finfo(x.dtype).eps  # two neighbours can be an ulp off each
        y, after = calculate(name, x), calculate(name, near)
        assert (after >= np.where(y > 0, y / slack, y * slack)).all(), name


# One text, three forms


def compiled(function):
    """A function of one number, and of eight side by side, as machine code."""

    @njit(error_model="numpy")
    def one(x, y):
        for i in range(len(x)):
            y[i] = function(x[i])

    @njit(error_model="numpy")
    def side_by_side(x, y):
        x, y = cells(x), cells(y)
        for i in range(len(x)):
            y[i] = function(x[i])

    return one, side_by_side


COMPILED = {name: compiled(getattr(elementary, name)) for name in FUNCTIONS}


def assert_same_bits(name, x):
    """Compare rows of numpy, numbers one by one and lanes."""
    x = np.resize(np.array(x, DTYPES.get(name, np.float64)), (-(-len(x) // LANES), LANES))
    rows, single, lanes = calculate(name, x), np.empty_like(x), np.empty_like(x)
    one, side_by_side = COMPILED[name]
    one(x.reshape(-1), single.reshape(-1)), side_by_side(x, lanes)
    word = f"u{x.itemsize}"
    number = ~np.isnan(rows)  # the sign of what is no number may be any
    for other in (single, lanes):
        assert rows.dtype == other.dtype and (number == ~np.isnan(other)).all()
        assert (rows.view(word) == other.view(word))[number].all()


bits = some.integers(0, 2**64 - 1).map(lambda word: struct.unpack("d", struct.pack("Q", word))[0])


@pytest.mark.parametrize("name", FUNCTIONS)
@given(some.lists(some.one_of(bits, some.floats(-750, 750), some.floats(0, 1)), min_size=1, max_size=20))
@example([math.inf, -math.inf, math.nan, 0.0, -0.0, TINY, -TINY, LEAST, MOST, -MOST])
def test_rows_numbers_and_lanes_have_the_same_bits(name, x):
    with np.errstate(over="ignore"):
        assert_same_bits(name, x if name != "log1p" else [abs(number) for number in x])


@pytest.mark.parametrize("name", FUNCTIONS)
def test_the_whole_grid_has_the_same_bits(name):
    assert_same_bits(name, numbers(name))
