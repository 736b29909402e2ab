"""Makes the table of this folder importable, as `torch_table`."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parent))
