"""What runs chapters and tests: a failing chapter keeps what it had and is named, the book is built all the same."""

import gzip
import json
import os
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
from conftest import chosen_seeds
from nbformat import v4

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tools"))
import clean_nbs
import execute
import mutants
import results
import ruler
from helmholtz_mim.experiments import comparison, rivals
from helmholtz_mim.measures.exact import exact_report


def notebook(path, *sources):
    """A notebook of these cells, each with a stored output."""
    outputs = [v4.new_output("stream", name="stdout", text="stored\n")]
    cells = [v4.new_code_cell(source, id=f"cell-{i}", outputs=outputs) for i, source in enumerate(sources)]
    nbformat.write(v4.new_notebook(cells=cells), path)
    return path.read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def executed(tmp_path_factory):
    """A folder with a chapter that passes and one that fails, after their execution, what the latter was, and the run."""
    folder = tmp_path_factory.mktemp("book")
    (folder / "nbs").mkdir()
    notebook(folder / "nbs/01_good.ipynb", "print('fresh')")
    before = notebook(folder / "nbs/02_bad.ipynb", "print('fresh')", "#| export\nassert 1 > 2, 'one is\\nnot more'", "print(3)")
    line = [sys.executable, ROOT / "tools/execute.py", "nbs"]
    return folder, before, subprocess.run(line, cwd=folder, capture_output=True, text=True)


def test_a_chapter_that_passes_shows_what_it_has_made(executed):
    folder, _, run = executed
    good = nbformat.read(folder / "nbs/01_good.ipynb", as_version=4)
    assert good.cells[0].outputs[0].text == "fresh\n" and "[2/2]" in run.stdout


def test_a_chapter_that_fails_keeps_its_stored_results_and_is_named(executed):
    folder, before, run = executed
    assert (folder / "nbs/02_bad.ipynb").read_text(encoding="utf-8") == before
    told = (folder / "_build/failed.txt").read_text(encoding="utf-8")
    assert run.returncode == 1 and run.stdout.endswith(told) and "01_good" not in told
    assert told == (
        "02_bad shows stored results, since it failed in cell 2 (cell-1): assert 1 > 2, 'one is\\nnot more'\n    not more\n"
    )


def test_the_seconds_of_every_chapter_are_kept(executed):
    seconds = json.loads((executed[0] / "_build/seconds.json").read_text())
    assert seconds.keys() == {"01_good", "02_bad"} and all(0 < s < 60 for s in seconds.values())


def test_chapters_beyond_their_minute_are_named():
    table = execute.times({"quick": execute.Outcome(3), "slow": execute.Outcome(61), "slower": execute.Outcome(400)})
    order = [line.split()[-1] for line in table.splitlines()[:3]]
    assert order == ["slower", "slow", "quick"] and table.endswith("machine: slower, slow")
    assert "machine" not in execute.times({"quick": execute.Outcome(60)})


