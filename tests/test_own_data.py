"""Tables of one's own: read as they are, in every format, or refused in a sentence with the place of the mistake."""

import io
import re
import shlex
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import tyro
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from helmholtz_mim import DATASETS, Patterns, Source, bars, patterns_of, read_gaps
from helmholtz_mim.cli import commands, main
from helmholtz_mim.data.sources import BUILT_IN, is_file, numbers_of, read_numbers, unseen
from helmholtz_mim.reading import read_array

ROOT = Path(__file__).parent.parent
pytestmark = pytest.mark.usefixtures("single_precision")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


# Round trips


def as_csv(table, path):
    table.to_csv(path, index=False)


def as_csv_without_names(table, path):
    table.to_csv(path, index=False, header=False)


def as_npy(table, path):
    np.save(path, table.to_numpy())


def as_npz(table, path):
    units = table.drop(columns="weight", errors="ignore")
    np.savez(path, x=units.to_numpy(), **({"weight": table["weight"]} if "weight" in table else {}))


FORMATS: dict[str, tuple[str, Callable, bool]] = {  # suffix, writer, whether it has a column of weights
    "csv": (".csv", as_csv, True),
    "csv without names": (".csv", as_csv_without_names, False),
    "npy": (".npy", as_npy, False),
    "npz": (".npz", as_npz, True),
    "parquet": (".parquet", lambda table, path: table.to_parquet(path), True),
}


@st.composite
def worlds(draw):
    """Zeros and ones of some type, and weights if it pleases."""
    rows, units = draw(st.integers(1, 7)), draw(st.integers(1, 6))
    bits = np.array(draw(st.lists(st.lists(st.integers(0, 1), min_size=units, max_size=units), min_size=rows, max_size=rows)))
    numbers = st.floats(0, 1e6) | st.integers(0, 9).map(float)
    weights = draw(st.none() | st.lists(numbers, min_size=rows, max_size=rows).filter(any))
    return bits.astype(draw(st.sampled_from([np.uint8, np.int64, np.float32, np.float64, bool]))), weights


@pytest.mark.parametrize("name", FORMATS)
@settings(max_examples=60, derandomize=True, deadline=None, suppress_health_check=list(HealthCheck))
@given(world=worlds())
@example((np.array([[0, 1]]), None))
@example((np.array([[0], [1]]), [0.1, 0.7]))
def test_what_is_written_is_read(name, world):
    (bits, weights), (suffix, write, weighted) = world, FORMATS[name]
    table = pd.DataFrame(bits, columns=[f"x{k}" for k in range(bits.shape[1])])
    if weighted and weights is not None:
        table["weight"] = weights
    write(table, f"mine{suffix}")
    found, meant = Patterns.read(f"mine{suffix}"), Patterns(bits, weights if weighted else None)
    assert torch.equal(found.bits, meant.bits) and torch.equal(found.weights, meant.weights) and found.epoch == meant.epoch


def test_names_of_columns_are_told_from_patterns():
    for text, rows in {
        "a,b,c\n0,1,0\n": 1,
        "0,1,2\n0,1,0\n": 1,  # as pandas numbers columns
        "0,1\n1,1\n": 2,
        "0,1,0\n1,1,1\n": 2,
        "\ufeff0,1,0\r\n1,1,1\r\n": 2,
        "True,False\nFalse,False\n": 2,
        "TRUE,FALSE\nFALSE,FALSE\n": 2,  # as R writes them
        "true,false\nfalse,0\n": 2,
        "0, 1, 0\n": 1,
        "\n\n1,1\n": 1,
    }.items():
        Path("mine.csv").write_text(text, encoding="utf-8", newline="")
        assert len(Patterns.read("mine.csv")) == rows, text


def test_a_table_comes_in_on_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("a,b\n0,1\n1,1\n"))
    assert patterns_of("-").bits.tolist() == [[0, 1], [1, 1]]


def test_an_array_of_several_is_named():
    np.savez("two.npz", train=np.eye(3), test=np.ones((1, 3)), weight=[1, 2, 1], y=[7, 8, 9])
    assert Patterns.read("two.npz:train").weights.tolist() == [0.25, 0.5, 0.25]
    assert read_array("two.npz:test").shape == (1, 3)


