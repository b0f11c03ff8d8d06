"""Every measure of machines and of images beside a slow and obvious one, for odd inputs of all kinds."""

import math

import matplotlib.pyplot as plt
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
    counts,
    data_for,
    efforts,
    finite,
    layers,
    log_channel,
    log_downward,
    log_upward,
    machines,
    one_by_one,
    plain,
    rarely,
    seeded,
    seeds,
    tables,
)

import helmholtz_mim as hm
from helmholtz_mim import HelmholtzMachine, Patterns, exact_report
from helmholtz_mim.measures.quality import Classifier, quality_report

pytestmark = pytest.mark.usefixtures("single_precision")


@cases(machine=machines(), data=st.data(), few=6, many=4000)
def test_exact_reports(machine, data):
    bits = data.draw(data_for(machine, anything=True))
    report = attempt(exact_report, machine, bits)
    found = attempt(hm.upward, machine, bits), attempt(hm.downward, machine)
    if report is REFUSED:
        return
    assert finite(machine) and not report.value.isna().any()
    of = report.set_index(["replica", "direction", "layer", "measure"]).value
    for k, one in enumerate(one_by_one(machine)):
        logs = {"recognition": log_upward(one, Patterns(bits)), "generative": log_downward(one)}
        for (way, ours), theirs in zip(logs.items(), found):
            other = logs["generative" if way == "recognition" else "recognition"]
            for l, log_p in enumerate(ours):
                p = np.exp(log_p)
                assert np.allclose(theirs[l].reshape(-1, len(p))[k], p, rtol=1e-3, atol=1e-5)
                assert of[k, way, l, "top"] == pytest.approx(p.max(), abs=1e-5)
                assert of[k, way, l, "H"] == pytest.approx(-(p[p > 0] * log_p[p > 0]).sum(), abs=1e-4)
                divergence = (p[p > 0] * (log_p - other[l])[p > 0]).sum()
                assert of[k, way, l, "KL"] == pytest.approx(divergence, rel=1e-3, abs=1e-3)
        for way, l, layer, source in [("recognition", l, r, logs["recognition"][l]) for l, r in enumerate(one.recognition)] + [
            ("generative", l, g, logs["generative"][l + 1]) for l, g in enumerate(one.generative)
        ]:
            joint = source[:, None] + log_channel(layer)
            gain = np.where(np.exp(joint) > 0, log_channel(layer) - np.logaddexp.reduce(joint, 0), 0)
            assert of[k, way, l, "I"] == pytest.approx((np.exp(joint) * gain).sum(), abs=1e-4)
        seen = Patterns(bits).weights.new_zeros(2 ** machine.sizes[0]).index_fill(0, hm.encode(Patterns(bits).bits), 1).numpy() > 0
        assert of[k, "generative", 0, "off-support"] == pytest.approx(np.exp(logs["generative"][0])[~seen].sum(), abs=1e-5)


@cases(layer=layers(), p=st.lists(st.floats(0, 1), min_size=1, max_size=16), odd=rarely(st.none()))
def test_channels(layer, p, odd):
    table, n = attempt(hm.channel, layer), layer.weight.shape[-1]
    p = torch.tensor(p).double() if odd is None else odd
    found = attempt(hm.mutual_information, layer, p)
    assert (found is not REFUSED) == (odd is None and len(p) == 2**n)
    if layer.weight.ndim == 2:
        expected = np.exp(log_channel(layer))
        assert np.allclose(table, expected, rtol=1e-3, atol=1e-5)
        if found is not REFUSED and p.sum() > 0:
            q, given = p.numpy() / p.sum().item(), table.numpy()
            with np.errstate(divide="ignore", invalid="ignore"):
                terms = q[:, None] * given * np.log(given / (q @ given))
            assert hm.mutual_information(layer, torch.from_numpy(q)).item() == pytest.approx(np.nansum(terms), abs=1e-6)


@cases(p=st.lists(st.floats(0, 1), min_size=1, max_size=6), q=st.lists(st.floats(0, 1), min_size=1, max_size=6), odd=rarely(st.none()))
def test_entropies(p, q, odd):
    assume(sum(p) > 1e-3 and sum(q) > 1e-3)
    p, q = (np.array(v) / sum(v) for v in (p, q))
    ours = [torch.from_numpy(v) for v in (p, q)]
    h = -sum(v * math.log(v) for v in p if v)
    assert attempt(hm.entropy, ours[0]).item() == pytest.approx(h, abs=1e-9)
    for measure in (hm.kl, hm.clamped_kl):
        assert attempt(measure, ours[0], odd) is REFUSED
        assert (attempt(measure, *ours) is REFUSED) == (len(p) != len(q))
    attempt(hm.entropy, odd), attempt(hm.clamped_kl, *ours, odd)
    if len(p) == len(q):
        logs = [-1000.0 if b == 0 else math.log(b) for b in q]
        assert hm.clamped_kl(*ours, -1000.0).item() == pytest.approx(-h - p @ logs, abs=1e-6)
        infinite = any(a and not b for a, b in zip(p, q))
        assert hm.kl(*ours).item() == (math.inf if infinite else pytest.approx(-h - p @ logs, abs=1e-6))


