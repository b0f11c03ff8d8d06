"""The first minutes of a new installation: no folder to write to, and several processes at once."""

import os
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


def start(code, **environment):
    """A Python process that runs this code."""
    pipes = dict(stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return subprocess.Popen([sys.executable, "-c", code], env=os.environ | environment, **pipes)


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
