"""Runs shared by processes, shards and a cluster: done once, whoever does them, and taken up again where one is killed. Loopback only."""

import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
import torch
from distributed import Client
from joblib import effective_n_jobs

from helmholtz_mim import sweeps
from helmholtz_mim.cli import main
from helmholtz_mim.commands import book
from helmholtz_mim.store import Store
from helmholtz_mim.sweeps import STALE, claimed, claims, held, shared, sweep

HERE = Path(__file__).parent


@dataclass(frozen=True)
class Walk:
    """A sum of random numbers; one that hangs ends when it is begun again."""

    seed: int
    hangs: bool = False
    fails: bool = False
    kills: bool = False

    name = "walk"


def note(store, *words):
    """A line in a diary that many processes write, each at once."""
    with open(store.folder.parent / "diary", "a") as file:
        file.write(" ".join(map(str, words)) + "\n")


def diary(folder):
    path = folder / "diary"
    return [line.split() for line in path.read_text().splitlines()] if path.exists() else []


def walk(run, store):
    note(store, "begun", run.seed, os.getpid())
    if run.hangs and sum(line[:2] == ["begun", str(run.seed)] for line in diary(store.folder.parent)) == 1:
        time.sleep(120)
    if run.kills:
        os.kill(os.getpid(), signal.SIGKILL)
    if run.fails:
        raise ArithmeticError(f"walk {run.seed} leads nowhere")
    time.sleep(0.02)
    steps = torch.randn(1000, 50, dtype=torch.float64, generator=torch.Generator().manual_seed(run.seed))
    store.write(run, pd.DataFrame({"end": (steps @ steps.T).sum(1)[:20], "threads": torch.get_num_threads()}))
    note(store, "ended", run.seed, os.getpid())


def walks(*hang):
    return [Walk(seed, hangs=seed in hang) for seed in range(12)]


def place(folder):
    return Store(folder / "runs", "the test")


def files(folder):
    return {path.name: path.read_bytes() for path in (folder / "runs").iterdir()}


@pytest.fixture(scope="module")
def alone(tmp_path_factory):
    """The files that one process leaves, by the runs that hang."""
    made = {}

    def files_of(*hang):
        if hang not in made:
            folder = tmp_path_factory.mktemp("alone")
            for seed in hang:
                note(place(folder), "begun", seed, "before")
            sweep(place(folder), walks(*hang), walk)
            made[hang] = files(folder)
        return made[hang]

    return files_of


def wait_for(condition, seconds=120):
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, "it takes too long"
        time.sleep(0.02)
    return found


def hanging(folder, seed):
    """The process that hangs in a run, once it does."""
    return wait_for(lambda: [int(pid) for what, number, pid in diary(folder) if (what, number) == ("begun", str(seed))])[0]


def check_done_once(folder, killed, kept):
    """Every run has ended once, only the killed ones' were begun twice, and the files are those of one process."""
    lines = diary(folder)
    assert sorted(int(n) for what, n, _ in lines if what == "ended") == [*range(12)]
    begun = [(int(n), int(pid)) for what, n, pid in lines if what == "begun"]
    assert len(begun) == 12 + len(killed) and {pid for _, pid in begun if pid in killed} == set(killed)
    assert files(folder) == kept, "and no claim is left"


FORKS = get_context("forkserver" if sys.platform != "win32" else "spawn")
FORKS.set_forkserver_preload(["test_sweeps"])  # so that this file is imported once for all


def one_shard(folder, shard):
    with shared(shard=shard):
        sweep(place(folder), walks(0, 4), walk)


def test_four_shards_of_which_two_are_killed(tmp_path, alone):
    shards = [FORKS.Process(target=one_shard, args=(tmp_path, f"{i}/4")) for i in (1, 2, 3, 4)]
    try:
        [shard.start() for shard in shards]
        victims = [next(s for s in shards if s.pid == hanging(tmp_path, seed)) for seed in (0, 4)]
        for victim in victims:
            victim.kill()
            victim.join()
        [shard.join(120) for shard in shards]
    finally:
        [shard.kill() for shard in shards]
    assert sorted(shard.exitcode for shard in shards) == [-signal.SIGKILL, -signal.SIGKILL, 0, 0]
    check_done_once(tmp_path, [victim.pid for victim in victims], alone(0, 4))


