"""Whatever it is given, the package answers rightly or in one sentence of its own: no wrong answer, no hang, no other traceback.

A few cases of each kind run with the other tests; `make fuzz` runs 10⁵ of them.
"""

import ast
import itertools
import json
import math
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import assume
from hypothesis import strategies as st
from odd_inputs import (
    ANYTHING,
    REFUSED,
    attempt,
    cases,
    content,
    counts,
    data_for,
    efforts,
    finite,
    layers,
    log_prob,
    machines,
    one_by_one,
    plain,
    rarely,
    same,
    seeded,
    seeds,
    shares,
    tables,
    words,
)
from test_package import exercised

import helmholtz_mim as hm
from helmholtz_mim import (
    BinaryLayer,
    CategoricalMIM,
    FactorialMIM,
    Flip,
    HelmholtzMachine,
    Patterns,
    Phases,
    Rule,
    TrainConfig,
    sample,
    states,
    train,
)
from helmholtz_mim.rule import allocate_by_coin
from helmholtz_mim.rules.factorial import self_consistent

pytestmark = pytest.mark.usefixtures("single_precision")


# Layers


@cases(n=rarely(st.integers(0, 10)))
def test_states(n):
    table = attempt(states, n)
    if table is not REFUSED:
        assert np.array_equal(table, words(int(n)))


@cases(bits=tables(anything=True))
def test_encode(bits):
    numbers = attempt(hm.encode, bits)
    if numbers is not REFUSED and plain(bits) is not None:
        assert numbers.tolist() == [int("".join(str(int(b)) for b in row), 2) for row in plain(bits)]


@cases(n_in=rarely(st.integers(0, 5)), n_out=counts, bias=rarely(st.booleans()), replicas=rarely(st.sampled_from([(), (2,), 3])))
def test_layers(n_in, n_out, bias, replicas):
    layer = attempt(BinaryLayer, n_in, n_out, bias=bias, replicas=replicas)
    if layer is not REFUSED:
        assert layer.weight.shape[-2:] == (n_out, n_in) and layer(torch.ones(3, int(n_in))).eq(0.5).all()


@cases(layer=layers(), rows=st.integers(1, 5), lr=rarely(st.floats(0, 3)), data=st.data())
def test_steps(layer, rows, lr, data):
    """ln p and one step of the delta rule, or nothing is changed."""
    before, (m, n) = content(layer), layer.weight.shape[-2:]
    stack = before[0].reshape(-1 if n else math.prod(layer.weight.shape[:-2]), m, n).double().numpy()
    x = data.draw(rarely(tables(n, rows) if n else st.just(torch.zeros(rows, 0)), tables()))
    y = data.draw(rarely(tables(m, rows), tables()))
    x, y = (v.to(layer.weight) if data.draw(st.integers(0, 9)) and not v.is_complex() else v for v in (x, y))
    p, said = attempt(layer, x), attempt(layer.log_prob, y, x)
    done = attempt(layer.learn_, y, x, lr)
    if REFUSED in (p, said, done) or not x.ndim == y.ndim == 2:
        assert done is not REFUSED or same(before, content(layer))
        return
    bias = np.zeros((len(stack), m)) if layer.bias is None else before[1].reshape(-1, m).double().numpy()
    s = x.double().numpy() @ stack.swapaxes(-1, -2) + bias[:, None] if stack.size else np.tile(bias[:, None], (1, len(x), 1))
    close = dict(rtol=1e-3, atol=1e-3 * (1 + abs(s).max()))
    expected = -np.logaddexp(0, (1 - 2 * y.double().numpy()) * s).sum(-1)
    assert np.allclose(said.reshape(expected.shape), expected, **close) or not x.isfinite().all() or not y.isfinite().all()
    step = (before[0] + float(lr) / len(x) * (y - p).mT @ x).to(layer.weight)
    assert torch.allclose(layer.weight, step, rtol=1e-4, atol=1e-4, equal_nan=True)


@cases(p=tables(), generator=rarely(st.just(seeded())))
def test_bernoulli(p, generator):
    assume(generator is not sample)  # any function may stand for chance
    u = torch.rand(p.shape, generator=seeded())
    for y in (attempt(hm.bernoulli, p, generator=generator), sample(1, p, u) if p.is_floating_point() else REFUSED):
        if y is not REFUSED:
            assert y.shape == p.shape and torch.isin(y, torch.tensor([0, 1], dtype=y.dtype)).all()
            assert not (y[p == 0] == 1).any() and not (y[p == 1] == 0).any()


