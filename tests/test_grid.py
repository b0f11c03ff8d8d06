"""A sweep of one's own: what its runs are, what they leave, and how it says no."""

import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import pandas as pd
import pytest
import torch

from helmholtz_mim import load
from helmholtz_mim.cli import main
from helmholtz_mim.commands import grid as module
from helmholtz_mim.commands.folder import RESULTS
from helmholtz_mim.commands.grid import MOST, Grid, column, grid, numbers, perform, summary, values_of
from helmholtz_mim.commands.training import Train
from helmholtz_mim.store import Store
from helmholtz_mim.sweeps import sweep

TINY = Train("bars", sizes=(16, 4, 2), epochs=4, report_every=4, seeds=3)
LINE = "sweep --data bars --sizes 16 4 2 --epochs 4 --report-every 4 --seeds 3 --jobs 1 --repeats 2 --out out".split()
VARY = "--vary lr=0.1,0.05 --vary scheme=wake-sleep,mim".split()


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, a page's width, and the precision a program starts with."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    torch.set_default_dtype(torch.float32)
    return tmp_path


def refusal(line):
    with pytest.raises(SystemExit) as stopped:
        main(line)
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code.removeprefix("helmholtz-mim: ")


def by_hand(out, **options):
    """What `train` leaves with those options, and what it says in the end, for each machine."""
    training = replace(TINY, out=Path(out), **options)
    training.run()
    return training.settled().outcome(load(training.out / RESULTS[0]))


def test_the_numbers_of_the_table_are_those_of_train(folder, capsys):
    main([*LINE, *VARY])
    said = capsys.readouterr().out
    table = pd.read_csv("out/table.csv").set_index(["lr", "scheme"])
    machines = pd.read_csv("out/machines.csv")
    assert list(table.index) == [(0.1, "wake-sleep"), (0.1, "mim"), (0.05, "wake-sleep"), (0.05, "mim")]
    assert (table.machines == 6).all() and len(machines) == 4 * 6
    for seed in (0, 1):
        found = {column(name): v for name, v in by_hand(f"hand-{seed}", lr=0.05, scheme="mim", seed=seed).items()}
        ours = machines.query(f"lr == 0.05 and scheme == 'mim' and seed == {seed}")
        assert ours.replica.tolist() == [0, 1, 2] and ours.file.nunique() == 1
        for name, values in found.items():
            assert ours[name].tolist() == pytest.approx(values.tolist(), rel=1e-4), name
        for name in RESULTS:
            assert (folder / "out" / ours.file.iloc[0]).with_name(name).read_bytes() == (folder / f"hand-{seed}" / name).read_bytes()
    for name in found:
        of = machines.query("lr == 0.05 and scheme == 'mim'")[name]
        half = 2.5706 * of.std() / math.sqrt(6)  # of Student's t with five degrees of freedom
        assert table.loc[(0.05, "mim"), [name, f"{name} low", f"{name} high"]].tolist() == pytest.approx(
            [of.mean(), of.mean() - half, of.mean() + half], rel=1e-3
        )
    best = machines.loc[machines["ln p(data)"].idxmax()]
    assert f"the likeliest is in out/{best.file}\n" in said
    assert said.startswith("8 runs, of which 0 are done\n") and max(map(len, said.splitlines()[:-2])) <= 100
    capsys.readouterr()
    main(["report", f"out/{best.file}"])
    main(["train", "--from", f"out/{best.file}", "--data", "bars", "--epochs", "1", "--out", "on"])
    assert "of 3 seeds" in capsys.readouterr().out


def test_what_is_done_is_not_done_again(folder, capsys):
    main([*LINE, "--vary", "lr=0.1,0.05"])
    before = {path: path.stat().st_mtime_ns for path in folder.glob("out/*/*")}
    main([*LINE, "--vary", "lr=0.1,0.05,0.2"])
    assert "6 runs, of which 4 are done" in capsys.readouterr().out
    assert {path: path.stat().st_mtime_ns for path in before} == before and len(before) == 4 * len(RESULTS)
    assert pd.read_csv("out/table.csv").lr.tolist() == [0.1, 0.05, 0.2]
    main([*LINE, "--vary", "lr=0.05", "--no-resume"])
    assert sum(path.stat().st_mtime_ns != before[path] for path in before) == 2 * len(RESULTS)


def test_data_of_ones_own_and_a_file_that_has_changed(folder, capsys):
    rows = torch.eye(8).int().tolist()

    def write(rows):
        (folder / "mine.csv").write_text("\n".join(",".join(map(str, row)) for row in rows))

    write(rows * 5)
    line = "sweep --data mine.csv --split 0.5 --sizes 8 3 --epochs 2 --jobs 1 --repeats 2 --seeds alone --vary bias=yes,no".split()
    main(line)
    assert list(pd.read_csv("sweeps/table.csv"))[:3] == ["bias", "machines", "ln p(held-out)"]
    assert pd.read_csv("sweeps/machines.csv").replica.tolist() == [0] * 4
    main(line)
    write(rows[:4] * 10)
    main(line)
    said = capsys.readouterr().out.splitlines()
    assert [line for line in said if "of which" in line] == [f"4 runs, of which {n} are done" for n in (0, 4, 0)]


