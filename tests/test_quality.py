"""Measures of sample quality: intervals, invariances and refusals."""

import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

from helmholtz_mim.layers import bernoulli
from helmholtz_mim.measures.quality import Classifier, ImageSet, apart, bootstrap, closer, hamming, nearest, neighbours
from helmholtz_mim.measures.quality import quality_report, transport


@pytest.fixture
def classifier(generator):
    """A classifier of nine pixels with random weights, which names the classes 3, 5 and 8."""
    options = dict(generator=generator, dtype=torch.float64)
    layers = [(torch.randn(n, m, **options), torch.randn(m, **options)) for n, m in ((9, 6), (6, 3))]
    return Classifier(layers, torch.tensor([3, 5, 8]))


@pytest.fixture
def coins(generator):
    """A function that tosses coins."""
    return lambda *shape, p=0.4: bernoulli(torch.full(shape, p), generator=generator)


def report(generated, real, classifier, seen=None, resamples=50, seed=0, **options):
    generator = torch.Generator().manual_seed(seed)
    return quality_report(generated, real, classifier, seen, resamples=resamples, generator=generator, **options)


def values(table, replica=0):
    return table[table.replica == replica].set_index("measure").value.to_dict()


def test_a_set_against_itself(classifier, coins, seed):
    heap = coins(60, 9)
    v = values(report(heap, heap, classifier, seed=seed))
    assert [v["precision"], v["recall"], v["coverage"]] == pytest.approx([1] * 3) and v["density"] > 1 - 1e-9
    assert v["classes off"] == v["pairs off"] == 0
    assert "copies" not in v, "nothing is said about memory unless the seen images are given"


def test_what_is_remembered(classifier, coins, seed):
    real, seen = coins(50, 9), coins(50, 9)
    thief = values(report(seen, real, classifier, seen, seed=seed))
    assert thief["copies"] == pytest.approx(1) and thief["closer than unseen"] > 0.5
    assert values(report(real, real, classifier, seen, seed=seed))["closer than unseen"] == pytest.approx(0.5)


def test_the_order_of_images_does_not_matter(classifier, coins):
    generated, real = coins(40, 9), coins(40, 9)
    one, other = (values(report(heap, real, classifier, real)) for heap in (generated, generated.flip(0)))
    assert one == pytest.approx(other)


def test_replicas_are_judged_one_by_one(classifier, coins):
    stack, real = coins(2, 3, 40, 9), coins(40, 9)
    table = report(stack, real, classifier)
    assert sorted(table.replica.unique()) == [*range(6)]
    assert values(table, 4) == pytest.approx(values(report(stack[1, 1], real, classifier)))
    assert (table.low <= table.value).all() and (table.value <= table.high).all()


def test_intervals_of_pairs_are_true(generator):
    """Over heaps drawn afresh, the earth mover's distance of the pairs scatters as its bootstrap says."""
    count, number, p = 80, 400, torch.linspace(0.1, 0.9, 9)
    heaps = [[bernoulli(p.expand(count, -1) ** j, generator=generator) for j in (1, 2)] for _ in range(number)]
    curves = [[apart(heap).mean(0) for heap in pair] for pair in heaps]
    true = np.std([transport(*pair).item() for pair in curves])
    claimed = []
    for a, b in heaps[:20]:
        rows = [2 * bootstrap(count, 200, generator) @ apart(h) - apart(h).mean(0) for h in (a, b)]
        claimed.append(transport(*rows)[1:].std().item())
    assert np.mean(claimed) == pytest.approx(true, rel=0.2)


def test_resampling_weighs_each_image_by_how_often_it_is_drawn(generator):
    weights = bootstrap(7, 10_000, generator)
    assert torch.allclose(weights.sum(-1), torch.ones(10_001)) and torch.equal(weights[0], torch.full((7,), 1 / 7))
    assert torch.allclose((weights * 7).round(), weights * 7)
    assert (weights[1:].mean(0) - 1 / 7).abs().max() < 0.01


def test_distances_in_blocks_equal_distances_at_once(coins):
    a, b = coins(11, 30), coins(5, 30)
    slow = (a[:, None] != b[None]).sum(-1)
    assert torch.equal(hamming(a, b), slow) and torch.equal(nearest(a, b, block=3), slow.amin(-1))


