"""Tables: the digits that intervals allow, headers over their columns, and nothing of pandas in what a reader sees."""

import math

import numpy as np
import pandas as pd
import pytest
from bs4 import BeautifulSoup
from hypothesis import given
from hypothesis import strategies as st

from helmholtz_mim.records import against
from helmholtz_mim.tables import DASH, Estimate, Printed, cell_text, common_decimals, decimals, folded, header, numeral, p_value, tabulate


def compared():
    """Two schemes with eight seeds, as `against` compares them."""
    rng = np.random.default_rng(0)
    seeds = pd.DataFrame({"scheme": ["wake-sleep"] * 8 + ["mim"] * 8, "replica": [*range(8), *range(8)]})
    return against(seeds.assign(KL=rng.normal(size=16)), "KL")


def parsed(table):
    return BeautifulSoup(table._repr_html_(), "html.parser")


@pytest.mark.parametrize("half", [3.2e-5, 0.00996, 0.0647, 0.15, 0.999, 1.0, 9.96, 26.0])
def test_half_an_interval_has_two_significant_digits(half):
    shown = f"{half:.{decimals(half)}f}"
    assert len(shown.replace(".", "").lstrip("0")) == 2
    assert abs(float(shown) - half) <= 0.05 * half


def test_an_estimate_and_its_interval_have_the_same_decimals():
    for form in ("±", "to", "+"):
        text = str(Estimate(-12.34567, -12.4, -12.29134, form))
        numbers = [part.strip("()±+ ") for part in text.replace("to", " ").replace("(", " ").split()]
        assert {len(part.partition(".")[2]) for part in numbers if part} == {3}, text
    assert str(Estimate(0.41415, 0.3494, 0.4789)) == "0.414 ± 0.065"
    assert str(Estimate(-0.1623, -0.3271, 0.0969, "+")) == "−0.16 (−0.33 to +0.10)"
    assert str(Estimate(0.5, math.nan, math.nan)) == "0.500", "one seed has no interval"
    assert str(Estimate(60.0, 60.0, 60.0)) == "60", "nor has a count"
    assert str(Estimate(0.003, 0.003, 0.003 + 1e-17)) == "0.003", "nor is rounding one"


def read(text):
    return float(text.replace("−", "-").replace("\u00a0", ""))


@given(st.floats(-1e6, 1e6), st.floats(1e-6, 1e5))
def test_what_is_printed_is_what_was_meant(middle, half):
    """Rounding moves an estimate by a twentieth of half its interval at most, and the half by a twentieth of itself."""
    shown, width = map(read, str(Estimate(middle, middle - half, middle + half)).split(" ± "))
    assert abs(shown - middle) <= 0.0501 * half + 1e-9 and abs(width - half) <= 0.0501 * half + 1e-9


@pytest.mark.parametrize(
    ("middle", "low", "high", "side", "arrow"),
    [(-0.1, -0.15, -0.05, "less", False), (0.1, 0.05, 0.15, "more", False), (0.1, -0.1, 0.3, "even", False), (0.7, 0.6, 0.8, "more", True)],
)
def test_an_interval_is_drawn_on_its_side_of_nought(middle, low, high, side, arrow):
    svg = BeautifulSoup(Estimate(middle, low, high, "+", 0.2).html(), "html.parser").svg
    assert side in svg["class"] and svg["aria-hidden"] == "true"
    assert (svg.circle is None) == arrow
    if not arrow:
        assert (float(svg.circle["cx"]) > 60) == (middle > 0)


def test_numbers_have_a_true_minus_and_thousands():
    assert numeral(-1234.5, 1) == "−1234.5" and numeral(60000) == "60\u00a0000"
    assert numeral(-0.0004, 3) == "0.000" and numeral(-0.0006, 3) == "−0.001"
    assert cell_text("-1.5 to -1") == "−1.5 to −1" and cell_text("12-10-8") == "12-10-8"
    assert cell_text(0.295, ".0%") == "30\u00a0%" and header(0.30000001) == "0.3"
    assert cell_text(np.bool_(True)) == "yes" and cell_text(None) == cell_text(float("nan")) == DASH