@cases(
    replicas=rarely(st.sampled_from([(), (2,), (2, 3), 2])),
    shapes=st.lists(rarely(st.sampled_from([(2, 3), (2, 3, 4), (5,)]), st.just(()))),
)  # fmt: skip
def test_streams(replicas, shapes):
    stream = attempt(hm.Stream, replicas, generator=seeded())
    position, size = 0, 2**64
    for shape in shapes if stream is not REFUSED else ():
        found, axes = attempt(stream, shape), stream.keys.ndim
        if found is not REFUSED:
            assert shape[:axes] == stream.keys.shape
            count = math.prod(shape[axes:])
            for key, numbers in zip(stream.keys.flat, found.reshape(stream.keys.size, -1).tolist()):
                for i, u in enumerate(numbers, position + 1):
                    x = (int(key) + i * 0x9E3779B97F4A7C15) % size
                    x = (x ^ x >> 30) * 0xBF58476D1CE4E5B9 % size
                    x = (x ^ x >> 27) * 0x94D049BB133111EB % size
                    assert u == ((x ^ x >> 31) >> 11) * 2.0**-53
            position += count


# Machines


@cases(sizes=rarely(st.lists(counts, max_size=4)), bias=rarely(st.booleans()), replicas=rarely(st.sampled_from([(), (2,), (2, 3), 4])))
def test_machines(sizes, bias, replicas):
    machine = attempt(HelmholtzMachine, sizes, bias=bias, replicas=replicas)
    if machine is not REFUSED:
        assert machine.sizes == tuple(sizes) and len(machine.recognition) == len(sizes) - 1
        assert not any(t.any() for t in machine.state_dict().values())


@cases(machine=machines(), index=rarely(st.integers(-2, 5)), scale=rarely(st.floats(0, 10)))
def test_replicas(machine, index, scale):
    one = attempt(machine.replica, index)
    if one is not REFUSED:
        stack = machine.prior.bias.reshape(-1, machine.sizes[-1])
        assert one.replicas == () and torch.equal(one.prior.bias, stack[int(index)])
    before = content(machine)
    if attempt(machine.randomise_, scale, generator=seeded()) is REFUSED:
        assert same(before, content(machine)) or not all(t.isfinite().all() for t in before)
    else:
        assert all(layer.weight.abs().max() <= 10 * float(scale) for layer in (*machine.recognition, *machine.generative))


# Data


@cases(bits=tables(anything=True), weights=rarely(st.none() | st.lists(st.floats(0, 5), max_size=6)), epoch=rarely(st.none()), many=4000)
def test_patterns(bits, weights, epoch):
    patterns = attempt(Patterns, bits, weights, epoch)
    if patterns is not REFUSED:
        assert plain(bits) is not None, "only zeros and ones are patterns"
        assert np.array_equal(patterns.bits.numpy(), plain(bits)) and len(patterns) == len(plain(bits)) == len(patterns.weights)
        shares, total = Counter(), sum(weights or [1] * len(patterns))
        for row, weight in zip(plain(bits), weights or [1] * len(patterns)):
            shares[tuple(row)] += weight / total
        assert abs(patterns.entropy + sum(p * math.log(p) for p in shares.values() if p)) < 1e-6 and abs(patterns.weights.sum() - 1) < 1e-9
        assert patterns.epoch == (len(patterns) if epoch is None else epoch)


def good(word):
    return not re.search("0000|00100|^100|001$", word)


WORLDS = {
    "well_formed": [rarely(st.integers(3, 12))],
    "heartbeat": [rarely(st.integers(1, 12)), rarely(st.integers(1, 12)), counts],
    "shifts": [rarely(st.integers(1, 6)), shares, counts],
    "bars": [rarely(st.integers(1, 4)), shares, shares, counts],
    "dataset": [rarely(st.sampled_from(list(hm.DATASETS)))],
    "folk_rhythms": [rarely(st.sampled_from(["4/4", "6/8", "2 x 3/4"])), rarely(st.sampled_from(["train", "test"]))],
}
EXPECTED = {
    "well_formed": lambda bits, n: len(bits) == sum(good("1" + "".join(w)) for w in itertools.product("01", repeat=int(n) - 1)),
    "heartbeat": lambda bits, n, period, _: bits.tolist() == [[float(t % period == phase) for t in range(n)] for phase in range(period)],
    "dataset": lambda bits, name: len(bits) == len(hm.DATASETS[name]()),
    "folk_rhythms": lambda bits, meter, _: bits.shape[1] == (16 if meter == "4/4" else 12),
}


