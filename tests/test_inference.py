"""What a trained machine answers: recognition, reconstruction, and missing units, beside the exact answers of small machines."""

import re

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as some
from torch.testing import assert_close

import helmholtz_mim as hm
from helmholtz_mim import (
    Completion,
    HelmholtzMachine,
    Patterns,
    complete,
    complete_gibbs,
    dream,
    encode,
    exact_completion,
    gibbs,
    metropolis,
    pseudo_gibbs,
    recognise,
    reconstruct,
    states,
    wake,
)
from helmholtz_mim.measures import inference, meaning
from helmholtz_mim.measures.quality import Classifier

HALF = torch.tensor([1, 0, 1, 0, 1]).bool()  # of five units


def shares(bits, width):
    """How often each state of the last axis occurs, over the axis before: `(…, 2**width)`."""
    number = encode(bits)
    counts = torch.stack([row.bincount(minlength=2**width) for row in number.flatten(0, -2)])
    return (counts / number.shape[-1]).unflatten(0, number.shape[:-1])


def apart(p, q):
    """Total variation, the mean over data."""
    return 0.5 * (p - q).abs().sum(-1).mean().item()


def joint_table(machine):
    """ln p of all states of all units of a small machine in counting order, data units first, and those states."""
    every = states(sum(machine.sizes))
    return hm.log_prob(hm.down(machine), list(every.split(machine.sizes, -1))), every


def by_counting(machine, x, mask):
    """p(unknown | known) of a datum out of the table of all states of all units: no shared line with the package's."""
    log_p, every = joint_table(machine)
    data = every[:, : machine.sizes[0]]
    fits = (data[:, mask] == x[mask]).all(-1)
    number = encode(data[:, ~mask])
    total = torch.zeros(2 ** int((~mask).sum())).index_add(0, number[fits], log_p[fits].exp())
    return total / total.sum(), total.sum().log()


@pytest.fixture
def schooled(random_machine, generator):
    """A function that makes a random machine whose recognition has learnt from its dreams."""

    def make(sizes, **options):
        machine = random_machine(sizes, **options)
        for _ in range(300):
            hm.learn_recognition_(machine, dream(machine, 100, generator=generator), 0.3)
        return machine

    return make


# Recognition and reconstruction


def test_the_bits_are_those_of_waking(random_machine):
    machine, x = random_machine((5, 4, 3), replicas=(2,)), states(5)[:7]
    one, other = (torch.Generator().manual_seed(3) for _ in range(2))
    for a, b in zip(recognise(machine, x, generator=one), wake(machine, x, generator=other)[1:], strict=True):
        assert torch.equal(a, b)


def test_probabilities_come_to_the_exact_ones_and_the_first_layer_is_exact_at_once(random_machine, generator):
    machine, x = random_machine((5, 4, 3, 2)), states(5)[[3, 17, 30]]
    first, *_ = recognise(machine, x, 3, generator=generator)
    assert torch.equal(first, machine.recognition[0](x))
    found = recognise(machine, x, 4000, generator=generator)
    for k in range(3):
        exact = hm.upward(machine, x[k : k + 1])[1:]
        for units, p, guess in zip(machine.sizes[1:], exact, found, strict=True):
            assert_close(guess[k], p @ states(units), rtol=0, atol=0.04)


def test_probabilities_are_averaged_not_bits(random_machine, generator):
    """One pass already gives conditional probabilities."""
    for p in recognise(random_machine((5, 4, 3)), states(5), 1, generator=generator):
        assert ((p > 0) & (p < 1)).all()


def test_all_passes_count_alike():
    (mean,) = inference._mean(iter([[torch.tensor([1.0])], [torch.tensor([2.0])], [torch.tensor([6.0])]]))
    assert_close(mean, torch.tensor([3.0]))


@pytest.mark.parametrize("layer", [1, 2, 3, None])
def test_what_comes_back_is_what_the_channels_say(random_machine, generator, layer):
    machine, x = random_machine((5, 4, 3, 2)), states(5)[[3, 17, 30]]
    found = reconstruct(machine, x, layer, 4000, generator=generator)
    for k in range(3):
        recognised = hm.upward(machine, x[k : k + 1])[layer or 3]
        assert_close(found[k], recognised @ meaning.causal(machine, layer or 3)[0] @ states(5), rtol=0, atol=0.04)


