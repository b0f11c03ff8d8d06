"""A machine cut over ranks: the figure's bytes and seconds are Python's, and each sentence beside it leads to its state."""

import ast
import base64
import json
import re
from pathlib import Path

import pytest

from helmholtz_mim.engines.rows import asked_of_a_rank, step_seconds
from helmholtz_mim.engines.spread import bits_sent, gradients_sent
from helmholtz_mim.ranks import Ranks
from helmholtz_mim.interactive.gallery import cut_machine
from helmholtz_mim.interactive.page import source

COSTS, NETWORKS = (2e-11, 2e-9, 4e-4, 1e-9), {1: 5e-5, 10: 2e-5, 100: 5e-6}
WORDS = "Four [ranks](). A [narrow one](width=64,batch=10000,ranks=16,cut=rows) at [100 gigabits](network=100)."
MACHINES = [(784, 512, 512, 256), (33, 17, 20), (4096,) * 4]


@pytest.fixture(scope="module")
def page(browser, tmp_path_factory):
    """The figure from a file, with the functions of ranks.js as `ranks`."""
    path = tmp_path_factory.mktemp("cuts") / "page.html"
    path.write_text(cut_machine(COSTS, NETWORKS, WORDS).page(), encoding="utf-8")
    page, complaints = browser.new_page(), []
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(path.as_uri() + "#cut_machine.ranks=7&cut_machine.width=96&cut_machine.cut=neither")
    text = base64.b64encode(source("ranks").encode()).decode()
    page.evaluate("async (text) => (window.ranks = await import(`data:text/javascript;base64,${text}`), 0)", text)
    yield page
    page.close()
    assert not complaints


@pytest.mark.parametrize("sizes", MACHINES)
def test_same_machine_same_bytes_same_time(page, sizes):
    cuts = [(1, 1), (2, 1), (1, 2), (16, 1), (1, 16), (7, 1), (1, 7), (4, 4)]
    for units, rows in cuts:
        batch = 16 * 25
        asked = page.evaluate("([sizes, ...cut]) => ranks.askedOfARank(sizes, ...cut)", [sizes, batch, units, rows])
        assert asked == pytest.approx(asked_of_a_rank(sizes, batch, units, rows), rel=1e-12)
        call = "([sizes, ...more]) => ranks.stepSeconds(sizes, ...more)"
        seconds = page.evaluate(call, [sizes, batch, units, rows, COSTS, NETWORKS[10], 10])
        python = step_seconds(sizes, batch, units, rows, costs=COSTS, latency=NETWORKS[10], gigabits=10)
        assert seconds == pytest.approx(python, rel=1e-12)
    for count in range(1, 17):
        assert page.evaluate("([sizes, n]) => ranks.bitsSent(sizes, 100, 24, n)", [sizes, count]) == bits_sent(sizes, 100, 24, count)
        assert page.evaluate("([sizes, n]) => ranks.gradientsSent(sizes, n)", [sizes, count]) == gradients_sent(sizes, count)
        owners = page.evaluate("([n, count]) => Array.from({ length: n }, (_, k) => ranks.owner(k, n, count))", [sizes[1], count])
        assert owners == [rank for rank, own in enumerate(Ranks(0, count).blocks(sizes[1])) for _ in range(own.stop - own.start)]


def shown(page):
    """The rows of the table, and what the figure says of itself in Python."""
    return page.locator(".cuts-table tbody tr").all_inner_texts(), page.locator(".cuts-python code").inner_text()


def test_the_address_and_the_sentences_are_states(page):
    """What may not be in the address is left out; a sentence begins from the first state."""
    rows, python = shown(page)
    assert python == "cut_machine(…, ranks=7)" and len(rows) == 3
    assert page.locator(".cuts [fill]").count() == 14
    page.get_by_role("link", name="narrow one").click()
    rows, python = shown(page)
    assert python == 'cut_machine(…, width=64, batch=10000, ranks=16, cut="rows")'
    kilobytes = gradients_sent((64,) * 4, 16) / 1e3
    assert f"{kilobytes:.0f} kB" in rows[2] and page.locator(".cuts-table tr.chosen").inner_text() == rows[2]
    page.wait_for_function("location.hash.includes('cut_machine.cut=rows')")
    page.get_by_role("link", name="100 gigabits").click()
    assert shown(page)[1] == "cut_machine(…, network=100)"
    megabytes = gradients_sent((512,) * 4, 4) / 1e6
    assert f"{megabytes:.3g} MB" in shown(page)[0][2]
    page.get_by_role("radio", name="rows").check()
    assert page.locator("tr.chosen").inner_text().startswith("rows: gradients")


def test_every_sentence_of_the_chapter_leads_to_a_state_that_there_is():
    (chapter,) = Path(__file__).parent.parent.glob("nbs/*_cuts.ipynb")
    chapter = json.loads(chapter.read_text(encoding="utf-8"))
    (cell,) = ["".join(c["source"]) for c in chapter["cells"] if "WORDS = (" in "".join(c["source"])]
    words = ast.literal_eval(cell[cell.index("WORDS = (") + 8 :].split("\nsizes")[0])
    links = re.findall(r"\]\(([^)]*)\)", words)
    assert len(links) == 6
    for link in filter(None, links):
        pairs = (pair.split("=") for pair in link.split(","))
        cut_machine(COSTS, NETWORKS, **{name: value if name == "cut" else int(value) for name, value in pairs})
