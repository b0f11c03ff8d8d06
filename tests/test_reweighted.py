"""Reweighted wake-sleep: weights per datum, the limit of one particle, and its place among the engines."""

import pytest
import torch
from conftest import same_weights
from hypothesis import given
from hypothesis import strategies as some
from torch.testing import assert_close

from helmholtz_mim import (
    SGD,
    Adam,
    HelmholtzMachine,
    NotApplicable,
    Reweighted,
    TrainConfig,
    down,
    draw,
    log_prob,
    sample,
    states,
    teach_,
    train,
    up,
    wake,
    well_formed,
)
from helmholtz_mim.methods.reweighted import importance, log_importance
from helmholtz_mim.methods.wake_sleep import Phase
from helmholtz_mim.protocol import LocalOptimizer
from helmholtz_mim.rules.factorial import FactorialMIM
from helmholtz_mim.rules.perturbation import Flip


def trained(engine="torch", method=None, rule=None, seed=1, replicas=(2,), **protocol):
    """A machine after some epochs on the rhythms of eight beats."""
    machine = HelmholtzMachine((8, 5, 2), replicas=replicas)
    config = TrainConfig(**{"epochs": 4, "batch": 9} | protocol)
    options = {"allocate": rule} if rule else {}
    options |= {"method": method} if method else {}
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
    for chain in (down(taught), up(taught)):
        teach_(chain, z, 0.1, weights)
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
    assert same_weights(*(trained("torch", method, make(), seed, every=2) for method in (None, Reweighted(1))), atol=1e-12)


def test_an_engine_that_knows_no_particles_says_so():
    with pytest.raises(NotApplicable, match=r"not Reweighted\(particles=2.*engine='torch'"):
        trained("compiled", Reweighted(2))


@pytest.mark.parametrize("double", [True, False])
def test_auto_finds_an_engine_for_particles(double):
    machine, names = HelmholtzMachine((8, 5, 2)), []
    machine = machine.double() if double else machine.float()
    options = dict(method=Reweighted(2, "both"), optimizer=Adam(), checkpoint=lambda run: names.append(run.engine))
    train(machine, well_formed(8), TrainConfig(1, batch=9), generator=torch.Generator().manual_seed(0), **options)
    assert set(names) == {"torch" if double else "batched"}


@pytest.mark.parametrize("recognition", ["sleep", "wake", "both"])
def test_rules_take_their_turns_among_particles(recognition, seed):
    method = Reweighted(3, recognition)
    machines = [trained(method=method, rule=FactorialMIM(), seed=seed, every=every) for every in (2, 10**6)]
    assert not same_weights(*machines, atol=1e-3)


class Seen:
    """A pupil that keeps what it is taught."""

    def __init__(self):
        self.lessons = []

    def teach_(self, z, weights=None):
        self.lessons.append(([layer.clone() for layer in z], weights))


def test_particles_of_allocated_data_weigh_the_same(random_machine, generator):
    """No q has drawn them, so that there is nothing to weigh them against."""
    machine, x, turn = random_machine((5, 4, 2), scale=2.0), states(5)[3::4], torch.arange(8) % 2 == 0
    day, night = Phase(up(machine), Flip(0.5), Seen(), generator), Phase(down(machine), sample, Seen(), generator)
    Reweighted(3).step_(day, night, x, turn, 4)
    (((z, weights),), ((dreams, plain),)) = night.pupil.lessons, day.pupil.lessons
    weights, expected = weights.unflatten(-1, (8, 3)), importance(log_importance(machine, z), 3).unflatten(-1, (8, 3))
    assert_close(weights[turn], torch.full((4, 3), 1 / 24))
    assert_close(weights[~turn], expected[~turn])
    assert not torch.allclose(expected[turn], weights[turn], atol=1e-3)
    assert torch.equal(z[0], x.repeat_interleave(3, 0)) and dreams[0].shape == (4, 5) and plain is None


@pytest.mark.parametrize("recognition", ["sleep", "wake", "both"])
def test_each_network_learns_from_what_it_is_told_to(recognition, random_machine, generator):
    """The method as it is written in the paper, on one batch, against the method by its phases."""
    taught, x = random_machine((5, 4, 2), bias=True, replicas=(2,)), states(5)[3::4]
    expected, asked = random_machine((5, 4, 2), bias=True, replicas=(2,)), []

    def uniforms(shape):
        asked.append(torch.rand(shape, generator=generator))
        return asked[-1]

    method = Reweighted(3, recognition)
    day, night = (Phase(chain(taught), sample, LocalOptimizer(chain(taught), SGD(), 0.3), uniforms) for chain in (up, down))
    method.step_(day, night, x.expand(2, -1, -1), torch.zeros(2, len(x), dtype=torch.bool), 6)

    again = iter(asked)
    z = draw(up(expected), x.expand(2, -1, -1).repeat_interleave(3, -2), sample, lambda shape: next(again))
    weights = importance(log_prob(down(expected), z) - log_prob(up(expected), z), 3)
    teach_(down(expected), z, 0.3, weights)
    if recognition != "sleep":
        teach_(up(expected), z, 0.3, weights)
    if recognition != "wake":
        teach_(up(expected), draw(down(expected), 6, sample, lambda shape: next(again)), 0.3)
    assert same_weights(taught, expected) and not list(again)
    assert not same_weights(taught, random_machine((5, 4, 2), bias=True, replicas=(2,)))


@pytest.mark.parametrize("particles", [0, -1, 2.5, True, "3", None])
def test_particles_are_counted(particles):
    with pytest.raises(ValueError, match="particles is a whole number of at least 1"):
        Reweighted(particles)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(particles=2, recognition="dream"), "'sleep', 'wake' or 'both', not 'dream'"),
        (dict(particles=2, recognition=None), "'sleep', 'wake' or 'both', not None"),
        (dict(particles=1, recognition="wake"), "give particles=2 or more"),
        (dict(particles=1, recognition="both"), "give particles=2 or more"),
    ],
)
def test_settings_without_effect_are_refused(options, sentence):
    with pytest.raises(ValueError, match=sentence):
        Reweighted(**options)


def test_dreams_that_nobody_learns_from_are_refused():
    with pytest.raises(ValueError, match="learns from no dreams: leave dreams out of the protocol"):
        trained(method=Reweighted(2, "wake"), dreams=5)
    assert not same_weights(trained(method=Reweighted(2, "wake")), trained(method=Reweighted(2)), atol=1e-3)


def test_particles_of_any_integer_type_are_the_same_method():
    assert Reweighted(torch.tensor(3)) == Reweighted(3) and type(Reweighted(torch.tensor(3)).particles) is int


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