def test_which_is_closer():
    p, q = torch.tensor([0.5, 0.5, 0.0]), torch.tensor([0.0, 0.5, 0.5])
    pairs = [0.5 * (i == j) + (i < j) for i in (0, 1) for j in (1, 2)]
    assert closer(p, q) == pytest.approx(np.mean(pairs)) and closer(q, p) == pytest.approx(1 - np.mean(pairs))


def test_one_far_image_fools_precision_and_not_density(generator):
    real, nonsense = torch.randn(2, 100, 2, generator=generator)
    nonsense += 30
    outlier = torch.cat([real[:-1], torch.tensor([[30.0, 30.0]])])
    fooled = {name: part.mean().item() for name, part in neighbours(nonsense, outlier, 5).items()}
    assert fooled["precision"] == 1 and fooled["density"] < 0.3 and fooled["coverage"] < 0.05


def test_equal_images_share_a_ball_of_no_size():
    """Collapsed heaps have balls of radius zero, which contain their like."""
    collapsed, others = torch.zeros(10, 3), torch.ones(10, 3)
    assert neighbours(collapsed, collapsed, 3)["coverage"].mean() == 1
    assert neighbours(collapsed, others, 3)["coverage"].mean() == 0


def test_a_classifier_learns_and_repeats_itself(coins, seed):
    images = torch.cat([coins(60, 9, p=0.1), coins(60, 9, p=0.9)])
    labels = torch.tensor([4] * 60 + [7] * 60)
    classifier, again = (Classifier.trained(images, labels, hidden=(8,), epochs=400, seed=seed) for _ in range(2))
    assert (classifier(images) == labels).double().mean() > 0.9 and set(classifier(images).tolist()) == {4, 7}
    assert torch.equal(classifier.features(images), again.features(images))
    assert classifier.features(images).shape == (120, 8) and (classifier.features(images) >= 0).all()


def test_mistakes_get_one_sentence(classifier, coins, monkeypatch):
    real = coins(10, 9)
    with pytest.raises(ValueError, match="black and white"):
        ImageSet.of(real / 2, classifier)
    with pytest.raises(ValueError, match="k between 1 and 9, not 10"):
        report(real, real, classifier, k=10)
    with pytest.raises(ValueError, match="resamples is a whole number of at least 2"):
        report(real, real, classifier, resamples=1)
    with pytest.raises(ValueError, match="k is a whole number of at least 1, not None"):
        report(real, real, classifier, k=None)
    for images in (real[0], real[:, 1:], real[:0]):
        with pytest.raises(ValueError, match=r"pixels|this classifier looks at images"):
            report(images, real, classifier)
    with pytest.raises(ValueError, match="real numbers"):
        report(real * (1 + 0j), real, classifier)
    monkeypatch.setitem(sys.modules, "sklearn.neighbors", None)
    with pytest.raises(ImportError, match=r"judging images needs .*pip install 'helmholtz_mim\[images\]'$"):
        report(real, real, classifier)


def test_names_of_a_classifier_are_a_tensor():
    layers = [[torch.ones(4, 3), torch.zeros(3)]]
    assert Classifier(layers, torch.arange(3))(torch.ones(2, 4)).shape == (2,)
    for names in ("abc", torch.arange(2), [0, 1, 2]):
        with pytest.raises(ValueError, match="a name per output"):
            Classifier(layers, names)


@pytest.fixture
def made_up_digits(monkeypatch):
    """In two classes, in place of MNIST."""
    from helmholtz_mim.experiments import online, pyramid

    torch.set_default_dtype(torch.float32)
    grey = torch.cat([torch.rand(60, 784, generator=torch.Generator().manual_seed(label)) * (label + 1) / 2 for label in (0, 1)])
    labels = torch.tensor([0, 1]).repeat_interleave(60)
    patterns = pyramid.binarise(grey, threshold=0.3)
    monkeypatch.setattr(pyramid, "grey_mnist", lambda split: (grey, labels))
    judge = pyramid.mnist_classifier()
    for module in (pyramid, online):
        monkeypatch.setattr(module, "threshold_digits", lambda: (patterns, patterns))
        monkeypatch.setattr(module, "threshold_classifier", lambda: judge)
    return grey