def test_dreams_keep_the_top_pattern_that_is_given(random_machine, generator):
    machine = random_machine((5, 4, 3), replicas=(2,))
    for top in (torch.tensor([1, 0, 1]), np.array([[1, 0, 1]]), [[[1, 0, 1]]]):
        z = dream(machine, 4000, given=top, generator=generator)
        assert z[-1].shape == (2, 4000, 3) and (z[-1] == torch.tensor([1.0, 0, 1])).all()
        for k in range(2):
            assert_close(shares(z[0], 5)[k], meaning.causal(machine.replica(k), 2)[0][5], rtol=0, atol=0.04)
    rows = states(3)[[1, 4]]
    assert torch.equal(dream(machine, 2, given=Patterns(rows), generator=generator)[-1], rows.expand(2, 2, 3))


# Missing units


@given(some.integers(0, 10**6), some.sampled_from([(4, 3), (4, 3, 2), (3, 2, 2, 2)]), some.data())
def test_the_exact_completion_is_what_counting_gives(seed, sizes, data):
    mask = torch.tensor(data.draw(some.lists(some.booleans(), min_size=sizes[0], max_size=sizes[0])))
    machine = HelmholtzMachine(sizes, bias=True, replicas=(2,))
    g = torch.Generator().manual_seed(seed)
    for tensor in machine.state_dict().values():
        tensor.normal_(std=2.0, generator=g)
    x = states(sizes[0])[[1, 5]]
    found = exact_completion(machine, x, mask)
    for k in range(2):
        for row in range(2):
            assert_close(found[k, row], by_counting(machine.replica(k), x[row], mask)[0])


@pytest.mark.parametrize("sizes", [(5, 4), (5, 4, 3), (5, 3, 3, 2)])
@pytest.mark.parametrize("fillings", [1, 64])
def test_weighed_completions_come_to_the_exact_ones(schooled, generator, sizes, fillings):
    machine, x = schooled(sizes), states(5)[[3, 17, 30]]
    exact, distance = exact_completion(machine, x, HALF), {}
    for particles in (10, 20_000):
        found = complete(machine, x, HALF, 20_000, particles=particles, fillings=fillings, generator=generator)
        distance[particles] = apart(shares(found.samples[..., ~HALF], 2), exact)
    assert distance[20_000] < 0.03 and distance[20_000] < 0.5 * distance[10]
    assert_close(found.probability[:, ~HALF], exact @ states(2), rtol=0, atol=0.04)
    for k in range(3):
        assert_close(found.log_likelihood[k], by_counting(machine, x[k], HALF)[1], rtol=0, atol=0.1)
    assert ((found.ess >= 1) & (found.ess <= 20_000)).all()


@pytest.mark.parametrize("fillings", [1, 3])
def test_the_mean_weight_is_the_probability_of_what_is_known(schooled, generator, fillings):
    """With two particles it is far from it in each run, and right on average."""
    machine, x = schooled((5, 4, 3)), states(5)[[11]].expand(40_000, -1)
    found = complete(machine, x, HALF, 1, particles=2, fillings=fillings, generator=generator).log_likelihood.exp()
    exact = by_counting(machine, x[0], HALF)[1].exp()
    assert (found.mean() - exact).abs() < 5 * found.std() / len(found) ** 0.5
    assert found.std() / len(found) ** 0.5 < 0.05 * exact


def test_many_fillings_cover_what_one_leaves_out(generator):
    """Five coins, copied down and up: recognition believes whatever was filled in."""
    machine = HelmholtzMachine((5, 5), bias=True)
    for layer in (machine.recognition[0], machine.generative[0]):
        layer.weight.copy_(6 * torch.eye(5))
        layer.bias.fill_(-3.0)
    x = states(5)
    one, many = (complete(machine, x, HALF, fillings=m, generator=generator) for m in (1, 64))
    off = [(found.probability[:, ~HALF] - 0.5).abs().mean() for found in (one, many)]
    assert off[0] > 2 * off[1] and many.ess.mean() > 5 * one.ess.mean()


