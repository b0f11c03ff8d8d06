"""Rules, methods, layers and engines from outside: each is one file, and nothing else is touched."""

import itertools
import math
import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import torch
from conftest import same_weights
from torch import Tensor, nn

from helmholtz_mim import (
    Adam,
    Checkpoint,
    HelmholtzMachine,
    NotApplicable,
    Phases,
    TrainConfig,
    WakeSleep,
    down,
    draw,
    dream,
    exact_log_likelihood,
    exact_report,
    importance,
    load,
    log_likelihood,
    log_prob,
    sample,
    sampled_report,
    scheme,
    states,
    teach_,
    train,
    up,
    well_formed,
)
from helmholtz_mim.engines.reference import Engine
from helmholtz_mim.experiments.comparison import Run, draw_dynamics, dynamics, execute, find_scheme, label
from helmholtz_mim.layers import log_bernoulli
from helmholtz_mim.rule import in_turn
from helmholtz_mim.sweeps import shared

ROOT = Path(__file__).parent.parent


def trained(machine, engine="torch", config=None, seed=3, **options):
    """The machine after some epochs on the rhythms of eight beats, and the history of its losses."""
    config = config or TrainConfig(4, every=2, report_every=4)
    history = train(
        machine, well_formed(8), config, engine=engine, generator=torch.Generator().manual_seed(seed), **options
    )
    return machine, history


def surprise(history):
    """The loss of both phases before training, and after it."""
    total = history.groupby("step").value.sum()
    return total.iloc[0], total.iloc[-1]


# A rule


RULE = """
import math

import numpy as np

from helmholtz_mim import Kernel, Rule


class Sharpened(Rule):
    "A coin that fires with probability sigma(k logit p)."

    label, color = "sharpened coin", "#123456"

    def __init__(self, sharpness=2.0):
        self.sharpness = sharpness

    def __call__(self, layer, p, u):
        return (u < (self.sharpness * p.logit()).sigmoid()).to(p)

    def kernel(self, chain):
        sizes, replicas = chain.machine.sizes, int(np.prod(chain.machine.replicas))
        memory = np.full((replicas, len(sizes)), self.sharpness)
        return Kernel(allocate, None, memory, np.arange(len(sizes) + 1), width=lambda units: 1)


def allocate(layer, p, u, memory, y):
    for j in range(p.size):
        s = memory[0] * (math.log(p[j]) - math.log(1.0 - p[j]))
        y[j] = 1.0 if u[j] < 1.0 / (1.0 + math.exp(-s)) else 0.0
"""
SHARPENED = "sharpened:Sharpened"


@pytest.fixture
def sharpened(tmp_path, monkeypatch):
    """The folder of the one file that is the rule, from where it is imported, here and in other processes."""
    (folder := tmp_path / "mine").mkdir()
    (folder / "sharpened.py").write_text(RULE)
    monkeypatch.syspath_prepend(folder)
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(folder), str(ROOT)]))
    yield folder
    sys.modules.pop("sharpened", None)


@pytest.mark.parametrize("batch, replicas", [(1, ()), (1, (2,)), (7, ()), (7, (2,))])
@pytest.mark.parametrize("phase", ["awake", "asleep"])
def test_a_rule_decides_alike_in_every_engine(phase, batch, replicas, sharpened, random_machine, seed):
    config = TrainConfig(30, batch, every=2, report_every=30)

    def machine(engine, rule):
        allocate = Phases(**{phase: rule})
        return trained(random_machine((8, 5, 3), replicas=replicas), engine, config, seed, allocate=allocate)[0]

    slow, fast = (machine(engine, scheme(SHARPENED, sharpness=3.0)) for engine in ("torch", "compiled"))
    assert same_weights(slow, fast, atol=1e-9)
    assert not same_weights(fast, machine("compiled", scheme(SHARPENED, sharpness=1.5)), atol=1e-3)
    assert same_weights(machine("compiled", scheme(SHARPENED, sharpness=1.0)), machine("torch", sample), atol=1e-9)


def test_a_rule_trains_in_large_batches(sharpened, seed):
    config = TrainConfig(200, 72, every=2, lr=0.3, report_every=200)
    runs = [
        trained(HelmholtzMachine((8, 5, 3)).float(), "batched", config, seed, allocate=rule)
        for rule in (scheme(SHARPENED), sample)
    ]
    before, after = surprise(runs[0][1])
    assert after < before - 1
    assert not same_weights(*(machine for machine, _ in runs), atol=1e-3)


def test_a_rule_has_a_name_and_a_colour(sharpened):
    assert (label(SHARPENED), find_scheme(SHARPENED).color) == ("sharpened coin", "#123456")
    assert scheme(SHARPENED, sharpness=3).sharpness == 3
    with pytest.raises(ValueError, match="has no option called rate: give one of sharpness"):
        scheme(SHARPENED, rate=1)


