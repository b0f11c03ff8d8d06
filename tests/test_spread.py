"""One machine over several processes, by units or by rows: they agree with one, send what is said, and end together. Loopback only."""

import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import redirect_stderr, redirect_stdout

import pytest
import torch
import torch.distributed as dist
from torch.testing import assert_close
from warm import FORKS

from helmholtz_mim import Adam, CategoricalMIM, FactorialMIM, HelmholtzMachine, NotApplicable, Patterns, Reweighted
from helmholtz_mim import Checkpoint, EarlyStopping, TrainConfig, ais_log_likelihood, load, sampled_report, save, train
from helmholtz_mim.cli import main
from helmholtz_mim.commands.folder import Following
from helmholtz_mim.engines.rows import asked_of_a_rank
from helmholtz_mim.engines import spread
from helmholtz_mim.engines.spread import bits_sent, gradients_sent, pack, unpack
from helmholtz_mim.measures.likelihood import rungs
from helmholtz_mim.ranks import Ranks, jointly, side_by_side, together
from helmholtz_mim.rules.factorial import soft_mean
from helmholtz_mim.training import losses

SIZES = (30, 17, 9)
CUTS = "spread", "rows"
RUNS = {
    "plain": {},
    "MIM": dict(allocate=FactorialMIM),
    "batch MIM": dict(allocate=lambda: FactorialMIM(threshold=soft_mean)),
    "Adam": dict(optimizer=lambda: Adam(0.01)),
    "reweighted": dict(method=lambda: Reweighted(3)),
    "all": dict(allocate=FactorialMIM, optimizer=lambda: Adam(0.01), method=lambda: Reweighted(3)),
}


def patterns():
    bits = torch.rand(201, SIZES[0], generator=torch.Generator().manual_seed(5)) < torch.linspace(0.05, 0.9, 201)[:, None]
    return Patterns(bits)


def machine(sizes=SIZES):
    return HelmholtzMachine(sizes, bias=True).to(torch.float32).randomise_(0.2, generator=torch.Generator().manual_seed(1))


def trained(name, engine, **options):
    one, made = machine(), {key: make() for key, make in RUNS[name].items()}
    config = TrainConfig(2, batch=100, dreams=24, fraction=0.4 if "allocate" in made else None, report_every=1)
    history = train(one, patterns(), config, engine=engine, generator=torch.Generator().manual_seed(2), **made, **options)
    return one, history

LIMIT = 100  # seconds, for everything that several processes do together


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def as_rank(place, folder, work, arguments):
    """Work as that rank, in a folder; what it says goes to a file by its number."""
    os.environ.update(place, MASTER_ADDR="127.0.0.1", GLOO_SOCKET_IFNAME="lo", OMP_NUM_THREADS="1", COLUMNS="100")
    os.chdir(folder)
    torch.set_num_threads(1)
    with open(place["RANK"] + ".txt", "w") as said, redirect_stdout(said), redirect_stderr(said):
        try:
            work(*arguments)
        except SystemExit as end:
            print(end)
            raise SystemExit(int(end.code not in (None, 0))) from None
        except BaseException as error:
            print(f"{type(error).__name__}: {error}")
            raise SystemExit(1) from None


def start(folder, count, work, *arguments, missing=0, port=None, width=None):
    """So many ranks, as processes; some of them may be missing, and so many be on one computer."""
    folder.mkdir(exist_ok=True)
    port, ranks = port or free_port(), []
    for rank in range(count - missing):
        place = dict(RANK=str(rank), WORLD_SIZE=str(count), MASTER_PORT=str(port), LOCAL_WORLD_SIZE=str(width or count))
        ranks.append(FORKS.Process(target=as_rank, args=(place, folder, work, arguments), daemon=True))
        ranks[-1].start()
    return ranks


def finish(folder, ranks):
    """Their exit statuses, and what each of them said."""
    end = time.monotonic() + LIMIT
    for process in ranks:
        process.join(max(0, end - time.monotonic()))
        process.kill()
    return [process.exitcode for process in ranks], [(folder / f"{k}.txt").read_text() for k in range(len(ranks))]


def bytes_of_a_step(cut):
    """What a rank says that it has sent in a step with 100 data and 24 dreams."""
    seen = []
    options = dict(engine=cut, checkpoint=seen.append, generator=torch.Generator().manual_seed(2))
    train(machine(), patterns(), TrainConfig(1, batch=100, dreams=24), **options)
    engine = seen[-1].trainer.engine
    before = engine.sent
    engine.step(torch.arange(100), torch.zeros(100, dtype=torch.bool))
    return engine.sent - before


