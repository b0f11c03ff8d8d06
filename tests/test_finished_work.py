"""Interrupted, out of room, or begun twice: what is done is kept, and the same command goes on."""

import errno
import itertools
import json
import math
import os
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

from helmholtz_mim import (
    SGD,
    Adam,
    FactorialMIM,
    HelmholtzMachine,
    Interrupted,
    Reweighted,
    TrainConfig,
    bars,
    load,
    losses,
    train,
)
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.cli import main
from helmholtz_mim.commands import folder as places, outputs, training
from helmholtz_mim.training import Report


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and the precision a program starts with."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    return tmp_path


@pytest.fixture
def hurried(monkeypatch):
    """A clock that goes on by ten seconds each time somebody looks, so that no snapshot is spared."""
    ticks = itertools.count()
    monkeypatch.setattr(time, "monotonic", lambda: 10.0 * next(ticks))


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


# In Python


class Bell:
    """Rings once, at the so-manyth call, with Ctrl-C."""

    def __init__(self, calls=0):
        self.left = calls

    def __call__(self):
        self.left -= 1
        if self.left == 0:
            signal.raise_signal(signal.SIGINT)


class Ringing(FactorialMIM):
    """MIM that is interrupted while it decides."""

    bell = Bell()

    def __call__(self, layer, p, u):
        Ringing.bell()
        return super().__call__(layer, p, u)


class RingingAtDawn(FactorialMIM):
    """MIM that is interrupted when it has begun an epoch."""

    bell = Bell()

    def begin(self, *arguments):
        super().begin(*arguments)
        RingingAtDawn.bell()


def ringing_report(machine, patterns, *, generator):
    """The losses, interrupted when they have drawn their random numbers."""
    report = losses(machine, patterns, generator=generator)
    ringing_report.bell()
    return report


ringing_report.bell = Bell()
EPOCHS = 6
BATCHED = dict(engine="batched", replicas=())
CASES = {  # engine, rule and when the bell rings: always within or after epoch 4
    "torch, in a step": (dict(engine="torch"), Ringing, 3 * 2 * 50 + 7, 3),
    "reweighted, in a step": (dict(engine="torch", method=Reweighted(3, "both")), Ringing, 3 * 2 * 50 + 7, 3),
    "batched Adam, in a step": (dict(**BATCHED, optimizer=Adam(schedule="linear")), Ringing, 3 * 2 * 50 + 7, 3),
    "batched momentum, in a step": (dict(**BATCHED, optimizer=SGD(momentum=0.9)), Ringing, 3 * 2 * 50 + 7, 3),
    "torch, at dawn": (dict(engine="torch"), RingingAtDawn, 4, 3),
    "compiled, at dawn": (dict(engine="compiled"), RingingAtDawn, 4, 3),
    "torch, in a report": (dict(engine="torch"), ringing_report, 3, 4),
    "compiled, in a report": (dict(engine="compiled"), ringing_report, 3, 4),
}


