"""Units that nobody needs: the walk, the clock, the diffusion, and what pushes against them."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from helmholtz_mim.data.worlds import SIZES, dataset
from helmholtz_mim.experiments.drift import STORY, Forces, carriers, evolve, excess, expected_step, named_states, predicted_entropy
from helmholtz_mim.experiments.drift import pressure, unit_step, unit_walk
from helmholtz_mim.experiments.drift import VITAL, Habit, Mutation, Woken, common_cause, dependence, drift_clock
from helmholtz_mim.experiments.drift import drift_runs, drift_store, gain, neutral_density, neutral_entropy, neutral_layers
from helmholtz_mim.experiments.drift import neutral_walkers, rouse, selection_rate, settled, expit, strength, tosses, vitality
from helmholtz_mim.machine import HelmholtzMachine
from helmholtz_mim.sweeps import sweep


def outcomes(steps, lr, gains):
    """Probabilities and logits of everything that can happen to a unit, one datum and one dream a step."""
    if steps == 0:
        return [(1.0, 0.0, 0.0)]
    found = []
    for (chance, b, r), y, dreamt in product(outcomes(steps - 1, lr, gains), (0, 1), (0, 1)):
        q, new = expit(r), b + lr * gains[0] * (y - expit(b))
        p = expit(new)
        found.append((chance * (q if y else 1 - q) * (p if dreamt else 1 - p), new, r + lr * gains[1] * (dreamt - q)))
    return found


@pytest.mark.parametrize("gains", [(1.0, 1.0), (1.0, 2.5), (0.5, 1.0)])
def test_walkers_end_where_all_outcomes_say(gains):
    lr, count = 0.8, 40_000
    ((b, r),) = neutral_walkers([3], walkers=count, lr=lr, gains=gains, seed=0)
    chances, places, ways = {}, {}, outcomes(3, lr, gains)
    for chance, b0, r0 in ways:
        place = round(b0, 9), round(r0, 9)
        chances[place] = chances.get(place, 0.0) + chance
    for b1, r1 in zip(b.round(9), r.round(9), strict=True):
        places[b1, r1] = places.get((b1, r1), 0) + 1
    assert len(ways) == 64 and places.keys() <= chances.keys()
    for place, p in chances.items():
        assert abs(places.get(place, 0) / count - p) < 5 * (p * (1 - p) / count) ** 0.5 + 1e-9


@pytest.mark.parametrize("options", [{}, dict(batch=4), dict(dreams=7), dict(gains=(1.0, 3.0))])
def test_the_sum_less_a_little_is_a_martingale(options):
    lr, (up, down) = 0.5, options.get("gains", (1.0, 1.0))
    for b, r in neutral_walkers([1, 10, 100], walkers=20_000, lr=lr, seed=1, **options):
        martingale = down * b + up * r - lr * up * down * expit(b)
        start = -lr * up * down / 2
        assert abs(martingale.mean() - start) < 5 * martingale.std() / 20_000**0.5


@pytest.mark.parametrize("options", [{}, dict(batch=5), dict(batch=2, dreams=8), dict(gains=(1.0, 3.0))])
def test_one_step_has_the_variance_of_the_clock(options):
    ((b, r),) = neutral_walkers([1], walkers=200_000, lr=0.01, seed=2, **options)
    up, down = options.get("gains", (1.0, 1.0))
    mean = (down * b + up * r) / (up + down)
    assert_allclose(mean.var(), drift_clock(1, 0.01, **options) / 8, rtol=0.02)


def test_the_clock():
    assert_allclose(drift_clock(8000, 0.1), 80)
    assert_allclose(drift_clock(1000, 0.3, 10), 9)
    assert_allclose(drift_clock(100, 0.1, 1, 4), 0.625)
    assert_allclose(drift_clock(100, 0.1, gains=(1, 3)), 1.5**2)
    assert_allclose(drift_clock(300, 0.1, schedule="linear"), 1, rtol=0.01)


def test_nothing_is_lost_in_the_diffusion_and_nothing_pushed():
    theta, density = neutral_density([0, 1, 30, 1000, 30_000])
    assert_allclose(density.sum(1), 1, atol=1e-9)
    assert_allclose(density @ theta, 0, atol=1e-6)
    assert (density > -1e-8).all() and density[0].max() > 1 - 1e-9


def test_the_diffusion_is_that_of_small_steps_in_time():
    theta, (solved,) = neutral_density([5], reach=8, points=161)
    p, apart, density = expit(theta), theta[1] - theta[0], 1.0 * (np.arange(161) == 80)
    for _ in range(5000):
        flow = p * (1 - p) / 4 * density
        density = density + 0.001 / apart**2 * np.convolve(flow, [1, -2, 1], "same")
    assert_allclose(solved, density, atol=1e-4)


def test_the_variance_of_the_mean_logit_begins_like_the_clock():
    theta, density = neutral_density([0.05, 0.1])
    assert_allclose(density @ theta**2, [0.05 / 8, 0.1 / 8], rtol=0.01)


@pytest.mark.parametrize("options", [dict(lr=0.3), dict(lr=0.3, batch=3), dict(lr=0.3, dreams=4)])
def test_walkers_follow_the_diffusion(options):
    times = (10, 40, 160)
    steps = [round(tau / drift_clock(1, **options)) for tau in times]
    for tau, ends in zip(times, neutral_walkers(steps, walkers=3000, seed=3, **options), strict=True):
        p = expit(ends.mean(0))
        h = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        assert abs(h.mean() - neutral_entropy(tau)) < 0.035


@pytest.mark.parametrize("q", [0.03, 0.2, 0.5, 0.77])
def test_habits_diffuse_errors_and_make_no_noise(q):
    rng, habit, total, tossed, sums = np.random.default_rng(4), Habit(), 0.0, 0.0, []
    coins, epsilon = np.full(50, q), 0.1 * q * (1 - q)
    for step in range(20_000):
        y = habit(coins, rng)
        before = habit.usual
        habit.observe(coins, y, 0.1)
        if step >= 10_000:
            total, tossed = total + y - before, tossed + tosses(coins, 1, rng) - q
            sums.append(total[0])
    assert np.ptp(total) == 0  # all alike: no chance
    assert np.ptp(sums) < 2  # and what is fired in excess of the habit is paid back at once
    assert tossed.std() > 0.6 * (10_000 * q * (1 - q)) ** 0.5 > 2
    assert abs(habit.usual[0] - q) <= epsilon


def test_mutation_tosses_with_flips():
    y = Mutation(0.25)(np.repeat([0.0, 0.5, 1.0], 100_000), np.random.default_rng(5)).reshape(3, -1).mean(1)
    assert_allclose(y, [0.25, 0.5, 0.75], atol=0.01)


def test_somebody_else_decides_when_it_is_his_turn():
    class Always:
        seen = 0

        def __call__(self, q, rng):
            return np.ones_like(q)

        def observe(self, q, y, lr):
            self.seen += 1

    always = Always()
    ((b, _),) = neutral_walkers([4], walkers=10, lr=0.1, decide=always, every=1, seed=6)
    assert always.seen == 4 and np.ptp(b) == 0 and b[0] > 0.15
    ((b, _),) = neutral_walkers([4], walkers=50, lr=0.1, decide=always, every=5, seed=6)
    assert always.seen == 8 and np.ptp(b) > 0.1


def test_push_and_noise_come_to_terms():
    theta = np.linspace(-20, 20, 4001)
    p, mu = expit(theta), 0.3
    v = p * (1 - p)
    expected = np.exp(-2 * mu / v) / v
    assert_allclose(settled(theta, mu * (1 - 2 * p) / 2, v / 4), expected / expected.sum(), atol=1e-6)


@pytest.mark.parametrize("correlation", [0.0, 0.3, 1.0])
def test_dependence_of_bits_with_a_common_cause(correlation):
    world = common_cause(4, correlation)
    assert_allclose(dependence(world.bits, world.weights), 1 + 3 * correlation, atol=1e-5)
    assert_allclose(world.means, 0.5, atol=1e-6)


def test_selection_needs_dependence():
    assert abs(selection_rate(0.1, 1.0, 4)) < 1e-12
    assert 0 < selection_rate(0.1, 2.0, 4) < 0.1 * (2**0.5 - 1) / 16
    assert_allclose(selection_rate(0.5, 1.9, 4) / 0.5, 0.0172, rtol=0.01)  # as the means of all updates have it
    assert_allclose(strength(0.1, 2.0, 4, 2.0) * 8, strength(0.05, 2.0, 4, 1.0))


def test_layers_run_on_clocks_of_their_own():
    assert_allclose(gain(3 * 9 / 4, 0), 8 / 5)  # the harmonic mean of 4 and 1
    taus = np.array([1.0, 10, 100])
    alone = neutral_layers((5, 1), np.zeros(5), taus)
    assert_allclose(alone[:, 0], neutral_entropy(taus), atol=2e-3)
    top = neutral_layers((8, 1), np.full(8, 0.5), taus)
    assert_allclose(top[:, 0], neutral_entropy(taus * gain(2, 0) ** 2), atol=5e-3)
    narrow, wide = (neutral_layers((8, n, 3), np.full(8, 0.5), taus) for n in (4, 12))
    assert (wide[:, 1] < narrow[:, 1]).all() and (narrow[:, 0] < narrow[:, 1]).all()
    bare = neutral_layers((8, 4, 3), np.full(8, 0.5), taus, bias=False)
    assert (bare > narrow).all()


def test_vitality_is_part_of_the_report():
    machine = HelmholtzMachine(SIZES["well-formed"], replicas=(2,))
    report = vitality(machine, dataset("well-formed"))
    assert set(report.measure) == {"top", "I"} and len(report) == 2 * len(VITAL)


def test_woken_machines_are_recorded_and_not_made_twice(tmp_path):
    store, runs = drift_store(tmp_path), [Woken(epochs=4, woken=2, records=2, seeds=2), Woken(0.3, 1, 0, 4, 2, 2)]
    made = sweep(store, runs, rouse)
    assert set(VITAL) < set(made) and len(made) == 2 * 2 * 3
    assert sweep(store, runs, None).equals(made)
    assert len({run.name for run in drift_runs()}) == len(drift_runs())


# Under the hand: forces on a unit, and the sentences beside the figure


@pytest.mark.parametrize("forces", [Forces(), Forces(use=0.3), Forces(flip=0.1), Forces(use=0.2, flip=0.05)])
def test_the_step_has_the_expectation_that_the_arrows_show(forces):
    """With uniforms that are spread evenly, in a batch of all pairs of them."""
    even = (np.arange(200) + 0.5) / 200
    first, second = (grid.ravel() for grid in np.meshgrid(even, even))
    u = np.stack([first, second, second, first])[..., None, None]
    for b, r in [(0.4, -1.3), (-2.0, 1.1)]:
        start = np.full((1, 1), b), np.full((1, 1), r)
        b1, r1, _ = unit_step(*start, 0.5, u, forces, 0.1, False)
        db, dr = expected_step(b, r, forces, 0.1)
        assert_allclose([b1.item() - b, r1.item() - r], [db, dr], atol=0.1 * 0.008)


def test_uses_go_to_the_fairest_coins_of_each_machine():
    b, r = np.array([[1.0, -3, 0], [0, 0, 0]]), np.array([[1.0, -1, 1], [0, 0, 0]])
    assert (carriers(b, r, 1) == [[0, 0, 1], [1, 0, 0]]).all()
    assert (carriers(b, r, 2) == [[1, 0, 1], [1, 1, 0]]).all()
    assert carriers(b, r, 3).all()


def test_told_units_learn_from_the_data_and_idle_ones_from_their_coins():
    forces, units = Forces(use=1.0), np.zeros((1, 2))
    for word, y in ((0.2, 1), (0.8, 0)):
        u = np.array([word, 0.9, 0.1, 0.5]).reshape(4, 1, 1, 1) * np.ones((4, 1, 1, 2))
        b, r, usual = unit_step(units, units + 3 * np.array([0, 1]), units + 0.5, u, forces, 0.1, False)
        assert_allclose(b[0], [0.1 * (y - 0.5), 0.05])  # the idle unit, at logit 3, tosses one: 0.9 < 0.95
        assert r[0, 0] == 0 and r[0, 1] > 3  # nothing to learn, and something
        q = expit(3.0)
        assert_allclose(usual[0], [0.5 + 0.025 * (y - 0.5), 0.5 + 0.1 * q * (1 - q) * 0.5])


@pytest.mark.parametrize(("every", "lr", "batch"), [(7, 0.15, 1), (20, 0.1, 1), (30, 0.2, 2)])
def test_the_push_of_mim_is_the_closed_form(every, lr, batch):
    rng, q = np.random.default_rng(7), np.repeat([[0.05], [0.2], [0.8]], 300, 1)
    usual, fired, steps = q.copy(), 0.0, 6000
    for step in range(1, steps + 1):
        y = tosses(q, batch, rng) if step % every else 1.0 * (q > usual)
        usual = usual + lr * q * (1 - q) * (y - usual)
        fired = fired + (y - q) * (step > steps // 3)
    push = fired.mean(1) / (steps - steps // 3)
    theory, follows = excess(q[:, 0], Forces(every=every, batch=batch), lr)
    assert_allclose(theory, push, rtol=0.25, atol=1e-3)
    assert_allclose(theory[1], -theory[2], rtol=1e-6)
    assert ((follows > 0) & (follows < 1)).all()


def test_excess_where_it_is_known():
    q = np.array([0.01, 0.3, 0.9])
    assert (excess(q, Forces(), 0.1)[0] == 0).all()
    assert_allclose(excess(q, Forces(use=0.2, flip=0.1), 0.1)[0], 0.36 * (0.5 - q))
    assert_allclose(excess(q, Forces(use=0.2, flip=0.1), 0.1, told=False)[0], 0.2 * (0.5 - q))
    none, all_of_it = excess(q, Forces(every=1), 0.1)
    assert (none == 0).all() and all_of_it == 1
    rare, follows = excess(q, Forces(every=10**6), 0.1)
    assert abs(rare).max() < 1e-5 and follows.max() < 1e-3
    deep, _ = excess(q, Forces(use=0.5, every=5), 1e-4)
    assert np.isfinite(deep).all() and (deep[[0, 2]] * (0.5 - q[[0, 2]]) > 0).all()


@pytest.mark.parametrize("forces", [Forces(), Forces(flip=0.02), Forces(use=0.1), Forces(every=10)])
def test_densities_evolve_to_where_push_and_noise_come_to_terms(forces):
    theta, apart = np.linspace(-16, 16, 321, retstep=True)
    push, noise = pressure(theta, forces, forces.lr)
    density = 1.0 * (np.arange(321) == 160)
    for _ in range(400):
        density = evolve(density, push, noise, 2.0, apart)
    assert density.min() >= 0
    assert_allclose(density.sum(), 1)
    assert_allclose(density, density[::-1], atol=1e-12)
    if forces != Forces():
        p = expit(theta)
        h = -(p * np.log2(p) + (1 - p) * np.log2(1 - p))
        assert abs(density @ h - settled(theta, push, noise) @ h) < 0.02


@pytest.mark.parametrize("way", [-1, 1])
def test_nothing_leaves_at_the_ends_of_the_grid(way):
    density = evolve(np.ones(9) / 9, way * np.full(9, 3.0), np.ones(9), 50.0, 0.5)
    assert_allclose(density.sum(), 1)
    assert np.argmax(density[::way]) == 8


def test_a_use_pushes_and_slows_the_clock_and_mim_in_every_step_doubles_it():
    theta = np.linspace(-3, 3, 7)
    p, u = expit(theta), 0.3
    push, noise = pressure(theta, Forces(use=u), 0.2)
    assert_allclose(push, (1 - u) * u * (0.5 - p) / (2 - u) / 0.2)
    assert_allclose(noise, p * (1 - p) * (1 - u) / (2 - u) / 2)
    for forces, twice in [(Forces(use=u), 1), (Forces(every=1), 2)]:
        push, noise = pressure(theta, forces, 0.2, told=False)
        assert_allclose(push, 0)
        assert_allclose(noise, twice * p * (1 - p) / 4)


def test_prediction_without_forces_is_the_diffusion():
    assert abs(predicted_entropy(Forces(), 4000) - neutral_entropy(160)) < 0.01
    assert abs(predicted_entropy(Forces(batch=4, lr=0.1), 8000) - neutral_entropy(20)) < 0.01
    assert abs(predicted_entropy(Forces(every=1), 4000) - neutral_entropy(320)) < 0.01
    told, idle = (predicted_entropy(Forces(use=u), 4000) for u in (0.2, 0.0))
    pair = predicted_entropy(Forces(use=0.2), 4000, units=2)
    assert_allclose(pair, (told + idle) / 2)


def test_a_falling_rate_has_a_last_hour():
    falls = Forces(falling=True)
    assert_allclose([falls.rate(0), falls.rate(1000), falls.rate(3000)], [0.2, 0.1, 0.05])
    assert Forces().rate(3000) == 0.2
    assert sum(falls.rate(step) ** 2 for step in range(200_000)) < 0.2**2 * 1001
    moved = []
    for forces in (falls, Forces()):
        early, late = unit_walk(forces, [6000, 12_000], seed=0)
        moved.append(abs(late - early).mean())
    assert moved[0] < 0.45 < 0.5 * moved[1]


@pytest.fixture(scope="module", params=range(5))
def said(request):
    """Of each sentence of the story: its forces, and how far from the middle the units of each machine end, fairest first."""
    found = {}
    for stage in STORY:
        size, uses = stage["units"], stage["uses"]
        for words, forces in named_states(stage).items():
            ends = unit_walk(forces, [4000], units=size, uses=uses, count=400, seed=740 + request.param)[0]
            found[stage["name"], words] = forces, np.sort(abs(ends.mean(0)), -1)
    return found


def constant(far):
    """Which units are nearly constant: beyond a tenth or nine tenths."""
    return (far > np.log(9)).mean()


def remaining(far):
    p = expit(far)
    return -(p * np.log2(p) + (1 - p) * np.log2(1 - p)).mean()


def test_what_is_said_of_one_unit_is_so(said):
    forces, far = zip(*(said["one unit", words] for words in named_states(STORY[0])))
    nobody, slow, batches, falls, useful, loud, mutate, fifth, always = far
    assert constant(nobody) > 0.55
    for one, walk in zip(forces[:3], (nobody, slow, batches)):  # the clock alone
        assert abs(remaining(walk) - neutral_entropy(drift_clock(4000, one.lr, one.batch))) < 0.08
    assert remaining(slow) > remaining(batches) + 0.1 > remaining(nobody) + 0.2
    assert constant(falls) < 0.35
    assert constant(useful) < 0.1 and constant(loud) > 0.5
    assert constant(mutate) < 0.2 and constant(fifth) < 0.25
    assert abs(remaining(always) - neutral_entropy(320)) < 0.08 and remaining(always) < remaining(nobody) - 0.05


def test_what_is_said_of_two_units_and_of_a_layer_is_so(said):
    shared, unused, mutate, fifth = (said["two units", words][1] for words in named_states(STORY[1]))
    assert constant(shared[:, 0]) < 0.05 and constant(shared[:, 1]) > 0.55
    assert constant(unused) > 0.55 and constant(mutate) < 0.2
    assert constant(fifth[:, 1]) < 0.35
    needed, useless, held = (said["a layer", words][1] for words in list(named_states(STORY[2]))[:3])
    assert constant(needed[:, :3]) < 0.05 and constant(needed[:, 3:]) > 0.6
    assert constant(useless) > 0.55 and constant(held) < 0.25


def test_theory_says_what_is_left_in_every_state(said):
    for (name, _), (forces, far) in said.items():
        stage = next(one for one in STORY if one["name"] == name)
        theory = predicted_entropy(forces, 4000, units=stage["units"], uses=stage["uses"])
        assert abs(remaining(far) - theory) < (0.13 if forces.every > 1 else 0.09), forces


def test_sentences_name_states():
    states = [forces for stage in STORY for forces in named_states(stage).values()]
    assert len(states) >= 18 and states[0] == Forces() and Forces(use=0.02, lr=0.5) in states
    assert named_states(STORY[0])["Let the rate fall"] == Forces(falling=True)
    assert named_states(STORY[1])["One use for two"] == Forces(use=0.2)
