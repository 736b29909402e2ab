"""Kernels: compiled once, found again, known by what they do."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import numpy as np
import pytest

PRELUDE_PARENT = Path(__file__).parents[3] / "backends" / "cpu"
sys.path.insert(0, str(PRELUDE_PARENT))

from prelude import native  # noqa: E402
from prelude.kernel import Kernel, address, kernel  # noqa: E402

# The package's own name `kernel` is the decorator.
module = sys.modules["prelude.kernel"]

SCALE = 3


@kernel
def scaled(args, t, nt):
    """Write SCALE * i into the share's part."""
    n = args[0]
    for i in range(t * n // nt, (t + 1) * n // nt):
        args[1 + i] = SCALE * i


@pytest.fixture
def cache(tmp_path: Path):
    """Use an empty cache folder; forget what is loaded."""
    native.set_cache_folder(tmp_path)
    yield tmp_path
    native._folder.clear()


def fresh(function, **options) -> Kernel:
    """Return a kernel whose machine code nobody has loaded yet."""
    made = Kernel(function, **options)
    module._LOADED.pop(made.key, None)
    return made


def test_kernel_computes_its_share():
    args = np.array([10] + [-1] * 10, np.int64)
    scaled(args, 1, 2)
    assert args[1:].tolist() == [-1] * 5 + [15, 18, 21, 24, 27]
    scaled(args, 0, 2)
    assert args[1:].tolist() == list(range(0, 30, 3))


def test_decorator_compiles_nothing():
    @kernel
    def wrong(args, t, nt):
        args.no_such_attribute()

    assert repr(wrong) == "<kernel wrong>"
    with pytest.raises(native.NativeError, match=r"kernel wrong \(.*test_kernel.py"):
        address(wrong)


def test_kernel_is_found_in_the_cache(cache):
    first = fresh(scaled.function)
    assert not first.from_cache
    assert first.compile_seconds > 0
    again = fresh(scaled.function)
    assert again.from_cache
    assert len(list(cache.iterdir())) == 1


def test_cached_kernel_is_found_by_its_key(cache):
    key = fresh(scaled.function).key
    assert module.cached_address(key) is None
    expected = address(Kernel(scaled.function))
    assert module.cached_address(key) == expected
    del module._LOADED[key]
    assert module.cached_address(key)
    assert module.cached_address("0" * 40) is None


def test_damaged_cache_file_is_replaced(cache):
    address(fresh(scaled.function))
    (file,) = cache.iterdir()
    for data in (b"", b"rubbish", file.read_bytes()[:-1]):
        file.write_bytes(data)
        assert not fresh(scaled.function).from_cache
        assert fresh(scaled.function).from_cache


def test_unusable_cache_folder_costs_only_the_cache(tmp_path):
    not_a_folder = tmp_path / "file"
    not_a_folder.write_text("")
    try:
        native.set_cache_folder(not_a_folder)
        assert not fresh(scaled.function).from_cache
        native.set_cache_folder(None)
        assert not fresh(scaled.function).from_cache
    finally:
        native._folder.clear()


SCRIPT = dedent("""
    import sys
    from prelude.kernel import kernel
    @kernel
    def k(args, t, nt):
        args[0] = t + 7
    print(k.from_cache, "numba" in sys.modules)
""")


def start_script(folder: Path) -> subprocess.Popen[str]:
    file = folder / "script.py"
    file.write_text(SCRIPT)
    environment = os.environ | {
        "PYTHONPATH": str(PRELUDE_PARENT),
        "GRAPHC_CACHE_DIR": str(folder),
    }
    return subprocess.Popen(
        [sys.executable, str(file)], env=environment, stdout=subprocess.PIPE, text=True
    )


def test_two_processes_may_compile_at_once_and_a_third_needs_no_numba(tmp_path):
    both = [start_script(tmp_path) for _ in range(2)]
    assert [process.communicate()[0].split()[1] for process in both] == ["True"] * 2
    assert start_script(tmp_path).communicate()[0].split() == ["True", "False"]


def test_equal_kernels_share_their_code():
    def one(args, t, nt):
        """A docstring."""
        total = args[0]
        args[1] = total + 1

    def other(args, t, nt):
        # another name, another comment, another variable
        value = args[0]
        args[1] = value + 1

    assert Kernel(one).key == Kernel(other).key
    assert address(Kernel(one)) == address(Kernel(other))


def test_constants_options_and_callees_tell_kernels_apart():
    def make(value):
        def k(args, t, nt):
            args[0] = int(args[1] * value)

        return k

    def with_literal(args, t, nt):
        args[0] = int(args[1] * 0.0)

    def with_negative_literal(args, t, nt):
        args[0] = int(args[1] * -0.0)

    def helper_1(x):
        return x + 1

    def helper_2(x):
        return x + 2

    def calling(helper):
        def k(args, t, nt):
            args[0] = helper(args[1])

        return k

    kernels = [
        Kernel(make(0.0)),
        Kernel(make(-0.0)),
        Kernel(make(0)),
        Kernel(make(0.0), unroll=True),
        Kernel(with_literal),
        Kernel(with_negative_literal),
        Kernel(calling(helper_1)),
        Kernel(calling(helper_2)),
    ]
    assert len({each.key for each in kernels}) == len(kernels)


def test_globals_are_part_of_a_kernel(monkeypatch):
    key = Kernel(scaled.function).key
    monkeypatch.setitem(globals(), "SCALE", 4)
    assert Kernel(scaled.function).key != key


def test_division_by_zero_is_infinite_and_nan_stays():
    @kernel
    def divide(args, t, nt):
        x = float(args[0]) / float(args[1])
        y = x - x
        args[2] = x > 1e308
        args[3] = y != y

    args = np.array([1, 0, 0, 0], np.int64)
    divide(args)
    assert args.tolist() == [1, 0, 1, 1]


def test_llvm_and_assembly_bear_the_kernels_name():
    assert "define" in scaled.llvm
    assert "@scaled(" in scaled.llvm
    assert scaled.asm.startswith("scaled:")
    assert scaled.symbol not in scaled.llvm + scaled.asm
