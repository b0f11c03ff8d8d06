"""Tables of results: their shapes, means with intervals, and differences in pairs of seeds."""

import numpy as np
import pandas as pd
import pytest
import torch
from helmholtz_mim.records import against, holm, intervals, mean_interval, over_replicas, per_seed, t_quantile, tidy_frame, wide
from scipy import stats


def records(schemes=("wake-sleep", "mim"), seeds=6, steps=(10, 20, 30), **fields):
    """Made-up measurements: the level of a scheme, the luck of a seed, and the step, all in one number."""
    noise, rows = np.random.default_rng(0), []
    luck = noise.normal(size=seeds)
    for k, name in enumerate(schemes):
        for step in steps:
            for seed in range(seeds):
                value = k + step + luck[seed] + 0.1 * noise.normal()
                rows.append({"scheme": name, "step": step, "replica": seed, "H.recognition.1": value})
    return pd.DataFrame(rows).assign(**fields)


def test_long_tables_have_a_row_for_every_number():
    table = tidy_frame([("recognition", 0, "I", torch.tensor([1.0, 2.0])), ("generative", 2, "H", [3.0])])
    assert table.columns.tolist() == ["step", "replica", "layer", "direction", "measure", "value"]
    assert table.values.tolist() == [
        [0, 0, 0, "recognition", "I", 1.0],
        [0, 1, 0, "recognition", "I", 2.0],
        [0, 0, 2, "generative", "H", 3.0],
    ]


def test_wide_tables_have_a_column_for_every_measure():
    table = wide(tidy_frame([("recognition", 0, "I", [1.0, 2.0]), ("generative", 2, "H", [3.0, 4.0])]).assign(step=7))
    assert table.columns.tolist() == ["step", "replica", "H.generative.2", "I.recognition.0"]
    assert table.values.tolist() == [[7, 0, 3.0, 1.0], [7, 1, 4.0, 2.0]]


def test_an_interval_joins_a_measure_and_its_error():
    table = intervals(tidy_frame([("recognition", 1, "H", [3.0]), ("recognition", 1, "H ±", [0.5])]))
    assert table[["value", "low", "high"]].values.tolist() == [[3.0, 2.5, 3.5]] and table.measure.tolist() == ["H"]


@pytest.mark.parametrize("count", [2, 3, 16])
def test_intervals_of_means_are_those_of_student(count):
    values = np.random.default_rng(count).normal(size=count)
    known = stats.t.interval(0.95, count - 1, values.mean(), stats.sem(values))
    assert np.allclose(mean_interval(values.mean(), stats.sem(values), count), known, rtol=1e-12)


def test_intervals_are_made_of_whole_columns():
    mean, sem, count = (pd.Series(x) for x in ([0.0, 1.0], [1.0, 2.0], [4, 9]))
    low, high = mean_interval(mean, sem, count)
    assert np.allclose(high - mean, sem * t_quantile(count - 1)) and np.allclose(mean - low, high - mean)


def test_means_over_replicas_are_of_the_last_step():
    early, late = (tidy_frame([("recognition", 1, "H", h), ("generative", 0, "I", i)]).assign(step=s) for h, i, s in (
        ([9.0, 9.0, 9.0], [9.0, 9.0, 9.0], 10), ([1.0, 2.0, 4.0], [3.0, 3.0, 3.0], 20)
    ))  # fmt: skip
    table = over_replicas(pd.concat([late, early])).set_index("measure")
    assert table["mean"].to_dict() == pytest.approx({"H": 7 / 3, "I": 3.0}) and (table.replicas == 3).all()
    assert (table.low["H"], table.high["H"]) == pytest.approx(stats.t.interval(0.95, 2, 7 / 3, stats.sem([1, 2, 4])))
    assert table.low["I"] == table.high["I"] == 3.0
    alone = over_replicas(late[late.replica == 0])
    assert alone[["low", "high"]].isna().all(axis=None) and alone["mean"].notna().all()
    with pytest.raises(ValueError, match="what train or a report returns"):
        over_replicas(late["value"])


@pytest.mark.parametrize("last", [1, 2, 50])
def test_seeds_are_means_of_their_last_records(last):
    table = records()
    found = per_seed(table, ["scheme"], records=last)
    kept = table[table.step > 30 - 10 * last].groupby(["scheme", "replica"])["H.recognition.1"].mean()
    assert np.allclose(found.set_index(["scheme", "replica"])["H.recognition.1"], kept)
    assert len(found) == 12


def test_the_last_records_are_those_of_each_run():
    long = pd.concat([records(("mim",), steps=(1, 2, 3)), records(("flip",), steps=(100, 200, 300))])
    assert per_seed(long, ["scheme"], records=1).groupby("scheme").step.first().to_dict() == {"mim": 3, "flip": 300}


@pytest.mark.parametrize("field", ["lr", "data", "mine"])
def test_runs_that_differ_in_anything_are_not_pooled(field):
    both = pd.concat([records(**{field: 1}), records(**{field: 2})])
    with pytest.raises(ValueError, match=f"add {field} to the columns"):
        per_seed(both, ["scheme"])
    assert len(per_seed(both, ["scheme", field])) == 24


def test_differences_are_those_of_a_paired_t_test():
    seeds = per_seed(records(), ["scheme"])
    table = against(seeds, "H.recognition.1")
    values = seeds.pivot(index="replica", columns="scheme", values="H.recognition.1")
    known = stats.ttest_rel(values["mim"], values["wake-sleep"])
    row = table.loc["mim"]
    assert row["p"] == pytest.approx(known.pvalue, rel=1e-9) and row["seeds"] == 6
    assert (row["from"], row["to"]) == pytest.approx(tuple(known.confidence_interval()), rel=1e-9)
    assert row["difference"] == pytest.approx((values["mim"] - values["wake-sleep"]).mean())
    alone = stats.t.interval(0.95, 5, values["mim"].mean(), stats.sem(values["mim"]))
    assert row["mean"] == pytest.approx(values["mim"].mean()) and 2 * row["±"] == pytest.approx(alone[1] - alone[0])
    assert table.loc["wake-sleep", ["difference", "from", "to", "p"]].isna().all()


def test_a_baseline_may_be_any_value_of_any_column():
    rows = pd.concat([records(("mim",), every=k, lr=0.1) for k in (1, 5)])
    rows["H.recognition.1"] = 1.0 * rows.replica + rows.every
    table = against(per_seed(rows, ["every"]), "H.recognition.1", "every", 1)
    assert table.loc[5, "difference"] == pytest.approx(4.0) and table.loc[5, "p"] == 0


def test_what_has_no_p_is_no_comparison():
    p = pd.Series([0.04, float("nan"), 0.01, 0.03], index=list("abcd"))
    corrected = holm(p)
    assert corrected.isna().tolist() == [False, True, False, False]
    assert corrected.dropna().tolist() == pytest.approx([0.06, 0.03, 0.06])
    assert holm(p.iloc[1:2]).isna().all() and holm(p.iloc[:0]).empty
    assert holm(pd.Series([0.01, 0.01, 0.9])).tolist() == pytest.approx([0.03, 0.03, 0.9])
