"""A store of runs: what is equal is found again, what differs in anything is not, and what is damaged is refused."""

from collections import OrderedDict
from dataclasses import dataclass, fields, replace
from enum import Enum
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from helmholtz_mim import FactorialMIM, Flip, exact_report, store
from helmholtz_mim.experiments.comparison import Run
from helmholtz_mim.experiments.rivals import small_files, small_results
from helmholtz_mim.rules.factorial import leave_one_out, self_consistent
from helmholtz_mim.experiments.drift import drift_runs, drift_store
from helmholtz_mim.experiments.folk import folk_runs, folk_store
from helmholtz_mim.experiments.online import OnlineRun, deep_runs as deep_online, online_runs
from helmholtz_mim.experiments.pyramid import EDGES, PyramidRun, mnist_store, pyramid_runs
from helmholtz_mim.experiments.static import FURTHER, HALVES, QUALITY, SWITCHES, StaticRun, deep_runs, long_runs, rate_runs
from helmholtz_mim.experiments.static import search_runs, shallow_runs, shape_runs, static_store
from helmholtz_mim.store import Store, Summary, describe, digest
from helmholtz_mim.sweeps import sweep

TABLE = pd.DataFrame({"a": [1, 2, 3], "b": [0.5, float("nan"), -1e-7], "c": ["x", "y, z", '"']})


@pytest.fixture
def kept(tmp_path):
    """A run, and a store that has its table."""
    place, run = Store(tmp_path, "the test"), Run(seed=3)
    place.write(run, TABLE)
    return place, run


def test_a_table_comes_back(kept):
    place, run = kept
    assert place.done(run) and place.read(run).equals(TABLE)
    assert pd.read_csv(place.path(run), comment="#").equals(TABLE), "and anybody else can read it"


def test_a_table_is_kept_once_and_the_same_each_time(kept):
    place, run = kept
    before = place.path(run).read_bytes()
    place.write(Run(seed=3), TABLE)
    assert list(place.folder.iterdir()) == [place.path(run)] and place.path(run).read_bytes() == before


