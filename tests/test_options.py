"""Options: each reaches the object of its axis, under every name it has, from a line or from a file."""

import json
import re
import subprocess
import sys
import time
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import same_weights

from helmholtz_mim import (
    SGD,
    Adam,
    CategoricalMIM,
    EarlyStopping,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    Reweighted,
    TrainConfig,
    WakeSleep,
    bars,
    exact_report,
    folk_rhythms,
    load,
    losses,
    sample,
    save,
    train,
)
from helmholtz_mim.cli import main
from helmholtz_mim.commands import telling, training
from helmholtz_mim.commands.choices import CHOICES, OPEN, defaults, fits, spelled
from helmholtz_mim.commands.telling import Telling, in_time, outcome, printed
from helmholtz_mim.commands.training import GROUPS, Train
from helmholtz_mim.experiments import static
from helmholtz_mim.rules.factorial import leave_one_out, self_consistent

SMALL = "train --data bars --sizes 16 3 2 --epochs 2 --seeds 2".split()
RESULTS = ["config.json", "history.csv", "machine.safetensors"]


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
    assert isinstance(stopped.value.code, str) and "\n" not in stopped.value.code
    return stopped.value.code


@pytest.fixture
def asked(monkeypatch):
    """A function: what `train` is asked to do by a line, without doing it."""
    seen = SimpleNamespace()

    def fake(machine, patterns, config, **axes):
        seen.__dict__.update(axes, machine=machine, patterns=patterns, config=config)
        return pd.DataFrame({"step": [0]})

    bits = np.eye(16, dtype=int)
    np.savetxt("twice.csv", np.vstack([bits, bits]), "%d", delimiter=",")
    np.savetxt("grey.csv", 0.3 + 0.4 * bits, "%.1f", delimiter=",")
    heavy = pd.DataFrame(bits, columns=[f"unit {k}" for k in range(16)]).assign(heavy=[15.0] + [1.0] * 15)
    heavy.to_csv("heavy.csv", index=False)

    def ask(line, before=SMALL):
        monkeypatch.setattr(training, "train", fake)
        main([*before, *line.split(), "--force"])
        return seen

    return ask


# Each option reaches its object


class Own(FactorialMIM):
    """A rule of one's own."""


class OwnMethod(WakeSleep):
    """A method of one's own."""


