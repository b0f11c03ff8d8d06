"""Checkpoints: runs that are killed, also while they write, end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import same_weights
from warm import Program
from safetensors import safe_open

from helmholtz_mim import (
    SGD,
    Adam,
    CategoricalMIM,
    EarlyStopping,
    FactorialMIM,
    HelmholtzMachine,
    Phases,
    Reweighted,
    TrainConfig,
    bars,
    exact_report,
    files,
    train,
)
from helmholtz_mim.checkpoint import Checkpoint, identity
from helmholtz_mim.cli import main
from helmholtz_mim.rules.factorial import leave_one_out, soft_mean


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and the precision a program starts with."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    return tmp_path


class PowerCut(Exception):
    """The lights go out."""


def go(engine="compiled", rule=FactorialMIM, replicas=(2,), checkpoint=None, seed=0, scale=0.0, epochs=7, batch=4, axes=None, **options):
    generator = torch.Generator().manual_seed(seed)
    machine = HelmholtzMachine((16, 5, 3), replicas=replicas).randomise_(scale, generator=generator)
    config, allocate = TrainConfig(epochs, batch, report_every=3, **options), rule()
    how = dict(allocate=allocate, engine=engine, checkpoint=checkpoint) | (axes or {})
    return machine, train(machine, bars(), config, **how, generator=generator)


def until(epoch, checkpoint):
    """A checkpoint that is kept until the lights go out."""

    def watch(run):
        checkpoint(run)
        if run.trainer.done == epoch:
            raise PowerCut

    return watch


def cut_off(*after, **options):
    """The same run, but the lights go out after those epochs."""
    for epoch in (*after, None):
        try:
            return go(checkpoint=until(epoch, Checkpoint("kept", minutes=0)), **options)
        except PowerCut:
            pass


def both():
    return Phases(FactorialMIM(), FactorialMIM())


BATCHED = dict(engine="batched", replicas=())
CASES = {
    "torch": dict(engine="torch"),
    "torch, in double precision": dict(engine="torch", rule=both),
    "compiled, last batch smaller": dict(batch=5),
    "compiled, one by one": dict(batch=1, rule=CategoricalMIM),
    "both phases": dict(rule=both, dreams=3),
    "drawn turns": dict(fraction=0.3),
    "initial weights": dict(scale=0.5),
    "several axes of replicas": dict(replicas=(2, 2)),
    "reweighted": dict(engine="torch", axes=dict(method=Reweighted(3, "wake"))),
    "Adam": dict(**BATCHED, axes=dict(optimizer=Adam())),
    "AdamW, linear": dict(**BATCHED, axes=dict(optimizer=Adam(decay=0.01, schedule="linear"))),
    "momentum, both phases": dict(**BATCHED, axes=dict(optimizer=SGD(momentum=0.9)), rule=both),
    "reweighted Adam": dict(**BATCHED, axes=dict(optimizer=Adam(), method=Reweighted(3, "both"))),
}


@pytest.mark.parametrize("name", CASES)
def test_a_run_that_is_cut_off_ends_the_same(name):
    machine, history = go(**CASES[name])
    again, pieces = cut_off(1, 3, 5, **CASES[name])
    assert same_weights(machine, again)
    pd.testing.assert_frame_equal(history, pieces, check_exact=True)


def test_a_checkpoint_does_not_change_the_run():
    assert same_weights(go()[0], go(checkpoint=Checkpoint("kept", minutes=0))[0])
    assert same_weights(go()[0], go(checkpoint=Checkpoint("kept", minutes=0))[0]), "already finished: nothing is left to do"


def test_a_finished_run_is_not_run_again():
    _, history = go(checkpoint=Checkpoint("kept"))
    machine, again = go(checkpoint=until(8, Checkpoint("kept")))
    assert again.equals(history) and same_weights(machine, go()[0])
    with pytest.raises(PowerCut):
        go(checkpoint=until(7, Checkpoint("kept")))


def stopped_early(checkpoint=None):
    stop, machine = EarlyStopping(bars().bits[::2], patience=2), HelmholtzMachine((16, 5, 3))
    config, options = TrainConfig(60, 4, lr=0.5, report_every=1), dict(stop=stop, engine="batched", checkpoint=checkpoint)
    train(machine, bars(), config, **options, generator=torch.Generator().manual_seed(0))
    return stop.scores, stop.restore_(machine)


def test_patience_is_kept():
    """Early stopping goes on with the scores and the best weights that it had."""
    scores, machine = stopped_early()
    with pytest.raises(PowerCut):
        stopped_early(until(len(scores) - 2, Checkpoint("kept", minutes=0)))
    again, best = stopped_early(Checkpoint("kept", minutes=0))
    assert 3 < len(scores) < 60 and again == scores and same_weights(machine, best)


def test_it_is_written_when_it_is_time(monkeypatch):
    """Every five minutes, on a clock that goes on by two minutes an epoch; and at the end."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint, written = Checkpoint("kept", minutes=5), []
    monkeypatch.setattr(checkpoint, "write", lambda: written.append(checkpoint.run.trainer.done))

    def watch(run):
        checkpoint(run)
        now[0] += 120

    go(checkpoint=watch, epochs=10)
    assert written == [3, 6, 9, 10]


