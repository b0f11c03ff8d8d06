"""The command line: what it writes, and how it says no."""

import io
import json
import math
import os
import shutil
import subprocess
import sys
from pathlib import Path

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from helmholtz_mim import HelmholtzMachine, load, save
from helmholtz_mim.cli import main
from helmholtz_mim.commands import answers, book, outputs
from helmholtz_mim.experiments import collapse

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
    said = capsys.readouterr().out.splitlines()
    assert said[0].startswith("training 2 machines of 12-3-2 on well-formed (905 patterns, epochs 4)")
    assert [line.split()[0] for line in said[1:]] == ["At", "value", "ln", "I(layers", "KL(data", "mass", "wrote"]
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
    options = {k.replace("_", "-"): v for k, v in config.items() if k not in ("version", "format") and v not in (None, True, False)}
    words = [w for k, v in options.items() for w in (f"--{k}", *map(str, v if isinstance(v, list) else [v]))]
    main(["train", *words, "--bias", "--out", "again"])
    for name in FILES:
        assert (folder / "run" / name).read_bytes() == (folder / "again" / name).read_bytes(), name


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


def test_a_report_has_a_row_for_each_layer_and_direction(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")
    main(TINY)
    capsys.readouterr()
    main(["report", "run/machine.safetensors"])
    lines = capsys.readouterr().out.splitlines()
    rows = [line.split()[0] for line in lines[1:] if line]
    block = ["layer", "generative", *"012", "recognition", *"012"]
    assert rows == len(rows) // 9 * block and len(rows) > 9, "in several blocks, since all measures are too wide"
    assert max(map(len, lines)) <= 88


def test_figures_are_drawn_under_their_names(folder, monkeypatch):
    monkeypatch.setattr(book, "train_by_the_book", lambda seeds: collapse.train_by_the_book(seeds, epochs=2))
    main("figure 1 --seeds 2 --out pictures".split())
    assert listing(folder) == ["pictures", "pictures/figure_1.png"]
    assert (folder / "pictures/figure_1.png").read_bytes().startswith(b"\x89PNG")
    assert "use --force" in refusal("figure 1 --seeds 2 --out pictures".split())


def test_the_film_shows_every_moment_and_ends_awake(folder, monkeypatch):
    monkeypatch.setitem(book.FIGURES, "collapse", lambda seeds, results: book.film_of_one_machine(epochs=9, moments=3))
    main("figure collapse --out pictures".split())
    with Image.open(folder / "pictures/collapse.gif") as film:
        assert (film.n_frames, film.info["loop"]) == (1 + 2 * 3, 0)
        film.seek(film.n_frames - 1)
        assert film.info["duration"] > 1000, "the last picture stays"
    assert listing(folder) == ["pictures", "pictures/collapse.gif"]


def test_the_film_is_of_one_training_whose_rule_remembers(monkeypatch):
    rules = []
    monkeypatch.setattr(book, "train", lambda *args, allocate, **options: rules.append(allocate))
    book.film_of_one_machine(epochs=9, moments=3)
    assert len(rules) == 6 and len(set(map(id, rules[3:]))) == 1


def test_every_picture_has_a_command_and_is_small():
    pictures = {path.name: path.stat().st_size for path in (ROOT / "images").iterdir()}
    assert pictures.keys() == {f"figure_{name}.png" if name.isdigit() else f"{name}.gif" for name in book.FIGURES}
    assert max(pictures.values()) <= 600_000


def test_a_saved_machine_is_evaluated_and_dreams(folder, capsys):
    main(TINY)
    capsys.readouterr()
    main("evaluate run/machine.safetensors --particles 30 --count 50".split())
    table = capsys.readouterr().out.splitlines()
    assert table[1].split()[:4] == ["particles", "seed", "ln", "p(x),"]
    rows = [line.split() for line in table[2:8]]
    assert [row[:2] for row in rows] == [[k, r] for k in ("1", "10", "30") for r in ("0", "1")]
    for row in rows:
        assert -12 * math.log(2) - 1 < float(row[2].replace("−", "-")) < -5
    main("sample run/machine.safetensors --count 7 --replica 1 --out sheet/dreams.png".split())
    assert (folder / "sheet/dreams.png").read_bytes().startswith(b"\x89PNG")
    assert "use --force" in refusal("sample run/machine.safetensors --out sheet/dreams.png".split())


@pytest.mark.parametrize("name", book.TABLES)
def test_the_tables_of_the_book_are_all_there(name, folder, monkeypatch, capsys):
    """What the repository holds is found, and printed without images and without a single run."""
    monkeypatch.setattr("helmholtz_mim.data.images.mnist_file", lambda name, **options: pytest.fail(f"{name} is read"))
    stored = shutil.copytree(ROOT / "results" / name, folder / name)
    before = {path.name: path.read_bytes() for path in stored.rglob("*") if path.is_file()}
    main(["table", name, "--out", "."])
    assert {path.name: path.read_bytes() for path in stored.rglob("*") if path.is_file()} == before
    assert "MIM" in capsys.readouterr().out


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
    "train --sizes 5 3 --epochs 1": "data layer has 5 units, the patterns have 12: begin --sizes with 12, or choose other data",
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
    "table worlds --shard 5/4": "a shard is i/n, from 1/n to n/n, such as 2/4, not 5/4",
    "table worlds --jobs 0": "at least 1, not 0",
    "compare --jobs 2 --cluster tcp://127.0.0.1:9": "leave jobs out",
    "table worlds --out file": "is a file, not a folder",
    "figure one": "no figure called 'one'",
    "figure 1 --out file": "is a file, not a folder",
    "figure 1 --seeds 0": "at least",
    "figure 1 --seeds 1000000000": "GiB of memory",
    "figure 4 --results absent": "1 of 1 runs are missing in absent/mnist: helmholtz-mim table mnist makes them",
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
    with pytest.raises(ZeroDivisionError), outputs.atomic_write(folder / "table.csv") as partial:
        partial.write_text("half")
        _ = 1 / 0
    assert listing(folder) == ["table.csv"] and (folder / "table.csv").read_text() == "old"


AS_SCRIPT = "import sys; from helmholtz_mim.__main__ import main; sys.exit(main())"  # what pip writes


@pytest.mark.parametrize("how", [["-m", "helmholtz_mim"], ["-c", AS_SCRIPT]], ids=["module", "script"])
def test_as_a_program(how, folder):
    def program(line):
        return subprocess.run([sys.executable, *how, *line], capture_output=True, text=True, cwd=folder)

    done = program(TINY)
    assert (done.returncode, done.stderr) == (0, "") and done.stdout.splitlines()[-1].startswith("wrote run")
    again = program(TINY)
    assert (again.returncode, again.stdout) == (1, "")
    assert again.stderr.startswith("helmholtz-mim: run/") and again.stderr.count("\n") == 1


# Errors that are met, and errors that are not hidden


def failing(monkeypatch, error):
    """A command that ends in that error."""

    def fail(self):
        raise error

    monkeypatch.setattr(answers.Report, "run", fail)
    return ["report", "absent"]


def test_memory_that_torch_does_not_get_is_one_sentence(monkeypatch):
    with pytest.raises(RuntimeError) as real:
        torch.empty(2**60)
    assert "not enough memory for this" in refusal(failing(monkeypatch, real.value))
    assert refusal(failing(monkeypatch, MemoryError())) == "helmholtz-mim: there is not enough memory"


def test_what_the_system_says_is_said_without_numbers(monkeypatch):
    said = refusal(failing(monkeypatch, PermissionError(13, "Permission denied", "run/x")))
    assert said == "helmholtz-mim: run/x cannot be used (Permission denied): choose a place that is there and that you may read and write"
    assert refusal(failing(monkeypatch, OSError(28, "No space left on device"))) == "helmholtz-mim: No space left on device"


def test_an_engine_is_named_as_on_a_line(folder):
    line = "train --sizes 12 3 --seeds 1 --epochs 1 --precision double --engine batched --out run"
    assert refusal(line.split()).endswith("single precision: use --engine torch")


OURS = [KeyError("x"), TypeError("x"), RuntimeError("shapes"), ImportError("x", name="x"), ModuleNotFoundError("x", name="x")]


@pytest.mark.parametrize("error", OURS, ids=lambda error: type(error).__name__)
def test_mistakes_of_ours_are_not_hidden(error, monkeypatch):
    with pytest.raises(type(error)):
        main(failing(monkeypatch, error))


def test_digits_without_scikit_learn_name_a_command_that_works(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] == "sklearn"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert refusal("train --data digits --epochs 1".split()).endswith("pip install 'helmholtz_mim[images]'")


def test_letters_that_a_terminal_lacks_are_escaped(folder, monkeypatch):
    main(TINY)
    poor = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", poor)
    main(["report", "run/machine.safetensors"])
    assert b"\\xb1" in poor.buffer.getvalue()
    main([*TINY[:-1], "\udcff"])
    assert b"wrote \\udcff/machine.safetensors" in poor.buffer.getvalue()
    monkeypatch.setattr(sys, "stderr", poor)
    with pytest.raises(SystemExit, match="2"):
        main(["report", "run/machine.safetensors", "\udcff"])
    assert b"\\udcff" in poor.buffer.getvalue()


def test_a_machine_that_does_not_say_has_memory_without_end(monkeypatch):
    assert 2**28 < outputs.memory() < 2**50
    monkeypatch.setattr(os, "sysconf", lambda name: 1 / 0 if name == "x" else (_ for _ in ()).throw(ValueError(name)))
    assert outputs.memory() == math.inf


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="only Linux tells the peak from here on")
def test_estimates_are_near_what_is_taken(folder):
    """Within a factor of four, for weights that dwarf everything else."""
    script = "from pathlib import Path; from helmholtz_mim.cli import main;"
    script += "peak = lambda: 1024 * int(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0]);"
    line = "train --data bars --sizes 16 1000 1000 --epochs 1 --seeds 1 --engine compiled --measure losses --every 2".split()
    script += f"main({TINY[:-1]!r} + ['first']); Path('/proc/self/clear_refs').write_text('5'); before = peak();"  # begins anew
    script += f"main({[*line, '--out', 'large']!r}); print(peak() - before)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, cwd=folder)
    taken, estimate = int(done.stdout.split()[-1]), sum(outputs.needs((16, 1000, 1000), 1, 2, rows=2).values())
    assert taken / 4 < estimate < 4 * taken, (taken, estimate)


