"""Ctrl-C in the middle of training: soon answered, and all that is left belongs to the same epoch."""

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import same_weights

from helmholtz_mim import (
    Adam,
    FactorialMIM,
    HelmholtzMachine,
    Patterns,
    Phases,
    Reweighted,
    Rule,
    SGD,
    Stream,
    TrainConfig,
    WakeSleep,
    down,
    sample,
    states,
    up,
    well_formed,
)
from helmholtz_mim.engines import compiled
from helmholtz_mim.engines.compiled import Compiled
from helmholtz_mim.engines.reference import Setup
from helmholtz_mim.rule import phases
from helmholtz_mim.training import Trainer, start


PLAIN, STEPS = WakeSleep(), SGD()


def trainer_of(engine, machine, world, config, allocate=sample, method=PLAIN, optimizer=STEPS):
    """A trainer of a machine before its first epoch."""
    rules = phases(allocate)
    rules.awake.bind(up(machine)), rules.asleep.bind(down(machine))
    streams = tuple(Stream(machine.replicas, generator=torch.Generator().manual_seed(7)) for _ in range(2))
    return Trainer(start(engine, Setup(machine, world, config, method, rules, optimizer, *streams))[1], streams)


LONG = """
import time
from test_interruption import *

compiled.BLOCK = 2**13  # so that many blocks are finished in two seconds

def begin(epoch):
    machine, world = HelmholtzMachine((8, 5, 3), replicas=(3,)), Patterns(states(8)[3::7], epoch=epoch)
    return machine, trainer_of("compiled", machine, world, TrainConfig(1, every=3))

def shown(machine, trainer):
    return trainer.done, [s.position for s in trainer.streams], [t.tolist() for t in machine.state_dict().values()]

machine, trainer = begin(EPOCH)
trainer(1)
machine, trainer = begin(EPOCH)
print("ready", flush=True)
try:
    trainer(10**9)
except KeyboardInterrupt:
    stopped = time.time()
    twin, again = begin(EPOCH)
    again(trainer.done)
    print(stopped, trainer.done, shown(machine, trainer) == shown(twin, again))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send Ctrl-C to another one there")
@pytest.mark.parametrize("epoch, after", [(370, 2.0), (300_000, 2.0)])
def test_ctrl_c_is_answered_and_keeps_whole_epochs(epoch, after):
    script, here = LONG.replace("EPOCH", str(epoch)), Path(__file__).parent
    paths = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    run = subprocess.Popen([sys.executable, "-c", script], cwd=here, env=paths, stdout=subprocess.PIPE, text=True)
    try:
        assert run.stdout.readline() == "ready\n"
        time.sleep(after)
        sent = time.time()
        run.send_signal(signal.SIGINT)
        stopped, done, same = run.communicate(timeout=200)[0].split()
    finally:
        run.kill()
    assert float(stopped) - sent < 10 and same == "True" and (int(done) > 0 or epoch > 370)


def interrupt_soon():
    """Ctrl-C for this process, in a moment."""
    threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGINT)).start()


@pytest.mark.skipif(sys.platform == "win32", reason="os.kill ends the process there")
@pytest.mark.parametrize("way", ["awake", "asleep"])
def test_memories_of_rules_go_back_too(way):
    rule, sizes = FactorialMIM(), (8, 200, 100)
    machine, world = HelmholtzMachine(sizes), Patterns(states(8), epoch=1_000_000)  # half a minute
    chain = {"awake": up, "asleep": down}[way](machine)
    rule.begin(chain, Patterns(states(8)[:3]), 0.1, torch.Generator())
    before = rule.memory.values.clone()
    trainer = trainer_of("compiled", machine, world, TrainConfig(1, every=2), Phases(**{way: rule}))
    interrupt_soon()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        trainer(1)
    assert trainer.done == 0 and [stream.position for stream in trainer.streams] == [0, 0]
    assert torch.equal(rule.memory.values, before) and before.any()
    assert same_weights(machine, HelmholtzMachine(sizes)) and time.monotonic() - begun < 10


class Impatient(Rule):
    """Presses Ctrl-C when it is asked after so many times before."""

    def __init__(self, times):
        self.times = times

    def __call__(self, layer, p, u):
        self.times -= 1
        if not self.times:
            raise KeyboardInterrupt
        return sample(layer, p, u)


OTHERS = {
    "torch": dict(engine="torch"),
    "reweighted": dict(engine="torch", method=Reweighted(3)),
    "batched": dict(engine="batched", optimizer=Adam()),
}


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_engines_go_back_to_the_last_epoch(name):
    def begin(rule):
        machine, config = HelmholtzMachine((8, 5, 3)).float(), TrainConfig(9, batch=10, every=1)
        return machine, trainer_of(machine=machine, world=well_formed(8), config=config, allocate=rule, **OTHERS[name])

    machine, trainer = begin(Impatient(59))  # 8 batches an epoch ask 16 times
    with pytest.raises(KeyboardInterrupt):
        trainer(9)
    twin, again = begin(Impatient(0))
    again(3)
    assert trainer.done == 3
    assert [s.position for s in trainer.streams] == [s.position for s in again.streams] and same_weights(machine, twin)
    trainer(2), again(2)
    assert same_weights(machine, twin)
    left, right = trainer.state_dict(), again.state_dict()
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("block", [1, 100, 10**9])
@pytest.mark.parametrize("rule", [sample, FactorialMIM])
def test_blocks_make_no_difference(block, rule, monkeypatch):
    results, shapes = [], []
    draw = compiled.draw_turns
    monkeypatch.setattr(compiled, "draw_turns", lambda *a: shapes.append(draw(*a)) or shapes[-1])
    for size in (block, 2**18):
        monkeypatch.setattr(compiled, "BLOCK", size)
        machine, chosen = HelmholtzMachine((8, 5, 3), replicas=(2,)), rule if rule is sample else rule()
        chosen.begin(up(machine), well_formed(8), 0.1, torch.Generator())
        trainer = trainer_of("compiled", machine, well_formed(8), TrainConfig(9, fraction=0.3, anneal=0.8), chosen)
        trainer(9)
        results.append(machine)
        assert trainer.done == 9
    assert same_weights(*results) and len(shapes) == 18


def test_turns_of_all_epochs_are_never_drawn_at_once(monkeypatch):
    most, train = [], Compiled.train
    monkeypatch.setattr(Compiled, "train", lambda engine, turns, rates: most.append(turns.size) or train(engine, turns, rates))
    machine = HelmholtzMachine((8, 5, 3), replicas=(4,))
    trainer_of("compiled", machine, well_formed(8), TrainConfig(3000))(3000)
    assert sum(most) == 3000 * 72 * 4 and max(most) <= 2**18
