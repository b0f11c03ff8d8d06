"""The compiled engine is the reference: same uniform numbers, same weights."""

import itertools
from contextlib import suppress

import pytest
import torch
from conftest import same_weights

from helmholtz_mim import (
    SGD,
    Adam,
    BinaryLayer,
    CategoricalMIM,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    Kernel,
    NotApplicable,
    Patterns,
    Phases,
    Reweighted,
    Stream,
    TrainConfig,
    WakeSleep,
    down,
    sample,
    states,
    train,
    up,
    well_formed,
)
from helmholtz_mim import chains, rule
from helmholtz_mim.checkpoint import Checkpoint
from helmholtz_mim.engines import compiled
from helmholtz_mim.engines.compiled import Compiled
from helmholtz_mim.engines.loop import OneByOne, SideBySide
from helmholtz_mim.engines.reference import Reference, Setup
from helmholtz_mim.layers import toss
from helmholtz_mim.rule import Remembering, phases
from helmholtz_mim.training import Interrupted, start

PROTOCOLS = {"online": (1, 1), "long nights": (1, 12), "long days": (7, 1), "mini-batch": (10, 10), "full batch": (99, 99)}
WORLDS = {  # neither has a whole number of batches of ten
    "even": well_formed(8),
    "weighted": Patterns(states(8)[3::7], weights=torch.arange(1, 38), epoch=55),
}


