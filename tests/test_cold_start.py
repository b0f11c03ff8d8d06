"""The first minutes of a new installation, and the first second of a command: what it loads, and Ctrl-C meanwhile."""

import os
import signal
import subprocess
import sys

import pytest

SEALED = """
import numba.core.caching as caching
def read_only(*_):
    raise PermissionError("read-only file system")
caching._CacheLocator.ensure_cache_path = read_only
"""
HELP = """
import runpy, sys
sys.argv = ["helmholtz-mim", "--help"]
runpy.run_module("helmholtz_mim", run_name="__main__")
"""
TRAIN = """
import torch
from helmholtz_mim import HelmholtzMachine, TrainConfig, train, well_formed
from helmholtz_mim.rules.factorial import FactorialMIM
machine, generator = HelmholtzMachine((8, 5, 2)), torch.Generator().manual_seed(0)
train(machine, well_formed(8), TrainConfig(2), allocate=FactorialMIM(), engine="compiled", generator=generator)
print(machine.generative[0].weight.sum().item())
"""
LOOPS = """
import numpy as np
from helmholtz_mim.engines import batched, loop
u, z = np.empty(9, np.float32), np.empty(70, np.float32)
batched.fill(np.uint64(7), 3, u)
loop.show(loop.Data(np.array([5, 3], np.uint64), np.ones(1, np.float32), 70), 0, z)
assert z.nonzero()[0].tolist() == [0, 2, 64, 65]
print(u.sum() + z.sum())
"""
LOADED = """
import contextlib, io, sys
from helmholtz_mim.__main__ import main
heavy = set("torch pandas numba scipy matplotlib PIL sklearn joblib distributed ipywidgets".split())
for line in sys.argv[1:]:
    before = set(sys.modules)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            main(line.split())
    except SystemExit as end:
        assert not end.code, end
    print(*sorted(heavy & set(sys.modules) - before))
"""
# What each command loads that those before it have not
LOADS = {
    "--version": "",
    "--help": "pandas torch",
    "train --sizes 12 3 2 --epochs 1 --engine torch --out run": "scipy",
    "report run/machine.safetensors": "",
    "evaluate run/machine.safetensors --particles 10": "",
    "sample run/machine.safetensors --to dreams.csv": "",
    "encode run/machine.safetensors --to codes.npy": "",
    "complete run/machine.safetensors --hide 1 --to completed.csv": "",
    "diagnose dreams.csv": "",
    "sample run/machine.safetensors --to dreams.png": "PIL matplotlib",
    "train --sizes 12 3 2 --epochs 1 --out other": "numba",
}
PRESSED = """
import os, signal, sys
class Hand:
    def find_spec(self, name, *_):
        if name == "torch":
            os.kill(os.getpid(), signal.SIGINT)
sys.meta_path.insert(0, Hand())
from helmholtz_mim.__main__ import main
main(["--help"])
"""


def start(code, *words, cwd=None, **environment):
    """A Python process that runs this code."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", code, *words], cwd=cwd, env=os.environ | environment, **pipes)


@pytest.mark.parametrize("code", [HELP, TRAIN], ids=["help", "train"])
def test_no_folder_to_write_to(code):
    process = start(SEALED + code, HOME="/nonexistent")
    said, errors = process.communicate(timeout=500)
    assert not process.returncode and said.strip() and "Traceback" not in errors, errors


def test_four_processes_compile_at_once(tmp_path):
    processes = [start(LOOPS, NUMBA_CACHE_DIR=str(tmp_path)) for _ in range(4)]
    answers = [process.communicate(timeout=500) for process in processes]
    assert not any(process.returncode for process in processes), answers
    assert len({said for said, _ in answers}) == 1 and float(answers[0][0])
    assert list(tmp_path.rglob("*.nbi")), "the compiled loops are kept"


def test_commands_load_what_they_need_when_they_need_it(tmp_path):
    process = start(LOADED, *LOADS, cwd=tmp_path)
    said, errors = process.communicate(timeout=500)
    assert not process.returncode, errors
    assert dict(zip(LOADS, said.splitlines(), strict=True)) == LOADS
    assert {"codes.npy", "completed.csv", "dreams.csv", "dreams.png", "other", "run"} == {path.name for path in tmp_path.iterdir()}


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
def test_ctrl_c_while_a_command_loads_is_one_sentence():
    process = start(PRESSED)
    said, errors = process.communicate(timeout=500)
    assert (said, errors) == ("", "helmholtz-mim: interrupted; nothing is left half-written\n")
    assert process.returncode in (128 + signal.SIGINT, -signal.SIGINT)
