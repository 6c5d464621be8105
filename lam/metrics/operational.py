"""Operational rate of a latent: the fewest measured bits at which a prediction is still good enough.

A file without torch, as the report uses it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def operational_bits(bits: NDArray[np.float64], errors: NDArray[np.float64], target_error: float) -> float:
    """Find the fewest bits at an error of at most ``target_error`` on the lower convex hull of measured points.

    The hull, not the points: coding a share of the transitions by one point and the others by another has the mean bits and
    the mean error of the two, so every chord can be achieved (time sharing). The best mixture has two points at most, so all
    pairs are tried. Nothing is extrapolated.

    Args:
        bits: Mean bits of each point, (n,).
        errors: Mean error of each point, (n,).
        target_error: Largest allowed mean error.

    Returns:
        Bits; NaN where no point is good enough.
    """
    good = errors <= target_error
    if not good.any():
        return float("nan")
    best = bits[good].min()
    if not good.all():
        above, below = (errors[~good] - target_error)[:, None], (target_error - errors[good])[None]
        best = min(best, ((bits[~good][:, None] * below + bits[good][None] * above) / (above + below)).min())
    return float(best)
