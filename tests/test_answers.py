"""A saved machine answers in files: rows in, rows out, for every data set and for files of one's own."""

import math
from itertools import pairwise
from pathlib import Path

import matplotlib
import numpy as np
import pandas as pd
import pytest
import torch
from test_command_line import refusal

from helmholtz_mim import HelmholtzMachine, Patterns, bars, digits, exact_completion, exact_report, load, sampled_report, save, states
from helmholtz_mim.cli import main
from helmholtz_mim.commands.answers import Asked, Evaluate, trained_on
from helmholtz_mim.commands.inference import Complete, Encode, Reconstruct, Sample, check_sheet, one_of, place, with_names, write_rows
from helmholtz_mim.data.sources import Source
from helmholtz_mim.measures.likelihood import ladder
from helmholtz_mim.tables import Estimate

pytestmark = pytest.mark.usefixtures("single_precision")


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder with two machines: one of four units that knows where it comes from, and wide ones that do not."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "1000")
    matplotlib.use("Agg")
    table = pd.DataFrame(states(4).int().numpy(), columns=list("abcd")).assign(part=["train", "test"] * 8)
    table.to_csv("mine.csv", index=False)
    machine = HelmholtzMachine((4, 3, 2), bias=True, replicas=(2,)).randomise_(1.0, generator=chance())
    save(machine, "small", data="mine.csv", split="part", seed=3)
    save(HelmholtzMachine((64, 8), replicas=(2,)).randomise_(0.1, generator=chance()), "wide")
    save(machine, "piped", data="-")
    return tmp_path


def chance(seed=0):
    return torch.Generator().manual_seed(seed)


def run(line):
    main(line.split())


def said(capsys, line):
    capsys.readouterr()
    run(line)
    return capsys.readouterr().out


# What it is asked about


def test_a_machine_remembers_its_data_and_how_they_were_divided():
    assert trained_on(Path("small")) == Source("mine.csv", split="part")
    assert Asked(Path("small"), "bars").source() == Source("bars")
    assert Asked(Path("small"), threshold=0.5).source() == Source("mine.csv", 0.5, split="part")


def test_evaluation_is_of_what_was_held_out_or_of_what_is_named(capsys, monkeypatch):
    seen = []

    def look(machine, patterns, counts, generator):
        seen.append(patterns.bits.tolist())
        return ladder(machine, patterns, [1], generator=generator)

    monkeypatch.setattr("helmholtz_mim.commands.answers.ladder", look)
    Evaluate(Path("small")).run()
    Path("two.csv").write_text("0,0,1,1\n1,1,1,1\n")
    Evaluate(Path("small"), "two.csv").run()
    Evaluate(Path("small"), "mine.csv", split="part").run()
    test = states(4)[1::2].tolist()
    assert seen == [test, [[0, 0, 1, 1], [1, 1, 1, 1]], test]
    words = [line for line in capsys.readouterr().out.splitlines() if line.startswith("By number")]
    sets = ["8 held-out patterns of mine.csv", "2 patterns of two.csv", "8 held-out patterns of mine.csv"]
    assert words == [f"By number of particles, on {some}" for some in sets]
    save(HelmholtzMachine((16, 3)), "whole", data="bars")
    Evaluate(Path("whole")).run()
    assert capsys.readouterr().out.startswith("By number of particles, on 30 patterns of bars, learnt from\n")


# report


def of_data(lines):
    """What is said of layer 0 in recognition, in every block of columns."""
    return " ".join(below for line, below in pairwise(lines) if line == "recognition")


def interval(mean, half):
    return str(Estimate(mean, mean - half, mean + half))


def test_a_report_is_exact_where_it_can_be_and_says_so(capsys):
    first, *lines = said(capsys, "report small").splitlines()
    assert first == "exact, in nats; 2 seeds"
    report = exact_report(load("small"), Patterns(states(4)[::2]))
    found = report.query("measure == 'I' and layer == 0 and direction == 'recognition'").value
    assert interval(found.mean(), 12.706204736 * found.sem()) in of_data(lines)