def test_a_run_that_fails_is_named_and_the_others_have_their_table(folder, capsys):
    """Weights grow beyond all bounds at one of the rates."""
    line = [*LINE, *"--bias --batch 10 --engine torch --scale 5e37 --vary".split()]
    said = refusal([*line, "lr=0.1,3e38"])
    assert said.startswith("2 of 4 runs failed, the others are done: lr=3e+38,seed=0-") and "not finite after epoch" in said
    assert said.endswith("and the same command tries them again")
    assert pd.read_csv("out/table.csv").lr.tolist() == [0.1] and "means over machines" in capsys.readouterr().out
    assert refusal([*line, "lr=3e38"]).startswith("2 of 2 runs failed") and "means" not in capsys.readouterr().out


def test_sizes_vary_and_what_is_not_there_is_a_dash(capsys):
    """One of the machines is too large for exact reports."""
    main([*LINE[:3], "--epochs", "1", "--vary", "sizes=16-4-2,16-30-2", "--jobs", "1", "--repeats", "1", "--seeds", "2"])
    table = pd.read_csv("sweeps/table.csv", index_col="sizes")
    assert table.loc["16-4-2", ["ln p(data)", "I(top)"]].notna().all() and math.isnan(table.loc["16-30-2", "I(top)"])
    assert not math.isnan(table.loc["16-30-2", "active at top"])
    assert "–" in capsys.readouterr().out


def test_from_python():
    trials = grid(TINY, {"lr": [0.1, 0.05], "seeds": [2, 4]}, repeats=2)
    assert len(set(trials)) == 8 and {trial.seed for trial in trials} == {0, 1}
    store = Store(Path("here"), "the test")
    found = summary(sweep(store, trials, perform), ["lr", "seeds"])
    assert found.machines.tolist() == [4, 8, 4, 8] and list(found.index.names) == ["lr", "seeds"]
    one = numbers(found)
    assert (one["KL low"] < one.KL).all() and (one.KL < one["KL high"]).all()
    alone = summary(sweep(store, grid(replace(TINY, seeds="alone"), {"lr": [0.1]}), perform), ["lr"])
    assert math.isnan(numbers(alone)["KL low"].item()) and not math.isnan(numbers(alone).KL.item())


# Shared


FORKS = get_context("forkserver" if sys.platform != "win32" else "spawn")
FORKS.set_forkserver_preload(["test_grid"])


def one_shard(shard, hangs):
    """Four runs; the first one hangs in its third epoch, where it has left a checkpoint."""
    base = replace(TINY, checkpoint_minutes=1e-9)
    if hangs:
        fill = Train.fill

        def hanging(self, folder, telling, ranks=None):
            return fill(self, folder, lambda kept, words: lambda run: (kept(run), run.trainer.done == 2 and time.sleep(300)))

        Train.fill = hanging
    Grid(vary=("lr=0.1,0.05",), repeats=2, jobs=1, shard=shard, out=Path("out")).run(base)


def test_two_shards_of_which_one_is_killed(folder, capsys):
    first, second = (FORKS.Process(target=one_shard, args=(f"{i}/2", i == 1)) for i in (1, 2))
    first.start()
    try:
        end = time.monotonic() + 100
        while not (left := list(folder.glob("out/*/run.checkpoint"))):
            assert time.monotonic() < end and first.is_alive()
            time.sleep(0.02)
        second.start()
        while len(list(folder.glob("out/*/machine.safetensors"))) < 3:
            assert time.monotonic() < end and second.is_alive()
            time.sleep(0.02)
        assert second.is_alive(), "it waits for the run in the hands of the first"
        first.kill()
        second.join(100)
    finally:
        first.kill()
        second.pid and second.kill()
    assert second.exitcode == 0 and not list(folder.glob("out/*.claim*")) and not left[0].exists()
    by_hand("hand", lr=0.1)
    assert left[0].with_name(RESULTS[0]).read_bytes() == (folder / "hand" / RESULTS[0]).read_bytes()
    assert pd.read_csv("out/table.csv").machines.tolist() == [6, 6]


# What is refused


