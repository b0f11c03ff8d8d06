"""What must hold of the notebooks and of the package as texts."""

import ast
import json
import re
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from helmholtz_mim.tables import tabulate

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "helmholtz_mim"
NOTEBOOKS = sorted((ROOT / "nbs").glob("*.ipynb"))
CHAPTERS = [p for p in NOTEBOOKS if re.match(r"\d\d[a-z]?_", p.name)]
MODULES = sorted(p for p in PACKAGE.rglob("*.py") if p.name != "_modidx.py")
ROOMS = """
    arguments files reading elementary layers ranks patterns machine chains rule wake sleep streams protocol pushforward records tables
    store sweeps data rules methods engines training checkpoint measures figures interactive experiments commands cli
""".split()  # the wings of the house and the modules beside them: each may use those before it

each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
each_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=lambda p: p.stem)
each_module = pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))


def cells(path, kind):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    return [c | {"source": "".join(c["source"])} for c in notebook["cells"] if kind in ("any", c["cell_type"])]


def prose(path):
    """The Markdown of a notebook without its fenced code."""
    text = "\n\n".join(c["source"] for c in cells(path, "markdown"))
    return re.sub(r"^```(?!\{).*?^```\s*$", "", text, flags=re.M | re.S)


def dotted(node):
    """`torch.random.seed` for the syntax tree of that expression; '' where the chain starts otherwise."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def imported(tree):
    """Every module a syntax tree imports, as a dotted name; relative imports count as ours."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(filter(None, ["helmholtz_mim" if node.level else "", node.module]))
            yield from (f"{base}.{alias.name}" for alias in node.names) if base == "helmholtz_mim" else [base]


def exported_modules():
    """Modules in the order of the notebooks that export them."""
    sources = ((p, c["source"]) for p in NOTEBOOKS for c in cells(p, "code"))
    return [m[1] for _, s in sources if (m := re.search(r"^#\s*\|\s*default_exp\s+([\w.]+)", s, re.M))]


# The notebooks


def test_toc_lists_every_notebook_in_order():
    toc = yaml.safe_load((ROOT / "_toc.yml").read_text(encoding="utf-8"))
    listed = [toc["root"]] + [chapter["file"] for part in toc["parts"] for chapter in part["chapters"]]
    numbered = ["nbs/index", *(f"nbs/{p.stem}" for p in CHAPTERS)]
    assert listed[: len(numbered)] == numbered
    assert sorted(listed) == sorted(f"nbs/{p.stem}" for p in NOTEBOOKS)


@each_notebook
def test_notebook_is_small(path):
    assert path.stat().st_size <= 500_000


@each_notebook
def test_notebook_has_one_title(path):
    assert cells(path, "any")[0]["source"].startswith("# ")
    assert len(re.findall(r"^# ", prose(path), re.M)) == 1


@each_notebook
def test_notebook_ends_in_words(path):
    assert cells(path, "any")[-1]["cell_type"] == "markdown"


@each_chapter
def test_chapter_closes_with_takeaway_and_exercises(path):
    assert re.search(r"^:class:.*\btakeaway\b", prose(path), re.M)
    assert re.search(r"^##+ Exercises?\b", prose(path), re.M)


def shows_something(source):
    """Whether a cell ends in an expression that must leave an output; other calls may return None."""
    tree = ast.parse(re.sub(r"^\s*[%!].*$", "", source, flags=re.M))
    if not tree.body or not isinstance(tree.body[-1], ast.Expr) or source.rstrip().endswith(";"):
        return False
    value = tree.body[-1].value
    if isinstance(value, ast.Call):
        return dotted(value.func) in ("print", "display")
    return not isinstance(value, ast.Constant) or value.value is not None


@each_notebook
def test_outputs_are_stored(path):
    for cell in cells(path, "code"):
        assert not any(o["output_type"] == "error" for o in cell["outputs"]), cell["source"]
        skipped = "skip-execution" in cell["metadata"].get("tags", [])
        if not skipped and shows_something(cell["source"]):
            assert cell["outputs"], f"run the notebook; this cell shows nothing:\n{cell['source']}"


@each_notebook
def test_outputs_warn_of_nothing(path):
    for cell in cells(path, "code"):
        warned = [o["text"] for o in cell["outputs"] if o.get("name") == "stderr"]
        assert not warned, f"a reader would see this warning: {warned}"


RAW = re.compile(r"class=[\"']dataframe|\bdtype:|>NaN<|(?<![\w'\"])NaN(?!\w)")  # what only pandas prints


def raw_tables(path):
    """Cells of which a reader sees a table, or a series, as pandas shows it."""
    for cell in cells(path, "code"):
        shown = [text for o in cell["outputs"] for text in [*o.get("data", {}).values(), o.get("text", "")]]
        if any(RAW.search("".join(text)) for text in shown if isinstance(text, (str, list))):
            yield cell["id"]


@each_notebook
def test_tables_are_printed(path):
    assert not (raw := list(raw_tables(path))), f"print these with `tabulate`: {raw}"