@pytest.mark.parametrize("replicas", [1, 2])
def test_a_report_is_by_samples_where_layers_are_wide(replicas, capsys):
    save(machine := HelmholtzMachine((64, 8), replicas=(replicas,)).randomise_(0.1, generator=chance()), "one")
    first, *lines = said(capsys, "report one --data digits --samples 400 --seed 5").splitlines()
    assert first == f"by 400 samples, in nats: layers too wide to be exact; {replicas} seed{'s' * (replicas > 1)}"
    report = sampled_report(machine, digits(), samples=400, generator=chance(5)).query("layer == 0 and direction == 'recognition'")
    elbo, half = (report.query("measure == @m").value for m in ("ELBO", "ELBO ±"))
    half = half.item() if replicas == 1 else 12.706204736 * elbo.sem()
    assert interval(elbo.mean(), half) in of_data(lines) and "ELBO ±" not in "".join(lines)


# Rows in, rows out


@pytest.mark.parametrize("suffix", [".npy", ".csv"])
def test_rows_are_written_and_read_the_same(suffix):
    rows = bars().bits.to(torch.uint8)
    write_rows(place(Path(f"sub/rows{suffix}"), False), with_names(rows, "x"), rows)
    assert torch.equal(Patterns.read(f"sub/rows{suffix}").bits, rows.float())


def test_samples_are_the_same_in_every_kind_of_file(capsys):
    assert "wrote d.npy: 20 rows of 4" in said(capsys, "sample small --count 20 --to d.npy --replica 1")
    run("sample small --count 20 --out d.csv --replica 1")
    run("sample small --count 20 --out d.png")
    assert np.array_equal(np.load("d.npy"), pd.read_csv("d.csv")) and [*pd.read_csv("d.csv")] == ["x1", "x2", "x3", "x4"]
    assert Path("d.png").read_bytes().startswith(b"\x89PNG")


def test_dreams_are_of_the_top_patterns_that_are_given():
    machine = HelmholtzMachine((4, 2)).double()
    machine.generative[0].weight.copy_(40 * torch.tensor([[1.0, -1], [-1, 1], [1, -1], [-1, 1]]))
    save(machine, "sure")
    Path("top.csv").write_text("1,0\n0,1\n")
    Sample(Path("sure"), count=3, given=Path("top.csv"), to=Path("d.npy")).run()
    assert np.load("d.npy").tolist() == [[1, 0, 1, 0]] * 3 + [[0, 1, 0, 1]] * 3


def test_codes_are_a_layer_row_by_row():
    Encode(Path("small"), layer=1, passes=4, to=Path("p.npy")).run()
    machine = one_of(Path("small"), 0)
    assert np.allclose(np.load("p.npy"), machine.recognition[0](states(4).to(machine.prior.bias)), atol=1e-6), "all rows, in their order"
    Encode(Path("small"), "mine.csv", split="part", to=Path("z.csv")).run()
    top = pd.read_csv("z.csv")
    assert top.shape == (16, 2) and [*top] == ["z1", "z2"] and top.isin([0, 1]).all(axis=None)
    means = np.mean([_encoded(seed) for seed in range(60)], 0)
    assert np.abs(means - _encoded(0, passes=400)).max() < 0.35


def _encoded(seed, passes=None):
    Encode(Path("small"), passes=passes, seed=seed, to=Path("again.npy"), force=True).run()
    return np.load("again.npy")


def test_reconstructions_turn_back_at_the_layer():
    machine = HelmholtzMachine((4, 4, 1)).double()
    for layer in (machine.recognition[0], machine.generative[0]):
        layer.weight.copy_(60 * torch.eye(4))
    save(machine, "mirror")
    Path("ones.csv").write_text("1,1,1,1\n1,1,1,1\n")
    Reconstruct(Path("mirror"), "ones.csv", layer=1, to=Path("r.npy")).run()
    assert (np.load("r.npy") > 0.99).all()
    Reconstruct(Path("mirror"), "ones.csv", to=Path("top.npy"), passes=200).run()
    assert np.abs(np.load("top.npy") - 0.75).max() < 0.15, "nothing is left of it at the top"


# complete


def with_gaps(*rows, names="a,b,c,d,part"):
    Path("gaps.csv").write_text("\n".join([names, *rows]) + "\n")