OTHERS = {
    "lr": dict(lr=0.2),
    "epochs": dict(epochs=8),
    "initial weights": dict(scale=0.5),
    "seed": dict(seed=1),
    "machine": dict(replicas=(3,)),
    "allocate": dict(rule=lambda: FactorialMIM(epsilon=0.1)),
    "engine": dict(engine="torch"),
    "method.particles": dict(engine="torch", axes=dict(method=Reweighted(3))),
    "optimizer.momentum": dict(engine="torch", axes=dict(optimizer=SGD(momentum=0.9))),
}


@pytest.mark.parametrize("differs", OTHERS)
def test_another_run_is_refused_and_the_file_left_alone(differs, folder):
    with pytest.raises(PowerCut):
        go(checkpoint=until(2, Checkpoint("kept", minutes=0)))
    before = (folder / "kept").read_bytes()
    with pytest.raises(ValueError, match=f"of another run, which differs in .*{differs}") as refusal:
        go(checkpoint=Checkpoint("kept"), **OTHERS[differs])
    assert "\n" not in str(refusal.value) and (folder / "kept").read_bytes() == before


def test_other_data_are_refused():
    go(checkpoint=Checkpoint("kept"))
    machine, few = HelmholtzMachine((16, 5, 3), replicas=(2,)), bars().bits[:5]
    with pytest.raises(ValueError, match="differs in data"):
        config, generator = TrainConfig(7, 4, report_every=3), torch.Generator().manual_seed(0)
        train(machine, few, config, allocate=FactorialMIM(), engine="compiled", checkpoint=Checkpoint("kept"), generator=generator)