@pytest.mark.parametrize("name", WORLDS)
@cases(data=st.data(), many=1200)
def test_worlds(name, data):
    options = [data.draw(argument) for argument in WORLDS[name]]
    patterns = attempt(getattr(hm, name), *options)
    if patterns is not REFUSED:
        assert len(patterns.bits.unique(dim=0)) == len(patterns)
        assert name not in EXPECTED or EXPECTED[name](patterns.bits, *options)
        if name in ("shifts", "bars"):  # however often two words are the same, a bit is on at that rate
            assert torch.allclose(patterns.means, torch.tensor(float(options[1])), atol=1e-5) and patterns.units == (
                2 * options[0] if name == "shifts" else options[0] ** 2
            )


@cases(grey=tables(anything=True), generator=rarely(st.just(seeded())))
def test_binarise(grey, generator):
    assume(generator is not sample)
    patterns = attempt(hm.binarise, grey, generator=generator)
    if patterns is not REFUSED:
        values = np.asarray(grey, float)
        assert ((0 <= values) & (values <= 1)).all() and np.array_equal(patterns.bits.numpy()[values == 1], values[values == 1])


@cases(threshold=shares, chosen=rarely(st.none() | st.lists(st.integers(-1, 10), max_size=3)), few=3, many=500)
def test_digits(threshold, chosen):
    grey, found = attempt(hm.grey_digits, digits=chosen), attempt(hm.digits, threshold=threshold, digits=chosen)
    if found is not REFUSED:
        levels, labels = grey
        assert torch.equal(found.bits, (levels > threshold).float()) and levels.min() >= 0 and levels.max() <= 1
        assert chosen is None or set(labels.tolist()) == set(np.atleast_1d(chosen).tolist())


# The two phases, and training

RULES = {
    "sample": lambda: sample,
    "flip": lambda: Flip(0.3),
    "mim": FactorialMIM,
    "mim, soft": lambda: FactorialMIM(1.0, 2.0),
    "mim, batch": lambda: FactorialMIM(threshold=self_consistent),
    "categorical": CategoricalMIM,
    "categorical, soft": lambda: CategoricalMIM(sharpness=10.0),
    "asleep": lambda: Phases(asleep=FactorialMIM()),
    "both": lambda: Phases(FactorialMIM(), CategoricalMIM()),
    "one for both": lambda: Phases(*[FactorialMIM()] * 2),
    "a function": lambda: lambda layer, p, u: p.round(),
}


@cases(
    machine=machines(), count=rarely(st.integers(1, 5)), rule=rarely(st.just(sample)), generator=rarely(st.just(seeded())), data=st.data(),
)  # fmt: skip
def test_phases(machine, count, rule, generator, data):
    assume(generator is not sample)
    shape = (*machine.replicas, None)
    awake = attempt(hm.wake, machine, data.draw(data_for(machine, anything=True)), rule, generator=generator)
    asleep = attempt(hm.dream, machine, count, rule, generator=generator)
    for z in (awake, asleep):
        if z is not REFUSED:
            assert finite(machine) and all(((y == 0) | (y == 1)).all() for y in z)
            assert [y.shape for y in z] == [(*shape[:-1], z[0].shape[-2], n) for n in machine.sizes]


