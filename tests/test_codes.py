"""Reports on codes whose truth is known: what intervals hold, what is refused, and what is not loaded."""

import doctest
import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

import helmholtz_mim
from helmholtz_mim import collapse_report, plot_codes, verdict
from helmholtz_mim.cli import main
from helmholtz_mim.measures.counts import grassberger

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import codes as known


def whole(report, measure):
    """The row of a measure of the whole code, for all rows."""
    return report[(report.measure == measure) & (report.part == "whole")].iloc[0]


@pytest.fixture
def rng(seed):
    return np.random.default_rng(seed)


def test_intervals_hold():
    table = known.coverage(200)
    several = table[table.intervals >= 40]
    assert len(several) > 35 and several.covered.min() >= 0.88, several.sort_values("covered").head()
    assert np.average(table.covered, weights=table.intervals) > 0.93


def test_what_is_stored_holds_what_the_chapter_says():
    table = pd.read_csv(ROOT / "results/codes/coverage.csv")
    assert table.groupby("kind").codes.max().tolist() == [250] * 4 and table.covered.min() >= 0.93


@pytest.mark.parametrize("size", [2, 7, 512])
def test_an_even_codebook_has_its_size_as_perplexity(size, rng):
    report = collapse_report(rng.integers(0, size, 20 * size + 40), sizes=size)
    perplexity = whole(report, "perplexity")
    assert perplexity.value == pytest.approx(size, rel=0.05) and perplexity.low <= perplexity.value <= perplexity.high
    assert whole(report, "dead").value == 0 and whole(report, "codes").value == pytest.approx(size)


def test_grassberger_numbers():
    """G(n) of the paper: ψ(n) + (−1)ⁿ/2 · [ψ((n + 1)/2) − ψ(n/2)]."""
    from scipy.special import psi

    n = np.arange(1, 400)
    assert np.allclose(grassberger(399)[1:], psi(n) + (-1.0) ** n / 2 * (psi((n + 1) / 2) - psi(n / 2)))


@pytest.mark.parametrize("codes, sizes", [(np.arange(80) % 3 + 3, 8), (np.append(np.arange(79), 0), 10**6), (np.arange(400) % 8, None)])
def test_no_interval_has_more_codes_than_there_are_rows_or_states(codes, sizes):
    """Bits, a stated size, and a space so large that only the rows are a bound."""
    codes = codes if sizes else codes[:, None] >> np.arange(3) & 1
    seen = collapse_report(codes, sizes=sizes).query("measure == 'codes'")
    assert len(seen) >= 4 and (seen.low <= seen.value).all() and (seen.value <= seen.high).all()
    assert (seen.high <= np.minimum(seen.rows, sizes or 8) + 1e-9).all()


