"""Reweighted wake-sleep: weights per datum, the limit of one particle, and its place among the engines."""

import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as some
from torch.testing import assert_close

from helmholtz_mim import HelmholtzMachine, NotApplicable, TrainConfig, states, train, wake, well_formed
from helmholtz_mim.rules.factorial import FactorialMIM
from helmholtz_mim.rules.perturbation import Flip
from helmholtz_mim.methods.reweighted import importance, learn_reweighted_, log_importance
from helmholtz_mim.training import ENGINES


def trained(engine, rule=None, seed=1, **protocol):
    """A machine after some epochs on the rhythms of eight beats."""
    machine = HelmholtzMachine((8, 5, 2), replicas=(2,))
    config = TrainConfig(**{"epochs": 4, "batch": 9} | protocol)
    options = {"allocate": rule} if rule else {}
    train(machine, well_formed(8), config, engine=engine, generator=torch.Generator().manual_seed(seed), **options)
    return machine


@given(some.integers(0, 10**6), some.integers(1, 6), some.integers(1, 6))
def test_weights_belong_to_each_datum(seed, batch, particles):
    g = torch.Generator().manual_seed(seed)
    log_w = 100 * torch.randn(3, batch * particles, generator=g)
    weights = importance(log_w, particles).unflatten(-1, (batch, particles))
    assert_close(weights.sum(-1), torch.full((3, batch), 1 / batch))
    shifted = log_w.unflatten(-1, (batch, particles)) + torch.randn(3, batch, 1, generator=g)
    assert_close(importance(shifted.flatten(-2), particles).unflatten(-1, (batch, particles)), weights)


def test_the_mean_weight_is_the_likelihood(random_machine, generator):
    machine, x = random_machine((4, 3)), states(4)[[5]]
    z = wake(machine, x.expand(200_000, -1), generator=generator)
    estimate = log_importance(machine, z).exp()
    hidden = states(3)
    joint = machine.prior.log_prob(hidden, hidden[:, :0]) + machine.generative[0].log_prob(x.expand(8, -1), hidden)
    assert (estimate.mean() - joint.exp().sum()).abs() < 5 * estimate.std() / 200_000**0.5


def test_a_weighted_step_is_the_gradient_of_the_weighted_log_joint(random_machine, generator):
    machine, taught = random_machine((5, 4, 2), bias=True), random_machine((5, 4, 2), bias=True)
    z = wake(machine, states(5)[:6].repeat_interleave(3, 0), generator=generator)
    weights = importance(log_importance(machine, z), 3)
    learn_reweighted_(taught, z, weights, 0.1, recognition=True)
    for tensor in machine.state_dict(keep_vars=True).values():
        tensor.requires_grad_()
    log_p = machine.prior.log_prob(z[2], z[2][:, :0]) + sum(g.log_prob(z[l], z[l + 1]) for l, g in enumerate(machine.generative))
    log_q = sum(r.log_prob(z[l + 1], z[l]) for l, r in enumerate(machine.recognition))
    (weights @ (log_p + log_q)).backward()
    for name, tensor in machine.state_dict(keep_vars=True).items():
        if tensor.numel():
            assert_close(taught.state_dict()[name] - tensor.detach(), 0.1 * tensor.grad)


@pytest.mark.parametrize("rule", [None, Flip, FactorialMIM])
def test_one_particle_is_plain_wake_sleep(rule, seed):
    make = rule or (lambda: None)
    assert same_weights(*(trained(engine, make(), seed, every=2) for engine in ("torch", "reweighted")), atol=1e-12)


def test_auto_takes_it_for_several_particles_and_for_nothing_else(monkeypatch):
    def forbidden(*run):
        raise AssertionError("reweighting was not asked for")

    monkeypatch.setitem(ENGINES, "reweighted", forbidden)
    trained("auto")
    with pytest.raises(AssertionError, match="not asked for"):
        trained("auto", particles=2)
    for engine in ("torch", "compiled"):
        with pytest.raises(NotApplicable, match="engine='reweighted'"):
            trained(engine, particles=2)


def test_rules_take_their_turns_among_particles(seed):
    machines = [trained("reweighted", FactorialMIM(), seed, particles=3, every=every, recognition="both") for every in (2, 10**6)]
    assert not same_weights(*machines, atol=1e-3)
    with pytest.raises(ValueError, match="'sleep', 'wake' or 'both'"):
        TrainConfig(1, particles=2, recognition="dream")


@pytest.mark.parametrize("particles", [3, 0, 2.0, True])
def test_rows_come_in_groups_of_particles(particles):
    with pytest.raises(ValueError, match=r"groups of 3 particles|whole number"):
        importance(torch.zeros(4), particles)


@pytest.mark.parametrize("log_w", [torch.zeros(0), torch.zeros(4, dtype=torch.int64), torch.tensor(0.0), torch.zeros(3), [0.0, 0.0], None])
def test_what_are_no_log_weights_is_refused(log_w):
    with pytest.raises(ValueError, match="log-weights are a floating-point tensor with rows in groups of 2 particles"):
        importance(log_w, 2)


def test_importance_is_of_a_pattern_for_each_layer():
    with pytest.raises(ValueError, match="z is a list of patterns for the 2 layers"):
        log_importance(HelmholtzMachine((3, 2)), [states(3)])
