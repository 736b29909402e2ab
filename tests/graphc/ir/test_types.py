"""Types: of each dtype there is one object."""

from __future__ import annotations

import copy
import pickle

import pytest

from graphc.ir.types import DTYPES, DType, TensorType


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_copy_of_dtype_is_the_same(dtype: DType) -> None:
    assert copy.deepcopy(dtype) is dtype
    type = TensorType(dtype, (2, 3))
    assert pickle.loads(pickle.dumps(type)) == type
