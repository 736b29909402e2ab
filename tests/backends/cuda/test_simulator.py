"""CUDA kernels, run in Numba's simulator, agree with `reference`.

The simulator is chosen when Numba starts, so it runs in processes of its own.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

pytest.importorskip("numba_cuda", reason="numba-cuda is not installed")


@pytest.mark.long
def test_training_step_agrees_with_reference(simulate: Callable[..., None]) -> None:
    simulate("training")


@pytest.mark.long
def test_every_op_agrees_with_reference(simulate: Callable[..., None]) -> None:
    simulate("ops")


@pytest.mark.long
def test_every_primitive_agrees_on_hard_values(simulate: Callable[..., None]) -> None:
    simulate("primitives", "nonfinite")


@pytest.mark.long
def test_contractions_agree_at_ragged_sizes(simulate: Callable[..., None]) -> None:
    simulate("tiles", "batches")


@pytest.mark.long
def test_rows_agree_at_every_width(simulate: Callable[..., None]) -> None:
    simulate("rows")


def test_loops_and_branches_agree(simulate: Callable[..., None]) -> None:
    simulate("loops")


def test_indexing_randomness_and_states_agree(simulate: Callable[..., None]) -> None:
    simulate("indexing", "checks", "draws", "states")
