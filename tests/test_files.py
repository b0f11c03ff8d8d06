"""Files: whole or not at all, the same for the same content, and never believed when they are damaged."""

import json
import os
import random
import resource
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from helmholtz_mim import HelmholtzMachine, TrainConfig, bars, load, save, train
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.files import DTYPES, atomic_write, pack, read_tensors, write_tensors
from helmholtz_mim.data.images import read_idx

EXAMPLE = ("example", 1, "an example", "make it again")


@pytest.fixture
def small_disk():
    """A disk on which no file may be longer than a hundred bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_leaves_the_old_file_and_says_so(tmp_path, small_disk):
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(OSError, match=rf"^cannot write {path} \(File too large\): choose a folder with room"):
        write_tensors(path, {"x": torch.zeros(1000)}, {})
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_what_fails_leaves_nothing_behind(tmp_path):
    with pytest.raises(ZeroDivisionError), atomic_write(tmp_path / "file") as beside:
        beside.write_text("half")
        _ = 1 / 0
    assert not list(tmp_path.iterdir())


def test_a_file_and_its_folder_reach_the_disk_in_that_order(tmp_path, monkeypatch):
    events, opened, replace = [], os.open, os.replace
    monkeypatch.setattr(os, "open", lambda path, *rest: events.append(("open", Path(path).name)) or opened(path, *rest))
    monkeypatch.setattr(os, "fsync", lambda number: events.append(("fsync",)))
    monkeypatch.setattr(os, "replace", lambda a, b: events.append(("replace", Path(b).name)) or replace(a, b))
    with atomic_write(tmp_path / "file.txt") as beside:
        with beside.open("w") as file:
            file.write("x")
        del events[:]
    sync = ("fsync",)
    assert events == [("open", ".file.partial.txt"), sync, ("replace", "file.txt"), ("open", tmp_path.name), sync]


def examples():
    """One tensor of each type, one without entries, one without axes, one that is a view."""
    yield from ((code, torch.tensor([1, 0, 1]).to(dtype)) for code, dtype in DTYPES.items())
    yield from (("empty", torch.zeros(3, 0)), ("scalar", torch.tensor(2.5)), ("view", torch.arange(6.0).reshape(2, 3).mT))


def test_what_is_written_is_read_here_and_by_safetensors(tmp_path):
    some, path = dict(examples()), tmp_path / "file"
    write_tensors(path, some, {"format": "example", "version": "1", "words": 'ä "quoted" \\ \n'})
    ours, header = read_tensors(path, *EXAMPLE)
    assert header == {"format": "example", "version": "1", "words": 'ä "quoted" \\ \n'}
    for read in (ours, load_file(path)):
        assert read.keys() == some.keys()
        assert all(torch.equal(read[name], t) and read[name].dtype == t.dtype and read[name].shape == t.shape for name, t in some.items())
    with safe_open(path, framework="pt") as file:
        assert file.metadata().keys() == {*header, "sha256"}
    size = int.from_bytes(path.read_bytes()[:8], "little")
    entries = json.loads(path.read_bytes()[8 : 8 + size])
    assert size % 8 == 0 and all(e["data_offsets"][0] % some[n].element_size() == 0 for n, e in entries.items() if n in some), "aligned"


def test_the_order_of_making_does_not_show():
    some = list(examples())
    assert pack(dict(some), {"a": "1", "b": "2"}) == pack(dict(reversed(some)), {"b": "2", "a": "1"})


def test_other_types_of_numbers_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"z cannot be kept in a file as torch\.complex64: convert it"):
        write_tensors(tmp_path / "file", {"z": torch.zeros(2, dtype=torch.complex64)}, {})
    assert not list(tmp_path.iterdir())


PROMISES = [dict(shape=[2**40]), dict(shape=[2**62, 4]), dict(data_offsets=[0, 2**60]), dict(data_offsets=[-(2**70), 8])]


@pytest.mark.parametrize("entry", PROMISES)
def test_promises_take_no_memory(tmp_path, entry):
    text = json.dumps({"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]} | entry}).encode()
    for size in (len(text), 2**63 - 1):
        (tmp_path / "file").write_bytes(size.to_bytes(8, "little") + text + b"\0" * 8)
        with pytest.raises(ValueError, match=r"/file (is not a readable safetensors file|holds other tensors).*make it again$"):
            read_tensors(tmp_path / "file", *EXAMPLE)


@pytest.mark.parametrize("text", ["[" * 100_000, "1" * 100_000, "null", '{"__metadata__": 3}', '{"x": null}', '{"x": {}}', '"\ud800"'])
def test_strange_headers_are_refused(tmp_path, text):
    content = text.encode("utf-8", "surrogatepass")
    (tmp_path / "file").write_bytes(len(content).to_bytes(8, "little") + content)
    with pytest.raises(ValueError, match=r"/file is not a readable safetensors file.*make it again$"):
        read_tensors(tmp_path / "file", *EXAMPLE)


def test_each_kind_of_other_file_gets_its_sentence(tmp_path):
    path = tmp_path / "file"

    def sentence(header, write=write_tensors):
        write(path, {"x": torch.zeros(2)}, header) if write is write_tensors else save_file({"x": torch.zeros(2)}, path, header)
        with pytest.raises(ValueError) as refusal:
            read_tensors(path, "example", 2, "an example", "make it again")
        assert str(path) in str(refusal.value) and "\n" not in str(refusal.value)
        return str(refusal.value)

    assert "holds other tensors, not an example" in sentence(None, save_file)
    assert "holds other tensors, not an example" in sentence({"format": "theirs", "version": "2"})
    assert "holds other tensors, not an example" in sentence({"format": "example", "version": "two"})
    assert "earlier form without a checksum" in sentence({"format": "example", "version": "1"}, save_file)
    assert "newer helmholtz_mim: upgrade" in sentence({"format": "example", "version": "9" * 5000})
    assert "damaged" in sentence({"format": "example", "version": "2"}, save_file)
    path.unlink()
    for place in (path, tmp_path, tmp_path / ("x" * 300)):
        with pytest.raises(ValueError, match="there is no file"):
            read_tensors(place, *EXAMPLE)


@pytest.mark.parametrize("name", [None, 3, b"file", "", ".", "a\0b", True, []], ids=repr)
def test_what_names_no_file_is_refused(name):
    for use in (lambda: save(HelmholtzMachine((2, 1)), name), lambda: load(name), lambda: Checkpoint(name), lambda: read_idx(name)):
        with pytest.raises(ValueError, match="a file is named by a string or a path, not by "):
            use()


# Damage


MUTATIONS = 10_000 if os.environ.get("FUZZ") == "1" else 300


def mutated(whole, chance):
    """A file after an accident: bits flipped, a piece lost, something in between, two pieces exchanged; often in the header."""
    end = len(whole) if chance.random() < 0.5 else min(len(whole), 8 + int.from_bytes(whole[:8], "little"))
    first, second = sorted(chance.randrange(end) for _ in range(2))
    few = chance.randrange(1, 9)
    match chance.choice(["flip", "flips", "cut", "lose", "insert", "repeat", "overwrite", "swap"]):
        case "flip":
            return whole[:first] + bytes([whole[first] ^ 1 << chance.randrange(8)]) + whole[first + 1 :]
        case "flips":
            return bytes(byte ^ (1 << chance.randrange(8) if chance.random() < 0.01 else 0) for byte in whole)
        case "cut":
            return whole[:first]
        case "lose":
            return whole[:first] + whole[first + few :]
        case "insert":
            return whole[:first] + chance.randbytes(few) + whole[first:]
        case "repeat":
            return whole[:second] + whole[first:]
        case "overwrite":
            return whole[:first] + chance.randbytes(few) + whole[first + few :]
        case _:
            few = min(few, second - first)
            one, other, between = whole[first : first + few], whole[second : second + few], whole[first + few : second]
            return whole[:first] + other + between + one + whole[second + few :]


def a_machine(path):
    machine = HelmholtzMachine((4, 3, 2), bias=True).randomise_(1.0, generator=torch.Generator().manual_seed(0))
    save(machine, path, data="rhythms")
    return lambda: load(path).state_dict()


def a_checkpoint(path):
    machine, config, generator = HelmholtzMachine((16, 3)), TrainConfig(2, 8, report_every=1), torch.Generator().manual_seed(0)
    train(machine, bars(), config, checkpoint=Checkpoint(path), engine="torch", generator=generator)
    return lambda: Checkpoint(path).read()[0]


@pytest.mark.parametrize("make", [a_machine, a_checkpoint])
def test_no_accident_goes_unnoticed(make, tmp_path):
    """Whatever happens to a file, it is refused in one sentence that names it, or its content is what it was."""
    path, chance = tmp_path / "file", random.Random(0)
    read = make(path)
    whole, content, refused = path.read_bytes(), read(), 0
    for number in range(MUTATIONS):
        change = mutated(whole, chance)
        path.write_bytes(change)
        try:
            again = read()
        except ValueError as error:
            assert str(error).startswith(f"{path} ") and "\n" not in str(error) and ": " in str(error)
            refused += 1
        else:
            assert change == whole and again.keys() == content.keys(), f"mutation {number} was believed"
    assert refused > 0.9 * MUTATIONS
