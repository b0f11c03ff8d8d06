"""The command line: what it writes, and how it says no."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import same_weights
from PIL import Image

from helmholtz_mim import cli, collapse, load, save
from helmholtz_mim.cli import main

ROOT = Path(__file__).parent.parent
TINY = "train --sizes 12 3 2 --epochs 4 --report-every 2 --seeds 2 --out run".split()
FILES = ["config.json", "history.csv", "machine.safetensors"]


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """An empty folder to work in, and the precision a program starts with."""
    monkeypatch.chdir(tmp_path)
    torch.set_default_dtype(torch.float32)
    return tmp_path


def refusal(line):
    """The sentence with which a command ends."""
    with pytest.raises(SystemExit) as stopped:
        main(line)
    assert isinstance(stopped.value.code, str), "printed to the error stream, with exit status 1"
    return stopped.value.code


def listing(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def test_training_writes_weights_history_and_configuration(folder, capsys):
    main(TINY)
    assert listing(folder) == ["run", *(f"run/{name}" for name in FILES)]
    assert capsys.readouterr().out.count("\n") == 1
    machine = load("run/machine.safetensors")
    assert (machine.sizes, machine.replicas) == ((12, 3, 2), (2,))
    history = pd.read_csv("run/history.csv")
    assert history.step.unique().tolist() == [0, 2 * 905, 4 * 905]
    assert history.value.map(math.isfinite).sum() > 0 and set(history.measure) > {"H", "I", "KL"}
    config = json.loads((folder / "run/config.json").read_text())
    assert config["sizes"] == [12, 3, 2] and config["epochs"] == 4 and config["lr"] == 0.1 and config["version"]


def test_the_configuration_is_enough_to_repeat_a_run(folder):
    main([*TINY, "--scale", "0.5", "--seed", "3", "--bias"])
    config = json.loads((folder / "run/config.json").read_text())
    options = {k.replace("_", "-"): v for k, v in config.items() if k != "version" and v not in (None, True, False)}
    words = [w for k, v in options.items() for w in (f"--{k}", *map(str, v if isinstance(v, list) else [v]))]
    main(["train", *words, "--bias", "--out", "again"])
    for name in ("config.json", "history.csv"):
        assert (folder / "run" / name).read_bytes() == (folder / "again" / name).read_bytes(), name
    assert same_weights(*(load(folder / run / "machine.safetensors") for run in ("run", "again")))


def test_losses_are_measured_where_tables_are_too_large(folder):
    main("train --data heartbeat --epochs 1 --seeds 1 --measure losses --out run".split())
    assert set(pd.read_csv("run/history.csv").measure) == {"loss"}


def test_nothing_is_overwritten_without_force(folder):
    main(TINY)
    before = {name: (folder / "run" / name).read_bytes() for name in FILES}
    assert "use --force" in refusal([*TINY, "--seed", "1"])
    assert {name: (folder / "run" / name).read_bytes() for name in FILES} == before
    main([*TINY, "--seed", "1", "--force"])
    assert listing(folder) == ["run", *(f"run/{name}" for name in FILES)]
    assert (folder / "run/history.csv").read_bytes() != before["history.csv"]


def test_a_report_has_a_row_for_each_layer_and_direction(capsys):
    main(TINY)
    capsys.readouterr()
    main(["report", "run/machine.safetensors"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines if "±" in line] == ["generative", *"12", "recognition", *"12"]


def test_figures_are_drawn_under_their_names(folder, monkeypatch):
    monkeypatch.setattr(cli, "train_by_the_book", lambda seeds: collapse.train_by_the_book(seeds, epochs=2))
    main("figure 1 --seeds 2 --out pictures".split())
    assert listing(folder) == ["pictures", "pictures/figure_1.png"]
    assert (folder / "pictures/figure_1.png").read_bytes().startswith(b"\x89PNG")
    assert "use --force" in refusal("figure 1 --seeds 2 --out pictures".split())


def test_the_film_shows_every_moment_and_ends_awake(folder, monkeypatch):
    monkeypatch.setitem(cli.FIGURES, "collapse", lambda seeds, results: cli.film_of_one_machine(epochs=9, moments=3))
    main("figure collapse --out pictures".split())
    with Image.open(folder / "pictures/collapse.gif") as film:
        assert (film.n_frames, film.info["loop"]) == (1 + 2 * 3, 0)
        film.seek(film.n_frames - 1)
        assert film.info["duration"] > 1000, "the last picture stays"
    assert listing(folder) == ["pictures", "pictures/collapse.gif"]


def test_every_picture_has_a_command_and_is_small():
    pictures = {path.name: path.stat().st_size for path in (ROOT / "images").iterdir()}
    assert pictures.keys() == {f"figure_{name}.png" if name.isdigit() else f"{name}.gif" for name in cli.FIGURES}
    assert max(pictures.values()) <= 600_000


def test_a_saved_machine_is_evaluated_and_dreams(folder, capsys):
    main(TINY)
    capsys.readouterr()
    main("evaluate run/machine.safetensors --particles 30 --count 50".split())
    table = capsys.readouterr().out.splitlines()
    assert table[0].split()[:3] == ["particles", "replica", "nats"]
    assert [line.split()[:2] for line in table[1:]] == [[k, r] for k in ("1", "10", "30") for r in ("0", "1")]
    for line in table[1:]:
        assert -12 * math.log(2) - 1 < float(line.split()[2]) < -5
    main("sample run/machine.safetensors --count 7 --replica 1 --out sheet/dreams.png".split())
    assert (folder / "sheet/dreams.png").read_bytes().startswith(b"\x89PNG")
    assert "use --force" in refusal("sample run/machine.safetensors --out sheet/dreams.png".split())


MISTAKES = {
    "train --data bras": "did you mean 'bars'",
    "train --epochs 0": "epochs is a whole number of at least 1",
    "train --epochs -3": "epochs is a whole number of at least 1",
    "train --batch 0": "batch is a whole number",
    "train --dreams -1": "dreams is a whole number",
    "train --lr 0": "lr is a positive number",
    "train --lr -0.1": "lr is a positive number",
    "train --lr nan": "lr is a positive number",
    "train --seeds 0": "seeds is a whole number of at least 1",
    "train --scale nan": "scale is a number of at least 0",
    "train --scale -1": "scale is a number of at least 0",
    "train --seed 99999999999999999999": "seed is a whole number of at least 0 and below 2^63",
    "train --seed -1": "seed is a whole number of at least 0",
    "train --sizes 12": "at least two layers",
    "train --sizes 12 0": "each of sizes is a whole number of at least 1",
    "train --sizes 12 -3": "each of sizes is a whole number of at least 1",
    "train --sizes 12 99999999999999999999": "each of sizes is a whole number of at least 1 and below 2^63",
    "train --sizes 12 100000000000": "GiB of memory, most of it for the weights (sizes, seeds)",
    "train --seeds 1000000000": "GiB of memory, most of it for the history (reports, seeds)",
    "train --seeds 1000000000 --report-every 600 --measure losses --bias": "GiB of memory, most of it for the",
    "train --epochs 1000000000000": "GiB of memory, most of it for the history (reports, seeds)",
    "train --epochs 1000000000000000 --report-every 1000000000000000": "more random numbers than the 2^63 of a stream",
    "train --epochs 10000000000000000000": "epochs is a whole number of at least 1 and below 2^63",
    "train --dreams 10000000000": "GiB of memory, most of it for batches and dreams",
    "train --dreams 1000000000000000": "more random numbers than the 2^63 of a stream",
    "train --batch 100000000000": "GiB of memory, most of it for batches and dreams",
    "train --every 10000000000000000000": "every is a whole number of at least 1 and below 2^63",
    "train --lr inf": "lr is a positive number",
    "train --scale inf": "scale is a number of at least 0",
    "train --checkpoint-minutes nan": "minutes between two checkpoints are a number of at least 0",
    "train --checkpoint-minutes -1": "minutes between two checkpoints are a number of at least 0",
    "train --report-every 0": "report_every is a whole number of at least 1",
    "train --data \udcff --epochs 1": "there is no data set called",
    "train --sizes 5 3 --epochs 1": "data layer has 5 units, the patterns have 12",
    "train --data heartbeat --measure exact": "2^26 is the limit",
    "train --engine tourch": "did you mean 'torch'",
    "train --out file": "is a file, not a folder",
    "train --out file/below": "is a file, not a folder",
    "report absent": "there is no file absent",
    "report file": "not a readable safetensors file",
    "report short": "not a readable safetensors file",
    "report unnamed": "does not say what it was trained on",
    "report unnamed --data hartbeat": "did you mean 'heartbeat'",
    "report unnamed --data bars": "data layer has 4 units, the patterns have 16",
    "train --scheme mmi": "did you mean 'mim'",
    "train --every 0": "every is a whole number",
    "report folder": "there is no file folder",
    "report empty": "not a readable safetensors file",
    "report odd": "does not say what it was trained on",
    "evaluate unnamed": "does not say what it was trained on",
    "evaluate unnamed --data bars --count 0": "count is a whole number of at least 1",
    "evaluate unnamed --data bars --seed -1": "seed is a whole number of at least 0",
    "evaluate unnamed --data bars --particles 99999999999999999999": "particles is a whole number of at least 1 and below 2^63",
    "evaluate unnamed --data bars": "data layer has 4 units, the patterns have 16",
    "evaluate unnamed --data bars --particles 0": "at least 1",
    "sample absent": "there is no file absent",
    "sample unnamed --replica 1": "holds 1 machines",
    "sample unnamed --replica -1": "holds 1 machines",
    "sample unnamed --count 0": "at least 1",
    "sample unnamed --count 7001": "a sheet holds at most 7000 images",
    "sample unnamed --count 1000000000000": "GiB of memory, most of it for the dreams",
    "sample unnamed --seed 99999999999999999999": "seed is a whole number of at least 0",
    "sample unnamed --out folder": "folder exists already",
    "sample unnamed --out file/below.png": "is a file, not a folder",
    "compare --seeds 0": "at least 1",
    "compare --seeds 1 --out file": "is a file, not a folder",
    "compare --seeds 1000000000": "GiB of memory, most of it for the history (reports, seeds)",
    "compare --pretrain 1000000000000 --epochs 1": "GiB of memory, most of it for the history (reports, seeds)",
    "table world": "did you mean 'worlds'",
    "table worlds --seeds -1": "seeds is a whole number of at least 0",
    "table worlds --seeds 1000000000": "GiB of memory, most of it for the tables of the exact report",
    "table mnist --seeds 1000000000": "GiB of memory, most of it for the weights (sizes, seeds)",
    "table static --seeds 1000000000000": "GiB of memory",
    "table worlds --out file": "is a file, not a folder",
    "figure one": "no figure called 'one'",
    "figure 1 --out file": "is a file, not a folder",
    "figure 1 --seeds 0": "at least",
    "figure 1 --seeds 1000000000": "GiB of memory",
    "figure 4 --results absent": "there are no dreams in absent",
}


@pytest.mark.parametrize("line", MISTAKES)
def test_a_mistake_gets_one_sentence_and_leaves_nothing_behind(line, folder, random_machine):
    save(random_machine((4, 2)), "unnamed")
    (folder / "short").write_bytes((folder / "unnamed").read_bytes()[:99])
    (folder / "file").write_text("something else")
    (folder / "empty").touch()
    (folder / "folder").mkdir()
    save(random_machine((4, 2)), "odd", data=["bars"])
    before = listing(folder)
    sentence = refusal(line.split())
    assert sentence.startswith("helmholtz-mim: ") and MISTAKES[line] in sentence
    assert "\n" not in sentence
    assert listing(folder) == before


def test_a_result_appears_whole_or_not_at_all(folder):
    (folder / "table.csv").write_text("old")
    with pytest.raises(ZeroDivisionError), cli.written_whole(folder / "table.csv") as partial:
        partial.write_text("half")
        _ = 1 / 0
    assert listing(folder) == ["table.csv"] and (folder / "table.csv").read_text() == "old"


AS_SCRIPT = "import sys; from helmholtz_mim.__main__ import main; sys.exit(main())"  # what pip writes


@pytest.mark.parametrize("how", [["-m", "helmholtz_mim"], ["-c", AS_SCRIPT]], ids=["module", "script"])
def test_as_a_program(how, folder):
    def program(line):
        return subprocess.run([sys.executable, *how, *line], capture_output=True, text=True, cwd=folder)

    done = program(TINY)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.startswith("wrote run")
    again = program(TINY)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("helmholtz-mim: run/") and again.stderr.count("\n") == 1
