"""Runs, resuming, the columns of the tables, and the meaning of states."""

from dataclasses import replace
from functools import partial

import pandas as pd
import pytest
import torch
from scipy.stats import t as student
from torch.testing import assert_close

from helmholtz_mim import SCHEMES, HelmholtzMachine, downward, encode, entropy, exact_report, load, upward, well_formed
from helmholtz_mim.cli import main
from helmholtz_mim.commands import book
from helmholtz_mim.experiments import comparison
from helmholtz_mim.experiments.comparison import PANELS, Run, draw_dynamics, dynamics, execute, find_scheme, label
from helmholtz_mim.experiments.comparison import liu_columns, perform, scheme, table_report, worlds_store
from helmholtz_mim.experiments.comparison import dynamics_runs, nothing, panels
from helmholtz_mim.experiments.rivals import EXPERIMENTS, interleave_runs
from helmholtz_mim.records import against, per_seed, wide_names
from helmholtz_mim.sweeps import sweep
from helmholtz_mim.tables import tabulate
from helmholtz_mim.measures.meaning import causal, complement, predictive


def execute_all(runs, folder, report=exact_report):
    """The tables of runs, made or found."""
    return sweep(worlds_store(folder, report), runs, perform)


SMALL = dict(seeds=3, pretrain=4, epochs=6, reports=3)


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A tiny Figure 3 and its folder."""
    folder = tmp_path_factory.mktemp("dynamics")
    return folder, dynamics(folder, **SMALL)


def test_dynamics_goes_on_from_the_same_machines(small):
    table = small[1]
    assert set(table.scheme) == {"before", "wake-sleep", "mim", "categorical", "flip"}
    assert table.notna().all().all()
    joint = table[table.step == table[table.scheme == "before"].step.max()]
    for _, rows in joint.groupby("replica"):
        assert rows["KL.recognition.0"].max() - rows["KL.recognition.0"].min() < 1e-4
    assert len(draw_dynamics(table).axes) == len(PANELS)


def test_finished_parts_are_kept_and_missing_ones_made_again_alike(small):
    folder, table = small
    files = sorted(folder.glob("*.csv.gz"))
    times = {f: f.stat().st_mtime_ns for f in files}
    lost = next(f for f in files if "-mim-" in f.name)
    content = lost.read_bytes()
    lost.unlink()
    again = dynamics(folder, seeds=3, pretrain=4, epochs=6, reports=3)
    assert lost.read_bytes() == content and again.equals(table)
    assert all(f.stat().st_mtime_ns == times[f] for f in files if f != lost)


def test_another_beginning_is_another_continuation(small, tmp_path):
    """`compare --pretrain 3` after `--pretrain 4` in the same folder; names of files once left out where a run starts."""
    short = dict(seeds=3, pretrain=3, epochs=6, reports=3)
    again, fresh = dynamics(small[0], **short), dynamics(tmp_path, **short)
    assert again.equals(fresh) and not again.equals(small[1])


def test_other_seeds_records_and_spans_are_other_runs(tmp_path):
    run = Run(epochs=2, seeds=2)
    runs = [run, replace(run, seed=7), replace(run, records=2, span=2), run]
    tables = [execute_all([each], tmp_path) for each in runs]
    assert tables[0].equals(tables[3]) and len(list(tmp_path.iterdir())) == 3
    columns = ["step", "replica", "KL.recognition.0"]
    for table, each in zip(tables, runs, strict=True):
        expected = execute(each)[1][columns]
        pd.testing.assert_frame_equal(table[columns], expected, check_exact=False, rtol=1e-4, check_names=False)


def test_the_same_run_is_made_once(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(comparison, "execute", lambda run, report: made.append(run) or execute(run, report))
    run = Run(epochs=1, seeds=1)
    assert len(execute_all([run, run], tmp_path)) == 2 * 2, "two records each"
    execute_all([run], tmp_path)
    assert made == [run] and len(list(tmp_path.iterdir())) == 1


def test_what_is_measured_tells_tables_apart(tmp_path):
    run = Run(epochs=1, seeds=1)
    few = execute_all([run], tmp_path)
    more = execute_all([run], tmp_path, table_report)
    assert set(few) < set(more) and len(list(tmp_path.iterdir())) == 2
    with pytest.raises(FileNotFoundError, match="1 of 1 runs are missing"):
        worlds_store(tmp_path, largest_report).table([run])
    with pytest.raises(ValueError, match="measure cannot be told from others"):
        execute_all([run], tmp_path, lambda machine, patterns: exact_report(machine, patterns))


largest_report = partial(exact_report, largest=30)


def test_a_table_is_the_same_file_each_time(tmp_path):
    run = Run(epochs=1, seeds=2)
    for folder in ("one", "two"):
        execute_all([run], tmp_path / folder)
    (one,), (two,) = ((tmp_path / folder).iterdir() for folder in ("one", "two"))
    assert one.name == two.name and one.read_bytes() == two.read_bytes()


def test_a_damaged_table_stops_the_work_before_it_begins(tmp_path, monkeypatch):
    run = Run(epochs=1, seeds=1)
    execute_all([run], tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(path.read_bytes()[:-20])
    monkeypatch.setattr(comparison, "execute", None)
    with pytest.raises(ValueError, match=rf"^{path} is damaged.*: remove it, and helmholtz-mim makes it again$"):
        execute_all([replace(run, seed=1), run], tmp_path)


def test_records_are_taken_at_the_end():
    machine, table = execute(Run(epochs=5, seeds=2, records=2, span=2))
    assert table.step.unique().tolist() == [4 * 905, 5 * 905] and len(table) == 4
    report = exact_report(machine, well_formed(12)).query("measure == 'KL' and layer == 0 and direction == 'recognition'")
    assert_close(torch.tensor(table[table.step == 5 * 905]["KL.recognition.0"].to_numpy()), torch.tensor(report.value.to_numpy()))


def test_paired_differences(small):
    seeds = per_seed(small[1][small[1].scheme != "before"], ["scheme"], records=2)
    table = against(seeds, "I.recognition.0")
    rows = seeds.pivot(index="replica", columns="scheme", values="I.recognition.0")
    assert table.loc["mim", "difference"] == pytest.approx((rows["mim"] - rows["wake-sleep"]).mean())
    assert table.loc["mim", "from"] < table.loc["mim", "difference"] < table.loc["mim", "to"]
    assert 0 <= table.loc["mim", "p"] <= 1 and table["seeds"].eq(3).all()


def records_of(generator, schemes=("wake-sleep", "mim"), steps=5, replicas=4):
    """A wide table of random numbers, in which every scheme has steps of its own."""
    rows = [
        (name, 10 * (i + 1) * step, replica, torch.rand((), generator=generator).item())
        for i, name in enumerate(schemes) for step in range(1, steps + 1) for replica in range(replicas)
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["scheme", "step", "replica", "I.recognition.0"])


def test_the_last_records_of_every_seed_are_averaged(generator):
    table = records_of(generator)
    values = {key: rows["I.recognition.0"].tolist() for key, rows in table.groupby(["scheme", "replica"])}  # in the order of the steps
    for records in (1, 2, 5, 9):
        found = per_seed(table, ["scheme"], records).set_index(["scheme", "replica"])["I.recognition.0"]
        assert len(found) == 8
        for key, one in values.items():
            assert found[key] == pytest.approx(sum(one[-records:]) / len(one[-records:])), (key, records)


def test_intervals_of_paired_differences_are_those_of_student(generator):
    seeds = per_seed(records_of(generator, ("wake-sleep", "mim", "flip")), ["scheme"])
    table = against(seeds, "I.recognition.0")
    rows = seeds.pivot(index="replica", columns="scheme", values="I.recognition.0")
    for name in ("mim", "flip"):
        difference = rows[name] - rows["wake-sleep"]
        expected = student.interval(0.95, 3, loc=difference.mean(), scale=difference.std() / 2)
        assert table.loc[name, ["from", "to"]].tolist() == pytest.approx(expected)
        alone = student.interval(0.95, 3, loc=rows[name].mean(), scale=rows[name].std() / 2)
        assert table.loc[name, "mean"] == pytest.approx(rows[name].mean())
        assert table.loc[name, "±"] == pytest.approx((alone[1] - alone[0]) / 2)
        p = 2 * student.sf(abs(difference.mean()) / (difference.std() / 2), 3)
        assert table.loc[name, "p"] == pytest.approx(p)


def test_two_runs_are_never_pooled_into_one_row(tmp_path):
    runs = [Run(epochs=2, seeds=2, lr=lr, batch=batch) for batch, lr in ((100, 0.1), (300, 0.3))]
    table = execute_all(runs, tmp_path)
    with pytest.raises(ValueError, match="add batch, lr to the columns"):
        per_seed(table, ["scheme"])
    apart = per_seed(table, ["scheme", "batch", "lr"])
    assert len(apart) == 4 and set(zip(apart.batch, apart.lr, strict=True)) == {(100, 0.1), (300, 0.3)}


def test_batches_of_one_ratio_are_never_pooled_into_one_comparison(tmp_path):
    """As in the table of pairs of runs with equal lr × updates, where two ratios are reached by a batch and by single data."""
    runs = [Run(scheme=name, epochs=1, seeds=2, batch=batch, lr=batch / 1000) for name in ("wake-sleep", "mim") for batch in (100, 300)]
    seeds = per_seed(execute_all(runs, tmp_path), ["scheme", "batch", "lr"])
    assert (seeds.lr / seeds.batch).round(9).nunique() == 1
    with pytest.raises(ValueError, match="add batch, lr to the columns"):
        against(seeds, "KL.recognition.0")
    for batch in (100, 300):
        assert against(seeds[seeds.batch == batch], "KL.recognition.0")["seeds"].eq(2).all()


def test_figure_3_keeps_what_it_shows(small):
    machine, rhythms = HelmholtzMachine((12, 10, 8, 6, 3)), well_formed(12)
    assert set(wide_names(panels(machine, rhythms))) == {*PANELS, "H.generative.0"}
    assert set(worlds_store(small[0], panels).table(dynamics_runs(small[0], **SMALL))) >= set(PANELS)


def test_the_two_forms_of_mim_are_swept_over_the_same_turns():
    runs = interleave_runs()
    assert len(set(runs)) == len(runs)
    turns = {form: {(run.data, run.every) for run in runs if run.scheme == form and run.every <= 100} for form in ("mim", "categorical")}
    assert turns["mim"] == turns["categorical"] and len(turns["mim"]) == 16
    alike = {replace(run, scheme="", every=0, records=1) for run in runs if run.scheme != "flip"}
    assert len(alike) == 3, "the world, and nothing else, besides the form and its turns"


def test_the_printed_table_keeps_runs_apart_and_names_schemes(tmp_path):
    runs = [Run(scheme="flip", epochs=1, batch=905, rate=rate, seeds=2) for rate in (0.05, 0.5)]
    execute_all(runs, tmp_path)
    table = book.experiment(lambda *seeds: runs, exact_report, tmp_path, resume=True)
    assert len(table) == 2 and set(table.index.get_level_values("rate")) == {0.05, 0.5}
    lines = str(tabulate(table, "words", names=book.in_print)).splitlines()
    assert "well-formed, perturbation" in lines and [line.split()[0] for line in lines[-2:]] == ["0.05", "0.5"]


def test_the_printed_table_has_a_row_for_each_run_of_every_experiment(tmp_path):
    """With one seed, and as if all had been trained: also runs that differ in what few experiments vary."""
    for name, (runs, report) in EXPERIMENTS.items():
        store = worlds_store(tmp_path / name, report)
        for run in runs(1):
            store.write(run, pd.DataFrame({"step": [9], "replica": [0], "KL.recognition.0": [0.5]}))
        table = book.experiment(runs, report, tmp_path / name, True, 1)
        assert len(table) == len(runs(1)) and (table["KL.recognition.0"] == 0.5).all()


def test_an_experiment_has_the_seeds_of_the_book_where_none_are_given(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(book, "sweep", lambda store, runs, *_, **__: asked.append(runs) or 1 / 0)
    for runs, report in EXPERIMENTS.values():
        with pytest.raises(ZeroDivisionError):
            book.experiment(runs, report, tmp_path, True)
        assert asked.pop() == runs()


def test_the_published_columns_on_an_ignorant_machine():
    machine, rhythms = HelmholtzMachine((8, 6, 3), replicas=(2,)), well_formed(8)
    columns = liu_columns(machine, rhythms)
    ignorant = 2 * 1 + 2 * 2  # losses of ln 2: twice layer 0, and both directions of layers 1 and 2
    assert columns["accuracy"] == pytest.approx([72 / 256] * 2)
    assert columns["normalised I"] == pytest.approx([0.0] * 2, abs=1e-9)
    assert columns["normalised loss"] == pytest.approx([ignorant * torch.tensor(2.0).log().item()] * 2)


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_trains_by_its_name(name):
    machine, table = execute(Run(scheme=name, epochs=1, every=2, seeds=2))
    assert machine.generative[0].weight.abs().sum() > 0
    assert table["KL.recognition.0"].iloc[-1] < table["KL.recognition.0"].iloc[0]


@pytest.mark.parametrize("name", SCHEMES)
def test_every_scheme_trains_on_a_world_whose_patterns_are_too_wide_for_a_table(name):
    """The heartbeat's twenty units: a rule that keeps a table for each state of a layer has none for the data."""
    machine, _ = execute(Run("heartbeat", name, epochs=1, every=2, seeds=1), nothing)
    assert machine.generative[0].weight.abs().sum() > 0