# Whatever is typed


NUMBERS = ["0", "-1", "1", "2", "3", "1e3", "nan", "inf", "1.5", "", "x", str(10**16), str(2**63), str(10**40), "-" + str(10**40)]
WORDS = ["", "x", "..", "\udcff", "a b", "ß", "all", "mim", "bars", "wake-sleep", "1"]
WORDS += ["torch", "compiled", "batched", "exact", "losses", "worlds", "static"]
WORDS += ["sampled", "RWS", "Adam", "cosine", "both", "leave-one-out", "double", "cuda", "estimated", "alone", "math:pi"]
PATHS = ["good", "half", "damaged", "empty", "text", "folder", "absent", "unnamed", "new"]
PATHS += ["", "good/below", "\udcff", "x" * 300, "a\0b", "/dev/full"]
ANY = st.sampled_from(NUMBERS + WORDS + PATHS)
SHARDS = ["1/1", "2/4", "5/4", "0/0", "1/²", "9" * 5000 + "/1", *WORDS]
PLACES = ["new/rows.csv", "new/rows.npy", "new/rows.png", *PATHS]
OF_DATA = {
    "data": [*WORDS, "table.csv", "gaps.csv", "two.npz", "two.npz:a"],
    "threshold": NUMBERS, "weights": WORDS, "split": [*NUMBERS, *WORDS, "0.5"],
}  # fmt: skip
OPTIONS = {
    "train": {
        **OF_DATA,
        **dict.fromkeys("seeds seed epochs batch dreams lr every report-every scale checkpoint-minutes".split(), NUMBERS),
        **dict.fromkeys("fraction anneal particles rate epsilon alpha share momentum decay patience".split(), NUMBERS),
        **dict.fromkeys("scheme engine measure method optimizer schedule habit phase precision device".split(), WORDS),
        "from": PATHS, "config": [*PATHS, "good.json"],
        "data": ["bars", "digits", "well-formed-", "table.csv", *WORDS],
        "sizes": ["16 2", "16 3 2", "16 0", "16 x", "12", "5 3", "16 -3", f"16 {10**12}", f"16 {2**63}", "16 30 2", ""],
        "out": PATHS,
        "bias": None, "force": None, "resume": None,
    },
    "report": {**OF_DATA, **dict.fromkeys("samples seed".split(), NUMBERS)},
    "evaluate": {**OF_DATA, **dict.fromkeys("particles count seed".split(), NUMBERS)},
    "sample": {"out": PLACES, "given": PATHS, "force": None, **dict.fromkeys("count replica seed".split(), NUMBERS)},
    "encode": {**OF_DATA, "to": PLACES, "force": None, **dict.fromkeys("layer passes replica seed".split(), NUMBERS)},
    "reconstruct": {**OF_DATA, "to": PLACES, "force": None, **dict.fromkeys("layer passes replica seed".split(), NUMBERS)},
    "complete": {
        **OF_DATA, "to": PLACES, "force": None, "probabilities": None,
        **dict.fromkeys("hide count particles steps replica seed".split(), NUMBERS),
        "by": ["importance", "exact", "gibbs", *WORDS],
    },
    "diagnose": {"to": PLACES, "inputs": PATHS, "force": None, "logits": None, **dict.fromkeys("sizes prior".split(), NUMBERS)},
    "compare": {"out": PATHS, "shard": SHARDS, **dict.fromkeys("seeds pretrain epochs".split(), NUMBERS), "no-resume": None},
    "table": {"out": PATHS, "shard": SHARDS, "seeds": NUMBERS, "jobs": ["1", "0", "-1", *WORDS], "no-resume": None},
    "figure": {"out": PATHS, "results": PATHS, "seeds": NUMBERS, "force": None},
    "sweep": {
        **OF_DATA, **dict.fromkeys("seeds seed epochs repeats patience".split(), NUMBERS), "jobs": ["1", "0", "-1", *WORDS],
        "vary": ["scheme=mim,flip", "lr=0.2", "sizes=16-2,16-3", "data=bars,table.csv,x", "from=good", "bias=yes", "=", "a=b=c", *WORDS],
        "config": [*PATHS, "good.json"], "out": PATHS, "shard": SHARDS, "no-resume": None,
    },
}  # fmt: skip
SMALL = {
    "train": "--data bars --sizes 16 2 --epochs 1 --seeds 1 --out new",
    "report": "good", "evaluate": "good --particles 2 --count 3", "sample": "good --count 2 --out new/dreams.png",
    "encode": "good --to new/codes.csv", "reconstruct": "good --to new/rows.npy", "diagnose": "table.csv",
    "complete": "good --data gaps.csv --to new/rows.csv --particles 9",
    "compare": "--seeds 2 --pretrain 1 --epochs 1 --jobs 1 --out new", "table": "worlds --jobs 1 --out new", "figure": "1 --out new",
    "sweep": "--data bars --sizes 16 2 --epochs 1 --seeds 1 --vary batch=1 --repeats 1 --jobs 1 --out new",
}  # fmt: skip


