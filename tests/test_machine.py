"""The joint distribution, and files that hold a machine whole or not at all."""

import itertools
import json

import numpy as np
import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch.testing import assert_close

from helmholtz_mim import (
    HelmholtzMachine,
    ais_log_likelihood,
    downward,
    dream,
    exact_log_likelihood,
    exact_report,
    load,
    log_likelihood,
    losses,
    sampled_report,
    save,
    states,
    upward,
    wake,
    well_formed,
)
from helmholtz_mim.files import write_tensors
from helmholtz_mim.machine import NotFinite, check_finite, read


@given(st.lists(st.integers(1, 3), min_size=2, max_size=4), st.booleans(), st.integers(0, 2**32))
def test_joint_probabilities_sum_to_one(sizes, bias, seed):
    machine = HelmholtzMachine(sizes, bias=bias).double().randomise_(2.0, generator=torch.Generator().manual_seed(seed))
    z = states(sum(sizes)).split(machine.sizes, dim=-1)
    joint = machine.prior.log_prob(z[-1], z[-1][:, :0])
    joint = joint + sum(g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative))
    assert_close(joint.exp().sum().item(), 1.0)


@pytest.mark.parametrize("sizes", [(), (5,), 5])
def test_machines_too_small_are_refused(sizes):
    with pytest.raises(ValueError, match="at least two layers of at least one unit"):
        HelmholtzMachine(sizes)


@pytest.mark.parametrize("replicas", [(0,), (3, 0), (-1,)])
def test_stacks_without_machines_are_refused(replicas):
    with pytest.raises(ValueError, match="each of replicas is a whole number of at least 1"):
        HelmholtzMachine((3, 2), replicas=replicas)


def test_a_new_machine_knows_nothing():
    assert not any(tensor.any() for tensor in HelmholtzMachine((4, 3, 2), bias=True).state_dict().values())


def test_a_replica_is_a_copy_of_its_own(random_machine):
    stack = random_machine((4, 3), bias=True, replicas=(2, 3))
    one = stack.replica(4)
    assert torch.equal(one.recognition[0].weight, stack.recognition[0].weight[1, 1])
    one.recognition[0].weight.zero_()
    assert stack.recognition[0].weight[1, 1].all()


def test_replicas_are_a_number_or_several():
    assert HelmholtzMachine((3, 2), replicas=16).replicas == (16,)
    assert HelmholtzMachine(np.array([3, 2]), replicas=(np.int64(2), 3)).prior.bias.shape == (2, 3, 2)


@pytest.mark.parametrize("sizes", [(3.0, 2), (True, 2), (3, -1), (0, 5), "32", (10**9, 10**9), (3, 10**30), None])
def test_sizes_are_whole_numbers_that_fit_into_memory(sizes):
    with pytest.raises(ValueError, match=r"each of sizes is a whole number of at least 1|this computer has"):
        HelmholtzMachine(sizes)


@pytest.mark.parametrize("scale", [-1.0, np.nan, np.inf, "1", None])
def test_the_scale_of_weights_is_a_number(scale, generator):
    with pytest.raises(ValueError, match="scale of random weights"):
        HelmholtzMachine((3, 2)).randomise_(scale, generator=generator)


@pytest.mark.parametrize("replicas", [(), (2, 3)])
@pytest.mark.parametrize("index", [-1, 6, 7, 0.0, True, None])
def test_there_is_no_such_replica(index, replicas):
    with pytest.raises(ValueError, match=r"there is no replica|the number of a replica"):
        HelmholtzMachine((3, 2), replicas=replicas).replica(index)


# Divergence


