"""Intervals of shares, such as of episodes that reached their goal: Wilson's, with fewer trials where seeds disagree.

Wilson's interval (``lam.metrics.wilson``) stays within 0 and 1 and says what is still possible where
all trials ended alike. Of several seeds in the same episodes the trials are no n x S independent ones: their number is what a
binomial share with the standard error of the two-way variance would have (the design effect of surveys,
https://doi.org/10.1093/jssam/smy019), and the quantile is that of t.
"""

from __future__ import annotations

from lam.metrics.wilson import wilson
from lam.report.stats.jackknife import Array


def share_ends(means: Array, trials: int, standard_error: float, quantile: float) -> tuple[float, float]:
    """Return both ends of the 95 % interval of a share over episodes and seeds.

    Args:
        means: The share of each seed, (S,).
        trials: Episodes, the same on all seeds.
        standard_error: Standard error of the mean over episodes and seeds by the two-way variance.
        quantile: Quantile of t at its degrees of freedom.
    """
    share = float(means.mean())
    if len(means) == 1 or standard_error == 0:  # all alike: other seeds have told nothing that one has not
        return wilson(share, trials)
    return wilson(share, min(share * (1 - share) / standard_error**2, float(trials * len(means))), quantile)