def test_a_new_code_has_a_chance_not_below_zero():
    """Where every code has been seen twice, the interval of its estimate would reach below."""
    new = whole(collapse_report(np.arange(80) // 2, sizes=64), "new")
    assert new.value == new.low == 0 < new.high < 0.5


def test_the_examples_of_the_docstrings_hold(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    examples = doctest.DocTestFinder().find(importlib.import_module("helmholtz_mim.measures.codes"))
    ran = [doctest.DocTestRunner().run(example) for example in examples if example.examples]
    assert len(ran) == 3 and sum(run.attempted for run in ran) == 5 and not any(run.failed for run in ran)


def test_rows_in_any_order_are_counted_alike(rng):
    codes = rng.integers(0, 2, (400, 5))
    one, other = (collapse_report(c) for c in (codes, rng.permutation(codes)))
    for measure in ("H", "perplexity", "top", "new", "H of parts", "total correlation", "active"):
        assert whole(one, measure).value == pytest.approx(whole(other, measure).value)


def test_units_in_another_order_or_negated_say_the_same(rng):
    p = rng.random((300, 4)) * [0.1, 0.5, 0.9, 1.0]
    one, other = collapse_report(p), collapse_report(1 - p[:, ::-1])
    assert whole(one, "I upper bound").value == pytest.approx(whole(other, "I upper bound").value)
    variance = [r[r.measure == "variance"].value.to_numpy() for r in (one, other)]
    assert np.allclose(variance[0], variance[1][::-1])


def test_bits_and_indices_of_two_entries_are_the_same_code(rng):
    codes = rng.integers(0, 2, (300, 3))
    for measure in ("H", "top", "new", "total correlation"):
        one, other = (whole(collapse_report(codes, **more), measure) for more in ({}, {"sizes": 2}))
        assert list(one[3:6]) == pytest.approx(list(other[3:6]))


def test_twenty_copies_say_what_one_says(rng):
    report = collapse_report(np.where(rng.integers(0, 2, (1000, 1)), 0.95, 0.05) * np.ones(20))
    assert whole(report, "active").low == 20 and whole(report, "duplicate").low == 19
    assert whole(report, "I lower bound").value == pytest.approx(np.log(2), abs=0.05)
    assert whole(report, "I upper bound").value > 5 and "more than once" in verdict(report)


def test_dead_entries_take_rows_to_be_proved():
    """384 rows for each entry, as the 95 % interval of a count of zero says."""
    for rows, proved in ((300 * 8, False), (400 * 8, True)):
        dead = whole(collapse_report(np.arange(rows) % 4, sizes=8), "dead")
        assert (dead.value, dead.low == 4, dead.high) == (4, proved and dead.low == 4, 4)
    assert whole(collapse_report(np.arange(40_000) % 4, sizes=8), "dead").low == 4


def test_inputs_widen_what_they_make_dependent(rng):
    states = np.repeat(rng.integers(0, 2, (60, 3)), 20, 0)
    naive, honest = (collapse_report(states, **more) for more in ({}, {"inputs": np.arange(1200) // 20}))
    wide = [report[report.measure == "rate"].eval("high - low").mean() for report in (naive, honest)]
    assert wide[1] > 3 * wide[0]


def test_noise_is_told_from_information_by_repetition(rng):
    noise = collapse_report(rng.integers(0, 2, (3000, 3)), inputs=np.arange(3000) // 10)
    signal = collapse_report(np.repeat(rng.integers(0, 2, (300, 3)), 10, 0), inputs=np.arange(3000) // 10)
    assert whole(noise, "I lower bound").low < 0.05 and whole(signal, "I lower bound").value > 1.9
    assert whole(noise, "active").value == 0 and whole(signal, "active").low == 3


def test_what_is_below_zero_is_shown_and_explained(rng):
    faint = 0.5 + 0.02 * rng.normal(size=(100, 6))
    reports = [collapse_report(faint, seed=seed) for seed in range(20)]
    below = [row for report in reports for row in report.itertuples() if row.value < 0]
    assert below and all("below 0 by chance" in row.note and row.low <= row.value <= row.high for row in below)


def test_a_seed_gives_the_same_report_and_not_the_numbers_of_the_caller():
    p = np.random.default_rng(0).random((300, 5))
    one, other = collapse_report(p), collapse_report(p)
    pd.testing.assert_frame_equal(one, other)
    assert whole(one, "top").value < 0.2, "codes drawn with the very numbers that made them would all be 0"


VERDICTS = {
    "The code has collapsed": [np.zeros((200, 8), int), np.full((200, 8), 0.5), np.full(300, 7)],
    "The code is partly collapsed": [np.arange(4000) % 2 * np.ones((8, 1)).repeat(500, 0).reshape(-1)],
    "The code has not collapsed": [np.arange(4000) % 4],
}


@pytest.mark.parametrize("words", VERDICTS)
def test_verdicts(words):
    for codes in VERDICTS[words]:
        sizes = 16 if words == "The code is partly collapsed" else None
        said = verdict(collapse_report(codes, sizes=sizes))
        assert said.startswith(words) and len(said.split(". ")) == 3, said


GOOD = np.arange(100) % 7
REFUSED = {
    "a tensor with a gradient": (lambda: [[1.0], [1.0, 2.0]], {}, "detach"),
    "a grid": (lambda: np.zeros((50, 4, 4)), {}, "inputs="),
    "few rows": (lambda: GOOD[:20], {}, "several batches"),
    "nan": (lambda: np.where(GOOD, np.nan, 0.0), {}, "leave out"),
    "logits": (lambda: GOOD / 2 - 1.3, {}, "logits=True"),
    "padding": (lambda: GOOD - 1, {}, "padding"),
    "labels": (lambda: GOOD, {"inputs": [1, 2]}, "give 100 labels"),
    "few inputs": (lambda: GOOD, {"inputs": GOOD}, "10 inputs"),
    "sizes": (lambda: GOOD, {"sizes": 3}, "not below 7"),
    "a prior of others": (lambda: GOOD, {"sizes": 9, "prior": np.ones(7) / 7}, "sum to 1"),
    "a prior of 0": (lambda: GOOD % 2, {"prior": 0.0}, "above 0"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused_is_answered(name):
    codes, options, advice = REFUSED[name]
    with pytest.raises(ValueError, match=advice) as caught:
        collapse_report(codes(), **options)
    assert "\n" not in str(caught.value)


def test_advice_is_followed(rng):
    grid = rng.integers(0, 9, (50, 4, 4))
    collapse_report(grid.reshape(-1), inputs=np.repeat(np.arange(50), 16))
    assert collapse_report(rng.normal(size=(60, 3)), logits=True).measure.eq("I").any()
    prior = collapse_report(GOOD, sizes=9, prior=np.ones(9) / 9)
    assert whole(prior, "KL of the mean").value == pytest.approx(np.log(9 / 7), abs=0.1)


def test_a_page_is_drawn_of_every_form(rng):
    import matplotlib.pyplot as plt

    for codes in (GOOD, rng.random((60, 3)), rng.integers(0, 5, (60, 2))):
        figure = plot_codes(collapse_report(codes))
        assert len(figure.axes) == (2 if codes is GOOD else 4)
        plt.close(figure)


def test_the_command_prints_and_draws(tmp_path, capsys):
    np.save(tmp_path / "codes.npy", GOOD)
    main(["diagnose", str(tmp_path / "codes.npy"), "--sizes", "9", "--to", str(tmp_path / "page.png")])
    assert "The code has not collapsed" in capsys.readouterr().out
    assert (tmp_path / "page.png").read_bytes().startswith(b"\x89PNG")
    (tmp_path / "words.npy").write_text("no array")
    with pytest.raises(SystemExit, match=r"numpy\.save"):
        main(["diagnose", str(tmp_path / "words.npy")])


# The package, whose names are loaded when they are asked for


def run(code, *command):
    """What a fresh interpreter prints."""
    done = subprocess.run([sys.executable, *(command or ("-c", code))], cwd=ROOT, capture_output=True, text=True)
    assert not done.returncode, done.stdout + done.stderr
    return done.stdout


def test_a_report_needs_neither_torch_nor_numba():
    code = "import sys, numpy; from helmholtz_mim.measures.codes import collapse_report, verdict\n"
    code += "verdict(collapse_report(numpy.arange(100) % 3))\nprint({'torch', 'numba'} & set(sys.modules))"
    assert run(code).strip() == "set()"


def test_every_name_is_found_lazily_and_the_lists_agree():
    for name in helmholtz_mim.__all__:
        assert getattr(helmholtz_mim, name) is not None and name in dir(helmholtz_mim)
    assert sorted(helmholtz_mim._HOME) == sorted(helmholtz_mim.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'trian'"):
        _ = helmholtz_mim.trian


def test_wake_is_the_function_whatever_was_loaded_first():
    for first in ("helmholtz_mim.wake", "helmholtz_mim.training", "helmholtz_mim"):
        code = f"import {first}, helmholtz_mim as h\nfrom helmholtz_mim import wake\nfrom helmholtz_mim.wake import wake as w"
        assert run(code + "\nprint(wake is h.wake is w, callable(wake), h.training.train is h.train)").split() == ["True"] * 3
