"""Comparing the best of many rows with all others, at a level that holds however many there are.

Two claims, two errors. That a row is *the best* takes its separation from every other row, which needs no correction: a false
claim must win every comparison (an intersection-union test, https://doi.org/10.1080/00401706.1982.10487790). That other rows
are *worse than the best* are many claims at once about a row that was picked for its luck: among 16 equal rows some row is
called worse in 79 % of cases at 5 % a comparison. Their p-values are multiplied by the number of pairs of rows (Bonferroni over
all pairs, since any of them could have come first).

Three seeds tell little of one row's variance over seeds (a t quantile of 4.3, of 24 after the correction for 8 rows). Rows lend
each other what they know of it, as far as they agree (Smyth's moderated t, https://doi.org/10.2202/1544-6115.1027).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lam.report.stats.estimates import Mean, Replicates, combine, p_value
from lam.report.stats.jackknife import ONE_SOURCE, Array, pseudo_values

ENOUGH_ROWS = 4
"""Fewer do not tell how much variances differ from row to row, so each keeps its own."""


class Moderated(NamedTuple):
    """Variances of rows drawn to what they have in common.

    Attributes:
        variance: (K,).
        freedom: Degrees of freedom of each.
    """

    variance: Array
    freedom: float


def compare_with_best(replicates: Sequence[Replicates], best: int) -> Array:
    """Return two-sided p-values (K,) of the best row's difference from each; NaN for itself and where nothing can be tested."""
    own = [one.means.var(-1, ddof=1) if len(one.seeds) > 1 else np.nan for one in replicates]
    seeds = max(len(one.seeds) for one in replicates)
    moderated = moderate(np.array(own, dtype=float), seeds - 1)
    p = np.full(len(replicates), np.nan)
    for place, one in enumerate(replicates):
        if place != best:
            over_seeds = moderated.variance[[best, place]]
            p[place] = _paired(combine([replicates[best], one], np.subtract), over_seeds, moderated.freedom)
    return p


def adjust(p: Array) -> Array:
    """Multiply p-values (K,) of comparisons with a row that was picked from the data by the number of pairs of K rows."""
    adjusted: Array = np.minimum(p * (len(p) * (len(p) - 1) / 2), 1.0)
    return adjusted


def moderate(variances: Array, freedom: int) -> Moderated:
    """Draw variances (K,) of equal degrees of freedom to their common one by as much as they agree with it.

    The common variance s0^2 and the degrees of freedom d0 it is worth come from mean and variance of log variances, which for a
    scaled F distribution are known (Smyth 2004, section 6.2). The sum of all degrees of freedom is the most that there can be.
    """
    from scipy.special import digamma, polygamma

    some = np.isfinite(variances) & (variances > 0)
    if some.sum() < ENOUGH_ROWS or freedom < 1:
        return Moderated(variances, float(freedom))
    logs = np.log(variances[some]) - digamma(freedom / 2) + np.log(freedom / 2)
    excess = float(logs.var(ddof=1) - polygamma(1, freedom / 2))
    most = float(freedom * (some.sum() - 1))
    if excess > 0:
        prior = min(2 * inverse_trigamma(excess), most)
        common = np.exp(logs.mean() + digamma(prior / 2) - np.log(prior / 2))
    else:
        prior, common = most, float(np.exp(logs.mean()))
    drawn = np.where(some, (prior * common + freedom * variances) / (prior + freedom), variances)
    return Moderated(drawn, prior + freedom)


def inverse_trigamma(value: float) -> float:
    """Return x > 0 with trigamma(x) = value, by Newton's method on 1 / trigamma (Smyth 2004, appendix)."""
    from scipy.special import polygamma

    x = 0.5 + 1 / value
    for _ in range(50):
        trigamma = float(polygamma(1, x))
        step = trigamma * (1 - trigamma / value) / float(polygamma(2, x))
        x += step
        if abs(step) < 1e-9 * x:
            break
    return x


def _paired(difference: Replicates, over_seeds: Array, freedom: float) -> float:
    """Test that a difference of two rows is 0, by its own variance over clips and the rows' moderated variances over seeds.

    Args:
        difference: The two rows' difference.
        over_seeds: Each row's variance over seeds, (2,), NaN with one seed.
        freedom: Their degrees of freedom.
    """
    if not difference.seeds or difference.unit == ONE_SOURCE:
        return float("nan")
    seeds = len(difference.seeds)
    parts, freedoms = [], []
    if len(difference.share):
        values = pseudo_values(difference.values, difference.share)
        clip_means = values.mean(-1)
        rest = values - clip_means[:, None] - values.mean(-2)[None] + values.mean()
        n = len(clip_means)
        of_rest = np.square(rest).sum() / ((n - 1) * (seeds - 1)) if seeds > 1 else 0.0
        parts.append(max(clip_means.var(ddof=1) / n - of_rest / (n * seeds), 0.0))  # variances over seeds have the rest too
        freedoms.append(n - 1.0)
    if seeds > 1:
        parts += list(over_seeds / seeds)
        freedoms += [freedom] * 2
    if not parts:
        return float("nan")
    variance = sum(parts)
    worth = sum(part**2 / each for part, each in zip(parts, freedoms, strict=True))
    total = np.array(variance**2 / worth if worth > 0 else min(freedoms))
    return float(p_value(Mean(np.array(difference.means.mean()), np.sqrt(np.array(variance)), total)))