def test_runs_on_mnist_are_judged_and_what_is_missing_is_made(tmp_path, monkeypatch, made_up_digits):
    from helmholtz_mim.experiments import online, pyramid

    runs = [online.OnlineRun(name, seeds=2, images=1000, test=10, hidden=(4, 2)) for name in ("wake-sleep", "mim")]
    online.complete_online(runs, tmp_path)
    first = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".csv"}
    assert len(first) == 5 and pyramid.mnist_store(tmp_path).path(pyramid.EDGES, "quality.csv").name in first
    quality = pyramid.mnist_store(tmp_path, "quality.csv").table(runs)
    assert set(quality.scheme) == {"wake-sleep", "mim"} and quality.groupby(["scheme", "replica"]).size().eq(10).all()
    pyramid.mnist_store(tmp_path).path(runs[1], "quality.csv").unlink()
    with pytest.raises(FileNotFoundError, match="1 of 2 runs are missing"):
        pyramid.mnist_store(tmp_path, "quality.csv").table(runs)
    monkeypatch.setattr(online, "perform_edges", None)
    online.complete_online(runs, tmp_path)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.suffix == ".csv"} == first
    monkeypatch.setattr(online, "threshold_digits", None)
    online.complete_online(runs, tmp_path)  # with nothing left to do
    judge = pyramid.mnist_classifier(torch.Generator().manual_seed(0))
    assert set(judge(made_up_digits.round()).tolist()) <= {0, 1}


def test_pyramids_are_trained_judged_and_asked_what_they_know(tmp_path, monkeypatch, made_up_digits):
    from helmholtz_mim.experiments import pyramid

    small = [replace(run, hidden=(6, 4), epochs=2, test=10) for run in pyramid.KINDS.values()]
    monkeypatch.setattr(pyramid, "CODED", {small[1]})
    pyramid.complete_pyramids(small, tmp_path)
    store = pyramid.mnist_store(tmp_path)
    table = store.table(small)
    assert len(table) == 3 and table.confidence.between(0.5, 1).all() and (table.L100 >= table.L1).all()
    codes = store.read(small[1], "codes.csv")
    assert set(codes.layer) == {1, 2} and codes.value.between(0, 1).all()
    assert not store.path(small[0], "codes.csv").exists()
    assert pyramid.dreams_of(small[2], store).shape == (100, 784)
    written = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    store.path(small[1], "codes.csv").unlink()
    pyramid.complete_pyramids(small, tmp_path)  # makes what was lost, and no more
    again = {path for path in tmp_path.iterdir() if written.get(path) != path.stat().st_mtime_ns}
    assert again and all(path.name.startswith(small[1].name) for path in again)


ONES, BIASES, NAMES = torch.ones(4, 3), torch.zeros(3), torch.arange(3)


@pytest.mark.parametrize(
    "layers, names",
    [([], NAMES), ([(ONES, BIASES), (ONES, BIASES)], NAMES), ([(ONES, BIASES)], NAMES[:2]), (None, NAMES)],
)
def test_what_does_not_make_a_classifier_is_refused(layers, names):
    with pytest.raises(ValueError, match="a classifier is pairs of weights"):
        Classifier(layers, names)


def test_a_classifier_looks_at_images_of_its_own_size():
    classifier = Classifier([(ONES, BIASES)], NAMES)
    with pytest.raises(ValueError, match=r"this classifier looks at images \(images, 4\), not \(2, 5\)"):
        classifier(torch.ones(2, 5))
    assert classifier(torch.ones(2, 4)).tolist() == [0, 0], "of single precision, too"


@pytest.mark.parametrize(
    "change",
    [dict(images=torch.ones(3)), dict(images=torch.ones(2, 4) / 2), dict(labels=torch.ones(2) / 2), dict(seed=2**32), dict(epochs=None)],
)
def test_a_classifier_is_not_trained_by_mistakes(change):
    with pytest.raises(ValueError, match=r"a classifier learns from images|seed of a classifier is below|epochs is a whole number"):
        Classifier.trained(**dict(images=torch.ones(2, 4), labels=torch.arange(2)) | change)


@pytest.mark.parametrize(
    "change",
    [dict(generated=torch.ones(4)), dict(generated=torch.zeros(0, 4)), dict(real=torch.ones(9, 5)), dict(k=None), dict(resamples="9")],
)
def test_mistakes_are_met_with_a_sentence(change):
    options = dict(generated=torch.ones(9, 4), real=torch.ones(9, 4), k=2, resamples=3, generator=torch.Generator()) | change
    with pytest.raises(ValueError, match=r"whole number|images"):
        quality_report(classifier=Classifier([(ONES, BIASES)], NAMES), **options)
