"""What several test files need: double precision, repeatable examples, random machines."""

import pytest
import torch
from hypothesis import settings

from helmholtz_mim import HelmholtzMachine

settings.register_profile("book", deadline=None, derandomize=True, max_examples=30, database=None)
settings.load_profile("book")


@pytest.fixture(autouse=True)
def double_precision():
    """Tests compare to many digits; a test of float32 asks for it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def generator():
    return torch.Generator().manual_seed(0)


@pytest.fixture
def random_machine():
    """A function that makes a machine with random weights and biases."""

    def make(sizes, seed=0, scale=1.0, **options):
        generator = torch.Generator().manual_seed(seed)
        machine = HelmholtzMachine(sizes, **options).double()
        for tensor in machine.state_dict().values():
            tensor.normal_(std=scale, generator=generator)
        return machine

    return make


def same_weights(one, other, atol=0.0):
    """Whether two machines agree in every weight and bias."""
    a, b = one.state_dict(), other.state_dict()
    return a.keys() == b.keys() and all(torch.allclose(a[k], b[k], rtol=0, atol=atol) for k in a)
