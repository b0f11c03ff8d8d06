"""Files of every form that the package has written, kept in tests/data: each is read to the last number, a later one is not.

A form that changes gets another number, and `python tests/test_formats.py` adds its files to those that are there.
"""

import json
import re
import shutil
from pathlib import Path
from tempfile import TemporaryDirectory

import pandas as pd
import pytest
import torch
from torch.testing import assert_close

from helmholtz_mim import Checkpoint, FactorialMIM, HelmholtzMachine, Patterns, TrainConfig, checkpoint, cli, machine, store, train
from helmholtz_mim.commands import choices, training
from helmholtz_mim.files import unpack, write_tensors
from helmholtz_mim.machine import load, read, save
from helmholtz_mim.store import Store, Summary

DATA = Path(__file__).parent / "data"
RUN, TABLE = Summary("frozen"), pd.DataFrame({"step": [0, 5], "value": [0.5, -1e-7], "name": ["a", "b, c"]})
TRAIN = "train --data bars --sizes 16 3 2 --epochs 1 --seeds 2 --out run"
NEWEST = {
    "machine": machine.VERSION, "checkpoint": checkpoint.VERSION, "kept": store.VERSION,
    "table": store.PAGE, "config": choices.CONFIGURATION,
}  # fmt: skip


def counted():
    """Two machines of three layers whose weights count on in steps of an eighth, from -4."""
    both = HelmholtzMachine((4, 3, 2), bias=True, replicas=2).float()
    numbers = iter(range(-32, 1000))
    for tensor in both.state_dict().values():
        tensor.copy_(torch.tensor([next(numbers) / 8 for _ in range(tensor.numel())]).view_as(tensor))
    return both


def trained(kept=None, epochs=4):
    """Two machines on four patterns, by the readable engine in double precision."""
    both, chance = HelmholtzMachine((4, 3, 2), replicas=2).double(), torch.Generator().manual_seed(0)
    config = TrainConfig(epochs, 2, report_every=2)
    train(both, Patterns(torch.eye(4)), config, allocate=FactorialMIM(), engine="torch", checkpoint=kept, generator=chance)
    return both


class PowerCut(Exception):
    """The lights go out."""


def half(path):
    """A checkpoint after two epochs of four."""
    kept = Checkpoint(path, minutes=0)

    def watch(run):
        kept(run)
        if run.trainer.done == 2:
            raise PowerCut

    with pytest.raises(PowerCut):
        trained(watch)


def freeze(folder):
    """A file of every present form."""
    save(counted(), folder / f"machine-{machine.VERSION}.safetensors", words="ä, 1")
    half(folder / f"checkpoint-{checkpoint.VERSION}.safetensors")
    place = Store(folder, "the test")
    place.keep(RUN, {"x": torch.arange(6).view(2, 3)}, "safetensors")
    place.path(RUN, "safetensors").rename(folder / f"kept-{store.VERSION}.safetensors")
    place.write(RUN, TABLE)
    place.path(RUN).rename(folder / f"table-{store.PAGE}.csv")


def files(name):
    """All frozen files of that name, by their number."""
    return [pytest.param(path, id=path.stem) for path in sorted(DATA.glob(f"{name}-*"))]


@pytest.fixture(autouse=True)
def first_edition(monkeypatch, tmp_path):
    monkeypatch.setattr(store, "EDITION", 1)
    monkeypatch.chdir(tmp_path)


def test_every_form_is_kept():
    """The first of machines and checkpoints had no checksum, and is refused."""
    first = {"machine": 2, "checkpoint": 2}
    wanted = {f"{name}-{form}" for name, last in NEWEST.items() for form in range(first.get(name, 1), last + 1)}
    assert wanted == {path.stem for path in DATA.iterdir()}, "a new form? `python tests/test_formats.py`"


@pytest.mark.parametrize("path", files("machine"))
def test_a_machine(path):
    found = load(path)
    assert json.loads(read(path)[1]["notes"]) == {"words": "ä, 1"}
    assert (found.sizes, found.bias, found.replicas, found.prior.weight.dtype) == ((4, 3, 2), True, (2,), torch.float32)
    assert found.recognition[0].weight[0].tolist() == [[-4 + (4 * i + j) / 8 for j in range(4)] for i in range(3)]
    assert found.prior.bias.tolist() == [[8.0, 8.125], [8.25, 8.375]]
    assert all(torch.equal(one, other) for one, other in zip(found.state_dict().values(), counted().state_dict().values(), strict=True))


