"""What somebody who installs the wheel gets."""

import ast
import os
import re
import runpy
import shutil
import subprocess
import sys
import zipfile
from email import message_from_bytes
from importlib.metadata import distribution
from pathlib import Path

import pytest
import torch
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import helmholtz_mim
from helmholtz_mim.arguments import EXTRAS
from helmholtz_mim.data.images import grey_digits
from helmholtz_mim.interactive.gallery import album
from helmholtz_mim.interactive.page import Interactive
from helmholtz_mim.measures.probes import linear_probe
from helmholtz_mim.measures.quality import Classifier, neighbours
from helmholtz_mim.reading import _parquet
from helmholtz_mim.sweeps import shared

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


@pytest.fixture(scope="module")
def metadata(wheel):
    """What pip reads in the wheel."""
    return message_from_bytes(wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/METADATA"))))


def wanted(requirement, *extras):
    """Whether a requirement holds here, without extras or with one of those."""
    return not requirement.marker or any(requirement.marker.evaluate({"extra": extra}) for extra in ("", *extras))


def closure(requirements):
    """The distributions that those take, and those that they take in their turn."""
    found, left = {}, [*requirements]
    while left:
        needed = left.pop()
        if wanted(needed) and (key := (canonicalize_name(needed.name), *needed.extras)) not in found:
            found[key] = distribution(needed.name)
            left += [r for r in map(Requirement, found[key].requires or ()) if wanted(r, *needed.extras)]
    return found.values()


@pytest.fixture(scope="module")
def alone(wheel, metadata, tmp_path_factory):
    """An empty environment with the wheel in it: a folder that shows what it requires to run, and nothing else of this one."""
    folder = tmp_path_factory.mktemp("alone")
    wheel.extractall(folder)
    for needed in closure(map(Requirement, metadata.get_all("Requires-Dist"))):
        for name in {file.parts[0] for file in needed.files} - {"..", "__pycache__"}:
            if not (folder / name).exists():
                (folder / name).symlink_to(needed.locate_file(name))
    return folder


def python(code, folder, *options, cwd=None):
    """Run code with a folder in front of everything else (with -S: and without site-packages), and return what it prints."""
    environment = os.environ | dict(PYTHONPATH=str(folder), TQDM_DISABLE="1")
    command = [sys.executable, *options, "-c", code]
    run = subprocess.run(command, env=environment, cwd=cwd or folder, capture_output=True, text=True)
    assert not run.returncode, run.stderr
    return run.stdout


def test_the_wheel_holds_the_package_and_only_that(wheel):
    names = wheel.namelist()
    package = [n for n in names if n.startswith("helmholtz_mim/")]
    assert {"helmholtz_mim/py.typed", "helmholtz_mim/data/folk_rhythms.csv"} <= set(package)
    assert {str(p.relative_to(ROOT)) for p in (ROOT / "helmholtz_mim").rglob("*.py")} <= set(package)
    assert all(n in package or ".dist-info/" in n for n in names)
    kinds = {Path(n).suffix for n in package}
    assert kinds == {".py", ".js", ".csv", ".typed"}, "no notebooks, no pictures, no compiled code"
    assert sum(info.compress_size for info in wheel.infolist()) < 400_000, "small, since its data are"


def test_the_wheel_says_what_it_needs_to_run(wheel, metadata):
    scripts = wheel.read(next(n for n in wheel.namelist() if n.endswith(".dist-info/entry_points.txt"))).decode()
    needed = [line for line in metadata.get_all("Requires-Dist") if "extra ==" not in line]
    assert any("torch" in line for line in needed)
    assert not [line for line in needed if "==" in line or any(tool in line for tool in (*TOOLS, "jupyter"))]
    assert "helmholtz-mim = helmholtz_mim.__main__:main" in scripts


def test_importing_the_package_brings_no_development_tool(installed):
    code = f"import sys, helmholtz_mim.cli; print(helmholtz_mim.__file__, sorted(set({TOOLS}) & set(sys.modules)))"
    assert python(code, installed).split() == [str(installed / "helmholtz_mim/__init__.py"), "[]"]


WORK = """
import numpy as np, torch
from helmholtz_mim import complete, load, save, well_formed
from helmholtz_mim.cli import main
main("train --data well-formed --sizes 12 3 2 --epochs 2 --seeds 2 --out run".split())
np.save("codes.npy", np.arange(200) % 7)
for line in ("report run/machine.safetensors", "evaluate run/machine.safetensors --particles 10 --count 20",
             "sample run/machine.safetensors --count 9", "diagnose codes.npy --to page.png"):
    main(line.split())
machine, chance = load("run/machine.safetensors").replica(0), torch.Generator().manual_seed(0)
save(machine, "one")
known = torch.arange(12) < 6
print("completed", *complete(load("one"), well_formed(12).bits[:3], known, generator=chance).probability.shape)
try:
    main("train --data digits --epochs 1 --out digits".split())
except SystemExit as end:
    print("ended", end.code)
"""


def test_the_package_alone_trains_keeps_measures_samples_completes_and_diagnoses(alone, tmp_path):
    said = python(WORK, alone, "-S", cwd=tmp_path)
    assert "completed 3 12" in said and "The code has not collapsed" in said and said.endswith("pip install 'helmholtz_mim[images]'\n")
    assert {"run", "dreams.png", "codes.npy", "page.png", "one"} == {path.name for path in tmp_path.iterdir()}


def test_what_only_some_need_is_not_in_the_empty_environment(alone):
    names = ["torch", *EXTRAS, "safetensors", "pytest", "nbdev"]
    code = f"from importlib.util import find_spec; print(*filter(find_spec, {names}))"
    assert python(code, alone, "-S").split() == ["torch"]


bits, labels = torch.eye(8), torch.arange(8)
BORROWED = {
    "anywidget": lambda: Interactive("coin", {"p": 0.5}, alt="a coin").live,
    "ipywidgets": lambda: album({}, None),
    "traitlets": lambda: Interactive("coin", {"p": 0.5}, alt="a coin").live,
    "pyarrow": lambda: _parquet(Path("mine.parquet")),
    "distributed": lambda: shared(cluster="tcp://127.0.0.1:9").__enter__(),
    "sklearn.datasets": grey_digits,
    "sklearn.linear_model": lambda: linear_probe(bits, labels, bits, labels),
    "sklearn.neighbors": lambda: neighbours(bits, bits),
    "sklearn.neural_network": lambda: Classifier.trained(bits, labels),
}  # what each module of a package that may be missing is borrowed for


@pytest.mark.parametrize("module", BORROWED)
def test_a_missing_package_is_met_with_the_extra_that_brings_it(module, metadata, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError) as refusal:
        BORROWED[module]()
    package, extra = re.fullmatch(r".* needs the package (\S+): pip install 'helmholtz_mim\[(\w+)\]'", str(refusal.value)).groups()
    brought = [r.name for r in map(Requirement, metadata.get_all("Requires-Dist")) if not wanted(r) and wanted(r, extra)]
    assert extra in metadata.get_all("Provides-Extra") and package in brought
    assert (package, extra) == EXTRAS[module.partition(".")[0]]


def test_every_module_that_is_borrowed_is_missed_once():
    calls = (n for p in (ROOT / "helmholtz_mim").rglob("*.py") for n in ast.walk(ast.parse(p.read_text(encoding="utf-8"))))
    calls = (n for n in calls if isinstance(n, ast.Call) and getattr(n.func, "id", "") == "borrowed")
    assert {call.args[0].value for call in calls} == set(BORROWED)


def test_the_whole_package_loads_in_a_fraction_of_the_time_of_torch(alone):
    code = runpy.run_path(str(ROOT / "benchmarks/imports.py"))["CODE"]
    runs = [python(code, alone, "-S").split() for _ in range(3)]
    assert min(float(beyond) / float(base) for base, beyond, *_ in runs) < 0.6, "processor time beyond torch's own"
    assert {len(words) for words in runs} == {2}, "and without what is heavy"


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