HERE = __name__
REACHES = {
    "": lambda s: s.config == TrainConfig(2) and s.method == WakeSleep() and s.optimizer == SGD() and s.engine == "auto",
    "--data heartbeat --sizes 20 2": lambda s: (s.patterns.units, s.machine.sizes) == (20, (20, 2)),
    "--data grey.csv --threshold .5": lambda s: torch.equal(s.patterns.bits, torch.eye(16)),
    "--data heavy.csv --weights heavy": lambda s: s.patterns.weights[0] == 0.5,
    "--data twice.csv --split .5": lambda s: len(s.patterns) == 16 and len(s.patterns.bits.unique(dim=0)) < 16,
    "--data twice.csv --split .5 --split-seed 3": lambda s: not torch.equal(s.patterns.bits, Train("twice.csv", split=0.5).patterns().bits),
    "--data twice.csv --split .5 --split-distinct": lambda s: (s.patterns.bits.unique(dim=0, return_counts=True)[1] == 2).all(),
    "--sizes 16 5 4 3": lambda s: s.machine.sizes == (16, 5, 4, 3),
    "--bias": lambda s: s.machine.bias and s.machine.recognition[0].bias is not None,
    "--scale 2": lambda s: 1 < s.machine.generative[0].weight.std() < 3,
    "--scale 0": lambda s: not s.machine.generative[0].weight.any(),
    "--seeds 3": lambda s: s.machine.replicas == (3,),
    "--seeds 1": lambda s: s.machine.replicas == (1,),
    "--seeds alone": lambda s: s.machine.replicas == (),
    "--seed 7": lambda s: s.generator.initial_seed() == 7,
    "--epochs 5": lambda s: s.config == TrainConfig(5),
    "--batch 10": lambda s: s.config == TrainConfig(2, 10) and s.config.dreams == 10,
    "--batch 10 --dreams 3": lambda s: s.config == TrainConfig(2, 10, 3),
    "--lr .3": lambda s: s.config.lr == 0.3,
    "--every 4": lambda s: s.config.every == 4,
    "--fraction .2 --anneal .5": lambda s: s.config == TrainConfig(2, fraction=0.2, anneal=0.5),
    "--report-every 2": lambda s: s.config.report_every == 2,
    "--method reweighted": lambda s: s.method == Reweighted(),
    "--method RWS --particles 7 --recognition both": lambda s: s.method == Reweighted(7, "both"),
    f"--method {HERE}:OwnMethod": lambda s: s.method == OwnMethod(),
    "--scheme wake-sleep": lambda s: s.allocate.awake is sample and s.allocate.asleep is sample,
    "--scheme perturbation": lambda s: s.allocate.awake == Flip(),
    "--scheme flip --rate .1 --phase asleep": lambda s: s.allocate.asleep == Flip(0.1) and s.allocate.awake is sample,
    "--scheme MIM": lambda s: type(s.allocate.awake) is FactorialMIM and s.allocate.awake.epsilon == 0.02,
    "--scheme mim --epsilon .1": lambda s: s.allocate.awake.epsilon == 0.1,
    "--scheme mim --epsilon estimated --estimate-every 9":
        lambda s: s.allocate.awake.epsilon is None and s.allocate.awake.estimate_every == 9,
    "--scheme mim --alpha 2 --beta 3": lambda s: (s.allocate.awake.alpha, s.allocate.awake.beta) == (2, 3),
    "--scheme mim --habit Leave-One-Out": lambda s: s.allocate.awake.threshold is leave_one_out,
    "--scheme mim --habit self-consistent": lambda s: s.allocate.awake.threshold is self_consistent,
    "--scheme mim --habit memory": lambda s: s.allocate.awake.threshold is None,
    "--scheme mim --phase both": lambda s: type(s.allocate.asleep) is FactorialMIM and s.allocate.asleep is not s.allocate.awake,
    "--scheme categorical": lambda s: type(s.allocate.awake) is CategoricalMIM and s.allocate.awake.epsilon is None,
    "--scheme categorical --share .5 --sharpness 9": lambda s: (s.allocate.awake.share, s.allocate.awake.sharpness) == (0.5, 9),
    f"--scheme {HERE}:Own --epsilon .3": lambda s: type(s.allocate.awake) is Own and s.allocate.awake.epsilon == 0.3,
    "--optimizer Adam": lambda s: s.optimizer == Adam(),
    "--optimizer adam --decay .01 --schedule Cosine": lambda s: s.optimizer == Adam(schedule="cosine", decay=0.01),
    "--optimizer sgd --momentum .9 --schedule linear": lambda s: s.optimizer == SGD(schedule="linear", momentum=0.9),
    "--engine Torch": lambda s: s.engine == "torch",
    "--engine helmholtz_mim.engines.reference:Reference": lambda s: s.engine.endswith(":Reference"),
    "--precision double": lambda s: s.machine.prior.weight.dtype == torch.float64,
    "--precision single --device CPU": lambda s: s.machine.prior.weight.dtype == torch.float32,
    "--patience 3": lambda s: isinstance(s.stop, EarlyStopping) and s.stop.patience == 3 and len(s.stop.x) == len(bars()),
    "--checkpoint-minutes 5": lambda s: s.checkpoint.kept.minutes == 5,
    "--measure exact": lambda s: s.report is exact_report,
    "--measure losses": lambda s: s.report.func is losses,
    "--measure sampled": lambda s: s.report.func.__name__ == "sampled_report",
    "--out elsewhere": lambda s: str(s.checkpoint.kept.path).startswith("elsewhere"),
}  # fmt: skip


@pytest.mark.parametrize("line", REACHES)
def test_an_option_reaches_its_object(line, asked, monkeypatch):
    monkeypatch.setattr(EarlyStopping, "restore_", lambda stop, machine: machine)
    assert REACHES[line](asked(line))


def test_every_option_is_tried_above():
    flags = {flag for line in REACHES for flag in re.findall(r"--([\w-]+)", line)}
    known = {f.name.replace("_", "-") for group in GROUPS.values() for f in fields(group)}
    assert known - flags == {"from-", "from-digest", "resume", "force"}, "which have tests of their own"


def test_the_protocol_is_all_of_the_protocol_with_its_defaults():
    assert Train().protocol() == TrainConfig(600)
    line = [f.name for f in fields(GROUPS["protocol"])]
    assert line == [f.name for f in fields(TrainConfig)]


def test_every_choice_of_every_axis_is_understood():
    for axis, table in CHOICES.items():
        for name in table:
            assert spelled(axis, name) == spelled(axis, name.upper()) == name
            assert getattr(Train(**{axis: name.title()}), axis) == name


