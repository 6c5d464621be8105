"""Wilson's interval of a share of independent trials (https://doi.org/10.1080/01621459.1927.10502953)."""

from __future__ import annotations

import math

NORMAL_95 = 1.959963984540054


def wilson(share: float, trials: float, quantile: float = NORMAL_95) -> tuple[float, float]:
    """Return both ends of Wilson's interval.

    Args:
        share: The share, 0 to 1.
        trials: How many, which need not be whole.
        quantile: How many standard errors the interval reaches to either side.
    """
    weight = quantile**2 / trials
    middle = (share + weight / 2) / (1 + weight)
    half = quantile / (1 + weight) * math.sqrt(share * (1 - share) / trials + weight / (4 * trials))
    return max(0.0, middle - half), min(1.0, middle + half)