def test_processes_of_which_one_is_killed(tmp_path, alone):
    runs = [*walks(5), Walk(99, fails=True)]
    watcher = FORKS.Process(target=kill_hanging, args=(tmp_path, 5))
    watcher.start()
    with shared(jobs=2), pytest.raises(ValueError, match=r"1 of 13 runs failed, the others are done: walk-\w+ \(ArithmeticError: walk 99 "):
        sweep(place(tmp_path), runs, walk)
    watcher.join(120)
    place(tmp_path).path(runs[-1], "failed").unlink()
    lines = [line for line in diary(tmp_path) if line[1] != "99"]
    (tmp_path / "diary").write_text("\n".join(map(" ".join, lines)))
    assert files(tmp_path) == alone(5)


def kill_hanging(folder, seed):
    os.kill(hanging(folder, seed), signal.SIGKILL)


@pytest.fixture
def dask(tmp_path):
    """A function that starts a worker of a scheduler, the scheduler's address, and itself; on loopback, all gone in the end."""
    programs = []

    def begin(what, *words):
        module = f"distributed.cli.dask_{what}"
        path = os.pathsep.join([str(HERE), *sys.path])
        quiet = dict(stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=os.environ | {"PYTHONPATH": path})
        programs.append(subprocess.Popen([sys.executable, "-m", module, "--no-dashboard", *words], cwd=tmp_path, **quiet))
        return programs[-1]

    scheduler = begin("scheduler", "--host", "127.0.0.1", "--port", "0", "--scheduler-file", "scheduler.json")

    def worker():
        words = "--scheduler-file scheduler.json --host 127.0.0.1 --nthreads 1 --no-nanny --local-directory".split()
        return begin("worker", *words, str(tmp_path / "scratch"))

    try:
        told = tmp_path / "scheduler.json"
        yield worker, lambda: json.loads(wait_for(lambda: told.exists() and told.read_text()))["address"], scheduler
    finally:
        for program in programs:
            program.kill()
            program.wait()


def test_two_workers_of_a_cluster_of_which_one_is_killed(dask, tmp_path, alone):
    worker, address, _ = dask
    workers = [worker()]

    def relieve():
        """Once the only worker hangs, a second one comes, and the first is killed."""
        if hanging(tmp_path, 5) == workers[0].pid:
            workers.append(worker())
            workers[0].kill()

    relief = threading.Thread(target=relieve)
    relief.start()
    with shared(cluster=address()):
        sweep(place(tmp_path), walks(5), walk)
    relief.join()
    check_done_once(tmp_path, [hanging(tmp_path, 5)], alone(5))
    assert sum(worker.poll() is not None for worker in workers) == 1, "the other one lives"
    assert {int(line[2]) for line in diary(tmp_path)} == {worker.pid for worker in workers}, "none of it here"


def refusal_with(cluster, runs, folder, monkeypatch):
    """The sentence with which `table` ends that sweeps those runs on a cluster."""
    monkeypatch.setitem(book.TABLES, "worlds", lambda *arguments: sweep(place(folder), runs, walk))
    with pytest.raises(SystemExit) as stopped:
        main(["table", "worlds", "--cluster", cluster, "--out", str(folder)])
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code, "with exit status 1"
    return stopped.value.code


def test_a_scheduler_that_dies_in_the_middle(dask, tmp_path, alone, monkeypatch, capfd):
    """What is finished is kept, and the same goes on; here when the worker has gone, too."""
    worker, address, scheduler = dask
    only, where = worker(), address()
    watcher = threading.Thread(target=lambda: hanging(tmp_path, 5) and scheduler.kill())
    watcher.start()
    said = refusal_with(where, walks(5), tmp_path, monkeypatch)
    assert said == f"helmholtz-mim: the Dask cluster at {where} is gone, its scheduler or all its workers: start it again, " \
        "and the same command goes on; what is finished is kept"
    watcher.join()
    assert capfd.readouterr() == ("", ""), "and nothing else is said"
    finished = {path for path in (tmp_path / "runs").iterdir() if path.suffix == ".csv"}
    only.kill()
    only.wait()
    assert finished and len(finished) < 12
    sweep(place(tmp_path), walks(5), walk)
    check_done_once(tmp_path, [only.pid], alone(5))


def test_a_run_that_kills_every_worker_fails_and_the_others_go_on(dask, tmp_path, alone, monkeypatch):
    worker, address, _ = dask
    workers, killer = [worker(), worker()], Walk(99, kills=True)
    with Client(address(), set_as_default=False) as client:
        client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    said = refusal_with(address(), [*walks(), killer], tmp_path, monkeypatch)
    assert "1 of 13 runs failed, the others are done: walk-" in said and "every worker that had it has died" in said
    assert sum(worker.poll() is not None for worker in workers) == 1, "no more than the scheduler allows"
    place(tmp_path).path(killer, "failed").unlink()
    assert files(tmp_path) == alone(), "and no claim is left"


# Claims