@cases(machine=machines(), data=st.data(), samples=rarely(st.integers(80, 200)), generator=rarely(st.just(seeded())), few=4, many=500)
def test_sampled_reports(machine, data, samples, generator):
    report = attempt(hm.sampled_report, machine, data.draw(data_for(machine, anything=True)), samples=samples, generator=generator)
    found = attempt(hm.intervals, report if report is not REFUSED else samples)
    means = attempt(hm.over_replicas, report if report is not REFUSED else samples)
    assert (found is REFUSED) == (report is REFUSED) == (means is REFUSED)
    if report is not REFUSED:
        assert finite(machine) and not report.value.isna().any() and (found.low <= found.high).all() and 2 * len(found) == len(report)


@cases(machine=machines(), data=st.data(), particles=rarely(st.integers(1, 20), st.sampled_from(ANYTHING)), chains=counts, many=4000)
def test_likelihoods(machine, data, particles, chains):
    x, options = data.draw(data_for(machine, anything=True)), dict(generator=seeded())
    exact, surprise = attempt(hm.exact_log_likelihood, machine, x), attempt(hm.losses, machine, x, **options)
    found = [attempt(make, machine, x, particles, **options) for make in (hm.log_likelihood, hm.effective_sample_size)]
    found.append(attempt(hm.ais_log_likelihood, machine, x, chains, 3, **options))
    for values in (exact, *found):
        if values is not REFUSED:
            assert finite(machine) and values.shape == (*machine.replicas, len(plain(x))) and not values.isnan().any()
    assert (surprise is REFUSED) or (surprise.value >= 0).all()
    if exact is not REFUSED:
        expected = [log_downward(one)[0][hm.encode(x).numpy()] for one in one_by_one(machine)]
        assert np.allclose(exact.reshape(len(expected), -1), expected, rtol=1e-3, atol=1e-3 * (1 + np.abs(expected).max()))
    if found[1] is not REFUSED:
        assert found[1].min() >= 1 - 1e-9 and found[1].max() <= particles + 1e-6


@cases(
    machine=machines(), data=st.data(), samples=rarely(st.none() | st.integers(1, 3)), layer=rarely(st.none() | st.integers(1, 3)),
    few=4, many=1500,
)  # fmt: skip
def test_inference(machine, data, samples, layer):
    x, options = data.draw(data_for(machine, anything=True)), dict(generator=seeded())
    mask = data.draw(rarely(st.lists(st.booleans(), min_size=machine.sizes[0], max_size=machine.sizes[0]).map(torch.tensor), tables()))
    layers = attempt(hm.recognise, machine, x, samples, **options)
    tables_ = [] if layers is REFUSED else layers
    assert [len(p.mT) if p.ndim == 2 else p.shape[-1] for p in tables_] in ([], list(machine.sizes[1:]))
    tables_.append(attempt(hm.reconstruct, machine, x, layer, 2, **options))
    weighed = attempt(hm.complete, machine, x, mask, 2, particles=3, fillings=2, **options)
    if weighed is not REFUSED:
        assert isinstance(weighed, hm.Completion) and (weighed.ess <= 3 + 1e-6).all()
        tables_ += [weighed.samples, weighed.probability]
    for move in (hm.gibbs, hm.metropolis, hm.pseudo_gibbs):
        tables_.append(attempt(hm.complete_gibbs, machine, x, mask, 2, steps=1, move=move, **options))
    tables_.append(attempt(hm.exact_completion, machine, x, mask))
    for p in tables_:
        assert p is REFUSED or (finite(machine) and p.min() >= 0 and p.max() <= 1 + 1e-6)


@cases(codes=tables(anything=True), sizes=rarely(st.none() | st.integers(1, 4)), few=4, many=1500)
@pytest.mark.filterwarnings("ignore")
def test_reports_of_codes(codes, sizes):
    report = attempt(hm.collapse_report, codes, sizes=sizes)
    if report is not REFUSED:
        known = report[report.value.notna()]
        assert not ((known.low > known.value + 1e-9) | (known.high < known.value - 1e-9)).any()
        assert hm.verdict(report).count(".") >= 3
        plt.close(hm.plot_codes(report))


