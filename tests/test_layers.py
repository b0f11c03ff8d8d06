"""States and their numbers, coins, and the delta rule."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close

from helmholtz_mim import BinaryLayer, Stream, bernoulli, encode, states
from helmholtz_mim.arguments import number, whole, wholes

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


@pytest.mark.parametrize("n", [27, 40])
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
    with pytest.raises(ValueError, match="is a whole number of at least"):
        BinaryLayer(*shape)


# At the door


@pytest.mark.parametrize("value", [3, np.int64(3), np.uint8(3), torch.tensor(3), np.array(3)])
def test_any_integer_counts(value):
    assert type(whole("epochs", value)) is int and whole("epochs", value) == 3
    assert wholes("replicas", value) == wholes("replicas", [value]) == (3,)


@pytest.mark.parametrize("value", [True, np.True_, torch.tensor(True), 3.0, "3", None, math.nan, 0, -1, [3], 1j])
def test_what_is_no_count_is_refused(value):
    with pytest.raises(ValueError, match=r"^epochs is a whole number of at least 1, not"):
        whole("epochs", value)


@pytest.mark.parametrize("value", [True, "0.5", None, 1j, [1, 2], torch.ones(2)])
def test_what_is_no_number_compares_with_nothing(value):
    assert math.isnan(number(value)) and number(np.float32(0.5)) == number(torch.tensor(0.5)) == 0.5


def test_patterns_too_long_for_a_number_are_refused():
    assert encode(torch.ones(1, 63)).item() == 2**63 - 1
    for bits in (torch.ones(1, 64), torch.tensor(1.0)):
        with pytest.raises(ValueError, match="at most 63 bits"):
            encode(bits)
    for odd in (0.5, 2.0, math.nan):
        with pytest.raises(ValueError, match="binarise them first"):
            encode(torch.tensor([[0.0, odd]]))


@pytest.mark.parametrize("p", [255.0, -0.1, math.nan])
def test_coins_have_a_probability(p, generator):
    with pytest.raises(ValueError, match="lie between 0 and 1"):
        bernoulli(torch.tensor([0.5, p]), generator=generator)
    for wrong in (0.5, [0.5], torch.tensor([1])):
        with pytest.raises(ValueError, match="floating-point numbers"):
            bernoulli(wrong, generator=generator)


@pytest.mark.parametrize("seed", [0, None, "0"])
def test_a_seed_is_no_generator(seed):
    for draw in (lambda: bernoulli(torch.ones(2), generator=seed), lambda: Stream((), generator=seed)):
        with pytest.raises(ValueError, match=r"torch\.Generator\(\)\.manual_seed"):
            draw()


def test_layers_say_what_they_read():
    layer = BinaryLayer(3, 2, replicas=4)
    assert layer.weight.shape == (4, 2, 3)
    for x in (torch.ones(5, 2), torch.ones(5, 3).float(), [[1, 0, 1]]):
        with pytest.raises(ValueError, match=r"reads tensors \(\*replicas, batch, 3\) of torch.float64"):
            layer(x)
    for call in (layer.log_prob, lambda y, x: layer.learn_(y, x, 0.1)):
        for y in (torch.ones(4, 5, 1), torch.ones(4, 6, 2), None):
            with pytest.raises(ValueError, match="of this layer"):
                call(y, torch.ones(4, 5, 3))


@pytest.mark.parametrize("options", [dict(n_in=2.0), dict(n_out=True), dict(bias=1), dict(replicas=(2.0,)), dict(n_in=10**12, n_out=10**6)])
def test_impossible_layers_are_refused(options):
    with pytest.raises(ValueError, match=r"whole number|True or False|this computer has"):
        BinaryLayer(**dict(n_in=2, n_out=2) | options)


@pytest.mark.parametrize("options", [dict(lr=None), dict(lr="0.1"), dict(lr=0.1, weights=[1]), dict(lr=0.1, weights=torch.ones(3))])
def test_a_step_takes_numbers(options):
    layer = BinaryLayer(3, 2)
    with pytest.raises(ValueError, match="a step takes a finite number lr"):
        layer.learn_(torch.ones(5, 2), torch.ones(5, 3), **options)
    assert not layer.weight.any()


def test_a_step_of_another_shape_is_refused_and_changes_nothing():
    layer = BinaryLayer(3, 2, bias=True)
    for y, lr in ((torch.ones(4, 5, 2), 0.1), (torch.ones(5, 2), math.inf), (torch.ones(5, 2), math.nan), (torch.ones(5, 2), "0.1")):
        with pytest.raises(ValueError, match="a step takes a finite number lr"):
            layer.learn_(y, torch.ones(5, 3), lr)
    with pytest.raises(ValueError, match="a step takes a finite number lr"):
        BinaryLayer(0, 1, bias=True).learn_(torch.ones(2, 1) * 1j, torch.ones(2, 0), 0.1)
    with pytest.raises(ValueError, match="and a row for each input"):
        layer.learn_(torch.ones(0, 2), torch.ones(0, 3), 0.1)
    assert not layer.weight.any() and not layer.bias.any()


@pytest.mark.parametrize("x", [torch.ones(3), torch.tensor(1.0), None])
def test_a_layer_reads_batches(x):
    with pytest.raises(ValueError, match=r"reads tensors \(\*replicas, batch, 3\)"):
        BinaryLayer(3, 2, bias=True, replicas=2)(x)