def trained(engine, world, batch, dreams, bias=False, scale=0.0, replicas=(), steps=1000, machine=None, seed=7, **options):
    """A machine after at least so many steps."""
    machine = machine or HelmholtzMachine((8, 5, 3), bias=bias, replicas=replicas).double()
    if scale:
        machine.randomise_(scale, generator=torch.Generator().manual_seed(seed + 1000))
    epochs = -(-steps // -(-world.epoch // batch))
    config = TrainConfig(epochs, batch, dreams, every=options.pop("every", 10), report_every=epochs)
    train(machine, world, config, engine=engine, generator=torch.Generator().manual_seed(seed), **options)
    return machine


def setup(machine, world, config, rules=sample, method=None, optimizer=None, seed=7):
    """Everything about a run, as `train` puts it together."""
    stream, rules = Stream(machine.replicas, generator=torch.Generator().manual_seed(seed)), phases(rules)
    rules.awake.bind(up(machine))
    rules.asleep.bind(down(machine))
    return Setup(machine, world, config, method or WakeSleep(), rules, optimizer or SGD(), stream, stream.fork())


def remembered(rule):
    """What a rule keeps, without the room that only the compiled form writes to."""
    return [value for layer in rule.memory.layers.values() for name, value in vars(layer).items() if name != "score"]


every_kind = itertools.product(PROTOCOLS, WORLDS, [False, True], [0.0, 0.7], [(2, 2)])
every_stack = itertools.product(PROTOCOLS, ["weighted"], [True], [0.7], [(), (3,)])


@pytest.mark.parametrize("protocol, world, bias, scale, replicas", [*every_kind, *every_stack])
def test_engines_agree(protocol, world, bias, scale, replicas, seed):
    slow, fast = (
        trained(engine, WORLDS[world], *PROTOCOLS[protocol], bias, scale, replicas, seed=seed) for engine in ("torch", "compiled")
    )
    assert same_weights(slow, fast, atol=1e-9)
    assert slow.recognition[0].weight.abs().max() > 0.01


def test_threads_make_no_difference():
    threads, results = torch.get_num_threads(), []
    try:
        for count in (1, 2, 5):
            torch.set_num_threads(count)
            results.append(trained("compiled", WORLDS["even"], 1, 1, replicas=(7,)))
    finally:
        torch.set_num_threads(threads)
    assert same_weights(results[0], results[1]) and same_weights(results[0], results[2])


def test_replicas_make_no_difference_to_each_other(seed):
    stack, fewer = (trained("compiled", WORLDS["even"], 1, 1, replicas=(n,), seed=seed) for n in (5, 3))
    assert all(same_weights(stack.replica(i), fewer.replica(i)) for i in range(3))


class Steps:
    """Both engines, a step at a time from the same state; counts the steps in which no decision was a near thing."""

    def __init__(self, monkeypatch, rules, protocol, dtype, form, seed):
        monkeypatch.setattr(compiled, "form_for", lambda sizes, replicas: form)
        for module in (chains, rule):
            monkeypatch.setattr(module, "toss", self.toss)
        self.engines, self.near, self.clear = {}, False, 0
        for engine in (Reference, Compiled):
            machine = HelmholtzMachine((8, 5, 3), bias=True, replicas=(3,)).to(dtype)
            machine.randomise_(0.7, generator=torch.Generator().manual_seed(seed + 1))
            one = setup(machine, Patterns(states(8)[3::7], epoch=protocol.batch), protocol, rules(), seed=seed)
            self.engines[engine] = engine(one), machine, one
            for of_phase, chain in ((one.rules.awake, up(machine)), (one.rules.asleep, down(machine))):
                of_phase.begin(chain, one.patterns, 0.1, one.turns)
        self.listen(self.engines[Reference][2].rules)

    def toss(self, p, u):
        """A coin toss that notes whether the probability almost equals the number."""
        self.near |= bool((abs(p.double() - u) < 1e-6).any())
        return toss(p, u)

    def listen(self, rules):
        """Let the rules of the reference note whether they would decide otherwise for a slightly different p."""
        for one in (rules.awake, rules.asleep):
            if isinstance(one, Remembering):
                kind = type(one)
                one.__class__ = type(kind.__name__, (kind,), {"__call__": self.decide(kind)})

    def decide(self, kind):
        """The rule's decision, after a look at what surrounds it."""

        def decision(one, layer, p, u):
            y, around = kind.__call__(one, layer, p, u), torch.linspace(-1e-6, 1e-6, p.shape[-1]).to(p)
            for shift in (1e-6, -1e-6, around, -around):
                self.near |= not torch.equal(y, kind.__call__(one, layer, (p + shift).clamp(0, 1), u))
            return y

        return decision

    def __call__(self, count, atol):
        """Take so many steps; wherever every decision was clear, the engines agree."""
        (slow, exact, one), (fast, machine, other) = self.engines.values()
        for step in range(count):
            self.near = False
            slow.run(step, 1), fast.run(step, 1)
            if not self.near:
                self.clear += 1
                assert same_weights(exact, machine, atol=atol), step
                assert (one.stream.position, one.turns.position) == (other.stream.position, other.turns.position)
            machine.load_state_dict(exact.state_dict())
            for of, to in ((one.rules.awake, other.rules.awake), (one.rules.asleep, other.rules.asleep)):
                if isinstance(to, Remembering):
                    pairs = zip(remembered(of), remembered(to), strict=True)
                    assert self.near or all(torch.allclose(*pair, rtol=0, atol=atol) for pair in pairs)
                    to.memory.values.copy_(of.memory.values)


@pytest.mark.parametrize("form", [SideBySide, OneByOne])
@pytest.mark.parametrize("batch, dreams", [(1, 1), (1, 4), (7, 3)])
@pytest.mark.parametrize("name", ["sample", "flip", "factorial", "tempered", "categorical", "drawn from a table"])
def test_a_machine_in_single_precision_is_trained_in_single(name, batch, dreams, form, monkeypatch, seed):
    """Each step within 1e-6 of the reference's, unless a number lies within 1e-6 of a probability."""
    if name in BATCHES and batch * dreams > 1:
        batch, dreams = BATCHES[name]
    config = TrainConfig(300, batch, dreams, every=3)
    steps = Steps(monkeypatch, lambda: Phases(RULES[name](), RULES[name]()), config, torch.float32, form, seed)
    steps(300, atol=1e-6)
    assert steps.clear > 270 and steps.engines[Compiled][1].prior.bias.dtype == torch.float32


def test_a_machine_in_double_precision_is_another(seed):
    small = HelmholtzMachine((8, 5, 3), bias=True, replicas=(2,)).float()
    trained("compiled", WORLDS["weighted"], 1, 1, machine=small, seed=seed)
    exact = trained("compiled", WORLDS["weighted"], 1, 1, bias=True, replicas=(2,), seed=seed)
    assert not same_weights(small, exact.float()) and small.prior.bias.dtype == torch.float32


def test_other_precisions_are_refused():
    with pytest.raises(NotApplicable, match=r"not in torch.bfloat16: use machine.float\(\), or engine='torch'"):
        trained("compiled", WORLDS["even"], 1, 1, machine=HelmholtzMachine((8, 5, 3)).bfloat16())


def test_auto_takes_the_compiled_engine_where_it_applies(seed):
    auto, fast, slow = (trained(e, WORLDS["even"], 1, 1, steps=2000, seed=seed) for e in ("auto", "compiled", "torch"))
    assert same_weights(auto, fast) and not same_weights(auto, slow)


def test_auto_takes_matrix_products_for_batches_on_wide_layers(seed, generator):
    bits = torch.rand(60, 800, generator=generator) < 0.15
    for batch, wins, loses in [(1, "compiled", "torch"), (60, "torch", "compiled"), (10**6, "torch", "compiled")]:
        runs = {}
        for engine in ("auto", wins, loses):
            machine = HelmholtzMachine((800, 100)).double()
            runs[engine] = trained(engine, Patterns(bits), batch, min(batch, 60), machine=machine, steps=3, seed=seed)
        assert same_weights(runs["auto"], runs[wins]) and not same_weights(runs["auto"], runs[loses])
        assert same_weights(runs[wins], runs[loses], atol=1e-9)


@pytest.mark.parametrize("batch, dreams, expected", [(1, 1, True), (10, 1, False), (1, 10, False), (3, 3, True)])
def test_the_engine_pays_for_single_patterns_and_small_batches(batch, dreams, expected):
    images, config = Patterns(torch.eye(784)[:20]), TrainConfig(1, batch, dreams)
    assert Compiled.is_faster(setup(HelmholtzMachine((784, 200, 200)), images, config)) is expected
    assert Compiled.is_faster(setup(HelmholtzMachine((784, 2000)), images, config)) is (batch == dreams == 1)
    assert Compiled.is_faster(setup(HelmholtzMachine((8, 5, 3)), WORLDS["even"], TrainConfig(1, 1000, 1000)))


# Days and nights of both engines, with every rule

RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.3),
    "factorial": FactorialMIM,
    "tempered": lambda: FactorialMIM(3.0, 1.0),
    "fixed step": lambda: FactorialMIM(epsilon=0.05),
    "categorical": CategoricalMIM,
    "half a table": lambda: CategoricalMIM(share=0.5),
    "drawn from a table": lambda: CategoricalMIM(sharpness=10.0),
}
WAYS = {
    "awake": lambda make: Phases(make()),
    "asleep": lambda make: Phases(asleep=make()),
    "both": lambda make: Phases(make(), make()),
}
BATCHES = {"categorical": (1, 1), "half a table": (1, 1), "drawn from a table": (1, 1)}