WRONG = {
    "--vary lr": "'lr' does not say what varies: write an option and its values, as in lr=0.1,0.03",
    "--vary lr=": "does not say what varies",
    "--vary =0.1": "there is no option that may vary called ''",
    "--vary rl=0.1": "there is no option that may vary called 'rl': did you mean 'lr'?",
    "--vary lr=0.1,fast": "lr cannot be 'fast': `helmholtz-mim train --help` says what it takes",
    "--vary lr=0.1,": "lr cannot be ''",
    "--vary lr=--help": "lr cannot be '--help'",
    "--vary epochs=1e3": "epochs cannot be '1e3'",
    "--vary bias=maybe": "bias cannot be 'maybe'",
    "--vary sizes=16-x": "sizes cannot be '16-x'",
    "--vary scheme=mum": "there is no scheme called 'mum': did you mean 'mim'?",
    "--vary seed=1,2": "seeds are not varied but repeated",
    "--vary out=a,b": "out makes no difference to results",
    "--vary checkpoint-minutes=1,2": "checkpoint_minutes makes no difference to results",
    "--vary from-digest=a": "there is no option that may vary called 'from_digest'",
    "--vary lr=0.1 --vary lr=0.2": "lr varies twice",
    "--vary lr=0.1,-0.1": "with lr=-0.1: the learning rate lr is a positive number",
    "--vary sizes=16-2,16": "with sizes=16: sizes are those of at least two layers",
    "--vary sizes=16-2,12-2": "with sizes=12-2: the machine's data layer has 12 units, the patterns have 16",
    "--vary sizes=16-2,16-1000000000": "with sizes=16-1000000000: this takes about",
    "--vary scheme=mim,flip --vary epsilon=0.1": "with scheme=flip,epsilon=0.1: the scheme flip has no option epsilon",
    "--vary optimizer=sgd,adam --engine compiled": "with optimizer=adam: ",
    "--sizes 16 4 --vary data=bars,absent.csv": "with data=absent.csv: there is no file ",
    "--vary data=-": "with data=-: a sweep reads its data again and again: save them as a file",
    "--vary from=absent": "with from=absent: there is no file ",
    "--vary lr=0.1 --repeats 0": "repeats is a whole number of at least 1",
    "--vary lr=0.1 --repeats 20000": f"a grid has 1 to {MOST} runs, not 20000",
    "--vary lr=0.1 --jobs 0": "jobs are processes, at least 1, not 0",
    "--vary lr=0.1 --shard 3/2": "a shard is i/n",
    "--vary lr=0.1 --cluster bars": "a cluster is the address of a Dask scheduler",
    "--vary lr=0.1 --out file": "file is a file, not a folder",
    "--config absent --vary lr=0.1": "absent",
    "": "nothing varies: say what does, as in --vary lr=0.1,0.03, or use train",
}  # fmt: skip


@pytest.mark.parametrize("words", WRONG)
def test_what_cannot_be_is_refused_before_anything_starts(words, folder, monkeypatch):
    (folder / "file").touch()
    monkeypatch.setattr(module, "perform", lambda *arguments, **options: pytest.fail("it has begun"))
    assert WRONG[words] in refusal([*LINE[:3], "--epochs", "2", "--out", "out", *words.split()])
    assert [path.name for path in folder.iterdir()] == ["file"]


def test_memory_is_that_of_all_runs_at_once(monkeypatch):
    monkeypatch.setattr("helmholtz_mim.commands.outputs.memory", lambda: 6e7)
    assert len(grid(TINY, {"lr": [0.1, 0.2]}, 2)) == 4
    with pytest.raises(MemoryError, match=r"^with lr=0.1: this takes about .* GiB of memory"):
        grid(TINY, {"lr": [0.1, 0.2]}, 2, at_once=2)


def test_values_are_read_as_train_reads_them():
    said = {
        "lr=1e-1,0.1,.2": [0.1, 0.2], "sizes=16-4-2,16-2": [(16, 4, 2), (16, 2)], "bias=True,no": [True, False],
        "scheme=MIM,rules:Mine": ["mim", "rules:Mine"], "epsilon=estimated,0.1,None": ["estimated", 0.1, None], "alpha=-0.5": [-0.5],
    }  # fmt: skip
    assert list(values_of(said).values()) == list(said.values())


def test_options_of_a_configuration(folder, capsys):
    by_hand("one", lr=0.02)
    config = json.loads(Path("one/config.json").read_text())
    main(["sweep", "--config", "one/config.json", "--vary", "scheme=mim", "--jobs", "1", "--repeats", "1", "--epochs", "1"])
    (found,) = (json.loads(path.read_text()) for path in folder.glob("sweeps/*/config.json"))
    assert {name for name in config if config[name] != found[name]} == {"scheme", "epochs"}


def test_an_interrupted_sweep_goes_on(folder, monkeypatch):
    """Ctrl-C in the middle of the second run, in this process."""
    done, fill = [], Train.fill

    def interrupted(self, *arguments):
        done.append(self)
        if len(done) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return fill(self, *arguments)

    monkeypatch.setattr(Train, "fill", interrupted)
    with pytest.raises(SystemExit) as stopped:
        main([*LINE, "--vary", "lr=0.1,0.05"])
    assert stopped.value.code == 130 and not list(folder.glob("out/*.claim*"))
    main([*LINE, "--vary", "lr=0.1,0.05"])
    assert len(done) == 5 and pd.read_csv("out/table.csv").machines.tolist() == [6, 6]