def test_a_p_has_two_digits_at_most():
    assert [p_value(p) for p in (1e-9, 0.0014, 0.0994, 0.0996, 0.43, 1.0)] == ["< 0.001", "0.001", "0.099", "0.10", "0.43", "1.00"]


def test_counts_are_whole_and_a_column_has_one_number_of_decimals():
    assert common_decimals([16.0, 60000.0, None]) == 0 and common_decimals([0.443, 0.01]) == 3
    assert common_decimals([98.2, 0.1]) == 1 and common_decimals([1234.5]) == 0 and common_decimals([1e-9]) == 4
    assert common_decimals(["a", None]) == common_decimals([]) == common_decimals([math.inf, 0.0]) == 0


def test_what_belongs_together_is_one_column():
    table = compared()
    assert list(folded(table)) == [("mean",), ("seeds",), ("difference",), ("p",)]
    assert folded(table)["difference",][1] is None, "the baseline has none"
    half = table.loc["mim", "±"]
    assert folded(table)["mean",][0].high - table.loc["mim", "mean"] == pytest.approx(half)
    assert list(folded(table[["mean", "p"]])) == [("mean",), ("p",)], "a mean alone stays a number"
    ends = table.assign(low=0.0, high=1.0)[["mean", "low", "high"]]
    assert list(folded(ends)) == [("mean",)] and folded(ends)["mean",][0].form == "to"
    groups = pd.concat({"a": table, "b": table}, axis=1)
    assert len(folded(groups)) == 8 and ("b", "difference") in folded(groups)


def test_columns_stand_under_their_headers():
    lines = str(tabulate(compared(), "words", names={"mim": "MIM, factorial"}, rows="scheme")).splitlines()
    assert lines[0] == "words" and lines[1].startswith("scheme") and len({*map(len, lines[1:])}) == 1
    end = lines[1].index("seeds") + len("seeds")
    assert all(line[:end].endswith(" 8") for line in lines[2:])


@pytest.mark.parametrize("width", [20, 50, 60, 200])
def test_columns_that_do_not_fit_follow_below(width, monkeypatch):
    """Every column once and in order, none wider than the terminal unless it is alone, and the same text where all fit."""
    table = tabulate(pd.concat({"one": compared(), "two": compared()}), "words")
    parts = [*table.fitted(width)]
    assert [head for part in parts for head in part.heads] == table.heads
    assert [part.caption for part in parts] == ["words", *[""] * (len(parts) - 1)]
    for part in parts:
        assert len(part.heads) == 1 or max(map(len, repr(part).splitlines())) <= width
        assert [row[0] for row in part.rows] == [row[0] for row in table.rows]
    monkeypatch.setenv("COLUMNS", str(width))
    assert str(table).split() == [word for part in parts for word in repr(part).split()] and (str(table) == repr(table)) == (width == 200)


def test_each_part_is_as_full_as_it_can_be():
    table = tabulate(pd.DataFrame([[1] * 6], ["row"], list("abcdef")), "w")
    assert [[len(part.heads) for part in table.fitted(width)] for width in (8, 9, 11, 12)] == [[1] * 6, [2] * 3, [2] * 3, [3] * 2]


def test_without_an_interval_none_is_announced():
    alone = Estimate(0.5, math.nan, math.nan)
    table = pd.DataFrame({"x": [alone, alone], "y": [alone, Estimate(0.5, 0.4, 0.6)]})
    assert [head for (head,) in tabulate(table, "w", rows="row").heads] == ["x", "y (±\u00a095\u00a0%)"]
    assert repr(tabulate(table.iloc[:0], "nothing yet", rows="row")).startswith("nothing yet")


