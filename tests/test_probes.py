"""What codes know: known answers, ties that share, and machines whose codes are known."""

from itertools import permutations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from helmholtz_mim.layers import bernoulli
from helmholtz_mim.machine import HelmholtzMachine
from helmholtz_mim.measures.probes import code_report, linear_probe, retrieval
from helmholtz_mim.measures.quality import Classifier, hamming, pieces


@pytest.fixture(autouse=True)
def single():
    torch.set_default_dtype(torch.float32)


def drawn(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


LABELS = torch.arange(200) % 4
BITS = torch.nn.functional.one_hot(LABELS, 4).float()


def test_a_line_reads_a_code_that_is_the_label_and_nothing_in_a_constant_one():
    assert linear_probe(BITS[:100], LABELS[:100], BITS[100:], LABELS[100:]).all()
    silent = torch.zeros(100, 4)
    assert linear_probe(silent, LABELS[:100], silent, LABELS[100:]).double().mean() == 0.25


def test_the_nearest_of_a_code_that_is_the_label_have_it():
    assert (retrieval(BITS[:100], LABELS[:100], BITS[100:], LABELS[100:], 25) == 1).all()
    more = retrieval(BITS[:100], LABELS[:100], BITS[100:], LABELS[100:], 50)
    assert more.tolist() == pytest.approx([(25 + 25 * 0) / 50] * 100), "of the others, none is of the class"


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 1)), min_size=2, max_size=5), st.integers(1, 5), st.integers(0, 3))
def test_ties_share_what_all_orders_give_on_average(seen, k, query):
    k = min(k, len(seen))
    bits = torch.tensor([[n // 2, n % 2] for n, _ in seen]).float()
    labels = torch.tensor([label for _, label in seen])
    asked = torch.tensor([[query // 2, query % 2]]).float()
    apart = hamming(asked, bits)[0].tolist()
    orders = [sorted(order, key=lambda i: apart[i])[:k] for order in permutations(range(len(seen)))]
    expected = sum((labels[order] == 1).double().mean() for order in orders) / len(orders)
    assert retrieval(bits, labels, asked, torch.tensor([1]), k).item() == pytest.approx(expected.item())


@pytest.mark.parametrize("k", [0, 101])
def test_more_neighbours_than_there_are_are_refused(k):
    with pytest.raises(ValueError):
        retrieval(BITS[:100], LABELS[:100], BITS[100:], LABELS[100:], k)


def copier(replicas=()) -> HelmholtzMachine:
    """Layers that hand on what is below them, and hand it back."""
    machine = HelmholtzMachine((4, 4, 4), replicas=replicas, bias=True)
    for layer in (*machine.recognition, *machine.generative):
        layer.weight[:] = 60 * torch.eye(4)
        layer.bias[:] = -30
    return machine


JUDGE = Classifier([(torch.eye(4), torch.zeros(4))], torch.arange(4))


def test_codes_that_are_copies_know_all_and_come_back_as_they_were():
    parts = BITS[:100], LABELS[:100], BITS[100:], LABELS[100:]
    report = code_report(copier(), *parts, JUDGE, generator=drawn())
    values = report.set_index(["measure", "code", "layer"]).value.unstack()
    assert values.shape == (6, 2)
    assert values.drop("pixels off").to_numpy() == pytest.approx(1)
    assert values.loc["pixels off"].to_numpy() == pytest.approx(0, abs=1e-9)


def test_codes_of_a_machine_at_zero_know_nothing():
    some = bernoulli(torch.full((2000, 8), 0.5), generator=drawn(1))
    labels = some[:, 0].long()
    report = code_report(
        HelmholtzMachine((8, 6, 4)), some[:1000], labels[:1000], some[1000:], labels[1000:], generator=drawn()
    )
    one = report[report.code == "one pass"]
    assert one.value.between(0.42, 0.58).all() and not report.measure.isin(["pixels off", "digit kept"]).any()


def test_each_replica_is_asked_and_the_same_numbers_give_the_same_report():
    machine = copier((2,))
    machine.recognition[1].weight[1] = 0
    machine.recognition[1].bias[1] = 0
    parts = BITS[:100], LABELS[:100], BITS[100:], LABELS[100:]
    report = code_report(machine, *parts, JUDGE, generator=drawn())
    assert report.equals(code_report(machine, *parts, JUDGE, generator=drawn()))
    line = report[(report.measure == "linear probe") & (report.code == "one pass")].pivot(
        index="replica", columns="layer", values="value"
    )
    assert (line.loc[0] == 1).all() and line.loc[1, 1] == 1 and line.loc[1, 2] < 0.5


def test_pieces_of_ink():
    rings = torch.zeros(3, 5, 5)
    rings[0, ::2, ::2] = 1  # nine lonely pixels
    rings[1, 2] = 1  # one stroke
    rings[2].diagonal()[:] = 1  # which touches at corners
    assert pieces(rings.flatten(1)).tolist() == [9, 1, 1]
    with pytest.raises(ValueError, match="square images"):
        pieces(torch.zeros(2, 8))


def test_a_classifier_is_sure_where_its_outputs_are_far_apart():
    x = torch.tensor([[1.0, 0, 0, 0], [1, 1, 1, 1]])
    odds = torch.tensor([1.0, 0, 0, 0]).softmax(-1)[0].item()
    assert JUDGE.confidence(x).tolist() == pytest.approx([odds, 0.25])