@pytest.mark.parametrize("wide, seeds", [("16 3 2", (16,)), ("16 30 2", ())])
def test_how_many_machines_learn_where_nobody_says_it(wide, seeds, folder):
    main(f"train --data bars --sizes {wide} --epochs 1 --out run".split())
    assert load("run/machine.safetensors").replicas == seeds
    assert json.loads(Path("run/config.json").read_text())["seeds"] == (seeds[0] if seeds else "alone")


def test_held_out_data_decide_when_it_ends_and_the_best_weights_stay(folder, monkeypatch):
    kept = []
    restore = EarlyStopping.restore_
    monkeypatch.setattr(EarlyStopping, "restore_", lambda stop, machine: kept.append(stop) or restore(stop, machine))
    line = "train --data folk-3-4 --sizes 12 4 --epochs 60 --batch 50 --lr 9 --report-every 1 --patience 2 --seeds 2 --out run"
    main([*line.split(), "--seed", "3"])
    (stop,) = kept
    assert torch.equal(stop.x, folk_rhythms("3/4", "test").bits) and len(stop.scores) < 60
    assert len(pd.read_csv("run/history.csv").step.unique()) == len(stop.scores) + 1
    best = load("run/machine.safetensors").state_dict()
    assert all(torch.equal(value, best[name]) for name, value in stop.best.items())


# Configurations


REPEATED = {
    "SGD and MIM": "--scheme mim --scale .5",
    "Adam and annealed MIM in batches": "--seeds alone --batch 20 --optimizer adam --lr .01 --schedule linear --bias"
    " --scheme mim --habit leave-one-out --fraction .5 --anneal .7",
    "reweighted": "--method rws --particles 3 --recognition both --batch 20",
    "double, estimated": "--precision double --scheme categorical --phase both --epsilon estimated",
}  # fmt: skip


@pytest.mark.parametrize("name", REPEATED)
def test_a_configuration_repeats_a_run_to_the_byte(name, folder):
    main([*SMALL, *REPEATED[name].split(), "--seed", "5", "--out", "run"])
    main("train --config run/config.json --out again".split())
    for file in RESULTS:
        assert (folder / "run" / file).read_bytes() == (folder / "again" / file).read_bytes(), file
    main("train --seed 6 --config=run/config.json --out other".split())
    assert (folder / "run" / RESULTS[2]).read_bytes() != (folder / "other" / RESULTS[2]).read_bytes()
    changed = json.loads((folder / "other/config.json").read_text())
    assert changed == json.loads((folder / "run/config.json").read_text()) | {"seed": 6}


def test_the_line_overrides_the_configuration(folder, asked):
    main([*SMALL, "--bias", "--lr", ".3", "--scheme", "mim", "--epsilon", ".1", "--out", "run"])
    seen = asked("--config run/config.json --lr .1 --no-bias --scheme flip --epsilon None --out new")
    assert seen.config.lr == 0.1 and not seen.machine.bias and seen.allocate.awake == Flip()


def test_an_interrupted_configuration_can_be_repeated(folder, asked):
    main([*SMALL, "--out", "run"])
    told = json.loads(Path("run/config.json").read_text())
    Path("config.interrupted.json").write_text(json.dumps(told | {"epochs_done": 1, "lr": 1}))
    assert asked("--config config.interrupted.json").config.lr == 1


CONFIGURATIONS = {
    "{": "is damaged, or no configuration",
    "[1]": "is damaged, or no configuration",
    '{"epoch": 3}': "did you mean 'epochs'",
    '{"out": 3}': "out in config.json cannot be 3",
    '{"epochs": "many"}': "epochs in config.json cannot be 'many': write one that `train --help` allows, or leave epochs out",
    '{"epochs": true}': "epochs in config.json cannot be True",
    '{"sizes": [16, "x"]}': "sizes in config.json cannot be [16, 'x']",
    '{"seeds": "some"}': "seeds in config.json cannot be 'some'",
    '{"epochs": 3, "format": 99}': "upgrade the package to read it",
    '{"scheme": "mum"}': "did you mean 'mim'",
}


@pytest.mark.parametrize("text", CONFIGURATIONS)
def test_a_configuration_that_cannot_be_believed_is_refused(text, folder):
    Path("config.json").write_text(text)
    assert CONFIGURATIONS[text] in refusal("train --config config.json --data bars --out run".split())
    assert not Path("run").exists()


def test_a_configuration_that_is_not_there_is_named(folder):
    Path("run").mkdir()
    for path in ("run", "absent.json"):
        assert f"there is no file {path}: give the config.json of a run" in refusal(f"train --config {path}".split())