def test_raw_tables_are_noticed():
    frame = pd.DataFrame({"a": [1.0, None]})
    for text in (frame._repr_html_(), repr(frame), repr(frame.a)):
        assert RAW.search(text)
    assert not RAW.search(tabulate(frame, "words")._repr_html_() + repr(tabulate(frame, "words")))


@each_notebook
def test_notebook_is_clean(path):
    assert all(c["execution_count"] is None for c in cells(path, "code")), "run `make export`"


def directives(cell):
    """The `#|` lines of a code cell, as nbdev reads them: name and words."""
    return [m.groups() for m in re.finditer(r"^#\s*\|\s*([\w-]+:?)[ \t]*(.*)$", cell["source"], re.M)]


@each_notebook
def test_folds_say_what_they_hold(path):
    for cell in cells(path, "code"):
        assert "hide-input" not in cell["metadata"].get("tags", []), f"write `#| fold what it holds`:\n{cell['source']}"
        for name, words in directives(cell):
            assert name != "fold:", f"without the colon, or nbdev leaves the line in the module: #| fold {words}"
            assert name != "fold" or (re.search(r"\w", words) and not re.search(r"\bshow\b", words, re.I)), words


@each_notebook
def test_cells_of_imports_are_folded(path):
    for cell in cells(path, "code"):
        body = ast.parse(re.sub(r"^\s*[%!].*$", "", cell["source"], flags=re.M)).body
        if body and all(isinstance(node, (ast.Import, ast.ImportFrom)) for node in body):
            assert "fold" in [name for name, _ in directives(cell)], cell["source"]


@each_notebook
def test_code_fits_88_columns(path):
    lines = (line for cell in cells(path, "code") for line in cell["source"].splitlines())
    long = [line for line in lines if len(line) > 88 and not line.startswith("#|")]
    assert not long, "a page at 1280 px shows 88 columns:\n" + "\n".join(long)


CHAPTER = re.compile(r"\[(?:chapters? )?(\d+)\]\((\d\d)_\w+(?:#[\w-]*)?\)", re.I)
ENTRY = re.compile(r"^@\w+{.*?^ *}$", re.M | re.S)  # of BibTeX


@each_notebook
def test_chapters_are_named_by_number_and_link(path):
    text = ENTRY.sub("", prose(path))
    wrong = [m[0] for m in CHAPTER.finditer(text) if int(m[1]) != int(m[2])]
    assert not wrong, f"the number of a chapter is that of its file: {wrong}"
    bare = re.findall(r".*\bchapters?\s+\d.*", CHAPTER.sub("", text), re.I)
    assert not bare, f"write [chapter N](NN_name): {bare}"


IMAGE = re.compile(r"!\[[^\]]*\]\(([^)\s]+)|<img[^>]*\ssrc=[\"']([^\"']+)|\{(?:figure|image)\}\s+(\S+)")


@pytest.mark.parametrize("path", [ROOT / "README.md", *NOTEBOOKS], ids=lambda p: p.stem)
def test_pictures_exist(path):
    text = prose(path) if path.suffix == ".ipynb" else path.read_text(encoding="utf-8")
    names = ["".join(found) for found in IMAGE.findall(text)]
    missing = [n for n in names if not re.match(r"\w+:", n) and not (path.parent / n).is_file()]
    assert not missing


# The package


def room(module):
    """The place in the house of `measures.exact`, or of `training`."""
    return ROOMS.index(module.split(".")[0])


def ours(path):
    """The modules of the package that a file of it imports, anywhere, without the name of the package."""
    package = path.relative_to(PACKAGE).parent.parts
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            name = ".".join([*base, *filter(None, [node.module])])
            if node.level or name.startswith("helmholtz_mim"):
                yield name.removeprefix("helmholtz_mim").removeprefix(".")
        elif isinstance(node, ast.Import):
            yield from (a.name.removeprefix("helmholtz_mim.") for a in node.names if a.name.startswith("helmholtz_mim."))


def test_every_module_has_a_chapter_and_a_room():
    order = exported_modules()
    assert len(order) == len(set(order)) and {name.split(".")[0] for name in order} <= set(ROOMS)
    written = {".".join(p.relative_to(PACKAGE).with_suffix("").parts) for p in MODULES if p.name not in ("__init__.py", "__main__.py")}
    assert written == set(order)


@pytest.mark.parametrize("name", exported_modules())
def test_imports_point_backward(name):
    order = exported_modules()
    for other in ours(PACKAGE / f"{name.replace('.', '/')}.py"):
        earlier = room(other) < room(name) or (room(other) == room(name) and order.index(other) < order.index(name))
        assert other and earlier, f"{name} may not import {other or 'the package'}"


def test_imports_are_noticed(tmp_path, monkeypatch):
    monkeypatch.setattr(f"{__name__}.PACKAGE", tmp_path)
    (tmp_path / "rules").mkdir()
    (tmp_path / "rules/one.py").write_text(
        "from ..layers import states\nfrom .two import f\nfrom helmholtz_mim.training import (\n    train,\n)\n"
        "import helmholtz_mim.cli\nfrom helmholtz_mim import wake\nimport os\ndef g():\n    from ..figures import h\n"
    )
    assert sorted(ours(tmp_path / "rules/one.py")) == ["", "cli", "figures", "layers", "rules.two", "training"]