def test_a_rule_is_compared(sharpened):
    runs = [execute(Run(scheme=name, epochs=2, seeds=2, every=2)) for name in (SHARPENED, "wake-sleep")]
    (machine, table), (_, plain) = runs
    assert machine.replicas == (2,) and len(table) == 2 and set(table.columns) == set(plain.columns)
    assert table["KL.recognition.0"].ne(plain["KL.recognition.0"]).all()


def test_a_rule_is_drawn_among_the_others(sharpened, tmp_path):
    schemes = ("wake-sleep", SHARPENED)
    with shared(jobs=2):
        table = dynamics(tmp_path, seeds=2, pretrain=1, epochs=2, reports=2, schemes=schemes)
    legend = draw_dynamics(table).legends[0]
    shown = {
        text.get_text(): line.get_color() for text, line in zip(legend.get_texts(), legend.get_lines(), strict=True)
    }
    assert shown["sharpened coin"] == "#123456" and len(shown) == 3


def command(*words):
    """What the command line says to those words."""
    return subprocess.run(
        [sys.executable, "-m", "helmholtz_mim", *words], capture_output=True, text=True, timeout=120, check=False
    )


def test_a_rule_runs_from_the_command_line(sharpened, tmp_path):
    out = tmp_path / "run"
    done = command("train", "--scheme", SHARPENED, "--seeds", "2", "--epochs", "1", "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert load(out / "machine.safetensors").replicas == (2,) and SHARPENED in (out / "config.json").read_text()


# A method


class VIMCO(WakeSleep):
    """Ascends the bound of several particles in both networks (Mnih & Rezende 2016); there is no night."""

    particles, dreams = 5, False

    def numbers(self, sizes, data, dreams):
        return self.particles * data * sum(sizes[1:]), 0

    def step_(self, day, night, x, turn, dreams):
        x, whose = x.repeat_interleave(self.particles, -2), turn.repeat_interleave(self.particles, -1)
        z = day.draw(x, whose)
        log_w = night.log_prob(z) - day.log_prob(z)
        weights = importance(log_w, self.particles)
        night.teach_(z, weights)
        day.teach_(z, self.gain(log_w) - weights)

    def gain(self, log_w):
        """How much each particle adds to the bound, by how much that is without it, divided by the number of data."""
        each = log_w.unflatten(-1, (-1, self.particles))
        own = torch.eye(self.particles, dtype=torch.bool)
        others = each.unsqueeze(-2).expand(*each.shape, self.particles)
        mean = others.masked_fill(own, 0.0).sum(-1) / (
            self.particles - 1
        )  # in place of a particle: the geometric mean of the others
        without = others.masked_fill(own, 0.0) + mean.unsqueeze(-1) * own
        return ((each.logsumexp(-1, keepdim=True) - without.logsumexp(-1)) / each.shape[-2]).flatten(-2)


def bound(machine, x, particles):
    """The expected ln of the mean weight of so many particles, over all that could be drawn: differentiable."""
    z = [x.expand(4, -1), states(2)]
    log_q, log_p = log_prob(up(machine), z), log_prob(down(machine), z)
    every = torch.tensor(list(itertools.product(range(4), repeat=particles)))
    log_w = (log_p - log_q)[every].logsumexp(-1) - math.log(particles)
    return (log_q[every].sum(-1).exp() * log_w).sum()


def test_the_step_of_a_method_is_unbiased(random_machine, seed):
    one, x, samples = random_machine((2, 2), bias=True), torch.tensor([[1.0, 0.0]]), 20_000
    many = HelmholtzMachine((2, 2), bias=True, replicas=(samples,))
    many.load_state_dict(
        {name: value.expand(samples, *value.shape).clone() for name, value in one.state_dict().items()}
    )
    config = TrainConfig(1, lr=1.0)
    train(many, x, config, method=VIMCO(), engine="torch", report=silent, generator=torch.Generator().manual_seed(seed))
    weights = one.state_dict(keep_vars=True)
    for tensor in weights.values():
        tensor.requires_grad_()
    bound(one, x, VIMCO.particles).backward()
    for name, after in many.state_dict().items():
        if after.numel():
            step = after - weights[name].detach()
            error = step.std(0) / samples**0.5
            assert ((step.mean(0) - weights[name].grad).abs() <= 4 * error).all(), name
            assert (weights[name].grad.abs() > 10 * error).any(), f"too few samples to tell {name} from nothing"


def silent(machine, patterns):
    """A report of nothing."""
    return pd.DataFrame()


@pytest.mark.parametrize("engine", ["torch", "batched"])
def test_a_method_trains_in_every_engine_that_knows_phases(engine, seed):
    machine = HelmholtzMachine((8, 5), bias=True).float().randomise_(0.1, generator=torch.Generator().manual_seed(seed))
    config = TrainConfig(100, 8, lr=0.3, report_every=100)
    _, table = trained(machine, engine, config, seed, method=VIMCO(), report=exact_report)
    kl = table.value[(table.measure == "KL") & (table.layer == 0) & (table.direction == "recognition")]
    assert kl.iloc[-1] < kl.iloc[0] - 0.2


def test_a_method_is_refused_in_a_sentence():
    with pytest.raises(NotApplicable, match=r"knows plain wake-sleep, not .*VIMCO.*: use engine='torch'"):
        trained(HelmholtzMachine((8, 5)), "compiled", method=VIMCO())


# A layer


class Deep(nn.Module):
    """A deterministic hidden layer inside one link: logits V tanh(U x), taught by automatic differentiation."""

    def __init__(self, n_in, hidden, n_out, *, generator):
        super().__init__()
        self.register_buffer("first", torch.randn(hidden, n_in, generator=generator) / n_in**0.5)
        self.register_buffer("second", torch.randn(n_out, hidden, generator=generator) / hidden**0.5)

    def logits(self, x):
        return (x @ self.first.mT).tanh() @ self.second.mT

    def forward(self, x):
        return self.logits(x).sigmoid()

    def log_prob(self, y, x):
        return log_bernoulli(y, self.logits(x))

    def ascent(self, y, x, lr=1.0, weights=None):
        even = torch.full(y.shape[:-1], 1 / y.shape[-2]) if weights is None else weights
        tensors = [*self.buffers()]
        with torch.enable_grad():
            for tensor in tensors:
                tensor.requires_grad_()
            gradients = torch.autograd.grad((even * self.log_prob(y, x)).sum(), tensors)
        for tensor in tensors:
            tensor.requires_grad_(False)
        return [lr * gradient for gradient in gradients]

    def learn_(self, y, x, lr, weights=None):
        for tensor, step in zip(self.buffers(), self.ascent(y, x, lr, weights), strict=True):
            tensor += step


def with_a_deep_layer(seed=0):
    """A machine whose first recognition layer is deep."""
    machine = HelmholtzMachine((8, 5, 2))
    machine.recognition[0] = Deep(8, 6, 5, generator=torch.Generator().manual_seed(seed))
    return machine


def understood(machine, dreams=2000):
    """How well recognition explains the machine's own dreams, in nats."""
    return log_prob(up(machine), dream(machine, dreams, generator=torch.Generator().manual_seed(9))).mean()


@pytest.mark.parametrize("rule", [sample, "mim"])
def test_a_layer_learns_in_the_reference(rule, seed):
    rule = rule if rule is sample else scheme("mim", epsilon=0.05)
    machine, _ = trained(with_a_deep_layer(seed), "auto", TrainConfig(30, every=5), seed, allocate=rule)
    fresh = with_a_deep_layer(seed)
    fresh.generative.load_state_dict(machine.generative.state_dict())
    fresh.prior.load_state_dict(machine.prior.state_dict())
    assert understood(machine) > understood(fresh) + 0.5


def test_a_layer_is_checkpointed_bit_by_bit(tmp_path, seed):
    config, seen = TrainConfig(6, 9, every=2, report_every=2), []
    straight, history = trained(with_a_deep_layer(), "torch", config, seed)

    def stop(machine):
        seen.append(1)
        if len(seen) == 3:
            raise KeyboardInterrupt

    halted = with_a_deep_layer()
    path = tmp_path / "run.checkpoint"
    first = Checkpoint(path, 0)
    with pytest.raises(KeyboardInterrupt):
        trained(halted, "torch", config, seed, checkpoint=lambda run: (first(run), stop(run.setup.machine)))
    resumed, again = trained(with_a_deep_layer(), "torch", config, seed, checkpoint=Checkpoint(path, 0))
    assert same_weights(straight, resumed) and not same_weights(straight, halted)
    pd.testing.assert_frame_equal(history.reset_index(drop=True), again.reset_index(drop=True))


@pytest.mark.parametrize("engine", ["compiled", "batched"])
def test_a_layer_is_refused_by_who_would_misread_it(engine):
    machine = with_a_deep_layer().float()
    with pytest.raises(NotApplicable, match="not those of a Deep: use engine='torch'"):
        trained(machine, engine)
    assert surprise(trained(machine, "torch")[1])[1] > 0


def test_a_layer_learns_with_an_optimiser(seed):
    machine, _ = trained(with_a_deep_layer(), "torch", TrainConfig(20, 9), seed, optimizer=Adam(0.01))
    for after, before in zip(
        machine.recognition[0].buffers(), with_a_deep_layer().recognition[0].buffers(), strict=True
    ):
        assert (after - before).abs().mean() > 0.03


def test_a_layer_is_measured(seed, generator):
    machine, data = with_a_deep_layer(), well_formed(8)
    machine.generative[0] = Deep(5, 4, 8, generator=torch.Generator().manual_seed(1))
    estimate = log_likelihood(machine, data.bits, 20_000, generator=generator)
    assert (estimate - exact_log_likelihood(machine, data.bits)).abs().max() < 0.1
    key = ["layer", "direction", "measure"]
    exact = exact_report(machine, data).set_index(key).value
    sampled = sampled_report(machine, data, generator=generator).set_index(key).value
    for layer, way, measure in itertools.product((0, 1), ("recognition", "generative"), ("I", "H")):
        low, high = (sampled[layer, way, f"{measure} {end} bound"] for end in ("lower", "upper"))
        slack = 1e-9 + 2 * sum(sampled[layer, way, f"{measure} {end} bound ±"] for end in ("lower", "upper"))
        assert low - slack <= exact[layer, way, measure] <= high + slack
    joint = log_prob(down(machine), [*every_state(machine.sizes)]).exp()
    assert (joint.sum() - 1).abs() < 1e-9
    kl = (data.weights * (data.weights.log() - exact_log_likelihood(machine, data.bits))).sum()
    assert abs(exact[0, "recognition", "KL"] - kl.item()) < 1e-9


def every_state(sizes):
    """All joint states of a machine, layer by layer."""
    return states(sum(sizes)).split(sizes, -1)


def test_a_layer_says_what_kind_of_machine_it_makes(tmp_path):
    assert repr(with_a_deep_layer()) == "HelmholtzMachine(8-5-2, bias=False, Deep)"


# An engine


class Written(Engine):
    """Wake-sleep written out with chains; anything but plain steps is refused."""

    def __init__(self, setup):
        super().__init__(setup)
        if not setup.optimizer.plain or type(setup.method) is not WakeSleep:
            raise NotApplicable("this engine knows plain wake-sleep: use engine='torch'")

    def step(self, data: Tensor, turn: Tensor) -> None:
        s, m = self.setup, self.setup.machine
        day, night = (s.stream.block(n) for n in s.method.numbers(m.sizes, data.shape[-1], s.config.dreams))
        z = draw(up(m), s.patterns.bits[data], in_turn(s.rules.awake, turn), day)
        teach_(down(m), z, s.config.lr)
        s.rules.awake.observe(z)
        z = draw(down(m), s.config.dreams, in_turn(s.rules.asleep, turn[..., :1]), night)
        teach_(up(m), z, s.config.lr)
        s.rules.asleep.observe(z)


WRITTEN = f"{__name__}:Written"


@pytest.mark.parametrize("replicas", [(), (2,)])
@pytest.mark.parametrize("name", ["wake-sleep", "mim", "categorical"])
def test_an_engine_trains_as_the_reference_does(name, replicas, random_machine, seed):
    runs = [
        trained(random_machine((8, 5, 3), replicas=replicas), e, seed=seed, allocate=scheme(name))
        for e in ("torch", WRITTEN)
    ]
    assert same_weights(runs[0][0], runs[1][0])
    pd.testing.assert_frame_equal(runs[0][1], runs[1][1])


def test_an_engine_goes_on_from_its_checkpoint(tmp_path, seed):
    config, path = TrainConfig(4, report_every=2), tmp_path / "run.checkpoint"
    kept = Checkpoint(path, 0)

    def interrupt(run):
        kept(run)
        if run.trainer.done == 2:
            raise KeyboardInterrupt

    straight, _ = trained(HelmholtzMachine((8, 5)), WRITTEN, config, seed)
    with pytest.raises(KeyboardInterrupt):
        trained(HelmholtzMachine((8, 5)), WRITTEN, config, seed, checkpoint=interrupt)
    resumed, _ = trained(HelmholtzMachine((8, 5)), WRITTEN, config, seed, checkpoint=Checkpoint(path, 0))
    assert same_weights(straight, resumed)
    with pytest.raises(ValueError, match=f"engine .*{WRITTEN}.* there"):
        trained(HelmholtzMachine((8, 5)), "torch", config, seed, checkpoint=Checkpoint(path, 0))


def test_an_engine_that_is_not_there_is_met_with_a_sentence():
    for name in ("absent:Engine", f"{__name__}:Absent"):
        with pytest.raises(
            ValueError,
            match=f"there is no engine {name} .*: write module:Class, with the module's folder on PYTHONPATH",
        ):
            trained(HelmholtzMachine((8, 5)), name)