@pytest.mark.parametrize("replicas", [(), (2, 2)])
@pytest.mark.parametrize("turns", [dict(every=3), dict(fraction=0.5, anneal=0.9)], ids=["every", "fraction"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("name", RULES)
def test_engines_leave_the_same_behind(name, way, turns, replicas, seed):
    """Weights, memories, and how many numbers both streams used."""
    world, (batch, dreams), left = WORLDS["weighted"], BATCHES.get(name, (7, 4)), {}
    for engine in (Reference, Compiled):
        machine = HelmholtzMachine((8, 5, 3), bias=True, replicas=replicas).double()
        machine.randomise_(0.7, generator=torch.Generator().manual_seed(seed + 1))
        s = setup(machine, world, TrainConfig(4, batch, dreams, **turns), WAYS[way](RULES[name]), seed=seed)
        going = engine(s)
        for epoch in range(4):
            for one, chain in ((s.rules.awake, up(machine)), (s.rules.asleep, down(machine))):
                one.begin(chain, world, 0.1, s.turns)
            assert going.run(epoch, 1) == 1
        memories = [torch.cat(remembered(r), -1) for r in (s.rules.awake, s.rules.asleep) if isinstance(r, Remembering)]
        left[engine] = machine, memories, (s.stream.position, s.turns.position)
    (slow, kept, places), (fast, as_kept, as_many) = left.values()
    assert same_weights(slow, fast, atol=1e-9) and places == as_many
    assert len(kept) == len(as_kept) == (0 if name in ("sample", "flip") else 2 if way == "both" else 1)
    for one, other in zip(kept, as_kept, strict=True):
        assert one.any() and torch.allclose(one, other, rtol=0, atol=1e-9)


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_engines_let_the_rate_fall_alike(schedule, seed):
    ways = {}
    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine((8, 5, 3), bias=True, replicas=(3,)).double()
        train(
            machine, WORLDS["even"], TrainConfig(6, 2, 3, every=2), allocate=FactorialMIM(epsilon=0.1), engine=engine,
            optimizer=SGD(0.3, schedule), generator=torch.Generator().manual_seed(seed),
        )
        ways[engine] = machine
    constant = HelmholtzMachine((8, 5, 3), bias=True, replicas=(3,)).double()
    train(constant, WORLDS["even"], TrainConfig(6, 2, 3, lr=0.3, every=2), allocate=FactorialMIM(epsilon=0.1),
          engine="compiled", generator=torch.Generator().manual_seed(seed))
    assert same_weights(*ways.values(), atol=1e-9) and not same_weights(ways["compiled"], constant, atol=1e-3)


@pytest.mark.parametrize("block", [40, compiled.BLOCK])
def test_a_falling_rate_falls_on_after_an_interruption(block, tmp_path, monkeypatch, seed):
    monkeypatch.setattr(compiled, "BLOCK", block)
    stored, weights = Checkpoint(tmp_path / "half.safetensors"), []

    def interrupt(run):
        stored(run)
        if run.trainer.done == 2 and not run.interrupted:
            raise KeyboardInterrupt

    for checkpoints in ([None], [interrupt, stored]):
        for checkpoint in checkpoints:
            machine = HelmholtzMachine((8, 5, 3), replicas=(3,))
            with suppress(Interrupted):
                train(
                    machine, WORLDS["even"], TrainConfig(6, fraction=0.5, anneal=0.7, report_every=6), allocate=FactorialMIM(),
                    engine="compiled", optimizer=SGD(0.3, "linear"), checkpoint=checkpoint,
                    generator=torch.Generator().manual_seed(seed),
                )
        weights.append(machine)
    assert same_weights(*weights, atol=0)


# Rules


def all_on(layer, p, u):
    return torch.ones_like(p)


def test_a_plain_function_runs_on_the_reference():
    auto, slow = (trained(e, WORLDS["even"], 1, 1, steps=100, allocate=all_on, every=1) for e in ("auto", "torch"))
    plain = trained("auto", WORLDS["even"], 1, 1, steps=100)
    assert same_weights(auto, slow) and not same_weights(auto, plain)


def test_a_plain_function_is_refused_by_the_engine():
    with pytest.raises(NotApplicable, match="since all_on is a plain function without a compiled form: use engine='torch'"):
        trained("compiled", WORLDS["even"], 1, 1, allocate=all_on)


@pytest.mark.parametrize(
    "options, sentence",
    [
        (dict(method=Reweighted(3)), "knows plain wake-sleep, not Reweighted"),
        (dict(optimizer=Adam()), "takes plain steps, not those of Adam"),
        (dict(optimizer=SGD(momentum=0.9)), "takes plain steps, not those of SGD"),
        (dict(allocate=CategoricalMIM(), batch=2), "CategoricalMIM decides for one pattern at a time, not for 2"),
        (dict(allocate=Phases(asleep=CategoricalMIM()), dreams=3), "CategoricalMIM decides for one pattern at a time, not for 3"),
        (dict(allocate=FactorialMIM(threshold=torch.mean)), "since its threshold needs the whole batch"),
    ],
)
def test_what_the_loop_does_not_know_is_refused(options, sentence):
    with pytest.raises(NotApplicable, match=f"{sentence}.*: use engine='torch'") as refusal:
        trained("compiled", WORLDS["even"], options.pop("batch", 1), options.pop("dreams", 1), steps=1, **options)
    assert "\n" not in str(refusal.value)


def test_other_devices_are_refused_by_the_engine():
    with pytest.raises(NotApplicable, match="on the CPU: use engine='torch'"):
        trained("compiled", WORLDS["even"], 1, 1, machine=HelmholtzMachine((8, 5, 3)).to("meta"))


class Doubled(BinaryLayer):
    """A layer that computes something else from weights of the same shape."""

    def logits(self, x):
        return 2 * super().logits(x)


def with_another(part, layer):
    """A machine in single precision whose first layer of that part is exchanged."""
    machine = HelmholtzMachine((8, 5, 3))
    if part == "prior":
        machine.prior = layer
    else:
        getattr(machine, part)[0] = layer
    return machine.float()


OTHERS = {
    "recognition": Doubled(8, 5),
    "generative": torch.nn.Linear(5, 8, bias=False).requires_grad_(False),
    "prior": Doubled(0, 3, bias=True),
}


@pytest.mark.parametrize("engine", ["compiled", "batched"])
@pytest.mark.parametrize("part", OTHERS)
def test_layers_of_another_kind_are_left_to_the_reference(part, engine):
    machine = with_another(part, OTHERS[part])
    with pytest.raises(NotApplicable, match="engine='torch'") as refusal:
        start(engine, setup(machine, WORLDS["even"], TrainConfig(1)))
    assert type(OTHERS[part]).__name__ in str(refusal.value) and "\n" not in str(refusal.value)


@pytest.mark.parametrize("engine", ["compiled", "batched"])
def test_layers_of_other_sizes_are_refused(engine):
    with pytest.raises(NotApplicable, match="own sizes, not of others"):
        trained(engine, WORLDS["even"], 1, 1, machine=with_another("recognition", BinaryLayer(8, 4)), steps=10)


def test_another_kind_of_layer_is_trained_by_its_own_methods():
    double, plain = with_another("recognition", Doubled(8, 5)), HelmholtzMachine((8, 5, 3)).float()
    for machine in (double, plain):
        trained("auto", WORLDS["even"], 1, 1, machine=machine, scale=0.0, steps=200)
    assert not same_weights(double, plain)


def allocate_rarest(layer, p, u, memory, y):
    for j in range(p.size):
        y[j] = 1.0 if 2 * memory[j] < memory[p.size] else 0.0


def update_rarest(layer, y, rows, left, memory):
    for j in range(y.size):
        memory[j] += y[j]
    memory[y.size] += 1


class Rarest(Remembering):
    """Turn on the units that were on less than half of the time: a rule with a memory and a compiled form."""

    deterministic = True

    def fields(self, units):
        return {"on": units, "seen": 1}

    def __call__(self, layer, p, u):
        m = self.recall(layer)
        return (2 * m.on < m.seen).to(p).unsqueeze(-2).expand(p.shape)

    def observe(self, z):
        for layer, m in self.memory.layers.items():
            m.on += z[layer].sum(-2)
            m.seen += z[layer].shape[-2]

    def kernel(self, chain):
        memory = self.memory.values.numpy(), self.memory.starts
        return Kernel(allocate_rarest, update_rarest, *memory, width=lambda units: units + 1)


@pytest.mark.parametrize("way", WAYS)
def test_a_rule_may_bring_its_own_compiled_form(way, seed):
    runs = {}
    for engine in ("torch", "compiled"):
        rules = WAYS[way](Rarest)
        machine = trained(engine, WORLDS["even"], 1, 1, replicas=(3,), allocate=rules, every=4, seed=seed)
        runs[engine] = machine, [r.memory.values for r in (rules.awake, rules.asleep) if r is not sample]
    (slow, kept), (fast, as_kept) = runs.values()
    assert same_weights(slow, fast, atol=1e-9)
    assert all(torch.equal(one, other) and one.any() for one, other in zip(kept, as_kept, strict=True))
    assert not same_weights(fast, trained("compiled", WORLDS["even"], 1, 1, replicas=(3,), seed=seed))
