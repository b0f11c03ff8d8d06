"""What the compiled engine computes, to the last bit: the same on every machine.

Run as a program, it prints the digests of all protocols as JSON.
"""

import hashlib
import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch

from helmholtz_mim import SGD, CategoricalMIM, FactorialMIM, Flip, HelmholtzMachine, Patterns, Phases, Stream, TrainConfig, WakeSleep
from helmholtz_mim import down, sample, states, up, well_formed
from helmholtz_mim.engines import compiled
from helmholtz_mim.engines.loop import OneByOne, SideBySide
from helmholtz_mim.engines.reference import Setup
from helmholtz_mim.rules.categorical import Estimated
from helmholtz_mim.streams import splitmix64, unit_interval
from helmholtz_mim.training import Trainer

SMALL, WIDE = (8, 5, 3), (150, 20, 6)
EPSILON = 0.0625
FORMS = {"side by side": SideBySide, "one by one": OneByOne}
DTYPES = {"single": torch.float32, "double": torch.float64}
ONLINE, DREAMS = dict(every=3), dict(batch=7, dreams=3)
PROTOCOLS = {  # sizes, whether there are biases, the protocol, the rules
    "wake-sleep": (SMALL, False, ONLINE, lambda: sample),
    "batches and dreams": (SMALL, True, DREAMS, lambda: sample),
    "factorial": (SMALL, True, ONLINE, lambda: FactorialMIM(epsilon=EPSILON)),
    "categorical": (SMALL, True, ONLINE, lambda: Phases(CategoricalMIM(epsilon=EPSILON), CategoricalMIM(epsilon=EPSILON))),
    "flips": (SMALL, True, dict(fraction=0.5, anneal=0.75), lambda: Flip(0.3)),
    "wide": (WIDE, True, ONLINE, lambda: sample),
}
# Replicas 0 to 2 of each; a change of any bit of arithmetic shows here
DIGESTS = {
    "wake-sleep, single": "9381130785b48ad6",
    "wake-sleep, double": "2686a24a1e9bff4a",
    "batches and dreams, single": "eb2ba3509777d32d",
    "batches and dreams, double": "c1a555dbcacd3be1",
    "factorial, single": "3ff59c9197254a4a",
    "factorial, double": "5753b172a654b95b",
    "categorical, single": "ea1626558ebca838",
    "categorical, double": "df3deb27b830809c",
    "flips, single": "46ac29fca5cdf63a",
    "flips, double": "a44f626a295d52b6",
    "wide, single": "0f488fbeecdd8cbf",
    "wide, double": "73bc7269b04ea23b",
}


def numbers(key, shape):
    """Numbers between -1/2 and 1/2, made of whole numbers alone."""
    counters = np.arange(1, np.prod(shape, dtype=int) + 1, dtype=np.uint64)
    return torch.from_numpy(unit_interval(splitmix64(np.uint64(key), counters)) - 0.5).reshape(shape)


def world(sizes):
    """All well-formed patterns; of the wide machine, some with one unit of six on."""
    return well_formed(sizes[0]) if sizes is SMALL else Patterns((numbers(99, (20, sizes[0])) > 1 / 3).double())


def ready(rule, chain, replicas):
    """A rule before its first step, as if all states were equally likely: sums of no matrix product."""
    rule.bind(chain)
    if isinstance(rule, Estimated):
        for layer in rule.memory.layers:
            rule.estimate(layer, None, states(chain.machine.sizes[layer]), torch.full(replicas, EPSILON, dtype=torch.float64))
    return rule