def test_schemes_are_fresh_and_found_by_name():
    assert scheme("mim") is not scheme("mim")
    with pytest.raises(ValueError, match="did you mean 'categorical'"):
        scheme("categoric")


class Sharp:
    """The unit's own coin, sharpened: a rule from outside."""

    color = "#123456"

    def __init__(self, sharpness=2.0):
        self.sharpness = sharpness

    def __call__(self, layer, p, u):
        return (u < torch.sigmoid(self.sharpness * torch.logit(p))).to(p)


SHARP = f"{__name__}:Sharp"


def test_a_rule_from_outside_is_a_scheme():
    assert scheme(SHARP, sharpness=3.0).sharpness == 3.0
    assert (label(SHARP), find_scheme(SHARP).color) == ("Sharp", "#123456")
    assert (label("mim"), label("before"), label("a: b")) == ("MIM, factorial", "before", "a: b")
    with pytest.raises(ValueError, match="has no option called rate: give one of sharpness"):
        scheme(SHARP, rate=1.0)
    for absent in ("absent:Sharp", f"{__name__}:Absent", ".:Sharp"):
        with pytest.raises(ValueError, match=r"there is no scheme .*: write module:Class, with the module's folder on PYTHONPATH$"):
            scheme(absent)


def test_a_rule_from_outside_is_drawn_beside_the_others(tmp_path):
    table = dynamics(tmp_path, seeds=2, pretrain=1, epochs=2, reports=2, schemes=("wake-sleep", SHARP))
    assert set(table.scheme) == {"before", "wake-sleep", SHARP} and not any(":" in path.name for path in tmp_path.iterdir())
    legend = draw_dynamics(table).legends[0]
    assert [text.get_text() for text in legend.get_texts()] == ["before: wake-sleep", "wake-sleep", "Sharp"]
    assert legend.get_lines()[-1].get_color() == "#123456"