def test_counts_are_an_epoch_and_weights_are_not():
    for name, epoch in {"count": 10, "weight": 2, "weights": 2}.items():
        Path("mine.csv").write_text(f"a,b,{name}\n0,1,3\n1,1,7\n")
        found = Patterns.read("mine.csv")
        assert found.units == 2 and found.epoch == epoch and found.weights.tolist() == [0.3, 0.7]
        assert Patterns.read("mine.csv", epoch=5).epoch == 5
    Path("mine.csv").write_text("a,n,b\n0,3,1\n1,7,1\n")
    found = Patterns.read("mine.csv", weights="n")
    assert found.bits.tolist() == [[0, 1], [1, 1]] and found.weights.tolist() == [0.3, 0.7]


def test_of_two_columns_of_weights_one_has_to_be_named():
    Path("mine.csv").write_text("a,b,count,weight\n0,1,3,1\n1,1,1,0\n")
    for read in (Patterns.read, read_gaps):
        with pytest.raises(ValueError, match=r"mine.csv has columns called weight and count: say which one holds .* \(--weights\)"):
            read("mine.csv")
    patterns = Patterns.read("mine.csv", weights="weight", threshold=0.5)
    assert patterns.units == 3 and patterns.weights.tolist() == [1, 0]


def test_the_same_pattern_twice_counts_twice():
    Path("mine.csv").write_text("0,1\n0,1\n1,1\n")
    assert Patterns.read("mine.csv").entropy == pytest.approx(Patterns([[0, 1], [1, 1]], [2, 1]).entropy)


def test_above_a_threshold_a_unit_is_on():
    np.save("grey.npy", np.array([[0, 128], [127, 255]], np.uint8))
    assert Patterns.read("grey.npy", threshold=127).bits.tolist() == [[0, 1], [0, 1]]
    assert Patterns.read("grey.npy", threshold=126.5).bits.tolist() == [[0, 1], [1, 1]]


# Refusals

