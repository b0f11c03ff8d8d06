"""Digits in black and white: files are checked before they are used, and the three binarisations stay apart."""

import gzip
import hashlib
import http.server
import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from torch.testing import assert_close

from helmholtz_mim import binarise, digits, grey_digits, grey_mnist, mnist
from helmholtz_mim.data import images
from helmholtz_mim.data.images import FILES, SPLITS, mnist_file, read_idx

SHARED = Path(__file__).parents[2] / "shared/data"
FOLDER = os.environ.get("HELMHOLTZ_MIM_DATA") or str(SHARED)


def has(*names):
    """Whether this machine has a copy of one of those files."""
    return any((Path(FOLDER) / place / name).is_file() for place in ("", "mnist") for name in names)


needs_mnist = pytest.mark.skipif(
    not all(has(name, f"{name}.gz") for name in FILES), reason="no copy of MNIST: name its folder in HELMHOLTZ_MIM_DATA"
)
needs_static = pytest.mark.skipif(
    not has("binarized_mnist.npz"), reason="no copy of binarized_mnist.npz: name its folder in HELMHOLTZ_MIM_DATA"
)


def idx(array):
    """The content of an IDX file of bytes."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


@pytest.fixture
def alone(tmp_path, monkeypatch):
    """No copy, no mirror: only an empty cache, and an empty folder named in the environment."""
    for name in ("cache", "own"):
        (tmp_path / name).mkdir()
    monkeypatch.setattr(images.pooch, "os_cache", lambda project: tmp_path / "cache")
    monkeypatch.setattr(images, "MIRRORS", ["http://127.0.0.1:9/"])
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", str(tmp_path / "own"))
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return tmp_path


@pytest.fixture
def small(alone, monkeypatch):
    """MNIST with few images: its four files by name, with the sums of these."""
    generator, content = np.random.default_rng(0), {}
    for split, count in (("train", 30), ("test", 20)):
        pictures, labels = SPLITS[split]
        content[pictures] = idx(generator.integers(0, 256, (count, 28, 28), np.uint8))
        content[labels] = idx((np.arange(count) % 10).astype(np.uint8))
    packed = {f"{name}.gz": gzip.compress(raw) for name, raw in content.items()}
    sums = {name: tuple(hashlib.md5(raw).hexdigest() for raw in (packed[f"{name}.gz"], content[name])) for name in content}
    monkeypatch.setattr(images, "FILES", sums)
    return content | packed


@pytest.fixture
def mirror(tmp_path, monkeypatch):
    """A mirror on this machine that sends what lies in a folder, behind one that cannot be reached."""
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *args):
            super().__init__(*args, directory=folder)

        def log_message(self, *args):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setattr(images, "MIRRORS", ["http://127.0.0.1:9/", f"http://127.0.0.1:{server.server_port}/"])
        yield folder
        server.shutdown()


# IDX


@given(arrays.arrays(np.uint8, arrays.array_shapes(min_dims=1, max_dims=4, max_side=4)), st.booleans())
def test_idx_files_come_back(tmp_path_factory, array, packed):
    path = tmp_path_factory.mktemp("idx") / "file"
    path.write_bytes(gzip.compress(idx(array)) if packed else idx(array))
    back = read_idx(path)
    assert back.dtype == np.uint8 and np.array_equal(back, array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "gzipped"])
def test_every_truncation_is_refused(tmp_path, pack):
    whole = pack(idx(np.arange(24, dtype=np.uint8).reshape(2, 3, 4)))
    for length in range(len(whole)):
        path = tmp_path / f"first-{length}"
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"^first-{length} (announces|is truncated|is no IDX file)"):
            read_idx(path)


@pytest.mark.parametrize(
    "content",
    [
        b"<html>not found</html>",
        b"\0\0\x08\0\0",  # no dimension
        b"\0\0\x0d" + idx(np.zeros(4, np.uint8))[3:],  # floats
        b"\x01" + idx(np.zeros(4, np.uint8))[1:],
        idx(np.zeros(4, np.uint8)) + b"\0",  # too long
        b"\x1f\x8b no archive",
        gzip.compress(b"something else", mtime=0),
    ],
)
def test_foreign_files_are_refused(tmp_path, content):
    (tmp_path / "file").write_bytes(content)
    with pytest.raises(ValueError, match=r"^file (announces|is truncated|is no IDX file)"):
        read_idx(tmp_path / "file")


# The files of MNIST


@pytest.mark.parametrize("kind", [".gz", ""])
@pytest.mark.parametrize("place", [".", "mnist"])
def test_own_copies_are_found_gzipped_or_not(alone, small, kind, place):
    folder = alone / "own" / place
    folder.mkdir(exist_ok=True)
    for name in FILES:
        (folder / f"{name}{kind}").write_bytes(small[f"{name}{kind}"])
    grey, labels = grey_mnist("test")
    assert grey.shape == (20, 784) and labels.tolist() == [*range(10)] * 2
    assert_close(grey, torch.from_numpy(np.frombuffer(small[SPLITS["test"][0]], np.uint8, offset=16) / 255).reshape(20, 784))


def test_an_own_copy_with_another_sum_is_refused_and_left_alone(alone, small):
    name = SPLITS["test"][0]
    path = alone / "own" / name
    path.write_bytes(small[name][:-1] + b"\1")
    with pytest.raises(ValueError, match=f"{name} in HELMHOLTZ_MIM_DATA is not the published file"):
        mnist("test")
    assert path.is_file()


def test_a_download_is_checked_and_kept(alone, small, mirror):
    name = f"{SPLITS['train'][1]}.gz"
    (mirror / name).write_bytes(small[name])
    path = mnist_file(SPLITS["train"][1])
    assert path.parent == alone / "cache" and path.read_bytes() == small[name]
    (mirror / name).unlink()
    assert mnist_file(SPLITS["train"][1]) == mnist_file(SPLITS["train"][1], download=False) == path


@pytest.mark.parametrize("damage", [lambda raw: raw[:-1], lambda raw: raw[:50] + b"?" + raw[51:], lambda raw: b"<html>"])
def test_a_damaged_download_is_refused_and_not_kept(alone, small, mirror, damage):
    name = SPLITS["test"][0]
    (mirror / f"{name}.gz").write_bytes(damage(small[f"{name}.gz"]))
    with pytest.raises(FileNotFoundError, match="what a mirror sent was damaged, so it was not kept"):
        mnist_file(name)
    assert not list((alone / "cache").iterdir())


def test_a_damaged_file_in_the_cache_is_not_used_but_fetched_again(alone, small, mirror):
    name = SPLITS["test"][0]
    (alone / "cache" / f"{name}.gz").write_bytes(b"damaged")
    with pytest.raises(FileNotFoundError, match="nothing was to be downloaded"):
        mnist_file(name, download=False)
    (mirror / f"{name}.gz").write_bytes(small[f"{name}.gz"])
    assert mnist_file(name).read_bytes() == small[f"{name}.gz"]


def test_without_a_copy_and_a_mirror_one_sentence_says_where_files_go(alone):
    with pytest.raises(FileNotFoundError) as error:
        mnist()
    sentence = str(error.value)
    assert "train-images-idx3-ubyte.gz is not here and no mirror could be reached" in sentence
    assert sentence.endswith("put the four files of MNIST into a folder and name it in HELMHOLTZ_MIM_DATA")


# Binarisations


@pytest.fixture
def here(alone, small):
    for name in FILES:
        (alone / "own" / f"{name}.gz").write_bytes(small[f"{name}.gz"])


def test_thresholds(here):
    grey, _ = grey_mnist("test")
    assert_close(mnist("test").bits, (grey > 0.5).to(grey))
    for threshold in (0.0, 0.25, 0.99):
        assert_close(mnist("test", threshold=threshold).bits, (grey > threshold).to(grey))
    exactly = torch.tensor([[0.0, 0.5, 0.51, 1.0]])
    assert binarise(exactly).bits.tolist() == [[0, 0, 1, 1]]
    for wrong in (-0.1, 1.0, float("nan")):
        with pytest.raises(ValueError, match="threshold lies between 0 and 1"):
            mnist("test", threshold=wrong)


@pytest.mark.parametrize("level", [255.0, -0.1, float("nan")])
def test_grey_levels_lie_between_zero_and_one(level, generator):
    grey = torch.tensor([[0.0, 0.5, level]])
    for black_and_white in (binarise, lambda grey: binarise(grey, generator=generator)):
        with pytest.raises(ValueError, match="grey levels lie between 0 and 1"):
            black_and_white(grey)
        with pytest.raises(ValueError, match="grey levels are real numbers"):
            black_and_white(grey + 1j)
    assert binarise([[0, 1], [1, 0]]).bits.tolist() == binarise(np.eye(2)[::-1], generator=generator).bits.tolist() == [[0, 1], [1, 0]]


def test_dynamic_digits_are_tossed_by_their_grey_level(here, generator):
    grey, _ = grey_mnist("test")
    one, other = (mnist("test", "dynamic", generator=torch.Generator().manual_seed(seed)) for seed in (1, 1))
    assert torch.equal(one.bits, other.bits)
    assert torch.equal(one.bits, binarise(grey, generator=torch.Generator().manual_seed(1)).bits)
    mean = torch.stack([binarise(grey, generator=generator).bits for _ in range(1000)]).mean(0)
    assert_close(mean, grey, rtol=0, atol=6 * 0.5 / 1000**0.5)
    with pytest.raises(ValueError, match="give a generator"):
        mnist("test", "dynamic")


def test_only_some_digits(here):
    grey, labels = grey_mnist("train")
    few, which = grey_mnist("train", digits=(7, 0))
    assert which.tolist() == [0, 7] * 3
    assert_close(few, grey[(labels == 0) | (labels == 7)])
    assert len(mnist("train", digits=[3])) == 3
    for wrong in ((), (10,), (1, 20)):
        with pytest.raises(ValueError, match="choose among the digits 0 to 9"):
            mnist(digits=wrong)


@pytest.mark.parametrize("pack", [lambda bits: bits, lambda bits: np.packbits(bits, axis=1)], ids=["bits", "packed"])
def test_static_digits_come_from_a_file_of_ones_own(alone, pack):
    bits = {name: np.random.default_rng(i).integers(0, 2, (5, 784), np.uint8) for i, name in enumerate(("train", "valid", "test"))}
    np.savez(alone / "own/binarized_mnist.npz", **{name: pack(value) for name, value in bits.items()})
    for split, value in bits.items():
        assert_close(mnist(split, "static").bits, torch.from_numpy(value).double())
    with pytest.raises(ValueError, match="come without labels"):
        mnist("train", "static", digits=(1,))
    with pytest.raises(ValueError, match="no split of the static digits called 'tain': did you mean 'train'"):
        mnist("tain", "static")


def test_a_damaged_static_file_is_refused(alone):
    path = alone / "own/binarized_mnist.npz"
    np.savez(path, train=np.array([{}], dtype=object), valid=np.zeros((2, 784)), test=np.full((2, 784), 0.5))
    assert len(mnist("valid", "static")) == 2
    for split in ("train", "test"):  # a pickle, a grey image
        with pytest.raises(ValueError, match=r"^binarized_mnist\.npz is damaged, or holds no array of bits"):
            mnist(split, "static")
    whole = path.read_bytes()
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=r"^binarized_mnist\.npz is damaged"):
            mnist("valid", "static")


@pytest.mark.parametrize("shape", [(2, 111), (2, 28, 28), (784,)])
def test_static_digits_of_another_size_are_refused(alone, shape):
    np.savez(alone / "own/binarized_mnist.npz", train=np.zeros(shape, np.uint8))
    with pytest.raises(ValueError, match=r"^binarized_mnist\.npz is damaged, or holds no array of bits called 'train'"):
        mnist("train", "static")


def test_no_change_of_a_static_file_is_believed(alone):
    """A bit of every byte flipped: refused in one sentence, or (in the dates and the like of a ZIP) of no consequence."""
    path, bits = alone / "own/binarized_mnist.npz", np.random.default_rng(0).integers(0, 2, (2, 784), np.uint8)
    np.savez(path, train=np.packbits(bits, axis=1))
    whole, refused = path.read_bytes(), 0
    for at, byte in enumerate(whole):
        path.write_bytes(whole[:at] + bytes([byte ^ 1 << at % 8]) + whole[at + 1 :])
        try:
            assert torch.equal(mnist("train", "static").bits, torch.from_numpy(bits).double())
        except ValueError as error:
            assert str(error).startswith("binarized_mnist.npz is damaged, or holds no array of bits")
            refused += 1
    assert refused > 0.7 * len(whole)


def test_without_a_static_file_one_sentence_says_where_it_goes(alone):
    with pytest.raises(FileNotFoundError, match=r"binarized_mnist\.npz .* name the folder in HELMHOLTZ_MIM_DATA$"):
        mnist("test", "static")


@pytest.mark.parametrize("wrong", [dict(split="valid"), dict(split="tset"), dict(binarise="thresh")])
def test_unknown_names_are_met_with_the_nearest(alone, wrong):
    with pytest.raises(ValueError, match="did you mean"):
        mnist(**wrong)


# IDX


def test_an_idx_file_that_is_not_there_is_missed(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*: give one in the IDX format"):
        read_idx(tmp_path / "absent")


# Eight by eight


def test_small_digits():
    world, (grey, labels) = digits(), grey_digits()
    assert (len(world), world.units) == (1797, 64)
    assert_close(world.bits, (grey > 0.5).double())
    assert len(digits(digits=(0, 1))) == (labels < 2).sum()
    assert digits(threshold=0.0).means.sum() > digits(threshold=0.75).means.sum()


def test_without_scikit_learn_one_sentence_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r"pip install 'helmholtz_mim\[images\]'$"):
        digits()


# The real files


@pytest.fixture
def real(monkeypatch):
    monkeypatch.setenv("HELMHOLTZ_MIM_DATA", FOLDER)


@needs_mnist
def test_the_published_files(real):
    for split, count, mean in (("train", 60_000, 0.13066), ("test", 10_000, 0.13251)):
        grey, labels = grey_mnist(split, download=False)
        assert grey.shape == (count, 784) and labels.unique().tolist() == [*range(10)]
        assert abs(grey.mean().item() - mean) < 5e-6
    assert labels[:5].tolist() == [7, 2, 1, 0, 4]
    assert len(mnist("test", digits=(0, 1))) == 980 + 1135


@needs_static
def test_the_static_file(real):
    for split, count, mean in (("train", 50_000, 0.13056), ("valid", 10_000, 0.13113), ("test", 10_000, 0.13251)):
        world = mnist(split, "static")
        assert (len(world), world.units) == (count, 784) and abs(world.bits.mean().item() - mean) < 5e-6


def test_no_images_of_an_absurd_size_are_refused(tmp_path):
    header = bytes([0, 0, 8, 3]) + b"".join(n.to_bytes(4, "big") for n in (2**32 - 1, 2**32 - 1, 0))
    (tmp_path / "absurd").write_bytes(header)
    with pytest.raises(ValueError, match="announces 4294967295 × 4294967295 × 0 bytes"):
        read_idx(tmp_path / "absurd")