def test_nothing_known_and_everything_known(schooled, generator):
    machine, x = schooled((5, 4, 3)), states(5)
    none = complete(machine, x[:2], torch.zeros(5), 20_000, particles=20_000, generator=generator)
    assert_close(shares(none.samples, 5), hm.downward(machine)[0].expand(2, -1), rtol=0, atol=0.03)
    assert none.log_likelihood.abs().max() < 0.1
    every = complete(machine, x, torch.ones(5), particles=4000, generator=generator)
    assert torch.equal(every.samples, x.unsqueeze(1).expand(-1, 10, -1)) and torch.equal(every.probability, x)
    assert_close(every.log_likelihood, hm.exact_log_likelihood(machine, x), rtol=0, atol=0.3)
    assert torch.equal(exact_completion(machine, x, torch.ones(5)), torch.ones(32, 1))


@pytest.mark.parametrize("move", [metropolis, gibbs, pseudo_gibbs])
def test_a_move_that_is_right_leaves_dreams_as_they_are(random_machine, generator, move):
    """Dreams are samples of p(x, z): a move that keeps p(z | x) keeps their distribution, and recognition does not."""
    machine = random_machine((3, 3, 2))
    before = dream(machine, 100_000, generator=generator)
    kept = [layer.clone() for layer in before]
    after = before
    for _ in range(3):
        after = move(machine, after, generator=generator)
    assert torch.equal(after[0], kept[0]) and all(torch.equal(a, b) for a, b in zip(before, kept))
    found = shares(torch.cat(after, -1).unsqueeze(0), 8)[0]
    distance = apart(found, joint_table(machine)[0].exp())
    assert distance > 0.1 if move is pseudo_gibbs else distance < 0.03


@pytest.mark.parametrize("move", [metropolis, gibbs])
@pytest.mark.parametrize("sizes", [(5, 4), (5, 4, 3)])
def test_chains_come_to_the_exact_completions(schooled, generator, sizes, move):
    machine, x = schooled(sizes), states(5)[[3, 17, 30]]
    exact = exact_completion(machine, x, HALF)
    found = complete_gibbs(machine, x, HALF, 4000, steps=60, move=move, generator=generator)
    assert apart(shares(found[..., ~HALF], 2), exact) < 0.03
    assert torch.equal(found[..., HALF], x[:, HALF].unsqueeze(1).expand(-1, 4000, -1))


@pytest.mark.parametrize("steps", [0, 1, 5])
def test_pseudo_gibbs_goes_where_its_own_matrix_says(random_machine, generator, steps):
    """From dreams, to and fro: recognition of a filling, and the ends that it generates, counted."""
    machine, x = random_machine((5, 4)), states(5)[[17]]
    filled = x.repeat(4, 1)
    filled[:, ~HALF] = states(2)
    recognised = hm.channel(machine.recognition[0])[encode(filled)]  # p(z | filling)
    p, ends = machine.generative[0](states(4))[:, None, ~HALF], states(2)
    generated = torch.where(ends > 0, p, 1 - p).prod(-1)  # p(end | z)
    start = torch.zeros(4).index_add(0, encode(states(5)[:, ~HALF]), hm.downward(machine)[0])
    law = start @ torch.linalg.matrix_power(recognised @ generated, steps)
    found = complete_gibbs(machine, x, HALF, 20_000, steps=steps, move=pseudo_gibbs, generator=generator)
    assert apart(shares(found[..., ~HALF], 2), law.unsqueeze(0)) < 0.02


