"""`user_script.py`, as a caller would write it, runs, and says the right types to strict checkers of types."""

import json
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SCRIPT = ROOT / "tests/user_script.py"

# What a caller may get wrong, and what a checker says there
MISTAKES = {
    "TrainConfig(1, every=2)": ('TrainConfig("1", every=2)', r'"__init__"|TrainConfig|reportArgumentType'),
    "dataset(": ("datasets(", "datasets"),
    "hm.log_prob": ("hm.log_probs", "log_probs"),
    "method=WakeSleep()": ('method="wake-sleep"', r'"train"|reportArgumentType'),
    "assert_type(verdict(report), str)": ("assert_type(verdict(report), int)", "assert-type|reportAssertTypeFailure"),
    "assert_type(machine.recognition[0](x), Tensor)": (
        "assert_type(machine.recognition[0](x), int)",
        "assert-type|reportAssertTypeFailure",
    ),
    ".log_prob(z[1], z[0])": (".log_prob(z[1])", "call-arg|reportCallIssue"),  # decorated, as are the next two
    "exact_report(machine, patterns)": ("exact_report(machine)", "call-arg|reportCallIssue"),
    "losses(machine, patterns, generator": ("losses(machine, patterns, seed", "call-arg|reportCallIssue"),
    "assert_type(z, list[Tensor])": ("assert_type(z, Tensor)", "assert-type|reportAssertTypeFailure"),
}


def mypy(folder, kind="error"):
    """What mypy says of that kind, line by line; PYTHONPATH makes the package an installed one, which is believed for its py.typed."""
    options = ["--strict", "--config-file", "", "--python-version", "3.11", "--cache-dir", ROOT / ".mypy_cache/strict"]
    command = [sys.executable, "-m", "mypy", *options, "script.py"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode < 2, done.stdout + done.stderr
    return [line for line in done.stdout.splitlines() if f": {kind}: " in line]


def pyright(folder):
    """What pyright says, line by line."""
    pytest.importorskip("pyright")
    config = {"typeCheckingMode": "strict", "pythonVersion": "3.11", "extraPaths": [str(ROOT)], "include": ["script.py"]}
    (folder / "pyrightconfig.json").write_text(json.dumps(config))
    command = [sys.executable, "-m", "pyright", "--outputjson", "--pythonpath", sys.executable]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    found = json.loads(done.stdout)["generalDiagnostics"]
    return [f"script.py:{f['range']['start']['line'] + 1}: {f['message']} {f.get('rule')}" for f in found]


def test_it_runs(tmp_path):
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, SCRIPT], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert not done.returncode, done.stderr
    assert "off-support" in done.stdout and "nats about its input" in done.stdout


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_of_types_find_nothing_in_it(checker, tmp_path):
    (tmp_path / "script.py").write_text(SCRIPT.read_text(encoding="utf-8"), encoding="utf-8")
    assert checker(tmp_path) == []


@pytest.mark.parametrize("checker", [mypy, pyright])
def test_checkers_of_types_notice_mistakes(checker, tmp_path):
    lines = SCRIPT.read_text(encoding="utf-8").splitlines()
    expected = {}
    for right, (wrong, said) in MISTAKES.items():
        number = max(n for n, line in enumerate(lines) if right in line)
        lines[number] = lines[number].replace(right, wrong)
        expected[number + 1] = said
    (tmp_path / "script.py").write_text("\n".join(lines), encoding="utf-8")
    found = checker(tmp_path)
    for number, said in expected.items():
        there = [line for line in found if line.startswith(f"script.py:{number}:")]
        assert any(re.search(said, line) for line in there), (number, lines[number - 1], found)


def test_checkers_of_types_see_names_that_are_loaded_lazily(tmp_path):
    (tmp_path / "script.py").write_text(textwrap.dedent("""
        import pandas as pd
        import torch

        import helmholtz_mim as hm
        from helmholtz_mim import HelmholtzMachine, TrainConfig, collapse_report, train, verdict, wake, well_formed

        machine: HelmholtzMachine = HelmholtzMachine((8, 4))
        report: pd.DataFrame = collapse_report([[0, 1]] * 50)
        words: str = verdict(report)
        patterns: hm.Patterns = well_formed(8)
        g = torch.Generator()
        train(machine, patterns, TrainConfig(1), generator=g)
        reveal_type(wake(machine, patterns.bits, generator=g))
        hm.trian
    """))
    (error,) = mypy(tmp_path)
    assert 'Module has no attribute "trian"' in error
    assert any("Revealed type is" in note and "Tensor" in note for note in mypy(tmp_path, "note"))
