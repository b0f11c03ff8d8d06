"""How much of what the chapters define do they show, and assert, at once?

An exported function or class is *shown* if in one of the next three code cells its name, or a variable made or changed by it
there, stands in what leaves an output (the last expression, print, display, or a figure), and *asserted* if it stands in an
assertion there. Names with an underscore in front and methods do not count.

usage: python tools/ruler.py [--missing] [notebook ...]
"""

import ast
import json
import re
import sys
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

WITHIN = 3
EXPORT = re.compile(r"^#\|\s*exports?\s*$", re.M)
FIGURE = re.compile(r"\b(plt|fig|ax|axes)\b|\b(plot|draw)_\w+\(")


class Export(NamedTuple):
    name: str
    shown: bool
    asserted: bool


def code_cells(path: Path) -> list[str]:
    """The sources of a notebook's code cells, without magics."""
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    sources = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    return [re.sub(r"^\s*[%!].*$", "", source, flags=re.M) for source in sources]


def definitions(source: str) -> list[str]:
    """Functions and classes that a cell exports."""
    if not EXPORT.search(source):
        return []
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    return [node.name for node in ast.parse(source).body if isinstance(node, kinds) and not node.name.startswith("_")]


def called(node: ast.AST) -> str:
    """The name of the function that an expression calls, without what stands before its dot."""
    function = node.func if isinstance(node, ast.Call) else None
    return getattr(function, "id", getattr(function, "attr", ""))


class Uses:
    """What a cell shows and asserts: every name stands for itself, and for what its value was made or changed by."""

    def __init__(self, source: str):
        self.made_by: dict[str, set[str]] = defaultdict(set)
        self.shown: set[str] = set()
        self.asserted: set[str] = set()
        body = ast.parse(source).body
        self.follow(body)
        if body and isinstance(body[-1], ast.Expr) and not source.rstrip().endswith(";"):
            self.shown |= self.behind(body[-1])
        if FIGURE.search(source) and not EXPORT.search(source):
            self.shown |= {node.id for node in ast.walk(ast.Module(body, [])) if isinstance(node, ast.Name)}

    def behind(self, *nodes: ast.AST | None) -> set[str]:
        """The names in expressions, and what stands behind them."""
        names = {n.id for node in nodes if node for n in ast.walk(node) if isinstance(n, ast.Name)}
        return names.union(*(self.made_by[name] for name in names))

    def bind(self, target: ast.AST | None, *values: ast.AST | None) -> None:
        """Every variable in a target is made by what stands in the values."""
        names = self.behind(*values)
        for node in ast.walk(target) if target else ():
            if isinstance(node, ast.Name):
                self.made_by[node.id] |= names

    def follow(self, body: list[ast.stmt]) -> None:
        for node in body:
            match node:
                case ast.Assert():
                    self.asserted |= self.behind(node.test)
                case ast.Assign(targets=[ast.Name("_")], value=value) | ast.Expr(value=value):
                    self.call(value)
                case ast.Assign():
                    for target in node.targets:
                        self.bind(target, node.value)
                case ast.AugAssign() | ast.AnnAssign():
                    self.bind(node.target, node.value)
                case ast.FunctionDef():
                    self.made_by[node.name] |= self.behind(*node.body)
                case ast.ClassDef():
                    self.made_by[node.name] |= self.behind(*node.bases, *node.body)
                case ast.For():
                    self.bind(node.target, node.iter)
                case ast.With():
                    for item in node.items:
                        self.bind(item.optional_vars, item.context_expr)
            if not isinstance(node, (ast.FunctionDef, ast.ClassDef)):
                for part in ("body", "handlers", "orelse", "finalbody"):
                    self.follow(getattr(node, part, []))

    def call(self, value: ast.expr) -> None:
        """A call whose result is not kept: it says something, asserts something, or changes its arguments."""
        if called(value) in ("print", "display"):
            self.shown |= self.behind(value)
        elif called(value).startswith("assert"):
            self.asserted |= self.behind(value)
        elif isinstance(value, ast.Call):
            for argument in value.args:
                if isinstance(argument, ast.Name):
                    self.made_by[argument.id] |= self.behind(value.func)


def measured(path: Path) -> list[Export]:
    """The exports of a chapter, in their order."""
    sources = code_cells(path)
    uses = [Uses(source) for source in sources]
    exports = []
    for i, source in enumerate(sources):
        next_cells = uses[i + 1 : i + 1 + WITHIN]
        for name in definitions(source):
            exports.append(Export(name, any(name in u.shown for u in next_cells), any(name in u.asserted for u in next_cells)))
    return exports


def row(title: str, exports: list[Export]) -> str:
    shares = (sum(values) / max(len(exports), 1) for values in ([e.shown for e in exports], [e.asserted for e in exports]))
    return f"{title:16}{len(exports):8}" + "".join(f"{share:10.0%}" for share in shares)


def main(arguments: list[str]) -> None:
    names = [a for a in arguments if a != "--missing"]
    paths = [Path(name) for name in names] or sorted(Path("nbs").glob("[0-9]*.ipynb"))
    chapters = {path.stem: measured(path) for path in paths}
    print(f"{'chapter':16}{'exports':>8}{'shown':>10}{'asserted':>10}")
    for stem, exports in chapters.items():
        print(row(stem, exports))
        if "--missing" in arguments:
            for export in exports:
                lacks = [what for what in ("shown", "asserted") if not getattr(export, what)]
                if lacks:
                    print(f"    {export.name}: not {', not '.join(lacks)}")
    print(row("all", [export for exports in chapters.values() for export in exports]))


if __name__ == "__main__":
    main(sys.argv[1:])
