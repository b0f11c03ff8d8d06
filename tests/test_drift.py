"""Units that nobody needs: the walk, the clock, the diffusion, and what pushes against them."""

from itertools import product

import numpy as np
import pytest
from numpy.testing import assert_allclose

from helmholtz_mim.data.worlds import SIZES, dataset
from helmholtz_mim.experiments.drift import VITAL, Habit, Mutation, Woken, common_cause, dependence, drift_clock
from helmholtz_mim.experiments.drift import drift_runs, drift_store, gain, neutral_density, neutral_entropy, neutral_layers
from helmholtz_mim.experiments.drift import neutral_walkers, rouse, selection_rate, settled, expit, strength, tosses, vitality
from helmholtz_mim.machine import HelmholtzMachine


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
    made = store.complete(runs, rouse)
    assert set(VITAL) < set(made) and len(made) == 2 * 2 * 3
    assert store.complete(runs, None).equals(made)
    assert len({run.name for run in drift_runs()}) == len(drift_runs())