def put_claim(path, host, process, age=0.0, number=1):
    path.with_name(f"{path.name}.claim-{number}").write_text(f"{host} {process} some time ago\n")
    os.utime(path.with_name(f"{path.name}.claim-{number}"), (time.time() - age,) * 2)


def ended():
    """The number of a process that has ended."""
    program = subprocess.Popen([sys.executable, "-S", "-c", ""])
    program.wait()
    return program.pid


HERE_NOW = socket.gethostname()


@pytest.mark.parametrize("number", [1, 7])
@pytest.mark.parametrize(
    "host, process, age, void",
    [
        (HERE_NOW, os.getpid, 0, False), (HERE_NOW, ended, 0, True), (HERE_NOW, os.getpid, 2 * STALE, True),
        ("elsewhere", ended, 0.5 * STALE, False), ("elsewhere", ended, 2 * STALE, True), ("", str, 0, False), ("", str, 2 * STALE, True),
    ],
)  # fmt: skip
def test_a_claim_is_void_when_nobody_is_behind_it(host, process, age, void, number, tmp_path):
    path = tmp_path / "x [1].csv"
    put_claim(path, host, process(), age, number)
    assert held(path) is not void
    with claimed(path) as ours:
        assert ours is void and len(claims(path)) == 1 + void
        with claimed(path) as twice:
            assert not twice
    assert len(claims(path)) == (not void)


@pytest.mark.skipif(sys.platform == "win32", reason="a process cannot leave its end unnoticed there")
def test_a_process_that_nobody_has_buried_is_gone(tmp_path):
    program = subprocess.Popen([sys.executable, "-S", "-c", ""])
    put_claim(tmp_path / "x", HERE_NOW, program.pid)
    wait_for(lambda: not held(tmp_path / "x"), 20)
    assert program.returncode is None and program.wait() == 0