def learn_together(cuts=CUTS):
    with together(30) as ranks:
        found = {}
        for cut in cuts:
            for name in RUNS:
                one, history = trained(name, cut)
                whole = torch.cat([b.flatten() for b in one.buffers()])
                assert (ranks.everybody(whole) == whole).all(), "every rank has the whole machine"
                found[cut, name] = whole, history.value.tolist()
            found[cut] = bytes_of_a_step(cut)
            different = machine()
            different.prior.bias += ranks.rank
            other = cuts[ranks.rank % len(cuts)]
            for one, engine in ((different, cut), (machine(), other))[: len(cuts)]:
                with pytest.raises(ValueError, match="start all of them with the same command"):
                    train(one, patterns(), TrainConfig(1, batch=40), engine=engine, generator=torch.Generator().manual_seed(2))
        if "grid" in cuts:
            beside = side_by_side(ranks, 2)[0].group._get_backend(torch.device("cpu"))
            assert beside.options._timeout.total_seconds() == 60, "nobody waits half an hour for a rank that has stopped"
            os.environ["LOCAL_WORLD_SIZE"] = "1" if ranks.rank else "2"
            with pytest.raises(NotApplicable, match="make no grid: start as many on every computer"):
                trained("plain", "grid")
        if ranks.rank == 0:
            torch.save(found, "found.pt")


@pytest.mark.parametrize("shape", [(1, 1), (3, 8), (5, 17), (2, 64)])
def test_bits_are_packed_alike_on_a_device(shape, monkeypatch):
    bits = (torch.rand(shape, generator=torch.Generator().manual_seed(0)) < 0.5).float()
    packed = pack(bits)
    monkeypatch.setattr(spread, "here", lambda t: False)
    assert torch.equal(pack(bits), packed)
    for where in (True, False):
        monkeypatch.setattr(spread, "here", lambda t, where=where: where)
        assert torch.equal(unpack(packed, shape[1]), bits.to(torch.uint8))


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_do_together_what_one_does(count, tmp_path, single_precision):
    """They agree in every cut, send what is said, and refuse to learn different things; the last batch is of one row."""
    statuses, said = finish(tmp_path, start(tmp_path, count, learn_together))
    assert statuses == [0] * count, said
    found = torch.load(tmp_path / "found.pt")
    assert found["spread"] == bits_sent(SIZES, 100, 24, count)
    assert found["rows"] == gradients_sent(SIZES, count)
    for name in RUNS:
        one, history = trained(name, "batched")
        whole = torch.cat([b.flatten() for b in one.buffers()])
        for cut in CUTS:
            learnt, values = found[cut, name]
            assert (learnt - whole).norm() < 0.01 * whole.norm(), f"{cut}, {name}: a coin on the edge may fall otherwise, not many"
            assert_close(values, history.value.tolist(), rtol=1e-3, atol=1e-3)


def test_a_grid_of_ranks_does_what_one_does(tmp_path, single_precision):
    """Two ranks share the units, and two such pairs the rows; they send what the model says, but for blocks that are not alike."""
    statuses, said = finish(tmp_path, start(tmp_path, 4, learn_together, ("grid",), width=2))
    assert statuses == [0] * 4, said
    found = torch.load(tmp_path / "found.pt")
    assert found["grid"] == pytest.approx(asked_of_a_rank(SIZES, 62, units=2, rows=2)[3], rel=0.1)
    for name in RUNS:
        one, history = trained(name, "batched")
        whole = torch.cat([b.flatten() for b in one.buffers()])
        learnt, values = found["grid", name]
        assert (learnt - whole).norm() < 0.01 * whole.norm(), name
        assert_close(values, history.value.tolist(), rtol=1e-3, atol=1e-3)


def engine_of(one):
    """The engine that trains it, if none is named."""
    seen, data = [], Patterns(torch.eye(one.sizes[0]))
    train(one, data, TrainConfig(1, batch=200), checkpoint=seen.append, generator=torch.Generator())
    return seen[0].engine


def measured(rows):
    """All that ranks can measure together, of so many patterns."""
    one, data, found = machine(), Patterns(patterns().bits[:rows]), {}
    chance = torch.Generator().manual_seed(3)
    found["losses"] = losses(one, data, generator=chance).value
    found["mean weights"], found["effective"] = rungs(one, data, (1, 7, 40), generator=chance)
    found["annealed"] = ais_log_likelihood(one, data, 3, 5, generator=chance)
    found["report"] = sampled_report(one, data, samples=80, generator=chance).value
    stop = EarlyStopping(data)
    stop(one)
    found["score"], found["chance afterwards"] = stop.scores, torch.rand(3, generator=chance)
    return {name: torch.as_tensor(value) for name, value in found.items()}


def measure_together():
    with together(30) as ranks:
        assert engine_of(HelmholtzMachine((400, 400)).float()) == "spread", "wide enough for the batched one, too"
        for rows in (201, 50, 2):
            alone, sent = measured(rows), ranks.sent
            with jointly(ranks):
                shared = measured(rows)
            assert ranks.sent > sent, "each does a part"
            for name, value in alone.items():
                assert_close(shared[name], value, rtol=1e-4, atol=1e-4, msg=lambda words, name=name: f"{name}: {words}")