def test_a_configuration_of_an_earlier_version_is_read(asked):
    Path("config.json").write_text('{"lr": 0.25, "version": "0.0.9"}')
    assert asked("--config config.json").config.lr == 0.25


def test_values_of_every_kind_are_told_apart():
    kinds = [(3, int), (3, float), (3.0, float), ("x", str), (True, bool), ("a", Path), (None, int | None)]
    assert all(fits(value, kind) for value, kind in kinds)
    assert not any(fits(value, kind) for value, kind in [(3.0, int), (True, int), (True, float), (None, int), (3, str), (1, bool)])


# Going on with a saved machine


def test_a_saved_machine_is_trained_on(folder):
    main([*SMALL, "--bias", "--scale", ".5", "--out", "first"])
    main("train --data bars --from first/machine.safetensors --epochs 1 --lr .2 --seed 4 --out second".split())
    machine = load("first/machine.safetensors")
    train(machine, bars(), TrainConfig(1, lr=0.2), generator=torch.Generator().manual_seed(4))
    assert same_weights(machine, load("second/machine.safetensors"))
    told = json.loads(Path("second/config.json").read_text())
    assert (told["sizes"], told["bias"], told["seeds"]) == ([16, 3, 2], True, 2)
    main("train --config second/config.json --out again".split())
    assert Path("second", RESULTS[2]).read_bytes() == Path("again", RESULTS[2]).read_bytes()
    main([*SMALL, "--out", "first", "--force"])
    assert "is not the file that the run went on with" in refusal("train --config second/config.json --out third".split())


@pytest.mark.parametrize("change, words", {
    "--sizes 16 4 2": "holds a machine with sizes (16, 3, 2), not (16, 4, 2): leave --sizes out",
    "--seeds 4": "holds a machine with seeds 2, not 4: leave --seeds out",
    "--seeds alone": "holds a machine with seeds 2, not 'alone'",
    "--bias": "holds a machine with bias False, not True: leave --bias out",
    "--scale 1": "has its own weights: leave --scale out",
    "--data heartbeat": "data layer has 16 units, the patterns have 20: choose other data",
}.items())  # fmt: skip
def test_a_saved_machine_is_not_bent(change, words, folder):
    save(HelmholtzMachine((16, 3, 2), replicas=(2,)), "saved")
    assert words in refusal(f"train --data bars --from saved --epochs 1 {change}".split())
    assert "no file absent" in refusal("train --from absent".split())


def test_a_machine_in_half_precision_goes_on_in_single(folder):
    save(HelmholtzMachine((16, 3)).half(), "half")
    main("train --data bars --from half --epochs 1 --out run".split())
    assert load("run/machine.safetensors").prior.weight.dtype == torch.float32


# Refusals


REFUSED = {
    "--scheme mim --rate .1": "the scheme mim has no option rate: leave --rate out, or choose flip",
    "--scheme flip --epsilon .1": "the scheme flip has no option epsilon: leave --epsilon out, or choose mim or categorical",
    "--habit leave-one-out": "the scheme wake-sleep has no option habit: leave --habit out, or choose mim",
    "--particles 3": "the method wake-sleep has no option particles: leave --particles out, or choose reweighted",
    "--optimizer adam --momentum .9": "the optimizer adam has no option momentum: leave --momentum out, or choose sgd",
    "--decay .1": "the optimizer sgd has no option decay",
    "--optimizer adma": "did you mean 'adam'",
    "--method reweigthed": "did you mean 'reweighted'",
    "--schedule line": "did you mean 'linear'",
    "--habit leaf": "did you mean 'leave-one-out'",
    "--phase asleeping": "did you mean 'asleep'",
    "--precision half": "there is no precision called 'half'",
    "--device gpu": "there is no device called 'gpu'",
    "--measure exactly": "did you mean 'exact'",
    "--method rws --recognition awake": "did you mean 'wake'",
    "--scheme csv:DictReader": "the scheme csv:DictReader cannot be made from options alone (missing a required argument: 'f'): give",
    "--method absent:Class": "there is no method absent:Class",
    "--optimizer math:pi": "optimizer is a function, not 3.14",
    "--method rws --particles 0": "particles is a whole number of at least 1",
    "--patience 0": "patience is a whole number of at least 1",
    "--epsilon 2 --scheme mim": "epsilon lies between 0 and 1",
    "--momentum 1": "momentum lies between 0 and 1",
    "--fraction 2": "fraction lies between 0 and 1",
    "--anneal .5": "anneal lets a fraction fall to zero",
    "--fraction .5 --every 3": "give one of the two",
    "--engine batched --precision double": "large batches are for machines in single precision",
    "--engine compiled --method rws": "the compiled engine knows plain wake-sleep",
    f"--batch 30 --method rws --particles {10**12}": "GiB of memory, most of it for batches and dreams",
}  # fmt: skip