@pytest.mark.parametrize("damage", ["cut short", "text", "another file", "one bit"])
def test_a_damaged_file_is_refused_in_one_sentence(damage, folder):
    go(checkpoint=Checkpoint("kept"))
    whole = (folder / "kept").read_bytes()
    changed = {
        "cut short": whole[: len(whole) // 2],
        "text": b"milk, bread",
        "another file": whole.replace(b"helmholtz_mim.checkpoint", b"helmholtz_mim.chequebook"),
        "one bit": whole[:-1] + bytes([whole[-1] ^ 1]),
    }[damage]
    assert changed != whole
    (folder / "kept").write_bytes(changed)
    with pytest.raises(ValueError, match=r"^kept .*: remove it to begin again$"):
        go(checkpoint=Checkpoint("kept"))


def test_minutes_are_a_number():
    for minutes in (-1, float("nan"), "a"):
        with pytest.raises(ValueError, match="at least 0"):
            Checkpoint("kept", minutes)


# Whose checkpoint is it?


def a_report(machine, patterns, generator=None, digits=1):
    """One row, with noise if there is a generator."""
    noise = torch.rand((), generator=generator).item() if generator else 0.0
    row = {"step": 0, "replica": 0, "layer": 0, "direction": "both", "measure": "noise", "value": round(noise, 9)}
    return pd.DataFrame([row])


class Loud:
    """A report with a generator of its own, and one in a list."""

    def __init__(self, seed):
        self.seed, self.generators = seed, [torch.Generator().manual_seed(seed) for _ in range(2)]

    def __call__(self, machine, patterns):
        return pd.concat([a_report(machine, patterns, generator) for generator in self.generators])


class LoudWithin(Loud):
    """The same, of which nobody could tell the seed."""

    def __init__(self):
        super().__init__(3)


def reported(report, checkpoint, **options):
    machine, config = HelmholtzMachine((16, 5, 3)), TrainConfig(4, 8, report_every=1)
    seeded = torch.Generator().manual_seed(0)
    return train(machine, bars(), config, report=report, checkpoint=checkpoint, engine="torch", generator=seeded, **options)


def stop_by(x, patience=2):
    return dict(stop=EarlyStopping(x, patience=patience))


DIFFERENT = {
    "report.digits": (partial(a_report, digits=1), partial(a_report, digits=2), {}, {}),
    "report.generator": (*(partial(a_report, generator=torch.Generator().manual_seed(s)) for s in (0, 1)), {}, {}),
    "report": (a_report, exact_report, {}, {}),
    "stop.x": (a_report, a_report, stop_by(bars().bits), stop_by(bars().bits[1:])),
    "stop.patience": (a_report, a_report, stop_by(bars().bits), stop_by(bars().bits, 3)),
    "allocate.awake.threshold": (a_report, a_report, *(dict(allocate=FactorialMIM(threshold=t)) for t in (soft_mean, leave_one_out))),
}


@pytest.mark.parametrize("part", DIFFERENT)
def test_parts_of_parts_tell_runs_apart(part):
    one, two, with_one, with_two = DIFFERENT[part]
    reported(one, Checkpoint("kept"), **with_one)
    with pytest.raises(ValueError, match=rf"differs in (.*, )?{part} \(.+ there, .+ here\)"):
        reported(two, Checkpoint("kept"), **with_two)


def test_a_difference_is_told_with_both_values():
    go(checkpoint=Checkpoint("kept"))
    with pytest.raises(ValueError, match=r"kept is of another run, which differs in lr \(0\.1 there, 0\.2 here\): remove it"):
        go(checkpoint=Checkpoint("kept"), lr=0.2)


@pytest.mark.parametrize("what", ["report", "rule", "stop"])
def test_what_cannot_be_told_from_others_is_refused_before_the_first_epoch(what, folder):
    options = {"report": dict(report=lambda m, p: a_report(m, p)), "rule": dict(report=a_report, allocate=lambda layer, p, u: p.round())}
    options["stop"] = dict(report=a_report, stop=lambda machine: False)
    named = {"report": "report", "rule": "allocate.awake.function", "stop": "stop"}[what]
    with pytest.raises(ValueError, match=rf"^{named} cannot be told from others, .*functools.partial$"):
        reported(checkpoint=Checkpoint("kept", resume=False), **options[what])
    assert not (folder / "kept").exists()


def an_identity():
    """Of a run with a set in it, whose order is another in each process."""
    rules, told = Phases(FactorialMIM(), Watchful({"b", "a", "c"})), []
    go(rule=lambda: rules, engine="torch", epochs=1, checkpoint=lambda run: told.append(identity(run)))
    return told[0]


class Watchful:
    """A rule for the night that keeps a set."""

    def __init__(self, names):
        self.kept = names

    def __call__(self, layer, p, u):
        return p.round()


def test_identities_are_the_same_in_another_process(folder):
    script = "import json, test_checkpoint as t; print(json.dumps(t.an_identity()))"
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": os.pathsep.join([str(Path(__file__).parent), *sys.path])}
    process = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment)
    assert json.loads(process.stdout) == json.loads(json.dumps(an_identity())) and " at 0x" not in process.stdout


@pytest.mark.parametrize("make", [lambda: Loud(3), LoudWithin, lambda: partial(a_report, generator=torch.Generator().manual_seed(1))])
def test_noise_of_a_report_goes_on_where_it_was(make):
    whole = reported(make(), None)
    with pytest.raises(PowerCut):
        reported(make(), until(2, Checkpoint("kept", minutes=0)))
    pd.testing.assert_frame_equal(reported(make(), Checkpoint("kept")), whole, check_exact=True)


# Snapshots, interruptions, full disks