def test_a_completed_table_is_the_table_without_its_gaps(capsys):
    with_gaps("1,,0,?,train", "0,1,1,0,test", "-1,1,1,0,test")
    line = "complete small --data gaps.csv --split part --count 3"
    assert said(capsys, f"{line} --to c.csv").startswith("3 gaps in 2 of 3 rows, by importance: of 1000 particles ")
    table = pd.read_csv("c.csv")
    assert [*table] == ["a", "b", "c", "d", "part"] and table.part.tolist() == ["train"] * 3 + ["test"] * 6
    assert (table.loc[:2, ["a", "c"]] == [1, 0]).all(axis=None) and (table.loc[3:5, "a":"d"] == [0, 1, 1, 0]).all(axis=None)
    assert table.loc[:, "a":"d"].isin([0, 1]).all(axis=None)
    run(f"{line} --to c.npy")
    assert np.array_equal(np.load("c.npy"), table.loc[:, "a":"d"])
    Path("bare.csv").write_text("1,,0,1\n")
    run("complete small --data bare.csv --to bare_whole.csv")
    assert Path("bare_whole.csv").read_text() in ("1,0,0,1\n", "1,1,0,1\n"), "without names, as it came"


def exact_probability(row, known):
    """By enumeration of the machine's joint distribution."""
    machine, mask = one_of(Path("small"), 0), torch.tensor(known)
    p = exact_completion(machine, torch.tensor([row]).float(), mask)
    return (p @ states(int((~mask).sum())).to(p))[0]


@pytest.mark.parametrize("by", ["importance", "exact", "gibbs"])
def test_probabilities_and_draws_are_those_of_the_machine(by, capsys):
    with_gaps("1,,0,?,train", "0,1,1,0,test", "-1,1,1,0,test")
    options = dict(data="gaps.csv", split="part", by=by, count=2000, steps=30, particles=4000)
    Complete(Path("small"), **options, probabilities=True, to=Path("p.npy")).run()
    Complete(Path("small"), **options, seed=1, to=Path("c.npy")).run()
    p, drawn = np.load("p.npy"), np.load("c.npy").reshape(3, 2000, 4).mean(1)
    meant = np.array([[1, 0, 0, 0], [0, 1, 1, 0], [0, 1, 1, 0]], float)
    meant[0, [1, 3]] = exact_probability([1, 0, 0, 0], [True, False, True, False])
    meant[2, 0] = exact_probability([0, 1, 1, 0], [False, True, True, True]).item()
    close = 1e-6 if by == "exact" else 0.06
    assert np.abs(p - meant).max() < close and np.abs(drawn - meant).max() < 0.06
    text = capsys.readouterr().out
    words = {"importance": "effective sample size", "exact": "by enumeration, exactly", "gibbs": "by chains of 30 Gibbs steps"}
    assert words[by] in text and "that is few" not in text


def test_few_explanations_are_said_to_be_few(capsys):
    with_gaps("1,,0,?,train")
    assert "that is few: take more --particles" in said(capsys, "complete small --data gaps.csv --split part --particles 5")


def test_units_are_hidden_though_they_are_known(capsys):
    Complete(Path("wide"), "digits", hide=tuple(range(32, 64)), particles=20, to=Path("d.npy")).run()
    found = np.load("d.npy")
    assert np.array_equal(found[:, :32], digits().bits[:, :32]) and not np.array_equal(found, digits().bits)
    assert f"{32 * 1797} gaps in 1797 of 1797 rows" in capsys.readouterr().out
    Complete(Path("small"), hide=(0,), to=Path("s.csv")).run()
    assert pd.read_csv("s.csv").part.tolist() == ["train", "test"] * 8


# Refusals

