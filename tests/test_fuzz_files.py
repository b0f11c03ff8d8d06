"""Every file that the package writes or reads, whole and after an accident: what was in it, or a sentence, and never anything else."""

import gzip
import io
import math
import os
import random
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from odd_inputs import (
    REFUSED,
    attempt,
    cases,
    content,
    finite,
    machines,
    names,
    plain,
    rarely,
    same,
    seeded,
    seeds,
    shares,
    tables,
    whatever,
)
from test_files import mutated

import helmholtz_mim as hm
from helmholtz_mim import FactorialMIM, HelmholtzMachine, TrainConfig, states, train
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.experiments.comparison import Run
from helmholtz_mim.data.images import read_idx
from helmholtz_mim.store import Store
from helmholtz_mim.reading import read_table

pytestmark = pytest.mark.usefixtures("single_precision")


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder for files, which is also the one of the user's own data; nothing is cached elsewhere."""
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", str(tmp_path))
    monkeypatch.setattr("helmholtz_mim.data.images.pooch.os_cache", lambda name: tmp_path / "cache")
    return tmp_path


@cases(machine=machines(), name=names, notes=st.dictionaries(st.text(), whatever, max_size=2))
def test_saving(machine, name, notes, place):
    path = place / name if isinstance(name, str) and "/" not in name and "\0" not in name and name not in ("", ".", "..") else name
    if attempt(hm.save, machine, path, **{f"note {key}": note for key, note in notes.items()}) is REFUSED:
        assert not isinstance(path, Path) or not os.path.exists(path)
        attempt(hm.load, path)
    else:
        again = hm.load(path)
        assert repr(again) == repr(machine) and (same(content(machine), content(again)) or not finite(machine))
        path.unlink()


def damaged(path, number):
    """Whether a file has other content after an accident; every seventh escapes."""
    whole = path.read_bytes()
    path.write_bytes(mutated(whole, random.Random(number)) if number % 7 else whole)
    return path.read_bytes() != whole


@cases(machine=machines(finite=True), number=seeds, many=6000)
def test_machine_files(machine, number, place):
    hm.save(machine, place / "file", note=1)
    change = damaged(place / "file", number)
    again = attempt(hm.load, place / "file")
    assert (again is REFUSED) == change
    assert change or same(content(machine), content(again))


@cases(number=seeds, minutes=rarely(st.just(0)), few=4, many=3000)
def test_checkpoint_files(number, minutes, place):
    """A run goes on from its checkpoint to what it comes to without, or the file is refused."""

    def run(epochs, checkpoint=None):
        machine, config = HelmholtzMachine((4, 2)), TrainConfig(epochs, 8, report_every=1, dreams=1)
        options = dict(allocate=FactorialMIM(), engine="torch", generator=seeded(number))
        return machine, attempt(train, machine, states(4), config, checkpoint=checkpoint, **options)

    path = place / "checkpoint"
    path.unlink(missing_ok=True)
    first = attempt(Checkpoint, path, minutes)
    assume(first is not REFUSED)
    (one, history), (expected, _) = run(2, first), run(2)
    change = damaged(path, number)
    other, again = run(2, Checkpoint(path))
    assert history is not REFUSED and (again is REFUSED) == change and same(content(one), content(expected))
    assert change or (history.equals(again) and same(content(one), content(other)))


@cases(number=seeds, kind=st.sampled_from(["csv", "csv.gz", "bits"]), values=st.lists(st.integers(-9, 9), min_size=1), many=6000)
def test_store_files(number, kind, values, place):
    store, run = Store(place, "this test"), Run(seed=3)
    table = pd.DataFrame({"a": values, "b": [f"x, {v}" for v in values]})
    store.keep(run, {"x": torch.tensor(values)}, kind) if kind == "bits" else store.write(run, table, kind)
    change = damaged(store.path(run, kind), number)
    again = attempt(store.kept if kind == "bits" else store.read, run, kind)
    assert change or again is not REFUSED
    if again is not REFUSED:
        assert kind == "csv.gz" or not change  # the header of gzip has a date and a system, which do not matter
        assert again["x"].tolist() == values if kind == "bits" else again.equals(table)


@cases(raw=st.binary(max_size=60), shape=st.lists(st.integers(0, 4), max_size=4), fits=st.booleans(), number=seeds, name=names, many=6000)
def test_idx_files(raw, shape, fits, number, name, place):
    raw = raw.ljust(math.prod(shape), b"\7")[: math.prod(shape)] if fits else raw
    whole = bytes([0, 0, 8, len(shape)]) + b"".join(n.to_bytes(4, "big") for n in shape) + raw
    (place / "idx").write_bytes(gzip.compress(whole, mtime=0) if number % 2 else whole)
    change, array = damaged(place / "idx", number), attempt(read_idx, place / "idx")
    assert attempt(read_idx, name) is REFUSED
    if not change:
        assert (array is not REFUSED) == (len(raw) == math.prod(shape) and shape != [])
        assert array is REFUSED or (array.tobytes() == raw and list(array.shape) == shape)


