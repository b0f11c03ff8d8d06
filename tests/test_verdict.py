"""The verdict: its effects and sentences follow from the stored runs, and the pages show what follows today."""

import json
import re
from pathlib import Path

import pandas as pd
import pytest
from scipy.stats import ttest_rel

from helmholtz_mim.experiments.comparison import judged, table_report, table_runs, worlds_store
from helmholtz_mim.experiments.rivals import KL, effects, five_sentences
from helmholtz_mim.records import holm, per_seed
from helmholtz_mim.tables import Estimate

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "results"


@pytest.fixture(scope="module")
def table():
    return effects(RESULTS)


def test_each_effect_is_a_paired_difference_of_one_world(table):
    assert len(table) == 12 and table.index.is_unique
    runs = {run.scheme: run for run in table_runs() if run.data == "shifts" and run.batch == 1}
    store = worlds_store(RESULTS / "worlds", table_report)
    mim, plain = (per_seed(store.table([runs[name]]), ["scheme"])[KL].to_numpy() for name in ("mim", "wake-sleep"))
    row = table.loc[("shifts, constant rate", "mim")]
    assert row["difference"] == pytest.approx((mim - plain).mean()) and row["mean"] == pytest.approx(mim.mean())
    assert [row["from"], row["to"]] == pytest.approx([*ttest_rel(mim, plain).confidence_interval()])


def test_holm_is_for_all_effects_of_the_table(table):
    store = worlds_store(RESULTS / "worlds", table_report)
    online = store.table([run for run in table_runs() if run.batch == 1])
    alone = {}
    for world, rows in online.groupby("data"):
        seeds = per_seed(rows.drop(columns="data"), ["scheme"]).pivot(index="replica", columns="scheme", values=KL)
        alone |= {(world, name): ttest_rel(seeds[name], seeds["wake-sleep"]).pvalue for name in ("mim", "categorical", "flip")}
    smallest = min(alone.values())
    assert table.Holm.min() == pytest.approx(12 * smallest, rel=1e-6, abs=0)
    assert holm(pd.Series(alone)).max() <= table.Holm.max()


def test_there_are_five_sentences_and_their_numbers_are_those_of_the_table(table):
    said = five_sentences(RESULTS)
    items = re.split(r"^\d\. ", said, flags=re.M)[1:]
    assert len(items) == 5 and all(len(re.findall(r"\.(?=\s|$)", item)) == 1 for item in items)
    shifts = table.loc[("shifts, constant rate", "mim")]
    assert f"−{-shifts['difference']:.3f} (−{-shifts['from']:.3f} to −{-shifts['to']:.3f})" in said
    assert "{" not in said and "nan" not in said


def test_squares_of_the_map_are_judged_apart():
    rows = [
        {"bias": False, "scale": 0.0, "batch": batch, "lr": 0.1, "scheme": name, "replica": seed, "KL": seed % 3 + shift * (seed % 2 + 1)}
        for batch in (1, 10)
        for name, shift in (("wake-sleep", 0), ("mim", -batch))
        for seed in range(6)
    ]
    squares = judged(pd.DataFrame(rows), "mim", "KL")
    assert squares["difference"].tolist() == [-1.5, -15.0] and squares.index.get_level_values("batch").tolist() == [1, 10]
    assert squares.Holm.tolist() == pytest.approx(holm(squares.p).tolist()) and (squares.Holm > squares.p).any()


def outputs(path, kind):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    data = (o.get("data", {}).get(kind, "") for cell in cells for o in cell.get("outputs", []))
    return ["".join(one) for one in data if one]


@pytest.mark.parametrize("path", [ROOT / "nbs/index.ipynb", *(ROOT / "nbs").glob("*_verdict.ipynb")], ids=lambda p: p.stem)
def test_the_first_screen_is_the_verdict_of_the_stored_runs(path, table):
    assert outputs(path, "text/markdown")[0].strip() == five_sentences(RESULTS).strip()
    first = next(html for html in outputs(path, "text/html") if "ledger" in html)
    for _, row in table.iterrows():
        assert str(Estimate(row["difference"], row["from"], row["to"], "+")) in first