@pytest.mark.parametrize("path", files("checkpoint"))
def test_a_checkpoint(path):
    """Of a run of four epochs, cut off after two, which goes on and ends as one that was not."""
    state, identity = Checkpoint(path).read()
    assert state["progress.numbers"][0] == 2 and identity["epochs"] == "4" and identity["engine"] == '"torch"'
    shutil.copy(path, "kept")
    seen = []

    def watch(run):
        kept(run)
        seen.append(run.trainer.done)

    kept = Checkpoint("kept", minutes=0)
    for one, other in zip(trained(watch).state_dict().values(), trained().state_dict().values(), strict=True):
        assert_close(one, other, rtol=1e-6, atol=1e-6)
    assert seen == [2, 3, 4]


@pytest.mark.parametrize("path", files("kept"))
def test_tensors_of_a_run(path, tmp_path):
    place = Store(tmp_path, "the test")
    shutil.copy(path, place.path(RUN, "safetensors"))
    assert place.kept(RUN, "safetensors")["x"].tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("path", files("table"))
def test_a_table(path, tmp_path):
    place = Store(tmp_path, "the test")
    shutil.copy(path, place.path(RUN))
    assert place.read(RUN).equals(TABLE)


def test_present_files_are_those_that_are_kept(tmp_path):
    """To the byte; what a form may hold has not changed without another number. (A checkpoint depends on the processor.)"""
    freeze(tmp_path)
    for path in tmp_path.iterdir():
        now, then = path.read_bytes(), (DATA / path.name).read_bytes()
        assert now == then or path.name.startswith("checkpoint")
        if path.name.startswith("checkpoint"):
            told = [({k: (v.dtype, v.shape) for k, v in tensors.items()}, sorted(header)) for tensors, header in map(unpack, (now, then))]
            assert told[0] == told[1]


@pytest.mark.parametrize("path", files("config"))
def test_a_configuration(path, monkeypatch, capsys):
    """A finished run with a file of any form is known to be finished."""
    monkeypatch.setattr(training, "version", lambda name: "0.1.0")
    cli.main(TRAIN.split())
    shutil.copy(path, "run/config.json")
    cli.main([*TRAIN.split(), "--resume"])
    assert "nothing is left to do" in capsys.readouterr().out
    with pytest.raises(SystemExit, match="finished run that differs in lr: use --force"):
        cli.main([*TRAIN.split(), "--resume", "--lr", "0.5"])


LATER = r": upgrade the package to read it$"


@pytest.mark.parametrize("name", ["machine", "checkpoint", "kept"])
def test_later_tensors_ask_for_an_upgrade(name, tmp_path):
    tensors, header = unpack((DATA / f"{name}-{NEWEST[name]}.safetensors").read_bytes())
    place = Store(tmp_path, "the test")
    path = place.path(RUN, "safetensors")
    write_tensors(path, tensors, {k: v for k, v in header.items() if k != "sha256"} | {"version": str(NEWEST[name] + 1)})
    reads = {"machine": load, "checkpoint": lambda path: Checkpoint(path).read(), "kept": lambda path: place.kept(RUN, "safetensors")}
    with pytest.raises(ValueError, match=re.escape(str(path)) + ".*" + LATER):
        reads[name](path)


def test_a_later_table_and_a_later_configuration_ask_for_an_upgrade(tmp_path):
    place = Store(tmp_path, "the test")
    text = (DATA / f"table-{store.PAGE}.csv").read_text(encoding="utf-8")
    for said, sentence in (({"form": store.PAGE + 1}, LATER), ({"form": "x"}, "damaged"), ({}, None)):
        first, _, body = text.partition("\n")
        place.path(RUN).write_text(f"# {json.dumps(json.loads(first[2:]) | said, sort_keys=True)}\n{body}", encoding="utf-8")
        if sentence:
            with pytest.raises(ValueError, match=sentence):
                place.read(RUN)
    assert place.read(RUN).equals(TABLE)
    cli.main(TRAIN.split())
    path = Path("run/config.json")
    config = json.loads(path.read_text())
    for form, sentence in ((choices.CONFIGURATION + 1, LATER), ("x", "run/config.json is damaged")):
        path.write_text(json.dumps(config | {"format": form}))
        with pytest.raises(SystemExit, match=sentence):
            cli.main([*TRAIN.split(), "--resume"])


def test_options_that_an_earlier_package_did_not_have_were_as_they_are_by_default():
    cli.main(TRAIN.split())
    path = Path("run/config.json")
    config = json.loads(path.read_text())
    path.write_text(json.dumps({name: value for name, value in config.items() if name != "bias"}))
    cli.main([*TRAIN.split(), "--resume"])
    with pytest.raises(SystemExit, match="differs in bias"):
        cli.main([*TRAIN.split(), "--resume", "--bias"])


if __name__ == "__main__":
    torch.set_default_dtype(torch.float64)  # as in the tests
    with TemporaryDirectory() as folder:
        freeze(Path(folder))
        for made in Path(folder).iterdir():
            if not (DATA / made.name).exists():
                shutil.copy(made, DATA)