def other(value):
    """Another value of the same kind."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, str):
        return value + "x"
    return (7, 8) if isinstance(value, tuple) else (value or 0) + 1


@pytest.mark.parametrize("run", [Run(), OnlineRun(), PyramidRun(), StaticRun()], ids=lambda run: type(run).__name__)
def test_every_field_is_part_of_the_key(run, tmp_path):
    place = Store(tmp_path, "the test")
    others = {f.name: other(getattr(run, f.name)) for f in fields(run) if f.name != "start"}
    others |= {"hidden": (7, 8)} if "hidden" in others else {}
    changed = [replace(run, **{name: value}) for name, value in others.items()]
    assert len({place.path(each) for each in (run, *changed)}) == len(changed) + 1
    assert place.path(run) == place.path(replace(run)) and place.path(run).name.startswith(run.name)


def test_measure_edition_and_class_are_part_of_the_key(tmp_path, monkeypatch):
    paths = {Store(tmp_path, "", measure).path(Run()) for measure in (None, exact_report, partial(exact_report, largest=30))}
    paths |= {Store(tmp_path, "").path(Summary("x", runs)) for runs in ((), (Run(),), (Run(seed=1),))}
    monkeypatch.setattr(store, "EDITION", store.EDITION + 1)
    assert len(paths | {Store(tmp_path, "").path(Run())}) == 7


def test_a_start_is_known_by_its_content(tmp_path):
    place = Store(tmp_path, "the test")
    for name, content in (("one", b"1"), ("same", b"1"), ("two", b"2")):
        (tmp_path / name).write_bytes(content)
    one, same, two, none = (place.path(Run(start=tmp_path / name)) for name in ("one", "same", "two", "none"))
    assert one == same and len({one, two, none, place.path(Run())}) == 4


@pytest.mark.parametrize("kind", ["csv", "csv.gz"])
def test_no_change_of_a_file_is_believed(kind, tmp_path):
    """A bit of every byte flipped, every length cut: refused with name and remedy, or (in the header of gzip) of no consequence."""
    place, run = Store(tmp_path, "the test"), Summary("x")
    place.write(run, TABLE, kind)
    path, refused = place.path(run, kind), 0
    whole = path.read_bytes()
    changes = [whole[:n] for n in range(len(whole))] + [whole + b"x", whole + whole]
    changes += [whole[:at] + bytes([byte ^ 1 << at % 8]) + whole[at + 1 :] for at, byte in enumerate(whole)]
    for change in changes:
        path.write_bytes(change)
        try:
            assert place.read(run, kind).equals(TABLE)
        except ValueError as error:
            assert str(error) == f"{path} is damaged, or was not made by this run: remove it, and the test makes it again"
            refused += 1
    assert refused == len(changes) if kind == "csv" else refused > 0.9 * len(changes)


def test_the_record_must_fit(kept):
    """A table of one run under the name of another, whole as it is, and one whose record was edited."""
    place, run = kept
    place.path(run).rename(place.path(Run()))
    with pytest.raises(ValueError, match="not made by this run"):
        place.done(Run())
    place.path(Run()).write_text(place.path(Run()).read_text().replace('"run.lr": 0.1', '"run.lr": 0.2'))
    with pytest.raises(ValueError, match="not made by this run"):
        place.read(Run())


def test_tensors_are_kept_with_their_record(tmp_path):
    place = Store(tmp_path, "the test")
    place.keep(Run(), {"x": torch.arange(3)}, "bits")
    assert torch.equal(place.kept(Run(), "bits")["x"], torch.arange(3))
    place.path(Run(), "bits").rename(place.path(Run(seed=1), "bits"))
    with pytest.raises(ValueError, match="was not made by this run: remove it, and the test makes it again"):
        place.kept(Run(seed=1), "bits")
    path = place.path(Run(seed=1), "bits")
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ValueError, match=rf"^{path} .*: remove it, and the test makes it again$"):
        place.kept(Run(seed=1), "bits")


def test_what_is_missing_names_who_makes_it(tmp_path):
    place = Store(tmp_path, "the test")
    for missing in (lambda: place.read(Run()), lambda: place.kept(Run(), "bits"), lambda: place.finished([Run()])):
        with pytest.raises(FileNotFoundError, match=f"1 of 1 runs are missing in {tmp_path}: the test makes them"):
            missing()


# Many runs


def leave(run, place):
    """A table of one number, and a word beside it."""
    place.write(run, pd.DataFrame({"x": [run.seed]}))
    place.write(run, pd.DataFrame({"word": ["done"]}), "word.csv")


def test_what_is_missing_is_performed_once(tmp_path):
    place, performed = Store(tmp_path, "the test", kind="csv.gz"), []

    def perform(run, place):
        performed.append(run.seed)
        leave(run, place)

    runs = [Run(seed=2), Run(seed=1), Run(seed=2)]
    table = sweep(place, runs, perform, "word.csv")
    assert table.x.tolist() == [2, 1, 2] and performed == [2, 1]
    assert place.table(runs[:2], "word.csv").word.tolist() == ["done", "done"]
    place.path(runs[0], "word.csv").unlink()
    assert sweep(place, runs, perform, "word.csv").equals(table) and performed == [2, 1, 2]
    sweep(place, runs, perform, resume=False)
    assert performed == [2, 1, 2, 2, 1]


def test_settings_are_columns_where_the_table_has_none_of_that_name(tmp_path):
    place, run = Store(tmp_path, "the test"), StaticRun("mim", (20, 10), seed=5)
    place.write(run, pd.DataFrame({"particles": [1, 10]}))
    table = place.table([run])
    assert table.particles.tolist() == [1, 10] and (table.hidden == "20-10").all() and (table.seed == 5).all()
    assert "fraction" not in table, "nothing is said of what is left out"


RESULTS = Path(__file__).parent.parent / "results"
KINDS = ("csv", "csv.gz", "quality.csv", "codes.csv", "history.csv", "dreams.safetensors", "safetensors")


def test_every_stored_result_is_found_and_no_other_is_there():
    """A key that changed, by a field, a class or a measure that was renamed, would lose hours of work."""
    static = RESULTS / "static"
    stores = list(small_results(RESULTS).values())
    digits = [*online_runs(), *deep_online(), *pyramid_runs(), EDGES]
    stores += [(mnist_store(RESULTS / "mnist", "quality.csv"), digits)]
    stores += [(drift_store(RESULTS / "drift"), drift_runs()), (folk_store(RESULTS / "folk"), [*folk_runs().values()])]
    stores += [(static_store(static), [*deep_runs(), *shallow_runs(), *long_runs(), *SWITCHES, FURTHER, QUALITY, HALVES])]
    stores += [(static_store(static / "search"), [*search_runs(), *shape_runs(), *rate_runs()])]
    for place, runs in stores:
        assert place.finished(runs)
    found = {place.path(run, kind) for place, runs in stores for run in runs for kind in KINDS}
    found |= {RESULTS / "codes" / "coverage.csv", RESULTS / "cuts" / "steps.csv"}  # which benchmarks/codes.py and cuts.py write
    assert {path for path in RESULTS.rglob("*") if path.is_file()} <= found


def test_what_make_results_makes_is_what_is_stored_of_the_small_worlds():
    folders = [RESULTS / name for name in small_results(RESULTS)]
    assert small_files(RESULTS) == {path.absolute() for folder in folders for path in folder.iterdir()}
    others = {path.name for path in RESULTS.iterdir()} - {folder.name for folder in folders}
    assert others == {"codes", "cuts", "drift", "folk", "mnist", "static"}, "what takes longer, and is made by commands of its own"


# Things in words


class Colour(Enum):
    RED = 1


class Loop:
    def __init__(self):
        self.itself, self.pair = self, [self]


class Slotted:
    __slots__ = ("x",)

    def __init__(self, x):
        self.x = x


@dataclass
class Nested:
    inside: object


def words(thing):
    return describe(thing, "it")


def table(**columns):
    return pd.DataFrame(columns)


PAIRS = {
    "numbers": (1, 1.0),
    "truth": (1, True),
    "words": ("None", None),
    "zero": (0.0, -0.0),
    "lists": ([1, [2]], [1, [3]]),
    "objects in lists": ([FactorialMIM()], [FactorialMIM(epsilon=0.1)]),
    "sets": ({1, 2}, {1, 3}),
    "keys": ({"a": 1}, {"b": 1}),
    "keys with dots": ({"a": {"b": 1}}, {"a": "dictionary", "a.b": 1}),
    "keys of other kinds": ({1: 2}, {"1": 2}),
    "values": ({"a": 1}, {"a": 2}),
    "bytes": (b"a", b"b"),
    "tensors": (torch.zeros(2), torch.ones(2)),
    "types of tensors": (torch.zeros(2), torch.zeros(2, dtype=torch.int64)),
    "shapes": (torch.zeros(2, 3), torch.zeros(3, 2)),
    "arrays": (np.zeros(2), np.ones(2)),
    "arrays of objects": (np.array(["a", None]), np.array(["b", None])),
    "tables": (table(a=[1, 2]), table(a=[1, 3])),
    "columns": (table(a=[1, 2]), table(b=[1, 2])),
    "rows": (pd.Series([1, 2]), pd.Series([1, 2], index=[1, 2])),
    "functions": (leave_one_out, self_consistent),
    "arguments": (partial(exact_report, largest=20), partial(exact_report, largest=21)),
    "arguments by place": (partial(max, 1), partial(max, 2)),
    "a function and a part of one": (exact_report, partial(exact_report)),
    "an argument called of": (partial(dict, of=1), partial(dict, of=2)),
    "settings": (FactorialMIM(), FactorialMIM(threshold=leave_one_out)),
    "settings that are functions": (FactorialMIM(threshold=leave_one_out), FactorialMIM(threshold=self_consistent)),
    "dataclasses": (Flip(0.1), Flip(0.2)),
    "classes": (Flip, FactorialMIM),
    "deep": (Nested(Nested([Flip(0.1)])), Nested(Nested([Flip(0.2)]))),
    "methods": (FactorialMIM().observe, FactorialMIM(epsilon=0.1).observe),
    "seeds": (torch.Generator().manual_seed(0), torch.Generator().manual_seed(1)),
    "slots": (Slotted(1), Slotted(2)),
    "precisions": (torch.float32, torch.float64),
}


@pytest.mark.parametrize("what", PAIRS)
def test_different_things_have_different_words(what):
    one, two = (store.in_words(words(thing)) for thing in PAIRS[what])
    assert one != two


def test_equal_things_have_equal_words():
    assert words({3, 1, 2, "b", "a"}) == words({"a", "b", 2, 1, 3})
    assert words({"a": 1, "b": 2}) == words(dict(b=2, a=1)) and words((1, 2)) == words([1, 2])
    assert words(np.int64(3)) == words(3) and words(Colour.RED) == words(Colour(1))
    assert words(torch.arange(6).reshape(2, 3).mT) == words(torch.arange(6).reshape(2, 3).mT.contiguous())
    used = torch.Generator().manual_seed(5)
    torch.rand(3, generator=used)
    assert words(used) == words(torch.Generator().manual_seed(5)), "where it stands is not what it is"
    assert words(Loop()) == words(Loop()) and "again" in str(words(Loop()))
    for thing in (torch.sigmoid, np.exp, len, OrderedDict, Path):
        assert words(thing) == words(thing) and " at 0x" not in str(words(thing))


def closure():
    def inside():
        return 0

    return inside


class Hidden:
    def __init__(self):
        self.rule = [closure()]


NAMELESS = {
    "a lambda": lambda: 0,
    "a closure": closure(),
    "inside of a part": partial(lambda x: x, 1),
    "inside of an object": Hidden(),
    "another generator": np.random.default_rng(0),
    "an object without content": object(),
    "an iterator": iter([1]),
}


@pytest.mark.parametrize("what", NAMELESS)
def test_what_has_no_name_is_refused(what):
    with pytest.raises(ValueError, match=r"^it.* cannot be told from others, since .*at the top of a module.*functools.partial$"):
        words(NAMELESS[what])


def test_digests_see_values_types_and_shapes():
    assert digest(torch.zeros(2)) == digest(torch.zeros(2))
    kinds = (torch.zeros(2), torch.zeros(1, 2), torch.zeros(2).float(), torch.ones(2), torch.tensor(0.0))
    assert len({digest(kind) for kind in kinds}) == 5