WRONG = {  # what a file holds, how it is read, and what is said
    "grey": ("a,b\n0,1\n.5,1\n", {}, "mine.csv has 0.5 in row 2, column 'a': make it zeros and ones, or give a threshold"),
    "minus one": ("0,1\n1,-1\n", {}, "has -1 in row 2, column 2: make it zeros and ones"),
    "infinite": ("0,1\n1,inf\n", {}, "has inf in row 2, column 2: make it zeros and ones"),
    "a gap": ("a,b\n0,1\n1,\n", {}, "has no value in row 2, column 'b': fill it, leave the row out"),
    "a gap in no words": ("0,1\n?,1\n", {}, "has no value in row 2, column 1"),
    "a short row": ("a,b,c\n0,1,1\n1,0\n", {}, "has no value in row 2, column 'c'"),
    "a long row": ("a,b\n0,1\n1,0,1\n", {}, "as many in each row"),
    "long rows": ("a,b\n0,1,1\n1,0,1\n", {}, "as many in each row"),
    "text": ("a,b\n0,1\n1,one\n", {}, "has 'one' in row 2, column 'b': leave out columns that are no numbers"),
    "text without names": ("0,1\n1,one\n", {}, "has 'one' in row 2, column 2: leave out columns"),
    "text in two columns": ("0,1\n1,b\na,1\n", {}, "has 'b' in row 2, column 2"),
    "a word among truths": ("TRUE,1\nmaybe,0\n", {}, "has 'maybe' in row 2, column 1"),
    "text and a gap": ("a,b\n0,\n1,one\n", {}, "has 'one' in row 2, column 'b'"),
    "semicolons": ("a;b\n0;1\n", {}, "no table whose cells are separated by commas"),
    "an index": (",a\n0,1\n1,1\n", {}, "first column of mine.csv has no name: name it, or leave it out"),
    "empty": ("", {}, "mine.csv is empty: give a row for each pattern"),
    "only names": ("a,b\n", {}, "mine.csv is empty"),
    "a negative weight": ("a,weight\n0,1\n1,-2\n", {}, "has -2 in row 2, column 'weight': a weight is a number of at least 0"),
    "no weight": ("a,weight\n0,1\n1,\n", {}, "has no value in row 2, column 'weight': a weight is"),
    "an endless weight": ("a,weight\n0,1\n1,inf\n", {}, "has inf in row 2, column 'weight': a weight is"),
    "weights of zero": ("a,weight\n0,0\n1,0\n", {}, "all weights of mine.csv are zero: give a row a positive one"),
    "half a count": ("a,count\n0,1\n1,1.5\n", {}, "has 1.5 in row 2, column 'count': a count is a whole number"),
    "only weights": ("weight\n1\n1\n", {}, "has no column of units: give it some"),
    "another weight": ("a,b\n0,1\n", {"weights": "c"}, "has no column 'c': name one of its own, which are 'a, b'"),
    "no threshold": ("0,1\n", {"threshold": float("nan")}, "a threshold is a number, not nan: give one"),
    "a useless threshold": ("0,1\n", {"threshold": 127}, "one side of the threshold 127: choose one between 0 and 1"),
    "no part": ("a,part\n0,train\n", {"split": "part", "part": "test"}, "no row of mine.csv belongs to test: say test in 'part'"),
    "an odd part": ("a,part\n0,dev\n", {"split": "part", "part": "test"}, "'dev' in row 1, column 'part': a row belongs to train or"),
    "a wrong part": ("a,part\n0,train\n", {"split": "part", "part": "tset"}, "did you mean 'test'"),
    "parts of nothing": ("0,1\n", {"part": "test"}, "name the column that says train or test (split)"),
    "latin 1": ("ä,b\n0,1\n".encode("latin-1"), {}, "mine.csv is no text in UTF-8: save the table as CSV in UTF-8"),
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_mistake_is_named_by_its_place(name):
    text, options, sentence = WRONG[name]
    Path("mine.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(ValueError) as refused:
        Patterns.read("mine.csv", **options)
    assert sentence in str(refused.value) and "\n" not in str(refused.value)


def test_arrays_that_are_no_table_are_refused():
    np.save("flat.npy", np.ones(3))
    np.save("images.npy", np.ones((2, 3, 3)))
    np.save("none.npy", np.ones((0, 3)))
    np.save("objects.npy", np.array([[1, None]], object))
    np.save("complex.npy", np.array([[1j, 0]]))
    np.savez("two.npz", a=np.eye(2), b=np.eye(2))
    np.savez("short.npz", a=np.eye(3), weight=[1, 2])
    np.savez("flat.npz", a=np.ones(3))
    Path("text.npy").write_text("something else")
    Path("text.npz").write_text("something else")
    Path("whole.npy").write_bytes(Path("images.npy").read_bytes()[:-9])
    for path, sentence in {
        "flat.npy": r"array of shape \(3,\), and data are a table.*reshape it",
        "images.npy": r"array of shape \(2, 3, 3\).*reshape it, array.reshape\(len\(array\), -1\)",
        "none.npy": "is empty: give a row",
        "objects.npy": "Python objects, which could run anything: write an array of numbers",
        "complex.npy": "in row 1, column 1: leave out columns",
        "two.npz": "holds 2 tables among its arrays .*: name one, as in two.npz:name",
        "flat.npz": "holds 0 tables",
        "two.npz:c": "no array in two.npz called 'c': did you mean",
        "short.npz": r"'weight' in short.npz has the shape \(2,\): give one number for each of 3 rows",
        "text.npy": "holds no whole array",
        "text.npz": "holds no whole array",
        "whole.npy": "holds no whole array",
        "absent.csv": "there is no file absent.csv: name one",
        "mine.xls": r"from .csv, .npy, .npz, .parquet, or as CSV from - \(standard input\), not from 'mine.xls'",
    }.items():
        with pytest.raises(ValueError, match=sentence):
            Patterns.read(path)


def test_parquet_without_pyarrow_names_what_to_install(monkeypatch):
    Path("mine.parquet").touch()
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setitem(sys.modules, "fastparquet", None)
    with pytest.raises(ImportError, match=re.escape("pip install 'helmholtz_mim[parquet]'")) as refused:
        Patterns.read("mine.parquet")
    assert refused.value.name is None, "the command line prints it as a sentence"


def test_a_damaged_parquet_file_is_refused():
    Path("mine.parquet").write_text("something else")
    with pytest.raises(ValueError, match=r"mine\.parquet is not a whole Parquet file"):
        Patterns.read("mine.parquet")


def test_a_list_of_a_column_is_no_matter_for_numbers():
    table = pd.DataFrame({"a": [True, None], "b": [1, 0], "c": ["1", "0"]}).astype({"a": object})
    assert np.array_equal(numbers_of(table, "it"), [[1, 1, 1], [np.nan, 0, 0]], equal_nan=True)


# Gaps


def test_gaps_are_kept_apart_from_zeros():
    Path("mine.csv").write_text("a,b,c,d,e,count\n1,,?,-1,nan,2\n0,0,1,1,1,3\n")
    gaps = read_gaps("mine.csv")
    assert gaps.columns == list("abcde") and gaps.table["count"].tolist() == [2, 3]
    assert gaps.known.tolist() == [[True, False, False, False, False], [True] * 5]
    assert gaps.bits.tolist() == [[1, 0, 0, 0, 0], [0, 0, 1, 1, 1]]
    Path("mine.csv").write_text("0.2,0.9\n,0.4\n")
    assert read_gaps("mine.csv", threshold=0.5).bits.tolist() == [[0, 1], [0, 0]]
    with pytest.raises(ValueError, match=r"has 0\.2 in row 1"):
        read_gaps("mine.csv")


# By name, and in parts


def test_every_built_in_set_has_its_name(monkeypatch):
    asked = []
    monkeypatch.setattr("helmholtz_mim.data.images.grey_mnist", lambda split, **_: (asked.append(split), torch.rand(2, 784))[::-1])
    for name in {*DATASETS, "digits", "mnist", "mnist-test", "mnist-dynamic", "mnist-dynamic-test"}:
        assert patterns_of(name).units in (12, 16, 20, 64, 784), name
    assert sorted(asked) == ["test", "test", "train", "train"]
    assert not any(map(is_file, BUILT_IN)) and all(unseen(name) in BUILT_IN for name in BUILT_IN)
    assert [unseen(name) for name in ("mnist-static", "folk-4-4", "bars")] == ["mnist-static-test", "folk-4-4-test", "bars"]
    with pytest.raises(ValueError, match="did you mean 'bars'"):
        patterns_of("bras")
    with pytest.raises(ValueError, match="threshold can be said of a file, and 'bars' is a data set that needs none"):
        patterns_of("bars", threshold=0.5)


def test_a_source_divides_by_share_by_column_or_by_name():
    Path("mine.csv").write_text("a,b,part\n0,1,train\n1,1,test\n0,0,train\n")
    by_column = Source("mine.csv", split="part")
    assert by_column.patterns().bits.tolist() == [[0, 1], [0, 0]] and by_column.held_out().bits.tolist() == [[1, 1]]
    assert len(by_column.everything()) == len(by_column.gaps().bits) == 3
    one, other = (Source("bars", split=0.8, split_seed=seed) for seed in (0, 1))
    assert len(one.patterns()) == 24 and len(one.held_out()) == 6 and len(one.everything()) == 30
    assert not torch.equal(one.held_out().bits, other.held_out().bits)
    assert torch.equal(one.held_out().bits, Source("bars", split=0.8).held_out().bits)
    assert Source("folk-3-4").held_out().entropy == patterns_of("folk-3-4-test").entropy
    assert (source := Source("bars")).held_out() is source.patterns()


def test_standard_input_is_read_once(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.StringIO("0,1\n1,1\n0,0\n"))
    source = Source("-", split=0.67)
    assert len(source.patterns()) == 2 and len(source.held_out()) == 1
    with pytest.raises(ValueError, match="standard input is read once: split it by a share, or save it"):
        Source("-", split="part").patterns()


@settings(max_examples=60, derandomize=True, deadline=None)
@given(rows=st.integers(2, 40), kinds=st.integers(1, 5), share=st.floats(0, 1), distinct=st.booleans(), seed=st.integers(0, 9))
def test_a_split_loses_nothing_and_shares_out(rows, kinds, share, distinct, seed):
    bits = torch.arange(rows)[:, None] % kinds == torch.arange(kinds)
    patterns = Patterns(bits, torch.arange(1, rows + 1), epoch=100)
    things = len(patterns.bits.unique(dim=0)) if distinct else rows
    if not 0.5 < share * things < things - 0.5:
        with pytest.raises(ValueError, match=r"a split takes a share between 0 and 1 that leaves some of the \d+ (rows|distinct)"):
            patterns.split(share, distinct=distinct, generator=chance(seed))
        return
    one, other = patterns.split(share, distinct=distinct, generator=chance(seed))
    assert len(one) + len(other) == rows and abs(one.epoch + other.epoch - 100) <= 1
    both = torch.cat([one.bits, other.bits])
    assert torch.equal(both.sum(0), patterns.bits.sum(0))
    if distinct:
        apart = [{*map(tuple, part.bits.tolist())} for part in (one, other)]
        assert not apart[0] & apart[1] and len(apart[0]) == round(share * things)
    else:
        assert len(one) == round(share * rows)
    mass = one.weights.sum().item() + other.weights.sum().item()
    assert mass == pytest.approx(2), "each part is a distribution"


def test_a_split_draws_from_a_generator_that_is_given():
    with pytest.raises(ValueError, match="chance comes from a generator"):
        bars().split(0.5, generator=0)


def test_numbers_of_any_shape_are_read_for_codes():
    np.save("codes.npy", np.arange(6))
    assert read_numbers("codes.npy").tolist() == [0, 1, 2, 3, 4, 5]
    Path("codes.csv").write_text("code\n3\n1\n")
    assert read_numbers("codes.csv").tolist() == [3, 1] and read_numbers("codes.csv").dtype == np.int64
    Path("codes.csv").write_text("0.5,1\n0.25,0\n")
    assert read_numbers(Path("codes.csv")).tolist() == [[0.5, 1], [0.25, 0]]
    Path("codes.csv").write_text("0.5,1\n,0\n")
    with pytest.raises(ValueError, match="has no value in row 2, column 1"):
        read_numbers("codes.csv")


# The README


def section(title):
    """A section of the README."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    return re.search(rf"^## {title}\n(.*?)^## ", text, re.M | re.S)[1]


def mine():
    """A table of sixteen columns, which is also in `mine.csv`."""
    world = bars()
    which = torch.multinomial(world.weights, 1000, replacement=True, generator=chance())
    table = pd.DataFrame(world.bits[which].int().numpy(), columns=[f"pixel {k}" for k in range(16)])
    table.to_csv("mine.csv", index=False)
    return table


def test_the_lines_on_many_machines_are_understood(folder, capsys):
    """The sweep, made small, to its table; of the machine over several processes all but the training."""
    mine()
    sweep, spread = (shlex.split(found) for found in re.findall(r"```sh\n(.*?)```", section("Many runs, many machines"), re.S))
    small = {"--epochs": "1", "--repeats": "1", "--jobs": "1"}
    main([small.get(before, word) for before, word in zip(sweep, sweep[1:], strict=False)])
    assert {(row.scheme, row.lr) for row in pd.read_csv("first/table.csv").itertuples()} == {
        (scheme, lr) for scheme in ("wake-sleep", "mim") for lr in (0.1, 0.03)
    }
    line = spread[spread.index("helmholtz_mim") + 1 :]
    assert spread[:2] == ["torchrun", "--nproc-per-node"] and line[0] == "train"
    assert tyro.cli(commands(line), args=line).machine.sizes == (784, 4096, 4096)


def test_the_lines_of_the_readme_run_as_they_stand(folder, capsys):
    """On a small table of sixteen columns; the commands, then the same from Python."""
    commands, python = (re.search(rf"```{kind}\n(.*?)```", section("Your own data"), re.S)[1] for kind in ("sh", "python"))
    assert len(commands.splitlines()) <= 8 and len(python.splitlines()) <= 10
    table = mine()
    gaps = table[:9].astype(object)
    gaps.iloc[:, 8:] = ""
    gaps.iloc[0, 3] = "?"
    gaps.to_csv("gaps.csv", index=False)
    for line in commands.splitlines():
        program, *words = shlex.split(line)
        assert program == "helmholtz-mim"
        main(words)
    said = capsys.readouterr().out
    assert "exact, in nats; 4 seeds" in said and "73 gaps in 9 of 9 rows" in said and "has not collapsed" in said
    completed = pd.read_csv("completed.csv")
    assert [*completed] == [*table] and completed.isin([0, 1]).all(axis=None)
    assert (completed.iloc[1:, :8] == table.iloc[1:9, :8]).all(axis=None)
    assert len(pd.read_csv("codes.csv")) == 1000 and Path("dreams.png").stat().st_size and Path("codes.png").stat().st_size
    names: dict = {}
    exec(python, names)
    assert names["seen"].units == 16 and len(names["unseen"]) == 200
    assert "collapsed" in capsys.readouterr().out