@cases(
    machine=machines(finite=True), upward=st.booleans(), count=rarely(st.integers(0, 4), st.sampled_from(ANYTHING)), given=st.booleans(),
    rule=st.sampled_from([sample, Flip(0.3)]), generator=rarely(st.just(seeded())), data=st.data(),
)  # fmt: skip
def test_chains(machine, upward, count, given, rule, generator, data):
    """One pattern of each layer along either chain, from its first pattern or from the prior."""
    assume(generator is not sample)
    chain, first = (hm.up(machine), 0) if upward else (hm.down(machine), -1)
    start = data.draw(rarely(tables(machine.sizes[first]), tables())) if given else count
    start = start.to(machine.prior.weight) if given and data.draw(st.integers(0, 9)) and not start.is_complex() else start
    z = attempt(hm.draw, chain, start, rule, generator)
    if z is REFUSED:
        return
    assert given or (not upward and type(count) is not bool)
    drawn = [link.to for link in chain.links if not given or link.of is not None]
    assert sorted([*drawn, *([first % len(z)] if given else [])]) == [*range(len(machine.sizes))]
    if not given or start.ndim == 2:
        rows = len(start) if given else count
        assert [z[l].shape for l in drawn] == [(*machine.replicas, rows, machine.sizes[l]) for l in drawn]
    assert all(((z[l] == 0) | (z[l] == 1)).all() for l in drawn)


@pytest.mark.parametrize("z", [None, 3, [], [torch.zeros(1, 3)], [torch.zeros(1, 3)] * 3])
@pytest.mark.parametrize("chain", [hm.up, hm.down])
@pytest.mark.parametrize("ask, more", [(hm.teach_, [0.1]), (hm.log_prob, [])])
def test_chains_ask_for_a_pattern_of_every_layer(z, chain, ask, more):
    with pytest.raises(ValueError, match="z is a list of patterns for the 2 layers, data first"):
        ask(chain(HelmholtzMachine((3, 3))), z, *more)


def test_dreams_are_counted_in_whole_numbers():
    machine = HelmholtzMachine((3, 3))
    with pytest.raises(ValueError, match="patterns to draw from the prior is a whole number of at least 0, not -1"):
        hm.draw(hm.down(machine), -1, sample, seeded())


@cases(machine=machines(finite=True), rows=st.integers(1, 4), lr=rarely(st.floats(0, 3)), broken=rarely(st.none()), particles=counts)
def test_learning(machine, rows, lr, broken, particles):
    """The importance of patterns, and one step towards them."""
    z = hm.wake(machine, states(machine.sizes[0])[-rows:], generator=seeded())
    w = attempt(hm.log_importance, machine, z[:-1] if broken is True else z)
    both = [attempt(hm.log_prob, chain, z if broken is None else broken) for chain in (hm.down(machine), hm.up(machine))]
    assert (REFUSED in both) == (broken is not None)
    if w is not REFUSED:
        for k, one in enumerate(one_by_one(machine)):
            y = [part.reshape(-1, *part.shape[-2:])[k].double().numpy() for part in z]
            p, q = log_prob(one.prior, y[-1], y[-1][:, :0]), 0.0
            for l, (above, below) in enumerate(zip(one.recognition, one.generative)):
                p, q = p + log_prob(below, y[l], y[l + 1]), q + log_prob(above, y[l + 1], y[l])
            for found, expected in ((w, p - q), *zip(both if broken is None else (), (p, q))):
                close = dict(rtol=1e-3, atol=1e-3 * (1 + abs(p).max() + abs(q).max()))
                assert np.allclose(found.reshape(-1, len(expected))[k], expected, **close)
    weights = attempt(hm.importance, w if w is not REFUSED else broken, particles)
    assert weights is REFUSED or torch.allclose(weights.sum(-1), torch.ones(()).to(weights), atol=1e-5)
    weights = weights if weights is not REFUSED else broken
    before = content(machine)
    steps = [(hm.learn_generative_, machine, machine.recognition), (hm.learn_recognition_, machine, machine.generative)]
    steps += [(hm.teach_, hm.down(machine), machine.recognition), (hm.teach_, hm.up(machine), machine.generative)]
    for step, pupil, other in steps:
        still = content(other)
        attempt(step, pupil, z if broken is None else broken, lr, weights)
        assert same(still, content(other)) and finite(machine)
    assert lr != 0 or same(before, content(machine))


@st.composite
def configs(draw):
    """Keyword arguments of a short training."""
    options = dict(epochs=draw(st.integers(1, 3)), batch=draw(counts), lr=draw(rarely(st.floats(0.01, 5))))
    further = dict(dreams=counts, every=counts, report_every=counts, fraction=shares, anneal=shares)
    return options | {name: draw(further[name]) for name in draw(st.lists(st.sampled_from(sorted(further)), max_size=3))}


