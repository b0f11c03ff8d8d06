"""The pictures: what is drawn is what was measured."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from scipy.stats import t as student

from helmholtz_mim.figures import plot_history

STEPS, REPLICAS = (0, 40, 100), 5


@pytest.fixture
def history(seed):
    """Random values of two layers, five replicas and three steps."""
    draw = np.random.default_rng(seed).normal
    rows = [(step, replica, layer, draw(layer)) for layer in (1, 2) for step in STEPS for replica in range(REPLICAS)]
    return pd.DataFrame(rows, columns=["step", "replica", "layer", "value"]).sample(frac=1, random_state=seed)


def at(history, layer):
    """The values of a layer, `(steps, replicas)`."""
    return np.array([history[(history.layer == layer) & (history.step == step)].value for step in STEPS])


def edges(band):
    """Below and above at each step, read off the outline of a filled band."""
    x, y = band.get_paths()[0].vertices.T
    return np.array([[y[x == step].min(), y[x == step].max()] for step in np.unique(x)])


def test_a_curve_is_the_mean_and_its_band_the_interval(history):
    ax = plot_history(history, ax=Figure().subplots())
    assert len(ax.lines) == len(ax.collections) == 2
    for layer, line, band in zip((1, 2), ax.lines, ax.collections, strict=True):
        values = at(history, layer)
        np.testing.assert_allclose(line.get_xydata(), np.c_[STEPS, values.mean(1)])
        expected = student.interval(0.95, REPLICAS - 1, values.mean(1), values.std(1, ddof=1) / REPLICAS**0.5)
        np.testing.assert_allclose(edges(band), np.transpose(expected))
        assert line.get_label() == f"layer {layer}"
    assert ax.get_xlabel() == "wake-sleep steps" and ax.get_ylabel() == "nats"


def test_a_band_may_hold_all_replicas_and_steps_may_be_epochs(history):
    options = dict(band="range", labels=["one", "two"], colors=["red", "blue"], xscale=10, ylabel="bits")
    ax = plot_history(history, ax=Figure().subplots(), **options)
    for layer, line, band in zip((1, 2), ax.lines, ax.collections, strict=True):
        values = at(history, layer)
        np.testing.assert_allclose(line.get_xdata(), np.divide(STEPS, 10))
        np.testing.assert_allclose(edges(band), np.c_[values.min(1), values.max(1)])
    assert [(line.get_label(), line.get_color()) for line in ax.lines] == [("one", "red"), ("two", "blue")]
    assert ax.get_xlabel() == "epochs" and ax.get_ylabel() == "bits"


def test_groups_may_be_replicas_and_the_axes_those_at_hand(history):
    fig, ax = plt.subplots()
    assert plot_history(history[history.layer == 1], by="replica") is ax
    for replica, line in enumerate(ax.lines):
        rows = history[(history.layer == 1) & (history.replica == replica)].sort_values("step")
        np.testing.assert_allclose(line.get_ydata(), rows.value)
    plt.close(fig)