def test_never_two_at_once(tmp_path):
    """Eight that want the same, again and again, some beside a void claim."""
    path, inside, most, times = tmp_path / "x", [], [], []

    def want():
        for turn in range(30):
            if turn % 5 == 0:
                with suppress(FileNotFoundError):  # if its successor has gone already
                    put_claim(path, "elsewhere", 1, 2 * STALE, 1000)
            with claimed(path) as ours:
                if ours:
                    inside.append(1)
                    most.append(len(inside))
                    time.sleep(0.001)
                    inside.pop()
                    times.append(1)

    threads = [threading.Thread(target=want) for _ in range(8)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert set(most) == {1} and times and not claims(path)


def test_a_claim_is_renewed(tmp_path, monkeypatch):
    monkeypatch.setattr(sweeps, "RENEWED", 0.01)
    with claimed(tmp_path / "x"):
        (claim,) = claims(tmp_path / "x")
        os.utime(claim, (0, 0))
        wait_for(lambda: claim.stat().st_mtime > time.time() - 100)
    time.sleep(0.03)
    assert not claim.exists(), "and is not renewed when it was given back"


# Sweeps


def test_what_another_machine_has_begun_is_waited_for(tmp_path):
    store, run = place(tmp_path), Walk(3)
    store.folder.mkdir()
    put_claim(store.path(run), "elsewhere", 1)

    def end():
        store.write(run, pd.DataFrame({"end": [7]}))
        claims(store.path(run))[0].unlink()

    threading.Timer(0.3, end).start()
    assert sweep(store, [run, Walk(4)], walk).end.tolist()[0] == 7
    assert [line[:2] for line in diary(tmp_path)] == [["begun", "4"], ["ended", "4"]]


def test_what_fails_is_named_and_tried_again(tmp_path, capsys):
    store, runs = place(tmp_path), [Walk(1), Walk(2, fails=True), Walk(3), *(Walk(n, fails=True) for n in range(4, 7))]
    for _ in range(2):
        said = r"^4 of \d runs failed, the others are done: (walk-\w+ \(ArithmeticError: walk \d leads nowhere\),? ?){3}and 1 more; "
        with pytest.raises(ValueError, match=said + ".*, and the test tries them again$"):
            sweep(store, runs, walk)
        assert capsys.readouterr().out.count("failed: walk-") == 4
    assert [line[1] for line in diary(tmp_path) if line[0] == "begun"] == [*"123456", *"2456"]
    trace = store.path(runs[1], "failed").read_text()
    assert trace.startswith("Traceback") and "raise ArithmeticError" in trace and not list(store.folder.glob("*.claim-*"))


def test_what_failed_elsewhere_is_not_tried_here(tmp_path):
    """Another shard fails while this one is at work."""
    store, runs = place(tmp_path), [Walk(1), Walk(2)]

    def and_fail(run, store):
        store.path(runs[1], "failed").write_text("Traceback\nOSError: no room there")
        walk(run, store)

    with pytest.raises(ValueError, match=r"1 of 2 runs failed, the others are done: walk-\w+ \(OSError: no room there\)"):
        sweep(store, runs, and_fail)
    assert len(diary(tmp_path)) == 2


def test_an_interrupted_sweep_leaves_no_void_claim(tmp_path):
    """As when its workers are killed in the middle of their runs."""
    store, runs = place(tmp_path), [Walk(1), Walk(2), Walk(3)]

    def interrupt(run, store):
        put_claim(store.path(runs[1]), HERE_NOW, ended())
        put_claim(store.path(runs[2]), "elsewhere", 1)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        sweep(store, runs, interrupt)
    assert [len(claims(store.path(run))) for run in runs] == [0, 0, 1]


def test_a_command_says_who_does_the_runs(tmp_path, monkeypatch, capsys):
    def asked(folder, resume, *seeds):
        return pd.DataFrame({"jobs": [effective_n_jobs(None)], "first": [sweeps.SHARD.get()[0]]}, index=["who"])

    monkeypatch.setitem(book.TABLES, "worlds", asked)
    for words, who in {"": "2 1", "--jobs 3 --shard 2/4": "3 2", "--jobs 1": "1 1"}.items():
        main(["table", "worlds", "--out", str(tmp_path), *words.split()])
        assert capsys.readouterr().out.split()[-2:] == who.split()


def test_a_folder_that_not_all_see(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"2 runs are done where .* not in \S+runs: choose a folder that all machines see"):
        sweep(place(tmp_path), [Walk(1), Walk(2)], lambda run, store: None)


@pytest.mark.parametrize("shard, first", [("1/1", 0), ("1/4", 0), ("2/4", 3), ("4/4", 9), ("12/12", 11), ("13/13", 11)])
def test_a_shard_begins_with_its_part_and_does_the_rest(shard, first, tmp_path):
    done = []
    with shared(shard=shard), pytest.raises(FileNotFoundError):
        sweep(place(tmp_path), walks(), lambda run, store: done.append(run.seed))
    assert done == [*range(first, 12), *range(first)]


NO_ADDRESSES = [
    "", " ", "nowhere", "scheduler.json", "tcp://", "tcp://127.0.0.1", "tcp://:9", "tcp://127.0.0.1:port", "tcp://127.0.0.1:99999",
    "tcp://[::1", "tcp://127.0.0.1:9/x", "http://127.0.0.1:9", "inproc://x", "ucx://127.0.0.1:9", "tcp://\udcff:9",
]  # fmt: skip


@pytest.mark.parametrize("what, sentence", [
    ({"shard": "5/4"}, "a shard is i/n, from 1/n to n/n, such as 2/4, not 5/4"), ({"shard": "0/4"}, "a shard is i/n"),
    ({"shard": "2"}, "a shard is i/n"), ({"jobs": 0}, "jobs are processes, at least 1, not 0"),
    ({"jobs": 2, "cluster": "tcp://x"}, "leave jobs out"), ({"cluster": "tcp://127.0.0.1:9"}, "^no Dask scheduler answers at tcp://127"),
    ({"cluster": "127.0.0.1:9"}, "^no Dask scheduler answers at 127.0.0.1:9: start `dask scheduler` there, or give the address"),
    *(({"cluster": word}, "^a cluster is the address of a Dask scheduler, tcp://HOST:PORT as it has printed, ") for word in NO_ADDRESSES),
])  # fmt: skip
def test_what_cannot_be(what, sentence, monkeypatch):
    monkeypatch.setattr(sweeps, "PATIENCE", 0.1)
    with pytest.raises((ValueError, ConnectionError), match=sentence), shared(**what):
        pass
    assert sweeps.SHARD.get() == (1, 1)


class Idle:
    """A scheduler that answers and has no workers."""

    def __init__(self, address, **options):
        self.ncores = self.close = dict

    def wait_for_workers(self, count, timeout):
        raise TimeoutError


def test_a_cluster_without_workers(monkeypatch):
    monkeypatch.setattr("distributed.Client", Idle)
    with pytest.raises(ConnectionError, match=r"tcp://x:1 has no workers: start `dask worker tcp://x:1` on each machine$"), shared(cluster="tcp://x:1"):
        pass


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="no folder in which even root makes none")
@pytest.mark.parametrize("folder", ["/proc/self/results", "file/below"])
def test_a_folder_in_which_nothing_can_be_claimed(folder, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"runs cannot be claimed in \S+ \([A-Z][\w ]+\): choose a folder to write in$"):
        sweep(Store(tmp_path / folder, "the test"), [Walk(1)], walk)