def test_an_interrupted_run_goes_on_from_its_last_whole_epoch(monkeypatch):
    """Epochs of 0.3 s on the clock, a file every five minutes: what is lost is what came after the last snapshot."""
    now = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint("kept", minutes=5)

    def watch(run):
        checkpoint(run)
        now[0] += 0.3
        if run.trainer.done == 10:
            run.trainer(1)  # more than an epoch's end, and not to be kept
            run.interrupted = True
            checkpoint(run)
            raise PowerCut

    with pytest.raises(PowerCut):
        go(checkpoint=watch, epochs=20)
    assert epochs_kept(checkpoint.path) == 8, "snapshots after 4 and 8 epochs"
    machine, history = go(checkpoint=Checkpoint("kept"), epochs=20)
    whole, expected = go(epochs=20)
    assert same_weights(machine, whole)
    pd.testing.assert_frame_equal(history, expected, check_exact=True)


def test_interrupting_writes_nothing_that_the_file_has(monkeypatch):
    checkpoint = Checkpoint("kept", minutes=0)

    def watch(run):
        checkpoint(run)
        if run.trainer.done == 3:
            before = checkpoint.path.stat().st_mtime_ns
            run.interrupted = True
            checkpoint(run)
            assert checkpoint.path.stat().st_mtime_ns == before
            raise PowerCut

    with pytest.raises(PowerCut):
        go(checkpoint=watch)


def test_interrupting_before_an_epoch_has_ended_leaves_no_file(folder):
    checkpoint = Checkpoint("kept")

    def watch(run):
        checkpoint(run)
        run.interrupted = True
        checkpoint(run)
        raise PowerCut

    with pytest.raises(PowerCut):
        go(checkpoint=watch)
    assert not list(folder.iterdir())


def test_costly_snapshots_are_taken_more_rarely(monkeypatch):
    """One that takes a second on the clock, at most every twenty seconds."""
    now, taken = [0.0], []
    monkeypatch.setattr(time, "monotonic", lambda: now[0])
    checkpoint = Checkpoint("kept", minutes=5)
    monkeypatch.setattr("helmholtz_mim.checkpoint.gather", lambda parts: (taken.append(now[0]), now.__setitem__(0, now[0] + 1), {})[-1])

    def watch(run):
        checkpoint(run)
        now[0] += 0.5

    go(checkpoint=watch, epochs=100)
    assert 2 <= len(taken) <= 5


def test_a_full_disk_does_not_end_the_run(folder, monkeypatch):
    """The third writing and all after it fail: one warning, the second file stays, and the run is what it would have been."""
    written, write = [], files.write_tensors

    def full(path, *content):
        written.append(path)
        if len(written) > 2:
            raise OSError(f"cannot write {path} (No space left on device)")
        write(path, *content)

    monkeypatch.setattr("helmholtz_mim.checkpoint.write_tensors", full)
    with pytest.warns(UserWarning, match="No space left on device.*; the run goes on, and what was kept before stays") as warned:
        machine, _ = go(checkpoint=Checkpoint("kept", minutes=0))
    assert len(warned) == 1 and len(written) == 7 and epochs_kept(folder / "kept") == 2
    monkeypatch.setattr("helmholtz_mim.checkpoint.write_tensors", write)
    assert same_weights(machine, go()[0]) and same_weights(machine, go(checkpoint=Checkpoint("kept"))[0])


def test_a_file_that_cannot_be_believed_is_refused(folder):
    """Whole, as its checksum says, but without an identity, or without what the run needs."""
    go(checkpoint=Checkpoint("kept"))
    header, state = {"format": "helmholtz_mim.checkpoint", "version": "2"}, {"x": torch.zeros(2)}
    told = []
    go(checkpoint=lambda run: told.append(identity(run)))
    for words in ({}, {"identity": "[1]"}, {"identity": "{"}, {"identity": json.dumps(told[0])}):
        files.write_tensors("kept", state, header | words)
        with pytest.raises(ValueError, match=r"^kept does not .*: remove it to begin again$"):
            go(checkpoint=Checkpoint("kept"))


def test_the_same_run_leaves_the_same_checkpoint(folder):
    for name in ("one", "two"):
        with pytest.raises(PowerCut):
            go(checkpoint=until(4, Checkpoint(name, minutes=0)), rule=both)
    assert (folder / "one").read_bytes() == (folder / "two").read_bytes()


