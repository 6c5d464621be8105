"""Intervals and paired tests where every seed is judged on the same clips: a two-way variance, clips crossed with seeds.

Model: value = mean + clip + seed + rest. A plain bootstrap over three seeds covers about 74 % at a nominal 95 %; these
intervals cover 93 to 98 % with three and five seeds, whatever share of the variance the seeds have (``tests/report``).

Arrays are (..., n, S): n clips (or groups of sources, ``lam.report.stats.jackknife``), S seeds; leading axes are independent
problems.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


class Mean(NamedTuple):
    """A mean over clips and seeds and how well it is known.

    Attributes:
        value: The mean.
        error: Its standard error; NaN where one clip and one seed leave nothing to estimate it from.
        freedom: Degrees of freedom of the t distribution to read it with.
    """

    value: Array
    error: Array
    freedom: Array


def crossed_mean(values: ArrayLike) -> Mean:
    """Mean of (..., n, S) and its standard error from the components of clips, seeds and the rest.

    Components are cut off at 0. Degrees of freedom are Satterthwaite's, with the seeds' component counted twice: its
    estimate from few seeds is by luck too small as often as too large, and only the first makes intervals too narrow. In
    simulation with three seeds this covers 93.6 to 97.9 % where the plain formula covers 92.1 to 97.9 %. Two seeds are too
    few for either (88 % at worst). With one seed, or one clip, it is the textbook t interval over the other.
    """
    y = np.asarray(values, dtype=np.float64)
    n, seeds = y.shape[-2:]
    mean = y.mean((-2, -1))
    clip_means, seed_means = y.mean(-1), y.mean(-2)
    if seeds == 1 or n == 1:
        line = clip_means if seeds == 1 else seed_means
        if line.shape[-1] == 1:
            return Mean(mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan))
        count = line.shape[-1]
        return Mean(mean, line.std(-1, ddof=1) / np.sqrt(count), np.full_like(mean, count - 1.0))
    rest = y - clip_means[..., :, None] - seed_means[..., None, :] + mean[..., None, None]
    ms_clip = seeds * clip_means.var(-1, ddof=1)
    ms_seed = n * seed_means.var(-1, ddof=1)
    ms_rest = np.square(rest).sum((-2, -1)) / ((n - 1) * (seeds - 1))
    clip, seed = np.maximum(ms_clip - ms_rest, 0), np.maximum(ms_seed - ms_rest, 0)
    squares = (
        np.where(clip > 0, ms_clip, 0) ** 2 / (n - 1)
        + np.where(seed > 0, 2 * ms_seed, 0) ** 2 / (seeds - 1)
        + ms_rest**2 / ((n - 1) * (seeds - 1))
    )
    with np.errstate(invalid="ignore"):  # 0 / 0 where all values are equal
        freedom = np.nan_to_num((clip + 2 * seed + ms_rest) ** 2 / squares, nan=0.0)
    freedom = np.maximum(freedom, min(n, seeds) - 1)  # what the smaller of the two has by itself
    return Mean(mean, np.sqrt((clip + seed + ms_rest) / (n * seeds)), freedom)


def half_width(mean: Mean, confidence: float = 0.95) -> Array:
    """Half the width of the interval around a mean; NaN where there is none."""
    from scipy.special import stdtrit  # scipy.stats' t, without the second that scipy.stats takes to import

    return stdtrit(mean.freedom, 0.5 + confidence / 2) * mean.error


def p_value(mean: Mean) -> Array:
    """Two-sided probability of a mean at least this far from 0 if the truth is 0; NaN where it cannot be told."""
    from scipy.special import stdtr

    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(mean.freedom, -np.abs(mean.value / mean.error))
    return np.where((mean.error == 0) & (mean.value == 0), 1.0, p)
