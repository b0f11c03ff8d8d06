"""Bars of real tunes: what is in the file, what the baselines and the machines say of other tunes."""

import csv
import math
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

import helmholtz_mim
from helmholtz_mim import HelmholtzMachine, Patterns, dataset, encode, exact_log_likelihood, folk_rhythms, states
from helmholtz_mim.cli import main
from helmholtz_mim.data.sources import patterns_of, unseen
from helmholtz_mim.data.rhythms import GRIDS
from helmholtz_mim.data.worlds import FOLK, SIZES
from helmholtz_mim.experiments.comparison import PATTERNS
from helmholtz_mim.experiments.folk import counted, folk_runs, folk_store, independent, left_out, rehearse, smoothed, surprises

FILE = Path(helmholtz_mim.__file__).parent / "data/folk_rhythms.csv"
each_meter = pytest.mark.parametrize("meter", GRIDS)
each_split = pytest.mark.parametrize("split", ["train", "test"])


def rows(meter):
    """The lines of a meter, read without the package: onsets, and how often in training and in the test."""
    with FILE.open() as file:
        return [(row[1], {"train": int(row[2]), "test": int(row[3])}) for row in csv.reader(file) if row[0] == meter]


# The file


@each_meter
@each_split
def test_counts_and_entropies_are_those_of_the_file(meter, split):
    counts = {onsets: n[split] for onsets, n in rows(meter) if n[split] and len(onsets) == GRIDS[meter]}
    bars, total = folk_rhythms(meter, split), sum(counts.values())
    assert bars.epoch == total and bars.units == GRIDS[meter]
    found = dict(zip(("".join(map(str, bar)) for bar in bars.bits.int().tolist()), bars.weights.tolist(), strict=True))
    assert found.keys() == counts.keys() and all(math.isclose(found[bar], n / total) for bar, n in counts.items())
    assert math.isclose(bars.entropy, -sum(n / total * math.log(n / total) for n in counts.values()))
    assert bars.weights.tolist() == sorted(bars.weights.tolist(), reverse=True)


def test_the_file_is_what_was_counted():
    with FILE.open() as file:
        lines = list(csv.reader(file))
    assert lines[0] == ["meter", "onsets", "train", "test"] and {line[0] for line in lines[1:]} == set(GRIDS)
    assert len({(meter, onsets) for meter, onsets, *_ in lines}) == len(lines)
    left = [line for line in lines[1:] if len(line[1]) != GRIDS[line[0]]]
    assert len(left) == 3 and sum(int(n) for line in left for n in line[2:]) == 35
    assert len(folk_rhythms()) == 385 and folk_rhythms().epoch == 11913 and round(folk_rhythms().entropy, 2) == 2.96


@pytest.mark.parametrize(
    "arguments, sentence",
    [
        (("4/5",), "there is no meter of the folk rhythms called '4/5': did you mean '4/4'? (known: 4/4, 6/8, 3/4, 2 x 4/4"),
        (("2x6/8",), "did you mean '2 x 6/8'?"),
        ((None,), "there is no meter of the folk rhythms called None"),
        (("6/8", "tset"), "there is no split of the folk rhythms called 'tset': did you mean 'test'? (known: train, test)"),
        (("6/8", 1), "there is no split of the folk rhythms called 1"),
    ],
)
def test_other_meters_and_splits_are_refused(arguments, sentence):
    with pytest.raises(ValueError) as error:
        folk_rhythms(*arguments)
    assert sentence in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", FOLK)
def test_names_mean_these_bars_wherever_a_data_set_is_named(name):
    for end, split in (("", "train"), ("-test", "test")):
        bars = folk_rhythms(FOLK[name], split)
        for made in (dataset(name + end), patterns_of(name + end)):
            assert torch.equal(made.bits, bars.bits) and torch.equal(made.weights, bars.weights) and made.epoch == bars.epoch
        assert SIZES[name + end] == (bars.units, 10, 8, 6, 3)
    assert unseen(name) == f"{name}-test" and unseen(f"{name}-test") == f"{name}-test"
    assert unseen("bars") == "bars" and unseen("mnist") == "mnist-test"


@pytest.mark.filterwarnings("ignore:the log-likelihood still climbs")
def test_a_machine_is_trained_and_evaluated_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "200")
    main("train --data folk-3-4 --epochs 1 --seeds 2 --measure losses --out waltz".split())
    main("evaluate waltz/machine.safetensors --particles 10".split())
    last = capsys.readouterr().out.rstrip().splitlines()[-1].replace("−", "-").split()
    assert -9 < float(last[2]) < -3, last


# What machines and tables say


@pytest.mark.parametrize("sizes", [(16, 10, 8, 6, 3), (16, 10)])
def test_exact_likelihoods_of_all_bars_sum_to_one(sizes):
    machine = HelmholtzMachine(sizes, bias=True, replicas=(2,)).double()
    machine.randomise_(2.0, generator=torch.Generator().manual_seed(0))
    assert_close(exact_log_likelihood(machine, states(16)).exp().sum(-1), torch.ones(2).double())