# Shapes and what may be passed in


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("replicas", [(), (2,), (2, 3)])
def test_shapes(generator, replicas, bias):
    machine = HelmholtzMachine((5, 4, 3), bias=bias, replicas=replicas).randomise_(1.0, generator=generator)
    for rows in (states(5)[:7], states(5)[:7].expand(*replicas, 7, 5)):
        for samples in (None, 2):
            assert [z.shape for z in recognise(machine, rows, samples, generator=generator)] == [(*replicas, 7, n) for n in (4, 3)]
        assert reconstruct(machine, rows, generator=generator).shape == (*replicas, 7, 5)
        for mask in (HALF, HALF.expand(7, 5), states(5)[-7:]):
            found = complete(machine, rows, mask, 6, particles=9, generator=generator)
            shapes = (*replicas, 7, 6, 5), (*replicas, 7, 5), (*replicas, 7), (*replicas, 7)
            assert isinstance(found, Completion) and tuple(map(torch.Tensor.size, found)) == shapes
            assert complete_gibbs(machine, rows, mask, 6, steps=2, generator=generator).shape == shapes[0]
            known = mask.bool().expand(*replicas, 7, 5)
            assert torch.equal(found.probability[known], rows.expand(*replicas, 7, 5)[known])
        assert exact_completion(machine, rows, HALF).shape == (*replicas, 7, 4)


def test_single_precision_stays(single_precision, generator):
    machine = HelmholtzMachine((5, 4, 3)).randomise_(1.0, generator=generator)
    found = complete(machine, states(5), HALF, generator=generator)
    assert found.samples.dtype == found.probability.dtype == torch.float32
    assert reconstruct(machine, states(5), generator=generator).dtype == torch.float32


def test_replicas_answer_each_for_itself(schooled, generator):
    machine, x = schooled((5, 4, 3), replicas=(2,)), states(5)[[3, 17]]
    found = complete(machine, x, HALF, particles=20_000, generator=generator)
    for k in range(2):
        exact = exact_completion(machine.replica(k), x, HALF)
        assert_close(exact, exact_completion(machine, x, HALF)[k])
        assert_close(found.probability[k][:, ~HALF], exact @ states(2), rtol=0, atol=0.04)


def test_data_are_taken_in_parts_that_fit(schooled, generator, monkeypatch):
    machine, x = schooled((5, 4, 3)), states(5)
    whole = complete(machine, x, HALF, 3, particles=4000, generator=generator)
    monkeypatch.setattr(inference, "BLOCK", 64 * 4000 * 5)
    parts = complete(machine, x, HALF, 3, particles=4000, generator=generator)
    assert [a.shape for a in parts] == [b.shape for b in whole]
    assert_close(parts.probability, whole.probability, rtol=0, atol=0.1)


FORMS = {
    "tensor": lambda x: x,
    "truth values": lambda x: x.bool(),
    "array": lambda x: x.numpy().astype(np.uint8),
    "table": lambda x: pd.DataFrame(x.int().numpy()),
    "lists": lambda x: x.int().tolist(),
    "patterns": Patterns,
}


@pytest.mark.parametrize("form", FORMS)
def test_data_may_come_in_any_form(form):
    machine = HelmholtzMachine((5, 4, 3)).randomise_(1.0, generator=torch.Generator().manual_seed(0))
    rows = torch.cat([states(5)] * 4)  # as many as an image classifier wants
    x, form = states(5)[[3, 17, 30]], FORMS[form]
    g = {"generator": torch.Generator()}
    calls = [
        lambda x: wake(machine, x, **g)[-1],
        lambda x: recognise(machine, x, 3, **g)[-1],
        lambda x: reconstruct(machine, x, **g),
        lambda x: complete(machine, x, form(HALF[None].double()), **g).probability,
        lambda x: complete_gibbs(machine, x, HALF, steps=2, **g),
        lambda x: exact_completion(machine, x, HALF),
        lambda x: hm.log_likelihood(machine, x, 5, **g),
        lambda x: hm.effective_sample_size(machine, x, 5, **g),
        lambda x: hm.ais_log_likelihood(machine, x, 2, 3, **g),
        lambda x: hm.exact_log_likelihood(machine, x),
        lambda x: hm.EarlyStopping(x).x.double(),
        lambda x: hm.upward(machine, x)[-1],
        lambda x: torch.tensor(hm.exact_report(machine, x).value),
        lambda x: torch.tensor(hm.sampled_report(machine, x, samples=80, **g).value),
        lambda x: torch.tensor(hm.losses(machine, x, **g).value),
        lambda x: torch.tensor(hm.train(machine.replica(0), x, hm.TrainConfig(1), **g).value),
        lambda x: meaning.predictive(machine, x)[-1],
        lambda x: meaning.complement(x).bits,
    ]
    for call in calls:
        g["generator"].manual_seed(1)
        expected = call(x)
        g["generator"].manual_seed(1)
        assert_close(call(form(x)), expected)
    classifier = Classifier.trained(form(rows), rows[:, 0].long(), hidden=(4,), epochs=2)
    assert_close(classifier.outputs(form(rows)), classifier.outputs(rows))


