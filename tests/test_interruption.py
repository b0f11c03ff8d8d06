"""Ctrl-C in the middle of training: soon answered, and all that is left belongs to the same epoch."""

import os
import signal
import subprocess
import sys
import threading
import time

import numpy as np
import pytest
import torch
from conftest import same_weights

from helmholtz_mim import ENGINES, HelmholtzMachine, Patterns, Phases, Stream, TrainConfig, engine, sample, states, well_formed
from helmholtz_mim.rules.factorial import FactorialMIM
from helmholtz_mim.rule import phases

LONG = """
import sys, time, torch
from helmholtz_mim import *

engine.BLOCK = 2**13  # so that many blocks are finished in two seconds

def start(epoch):
    machine, world = HelmholtzMachine((8, 5, 3), replicas=(3,)), Patterns(states(8)[3::7], epoch=epoch)
    streams = [Stream((3,), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    return machine, ENGINES["compiled"](machine, world, TrainConfig(1, every=3), sample, *streams), streams

def shown(machine, advance, streams):
    return advance.done, [s.position for s in streams], [t.tolist() for t in machine.state_dict().values()]

machine, advance, streams = start(EPOCH)
advance(1)
machine, advance, streams = start(EPOCH)
print("ready", flush=True)
try:
    advance(10**9)
except KeyboardInterrupt:
    stopped = time.time()
    twin, again, coins = start(EPOCH)
    again(advance.done)
    print(stopped, advance.done, shown(machine, advance, streams) == shown(twin, again, coins))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot send Ctrl-C to another one there")
@pytest.mark.parametrize("epoch, after", [(370, 2.0), (300_000, 2.0)])
def test_ctrl_c_is_answered_and_keeps_whole_epochs(epoch, after):
    run = subprocess.Popen([sys.executable, "-c", LONG.replace("EPOCH", str(epoch))], stdout=subprocess.PIPE, text=True)
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
    direction = {"awake": "recognition", "asleep": "generative"}[way]
    rule = FactorialMIM(direction=direction)
    sizes = (8, 200, 100)
    machine, world = HelmholtzMachine(sizes), Patterns(states(8), epoch=1_000_000)  # half a minute
    rule.begin(machine, Patterns(states(8)[:3]), 0.1, torch.Generator())
    before = rule.memory.numbers.copy()
    streams = [Stream((), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    advance = ENGINES["compiled"](machine, world, TrainConfig(1, every=2), Phases(**{way: rule}), *streams)
    interrupt_soon()
    begun = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        advance(1)
    assert advance.done == 0 and [stream.position for stream in streams] == [0, 0]
    assert np.array_equal(rule.memory.numbers, before) and before.any()
    assert same_weights(machine, HelmholtzMachine(sizes)) and time.monotonic() - begun < 10


class Impatient:
    """Presses Ctrl-C when it is asked for the so many-th time."""

    def __init__(self, times):
        self.times = times

    def __call__(self, layer, p, generator):
        self.times -= 1
        if not self.times:
            raise KeyboardInterrupt
        return sample(layer, p, generator)


@pytest.mark.parametrize("name", ["torch", "reweighted", "batched"])
def test_the_other_engines_go_back_to_the_last_epoch(name):
    def start(rule):
        machine, optimizer = HelmholtzMachine((8, 5, 3)).float(), "adam" if name == "batched" else "sgd"
        config = TrainConfig(9, batch=10, every=1, optimizer=optimizer, particles=3 if name == "reweighted" else 1)
        streams = [Stream((), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
        return machine, streams, ENGINES[name](machine, well_formed(8), config, rule, *streams)

    machine, streams, advance = start(Impatient(59))  # 8 batches an epoch ask 16 times
    with pytest.raises(KeyboardInterrupt):
        advance(9)
    twin, others, again = start(Impatient(0))
    again(3)
    assert advance.done == 3
    assert [s.position for s in streams] == [s.position for s in others] and same_weights(machine, twin)
    advance(2), again(2)
    assert same_weights(machine, twin)
    left, right = advance.state(), again.state()
    assert left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


@pytest.mark.parametrize("block", [1, 100, 10**9])
@pytest.mark.parametrize("rule", [sample, FactorialMIM])
def test_blocks_make_no_difference(block, rule, monkeypatch):
    results, shapes = [], []
    draw = engine.draw_turns
    monkeypatch.setattr(engine, "draw_turns", lambda *a: shapes.append(draw(*a)) or shapes[-1])
    for size in (block, 2**18):
        monkeypatch.setattr(engine, "BLOCK", size)
        machine, chosen = HelmholtzMachine((8, 5, 3), replicas=(2,)), rule if rule is sample else rule()
        streams = [Stream((2,), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
        config = TrainConfig(9, fraction=0.3, anneal=0.8)
        if chosen is not sample:
            chosen.begin(machine, well_formed(8), 0.1, torch.Generator())
        advance = ENGINES["compiled"](machine, well_formed(8), config, chosen, *streams)
        advance(9)
        results.append(machine)
        assert advance.done == 9
    assert same_weights(*results) and phases(rule)


def test_turns_of_all_epochs_are_never_drawn_at_once(monkeypatch):
    most, stack = [], torch.stack
    monkeypatch.setattr(torch, "stack", lambda parts, dim: most.append(sum(p.numel() for p in parts)) or stack(parts, dim))
    machine = HelmholtzMachine((8, 5, 3), replicas=(4,))
    streams = [Stream((4,), generator=torch.Generator().manual_seed(7)) for _ in range(2)]
    ENGINES["compiled"](machine, well_formed(8), TrainConfig(3000), sample, *streams)(3000)
    assert sum(most) == 3000 * 72 * 4 and max(most) <= 2**18