@st.composite
def methods(draw):
    """What a step is, or REFUSED."""
    if draw(st.booleans()):
        return hm.WakeSleep()
    return attempt(hm.Reweighted, draw(efforts), draw(rarely(st.sampled_from(["sleep", "wake", "both"]))))


@st.composite
def optimizers(draw):
    """How gradients become steps, or REFUSED."""
    options = dict(lr=draw(rarely(st.none() | st.floats(0.01, 5))))
    options["schedule"] = draw(rarely(st.sampled_from(["constant", "linear", "cosine"])))
    kind, own = draw(st.sampled_from([(hm.SGD, "momentum"), (hm.SGD, "momentum"), (hm.Adam, "decay"), (hm.Optimizer, None)]))
    return attempt(kind, **options | ({own: draw(shares)} if own and draw(st.booleans()) else {}))


@cases(method=methods(), optimizer=optimizers(), lr=st.floats(0.01, 5), done=st.floats(0, 1))
def test_axes(method, optimizer, lr, done):
    """As many numbers as a step needs, and a rate that never rises."""
    if method is not REFUSED:
        day, night = method.numbers((4, 3, 2), 5, 7)
        assert (day, night) == (method.particles * 5 * 5, 7 * 9) and isinstance(method.dreams, bool)
    if optimizer is not REFUSED:
        config = TrainConfig(1, lr=lr)
        first = optimizer.rate(config)
        assert first == (lr if optimizer.lr is None else optimizer.lr) and first >= optimizer.rate(config, done) >= 0
        assert optimizer.schedule != "constant" or optimizer.rate(config, done) == first


@cases(options=configs(), epochs=counts, batch=st.integers(1, 9))
def test_configurations(options, epochs, batch):
    config = attempt(TrainConfig, **options | {"epochs": epochs})
    if config is not REFUSED:
        assert config.dreams == options.get("dreams", 0) or config.dreams == config.batch
        assert replace(config, lr=1.0).dreams == config.dreams
        assert options.get("dreams") or replace(config, batch=batch).dreams == batch


@cases(
    options=configs(), rule=rarely(st.sampled_from(list(RULES))), engine=rarely(st.sampled_from(["auto", *hm.ENGINES])), seed=seeds,
    method=rarely(methods()), optimizer=rarely(optimizers()), report=rarely(st.none()), data=st.data(), few=12, many=14_000,
)  # fmt: skip
def test_training(options, rule, engine, seed, method, optimizer, report, data):
    config = attempt(TrainConfig, **options)
    assume(REFUSED not in (config, method, optimizer) and report is not sample)
    machine = data.draw(machines())
    patterns = data.draw(data_for(machine, anything=True))
    known, rules = finite(machine), RULES[rule]() if isinstance(rule, str) and rule in RULES else rule
    axes = dict(allocate=rules, method=method, optimizer=optimizer, report=report, engine=engine)
    history = attempt(train, machine, patterns, config, **axes, generator=seeded(seed))
    if history is not REFUSED:
        assert known and finite(machine) and np.isfinite(history.value).all() and rule != "one for both"
        assert plain(patterns) is not None and engine in ("auto", *hm.ENGINES) and history.replica.nunique() == math.prod(machine.replicas)


@cases(
    rule=st.sampled_from([rule for rule in RULES if rule not in ("mim, batch", "a function")]), seed=seeds, lr=st.floats(0.01, 30),
    every=st.integers(1, 3), data=st.data(), many=6000,
)  # fmt: skip
def test_engines_agree(rule, seed, lr, every, data):
    """The compiled loop does what the readable one does, wherever no two states are equally good."""
    sizes = data.draw(st.lists(st.integers(1, 4), min_size=2, max_size=4))
    patterns = Patterns(data.draw(st.sampled_from([states(sizes[0]), states(sizes[0])[-2:]])), epoch=7)
    batch = 1 if "categorical" in rule or rule == "both" else data.draw(st.integers(1, 4))
    found, gaps = [], [math.inf]

    class Watched(CategoricalMIM):
        def __call__(self, layer, p, u):
            scores = self.scores(layer, p).sort(-1).values
            gaps.append((scores[..., -1] - scores[..., -2]).min().item())
            return super().__call__(layer, p, u)

    for engine in ("torch", "compiled"):
        machine = HelmholtzMachine(sizes, bias=seed % 2 == 0, replicas=(2,)).double()
        for tensor in machine.state_dict().values():
            tensor.normal_(generator=seeded(seed))
        watched = {"categorical": Watched, "both": lambda: Phases(FactorialMIM(), Watched())}
        options = dict(allocate=watched.get(rule, RULES[rule])(), engine=engine, generator=seeded(seed))
        history = attempt(train, machine, patterns, TrainConfig(3, batch, lr=lr, every=every), **options)
        found.append(machine if history is not REFUSED else REFUSED)
    if REFUSED in found:
        assert found == [REFUSED, REFUSED]
    elif min(gaps) > 1e-9:
        assert all(torch.allclose(a, b, rtol=1e-6, atol=1e-9) for a, b in zip(*map(content, found), strict=True))


