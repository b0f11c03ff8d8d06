"""What somebody who installs the wheel gets."""

import ast
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import helmholtz_mim

ROOT = Path(__file__).parent.parent
SOURCES = ["settings.ini", "setup.py", "pyproject.toml", "README.md", "LICENSE", "MANIFEST.in", "helmholtz_mim"]
TOOLS = ["safetensors", "nbdev", "fastcore", "jupyter_core", "ipykernel", "IPython", "nbformat", "pytest", "hypothesis", "sphinx"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The wheel, built from a copy so that the tree stays as it is."""
    copy, out = tmp_path_factory.mktemp("copy"), tmp_path_factory.mktemp("wheel")
    for name in SOURCES:
        place = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        place(ROOT / name, copy / name)
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", out]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, copy], check=True, capture_output=True)
    return zipfile.ZipFile(*out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """A folder that holds the package as the wheel brings it, and nothing else."""
    folder = tmp_path_factory.mktemp("installed")
    wheel.extractall(folder)
    return folder


def python(code, installed):
    """Run code with the unpacked wheel in front of everything else, and return what it prints."""
    environment = os.environ | dict(PYTHONPATH=str(installed), TQDM_DISABLE="1")
    run = subprocess.run([sys.executable, "-c", code], env=environment, cwd=installed, capture_output=True, text=True)
    assert not run.returncode, run.stderr
    return run.stdout


def test_the_wheel_holds_the_package_and_only_that(wheel):
    names = wheel.namelist()
    package = [n for n in names if n.startswith("helmholtz_mim/")]
    assert {"helmholtz_mim/py.typed", "helmholtz_mim/data/folk_rhythms.csv"} <= set(package)
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "helmholtz_mim").rglob("*.py")} <= set(package)
    assert all(n in package or ".dist-info/" in n for n in names)
    assert not [n for n in names if n.endswith(".ipynb")]


def test_the_wheel_says_what_it_needs_to_run(wheel):
    metadata, scripts = (
        wheel.read(next(n for n in wheel.namelist() if n.endswith(f".dist-info/{name}"))).decode()
        for name in ("METADATA", "entry_points.txt")
    )
    needed = [line for line in metadata.splitlines() if line.startswith("Requires-Dist:") and "extra ==" not in line]
    assert any("torch" in line for line in needed)
    assert not [line for line in needed if "==" in line or any(tool in line for tool in (*TOOLS, "jupyter"))]
    assert "helmholtz-mim = helmholtz_mim.__main__:main" in scripts


def test_importing_the_package_brings_no_development_tool(installed):
    code = f"import sys, helmholtz_mim.cli; print(helmholtz_mim.__file__, sorted(set({TOOLS}) & set(sys.modules)))"
    assert python(code, installed).split() == [str(installed / "helmholtz_mim/__init__.py"), "[]"]


def test_importing_the_package_loads_nothing_that_waits_until_it_is_needed():
    heavy = ("numba", "scipy", "matplotlib", "sklearn", "ipywidgets")
    code = f"import sys, helmholtz_mim; print(*(name for name in {heavy} if name in sys.modules))"
    run = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert not run.stdout.split()


def test_the_example_of_the_readme_runs(installed):
    code = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[1]
    assert "epochs=600" in code, "shortened here"
    table = python(code.replace("epochs=600", "epochs=2"), installed).splitlines()
    assert table[0].split() == ["mean", "std"] and sum(line.split()[-3] in "0123" for line in table[2:]) == 8


def test_public_names_are_no_modules():
    """`from helmholtz_mim import *` brings what a caller has a use for."""
    names = {}
    exec("from helmholtz_mim import *", names)
    assert {"Checkpoint", "FactorialMIM", "train", "wake"} <= set(names)
    assert not [name for name, value in names.items() if isinstance(value, type(sys))]


LISTS = {"test_structure.py", "test_reference.py"}  # which name what they do not use


def exercised(source):
    """The names that a text imports from the package and then uses, or takes from it as attributes."""
    nodes = [*ast.walk(ast.parse(source))]
    imports = (n for n in nodes if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("helmholtz_mim"))
    names = {alias.asname or alias.name: alias.name for node in imports for alias in node.names}
    used = {node.id for node in nodes if isinstance(node, ast.Name)}
    whole = {a.asname or a.name for n in nodes if isinstance(n, ast.Import) for a in n.names if a.name == "helmholtz_mim"}
    taken = {n.attr for n in nodes if isinstance(n, ast.Attribute) and getattr(n.value, "id", None) in whole}
    return {name for local, name in names.items() if local in used} | taken


def test_a_name_is_exercised_where_it_is_imported_and_used():
    source = "from helmholtz_mim import wake, dream as d, kl\nfrom helmholtz_mim.layers import states\nimport math\n"
    source += "import helmholtz_mim as hm\n"
    assert exercised(source + "d(wake, math.pi, train, hm.up, math.down)") == {"wake", "dream", "up"}


def test_every_public_name_is_exercised_by_a_test():
    texts = [path.read_text(encoding="utf-8") for path in (ROOT / "tests").glob("*.py") if path.name not in LISTS]
    missing = set(helmholtz_mim.__all__).difference(*map(exercised, texts))
    assert not missing, f"no test uses {', '.join(sorted(missing))}"
