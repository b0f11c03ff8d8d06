"""The data sets have the published counts, and bad patterns are turned away."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import DATASETS, Patterns, bars, dataset, digits, encode, heartbeat, shifts, states, well_formed
from helmholtz_mim.data.worlds import SIZES

RHYTHM_MEANS = [1, 0.6530, 0.6939, 0.5536, 0.5713, 0.5934, 0.6077, 0.6000, 0.6033, 0.6331, 0.6254, 0.4785]


@pytest.mark.parametrize("n, count", [(8, 72), (10, 256), (12, 905), (14, 3209)])
def test_counts_of_well_formed_rhythms(n, count):
    rhythms = well_formed(n)
    assert len(rhythms) == rhythms.epoch == count
    assert math.isclose(rhythms.entropy, math.log(count))


def test_every_word_is_well_formed_if_and_only_if_it_is_listed():
    listed = set(encode(well_formed(9).bits).tolist())
    for k in range(2**9):
        word = f"{k:09b}"
        inside = "0000" not in word and "00100" not in word
        edges = word[0] == "1" and word[:3] != "100" and word[-3:] != "001"
        assert (k in listed) == (inside and edges), word


def test_unit_means_of_the_rhythms():
    assert_close(well_formed(12).means, torch.tensor(RHYTHM_MEANS).double(), rtol=0, atol=5e-5)


def test_heartbeats():
    pulse = heartbeat()
    assert encode(pulse.bits).tolist() == [541200, 270600, 135300, 67650, 33825]
    assert pulse.epoch == 1000
    assert_close(pulse.weights, torch.full((5,), 0.2))


def test_shifts_are_a_row_above_its_rotation():
    world = shifts()
    assert (len(world), world.units, world.epoch) == (508, 16, 1000)
    above, below = world.bits.split(8, dim=-1)
    left, right = ((above == below.roll(turn, -1)).all(-1) for turn in (-1, 1))
    assert (left | right).all()
    assert_close(world.means, torch.full((16,), 0.2))
    assert_close(world.weights[left & ~right].sum(), world.weights[right & ~left].sum())


def test_bars_point_in_one_direction():
    images = bars()
    assert len(images) == 30
    grid = images.bits.reshape(-1, 4, 4)
    horizontal, vertical = ((grid == grid.roll(1, axis)).all(-1).all(-1) for axis in (2, 1))
    assert (horizontal | vertical).all()
    assert_close(images.means, torch.full((16,), 0.2))
    assert_close(images.weights[vertical & ~horizontal].sum(), 2 * images.weights[horizontal & ~vertical].sum())
    blank = images.weights[(images.bits == 0).all(-1)]
    assert_close(blank, torch.tensor([0.8**4]))


@pytest.mark.parametrize("name", DATASETS)
def test_weights_sum_to_one_and_patterns_are_distinct(name):
    world = dataset(name)
    assert_close(world.weights.sum(), torch.tensor(1.0))
    assert len(encode(world.bits).unique()) == len(world)


@given(st.lists(st.integers(0, 7), min_size=1, max_size=12))
def test_entropy_counts_repeated_patterns_once(numbers):
    p = torch.bincount(torch.tensor(numbers)).double() / len(numbers)
    assert math.isclose(Patterns(states(3)[numbers]).entropy, -torch.xlogy(p, p).sum().item(), abs_tol=1e-12)


@pytest.mark.parametrize(
    "bits, weights, sentence",
    [
        ([[0.0, 0.5]], None, "there is a 0.5: binarise them first"),
        ([[0.0, math.nan]], None, "there is a nan"),
        ([[0.0, math.inf]], None, "there is a inf"),
        ([[0.0, -1.0]], None, "there is a -1"),
        (torch.empty(0, 3), None, "not an array of shape (0, 3)"),
        (torch.empty(3, 0), None, "not an array of shape (3, 0)"),
        ([0.0, 1.0], None, "not an array of shape (2,)"),
        ([[0, 255]], None, "there is a 255: binarise them first"),
        (torch.tensor([[0, 1 + 0j]]), None, "real numbers"),
        (np.array([[0, 1j]]), None, "real numbers"),
        ([["0", "1"]], None, "real numbers"),
        ([[0, 1], [1]], None, "rows of equal length"),
        (pd.DataFrame({"a": [0, None]}), None, "there is a nan"),
        ([[1 + 1e-12]], None, "binarise them first"),
        (None, None, "there is a nan"),
        ([[0.0], [1.0]], "ab", "real numbers"),
        ([[0.0], [1.0]], torch.tensor([1, 1j]), "real numbers"),
        ([[[0.0]]], None, "not an array of shape (1, 1, 1)"),
        ([[0.0], [1.0]], [0.0, 0.0], "not all of them zero"),
        ([[0.0], [1.0]], [1.0, -1.0], "one non-negative number for each pattern"),
        ([[0.0], [1.0]], [1.0, math.nan], "one non-negative number for each pattern"),
        ([[0.0], [1.0]], [1.0, math.inf], "one non-negative number for each pattern"),
        ([[0.0], [1.0]], [1.0], "one non-negative number for each pattern"),
    ],
)
def test_bad_patterns_are_refused(bits, weights, sentence):
    with pytest.raises(ValueError) as error:
        Patterns(bits, weights)
    assert sentence in str(error.value)


@pytest.mark.parametrize(
    "make",
    [
        lambda: well_formed(2),
        lambda: heartbeat(20, 21),
        lambda: heartbeat(20, 0),
        lambda: heartbeat(copies=0),
        lambda: heartbeat(10**9, 10**9),
        lambda: well_formed(40),
        lambda: well_formed("12"),
        lambda: shifts(30),
        lambda: shifts(p="0.2"),
        lambda: bars(side=2.0),
        lambda: bars(17),
        lambda: shifts(p=0.0),
        lambda: shifts(epoch=0),
        lambda: bars(side=0),
        lambda: bars(p=1.0),
        lambda: bars(vertical=1.5),
        lambda: Patterns([[1.0]], epoch=0),
        lambda: Patterns([[1.0]], epoch=2.5),
        lambda: Patterns([[1.0]], epoch=True),
        lambda: Patterns([[1.0]], epoch=10**15),
    ],
)
def test_impossible_data_sets_are_refused(make):
    with pytest.raises(ValueError, match=r"\d"):
        make()


@pytest.mark.parametrize("wrong, near", [("hartbeat", "heartbeat"), ("wellformed", "well-formed"), ("bar", "bars"), ("", "")])
def test_unknown_names_are_met_with_the_nearest(wrong, near):
    with pytest.raises(ValueError, match=f"no data set called '{wrong}': did you mean '{near}"):
        dataset(wrong)


BITS = [[0, 1, 1], [1, 0, 0]]


@pytest.mark.parametrize("kind", [np.bool_, np.int8, np.uint8, np.uint16, np.int64, np.uint64, np.float16, np.float64, object])
def test_patterns_are_made_of_arrays_of_any_type(kind):
    world = Patterns(np.array(BITS, kind), np.array([1, 3], kind if kind is not np.bool_ else int), np.int64(7))
    assert world.bits.tolist() == BITS and world.weights.tolist() == [0.25, 0.75]
    assert world.bits.dtype == torch.get_default_dtype() and world.epoch == 7


@pytest.mark.parametrize("kind", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.float64])
def test_patterns_are_made_of_tensors_of_any_type(kind):
    assert Patterns(torch.tensor(BITS, dtype=kind)).bits.tolist() == BITS


def test_patterns_are_made_of_lists_and_tables():
    table = pd.DataFrame(BITS, columns=list("abc")).astype({"b": bool})
    for bits, weights in ((BITS, [1, 3]), (tuple(map(tuple, BITS)), (1, 3)), (table, pd.Series([1, 3])), (torch.tensor(BITS), [1, 3])):
        world = Patterns(bits, weights)
        assert world.bits.tolist() == BITS and world.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("make", [torch.tensor, np.array])
def test_patterns_are_a_copy(make):
    bits, weights = make(BITS, dtype=(torch if make is torch.tensor else np).float64), make([1.0, 3.0])
    world = Patterns(bits, weights)
    bits[:], weights[:] = 0, 7
    assert world.bits.tolist() == BITS and world.weights.tolist() == [0.25, 0.75]


@pytest.mark.parametrize("name", [None, 3, ["bars"]])
def test_a_name_is_a_name(name):
    with pytest.raises(ValueError, match="there is no data set called"):
        dataset(name)


def test_the_book_has_a_machine_for_every_data_set():
    assert {name: SIZES[name][0] for name in DATASETS} == {name: dataset(name).units for name in DATASETS}
    assert len(digits().bits[0]) == SIZES["digits"][0] and SIZES["mnist"][0] == 28 * 28