def go(engine, where, calls=0, checkpoint=None, replicas=(2,), **options):
    """A run of six epochs of fifty steps; returns the machine, the exception or None, and the history."""
    where.bell = Bell(calls)
    machine = HelmholtzMachine((16, 5, 3), replicas=replicas)
    report: Report = partial(ringing_report, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(EPOCHS, 20, every=1, report_every=2)
    rule = where() if isinstance(where, type) else FactorialMIM()
    rule.estimate_every = 1
    options |= dict(allocate=rule, engine=engine, report=report, checkpoint=checkpoint)
    try:
        history = train(machine, bars(), config, **options, generator=torch.Generator().manual_seed(0))
        return machine, None, history
    except Interrupted as stop:
        return machine, stop, stop.history


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_machine_is_as_of_the_last_whole_epoch(case):
    options, where, calls, epoch = CASES[case]
    seen = {}

    def watch(run):
        weights = {name: value.clone() for name, value in run.setup.machine.state_dict().items()}
        positions = [stream.position for stream in run.trainer.streams]
        seen["interrupted" if run.interrupted else run.trainer.done] = weights, positions, run.trainer.done

    go(where=where, checkpoint=watch, **options)
    whole = seen.copy()
    machine, stop, history = go(where=where, calls=calls, checkpoint=watch, **options)
    weights, positions, _ = whole[epoch]
    assert stop.epoch == epoch and f"after epoch {epoch} of {EPOCHS}" in str(stop)
    assert all(torch.equal(value, weights[name]) for name, value in machine.state_dict().items())
    assert history.step.unique().tolist() == [0, 100], "the reports made"
    assert seen["interrupted"][2] == epoch
    if "dawn" not in case:
        assert seen["interrupted"][1] == positions


@pytest.mark.parametrize("case", CASES)
def test_an_interrupted_run_goes_on_to_the_same_bits(case, folder, hurried):
    options, where, calls, _ = CASES[case]
    whole, _, history = go(where=where, **options)
    _, stop, _ = go(where=where, calls=calls, checkpoint=Checkpoint("kept", math.inf), **options)
    assert stop and listing(folder) == ["kept"] and "from its checkpoint" in str(stop)
    again, stop, pieces = go(where=where, checkpoint=Checkpoint("kept", math.inf), **options)
    assert not stop and same_weights(whole, again)
    pd.testing.assert_frame_equal(history, pieces, check_exact=True)


def test_without_a_checkpoint_the_history_is_kept_and_the_remedy_named():
    _, stop, history = go("torch", Ringing, calls=3 * 2 * 50 + 7)
    assert history.step.unique().tolist() == [0, 100] and "checkpoint=Checkpoint(path)" in str(stop)
    assert isinstance(stop, KeyboardInterrupt), "whoever catches Ctrl-C catches it"


# On the command line


TINY = "train --data bars --sizes 16 4 3 --epochs 4 --report-every 2 --seeds 2 --scheme mim --out run".split()
RESULTS = ["config.json", "history.csv", "machine.safetensors"]


def status(line, capsys):
    """Exit status and the sentence on the error stream."""
    capsys.readouterr()
    try:
        main(line)
        code = 0
    except SystemExit as end:
        code = end.code
    words = capsys.readouterr().err if isinstance(code, int) else code
    return (code if isinstance(code, int) else 1), words.strip()


@pytest.mark.parametrize("number, code", [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_keeps_what_is_done_and_resume_ends_the_same(number, code, folder, capsys, monkeypatch, hurried):
    main([*TINY[:-1], "whole"])
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    original = Checkpoint.__call__

    def interrupted(self, run):
        original(self, run)
        if run.trainer.done == 3:
            signal.raise_signal(number)  # a second time while saving: not heard

    monkeypatch.setattr(Checkpoint, "__call__", interrupted)
    ended, sentence = status(TINY, capsys)
    assert ended == code and "\n" not in sentence
    assert sentence.startswith("helmholtz-mim: interrupted; after epoch 3 of 4;") and "--resume goes on" in sentence
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before
    assert sorted(os.listdir("run")) == sorted([*places.INTERRUPTED, "run.checkpoint"]), "nothing that looks finished"
    assert json.loads(Path("run/config.interrupted.json").read_text())["epochs_done"] == 3
    assert pd.read_csv("run/history.interrupted.csv").step.unique().tolist() == [0, 2000]
    assert load("run/machine.interrupted.safetensors").replicas == (2,)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    assert "use --resume to go on" in status(TINY, capsys)[1]
    assert status([*TINY, "--resume"], capsys) == (0, "")
    assert sorted(os.listdir("run")) == RESULTS
    assert Path("run/history.csv").read_bytes() == Path("whole/history.csv").read_bytes()
    assert same_weights(load("run/machine.safetensors"), load("whole/machine.safetensors"))


def test_interrupted_before_anything_is_done_leaves_nothing(folder, capsys, monkeypatch):
    def interrupted(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", interrupted)
    assert status(TINY, capsys) == (130, "helmholtz-mim: interrupted; nothing is left half-written")
    assert listing(folder) == []


def test_a_finished_run_has_nothing_left_to_do(folder, capsys):
    main(TINY)
    before = {name: (folder / "run" / name).read_bytes() for name in RESULTS}
    capsys.readouterr()
    main([*TINY, "--resume", "--checkpoint-minutes", "3"])
    assert capsys.readouterr().out == "the run in run is finished: nothing is left to do\n"
    for change, named in (["--seed", "1"], "seed"), (["--lr", ".2", "--bias"], "bias, lr"):
        code, sentence = status([*TINY, "--resume", *change], capsys)
        assert code == 1 and f"holds a finished run that differs in {named}: use --force" in sentence
    (folder / "run/config.json").write_text("[1")
    assert "run/config.json is damaged" in status([*TINY, "--resume"], capsys)[1]
    (folder / "run/config.json").write_bytes(before["config.json"])
    assert {name: (folder / "run" / name).read_bytes() for name in RESULTS} == before


def test_a_finished_run_with_damaged_weights_is_not_called_finished(folder, capsys):
    main(TINY)
    path = folder / "run/machine.safetensors"
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(SystemExit, match=r"machine\.safetensors is .*: get a whole copy, or train it again"):
        main([*TINY, "--resume"])


# A full disk


def full(*arguments, **options):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("what", ["weights", "history", "configuration"])
@pytest.mark.parametrize("old", [False, True])
def test_a_full_disk_leaves_all_results_or_none(what, old, folder, capsys, monkeypatch):
    if old:
        main([*TINY, "--seed", "1"])
    before = {name: (folder / "run" / name).read_bytes() for name in RESULTS if old}
    place = {"weights": (places, "save"), "history": (pd.DataFrame, "to_csv"), "configuration": (Path, "write_text")}[what]
    monkeypatch.setattr(*place, full)
    code, sentence = status([*TINY, "--force"], capsys)
    assert code == 1 and "no results were written into run" in sentence and "No space left on device" in sentence
    assert "\n" not in sentence
    assert {name: (folder / "run" / name).read_bytes() for name in os.listdir("run") if name != "run.checkpoint"} == before
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    if "--resume" in sentence:
        assert status([*TINY, "--resume"], capsys) == (0, "") and sorted(os.listdir("run")) == RESULTS


# Two at a time


def test_a_folder_takes_one_run_at_a_time(folder, capsys):
    with outputs.alone(folder / "run"):
        code, sentence = status(TINY, capsys)
        assert code == 1 and "another run writes into run: wait until it has ended, or choose another --out" in sentence
        assert listing(folder) == ["run", "run/.lock"]
    assert listing(folder) == []


def test_reading_is_not_blocked(folder, capsys):
    main(TINY)
    with outputs.alone(folder / "run"):
        main(["report", "run/machine.safetensors"])
        main("sample run/machine.safetensors --count 3 --out run/dreams.png".split())


# Programs that are told to end


def cold(*words, **options):
    """A program that starts as from a terminal."""
    return subprocess.Popen([sys.executable, *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)


@pytest.fixture
def start():
    """A function that starts a program, which does not outlive the test."""
    programs = []

    def begin(*words, how=Program, **options):
        programs.append(how(*words, **options))
        return programs[-1]

    yield begin
    for program in programs:
        program.kill()
        program.wait()


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)


LONG = "-m helmholtz_mim train --data bars --sizes 16 4 3 --epochs 1000000 --report-every 100000 --seeds 2 --out run".split()


@pytest.mark.parametrize("engine, number", [("torch", signal.SIGTERM), ("compiled", signal.SIGINT)])
def test_a_program_ends_soon_and_keeps_what_is_done(engine, number, folder, start):
    program = start(*LONG, "--engine", engine, "--checkpoint-minutes", "1e-3")
    wait_for(lambda: program.poll() is not None or Path("run/run.checkpoint").exists())
    program.send_signal(number)
    _, said = program.communicate(timeout=30)
    assert program.returncode == 128 + number and said.startswith("helmholtz-mim: interrupted; after epoch")
    assert said.count("\n") == 1
    assert sorted(os.listdir("run")) == sorted([*places.INTERRUPTED, "run.checkpoint"])


def test_a_killed_program_leaves_no_lock(folder, capsys, start):
    program = start(*LONG)
    wait_for(lambda: program.poll() is not None or Path("run/.lock").exists())
    assert "another run writes into run" in status(TINY, capsys)[1]
    program.kill()
    program.communicate()
    main(TINY)
    assert sorted(os.listdir("run")) == RESULTS


def alive(number):
    """Whether there is a process of that number that is not merely waiting to be buried."""
    try:
        return Path(f"/proc/{number}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def children(number):
    return [int(n) for n in Path(f"/proc/{number}/task/{number}/children").read_text().split()]


needs_proc = pytest.mark.skipif(not Path(f"/proc/self/task/{os.getpid()}/children").exists(), reason="no /proc to look into")


@needs_proc
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_worker_processes_end_too(number, folder, start):
    """Ctrl-C reaches every process of a terminal; the other signals only the first."""
    line = "-m helmholtz_mim compare --seeds 1 --pretrain 1 --epochs 1000000 --out run".split()
    program = start(*line, how=cold, start_new_session=True)
    wait_for(lambda: program.poll() is not None or len(children(program.pid)) == 4)  # two workers, and two who clean up after them
    time.sleep(2)  # until both have been told what to do
    workers = children(program.pid)
    os.killpg(program.pid, number) if number == signal.SIGINT else program.send_signal(number)
    _, said = program.communicate(timeout=60)
    wait_for(lambda: not any(map(alive, workers)), 60)
    if number != signal.SIGKILL:
        assert said == "helmholtz-mim: interrupted; what is finished is kept in run, and the same command goes on\n"
        assert program.returncode == 128 + number
        assert {Path(name).suffix for name in os.listdir("run")} == {".safetensors", ".gz"}, "the part that was finished"


SHORT_OF_ROOM = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))
from helmholtz_mim.cli import main
main(sys.argv[1:])
"""


def test_where_no_file_may_grow_nothing_is_left(folder, start):
    """Not a full disk, but as good as one."""
    program = start("-c", SHORT_OF_ROOM, *TINY)
    _, said = program.communicate(timeout=120)
    assert program.returncode == 1 and "File too large" in said and "Traceback" not in said
    assert not Path("run").exists() or os.listdir("run") == []


def test_a_full_disk_behind_the_output_is_one_sentence(folder):
    main(TINY)
    with open("/dev/full", "w") as nowhere:
        line = [sys.executable, "-m", "helmholtz_mim", "report", "run/machine.safetensors"]
        run = subprocess.run(line, stdout=nowhere, stderr=subprocess.PIPE, text=True)
    assert run.returncode == 1 and run.stderr == "helmholtz-mim: No space left on device\n"