@pytest.mark.parametrize("count", [2, 3])
def test_ranks_measure_together_what_one_does(count, tmp_path):
    statuses, said = finish(tmp_path, start(tmp_path, count, measure_together))
    assert statuses == [0] * count, said


@pytest.mark.parametrize("name", RUNS)
def test_one_rank_is_the_batched_engine(name, single_precision):
    engines = "batched", *CUTS, "grid"
    batched, spread, by_rows, grid = (trained(name, engine)[0].buffers() for engine in engines)
    for one, other, summed, both in zip(batched, spread, by_rows, grid, strict=True):
        assert torch.equal(summed, both)
        assert torch.equal(one, other)
        assert_close(one, summed, rtol=0, atol=1e-4)


def test_rows_take_rules_for_whole_layers(single_precision):
    pair = []
    for engine in ("batched", "rows"):
        narrow = HelmholtzMachine((6, 5, 4), bias=True)
        options = dict(allocate=CategoricalMIM(), engine=engine, generator=torch.Generator().manual_seed(0))
        train(narrow, Patterns(torch.eye(6)), TrainConfig(4, batch=3, every=2), **options)
        pair.append(torch.cat([b.flatten() for b in narrow.buffers()]))
    assert_close(*pair, rtol=0, atol=1e-5)


def learn_long(cut, sizes=SIZES):
    with together(10) as ranks:
        one, kept = machine(sizes), (Following if ranks.rank else Checkpoint)("run.checkpoint", 0.0)
        begun = []

        def watch(run):
            kept(run)
            begun or begun.append(run.trainer.done)

        data = patterns() if sizes == SIZES else Patterns(torch.eye(sizes[0]))
        config, generator = TrainConfig(30, batch=100, report_every=10), torch.Generator().manual_seed(2)
        options = dict(optimizer=Adam(0.01), allocate=FactorialMIM(), checkpoint=watch)
        history = train(one, data, config, engine=cut, generator=generator, **options)
        if ranks.rank == 0:
            save(one, "machine.safetensors")
            print(begun[0], *history.step.unique())


@pytest.mark.parametrize("cut", CUTS)
def test_a_killed_rank_ends_all_and_another_number_of_ranks_goes_on(cut, tmp_path):
    """Of two ranks one is killed; with another machine none goes on from there; one alone does, to the end."""
    ranks, checkpoint = start(tmp_path, 2, learn_long, cut), tmp_path / "run.checkpoint"
    end = time.monotonic() + LIMIT
    while not checkpoint.exists() and time.monotonic() < end and ranks[1].is_alive():
        time.sleep(0.005)
    ranks[1].kill()
    statuses, said = finish(tmp_path, ranks)
    assert statuses == [1, -signal.SIGKILL] and "start all again, and training goes on with --resume" in said[0]
    assert checkpoint.exists() and not (tmp_path / "machine.safetensors").exists()
    statuses, said = finish(tmp_path, start(tmp_path, 2, learn_long, cut, (12, 8, 6)))
    assert statuses == [1, 1] and "is of another run, which differs in" in said[0]
    statuses, said = finish(tmp_path, start(tmp_path, 1, learn_long, cut))
    assert statuses == [0], said
    begun, *steps = map(int, said[0].split())
    assert 0 < begun < 30 and steps == [0, 30, 60, 90]
    assert load(tmp_path / "machine.safetensors").sizes == SIZES


def test_what_cannot_be_cut_is_refused(monkeypatch, single_precision):
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, 10)))
    with pytest.raises(NotApplicable, match="10 ranks cannot share a layer of 9 units: start at most 9"):
        trained("plain", "spread")
    few = TrainConfig(1, batch=40, dreams=8)
    with pytest.raises(NotApplicable, match="10 ranks cannot share a batch of 8: start at most 8"):
        train(machine(), patterns(), few, engine="rows", generator=torch.Generator())
    monkeypatch.setattr(Ranks, "here", classmethod(lambda cls: cls(0, 1)))
    with pytest.raises(NotApplicable, match=r"CategoricalMIM decides a layer as a whole.*use FactorialMIM.* engine='rows'"):
        narrow, options = HelmholtzMachine((6, 5, 4)), dict(allocate=CategoricalMIM(), generator=torch.Generator())
        train(narrow, Patterns(torch.eye(6)), TrainConfig(1, batch=3), engine="spread", **options)