def requirements(lists):
    """The lowest version of each package in those lists of settings.ini."""
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    return dict(item.split(">=") for line in re.findall(rf"^{lists} = (.*)", settings, re.M) for item in line.split())


def test_what_is_imported_is_required():
    """What not everybody installs is not imported but borrowed."""
    lowest = requirements(r"requirements")
    trees = [ast.parse(p.read_text(encoding="utf-8")) for p in MODULES]
    names = {m.split(".")[0] for tree in trees for m in imported(tree)} - {*sys.stdlib_module_names, "helmholtz_mim"}
    assert "numpy" in names and {{"PIL": "pillow"}.get(n, n) for n in names} <= lowest.keys()
    every = requirements(r"(?:(?:interactive|images|parquet|cluster|book)_)?requirements")
    assert all(version.count(".") == 2 for version in every.values()), "`make oldest` installs exactly these"


@each_module
def test_modules_carry_no_directives(path):
    assert not re.findall(r"^#\s*\|.*", path.read_text(encoding="utf-8"), re.M)


@each_module
def test_public_names_have_docstrings(path):
    tree = ast.parse(path.read_text(encoding="utf-8"))
    listed = [n.value for n in tree.body if isinstance(n, ast.Assign) and dotted(n.targets[0]) == "__all__"]
    public = {n.value for names in listed for n in ast.walk(names) if isinstance(n, ast.Constant)}
    definitions = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
    bare = [n.name for n in tree.body if isinstance(n, definitions) and n.name in public and not ast.get_docstring(n)]
    assert not bare


TORCH_DRAWS = {"rand", "randn", "randint", "randperm", "bernoulli", "multinomial", "normal", "poisson"}
DRAWS_IN_PLACE = {"bernoulli_", "cauchy_", "exponential_", "normal_", "random_", "uniform_"}
SEEDABLE = {"default_rng", "Generator", "SeedSequence", "PCG64", "Philox"}


def global_draws(tree):
    """Expressions that draw from, or seed, a generator shared by the whole process."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            name = dotted(node)
            if re.fullmatch(r"torch\.(cuda\.|random\.)?(manual_seed|manual_seed_all|seed|set_rng_state)", name):
                yield name
            if (m := re.fullmatch(r"(?:np|numpy)\.random\.(\w+)", name)) and m[1] not in SEEDABLE:
                yield name
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
            name, base = node.func.attr, dotted(node.func.value)
            draws = name in DRAWS_IN_PLACE or (base == "torch" and name in TORCH_DRAWS)
            if draws and not any(k.arg == "generator" for k in node.keywords):
                yield f"{base}.{name}"
    yield from (m for m in imported(tree) if m.split(".")[0] == "random")


@each_module
def test_randomness_is_an_argument(path):
    assert not list(global_draws(ast.parse(path.read_text(encoding="utf-8"))))


def test_global_draws_are_noticed():
    for source in ("torch.manual_seed(0)", "np.random.rand(3)", "torch.rand(3)", "w.normal_()", "import random"):
        assert list(global_draws(ast.parse(source))), source
    for source in ("torch.rand(3, generator=g)", "np.random.default_rng(0)", "rng.normal()", "random(x)"):
        assert not list(global_draws(ast.parse(source))), source


def unsafe(tree):
    """Ways to run what a file or a string says."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = dotted(node.func)
            if name in ("exec", "eval", "torch.load", "joblib.load"):
                yield name
            if any(k.arg == "allow_pickle" and getattr(k.value, "value", True) for k in node.keywords):
                yield f"{name}(allow_pickle)"
    yield from (m for m in imported(tree) if m.split(".")[0] in ("pickle", "cloudpickle", "dill", "marshal", "shelve"))


@each_module
def test_files_are_only_read(path):
    assert not list(unsafe(ast.parse(path.read_text(encoding="utf-8"))))


def test_unsafe_calls_are_noticed():
    for source in ("exec(s)", "eval(s)", "torch.load(p)", "import pickle", "np.load(p, allow_pickle=True)"):
        assert list(unsafe(ast.parse(source))), source
    for source in ("model.eval()", "np.load(p)", "load(p)"):
        assert not list(unsafe(ast.parse(source))), source


def test_the_readme_says_where_to_read_and_what_to_install():
    settings = (ROOT / "settings.ini").read_text(encoding="utf-8")
    host, base, version = (re.search(rf"^{key} = (.*)$", settings, re.M)[1] for key in ("doc_host", "doc_baseurl", "version"))
    screen = (ROOT / "README.md").read_text(encoding="utf-8")[:2000]
    pages = re.findall(rf"{re.escape(host + base)}/([^)`]*)", screen)
    assert pages == ["", "helmholtz_mim.pdf", "nbs/playground.html", f"helmholtz_mim-{version}-py3-none-any.whl"]
    published = (ROOT / ".github/workflows/book.yml").read_text(encoding="utf-8")
    assert "make book wheel" in published and "cp dist/*.whl _build/book/_build/html" in published and pages[1] in published