def trained(name, precision, which=(0, 1, 2)):
    """A stack of those replicas, every one with a stream and first weights of its own, after 12 epochs."""
    sizes, bias, protocol, rules = PROTOCOLS[name]
    machine, rules = HelmholtzMachine(sizes, bias=bias, replicas=(len(which),)).to(DTYPES[precision]), rules()
    for place, tensor in enumerate(machine.state_dict().values()):
        if name != "wake-sleep":  # which begins with zeros
            tensor.copy_(torch.stack([numbers(1000 * replica + place, tensor.shape[1:]) for replica in which]))
    rules = rules if isinstance(rules, Phases) else Phases(rules)
    rules = Phases(*(ready(*one, machine.replicas) for one in ((rules.awake, up(machine)), (rules.asleep, down(machine)))))
    stream = Stream(machine.replicas, generator=torch.Generator().manual_seed(0))
    stream.keys = splitmix64(np.uint64(7), np.array(which, np.uint64))
    config = TrainConfig(12, **protocol)
    run = Setup(machine, world(sizes), config, WakeSleep(), rules, SGD(), stream, stream.fork())
    Trainer(compiled.Compiled(run), (run.stream, run.turns))(12)
    return machine


def digest(machine, *replicas):
    """The first sixteen digits for the weights of those replicas."""
    found = hashlib.sha256()
    for replica in replicas:
        for tensor in machine.state_dict().values():
            assert tensor.isfinite().all()
            found.update(tensor[replica].contiguous().numpy().tobytes())
    return found.hexdigest()[:16]


def every_digest():
    """By protocol and precision."""
    return {f"{name}, {precision}": digest(trained(name, precision), 0, 1, 2) for name in PROTOCOLS for precision in DTYPES}


every = pytest.mark.parametrize("name, precision", [(name, precision) for name in PROTOCOLS for precision in DTYPES])


@every
@pytest.mark.parametrize("form", FORMS)
def test_weights_are_these_to_the_last_bit(name, precision, form, monkeypatch):
    monkeypatch.setattr(compiled, "form_for", lambda sizes, replicas: FORMS[form])
    assert digest(trained(name, precision), 0, 1, 2) == DIGESTS[f"{name}, {precision}"]


@pytest.mark.parametrize("precision", DTYPES)
@pytest.mark.parametrize("name", ["batches and dreams", "factorial", "categorical", "flips"])
@pytest.mark.parametrize("replicas", [1, 5, 16])
def test_a_replica_knows_nothing_of_the_others(name, precision, replicas):
    """Alone, in lanes that are not all taken, in several jobs."""
    few, many = trained(name, precision), trained(name, precision, range(replicas))
    assert all(digest(few, k) == digest(many, k) for k in range(min(3, replicas)))
    alone = trained(name, precision, [replicas - 1])
    assert digest(alone, 0) == digest(many, replicas - 1) != digest(trained(name, precision, [replicas]), 0)


@pytest.mark.parametrize("threads", [1, 2, 5])
def test_threads_change_no_bit(threads):
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(threads)
        for precision in DTYPES:
            assert digest(trained("wide", precision), 0, 1, 2) == DIGESTS[f"wide, {precision}"]
            stack = trained("factorial", precision, range(20))
            assert digest(stack, 0, 1, 2) == DIGESTS[f"factorial, {precision}"]
    finally:
        torch.set_num_threads(before)


PLAIN = {  # another processor's arithmetic: plain kernels everywhere, and no newer instructions in compiled code
    "ATEN_CPU_CAPABILITY": "default",
    "MKL_CBWR": "COMPATIBLE",
    "NUMBA_CPU_NAME": "x86-64-v2",
    "NUMBA_CPU_FEATURES": "",
    "GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX2,-FMA,-AVX512F,-FMA4",
}


def test_another_processor_has_the_same_bits(tmp_path):
    environment = os.environ | PLAIN | {"NUMBA_CACHE_DIR": str(tmp_path)}
    done = subprocess.run([sys.executable, __file__], capture_output=True, text=True, env=environment, timeout=500)
    assert not done.returncode, done.stderr
    assert json.loads(done.stdout) == DIGESTS


if __name__ == "__main__":
    json.dump(every_digest(), sys.stdout, indent=4)
