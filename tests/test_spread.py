"""One machine over several processes: they agree with one, send what is said, and end together. Loopback only."""

import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from torch.testing import assert_close

from helmholtz_mim import Adam, CategoricalMIM, FactorialMIM, HelmholtzMachine, NotApplicable, Patterns, Reweighted
from helmholtz_mim import TrainConfig, load, train
from helmholtz_mim.engines import spread  # noqa: F401, used in the scripts
from helmholtz_mim.engines.spread import Ranks, bits_sent
from helmholtz_mim.rules.factorial import soft_mean

SIZES = (30, 17, 9)
RUNS = {
    "plain": {},
    "MIM": dict(allocate=FactorialMIM),
    "batch MIM": dict(allocate=lambda: FactorialMIM(threshold=soft_mean)),
    "Adam": dict(optimizer=lambda: Adam(0.01)),
    "reweighted": dict(method=lambda: Reweighted(3)),
    "all": dict(allocate=FactorialMIM, optimizer=lambda: Adam(0.01), method=lambda: Reweighted(3)),
}


def patterns():
    bits = torch.rand(200, SIZES[0], generator=torch.Generator().manual_seed(5)) < torch.linspace(0.05, 0.9, 200)[:, None]
    return Patterns(bits)


def machine():
    return HelmholtzMachine(SIZES, bias=True).to(torch.float32).randomise_(0.2, generator=torch.Generator().manual_seed(1))


def trained(name, engine, **options):
    one, made = machine(), {key: make() for key, make in RUNS[name].items()}
    config = TrainConfig(3, batch=40, dreams=24, fraction=0.4 if "allocate" in made else None, report_every=1)
    history = train(one, patterns(), config, engine=engine, generator=torch.Generator().manual_seed(2), **made, **options)
    return one, history


def start(folder, count, script, **environment):
    """So many ranks of a script, which finds the rest of this file as a module; or of a command."""
    if script.startswith("-m "):
        words = script.split()
    else:
        (folder / "script.py").write_text("import sys\nfrom pathlib import Path\nimport torch\nfrom test_spread import *\n" + script)
        words = ["script.py"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_"))}
    path = os.pathsep.join([os.path.dirname(__file__), *sys.path])
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(count), *words]
    return subprocess.Popen(
        command, cwd=folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        env={**inherited, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo", **environment},
    )  # fmt: skip


def finish(process, seconds=60):
    try:
        out, errors = process.communicate(timeout=seconds)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, out, errors


ALL = """
with spread.together(30) as ranks:
    sent = {}
    for name in RUNS:
        before = ranks.sent
        one, history = trained(name, "spread")
        whole = torch.cat([b.flatten() for b in one.buffers()])
        assert (ranks.everybody(whole) == whole).all(), "every rank has the whole machine"
        if ranks.rank == 0:
            torch_state = {k: v.tolist() for k, v in one.state_dict().items()}
            Path(name).write_text(json.dumps([torch_state, history.value.tolist()]))
"""


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_do_together_what_one_does(count, tmp_path, single_precision):
    status, _, errors = finish(start(tmp_path, count, ALL))
    assert status == 0, errors
    for name in RUNS:
        state, values = json.loads((tmp_path / name).read_text())
        one, history = trained(name, "batched")
        whole = torch.cat([value.flatten() for value in one.state_dict().values()])
        found = torch.cat([torch.tensor(state[key]).flatten() for key in one.state_dict()])
        assert (found - whole).norm() < 0.01 * whole.norm(), f"{name}: a coin on the edge may fall otherwise, not many"
        assert_close(values, history.value.tolist(), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", RUNS)
def test_one_rank_is_the_batched_engine(name, single_precision):
    pair = trained(name, "batched")[0], trained(name, "spread")[0]
    for one, other in zip(*(m.buffers() for m in pair), strict=True):
        assert torch.equal(one, other)


COUNT = """
with spread.together(30) as ranks:
    one = machine()
    setups = []
    ours = spread.Spread.join
    spread.Spread.join = lambda self: setups.append(self) or ours(self)
    config = TrainConfig(1, batch=40, dreams=24, report_every=1)
    train(one, patterns(), config, engine="spread", generator=torch.Generator().manual_seed(2))
    engine = setups[0]
    before = engine.ranks.sent
    engine.step(torch.arange(40), torch.zeros(40, dtype=torch.bool))
    if ranks.rank == 0:
        print(engine.ranks.sent - before)
"""


def test_only_bits_travel_in_a_step(tmp_path):
    status, out, errors = finish(start(tmp_path, 3, COUNT))
    assert status == 0, errors
    assert int(out) == bits_sent(SIZES, 40, 24, 3)


LONG = """
from helmholtz_mim.commands.folder import Following
from helmholtz_mim import Checkpoint, save
with spread.together(30) as ranks:
    one, kept = machine(), (Following if ranks.rank else Checkpoint)("run.checkpoint", 0.0)
    begun = []
    def watch(run):
        kept(run)
        begun or begun.append(run.trainer.done)
    config = TrainConfig(60, batch=40, report_every=20)
    options = dict(optimizer=Adam(0.01), allocate=FactorialMIM(), checkpoint=watch)
    history = train(one, patterns(), config, engine="spread", generator=torch.Generator().manual_seed(2), **options)
    if ranks.rank == 0:
        save(one, "machine.safetensors")
        print(begun[0], *history.step.unique())
"""


def test_a_killed_rank_ends_all_and_another_number_of_ranks_goes_on(tmp_path):
    """Two ranks, one of them killed; one alone goes on from the checkpoint to the end."""
    process, checkpoint = start(tmp_path, 2, LONG), tmp_path / "run.checkpoint"
    end = time.monotonic() + 40
    while not checkpoint.exists() and time.monotonic() < end and process.poll() is None:
        time.sleep(0.02)
    children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
    os.kill(int(children[-1]), signal.SIGKILL)
    status, _, _ = finish(process)
    assert status != 0 and checkpoint.exists() and not (tmp_path / "machine.safetensors").exists()
    status, out, errors = finish(start(tmp_path, 1, LONG))
    assert status == 0, errors
    begun, *steps = map(int, out.split())
    assert 0 < begun < 60 and steps == [0, 100, 200, 300]
    assert load(tmp_path / "machine.safetensors").sizes == SIZES


def test_too_many_ranks_and_rules_for_whole_layers_are_refused(monkeypatch, single_precision):
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, 10)))
    with pytest.raises(NotApplicable, match="10 ranks cannot share a layer of 9 units: start at most 9"):
        trained("plain", "spread")
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, 1)))
    with pytest.raises(NotApplicable, match="CategoricalMIM decides a layer as a whole"):
        narrow, options = HelmholtzMachine((6, 5, 4)), dict(allocate=CategoricalMIM(), generator=torch.Generator())
        train(narrow, Patterns(torch.eye(6)), TrainConfig(1, batch=3), engine="spread", **options)


