"""What several test files need: double precision, repeatable examples, random machines, a browser."""

import os
import random
import shutil
import signal

import pytest
import torch
from hypothesis import settings

from helmholtz_mim import HelmholtzMachine

settings.register_profile("book", deadline=None, derandomize=True, max_examples=30, database=None)
settings.load_profile("book")

# Seeds of the tests about randomness: one, always the same; TEST_SEED=any draws one, which all processes share,
# TEST_SEED=all takes every one, and a number names one. What such a test claims holds for all of them.
SEEDS = range(20)
if os.environ.get("TEST_SEED") == "any":
    os.environ["TEST_SEED"] = str(random.choice(SEEDS))


def chosen_seeds():
    """The seeds that TEST_SEED asks for."""
    choice = os.environ.get("TEST_SEED", "0")
    return [*SEEDS] if choice == "all" else [int(choice)]


def pytest_configure(config):
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as in the background of a script; some tests send it
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.addinivalue_line("markers", "seeded: takes a seed")
    config.addinivalue_line("markers", "browser: needs a browser")


def pytest_collection_modifyitems(items):
    """Mark the tests that take a seed or a browser, so that they can be chosen by it."""
    for item in items:
        for fixture, mark in {"seed": "seeded", "browser": "browser"}.items():
            if fixture in getattr(item, "fixturenames", ()):
                item.add_marker(mark)


@pytest.fixture(autouse=True)
def double_precision():
    """Tests compare to many digits; a test of float32 asks for it."""
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


@pytest.fixture
def single_precision():
    """The precision a program starts with."""
    torch.set_default_dtype(torch.float32)


@pytest.fixture(params=chosen_seeds(), ids="seed{}".format)
def seed(request):
    """A seed; whoever draws takes it, or the generator made from it."""
    return request.param


@pytest.fixture
def generator(seed):
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def random_machine(seed):
    """A function that makes a machine with random weights and biases."""

    def make(sizes, seed=seed, scale=1.0, **options):
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


@pytest.fixture(scope="module")
def browser():
    """A headless Chromium; tests without one are skipped, unless REQUIRE_BROWSER=1 says that there is one."""
    try:
        from playwright.sync_api import sync_playwright

        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        if not chromium:
            raise ImportError("no chromium: install it with your system's package manager")
    except ImportError as error:
        if os.environ.get("REQUIRE_BROWSER") == "1":
            raise
        pytest.skip(str(error))
    quiet = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as playwright:
        instance = playwright.chromium.launch(executable_path=chromium, args=quiet)
        yield instance
        instance.close()


@pytest.fixture
def ear():
    """A script for a page: its audio device keeps in `clicks` when what sounds, in seconds and hertz, and its clock stands at 5."""
    return """
    window.AudioContext = class {
      currentTime = 5;
      constructor() { window.clicks = []; window.silent = false; }
      createGain() { return { gain: { setValueAtTime() {}, exponentialRampToValueAtTime() {} }, connect: (next) => next }; }
      createOscillator() {
        const tone = { frequency: {}, connect: (next) => next, stop() {}, start: (at) => clicks.push([at, tone.frequency.value]) };
        return tone;
      }
      close() { window.silent = true; }
    }, 0"""
