"""Docstrings of public names say what a caller has to know, and every example in them runs."""

import ast
import doctest
import inspect
import pkgutil
from importlib import import_module
from pathlib import Path

import pytest
import torch
from test_images import alone, here, small  # noqa: F401

import helmholtz_mim

MODULES = sorted(
    found.name
    for found in pkgutil.walk_packages(helmholtz_mim.__path__, "helmholtz_mim.")
    if not found.name.split(".")[-1].startswith("_")
)


def of_constants(module):
    """The text below each table of a module, by name: the docstring that a table cannot have."""
    body = ast.parse(Path(module.__file__).read_text(encoding="utf-8")).body
    for node, below in zip(body, body[1:]):
        if isinstance(below, ast.Expr) and isinstance(below.value, ast.Constant):
            if isinstance(node, (ast.Assign, ast.AnnAssign)):
                target = node.targets[0] if isinstance(node, ast.Assign) else node.target
                yield ast.unparse(target), inspect.cleandoc(below.value.value)


def docstring(name):
    """What `help` shows of a public name; of a table what stands below it."""
    thing = getattr(helmholtz_mim, name)
    if isinstance(thing, dict):
        return dict(of_constants(import_module(f"helmholtz_mim.{helmholtz_mim._HOME[name]}"))).get(name, "")
    return inspect.getdoc(thing) or ""


def names():
    """What an example may use: torch, and what `from helmholtz_mim import *` brings."""
    return {"torch": torch} | {name: getattr(helmholtz_mim, name) for name in helmholtz_mim.__all__}


def examples(module):
    """The docstrings of a module that have examples."""
    found = doctest.DocTestFinder().find(module, globs=names())
    parser = doctest.DocTestParser()
    tables = [parser.get_doctest(text, names(), name, module.__file__, 0) for name, text in of_constants(module)]
    return [test for test in [*found, *tables] if test.examples]


def failures(test):
    """How many examples of a docstring fail, and what was said about them."""
    said = []
    return doctest.DocTestRunner(verbose=False).run(test, out=said.append).failed, "".join(said)


@pytest.mark.parametrize("name", MODULES)
def test_examples_run(name, here, single_precision, tmp_path, monkeypatch):  # noqa: F811
    monkeypatch.chdir(tmp_path)  # where examples leave their files
    for test in examples(import_module(name)):
        failed, said = failures(test)
        assert not failed, said


def test_an_example_that_is_wrong_is_noticed():
    for text, wrong in {">>> entropy(torch.ones(1)).item() == 0\nTrue": 0, ">>> 1 + 1\n3": 1, ">>> trian()": 1}.items():
        test = doctest.DocTestParser().get_doctest(text, names(), "text", None, 0)
        assert failures(test)[0] == wrong


def lacks(text):
    """What is missing in the docstring of a public name."""
    first, _, rest = text.partition("\n\n")
    said, _, shown = rest.partition(">>> ")
    parts = {"a first line": first, "more than its first line": said.strip(), "an example": shown}
    return [part for part, there in parts.items() if not there]


@pytest.mark.parametrize("name", helmholtz_mim.__all__)
def test_public_names_say_more_than_a_line_and_show_an_example(name):
    text = docstring(name)
    assert not lacks(text), f"{name} lacks {' and '.join(lacks(text))}"
    module = import_module(f"helmholtz_mim.{helmholtz_mim._HOME[name]}")
    assert text in [inspect.cleandoc(test.docstring) for test in examples(module)], "an example that no test runs"


def test_what_a_docstring_lacks_is_noticed():
    assert lacks("") == ["a first line", "more than its first line", "an example"]
    assert lacks("One line.\n\n>>> 1\n1") == ["more than its first line"]
    assert lacks("One line.\n\nWhat it takes.") == ["an example"]
    assert lacks("One line.\n\nWhat it takes.\n\n>>> 1\n1") == []