@pytest.mark.parametrize("line", REFUSED)
def test_a_mistake_in_an_option_is_one_sentence(line, folder):
    assert REFUSED[line] in refusal([*SMALL, *line.split(), "--out", "run"])
    assert not Path("run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is one here")
def test_a_device_that_is_not_there_is_refused():
    assert "no CUDA device here: leave --device out" in refusal([*SMALL, "--device", "cuda"])


def test_data_of_ones_own_need_sizes():
    Path("own.csv").write_text("0,1\n")
    assert "the book has no machine for own.csv: say how many units" in refusal("train --data own.csv --epochs 1".split())


# What it says


def test_help_names_every_group_option_choice_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "88")  # wider, and groups stand side by side
    with pytest.raises(SystemExit, match="0"):
        main(["train", "--help"])
    said = re.sub(r"[│ \n]+", " ", capsys.readouterr().out)
    for name, group in GROUPS.items():
        assert f" {name} options " in said and group.__doc__ in said
        for field in fields(group):
            flag = field.name.rstrip("_").replace("_", "-")
            assert (f"--{flag}" in said) == (flag != "from-digest"), flag
            if field.default is not None:
                shown = rf"--{flag}(?:, --no-{flag})? (?:(?! --[a-z]).)*\(default: {field.default}\)"
                assert re.search(shown, said), flag
    for axis, table in CHOICES.items():
        assert "|".join([*table, *["module:Class"] * (axis in OPEN)]) in said, axis
    for words in ("(reweighted: 5)", "(mim: 0.02, categorical: estimated)", "(flip: 0.25)", "(adam: 0.0)", "(categorical: inf)"):
        assert words in said
    assert defaults("method", "particles") == {"reweighted": Reweighted().particles}


def test_the_version_is_that_of_the_package(capsys):
    import helmholtz_mim

    main(["--version"])
    assert capsys.readouterr().out == f"helmholtz-mim {helmholtz_mim.__version__}\n"


def test_the_first_line_says_who_learns_what_with_which_engine(capsys):
    main([*SMALL, "--optimizer", "adam", "--scheme", "mim", "--out", "run"])
    said = capsys.readouterr().out.splitlines()[0]
    words = "training 2 machines of 16-3-2 on bars (30 patterns, epochs 2): method wake-sleep, scheme mim, optimizer adam, engine torch"
    assert said == words


@pytest.mark.parametrize("terminal", [False, True])
def test_a_run_without_a_bar_says_now_and_then_how_far_it_is(terminal, capsys, monkeypatch):
    clock = iter(range(0, 10**6, 25))
    monkeypatch.setattr(time, "perf_counter", lambda: float(next(clock)))
    monkeypatch.setattr(sys.stderr, "isatty", lambda: terminal, raising=False)
    shown = []
    say = Telling(shown.append, "words")
    for done in (10, 11, 12, 13, 14, 15, 16):
        run = SimpleNamespace(engine="torch", interrupted=done == 16, trainer=SimpleNamespace(done=done))
        run.setup = SimpleNamespace(config=TrainConfig(20))
        say(run)
    lines = ["words, engine torch, going on after epoch 10"]
    lines += [] if terminal else ["epoch 13 of 20, 3 minutes to go"]
    assert capsys.readouterr().out.splitlines() == lines and len(shown) == 7, "every one goes on to the checkpoint"


DURATIONS = {1.4: "1 seconds", 119: "119 seconds", 150: "2 minutes", 7200: "2 hours", 3e5: "3 days"}


@pytest.mark.parametrize("seconds, words", DURATIONS.items())
def test_durations_are_in_words(seconds, words):
    assert in_time(seconds) == words


# Three numbers


def numbers(said):
    """Names and values of the lines before the last."""
    return {m[1]: m[2] for m in re.finditer(r"^(\S.*?)  +(−?[\d.]+)( ± [\d.]+)?$", said, re.M)}


def to_the_digits_shown(value, text):
    return text.replace("−", "-") == f"{value:.{len(text.partition('.')[2])}f}"