@pytest.mark.parametrize("status", [0, 1])
def test_the_book_is_built_whether_or_not_every_chapter_passes(status, tmp_path):
    """With programs in the place of Python and of jupyter-book that only leave a trace."""
    tools, told = tmp_path / ".venv/bin", "02_bad shows stored results"
    for folder in (tools, tmp_path / "nbs", tmp_path / "_build"):
        folder.mkdir(parents=True)
    shutil.copy(ROOT / "Makefile", tmp_path)
    (tmp_path / "requirements-dev.lock").write_text("torch==0\n")
    (tmp_path / "settings.ini").write_text("min_python = 3.11\n")
    (tools / "python").write_text(f"#!/bin/sh\n[ {status} = 0 ] || echo '{told}' > _build/failed.txt\nexit {status}\n")
    (tools / "jupyter-book").write_text("#!/bin/sh\ntouch built\n")
    for program in tools.iterdir():
        program.chmod(0o755)
    line = ["make", "--old-file", ".venv/ready", "book"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    run = subprocess.run(line, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert (tmp_path / "built").exists() and "The book is ready" in run.stdout
    assert bool(run.returncode) == bool(status) == (told in run.stdout)


def test_the_tests_of_chapters_tell_which_take_longer_than_their_minute(pytestconfig, monkeypatch, tmp_path):
    """The hooks of the notebooks' own conftest.py, given reports of cells."""
    from importlib import util
    from types import SimpleNamespace

    spec = util.spec_from_file_location("notebooks", ROOT / "conftest.py")
    hooks = util.module_from_spec(spec)
    spec.loader.exec_module(hooks)
    cells = [("nbs/01_slow.ipynb::Cell 0", 40), ("nbs/01_slow.ipynb::Cell 1", 21), ("nbs/02.ipynb::Cell 0", 59), ("tests/t.py::t", 99)]
    for nodeid, duration in cells:
        hooks.pytest_runtest_logreport(SimpleNamespace(nodeid=nodeid, duration=duration))
    lines = []
    reporter = SimpleNamespace(write_line=lambda text, **markup: lines.append(text))
    hooks.pytest_terminal_summary(reporter, SimpleNamespace(rootpath=tmp_path))
    assert lines == ["01_slow took 61 s, longer than its 60: shorten it"]
    assert json.loads((tmp_path / "_build/tested.json").read_text()) == {"01_slow": 61, "02": 59}


@pytest.mark.parametrize("choice, seeds", [("all", [*range(20)]), ("7", [7])])
def test_seeds_are_chosen_from_outside(choice, seeds, monkeypatch):
    monkeypatch.setenv("TEST_SEED", choice)
    assert chosen_seeds() == seeds


def test_one_seed_is_fixed_unless_another_is_asked_for(monkeypatch):
    monkeypatch.delenv("TEST_SEED", raising=False)
    assert chosen_seeds() == [0]


VIEW, STATE = clean_nbs.VIEW, clean_nbs.STATE


def stored(*outputs):
    """A notebook of these outputs, and the state of an album (a box, a picture, a link) beside that of a figure."""
    album, picture, figure, link, broken = (letter * 32 for letter in "abcde")
    models = {
        album: {"model_name": "VBoxModel", "state": {"children": [f"IPY_MODEL_{picture}"]}},
        picture: {"model_name": "HTMLModel", "state": {"value": "<img>"}},
        figure: {"model_name": "AnyModel", "state": {"_esm": "export default {}"}},
        link: {"model_name": "LinkModel", "state": {"source": [f"IPY_MODEL_{album}", "x"], "target": [f"IPY_MODEL_{picture}", "y"]}},
        broken: {"model_name": "LinkModel", "state": {"source": [f"IPY_MODEL_{figure}", "x"], "target": [f"IPY_MODEL_{picture}", "y"]}},
    }
    views = {"album": {VIEW: {"model_id": album}}, "figure": {"text/html": "<div>", VIEW: {"model_id": figure}}}
    cells = [{"outputs": [{"data": dict(views[name])}]} for name in outputs]
    return {"cells": cells, "metadata": {"widgets": {STATE: {"state": models}}}}


def test_of_widgets_only_what_is_shown_is_stored():
    notebook = clean_nbs.stored_form(stored("figure", "album"))
    assert set(notebook["metadata"]["widgets"][STATE]["state"]) == {letter * 32 for letter in "abd"}
    figure, album = (cell["outputs"][0]["data"] for cell in notebook["cells"])
    assert set(figure) == {"text/html"} and set(album) == {VIEW}


def test_of_figures_that_bring_a_page_no_widget_is_stored():
    assert clean_nbs.stored_form(stored("figure"))["metadata"] == {}


DIFF = """--- rule.py
+++ rule.py
@@ -1,3 +1,3 @@
 def pairs(x, y):
-    return zip(x, y, strict=True)
+    return zip(x, y, {})
"""


def survivor(name, changed):
    return mutants.Mutant(name, *mutants.changed(DIFF.format(changed)))


def test_a_change_that_no_test_can_notice_has_a_reason():
    alike, other = survivor("x_pairs__mutmut_1", "strict=False"), survivor("x_pairs__mutmut_2", "None")
    assert alike.before == "return zip(x, y, strict=True)" and alike.after == "return zip(x, y, strict=False)"
    assert alike.reason and survivor("x_pairs__mutmut_3", "").reason and not other.reason


def test_the_report_on_mutants_counts_what_could_be_noticed():
    alike, missed = survivor("a", "strict=False"), survivor("b", "None")
    text = mutants.told({"rule": {"a": 0, "b": 0, "c": 1, "d": 33, "e": -24}, "wake": {"f": 1}}, [alike, missed])
    head, _, rest = text.partition("\n\n")
    assert [" ".join(line.split()) for line in head.splitlines()] == [
        "rule 66.7% of 3 noticed; 1 alike, 1 never called",
        "wake 100.0% of 1 noticed; 0 alike, 0 never called",
        "all 75.0% of 4 noticed; 1 alike, 1 never called",
    ]
    assert rest.index("NOT NOTICED") < rest.index(str(missed)) < rest.index("ALIKE") < rest.index(str(alike))


def test_what_mutants_are_made_of_is_there():
    options = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["mutmut"]
    wanted = [*options["only_mutate"], *options["also_copy"], *options["pytest_add_cli_args_test_selection"]]
    assert not [pattern for pattern in wanted if not any(ROOT.glob(pattern))]


CHAPTER = [
    "#| export\ndef shown(): ...\ndef asserted_(x): ...\ndef _private(): ...\nclass Both:\n    def method(self): ...\n",
    "#| export\ndef late(): ...\nCONSTANT = 3\ndef drawn(): ...\ndef axis(ax): return shown\n",
    "table = Both()\nassert table.method() == 3\nfor row in table:\n    print(row)\n",
    "x = 1\nasserted_(x)\nassert x\nshown()",
    "drawn();",
    "fig, ax = plt.subplots()\n_ = ax.plot(drawn())",
    "late()\n",
]


def test_the_ruler_says_which_exports_are_shown_and_asserted(tmp_path):
    notebook(tmp_path / "01_one.ipynb", *CHAPTER)
    found = {export.name: (export.shown, export.asserted) for export in ruler.measured(tmp_path / "01_one.ipynb")}
    expected = {"shown": (True, False), "asserted_": (False, True), "Both": (True, True), "late": (False, False), "axis": (False, False)}
    assert found == expected | {"drawn": (False, False)}, "the fourth code cell is too late"
    notebook(tmp_path / "01_one.ipynb", *CHAPTER[:4], CHAPTER[5])
    assert ruler.measured(tmp_path / "01_one.ipynb")[-2] == ("drawn", True, False)


def test_a_class_stands_for_its_bases(tmp_path):
    notebook(tmp_path / "01_one.ipynb", "#| export\nclass Base:\n    pass", "class Heir(Base):\n    pass\n\n\nassert Heir()\nHeir()")
    assert ruler.measured(tmp_path / "01_one.ipynb") == [("Base", True, True)]


def test_the_ruler_lists_chapters_a_total_and_what_is_missing(tmp_path, capsys):
    notebook(tmp_path / "01_one.ipynb", *CHAPTER)
    ruler.main(["--missing", str(tmp_path / "01_one.ipynb")])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1].split() == ["01_one", "6", "33%", "33%"] and lines[-1].split() == ["all", "6", "33%", "33%"]
    assert "    late: not shown, not asserted" in lines and "    shown: not asserted" in lines
    assert not any(line.strip().startswith(("Both", "_private", "method", "CONSTANT")) for line in lines)


@pytest.fixture
def tiny(tmp_path, monkeypatch):
    """One part of one short run, which has been made once; its table."""
    runs = [comparison.Run(epochs=1, batch=905, seeds=1)]
    monkeypatch.setitem(rivals.EXPERIMENTS, "noise", (lambda: runs, exact_report))
    monkeypatch.setattr(results, "STORED", tmp_path / "results")
    monkeypatch.setattr(results, "BESIDE", tmp_path / "beside")
    assert results.main(["noise"]) == 0
    (table,) = (tmp_path / "results/noise").iterdir()
    return table


def test_results_made_again_are_as_stored(tiny, capsys):
    assert results.main(["noise", "--check"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("noise: 1 runs, ") and "as stored" in told and not list(results.BESIDE.iterdir())


def test_a_result_that_differs_is_named_by_a_check_and_otherwise_replaced(tiny, capsys):
    good, stale = tiny.read_bytes(), tiny.with_name("stale.csv.gz")
    tiny.write_bytes(gzip.compress(gzip.decompress(good).replace(b"1", b"2")))
    stale.write_bytes(good)
    bad = tiny.read_bytes()
    assert results.main(["noise", "--check"]) == 1
    assert "2 files differ\n" in (told := capsys.readouterr().out) and f"noise/{tiny.name}" in told and "noise/stale.csv.gz" in told
    assert tiny.read_bytes() == bad and stale.exists()
    assert results.main(["noise"]) == 0
    assert tiny.read_bytes() == good and not stale.exists()


def test_how_a_result_is_packed_is_no_difference(tiny):
    tiny.write_bytes(gzip.compress(gzip.decompress(tiny.read_bytes()), 1, mtime=7))
    assert results.main(["noise", "--check"]) == 0


def test_results_that_were_interrupted_go_on_unless_the_code_has_changed(tiny, monkeypatch):
    shutil.copytree(tiny.parent, results.beside() / "noise")
    monkeypatch.setattr(comparison, "execute", None)  # not to be called again
    assert results.main(["noise", "--check"]) == 0
    shutil.copytree(tiny.parent, results.beside() / "noise")
    monkeypatch.setattr(results, "ROOT", results.BESIDE)
    with pytest.raises(ValueError, match="not callable"):
        results.main(["noise", "--check"])


def test_a_part_that_is_none_is_refused(capsys):
    with pytest.raises(SystemExit):
        results.main(["nose"])
    assert "there is no part nose" in capsys.readouterr().err


@pytest.mark.parametrize("line, called", [([], ""), (["CHECK=1"], "--check"), (["PARTS=noise"], "noise")])
def test_results_are_made_by_one_command(line, called):
    command = ["make", "--dry-run", "--old-file", ".venv/ready", "results", *line]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MAKE")}
    told = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True).stdout
    assert told.split() == [".venv/bin/python", "tools/results.py", *called.split()]