# Killed in earnest


KILLS = 50 if os.environ.get("FUZZ") == "1" else 8
NURSERY = """
import json, os, random, signal, sys, time
from pathlib import Path
import torch
from helmholtz_mim import FactorialMIM, HelmholtzMachine, TrainConfig, load, save, train, well_formed
from helmholtz_mim.checkpoint import Checkpoint

torch.set_num_threads(1)
chance, kills, runs, clumsy, write = random.Random(int(sys.argv[2])), {"by the clock": 0, "while writing": 0}, 0, False, Path.write_bytes


def live(checkpoint, end):
    machine = HelmholtzMachine((12, 8, 4), replicas=(2,))
    train(machine, well_formed(12), TrainConfig(epochs=30, report_every=10), allocate=FactorialMIM(), engine="compiled",
          checkpoint=checkpoint, generator=torch.Generator().manual_seed(0))
    save(machine, end)


def write_a_part_and_die(path, data):
    global writings
    writings -= 1
    write(path, data[: chance.randrange(len(data))] if writings == 0 else data)
    if writings == 0:
        os.kill(os.getpid(), signal.SIGKILL)


live(None, "undisturbed")  # and everything that is compiled is there for all that are born
start = time.perf_counter()
live(None, "undisturbed")
patience = time.perf_counter() - start
while sum(kills.values()) < int(sys.argv[1]):
    runs, status = runs + 1, None
    while status != 0:
        moment, writings, clumsy = chance.uniform(0, patience), chance.randrange(1, 8), not clumsy
        child = os.fork()
        if child == 0:
            if clumsy:
                Path.write_bytes = write_a_part_and_die
            live(Checkpoint(f"kept {runs}", minutes=0), f"end {runs}")
            os._exit(0)
        if not clumsy:
            time.sleep(moment)
            os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        assert status in (0, signal.SIGKILL), status
        kills["while writing" if clumsy else "by the clock"] += status != 0
    assert Path(f"end {runs}").read_bytes() == Path("undisturbed").read_bytes()
assert not list(Path().glob(".*")), "what was half-written is gone"
print(json.dumps(kills))
"""


def epochs_kept(path):
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(file.get_tensor("progress.numbers")[0])


def test_killed_at_any_moment(folder):
    """Again and again until it comes to its end, with the bits of a run that nobody has disturbed."""
    (folder / "nursery.py").write_text(NURSERY)
    done = subprocess.run([sys.executable, "nursery.py", str(KILLS), "0"], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    kills = json.loads(done.stdout.splitlines()[-1])
    assert sum(kills.values()) >= KILLS and min(kills.values()) >= KILLS // 8


COMMAND = "-m helmholtz_mim train --sizes 12 8 4 --epochs 200 --seeds 2 --scheme mim --report-every 100 --checkpoint-minutes 1e-9".split()


def test_the_command_is_killed_and_resumed(folder):
    """At moments that nobody has chosen."""
    moments, kept, killed = random.Random(0), folder / "run" / "run.checkpoint", 0
    for _ in range(2):
        process, before = Program(*COMMAND, "--resume", "--out", "run"), epochs_kept(kept)
        while process.poll() is None and epochs_kept(kept) < before + 3:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    assert killed and epochs_kept(kept)
    stubborn = Program(*COMMAND, "--out", "run")
    assert "use --resume to go on" in stubborn.communicate()[1] and stubborn.returncode == 1
    for arguments in (("--resume", "--out", "run"), ("--out", "whole")):
        process = Program(*COMMAND, *arguments)
        assert process.communicate()[1] == "" and process.returncode == 0
    for name in ("history.csv", "config.json", "machine.safetensors"):
        assert (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert sorted(os.listdir("run")) == ["config.json", "history.csv", "machine.safetensors"]


TINY = "train --sizes 12 3 2 --epochs 4 --report-every 2 --seeds 2 --out run".split()


def test_an_unfinished_run_is_begun_again_by_force(folder):
    (folder / "run").mkdir()
    (folder / "run" / "run.checkpoint").write_text("of something else")
    main([*TINY, "--force"])
    assert json.loads((folder / "run/config.json").read_text())["epochs"] == 4
    assert not (folder / "run" / "run.checkpoint").exists()
