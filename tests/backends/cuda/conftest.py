"""The scenarios, loaded here, and run in Numba's CUDA simulator in a process."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

SCENARIOS = Path(__file__).with_name("scenarios.py")


@pytest.fixture(scope="session")
def scenarios() -> Any:
    """The module scenarios.py."""
    spec = importlib.util.spec_from_file_location("cuda_scenarios", SCENARIOS)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["cuda_scenarios"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def simulate() -> Any:
    """Return a function that runs scenarios by name in the simulator."""

    def run(*names: str) -> None:
        done = subprocess.run(
            [sys.executable, str(SCENARIOS), *names],
            env=os.environ | {"NUMBA_ENABLE_CUDASIM": "1"},
            capture_output=True,
            text=True,
            timeout=280,
            check=False,
        )
        assert done.returncode == 0, done.stdout + done.stderr

    return run
