"""How fast the compiled engine is: ratios, all measured in this one run.

usage: python benchmarks/engine.py

Contenders take turns, and the best of several rounds counts, so that a busy moment of the machine disturbs neither. The
first table is CPU time against the loop of before, one replica and one number after the other, from its commit.
"""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch

from helmholtz_mim import SGD, HelmholtzMachine, Patterns, Stream, TrainConfig, WakeSleep, down, sample, up, well_formed
from helmholtz_mim.engines.reference import Setup
from helmholtz_mim.rule import phases
from helmholtz_mim.training import Trainer, start

SIZES = (12, 10, 8, 6, 3)
RHYTHMS = well_formed(12)
REPORT = """
import re, time, torch
from pathlib import Path
from helmholtz_mim import HelmholtzMachine, exact_report, well_formed
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1]) / 2**10
rhythms, generator = well_formed(12), torch.Generator().manual_seed(0)
_ = exact_report(HelmholtzMachine((8, 3)), well_formed(8))
for replicas in (1, 16):
    machine = HelmholtzMachine((12, 10, 8, 6, 3), replicas=(replicas,)).randomise_(1.0, generator=generator)
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before, seconds = peak(), []
    for _ in range(5):
        start = time.perf_counter()
        _ = exact_report(machine, rhythms)
        seconds.append(time.perf_counter() - start)
    print(f"  {replicas:>2} replicas: {min(seconds) / replicas:.4f} s each; peak {peak() - before:.0f} MB above {before:.0f} MB")
"""


BEFORE = "6a0e7ca"  # the last commit of the loop of before
# Both packages run this: name a case and a number of epochs, and read the CPU seconds of one epoch and of so many more.
TURNS = """
import sys, time, torch
from helmholtz_mim import CategoricalMIM, FactorialMIM, HelmholtzMachine, Patterns, TrainConfig, sample, train, well_formed
torch.set_num_threads(1)
bits = (torch.rand(1000, 784, generator=torch.Generator().manual_seed(0)) < 0.15).float()
worlds = {12: well_formed(12), 784: Patterns(bits)}
rules = {"sample": lambda: sample, "factorial": FactorialMIM, "categorical": CategoricalMIM}
def seconds(sizes, replicas, dtype, rule, batch, epochs):
    machine = HelmholtzMachine(sizes, replicas=(replicas,)).to(getattr(torch, dtype))
    machine.randomise_(0.1, generator=torch.Generator().manual_seed(1))
    config = TrainConfig(epochs, batch, report_every=epochs)
    begin = time.process_time()
    train(machine, worlds[sizes[0]], config, allocate=rules[rule](), report=no_report,
          engine="compiled", generator=torch.Generator().manual_seed(2))
    return time.process_time() - begin
def no_report(machine, patterns):
    import pandas
    return pandas.DataFrame()
for line in sys.stdin:
    case, epochs = eval(line)
    print(seconds(*case, 1), seconds(*case, 1 + epochs), flush=True)
"""


def contenders(before):
    """A process with the package of that folder, and one with this; each waits for its turn."""
    here = Path(__file__).parent.parent
    return [
        subprocess.Popen(
            [sys.executable, "-c", TURNS], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
            env=os.environ | dict(PYTHONPATH=str(path), OMP_NUM_THREADS="1", TQDM_DISABLE="1"), cwd=path,
        )
        for path in (before, here)
    ]  # fmt: skip


def compare(processes, case, epochs, rounds=4):
    """CPU seconds of an epoch of each process: the least of many epochs less the least of one, over rounds in turns."""
    times = [[] for _ in processes]
    for _ in range(rounds):
        for process, found in zip(processes, times, strict=True):
            print(repr((case, epochs)), file=process.stdin, flush=True)
            found.append([*map(float, process.stdout.readline().split())])
    return [(min(many) - min(one)) / epochs for one, many in (zip(*found, strict=True) for found in times)]


CASES = [  # what, then sizes, replicas, precision, rule, batch; epochs
    ("wake-sleep", (SIZES, 16, "float32", "sample", 1), 6),
    ("wake-sleep", (SIZES, 16, "float64", "sample", 1), 6),
    ("factorial MIM with `begin`", (SIZES, 16, "float32", "factorial", 1), 4),
    ("categorical MIM with `begin`", (SIZES, 16, "float32", "categorical", 1), 2),
    ("wake-sleep", (SIZES, 1, "float32", "sample", 1), 20),
    ("batches of 10", (SIZES, 16, "float32", "sample", 10), 6),
    ("batches of 100", (SIZES, 16, "float32", "sample", 100), 6),
]


def against_before(cases):
    """Microseconds of CPU time per replica-step in both packages, and their ratio."""
    archive = subprocess.run(["git", "archive", BEFORE, "helmholtz_mim"], check=True, capture_output=True, cwd=Path(__file__).parent.parent)
    found = []
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        processes = contenders(folder)
        print(f"  {'':<30} {'replicas':>8} {'':>8} {'before us':>9} {'now us':>8} {'ratio':>6} {'floor us':>8}")
        for what, case, epochs in cases:
            sizes, replicas, dtype, *_ = case
            patterns = len(RHYTHMS) if sizes == SIZES else 1000
            old, new = (t / patterns / replicas * 1e6 for t in compare(processes, case, epochs))
            print(f"  {what:<30} {replicas:>8} {dtype:>8} {old:>9.3f} {new:>8.3f} {old / new:>6.1f} {floor(sizes):>8.3f}", flush=True)
            found.append((old, new))
        for process in processes:
            process.stdin.close()
            process.wait()
    return found


