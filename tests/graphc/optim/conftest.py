"""The backend on which training is tested."""

from __future__ import annotations

import os

import pytest


@pytest.fixture
def backend() -> str:
    """Return the backend; GRAPHC_TEST_BACKEND=reference picks another."""
    return os.environ.get("GRAPHC_TEST_BACKEND", "cpu")
