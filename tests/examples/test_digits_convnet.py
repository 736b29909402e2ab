"""The convolutional digits in a small form, and the reader of MNIST's files."""

from __future__ import annotations

import gzip
import importlib.util
import struct
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

PATH = Path(__file__).resolve().parents[2] / "examples" / "digits_convnet.py"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    """The example as a module; importing it trains nothing."""
    spec = importlib.util.spec_from_file_location("digits_convnet", PATH)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def idx(array: np.ndarray[Any, Any]) -> bytes:
    """Return bytes as a file in the IDX format."""
    head = bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    return head + array.astype(np.uint8).tobytes()


def write(folder: Path, example: ModuleType, zipped: bool, n: int = 90) -> None:
    """Write images whose digit is told by which rows are bright."""
    rng = np.random.default_rng(0)
    for k, name in enumerate(example.NAMES[::2]):
        labels = rng.integers(0, 10, n)
        images = rng.integers(0, 60, (n, 28, 28))
        for image, label in zip(images, labels, strict=True):
            image[4 + 2 * label : 6 + 2 * label] += 180
        for array, file in ((images, name), (labels, example.NAMES[2 * k + 1])):
            content = idx(array)
            if zipped:
                (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            else:
                (folder / file).write_bytes(content)


def test_a_few_epochs_teach_most_of_the_digits(example: ModuleType) -> None:
    assert example.main(epochs=4, least=0.85) >= 0.85


@pytest.mark.parametrize("zipped", [False, True])
def test_mnist_is_read_from_a_folder(
    example: ModuleType, tmp_path: Path, zipped: bool
) -> None:
    write(tmp_path, example, zipped)
    images, labels, new_images, new_labels = example.mnist(tmp_path)
    assert images.shape == new_images.shape == (90, 1, 28, 28)
    assert images.dtype == np.float32
    assert 0.9 < images.max() <= 1
    assert labels.dtype == new_labels.dtype == np.int32
    rows = images[:, 0].mean(2).argmax(1)
    np.testing.assert_array_equal((rows - 4) // 2, labels)


def test_an_accuracy_that_is_not_reached_ends_the_example(
    example: ModuleType, tmp_path: Path
) -> None:
    write(tmp_path, example, False)
    with pytest.raises(SystemExit, match=r"not reached: .* is under 101\.0%"):
        example.main(epochs=1, folder=tmp_path, least=1.01)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\x89PNG....", "is no IDX file of bytes: it starts with 89 50 4e 47"),
        (b"\0\0\x08", "is no IDX file of bytes"),
        (idx(np.zeros((3, 28, 28)))[:-1], r"shape is \(3, 28, 28\), but holds 2351"),
        (b"\0\0\x08\3\0\0\0\1", r"shape is \(1,\), but holds 0"),
        (idx(np.zeros((3, 27, 28))), r"images \(3, 27, 28\) and labels \(90,\)"),
    ],
)
def test_a_damaged_file_is_named(
    example: ModuleType, tmp_path: Path, content: bytes, says: str
) -> None:
    write(tmp_path, example, False)
    (tmp_path / example.NAMES[0]).write_bytes(content)
    with pytest.raises(SystemExit, match=says) as error:
        example.mnist(tmp_path)
    assert str(tmp_path) in str(error.value)


def test_a_missing_or_truncated_archive_is_named(
    example: ModuleType, tmp_path: Path
) -> None:
    with pytest.raises(SystemExit, match="neither train-images-idx3-ubyte nor"):
        example.mnist(tmp_path)
    write(tmp_path, example, True)
    path = tmp_path / f"{example.NAMES[1]}.gz"
    path.write_bytes(path.read_bytes()[:-12])
    with pytest.raises(SystemExit, match="cannot be read"):
        example.mnist(tmp_path)