PLAIN, STEPS = WakeSleep(), SGD()


def setup(machine, patterns, config, allocate=sample, method=PLAIN, optimizer=STEPS):
    """Everything about a run, as `train` puts it together."""
    stream, rules = Stream(machine.replicas, generator=torch.Generator().manual_seed(0)), phases(allocate)
    rules.awake.bind(up(machine))
    rules.asleep.bind(down(machine))
    return Setup(machine, patterns, config, method, rules, optimizer, stream, stream.fork())


def runner(engine, sizes, patterns, batch=1, replicas=(), dtype=torch.float64, **options):
    """A function that trains for so many epochs and returns the seconds each took; compiled and warm."""
    machine = HelmholtzMachine(sizes, replicas=replicas).to(dtype)
    machine.randomise_(0.1, generator=torch.Generator().manual_seed(1))
    return timed(engine, setup(machine, patterns, TrainConfig(epochs=1, batch=batch), **options))


def timed(engine, run):
    """A function that trains that run for so many epochs and returns the seconds each took."""
    trainer = Trainer(start(engine, run)[1], (run.stream, run.turns))
    trainer(1)

    def seconds(epochs):
        begin = time.perf_counter()
        trainer(epochs)
        return (time.perf_counter() - begin) / epochs

    return seconds


def best(contenders, rounds, seconds=1.0):
    """The least time of each contender over rounds in which they take turns, each for about so long."""
    epochs = {name: max(1, round(seconds / run(1))) for name, run in contenders.items()}
    times = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, run in contenders.items():
            times[name].append(run(epochs[name]))
    return {name: min(t) for name, t in times.items()}


def floor(sizes):
    """Microseconds of arithmetic in one online step, eight numbers to an instruction (the chapter on the loop counts it)."""
    pairs, units, hidden = sum(a * b for a, b in zip(sizes, sizes[1:], strict=False)), sum(sizes), sum(sizes[1:])
    return ((2 * (units + hidden) + units + hidden) * 30 + 6 * pairs * 4) / 8 / 2 / 3 / 1000


def steps():
    """One replica on one thread, step by step."""
    torch.set_num_threads(1)
    times = best({name: runner(name, SIZES, RHYTHMS) for name in ("torch", "compiled")}, rounds=8)
    slow, fast = (times[name] / len(RHYTHMS) * 1e6 for name in ("torch", "compiled"))
    print("One online wake-sleep step, 12-10-8-6-3, one replica, one thread")
    print(f"  reference {slow:.0f} us, compiled {fast:.2f} us: {slow / fast:.0f} times")
    print(f"  arithmetic floor {floor(SIZES):.2f} us ({fast / floor(SIZES):.1f} times)")


def experiment(epochs=60, of=600):
    """Sixteen replicas on all cores."""
    torch.set_num_threads(os.cpu_count())
    run = runner("compiled", SIZES, RHYTHMS, replicas=(16,))
    seconds = min(run(epochs) for _ in range(3)) * of
    print(f"16 replicas x {len(RHYTHMS)} patterns x {of} epochs on {os.cpu_count()} cores")
    print(f"  {seconds:.1f} s (scaled from the best of three runs of {epochs} epochs)")


def batches(sizes, patterns, sizes_of_batch, replicas, dtype=torch.float64, seconds=0.5):
    """Both engines over batch sizes, on all cores."""
    torch.set_num_threads(os.cpu_count())
    kind = str(dtype).removeprefix("torch.")
    print(f"Milliseconds per epoch of {patterns.epoch}, {'-'.join(map(str, sizes))}, {replicas} replicas, {kind}, {os.cpu_count()} threads")
    print(f"  {'batch':>5} {'reference':>10} {'compiled':>10} {'ratio':>7}")
    for batch in sizes_of_batch:
        contenders = {name: runner(name, sizes, patterns, batch, (replicas,), dtype) for name in ("torch", "compiled")}
        times = best(contenders, rounds=3, seconds=seconds)
        slow, fast = (times[name] * 1e3 for name in ("torch", "compiled"))
        print(f"  {batch:>5} {slow:>10.2f} {fast:>10.2f} {slow / fast:>7.2f}")


def main():
    print(f"Per pattern and replica, {'-'.join(map(str, SIZES))}, CPU time of one thread, before ({BEFORE}) and now")
    against_before(CASES)
    steps()
    experiment()
    print("Exact report on 12-10-8-6-3 with 905 patterns, one thread")
    environment = os.environ | dict(OMP_NUM_THREADS="1")
    subprocess.run([sys.executable, "-c", REPORT], check=True, env=environment)
    batches(SIZES, RHYTHMS, (1, 10, 100, 905), 16)
    batches(SIZES, RHYTHMS, (1, 10, 100, 905), 1)
    bits = (torch.rand(1000, 784, generator=torch.Generator().manual_seed(0)) < 0.2).float()
    for replicas in (1, 4):
        batches((784, 200, 100), Patterns(bits), (1, 10, 100, 1000), replicas, dtype=torch.float32)
    batches((64, 48, 32, 16), Patterns(bits[:, :64]), (1, 10, 100, 1000), 4, dtype=torch.float32)


if __name__ == "__main__":
    main()