@cases(
    machine=machines(), data=st.data(), numbers=rarely(st.lists(st.integers(1, 30), max_size=3), st.sampled_from(ANYTHING)),
    few=4, many=1500,
)  # fmt: skip
@pytest.mark.filterwarnings("ignore:the log-likelihood still climbs")
def test_ladders(machine, data, numbers):
    table = attempt(hm.ladder, machine, data.draw(data_for(machine, anything=True)), numbers, generator=seeded())
    if table is not REFUSED:
        assert table.nats.notna().all() and (table.low <= table.high).all() and table.ess.between(1 - 1e-9, table.particles + 1e-6).all()
        assert len(table) == np.size(numbers) * math.prod(machine.replicas)


@cases(
    x=tables(4, anything=True), patience=counts, particles=efforts, seed=rarely(seeds),
    scores=st.lists(st.sampled_from([0, 1]), max_size=6),
)  # fmt: skip
def test_early_stopping(x, patience, particles, seed, scores):
    stop, machine = attempt(hm.EarlyStopping, x, patience, particles, seed), HelmholtzMachine((4, 2))
    if stop is not REFUSED:
        assert attempt(stop.restore_, machine) is REFUSED
        stop.scores = scores[:]
        ends = attempt(stop, machine)
        if ends is not REFUSED:
            best = stop.scores.index(max(stop.scores))
            assert len(stop.scores) == len(scores) + 1 and ends == (len(scores) - best >= patience)


# Classifiers

WEIGHTS = st.sampled_from([None, torch.zeros(3), torch.ones(4, 3), torch.eye(3), torch.ones(3, 3).double(), torch.zeros(2), 3])


@cases(
    layers=rarely(st.lists(st.tuples(WEIGHTS, WEIGHTS), max_size=3)),
    names=rarely(st.sampled_from([torch.arange(3), "abc"])), images=tables(4),
)  # fmt: skip
def test_classifiers(layers, names, images):
    classifier = attempt(Classifier, layers, names)
    if classifier is not REFUSED:
        found = attempt(classifier.outputs, images)
        assert found is REFUSED or (found.shape == images.shape[:1] and found.max() < 3)
        assert found is REFUSED or len(attempt(classifier, images)) == len(found)


@cases(images=tables(3), labels=rarely(tables(1)), hidden=efforts, epochs=efforts, seed=rarely(seeds), few=3, many=300)
def test_trained_classifiers(images, labels, hidden, epochs, seed):
    labels = labels[:, 0] if getattr(labels, "ndim", 0) == 2 and labels.shape[1] else labels
    classifier = attempt(Classifier.trained, images, labels, hidden=hidden, epochs=epochs, seed=seed)
    assert classifier is REFUSED or set(classifier(images).tolist()) <= set(labels.int().tolist())


@cases(data=st.data(), k=counts, resamples=efforts, generator=rarely(st.just(seeded())), few=4, many=600)
def test_quality(data, k, resamples, generator):
    images, real, seen = (data.draw(tables(4, rows)) for rows in (6, 7, 3))
    eye, third = torch.eye(3).double(), torch.zeros(3)
    classifier = Classifier([(torch.ones(4, 3).double(), third), (eye, third.double())], torch.arange(3))
    seen = data.draw(st.sampled_from([None, seen]))
    report = attempt(quality_report, images, real, classifier, seen, k=k, resamples=resamples, generator=generator)
    if report is not REFUSED and images.ndim == 2:
        of, (a, b) = report.set_index("measure").value, (v.double().numpy() for v in (images, real))
        sums = [v.sum(1) for v in (a, b)]  # which three features of this classifier are
        reach = [np.sort(abs(s[:, None] - s), 1)[:, k] * (1 + 1e-9) for s in sums]
        near = [(abs(sums[1 - i][:, None] - sums[i]) <= reach[i]).any(1).mean() for i in (1, 0)]
        assert [of["precision"], of["recall"]] == pytest.approx(near)
        gaps = [abs(v[:, None] - v).sum(-1)[~np.eye(len(v), dtype=bool)] for v in (a, b)]
        curves = [np.bincount(gap.astype(int), minlength=5).cumsum() / len(gap) for gap in gaps]
        assert of["pairs off"] == pytest.approx(abs(curves[0] - curves[1]).sum()) and report.value.notna().all()
