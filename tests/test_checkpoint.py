"""Checkpoints: runs that are killed, also while they write, end as if nothing had happened."""

import json
import os
import random
import signal
import subprocess
import sys
import time

import pandas as pd
import pytest
import torch
from conftest import same_weights
from safetensors import safe_open

from helmholtz_mim import CategoricalMIM, EarlyStopping, FactorialMIM, HelmholtzMachine, Phases, TrainConfig, bars, batches, load, train
from helmholtz_mim.checkpoint import Checkpoint, described, digest
from helmholtz_mim.cli import main


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and the precision a program starts with."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    return tmp_path


class PowerCut(Exception):
    """The lights go out."""


def go(engine="compiled", rule=FactorialMIM, replicas=(2,), checkpoint=None, seed=0, scale=0.0, epochs=7, batch=4, **options):
    generator = torch.Generator().manual_seed(seed)
    machine = HelmholtzMachine((16, 5, 3), replicas=replicas).randomise_(scale, generator=generator)
    config, allocate = TrainConfig(epochs, batch, report_every=3, **options), rule()
    return machine, train(machine, bars(), config, allocate=allocate, engine=engine, checkpoint=checkpoint, generator=generator)


def until(epoch, checkpoint):
    """A checkpoint that is kept until the lights go out."""

    def watch(run):
        checkpoint(run)
        if run.advance.done == epoch:
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
    return Phases(FactorialMIM(), FactorialMIM(direction="generative"))


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
    "reweighted": dict(engine="reweighted", particles=3, recognition="wake"),
    "Adam": dict(**BATCHED, optimizer="adam"),
    "AdamW, linear": dict(**BATCHED, optimizer="adamw", schedule="linear"),
    "momentum, both phases": dict(**BATCHED, optimizer="momentum", rule=both),
    "reweighted Adam": dict(**BATCHED, optimizer="adam", particles=3, recognition="both"),
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
    monkeypatch.setattr(checkpoint, "write", lambda run: written.append(run.advance.done))

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


@pytest.mark.parametrize("damage", ["cut short", "text", "another file", "a newer version"])
def test_a_damaged_file_is_refused_in_one_sentence(damage, folder):
    go(checkpoint=Checkpoint("kept"))
    whole = (folder / "kept").read_bytes()
    changed = {
        "cut short": whole[: len(whole) // 2],
        "text": b"milk, bread",
        "another file": whole.replace(b"helmholtz_mim.checkpoint", b"helmholtz_mim.chequebook"),
        "a newer version": whole.replace(b'"version":"1"', b'"version":"2"'),
    }[damage]
    assert changed != whole
    (folder / "kept").write_bytes(changed)
    with pytest.raises(ValueError, match=r"^kept is no (readable )?checkpoint.*remove it to begin again$"):
        go(checkpoint=Checkpoint("kept"))


def test_minutes_are_a_number():
    for minutes in (-1, float("nan")):
        with pytest.raises(ValueError, match="at least 0"):
            Checkpoint("kept", minutes)


def test_descriptions_tell_settings_apart():
    assert described(FactorialMIM()) == described(FactorialMIM())
    assert described(FactorialMIM(threshold=batches.pays)) != described(FactorialMIM())
    assert digest(torch.zeros(3)) != digest(torch.zeros(3, dtype=torch.float64))


# Killed in earnest


SCRIPT = """
import os, signal, sys
import torch
from pathlib import Path
from helmholtz_mim import FactorialMIM, HelmholtzMachine, TrainConfig, save, train, well_formed
from helmholtz_mim.checkpoint import Checkpoint

writings, deadly = 0, int(sys.argv[1])  # in the midst of which writing to die
whole = Path.write_bytes

def halves(path, data):
    global writings
    writings += 1
    whole(path, data[: len(data) // 2] if writings == deadly else data)
    if writings == deadly:
        os.kill(os.getpid(), signal.SIGKILL)

Path.write_bytes = halves
machine = HelmholtzMachine((12, 8, 4), replicas=(2,))
train(machine, well_formed(12), TrainConfig(epochs=40, report_every=10), allocate=FactorialMIM(), engine="compiled",
      checkpoint=Checkpoint("kept", minutes=0), generator=torch.Generator().manual_seed(0))
Path.write_bytes = whole
save(machine, "end")
"""


def epochs_kept(path):
    if not path.exists():
        return 0
    with safe_open(path, framework="pt") as file:
        return int(file.get_tensor("progress.numbers")[0])


def start(*arguments, cwd):
    return subprocess.Popen([sys.executable, *map(str, arguments)], cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_killed_while_writing(folder):
    (folder / "script.py").write_text(SCRIPT)
    for deadly, kept in ((1, 0), (6, 5), (3, 7)):
        assert start("script.py", deadly, cwd=folder).wait() == -signal.SIGKILL
        assert epochs_kept(folder / "kept") == kept, "the file before is whole"
    assert start("script.py", 0, cwd=folder).wait() == 0
    assert sorted(os.listdir(folder)) == ["end", "kept", "script.py"], "what was half-written is gone"
    undisturbed = folder / "undisturbed"
    undisturbed.mkdir()
    assert start("../script.py", 0, cwd=undisturbed).wait() == 0
    assert same_weights(load("end"), load("undisturbed/end"))


COMMAND = "-m helmholtz_mim train --sizes 12 8 4 --epochs 30 --seeds 2 --scheme mim --report-every 20 --checkpoint-minutes 1e-9".split()


def test_the_command_is_killed_and_resumed(folder):
    """At moments that nobody has chosen."""
    moments, kept, killed = random.Random(0), folder / "run" / "run.checkpoint", 0
    for _ in range(2):
        process, before = start(*COMMAND, "--resume", "--out", "run", cwd=folder), epochs_kept(kept)
        while process.poll() is None and epochs_kept(kept) < before + 3:
            time.sleep(0.01)
        time.sleep(moments.uniform(0, 0.05))
        process.send_signal(signal.SIGKILL)
        killed += process.wait() == -signal.SIGKILL
        process.communicate()
    assert killed and epochs_kept(kept)
    stubborn = start(*COMMAND, "--out", "run", cwd=folder)
    assert "use --resume to go on" in stubborn.communicate()[1] and stubborn.returncode == 1
    for arguments in (("--resume", "--out", "run"), ("--out", "whole")):
        process = start(*COMMAND, *arguments, cwd=folder)
        assert process.communicate()[1] == "" and process.returncode == 0
    for name in ("history.csv", "config.json"):
        assert (folder / "run" / name).read_bytes() == (folder / "whole" / name).read_bytes()
    assert same_weights(load("run/machine.safetensors"), load("whole/machine.safetensors"))
    assert sorted(os.listdir("run")) == ["config.json", "history.csv", "machine.safetensors"]


TINY = "train --sizes 12 3 2 --epochs 4 --report-every 2 --seeds 2 --out run".split()


def test_an_unfinished_run_is_begun_again_by_force(folder):
    (folder / "run").mkdir()
    (folder / "run" / "run.checkpoint").write_text("of something else")
    main([*TINY, "--force"])
    assert json.loads((folder / "run/config.json").read_text())["epochs"] == 4
    assert not (folder / "run" / "run.checkpoint").exists()