@st.composite
def lines(draw):
    """A command that works and is small, with options changed to good ones, bad ones and nonsense."""
    command = draw(st.sampled_from(list(OPTIONS)))
    words = SMALL[command].split()
    if command in ("report", "evaluate", "sample", "encode", "reconstruct", "complete", "diagnose") and draw(st.booleans()):
        words[0] = draw(st.sampled_from(PATHS))
    if command in ("table", "figure") and draw(st.booleans()):
        words[0] = draw(st.sampled_from([*WORDS, "4", "5", "collapse"]))
    for option in draw(st.lists(st.sampled_from(list(OPTIONS[command])), max_size=3)):
        values = OPTIONS[command][option]
        words += [f"--{option}", *(draw(st.sampled_from(values)).split(" ") if values else [])]
    if draw(st.integers(0, 9)) == 0:
        words.insert(draw(st.integers(0, len(words))), draw(ANY))
    return [command, *words]


def tiny_table(folder, resume, *seeds):
    """In place of an experiment."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "part.csv").write_text("x")
    return pd.DataFrame({"nats": [1.0]})


@pytest.fixture
def small_world(folder, monkeypatch):
    """Files of all kinds, and experiments and figures that take no time."""
    machine = HelmholtzMachine((16, 2), replicas=(2,))
    save(machine, "good", data="bars")
    save(machine.half(), "half", data="bars")
    save(machine, "unnamed")
    Path("damaged").write_bytes(Path("good").read_bytes()[:-9])
    Path("text").write_text("something else")
    Path("good.json").write_text('{"data": "bars", "scheme": "mim", "epsilon": 0.1, "optimizer": "adam"}')
    Path("empty").touch()
    Path("folder").mkdir()
    Path("table.csv").write_text("\n".join([",".join("01" * 8)] * 40))
    Path("gaps.csv").write_text(",".join("01" * 7) + ",,?\n" + ",".join("01" * 8))
    np.savez("two.npz", a=np.eye(16), b=np.eye(2))
    matplotlib.use("Agg")
    monkeypatch.setattr(book, "TABLES", dict.fromkeys(book.TABLES, tiny_table))
    monkeypatch.setattr(book, "figure_1", None)
    small = {name: lambda seeds, results: plt.figure(figsize=(1, 1)) for name in ("1", "2", "3", "collapse")}
    monkeypatch.setattr(book, "FIGURES", book.FIGURES | small)


FUZZ = bool(os.environ.get("FUZZ"))


@settings(max_examples=3000 if FUZZ else 100, derandomize=not FUZZ, suppress_health_check=list(HealthCheck))
@given(line=lines())
def test_whatever_is_typed_is_done_or_answered_in_a_sentence(line, small_world, capsys):
    try:
        main(line)
    except SystemExit as end:
        said = capsys.readouterr().err
        if isinstance(end.code, str):
            assert end.code.startswith("helmholtz-mim: ") and "\n" not in end.code and len(end.code) > 25
        else:
            assert end.code == 0 or (end.code == 2 and said), "help, or an answer of the parser"
    plt.close("all")
    capsys.readouterr()
