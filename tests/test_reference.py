"""The appendices that list things list all of them, in the order of the book."""

import json
import re
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest
import yaml

import helmholtz_mim

ROOT = Path(__file__).parent.parent
PARTS = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))["parts"]
BOOK = [Path(chapter["file"]).stem for part in PARTS for chapter in part["chapters"]]


def notebook(stem):
    return json.loads((ROOT / f"nbs/{stem}.ipynb").read_text(encoding="utf-8"))["cells"]


def exported(stem):
    """The module that a chapter exports, if any."""
    text = "\n".join("".join(cell["source"]) for cell in notebook(stem))
    found = re.search(r"^#\| default_exp ([\w.]+)", text, re.M)
    return found and f"helmholtz_mim.{found[1]}"


@pytest.fixture(scope="module")
def listed():
    """What stands first in the rows of the stored tables of the reference, without parameters."""
    outputs = [output for cell in notebook("reference") for output in cell.get("outputs", [])]
    text = "\n".join("".join(output.get("data", {}).get("text/markdown", "")) for output in outputs)
    return set(re.findall(r"^\| `(\.?\w+)", text, re.M))


STALE = "run `make run CHAPTERS=nbs/reference.ipynb`"


def test_every_public_name_is_in_the_reference(listed):
    public = {name for name in helmholtz_mim.__all__ if not isinstance(getattr(helmholtz_mim, name), ModuleType)}
    assert len(public) > 40 and public <= listed, f"{STALE} for {sorted(public - listed)}"


@pytest.mark.parametrize("name", [module for stem in BOOK if (module := exported(stem))])
def test_every_name_of_a_module_is_in_the_reference(name, listed):
    missing = set(import_module(name).__all__) - listed
    assert not missing, f"{STALE} for {sorted(missing)}"


def test_methods_of_public_classes_are_in_the_reference(listed):
    assert {".learn_", ".log_prob", ".randomise_", ".replica", ".entropy", ".scores", ".usual"} <= listed
    assert ".extra_repr" not in listed, "what nobody has documented here"


def glossary():
    """Terms of the glossary with the chapters that explain them."""
    text = "\n\n".join("".join(c["source"]) for c in notebook("glossary") if c["cell_type"] == "markdown")
    return re.findall(r"^(\S.*)\n: (.*?) \(\[chapter (\d+\w?)\]\((\w+)\)\)$", text, re.M)


def test_terms_come_in_the_order_in_which_a_reader_meets_them():
    chapters = [stem for *_, stem in glossary()]
    assert len(chapters) > 50 and [BOOK.index(stem) for stem in chapters] == sorted(map(BOOK.index, chapters))


@pytest.mark.parametrize("term, words, number, stem", glossary(), ids=lambda text: text[:20])
def test_a_term_is_said_once_and_links_its_chapter(term, words, number, stem):
    assert stem.split("_")[0].lstrip("0") == number and words.endswith((".", ".)"))
    assert [other for other, *_ in glossary()].count(term) == 1


def test_every_definition_is_read_here():
    text = "\n".join("".join(cell["source"]) for cell in notebook("glossary"))
    assert text.count("\n: ") == len(glossary())


def test_the_first_page_cites_what_the_citation_file_does():
    page = "\n".join("".join(cell["source"]) for cell in notebook("index"))
    found = re.findall(r"^@(\w+)\{(.*?)^\}", page, re.M | re.S)
    entries = {kind: re.sub(r"[{}\\]", "", body) for kind, body in found}
    file = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    thesis = next(work for work in file["references"] if work["type"] == "thesis")
    assert file["title"] in entries["software"] and f"version = {helmholtz_mim.__version__}," in entries["software"]
    assert file["version"] == helmholtz_mim.__version__ and file["authors"][0]["name"] in entries["software"]
    assert thesis["title"] in entries["phdthesis"] and f"year   = {thesis['year']}," in entries["phdthesis"]