def test_the_numbers_at_the_end_are_those_of_the_exact_report(capsys):
    main([*SMALL, "--scale", "1", "--out", "run"])
    found = numbers(capsys.readouterr().out)
    report = exact_report(load("run/machine.safetensors"), bars()).set_index(["direction", "layer", "measure"]).value

    means = {
        "KL(data ‖ model), nats": (kl := report[[("recognition", 0, "KL")]].mean()),
        "I(layers 1, 2), nats": report[[("recognition", 1, "I")]].mean(),
        "mass of dreams off the support": report[[("generative", 0, "off-support")]].mean(),
        "ln p(the data), exact, nats": -bars().entropy - kl,
    }
    assert found.keys() == means.keys() and all(to_the_digits_shown(means[name], text) for name, text in found.items())


def test_intervals_are_over_seeds_and_there_is_none_of_one(capsys):
    main([*SMALL, "--scale", "1", "--out", "run"])
    assert capsys.readouterr().out.count(" ± ") == 4
    main([*SMALL, "--seeds", "alone", "--out", "alone"])
    assert " ± " not in capsys.readouterr().out
    assert str(printed({"x": torch.tensor([1.0, 3.0])})).split()[-4:] == ["x", *"2 ± 13".split()], "t(0.975, 1) = 12.7"


def test_held_out_data_are_judged_where_there_are_some(capsys):
    main("train --data folk-3-4 --sizes 12 3 --epochs 1 --seeds 2 --out run".split())
    machine, unseen = load("run/machine.safetensors"), folk_rhythms("3/4", "test")
    kl = exact_report(machine, unseen).query("measure == 'KL' and direction == 'recognition' and layer == 0").value.mean()
    assert to_the_digits_shown(-unseen.entropy - kl, numbers(capsys.readouterr().out)["ln p(held-out data), exact, nats"])


def test_where_no_table_holds_the_states_a_bound_says_what_it_rests_on(capsys):
    main("train --data bars --sizes 16 20 5 --epochs 2 --scheme mim --out run".split())
    found = numbers(capsys.readouterr().out)
    assert list(found) == ["ln p(the data, 30 patterns) at least (100 particles), nats", "active units of the 5 at the top"]


def test_a_bound_is_below_the_likelihood_and_a_dead_top_has_no_active_unit(random_machine, monkeypatch):
    machine, world = random_machine((16, 6, 3), scale=0.5), bars()
    exact = outcome(machine, world, exact=False)
    monkeypatch.setattr(telling, "is_narrow", lambda *sizes: False)
    bound = outcome(machine, world, exact=False)
    (name, a), _ = exact.items()
    (other, b), _ = bound.items()
    assert name.endswith("exact, nats") and other.endswith("at least (100 particles), nats")
    assert a - 1 < b < a + 0.1
    _, active = outcome(HelmholtzMachine((16, 6, 3)), world, exact=False).values()
    assert active.item() == 0


# The recipe of the book


def test_the_recipe_of_the_chapter_is_the_experiment(asked, monkeypatch, tmp_path):
    text = json.loads(Path(__file__).parent.parent.joinpath("nbs/59_options.ipynb").read_text(encoding="utf-8"))
    prose = "".join("".join(cell["source"]) for cell in text["cells"])
    line = re.search(r"helmholtz-mim (train --data mnist-static .*)", prose)[1].split()
    bits = np.random.default_rng(0).integers(0, 2, (3, 98), np.uint8)
    np.savez(tmp_path / "binarized_mnist.npz", train=bits, valid=bits, test=bits)
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", str(tmp_path))
    done: dict = {}
    monkeypatch.setattr(static, "train", lambda machine, data, config, **axes: done.update(axes, config=config))
    said = asked("--report-every 4", before=line)
    machine, _ = static._train_static(static.StaticRun("mim annealed", lr=0.007))
    assert repr(said.machine) == repr(machine) and said.config == done["config"]
    assert said.method == done["method"] and said.optimizer == done["optimizer"]
    assert said.allocate.awake.threshold is done["allocate"].threshold


def test_the_recipe_runs_on_small_digits(folder):
    line = "train --data digits --sizes 64 20 10 --bias --epochs 2 --batch 100 --optimizer adam --lr 0.007"
    line += " --scheme mim --fraction .1 --anneal .7"
    done = subprocess.run([sys.executable, "-m", "helmholtz_mim", *line.split()], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr
    assert "optimizer adam, engine batched" in done.stdout and "active units of the 10 at the top" in done.stdout