MEASURES = {
    "wake": lambda m, g: wake(m, well_formed(6).bits, generator=g),
    "dream": lambda m, g: dream(m, 3, generator=g),
    "exact report": lambda m, g: exact_report(m, well_formed(6)),
    "upward": lambda m, g: upward(m, well_formed(6)),
    "downward": lambda m, g: downward(m),
    "sampled report": lambda m, g: sampled_report(m, well_formed(6), generator=g),
    "losses": lambda m, g: losses(m, well_formed(6), generator=g),
    "importance": lambda m, g: log_likelihood(m, well_formed(6).bits, 3, generator=g),
    "exact": lambda m, g: exact_log_likelihood(m, well_formed(6).bits),
    "annealing": lambda m, g: ais_log_likelihood(m, well_formed(6).bits, 2, 2, generator=g),
}


@pytest.mark.parametrize("name", MEASURES)
def test_a_machine_with_a_weight_that_is_not_finite_is_not_measured(name, random_machine, generator):
    machine = random_machine((6, 3, 2), replicas=(2,))
    MEASURES[name](machine, generator)
    for value in (np.inf, -np.inf, np.nan):
        machine.generative[1].weight[1, 0, 0] = value
        with pytest.raises(NotFinite, match=r"^generative\[1\] has a weight that is not finite.*smaller lr$"):
            MEASURES[name](machine, generator)


def test_large_weights_are_finite():
    machine = HelmholtzMachine((3, 2)).float()
    machine.recognition[0].weight.fill_(3e38)
    check_finite(machine)
    machine.prior.bias[0] = np.nan
    with pytest.raises(NotFinite, match=r"^prior has"):
        check_finite(machine)


# Files


@pytest.fixture
def saved(tmp_path, random_machine):
    machine = random_machine((4, 3, 2), bias=True)
    path = tmp_path / "machine.safetensors"
    save(machine, path, data="rhythms", epochs=3)
    return machine, path


def changed(path, header):
    """A copy of a machine's file with other words in its header."""
    copy = path.with_name("changed")
    state, words = read(path)
    write_tensors(copy, state, {k: v for k, v in (words | header).items() if v is not None})
    return copy


kinds = [*itertools.product([torch.float16, torch.float32, torch.float64], [False, True], [(), (3,), (2, 2)])]


@pytest.mark.parametrize("dtype, bias, replicas", kinds)
def test_saving_and_loading_changes_nothing(dtype, bias, replicas, tmp_path, random_machine):
    machine = random_machine((5, 3, 2), bias=bias, replicas=replicas).to(dtype)
    save(machine, tmp_path / "machine")
    again = load(tmp_path / "machine")
    assert (again.sizes, again.bias, again.replicas) == ((5, 3, 2), bias, replicas)
    assert again.prior.weight.dtype == dtype and same_weights(machine, again)


def test_a_file_says_how_it_came_about(saved):
    assert json.loads(read(saved[1])[1]["notes"]) == {"data": "rhythms", "epochs": 3}


def test_saving_again_replaces_the_file_and_leaves_no_other(saved, random_machine):
    other = random_machine((2, 2), seed=1)
    save(other, saved[1])
    assert same_weights(load(saved[1]), other)
    assert list(saved[1].parent.iterdir()) == [saved[1]]


def test_no_prefix_of_a_file_is_taken_for_a_machine(saved):
    whole, short = saved[1].read_bytes(), saved[1].with_name("short")
    for length in range(len(whole)):
        short.write_bytes(whole[:length])
        with pytest.raises(ValueError, match="cut short, or something else"):
            load(short)


@pytest.mark.parametrize("content", [b"\x89PNG\r\n\x1a\n" * 9, b"{}", b"\xff" * 64, b"\x02" + b"\0" * 7 + b"[]"])
def test_other_files_are_refused(content, tmp_path):
    (tmp_path / "other").write_bytes(content)
    with pytest.raises(ValueError, match="not a readable safetensors file"):
        load(tmp_path / "other")


def test_other_tensors_are_refused(tmp_path):
    save_file({"x": torch.zeros(2)}, tmp_path / "other")
    with pytest.raises(ValueError, match="not a Helmholtz machine"):
        load(tmp_path / "other")


