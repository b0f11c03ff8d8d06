"""States and their numbers, coins, and the delta rule."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import BinaryLayer, bernoulli, encode, states

seeds = st.integers(0, 2**32)
stacks = st.lists(st.integers(1, 3), max_size=2).map(tuple)


def random_layer(n_in, n_out, generator, **options):
    layer = BinaryLayer(n_in, n_out, **options).double()
    for tensor in layer.state_dict().values():
        tensor.normal_(std=2, generator=generator)
    return layer


def coins(shape, generator):
    return torch.randint(0, 2, shape, generator=generator).double()


@given(st.integers(0, 14))
def test_encode_numbers_the_states(n):
    assert states(n).shape == (2**n, n)
    assert torch.equal(encode(states(n)), torch.arange(2**n))


@given(st.integers(1, 60).flatmap(lambda n: st.lists(st.booleans(), min_size=n, max_size=n)))
def test_encode_reads_a_row_as_a_binary_number(row):
    assert encode(torch.tensor(row).double()).item() == int("".join("01"[b] for b in row), 2)


@given(st.lists(st.lists(st.booleans(), min_size=9, max_size=9), min_size=1, max_size=5))
def test_states_undo_encode(rows):
    bits = torch.tensor(rows).double()
    assert torch.equal(states(9)[encode(bits)], bits)


@pytest.mark.parametrize("n", [-1, 27, 40])
def test_states_refuse_other_widths(n):
    with pytest.raises(ValueError, match="too many states"):
        states(n)


def test_certain_coins_are_certain(generator):
    p = torch.tensor([0.0, 1.0]).expand(10_000, 2)
    assert torch.equal(bernoulli(p, generator=generator), p)


def test_coins_come_up_as_often_as_they_should(generator):
    p = torch.linspace(0, 1, 11)
    seen = bernoulli(p.expand(150_000, 11), generator=generator).mean(0)
    assert ((seen - p).abs() <= 5.5 * (p * (1 - p) / 150_000).sqrt()).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_coins_keep_shape_and_dtype(dtype, generator):
    p = torch.full((2, 3, 4), 0.5, dtype=dtype)
    tossed = bernoulli(p, generator=generator)
    assert tossed.shape == p.shape and tossed.dtype == dtype


@given(st.integers(0, 5), st.integers(1, 5), st.integers(1, 6), st.booleans(), stacks, seeds)
def test_delta_rule_is_the_gradient_of_the_mean_log_likelihood(n_in, n_out, batch, bias, replicas, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = random_layer(n_in, n_out, generator, bias=bias, replicas=replicas)
    x, y = (coins((*replicas, batch, n), generator) for n in (n_in, n_out))
    parameters = {k: v.clone().requires_grad_() for k, v in layer.state_dict().items()}
    s = x @ parameters["weight"].mT + (parameters["bias"].unsqueeze(-2) if bias else 0)
    (y * s - torch.log1p(s.exp())).sum(-1).mean(-1).sum().backward()
    layer.learn_(y, x, lr=0.3)
    for name, value in layer.state_dict().items():
        assert_close(value, (parameters[name] + 0.3 * parameters[name].grad).detach())


@given(st.tuples(st.integers(1, 3), st.integers(1, 3)), seeds)
def test_replicas_do_not_see_each_other(replicas, seed):
    generator = torch.Generator().manual_seed(seed)
    stack = random_layer(4, 3, generator, bias=True, replicas=replicas)
    x, y = (coins((*replicas, 5, n), generator) for n in (4, 3))
    last = BinaryLayer(4, 3, bias=True).double()
    last.load_state_dict({k: v[-1, -1].clone() for k, v in stack.state_dict().items()})
    for layer, inputs, targets in [(stack, x, y), (last, x[-1, -1], y[-1, -1])]:
        layer.learn_(targets, inputs, lr=0.1)
    assert_close(stack.weight[-1, -1], last.weight)
    assert_close(stack.log_prob(y, x)[-1, -1], last.log_prob(y[-1, -1], x[-1, -1]))


@pytest.mark.parametrize("weight", [-1e6, -800.0, 800.0, 1e6])
def test_log_prob_stays_finite_at_huge_logits(weight):
    layer = BinaryLayer(1, 1)
    layer.weight.fill_(weight)
    on = torch.ones(1, 1)
    assert_close(layer.log_prob(on, on), torch.tensor([min(weight, 0.0)]))
    assert_close(layer.log_prob(1 - on, on), torch.tensor([min(-weight, 0.0)]))


@given(st.integers(0, 6), st.integers(1, 6), st.booleans(), stacks, seeds)
def test_a_new_layer_is_as_surprised_as_a_coin(n_in, n_out, bias, replicas, seed):
    generator = torch.Generator().manual_seed(seed)
    layer = BinaryLayer(n_in, n_out, bias=bias, replicas=replicas)
    x, y = (coins((*replicas, 4, n), generator) for n in (n_in, n_out))
    assert_close(-layer.log_prob(y, x), torch.full((*replicas, 4), n_out * math.log(2)))


@given(st.integers(1, 4), st.integers(1, 4), seeds)
def test_likelihoods_of_all_patterns_sum_to_one(n_in, n_out, seed):
    layer = random_layer(n_in, n_out, torch.Generator().manual_seed(seed), bias=True)
    for x in states(n_in):
        assert_close(layer.log_prob(states(n_out), x[None]).exp().sum(), torch.tensor(1.0))


@pytest.mark.parametrize("shape", [(3, 0), (-1, 2)])
def test_layers_without_units_are_refused(shape):
    with pytest.raises(ValueError, match="at least one unit"):
        BinaryLayer(*shape)