@cases(bits=tables(8), packed=st.booleans(), number=seeds, split=rarely(st.sampled_from(["train", "valid", "test"])), many=6000)
def test_static_digits(bits, packed, number, split, place):
    wide = np.tile(bits.numpy(), (1, 98)) if bits.ndim == 2 else bits.numpy()
    packs = packed and plain(bits) is not None
    arrays = {"train": np.packbits(wide.astype(np.uint8), axis=1) if packs else wide, "valid": np.array([None]) if number % 2 else wide}
    (np.savez_compressed if number % 3 else np.savez)(place / "binarized_mnist.npz", **arrays)
    change, found = damaged(place / "binarized_mnist.npz", number), attempt(hm.mnist, split, "static")
    if not change:
        there = split == "train" or (split == "valid" and number % 2 == 0)
        assert (found is not REFUSED) == (plain(bits) is not None and bits.shape[1] == 8 and there)
    if found is not REFUSED:
        assert np.array_equal(found.bits, wide)


@cases(
    split=rarely(st.sampled_from(["train", "test"])), binarise=rarely(st.sampled_from(["threshold", "dynamic"])), threshold=shares,
    chosen=rarely(st.none()), torn=st.binary(), many=500,
)  # fmt: skip
def test_mnist_that_is_not_here(split, binarise, threshold, chosen, torn, place):
    for name in ("train-images-idx3-ubyte.gz", "t10k-labels-idx1-ubyte"):
        (place / name).write_bytes(torn)
    assert attempt(hm.grey_mnist, split, digits=chosen, download=False) is REFUSED
    assert attempt(hm.mnist, split, binarise, threshold=threshold, digits=chosen, generator=seeded(), download=False) is REFUSED


# Tables of one's own

LETTERS = st.sampled_from("01,\n\"';.-?e aN\t\r")


@cases(few=40, many=20_000, text=st.text(LETTERS, max_size=30) | st.binary(max_size=30), kind=st.sampled_from([".csv", ".npy", ".npz"]))
def test_any_text_as_a_table(place, text, kind):
    path = place / f"mine{kind}"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    found = attempt(hm.Patterns.read, path)
    if found is not REFUSED:
        table = read_table(path)
        assert len(found) == len(table) and np.array_equal(found.bits, table.to_numpy(float))


@cases(bits=tables(), kind=st.sampled_from([".csv", ".npy", ".npz"]), seed=seeds)
def test_damaged_tables(place, bits, kind, seed):
    path, array = place / f"mine{kind}", np.asarray(bits)
    if kind == ".csv":
        pd.DataFrame(array if array.ndim == 2 else [[]]).add_prefix("x").to_csv(path, index=False)
    else:
        (np.save if kind == ".npy" else np.savez)(path, array)
    assert attempt(hm.Patterns.read, path) is REFUSED or plain(bits) is not None
    path.write_bytes(mutated(path.read_bytes(), random.Random(seed)))
    attempt(hm.Patterns.read, path)
    attempt(hm.read_gaps, path)


@cases(
    data=rarely(st.sampled_from(["bars", "heartbeat", "mine.csv", "folk-3-4"])),
    threshold=rarely(st.none()),
    split=rarely(st.none() | st.floats(0, 1)),
    seed=rarely(st.integers(0, 9)),
)
def test_sources(place, monkeypatch, data, threshold, split, seed):
    monkeypatch.chdir(place)
    Path("mine.csv").write_text("0,1\n1,1\n0,0\n")
    source = hm.Source(data, threshold, None, split, seed)
    seen, unseen, whole = (attempt(part) for part in (source.patterns, source.held_out, source.everything))
    assert whole is REFUSED or torch.equal(whole.bits, hm.patterns_of(data).bits)
    if seen is not REFUSED and isinstance(split, float):
        assert len(seen) + len(unseen) == len(whole)


@cases(path=rarely(st.sampled_from(["mine.csv", "mine.npy", "-"]), whatever), threshold=rarely(st.none()), weights=rarely(st.none()))
def test_gaps(place, monkeypatch, path, threshold, weights):
    monkeypatch.chdir(place)
    monkeypatch.setattr(sys, "stdin", io.StringIO("0,-1\n"))
    Path("mine.csv").write_text("0,1\n1,\n0,0\n")
    np.save("mine.npy", np.array([[0, np.nan, 1]]))
    gaps = attempt(hm.read_gaps, path, threshold=threshold, weights=weights)
    assert gaps is REFUSED or (gaps.known.shape == gaps.bits.shape and (~gaps.known).sum() == 1)