OTHERS = """
with spread.together(30) as ranks:
    one = machine()
    if ranks.rank:
        one.prior.bias += 1
    try:
        train(one, patterns(), TrainConfig(1, batch=40), engine="spread", generator=torch.Generator().manual_seed(2))
    except ValueError as error:
        sys.exit(str(error))
"""


def test_ranks_that_differ_are_refused(tmp_path):
    status, _, errors = finish(start(tmp_path, 2, OTHERS))
    assert status != 0 and "start all of them with the same command" in errors


def test_a_missing_rank_is_said(tmp_path):
    script = "from helmholtz_mim.engines.spread import together\ntry:\n    with together(2): pass\nexcept TimeoutError as e: print(e)"
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "29783", "GLOO_SOCKET_IFNAME": "lo"}
    environment = {**os.environ, "RANK": "0", "WORLD_SIZE": "2", **place}
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, env=environment)
    assert "one of them is missing" in done.stdout, done.stderr


TRAIN = "-m helmholtz_mim train --data digits --batch 100 --epochs 2 --report-every 1 --measure losses --engine spread --out run"


def test_the_command_line_starts_ranks_of_which_one_writes(tmp_path):
    sizes = " --sizes 64 20 10"
    status, out, errors = finish(start(tmp_path, 2, TRAIN + sizes))
    assert status == 0, errors
    assert out.count("engine spread") == out.count("wrote run/machine.safetensors") == 1
    assert load(tmp_path / "run/machine.safetensors").sizes == (64, 20, 10)
    status, out, errors = finish(start(tmp_path, 2, TRAIN + sizes + " --resume"))
    assert status == 0 and out.count("nothing is left to do") == 1, errors


def test_a_mistake_is_said_by_one_rank(tmp_path):
    status, _, errors = finish(start(tmp_path, 2, TRAIN + " --sizes 64 20 1"))
    assert status != 0 and errors.count("2 ranks cannot share a layer of 1 units: start at most 1") == 1
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("machine*"))