def test_a_rule_from_outside_is_compared_on_the_command_line(tmp_path, capsys, monkeypatch):
    main(["compare", "--seeds", "2", "--pretrain", "1", "--epochs", "2", "--scheme", SHARP, "--jobs", "1", "--out", str(tmp_path / "d")])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("Sharp", "MIM, factorial", "MIM, categorical", "perturbation"))
    main(["train", "--seeds", "2", "--epochs", "1", "--scheme", SHARP, "--out", str(tmp_path / "t")])
    assert load(tmp_path / "t" / "machine.safetensors").replicas == (2,)
    with pytest.raises(SystemExit, match="there is no scheme absent:Sharp"):
        main(["compare", "--scheme", "absent:Sharp", "--out", str(tmp_path / "none")])
    assert not (tmp_path / "none").exists()


def test_causal_distributions_add_up(random_machine):
    machine = random_machine((6, 4, 3))
    for layer in (1, 2):
        for table, whole in zip(causal(machine, layer), downward(machine), strict=False):
            assert_close(table.sum(-1), torch.ones(len(table)))
            assert_close(downward(machine)[layer] @ table, whole)
    with pytest.raises(ValueError, match="replica"):
        causal(HelmholtzMachine((4, 3), replicas=(2,)), 1)


def test_complement_is_what_the_data_are_not():
    rhythms = well_formed(8)
    other = complement(rhythms)
    assert sorted([*encode(rhythms.bits).tolist(), *encode(other.bits).tolist()]) == list(range(256))
    with pytest.raises(ValueError, match="no complement"):
        complement(complement(rhythms).__class__(torch.tensor([[0.0], [1.0]])))


