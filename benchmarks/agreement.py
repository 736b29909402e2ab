"""That all peers compute the same: compared before anything is timed.

A formula's results are compared, or the losses of the first three steps of training:
the first proves the same network and weights, the others the same gradients and
optimiser.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from benchmarks.networks import Array

# Relative to the largest element. Float32 has 6e-8; sums of some thousand terms in
# another order differ by some 1e-6, and steps of training carry that on.
TOLERANCE = 1e-4


class DisagreementError(Exception):
    """Say which peers compute something else, of which workload."""


def check(workload: str, found: Mapping[str, Sequence[Array]]) -> None:
    """Compare what all peers found with what the first one found.

    Raises:  DisagreementError naming the workload, the peers and the difference.
    """
    (first, expected), *others = found.items()
    for array in expected:
        if not np.isfinite(array).all():
            raise DisagreementError(f"{workload}: {first} finds what is not finite")
    for peer, arrays in others:
        for i, (a, b) in enumerate(zip(expected, arrays, strict=True)):
            if a.shape != b.shape:
                raise DisagreementError(
                    f"{workload}: result {i} is {a.shape} in {first}, "
                    f"{b.shape} in {peer}"
                )
            scale = float(np.abs(a).max())
            worst = float(np.abs(a - b).max()) / scale
            if not worst <= TOLERANCE:
                raise DisagreementError(
                    f"{workload}: result {i} of {first} and {peer} differs by "
                    f"{worst:.1e} of its largest element, {scale:.6g}; "
                    f"{TOLERANCE:.0e} is allowed"
                )
