"""The table of static MNIST, on a file of noise: runs have names of their own, are done once, and say what is missing."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from helmholtz_mim import Adam, Reweighted, WakeSleep, sample
from helmholtz_mim.data.images import mnist
from helmholtz_mim.experiments import static
from helmholtz_mim.experiments.pyramid import dreams_of
from helmholtz_mim.experiments.static import (
    FURTHER,
    HALVES,
    KEPT,
    METHODS,
    SWITCHES,
    UPPER,
    VARIANTS,
    StaticRun,
    kept,
    deep_runs,
    halves_of,
    long_runs,
    rate_runs,
    shallow_runs,
    perform_further,
    perform_halves,
    perform_static,
    search_runs,
    shape_runs,
    static_store,
)
from helmholtz_mim.machine import HelmholtzMachine, load, save
from helmholtz_mim.store import Summary
from helmholtz_mim.sweeps import sweep

QUICK = {"hidden": (6, 4), "epochs": 1, "count": 20, "particles": 10}


@pytest.fixture(autouse=True)
def noise(tmp_path, monkeypatch):
    """A file of the shape of the static digits, and single precision, as in the runs."""
    torch.set_default_dtype(torch.float32)
    rng = np.random.default_rng(0)
    sets = {split: rng.random((count, 784)) < 0.1 for split, count in (("train", 200), ("valid", 100), ("test", 100))}
    np.savez(tmp_path / "binarized_mnist.npz", **{split: np.packbits(bits, axis=1) for split, bits in sets.items()})
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", str(tmp_path))


def test_runs_have_files_of_their_own(tmp_path):
    runs = search_runs() + shape_runs() + rate_runs() + deep_runs() + shallow_runs() + long_runs()
    assert len({static_store(tmp_path).path(run) for run in runs}) == len(set(runs)) == len(runs)
    assert set(KEPT) == {*long_runs(seeds=1), *SWITCHES}


def test_every_method_has_a_rate_that_was_searched():
    searched = {(run.method, run.lr) for run in search_runs()}
    assert all((name, method.lr) in searched for name, method in METHODS.items() if name != "rws + mim")


@pytest.mark.parametrize("method", ["wake-sleep", "mim by a coin", "rws + mim"])
def test_a_run_is_done_once_and_read_back(method, tmp_path):
    run = StaticRun(method, **QUICK)
    store = static_store(tmp_path)
    table = sweep(store, [run], perform_static)
    assert table.particles.tolist() == [1, 10] and (table.nats < 0).all() and (table.method == method).all()
    history = store.table([run], "history.csv")
    assert set(history.measure) == {"active", "I upper bound", "L10"}
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert sweep(store, [run], perform_static).equals(table)
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert not list(tmp_path.glob("*partial*"))
    assert dreams_of(run, static_store(tmp_path)).shape == (100, 784)


def test_the_same_run_ends_the_same(tmp_path):
    tables = []
    for folder in ("one", "two"):
        tables.append(sweep(static_store(tmp_path / folder), [StaticRun("mim annealed", **QUICK)], perform_static))
    pd.testing.assert_frame_equal(*tables)


def test_kept_machines_can_be_judged_further(tmp_path, monkeypatch):
    run, store = StaticRun("mim", **QUICK | {"particles": StaticRun.particles}), static_store(tmp_path)
    monkeypatch.setattr("helmholtz_mim.experiments.static.KEPT", [run])
    sweep(store, [run], perform_static)
    assert load(store.path(run, "safetensors")).prior.bias.dtype == torch.float16
    assert kept(run, store).prior.bias.dtype == torch.float32
    further = Summary("further", (replace(run, particles=100),))
    assert sweep(store, [further], perform_further).particles.tolist() == [1, 10, 100]
    with pytest.raises(FileNotFoundError, match="helmholtz-mim table static makes them"):
        store.read(FURTHER)


def test_halves_are_completed_and_what_was_given_stays(tmp_path, monkeypatch):
    run, store = StaticRun("mim", **QUICK), static_store(tmp_path)
    monkeypatch.setattr("helmholtz_mim.experiments.static.KEPT", [run])
    monkeypatch.setattr("helmholtz_mim.experiments.static.PARTICLES", 20)
    monkeypatch.setattr("helmholtz_mim.experiments.static.SWEEPS", 2)
    sweep(store, [run], perform_static)
    halves = Summary("halves", (run,))
    table = sweep(store, [halves], perform_halves, "safetensors").set_index(["method", "digit"])
    test, seen = mnist("test", "static").bits, halves_of(halves, store)
    assert torch.equal(seen["whole"], test[::10]) and seen["mim"].shape == (10, 4, 784)
    assert (seen["mim"] == seen["whole"].unsqueeze(1))[..., UPPER].all()
    assert table.loc["mim", "by chains"].notna().sum() == 34 and table.loc["mim", "ess"].between(1, 20).all()
    rates = mnist("train", "static").means
    expected = (rates - test).abs()[:, ~UPPER].sum(-1).tolist()
    assert table.loc["pixel rates", "off"].tolist() == pytest.approx(expected, rel=1e-4)
    alike = (test[:, None] != mnist("train", "static").bits)[..., UPPER].sum(-1)
    best = (test[:, None] != mnist("train", "static").bits)[..., ~UPPER].sum(-1).masked_fill(alike > alike.amin(-1, keepdim=True), -1)
    assert all(off in row[row >= 0] for off, row in zip(table.loc["most alike", "off"], best, strict=True))
    with pytest.raises(FileNotFoundError, match="helmholtz-mim table static makes them"):
        halves_of(HALVES, store)


def test_the_weights_of_another_run_are_refused(tmp_path):
    runs = [StaticRun("mim", **QUICK), StaticRun("mim", seed=1, **QUICK)]
    store = static_store(tmp_path)
    save(HelmholtzMachine((784, 6, 4), bias=True), store.path(runs[0], "safetensors"), **store.record(runs[0]))
    assert kept(runs[0], store).sizes == (784, 6, 4)
    store.path(runs[0], "safetensors").rename(store.path(runs[1], "safetensors"))
    with pytest.raises(ValueError, match="was not made by this run: remove it, and helmholtz-mim table static makes it again"):
        kept(runs[1], store)


def test_missing_runs_name_the_command(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"2 of 2 runs are missing .* helmholtz-mim table static"):
        static_store(tmp_path).table([StaticRun(seed=0), StaticRun(seed=1)])


@pytest.mark.parametrize("method", [*METHODS, *VARIANTS])
def test_every_method_has_a_protocol(method, monkeypatch):
    seen = {}
    monkeypatch.setattr(static, "train", lambda machine, data, config, **axes: seen.update(axes, config=config))
    run = StaticRun(method, fraction=0.25)
    static._train_static(run)
    assert seen["config"] == run.config and seen["config"].fraction == 0.25
    assert seen["optimizer"] == Adam(schedule="linear") and seen["optimizer"].rate(run.config) == run.lr
    assert seen["method"] == (Reweighted(5, "both") if "rws" in method else WakeSleep())
    assert (seen["allocate"] is sample) == (method in ("wake-sleep", "rws")) and seen["engine"] == "batched"


def test_an_unknown_method_is_met_with_its_likely_name():
    with pytest.raises(ValueError, match="mim annealed"):
        _ = StaticRun("mim anealed").config