class Foreign(Rule):
    """A rule of somebody else, whose kernel may have a memory of any kind."""

    def __init__(self, *memory):
        self.kept = memory

    def __call__(self, layer, p, u):
        return sample(layer, p, u)

    def kernel(self, chain):
        return hm.Kernel(allocate_by_coin, None, *self.kept, width=lambda units: 2)


@cases(
    rows=st.integers(0, 3), starts=st.lists(st.integers(-1, 6), max_size=4),
    kind=st.sampled_from(["f8", "f8", "f4", "i8"]), flat=st.booleans(),
)  # fmt: skip
def test_kernels(rows, starts, kind, flat):
    memory = np.zeros(rows * 6 if flat else (rows, 6), kind)
    machine, options = HelmholtzMachine((2, 3), replicas=(2,)), dict(engine="compiled", generator=seeded())
    done = attempt(train, machine, states(2), TrainConfig(1), allocate=Foreign(memory, np.array(starts, int)), **options)
    fits = kind == "f8" and not flat and rows == 2 and len(starts) == 3 and 0 <= starts[0] <= starts[1] <= starts[2] <= 6
    assert (done is not REFUSED) == (fits and starts[2] - starts[1] >= 2 and starts[1] - starts[0] in (0, *range(2, 7)))


@cases(
    alpha=rarely(st.floats(0, 5)), beta=rarely(st.floats(0, 5)), name=rarely(st.sampled_from(list(hm.SCHEMES))), epsilon=shares,
    few=20, many=800,
)  # fmt: skip
def test_rules(alpha, beta, name, epsilon):
    """Whatever is accepted decides."""
    makers = (
        lambda: FactorialMIM(alpha, beta, epsilon=epsilon),
        lambda: CategoricalMIM(alpha, beta, epsilon=epsilon),
        lambda: Flip(alpha),
        lambda: Phases(alpha, beta),
        lambda: FactorialMIM(threshold=alpha),
        lambda: hm.scheme(name),
        Rule,
        lambda: hm.scheme("flip", rate=alpha),
        lambda: hm.scheme("mim", rate=alpha),
    )
    for rule in (attempt(make) for make in makers):
        if rule is not REFUSED and rule != Phases(sample, sample) and alpha is not sample:
            attempt(train, HelmholtzMachine((2, 2)), states(2), TrainConfig(1, every=1), allocate=rule, generator=seeded())


# The fuzz itself


def tried(source):
    """The names that a text uses, also those that it says in strings."""
    return exercised(source) | {n.value for n in ast.walk(ast.parse(source)) if isinstance(n, ast.Constant)}


def test_every_public_name_is_tried():
    here = [path.read_text().partition("# The fuzz itself")[0] for path in Path(__file__).parent.glob("test_fuzz*.py")]
    public = {name for name in hm.__all__ if getattr(getattr(hm, name), "__module__", "").startswith("helmholtz_mim")}
    assert {"train", "save", "mnist", "up", "draw"} < public
    missing = public.difference(*map(tried, here))
    assert missing <= {"Interrupted", "NotApplicable"}, "which nobody calls"
    assert tried("import helmholtz_mim as hm\ndata.draw(up, hm.down, 'wake')") == {"down", "wake"}


def test_a_traceback_of_somebody_else_is_noticed():
    with pytest.raises(RuntimeError):
        attempt(torch.mm, torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError):
        attempt(json.loads, "{")
    assert attempt(hm.well_formed, 2) is REFUSED and attempt(hm.entropy, torch.ones(1)) == 0
