"""Rivals of MIM: the runs are what they are called, and the floor is one on every engine."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from helmholtz_mim import HelmholtzMachine, TrainConfig, scheme, train, well_formed
from helmholtz_mim.chains import up
from helmholtz_mim.experiments.comparison import Run, ablation_runs, dynamics_runs, execute, nothing, noise_runs, table_runs
from helmholtz_mim.experiments.rivals import DEPTHS, FLOOR, PROTOCOLS, WAYS, Floor, interleave_runs, protocol_runs
from helmholtz_mim.experiments.rivals import depth_runs, other_runs, rival_panels, rival_runs, world_runs


def test_no_two_experiments_share_a_master_seed(tmp_path):
    experiments = [table_runs(), ablation_runs(), noise_runs(), interleave_runs()]
    experiments += [other_runs(), protocol_runs(), depth_runs(), world_runs()]
    seeds = [{run.seed for run in runs} for runs in experiments]
    assert all(len(one) == 1 for one in seeds)
    seeds += [{run.seed} for run in dynamics_runs(tmp_path)[:2]]
    assert len(set.union(*seeds)) == len(seeds)


def test_no_run_is_made_twice():
    names = [replace(run, seed=0) for run in rival_runs()]
    assert len(set(rival_runs())) == len(names)
    assert len(protocol_runs()) == len(PROTOCOLS) * len(WAYS) and len(depth_runs()) == 4 * len(DEPTHS)


@pytest.mark.parametrize("seeds", [1, 2, 7])
def test_a_few_seeds_are_seeds_for_every_run(seeds):
    assert {run.seeds for run in rival_runs(seeds)} == {seeds, max(1, seeds // 4)}


def test_names_say_what_is_unusual():
    assert Run(scheme="mim", fraction=0.1, anneal=0.7).name.startswith("well-formed-mim-every10-batch1-lr0.1-fraction0.1-anneal0.7")
    assert "10-8" in Run(hidden=(10, 8)).name and "asleep" in Run(phase="asleep").name and "Floor" in Run(scheme=FLOOR).name
    assert len({run.name for run in [*protocol_runs(), *depth_runs()[:2]]}) == len(protocol_runs()) + 2


@pytest.mark.parametrize("field, value", [("hidden", (4,)), ("dreams", 3), ("schedule", "linear"), ("fraction", 0.5), ("particles", 2)])
def test_every_field_of_a_run_changes_the_machine(field, value):
    usual = Run(scheme="mim", epochs=2, batch=100, seeds=2)
    one, other = (execute(run, nothing)[0] for run in (usual, replace(usual, **{field: value})))
    same = one.sizes == other.sizes and all(map(torch.equal, one.state_dict().values(), other.state_dict().values()))
    assert not same


def test_mim_asleep_decides_asleep():
    machines = {phase: execute(Run(scheme="mim", phase=phase, epochs=1, seeds=2), nothing)[0] for phase in ("awake", "asleep", "both")}
    weights = {phase: machine.recognition[0].weight for phase, machine in machines.items()}
    assert not torch.equal(weights["awake"], weights["asleep"]) and not torch.equal(weights["asleep"], weights["both"])


def test_records_come_late(tmp_path):
    _, table = execute(Run(epochs=7, span=4, records=2, seeds=2), rival_panels)
    assert sorted(set(table.step / 905)) == [4, 6, 7] and "top.recognition.4" in table and "off-support.generative.0" in table


@pytest.mark.parametrize("replicas", [(), (3,)])
def test_the_floor_is_one_on_every_engine(replicas, seed):
    machines = []
    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine((8, 5, 3), replicas=replicas).double()
        generator = torch.Generator().manual_seed(seed)
        train(machine, well_formed(8), TrainConfig(3, every=2), allocate=scheme(FLOOR, floor=0.3), engine=engine, generator=generator)
        machines.append(machine.state_dict())
    for one, other in zip(*(machine.values() for machine in machines), strict=True):
        assert_close(one, other, rtol=0, atol=1e-9)


def test_the_floor_holds_what_is_seldom_and_nothing_else():
    machine, rule = HelmholtzMachine((8, 4)).double(), Floor(0.2)
    rule.bind(up(machine))
    rule.recall(1).usual.copy_(torch.tensor([0.1, 0.9, 0.5, 0.1]))
    p, u = torch.tensor([[0.0, 1.0, 0.0, 0.6]]).double(), torch.linspace(0.005, 0.995, 100).double().unsqueeze(-1)
    often = rule(1, p.expand(100, -1), u.expand(-1, 4)).mean(0)
    assert_close(often, torch.tensor([0.2, 0.8, 0.0, 0.6]).double(), atol=0.011, rtol=0)