WRONG = {
    "report small --data bars": "data layer has 4 units, the patterns have 16",
    "report small --samples 0": "samples is a whole number of at least 1",
    "report small --seed -1": "seed is a whole number of at least 0",
    "report wide --data digits --samples 10": "intervals need 80 samples or more",
    "report small --data absent.csv": "there is no file absent.csv: name one that holds your data",
    "report small --data mine.csv": "has 'train' in row 1, column 'part': leave out columns that are no numbers, or name the one",
    "report small --data bars --threshold .5": "threshold can be said of a file, and 'bars' is a data set that needs none",
    "report small --data bars --weights w": "weights can be said of a file",
    "report small --data bars --split part": "split can be said of a file",
    "report wide --data digits --split 2": "a split takes a share between 0 and 1",
    "evaluate small --data wide": "there is no data set called 'wide'",
    "report piped": "piped was trained on standard input, which is read once: name data with --data",
    "encode piped": "piped was trained on standard input",
    "encode small --layer 3": "the hidden layers of this machine are numbered from 1 to 2: choose one of them, not 3",
    "encode small --layer 0": "choose one of them, not 0",
    "encode small --data bars": "data layer has 4 units, the patterns have 16",
    "encode small --passes 0": "passes is a whole number of at least 1",
    "encode small --replica 2": "holds 2 machines: there is no number 2",
    "encode small --to codes": "rows are written as .npy, .csv, .png, and codes is none of them: choose another --out",
    "encode small --to mine.csv": "mine.csv exists already: use --force to overwrite it",
    "encode small --to mine.csv/codes.npy": "is a file, not a folder",
    "encode wide": "does not say what it was trained on: name it with --data",
    "reconstruct small --layer 3": "numbered from 1 to 2",
    "reconstruct small --passes 0": "passes is a whole number of at least 1",
    "complete small": "nothing is missing: leave cells of a file empty, or hide units by their numbers (--hide)",
    "complete small --hide 4": "units to hide have numbers from 0 to 3, not 4",
    "complete small --hide -1": "units to hide have numbers from 0 to 3, not -1",
    "complete small --data bars --hide 1": "data layer has 4 units, the patterns have 16",
    "complete small --hide 1 --count 0": "count is a whole number of at least 1",
    "complete small --hide 1 --particles 0": "particles is a whole number of at least 1",
    "complete small --hide 1 --steps -1": "steps is a whole number of at least 0",
    "complete small --hide 1 --count 1000000000000": "GiB of memory, most of it for the completions",
    f"complete wide --data digits --hide {' '.join(map(str, range(40)))} --by exact": "a layer of 40 units has too many states to list",
    "sample small --to dreams.gif": "rows are written as .npy, .csv, .png, and dreams.gif is none",
    "sample small --given absent.csv": "there is no file absent.csv",
    "sample small --given three.csv": "top patterns given to 100 dreams of this machine are shaped (2,) or (100, 2), not (100, 3)",
    "sample small --count 8000": "a sheet holds at most 7000 images, not 8000: choose fewer, or write a table",
    "diagnose mine.csv": "has 'train' in row 1, column 'part'",
    "diagnose absent.npy": "there is no file absent.npy",
    "diagnose small": "data are read from .csv, .npy, .npz, .parquet",
    "train --data mine.csv --split part --epochs 1": "the book has no machine for mine.csv: say how many units each layer has",
    "train --data mine.csv --split part --sizes 5 2 --epochs 1": "data layer has 5 units, the patterns have 4",
    "train --data mine.csv --sizes 4 2 --epochs 1": "column 'part': leave out columns that are no numbers",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_mistake_is_one_sentence_and_leaves_nothing_behind(line, folder):
    Path("three.csv").write_text("1,0,1\n")
    before = sorted(folder.rglob("*"))
    sentence = refusal(line.split())
    assert WRONG[line] in sentence and "\n" not in sentence
    assert sorted(folder.rglob("*")) == before


def test_many_rows_are_no_matter_for_a_table():
    assert check_sheet(Path("many.npy"), 10**6, 16) is None and check_sheet(Path("many.png"), 10**6, 15) is None
    with pytest.raises(ValueError, match="a sheet holds"):
        check_sheet(Path("many.png"), 10**6, 16)


def test_codes_in_a_table_are_diagnosed_as_in_an_array(capsys):
    codes = np.random.default_rng(0).integers(0, 9, 500)
    np.save("codes.npy", codes)
    pd.DataFrame({"code": codes}).to_csv("codes.csv", index=False)
    pd.DataFrame({"label": np.arange(500) % 20}).to_csv("labels.csv", index=False)
    assert said(capsys, "diagnose codes.npy --sizes 9") == said(capsys, "diagnose codes.csv --sizes 9")
    assert "I" in said(capsys, "diagnose codes.csv --sizes 9 --inputs labels.csv")


def test_training_takes_a_file_and_keeps_what_it_was_told(folder, capsys):
    pd.DataFrame(bars().bits.int().numpy()).assign(w=1).to_csv("bars.csv", index=False)
    line = "train --data bars.csv --weights w --split 0.7 --split-seed 4 --split-distinct --sizes 16 2 --epochs 1 --seeds 1 --out run"
    run(line)
    source = trained_on(Path("run/machine.safetensors"))
    assert source == Source("bars.csv", None, "w", 0.7, 4, True) and len(source.held_out()) == 9
    table = said(capsys, "evaluate run/machine.safetensors --particles 2").splitlines()
    rows = [line.replace("−", "-").split() for line in table[2:4]]
    assert [row[:2] for row in rows] == [["1", "0"], ["2", "0"]] and math.isfinite(float(rows[1][2]))