@each_meter
def test_tables_are_distributions(meter):
    train = folk_rhythms(meter)
    for p in (independent(train), smoothed(train)):
        assert len(p) == 2**train.units and (p > 0).all() and math.isclose(p.sum().item(), 1)
    assert counted(train).sum() == train.epoch
    assert_close(counted(train)[encode(train.bits)], train.weights * train.epoch)


SOME = ["101", "101", "101", "111", "111", "100", "001", "101"]


def some():
    """A few bars of three places."""
    counts = Counter(SOME)
    return Patterns([[*map(int, bar)] for bar in counts], [*counts.values()], len(SOME))


def test_independent_places_multiply():
    on = [(sum(bar[j] == "1" for bar in SOME) + 0.5) / (len(SOME) + 1) for j in range(3)]
    wanted = [math.prod(p if (state >> 2 - j) & 1 else 1 - p for j, p in enumerate(on)) for state in range(8)]
    assert_close(independent(some()), torch.tensor(wanted).double())


@pytest.mark.parametrize("extra", [0.5, 3.0])
def test_each_bar_is_foretold_from_all_the_others(extra):
    others = torch.linspace(1, 2, 8).double() / 12
    logs = []
    for i, bar in enumerate(SOME):
        rest = SOME[:i] + SOME[i + 1 :]
        logs.append(math.log((rest.count(bar) + extra * others[int(bar, 2)].item()) / (len(rest) + extra)))
    assert math.isclose(left_out(counted(some()), extra, others), sum(logs) / len(logs))


def test_the_table_is_as_smooth_as_the_training_bars_want_it():
    """Of all numbers and spreads of extra bars, those that foretell each bar best from the rest of the training."""
    bars = folk_rhythms("3/4")
    count, alone, found = counted(bars), independent(bars), smoothed(bars)
    tried = {}
    for share in range(21):
        others = share / 20 * alone + (1 - share / 20) / 2**12
        for power in range(81):
            extra = 10 ** (power / 20)
            tried[left_out(count, extra, others)] = (count + extra * others) / (bars.epoch + extra)
    assert_close(found, tried[max(tried)], rtol=1e-5, atol=0)
    assert min(tried) < max(tried) - 0.05


def test_a_machine_that_knows_nothing_is_surprised_by_every_bar_alike():
    found = surprises(HelmholtzMachine((12, 3, 2), replicas=(2,)), "folk-6-8")
    table = found[found.direction == "generative"].groupby("measure").value.agg(["min", "max"])
    for name in ("train", "test", "new"):
        assert all(math.isclose(value, 12 * math.log(2), rel_tol=1e-6) for value in table.loc[name])
    test = folk_rhythms("6/8", "test")
    p = smoothed(folk_rhythms("6/8"))[encode(test.bits)]
    assert_close(table.loc["half", "max"], -(test.weights @ (p / 2 + 2.0**-13).log()).item(), rtol=1e-6, atol=0)
    repeated = p.log().repeat_interleave((test.weights * test.epoch).round().int())
    assert_close(table.loc["error", "max"], (repeated.std(correction=0) / len(repeated) ** 0.5).item(), rtol=1e-5, atol=0)
    assert {"I", "top", "off-support"} <= set(found.measure)


def test_new_bars_are_those_that_training_never_showed():
    machine = HelmholtzMachine((12, 4, 2)).double().randomise_(1.0, generator=torch.Generator().manual_seed(1))
    new = {bar: n["test"] for bar, n in rows("3/4") if n["test"] and not n["train"]}
    log_p = exact_log_likelihood(machine, torch.tensor([[*map(int, bar)] for bar in new]))
    wanted = -(log_p @ torch.tensor([*new.values()]).double()).item() / sum(new.values())
    found = surprises(machine, "folk-3-4")
    assert math.isclose(found[found.measure == "new"].value.item(), wanted)
    assert len(new) == 11 and len(found[found.measure == "I"]) == 2


def test_every_meter_is_shown_as_many_bars_as_the_rivals_were_rhythms():
    runs = folk_runs(seeds=3)
    assert len(runs) == len({(run.data, run.name) for run in runs.values()}) == 6 * (2 * 5 + 3)
    for (data, kind, rate), run in runs.items():
        assert run.data == data and run.schedule == rate and run.seeds == 3 and run.span == run.epochs
        assert abs(run.epochs * dataset(data).epoch / (600 * PATTERNS) - 1) < 0.02
        assert (run.scheme == "mim") == kind.startswith("MIM") and run.bias == kind.endswith("biases")


def test_a_run_leaves_what_was_measured(tmp_path):
    run, store = replace(folk_runs(2)["folk-2x3-4", "one wide layer", "linear"], epochs=1, span=1), folk_store(tmp_path)
    rehearse(run, store)
    table = store.table([run])
    assert len(table) == 2 and table["test.generative.0"].between(4.5, 12 * math.log(2)).all()
    narrow = replace(run, hidden=None)
    rehearse(narrow, store)
    machine_says = store.table([narrow])
    assert "I.recognition.3" in machine_says and "off-support.generative.0" in machine_says
