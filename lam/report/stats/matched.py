"""Every family at matched capacity: metrics interpolated along its sweep to one gap closed, or to one number of bits.

Within each seed, and again with each group of clips left out, capacity is made non-decreasing along the knob's order by
isotonic regression, and a metric is interpolated linearly in it between the two knobs around a level. Nothing is
extrapolated: a level that any seed, or any of its resamples, does not bracket has no number.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lam.report.stats.estimates import Replicates, stack
from lam.report.stats.jackknife import Array
from lam.report.stats.measures import BITS, GAP_CLOSED
from lam.report.stats.rows import Comparison, TableRow

LEVELS = {GAP_CLOSED: (0.25, 0.5, 0.75, 0.9), BITS: (2.0, 4.0, 8.0, 16.0)}
"""Levels of each measure of capacity that families are compared at."""


@dataclass(frozen=True)
class Match:
    """A family at one level.

    Attributes:
        family: Its name.
        level: The level of capacity.
        between: The knobs around it in some seed; empty where the level is not bracketed.
        replicates: Metrics there by key; empty where there is no number.
    """

    family: str
    level: float
    between: str
    replicates: dict[str, Replicates]


def match(comparison: Comparison, along: str, keys: list[str]) -> list[Match]:
    """Interpolate all families to all levels of a measure of capacity, level by level."""
    matched = {family: _match_family(comparison, rows, along, keys) for family, rows in comparison.families.items()}
    return [
        Match(family, level, between[index], {key: values[index] for key, values in metrics.items()})
        for index, level in enumerate(LEVELS[along])
        for family, (between, metrics) in matched.items()
    ]


def interpolate(capacity: Array, metric: Array, levels: Array) -> Array:
    """Interpolate a metric to levels of capacity; NaN where they are not bracketed.

    Args:
        capacity: (K,) of K knobs from tight to loose; knobs where it is NaN are passed over.
        metric: (K,), NaN where unknown.
        levels: (V,), where to.
    """
    from scipy.optimize import isotonic_regression

    known = np.isfinite(capacity)
    if known.sum() < 2:
        return np.full(len(levels), np.nan)
    fit = isotonic_regression(capacity[known])
    starts = fit.blocks[:-1]  # knobs that the fit makes equal count as one, with their mean
    pooled = np.add.reduceat(metric[known], starts) / np.diff(fit.blocks)
    interpolated: Array = np.interp(levels, fit.x[starts], pooled, left=np.nan, right=np.nan)
    return interpolated


def _match_family(
    comparison: Comparison, rows: list[TableRow], along: str, keys: list[str]
) -> tuple[list[str], dict[str, list[Replicates]]]:
    """Return the knobs around each level, and each key's number at each level."""
    levels = np.array(LEVELS[along])
    capacity = stack([comparison.replicates(row, along) for row in rows])
    metrics = {key: stack([comparison.replicates(row, key) for row in rows]) for key in keys}
    return _between(rows, capacity, levels), {key: _at_levels(capacity, metric, levels) for key, metric in metrics.items()}


def _at_levels(capacity: Replicates, metric: Replicates, levels: Array) -> list[Replicates]:
    """Interpolate a metric (K, 1 + G, S) to each level; empty where a seed or a resample has no number."""
    if not capacity.seeds or not set(capacity.seeds) <= set(metric.seeds):
        return [Replicates()] * len(levels)
    share = (capacity.share + metric.share) / 2 if len(capacity.share) and len(metric.share) else np.empty(0)
    x = _known_everywhere(capacity)[:, : 1 + len(share)]
    y = metric.values[:, : 1 + len(share), [metric.seeds.index(seed) for seed in capacity.seeds]]
    values = np.empty((len(levels), *x.shape[1:]))
    for place in np.ndindex(x.shape[1:]):
        column = (slice(None), *place)
        values[column] = interpolate(x[column], y[column], levels)
    return [Replicates(capacity.seeds, one, share, capacity.unit) if np.isfinite(one).all() else Replicates() for one in values]


def _known_everywhere(capacity: Replicates) -> Array:
    """Take knobs out of a seed where the capacity of one of its resamples is not known."""
    known = np.isfinite(capacity.values).all(axis=1, keepdims=True)
    return np.where(known, capacity.values, np.nan)


def _between(rows: list[TableRow], capacity: Replicates, levels: Array) -> list[str]:
    """Name the knobs around each level, over all seeds from the tightest to the loosest; empty where a seed has none."""
    seeds: list[Array] = list(_known_everywhere(capacity)[:, 0].T) if capacity.seeds else []
    names = []
    for level in levels:
        pairs = [_around(one, level) for one in seeds]
        if not pairs or None in pairs:
            names.append("")
            continue
        low, high = (rows[pick(place for pair in pairs if pair for place in pair)].knob for pick in (min, max))
        names.append(low if low == high else f"{low} … {high}")
    return names


def _around(capacity: Array, level: float) -> tuple[int, int] | None:
    """Return the places of the outermost knobs that an interpolation to a level uses; None where it is not bracketed."""
    from scipy.optimize import isotonic_regression

    known = np.flatnonzero(np.isfinite(capacity))
    if len(known) < 2:
        return None
    fit = isotonic_regression(capacity[known]).x
    below, above = fit[fit <= level], fit[fit >= level]
    if not len(below) or not len(above):
        return None
    used = known[(fit >= below[-1]) & (fit <= above[0])]
    return int(used[0]), int(used[-1])
