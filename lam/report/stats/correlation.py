"""Rank correlations across rows whose numbers are themselves uncertain.

Spearman's coefficient. Two things make it uncertain: there are few rows (Bonett and Wright 2000,
https://doi.org/10.1007/BF02294183), and each row's numbers come from some clips and seeds. Close rows change places when those
are drawn again, so a coefficient of the means alone claims an order that nobody measured.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from lam.metrics.wilson import NORMAL_95
from lam.report.stats.estimates import Replicates
from lam.report.stats.jackknife import ONE_SOURCE, Array, pseudo_values

DRAWS = 500
LEAST_RELIABILITY = 0.2
"""Less is not told from none: the correction would divide by noise."""

FEWEST = 4
"""Rows without which there is no interval."""


class Correlation(NamedTuple):
    """Spearman's coefficient of n pairs with its 95 % interval; NaN where there is none.

    Attributes:
        value: The coefficient: of numbers that are known, or the mean over draws of those that are not.
        n: Pairs.
        low: Lower end.
        high: Upper end.
        z: Fisher's z of the coefficient, to combine settings by.
        error: Standard error of z.
        kept: Share of the true numbers' coefficient that the errors of the observed ones leave.
    """

    value: float
    n: int
    low: float = float("nan")
    high: float = float("nan")
    z: float = float("nan")
    error: float = float("nan")
    kept: float = 1.0

    @property
    def holds_zero(self) -> bool:
        """Whether no direction is told: the interval holds 0, or there is none."""
        return not (self.low > 0 or self.high < 0)


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Compute Spearman's coefficient of numbers that are known; Fisher's z has variance (1 + r^2 / 2) / (n - 3).

    There is no coefficient where one side has no two different numbers, and no interval for n < 4 or perfect agreement, of
    which the formula says that it is certain.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(x), np.asarray(y)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(float("nan"), len(x))
    r = float(np.clip(spearmanr(x, y).statistic, -1, 1))
    if len(x) < FEWEST or abs(r) > 1 - 1e-12:
        return Correlation(r, len(x))
    z, error = float(np.arctanh(r)), float(np.sqrt((1 + r**2 / 2) / (len(x) - 3)))
    return Correlation(r, len(x), float(np.tanh(z - NORMAL_95 * error)), float(np.tanh(z + NORMAL_95 * error)), z, error)


def uncertain_correlation(x: Array, y: Array, errors_x: Array, errors_y: Array) -> Correlation:
    """Compute Spearman's coefficient of numbers that are known up to errors, of which there are draws.

    Errors are drawn once more on top of those that the numbers have, so the mean coefficient is nearer to 0 than the observed
    one, which is nearer to 0 than that of the true numbers. The interval takes in the quantiles of those draws, to which the
    spread of having so few rows is added, and the ends of the observed coefficient's interval after Spearman's correction for
    attenuation (1904, https://doi.org/10.2307/1412159). Simulations are in ``tests/report/test_correlation.py``.

    Args:
        x: (n,).
        y: (n,).
        errors_x: Errors of x, (draws, n); NaN where they are not known, and then there is no interval.
        errors_y: Errors of y, of the same draws.
    """
    n = len(x)
    observed = rank_correlation(x, y)
    if np.isnan(observed.value) or np.isnan(errors_x).any() or np.isnan(errors_y).any():
        return Correlation(observed.value, n)
    r = _spearman(x + errors_x, y + errors_y)
    value = float(r.mean())
    if n < FEWEST:
        return Correlation(value, n)
    most = 1 - 3 / (n * (n**2 - 1))  # between perfect agreement and one exchange of neighbors
    z, z_observed = np.arctanh(np.clip(r, -most, most)), float(np.arctanh(np.clip(observed.value, -most, most)))
    few_rows = np.sqrt((1 + r**2 / 2) / (n - 3))
    spread = z + few_rows * np.random.default_rng(0).standard_normal(len(z))
    low, high = np.tanh(np.quantile(spread, [0.025, 0.975]))
    error = float(np.sqrt(z.var() + np.mean(few_rows**2)))
    kept = float(np.sqrt(_reliability(x, errors_x) * _reliability(y, errors_y)))
    ends = (float(low), float(high), *corrected_ends(z_observed, error, kept), value)
    return Correlation(value, n, min(ends), max(ends), z_observed, error, kept)


def corrected_ends(z: float, error: float, kept: float) -> tuple[float, float]:
    """Return the ends of a coefficient's 95 % interval, in Fisher's z, after the correction for attenuation.

    Args:
        z: Fisher's z of the observed coefficient.
        error: Its standard error.
        kept: Share of the true coefficient that the errors leave.
    """
    low, high = (float(np.clip(np.tanh(z + sign * NORMAL_95 * error) / kept, -1, 1)) for sign in (-1, 1))
    return low, high


def difference(first: Correlation, second: Correlation, between: float) -> tuple[float, float]:
    """Return the 95 % interval of first - second, coefficients of one variable with two others; NaN where one has none.

    After Zou (2007, https://doi.org/10.1037/1082-989X.12.4.399).

    Args:
        first: Coefficient of the shared variable with one.
        second: Coefficient of the shared variable with the other.
        between: Coefficient of the two others.
    """
    r, s = first.value, second.value
    spread = (1 - r**2) * (1 - s**2)
    if np.isnan([first.low, second.low, between]).any() or not spread:
        return float("nan"), float("nan")
    joint = ((between - r * s / 2) * (1 - r**2 - s**2 - between**2) + between**3) / spread  # of both estimates
    joint = float(np.clip(joint, -1, 1))
    lower, upper = (r - first.low, second.high - s), (first.high - r, s - second.low)
    low, high = (np.sqrt(max(0.0, a**2 + b**2 - 2 * joint * a * b)) for a, b in (lower, upper))
    return r - s - float(low), r - s + float(high)


def draw_errors(rows: Sequence[Sequence[Replicates]]) -> list[Array]:
    """Draw errors of several numbers of several rows: clips are shared by all of them, seeds by the numbers of a row.

    A draw gives every group of clips, and every seed of a row, a normal weight; groups and seeds move a mean by their weight
    times their distance from it, so that variances and correlations over clips are those of the jackknife.

    Args:
        rows: Numbers of each row, the same ones in each, all with seeds.

    Returns:
        Of each number (draws, rows); NaN for a row with neither clips nor several seeds, or of one source.
    """
    rng = np.random.default_rng(0)
    most = max((len(one.share) for numbers in rows for one in numbers), default=0)
    of_clips = rng.standard_normal((DRAWS, most))
    errors = [np.empty((DRAWS, len(rows))) for _ in rows[0]]
    for place, numbers in enumerate(rows):
        seeds = sorted({seed for one in numbers for seed in one.seeds})
        of_seeds = rng.standard_normal((DRAWS, len(seeds)))
        for key, one in enumerate(numbers):
            errors[key][:, place] = _error(one, of_clips, of_seeds[:, [seeds.index(seed) for seed in one.seeds]])
    return errors


def _error(one: Replicates, of_clips: Array, of_seeds: Array) -> Array:
    """Return errors (draws,) of a mean by the weights (draws, G) of groups of clips and (draws, S) of its seeds."""
    if one.unit == ONE_SOURCE or not (len(one.share) or len(one.seeds) > 1):
        return np.full(len(of_clips), np.nan)
    error = np.zeros(len(of_clips))
    if len(one.share):
        clips = pseudo_values(one.values, one.share).mean(-1)
        weights = of_clips[:, : len(one.share)][:, one.share > 0]
        error += weights @ (clips - clips.mean()) / np.sqrt(len(clips) * (len(clips) - 1))
    if (seeds := len(one.seeds)) > 1:
        error += of_seeds @ (one.means - one.means.mean()) / np.sqrt(seeds * (seeds - 1))
    return error


def _reliability(x: Array, errors: Array) -> float:
    """Estimate which share of the variance of observed x (n,) is not error, from how drawing errors again exchanges ranks.

    For normal numbers with errors of v times their variance, x and x with another error correlate by 1 / sqrt(1 + v).
    """
    again = float(_spearman(x[None], x + errors).mean())
    squared = max(2 * np.sin(np.pi * again / 6), 1e-3) ** 2  # Pearson's of a normal pair with this coefficient of Spearman's
    return float(np.clip(2 - 1 / squared, LEAST_RELIABILITY, 1))


def _spearman(x: Array, y: Array) -> Array:
    """Return Spearman's coefficient along the last axis, ties in the middle of theirs."""
    from scipy.stats import rankdata

    a, b = (rankdata(one, axis=-1) for one in (x, y))
    a, b = a - a.mean(-1, keepdims=True), b - b.mean(-1, keepdims=True)
    with np.errstate(invalid="ignore"):
        r: Array = (a * b).sum(-1) / np.sqrt((a**2).sum(-1) * (b**2).sum(-1))
    return np.nan_to_num(np.clip(r, -1, 1))
