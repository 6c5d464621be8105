"""Every family at the same gap closed: rows that were trained to the level, interpolation only between close neighbors.

A row within ``NEAR`` of a level stands for its family there, as it is. Where a family has none, numbers are interpolated
between two rows around the level that lie less than ``NARROW`` of the gap apart, linearly in gap closed. Everything else has no
number: rows trained inside wider brackets fell outside the intervals that interpolation over them gave.
``lam sweep --match`` trains rows to levels.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from lam.report.stats.estimates import Replicates, combine
from lam.report.stats.hull import GAP_LEVELS, family_hulls
from lam.report.stats.jackknife import Array
from lam.report.stats.measures import GAP_CLOSED
from lam.report.stats.rows import Comparison, TableRow
from lam.report.stats.usable import competing_rows

NEAR = 0.03
"""Distance from a level, in gap closed, at which a row still stands for it."""

NARROW = 0.1
"""Gap closed that lies between two rows, at most, if numbers are interpolated between them."""

HULL_BITS = "hull_bits"
"""Key of the bits at a level, read off the family's hull."""


@dataclass(frozen=True)
class Match:
    """A family at one level of gap closed.

    Attributes:
        family: Its name.
        level: The level.
        rows: The row that stands for it, or the two that it is interpolated between; empty where it has no number.
        distance: Gap closed of the row less the level; 0 where it is interpolated.
        replicates: Metrics there by key; empty where there is no number.
    """

    family: str
    level: float
    rows: tuple[TableRow, ...]
    distance: float
    replicates: dict[str, Replicates]

    @property
    def name(self) -> str:
        """Knob of the row, or of both."""
        return " … ".join(row.knob or row.name for row in self.rows)


def match(comparison: Comparison, keys: list[str]) -> list[Match]:
    """Match all families at all levels, level by level.

    Args:
        comparison: Rows.
        keys: Metrics to read.
    """
    hulls = family_hulls(comparison)
    found = []
    for level in GAP_LEVELS:
        for family in comparison.families:
            rows, distance = _rows_at(comparison, family, level)
            replicates = {key: _number(comparison, rows, key, level) for key in keys}
            replicates[HULL_BITS] = hulls.bits_at(family, level)
            found.append(Match(family, level, rows, distance, replicates))
    return found


def interpolate(level: float, capacity: tuple[Array, Array], metric: tuple[Array, Array]) -> Array:
    """Interpolate a metric to a level of capacity between two rows, as replicates (1 + G, S).

    The weights are those of the mean over seeds, anew with each group left out. Of a seed it is the mixture of its two numbers,
    moved along the line by what its own capacity is off the level.

    Args:
        level: Where to.
        capacity: Of the two rows, (1 + G, S).
        metric: Of the two rows, (1 + G, S).
    """
    x, y = (np.stack(pair) for pair in (capacity, metric))  # (2, 1 + G, S)
    low, high = x.mean(axis=-1, keepdims=True)
    weight = (level - low) / (high - low)
    slope = np.diff(y.mean(axis=-1, keepdims=True), axis=0)[0] / (high - low)
    mixed = [(1 - weight) * pair[0] + weight * pair[1] for pair in (x, y)]
    values: Array = mixed[1] - slope * (mixed[0] - level)
    return values


def _rows_at(comparison: Comparison, family: str, level: float) -> tuple[tuple[TableRow, ...], float]:
    """Return the rows that stand for a family at a level, and how far the one is from it; none where there are none."""
    closed = [(comparison.estimate(row, GAP_CLOSED).value, row) for row in competing_rows(comparison, family)[0]]
    ordered = sorted((one for one in closed if np.isfinite(one[0])), key=lambda one: one[0])
    if not ordered:
        return (), 0.0
    value, nearest = min(ordered, key=lambda one: abs(one[0] - level))
    if abs(value - level) <= NEAR:
        return (nearest,), value - level
    for (low, below), (high, above) in pairwise(ordered):
        if low < level < high and high - low < NARROW:
            return (below, above), 0.0
    return (), 0.0


def _number(comparison: Comparison, rows: tuple[TableRow, ...], key: str, level: float) -> Replicates:
    """Return a metric of the row, or between the two; empty where one of them or a seed of it lacks the metric."""
    metrics = [comparison.replicates(row, key) for row in rows]
    capacities = [comparison.replicates(row, GAP_CLOSED) for row in rows]
    if not rows or any(set(x.seeds) - set(y.seeds) for x, y in zip(capacities, metrics, strict=True)):
        return Replicates()
    if len(rows) == 1:
        return metrics[0]
    return combine([*capacities, *metrics], lambda a, b, c, d: interpolate(level, (a, b), (c, d)))