@pytest.mark.parametrize("header", [dict(format="theirs"), dict(version=None), dict(version="one")])
def test_tensors_that_only_resemble_a_machine_are_refused(saved, header):
    with pytest.raises(ValueError, match="not a Helmholtz machine"):
        load(changed(saved[1], header))


@pytest.mark.parametrize("path", ["absent", "."])
def test_what_is_no_file_is_refused(path, tmp_path):
    with pytest.raises(ValueError, match="there is no file"):
        load(tmp_path / path)


def test_a_folder_with_a_machine_names_the_file(tmp_path):
    save(HelmholtzMachine((4, 2)), tmp_path / "machine.safetensors")
    with pytest.raises(ValueError, match=rf"{tmp_path} is a folder: name the file in it, {tmp_path}/machine.safetensors"):
        load(tmp_path)
    assert load(tmp_path / "machine.safetensors").sizes == (4, 2)


def test_a_newer_file_asks_for_an_upgrade(saved):
    with pytest.raises(ValueError, match="newer helmholtz_mim: upgrade"):
        load(changed(saved[1], dict(version="9")))


@pytest.mark.parametrize(
    "header",
    [
        dict(config=None),
        dict(config="{"),
        dict(config="[1, 2]"),
        dict(config='{"sizes": [4, 3, 5]}'),
        dict(config='{"sizes": [4, 3]}'),
        dict(config='{"sizes": [4, 3, 2], "bias": true, "replicas": [2]}'),
        dict(config='{"sizes": "abc"}'),
        dict(config='{"sizes": [1000000, 1000000], "bias": true}'),
        dict(config='{"sizes": [4, 3, 2], "bias": true, "replicas": [1000000, 1000000]}'),
        dict(config=json.dumps({"sizes": [1] * 10**6})),
    ],
)
def test_weights_that_do_not_fit_their_header_are_refused(saved, header):
    with pytest.raises(ValueError, match="do not fit its configuration"):
        load(changed(saved[1], header))


def test_wrong_shapes_are_refused(saved):
    state, header = read(saved[1])
    write_tensors(saved[1], state | {"prior.bias": torch.zeros(5)}, header)
    with pytest.raises(ValueError, match="do not fit its configuration"):
        load(saved[1])


def test_a_file_without_checksum_is_refused_and_can_be_saved_again(saved):
    """Of the first form, which safetensors wrote; who trusts it can read it without us."""
    machine, path = saved
    header = {k: v for k, v in read(path)[1].items()} | {"version": "1"}
    save_file(load_file(path), path, header)
    with pytest.raises(ValueError, match="earlier form without a checksum"):
        load(path)
    again = HelmholtzMachine((4, 3, 2), bias=True)
    again.load_state_dict(load_file(path))
    save(again, path)
    assert same_weights(load(path), machine)


def test_the_same_machine_is_the_same_file(saved, tmp_path):
    """Ten times, since an order drawn anew each time may come out right once."""
    for _ in range(10):
        save(load(saved[1]), tmp_path / "again", epochs=3, data="rhythms")
        assert (tmp_path / "again").read_bytes() == saved[1].read_bytes()


@pytest.mark.parametrize("place", ["no/such/folder/machine", "file/machine", "folder"])
def test_a_failed_save_leaves_nothing_behind(place, tmp_path, random_machine):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("something else")
    with pytest.raises(OSError, match="cannot write"):
        save(random_machine((3, 2)), tmp_path / place)
    assert sorted(p.name for p in tmp_path.rglob("*")) == ["file", "folder"]


@pytest.mark.parametrize("machine, notes, words", [(None, {}, "HelmholtzMachine, not None"), (..., dict(when=object()), "kept as JSON")])
def test_what_cannot_be_saved_is_refused(machine, notes, words, tmp_path):
    with pytest.raises(ValueError, match=words):
        save(HelmholtzMachine((2, 1)) if machine is ... else machine, tmp_path / "machine", **notes)
    assert not list(tmp_path.iterdir())