def test_what_is_unknown_may_be_missing(random_machine):
    machine, x = random_machine((5, 4, 3)), states(5)[[3, 17, 30]]
    gaps = pd.DataFrame(x.numpy()).where(HALF.expand(3, 5).numpy())  # NaN where unknown
    one, other = (torch.Generator().manual_seed(1) for _ in range(2))
    found = complete(machine, gaps, gaps.notna(), generator=one)
    for a, b in zip(found, complete(machine, x, HALF, generator=other), strict=True):
        assert torch.equal(a, b)
    assert torch.equal(exact_completion(machine, gaps, HALF), exact_completion(machine, x, HALF))


def refused(call):
    """What is said to that."""
    with pytest.raises(ValueError) as caught:
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


X = states(5)[:3]
ODD = {
    "a mask of another width": (lambda m, g: complete(m, X, torch.ones(4), generator=g), "a mask is True where a unit is known"),
    "a mask of other rows": (lambda m, g: complete(m, X, torch.ones(2, 5), generator=g), r"or as one of them, not \(2, 5\)"),
    "a grey mask": (lambda m, g: complete_gibbs(m, X, [0.5] * 5, generator=g), "masks are made of zeros and ones"),
    "a missing value that counts": (lambda m, g: complete(m, X * np.nan, HALF, generator=g), "there is a nan"),
    "another machine's data": (lambda m, g: complete(m, states(4), torch.ones(4), generator=g), "the machine's data layer has 5 units"),
    "no particles": (lambda m, g: complete(m, X, HALF, particles=0, generator=g), "particles is a whole number"),
    "no fillings": (lambda m, g: complete(m, X, HALF, fillings=0, generator=g), "fillings is a whole number"),
    "too many particles": (lambda m, g: complete(m, X, HALF, particles=10**15, generator=g), "make it smaller"),
    "no completions": (lambda m, g: complete(m, X, HALF, 0, generator=g), "count is a whole number"),
    "a seed": (lambda m, g: complete(m, X, HALF, generator=0), "chance comes from a generator"),
    "a seed for passes": (lambda m, g: recognise(m, X, 3, generator=0), "chance comes from a generator"),
    "no passes": (lambda m, g: recognise(m, X, 0, generator=g), "samples is a whole number"),
    "a layer above the top": (lambda m, g: reconstruct(m, X, 3, generator=g), "numbered from 1 to 2: turn back at one of them, not at 3"),
    "the data layer": (lambda m, g: reconstruct(m, X, 0, generator=g), "layer is a whole number of at least 1"),
    "the name of a move": (lambda m, g: complete_gibbs(m, X, HALF, move="gibbs", generator=g), "such as metropolis or gibbs, not 'gibbs'"),
    "no move": (lambda m, g: complete_gibbs(m, X, HALF, move=None, generator=g), "move is a function"),
    "different masks": (lambda m, g: exact_completion(m, X, states(5)[:3]), r"give one mask of shape \(units,\)"),
    "too much to enumerate": (lambda m, g: exact_completion(m, X, HALF, largest=3), "and 2\\^3 is the limit"),
    "a top of another width": (lambda m, g: dream(m, 3, given=[1, 0], generator=g), r"shaped \(3,\) or \(3, 3\), not \(2,\)"),
    "a top of other rows": (lambda m, g: dream(m, 3, given=states(3)[:2], generator=g), r"not \(2, 3\)"),
}


@pytest.mark.parametrize("name", ODD)
def test_what_has_no_meaning_is_refused(random_machine, generator, name):
    provoke, said = ODD[name]
    assert re.search(said, refused(lambda: provoke(random_machine((5, 4, 3)), generator)))