def test_a_table_is_html_that_can_be_heard():
    table = compared()
    page = parsed(tabulate(pd.concat({"one": table, "two": table}, names=["world", "scheme"]), "a < b", draw=math.inf))
    assert page.caption.text == "a < b" == page.div["aria-label"] and page.div["tabindex"] == "0"
    assert len(page.select('th[scope="row"]')) == 4 and len(page.select('th[scope="rowgroup"]')) == 2
    assert len(page.select('th[scope="col"]')) == 5 and not page.select("th:not([scope])")
    assert len({len(row.select("th, td")) for row in page.select('tr:has(th[scope="row"]), thead tr')}) == 1
    assert len(page.select("svg")) == 2 and "nan" not in str(page).lower()


def test_columns_in_groups_span_their_columns():
    names = pd.MultiIndex.from_tuples([("up", "H"), ("up", "I"), ("down", "H")])
    table = tabulate(pd.DataFrame([[1, 2, 3], [4, 5, 6]], columns=names).rename_axis("layer"), "groups")
    page = parsed(table)
    assert [(t.text, t["colspan"]) for t in page.select('th[scope="colgroup"]')] == [("up", "2"), ("down", "1")]
    over, under = str(table).splitlines()[1:3]
    assert over.index("down") <= under.rindex("H") <= over.index("down") + 4


def test_the_index_is_shown_where_it_says_something():
    frame = pd.DataFrame({"world": ["a", "b"], "n": [1, 2]})
    assert [t.text for t in parsed(tabulate(frame, "w")).select("th[scope=row]")] == ["a", "b"]
    assert [t.text for t in parsed(tabulate(frame.rename_axis("seed"), "w")).select("th[scope=row]")] == ["0", "1"]
    few = tabulate(frame.assign(world=["one", "two"], x=0.5).set_index(["world", "n"]), "groups of one have no heading")
    assert [t.text for t in parsed(few).select("th[scope=row]")] == ["one, 1", "two, 2"] and few.corner == "world, n"
    series = tabulate(pd.Series({"a": 1.5, "b": math.nan}, name="nats"), "w", rows="what")
    assert str(series).splitlines()[1:] == ["what  nats", "a     1.50", "b        –"]


def test_rows_stand_under_as_many_headings_as_have_two_rows_each():
    index = pd.MultiIndex.from_product([["one", "two"], ["up", "down"], [1, 2]], names=["world", "way", "n"])
    whole = tabulate(pd.DataFrame({"x": range(8)}, index), "w")
    assert whole.corner == "n" and [words for words, _ in whole.blocks] == ["one, up", "one, down", "two, up", "two, down"]
    assert [row[0] for row in whole.rows] == 4 * ["1", "2"]
    half = tabulate(pd.DataFrame({"x": range(4)}, index[::2]), "w")
    assert half.corner == "way, n" and [words for words, _ in half.blocks] == ["one", "two"] and half.rows[0][0] == "up, 1"
    known = tabulate(pd.DataFrame({"x": [1, 2]}, pd.MultiIndex.from_product([[False], ["up", "down"]], names=["bias", "way"])), "w")
    assert [words for words, _ in known.blocks] == ["bias no"]


def test_digits_are_given_for_all_columns_or_some():
    frame = pd.DataFrame({"world": ["a"], "x": [0.12345], "y": [0.12345]})
    assert str(tabulate(frame, "w", digits=1)).split()[-2:] == ["0.1", "0.1"]
    assert str(tabulate(frame, "w", digits={"y": ".0%"})).split()[-3:] == ["0.123", "12", "%"]
    assert str(tabulate(frame, "w", digits=lambda v: f"<{v:.1f}>" if isinstance(v, float) else v)).split()[-1] == "<0.1>"


def test_a_table_is_the_same_each_time():
    table = compared()
    one, two = (tabulate(table.copy(), "words") for _ in range(2))
    assert isinstance(one, Printed) and one == two and one._repr_html_() == two._repr_html_()