def test_predictive_processing_without_expectations_is_recognition(random_machine):
    machine, rhythms = random_machine((8, 5, 3)), well_formed(8)
    for layer in [*machine.generative, machine.prior]:
        for tensor in layer.state_dict().values():
            tensor.zero_()
    for with_it, without in zip(predictive(machine, rhythms), upward(machine, rhythms)[1:], strict=True):
        assert_close(with_it, without)
    assert entropy(predictive(machine, rhythms)[0]) > 0


def test_compare_on_the_command_line(tmp_path, capsys):
    line = ["compare", "--seeds", "2", "--pretrain", "2", "--epochs", "10", "--out", str(tmp_path / "d")]
    main(line)
    first = capsys.readouterr().out
    main(line)
    assert capsys.readouterr().out == first and "MIM, categorical" in first and "flip" not in first
    assert load(next((tmp_path / "d").glob("*.safetensors"))).replicas == (2,)
    assert not list((tmp_path / "d").glob("*partial*"))


def test_a_scheme_knows_its_options():
    assert scheme("flip", rate=0.5).rate == 0.5
    with pytest.raises(ValueError, match="the scheme mim has no option called rate: give one of alpha, beta, threshold"):
        scheme("mim", rate=0.5)
    with pytest.raises(ValueError, match="wake-sleep has no option called rate: give one of none at all"):
        scheme("wake-sleep", rate=0.5)