def test_each_process_takes_a_card_of_its_own(monkeypatch):
    """Nobody has one here: what would be asked for."""
    asked = {}
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "set_device", lambda number: asked.update(card=number))
    monkeypatch.setattr(dist, "init_process_group", lambda backend, **how: asked.update(how, backend=backend))
    monkeypatch.setattr(dist, "rendezvous", lambda *_, **__: iter([(dist.HashStore(), 3, 4)]))
    for name, value in dict(WORLD_SIZE="4", RANK="3", LOCAL_RANK="1").items():
        monkeypatch.setenv(name, value)
    with together():
        assert (asked["card"], asked["rank"], asked["world_size"]) == (1, 3, 4)
        assert asked["backend"] == "cpu:gloo,cuda:nccl", "words and digests are on the processor"


def wait_for_others(seconds=1):
    with together(seconds):
        pass


def test_a_missing_rank_and_a_port_in_use_are_said(tmp_path):
    missing = start(tmp_path / "missing", 3, wait_for_others, missing=1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        statuses, said = finish(tmp_path / "port", start(tmp_path / "port", 2, wait_for_others, missing=1, port=port))
    assert statuses == [1] and f"OSError: port {port} is in use by something else: give torchrun another one" in said[0]
    statuses, said = finish(tmp_path / "missing", missing)
    assert statuses == [1, 1] and all("TimeoutError: the other ranks did not answer: one of them is missing" in words for words in said)


TRAIN = "train --data digits --batch 100 --report-every 1 --measure losses --out run --sizes 64 20 "


def test_torchrun_goes_on_after_one_rank_was_killed(tmp_path):
    """Only the first writes and speaks; what is finished is not begun again."""
    line = (TRAIN + "10 --epochs 25 --checkpoint-minutes 0.0001 --resume").split()
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--max-restarts", "1"]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("RANK", "WORLD_SIZE", "LOCAL_", "MASTER_"))}
    place = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}
    process = subprocess.Popen(
        [*command, "-m", "helmholtz_mim", *line], cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        start_new_session=True, env=inherited | place,
    )  # fmt: skip
    try:
        end = time.monotonic() + LIMIT
        while not [*tmp_path.glob("run/*checkpoint*")] and time.monotonic() < end and process.poll() is None:
            time.sleep(0.005)
        children = subprocess.run(["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True).stdout.split()
        os.kill(int(children[-1]), signal.SIGKILL)
        out, errors = process.communicate(timeout=LIMIT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, errors
    assert out.count("engine spread") == 2, "it was started, and started again"
    assert out.count("wrote run/machine.safetensors") == 1
    assert load(tmp_path / "run/machine.safetensors").sizes == (64, 20, 10)
    statuses, said = finish(tmp_path, start(tmp_path, 2, main, line))
    assert statuses == [0, 0] and "nothing is left to do" in said[0] and not said[1]


def go_astray(line):
    main([*line, "--seed", os.environ["RANK"]])


def test_what_is_wrong_with_one_rank_is_said_by_that_one(tmp_path):
    statuses, said = finish(tmp_path, start(tmp_path, 2, go_astray, (TRAIN + "10").split()))
    assert statuses == [1, 1] and "did not answer" not in said[0], "why is known"
    assert "helmholtz-mim, rank 1: this rank was started with other options than the first one" in said[1]
    assert not (tmp_path / "run").exists()


def test_ranks_answer_as_one(tmp_path, capsys, monkeypatch):
    """What two ranks print together is what one prints, but for the last digit; only the first one speaks."""
    monkeypatch.setenv("COLUMNS", "100")
    save(machine((64, 20, 10)), tmp_path / "machine.safetensors")
    for line in (["report", "--samples", "400"], ["evaluate", "--particles", "50", "--count", "90"]):
        line += [str(tmp_path / "machine.safetensors"), "--data", "digits"]
        statuses, said = finish(tmp_path, start(tmp_path, 2, main, line))
        assert statuses == [0, 0] and not said[1]
        main(line)
        alone = capsys.readouterr().out
        numbers = [[float(x) for x in re.findall(r"\d+\.\d+", words)] for words in (said[0][-len(alone) :], alone)]
        assert len(numbers[0]) > 5
        assert_close(*numbers, rtol=0, atol=0.02)
    line = ["sample", str(tmp_path / "machine.safetensors"), "--to", "dreams.npy"]
    statuses, said = finish(tmp_path, start(tmp_path, 2, main, line))
    assert statuses == [0, 0] and "wrote dreams.npy" in said[0] and not said[1], "what ranks do not share, the first one does"


def test_a_mistake_is_said_by_one_rank(tmp_path):
    line = (TRAIN + "1 --epochs 2 --engine spread").split()
    statuses, said = finish(tmp_path, start(tmp_path, 2, main, line))
    assert statuses == [1, 1] and "".join(said).count("2 ranks cannot share a layer of 1 units: start at most 1") == 1
    assert not (tmp_path / "run").exists() or not list((tmp_path / "run").glob("machine*"))
