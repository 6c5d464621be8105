"""Rate and error of a family: the lower convex hull over all its knobs and coders, read in both directions.

Every row has rate-error points: its latent coded ever more coarsely, with the bits and the error of single held-out clips
(``lam.evals.rate``). Coding a share of the transitions by one point and the others by another has the mean bits and the mean
error of the two (time sharing), so a family reaches the lower convex hull of all points of all its knobs. ``none`` costs 0
bits and is a point of every family: saying nothing is open to every sender, and without it a sweep that lacks a tight knob
would be read at the error that a loose model makes with the mean of z, which it never learned to use.

What is averaged, and in which order, decides whether the hull flatters. Points of one model are joined within its seed; the
curves of a row are averaged over seeds; the family's hull is that of these averages. A hull within each seed would pick, at
every rate, the knob that came out best by luck of that seed (in simulation with five equal knobs 1.3 standard errors too few
bits, intervals of 95 % cover 84 %). Intervals go through all of it: with each group of clips left out the hull is made
anew, and seeds enter with the mixture of rows that the average chose, whose choice matters only in the second order (envelope
theorem). See ``tests/report/test_hull.py`` for their coverage.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lam.report.stats.estimates import Replicates, stack
from lam.report.stats.jackknife import Array
from lam.report.stats.measures import RATE
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow
from lam.report.stats.usable import common_seeds, competing_rows

BITS_LEVELS = (2.0, 4.0, 8.0, 16.0)
"""Bits a transition at which errors are read."""

GAP_LEVELS = (0.25, 0.5, 0.75, 0.9)
"""Shares of the gap between the reference rows at which bits are read."""

UNQUANTIZED = RATE + "unquantized"
ZERO = "none"


@dataclass(frozen=True)
class Points:
    """Rate-error points of one row.

    Attributes:
        name: The row.
        bits: (P, 1 + G, S), from all clips and with each group left out, of each seed; NaN where a seed has fewer points.
        errors: Likewise.
    """

    name: str
    bits: Array
    errors: Array


@dataclass(frozen=True)
class Corner:
    """A corner of a hull.

    Attributes:
        bits: Bits a transition.
        error: Prediction error, mean over seeds.
        row: Place of the row in the hull that it is a point of.
    """

    bits: float
    error: float
    row: int


class Hull:
    """The lower convex hull of rows' points, mean over seeds, from all clips and with each group of clips left out.

    Args:
        rows: Points of rows, of the same seeds and groups.
        seeds: Their seeds.
        share: Share of the coded clips that each group has, (G,) or (0,).
        unit: What groups are made of.
    """

    def __init__(self, rows: Sequence[Points], seeds: tuple[int, ...], share: Array, unit: str) -> None:
        self.rows = [row.name for row in rows]
        self._points = rows
        self.seeds, self.share, self.unit = seeds, share, unit
        # a group without coded clips changes nothing
        self._resamples = [0, *(1 + int(g) for g in np.flatnonzero(share > 0))]
        self._curves = [
            {g: [lower_hull(row.bits[:, g, s], row.errors[:, g, s]) for s in range(len(seeds))] for g in self._resamples}
            for row in rows
        ]
        self._corners = {g: self._join(g) for g in self._resamples}

    @property
    def corners(self) -> list[Corner]:
        """Corners of the hull from all clips, from 0 bits to the least error: what figures draw and tables read."""
        return self._corners[0]

    def error_at(self, bits: float) -> Replicates:
        """Return the error at so many bits a transition; with more than the largest point has, the least error."""
        return self._replicates({g: self._mixed(g, bits)[0] for g in self._resamples})

    def bits_at(self, target: Array) -> Replicates:
        """Return the fewest bits at which the error is the target; none where it is not reached, in any resample.

        Of each seed it is the number of bits of the mean, moved by what its error is off, along the hull's slope there.

        Args:
            target: (1 + G, S), the error to reach, which differs between seeds as reference rows do.
        """
        values: dict[int, Array] = {}
        slope = 0.0
        for g in self._resamples:
            bits = _invert(self._corners[g], float(target[g].mean()))
            if np.isnan(bits):
                return Replicates()
            errors, chord = self._mixed(g, bits)
            slope = slope or chord
            values[g] = bits - (errors - target[g]) / slope if slope else np.full(len(errors), bits)
        return self._replicates(values)

    def around(self, bits: float) -> list[str]:
        """Return the rows whose points are taken in turns at so many bits."""
        ends, _, _ = self._ends(0, bits)
        return list(dict.fromkeys(self.rows[end.row] for end in ends))

    def row_points(self, name: str) -> tuple[Array, Array]:
        """Return bits and errors of a row's points, those of all seeds."""
        points = self._points[self.rows.index(name)]
        return points.bits[:, 0].ravel(), points.errors[:, 0].ravel()

    def row_curve(self, name: str) -> Array:
        """Return the corners (m, 2) of one row's curve, mean over seeds, from all clips."""
        bits, errors = self._average(self.rows.index(name), 0)
        return np.stack([bits, errors], axis=1)

    def _replicates(self, values: dict[int, Array]) -> Replicates:
        """Return a reading from its values (S,) by resample; a group without coded clips changes nothing."""
        every = np.stack([values.get(g, values[0]) for g in range(1 + len(self.share))])
        return Replicates(self.seeds, every, self.share, self.unit)

    def _average(self, row: int, g: int) -> tuple[Array, Array]:
        """Average a row's curves over seeds at all their corners, which is exact between them too."""
        curves = self._curves[row][g]
        bits = np.unique(np.concatenate([curve[:, 0] for curve in curves]))
        errors = np.mean([_read(curve, bits) for curve in curves], axis=0)
        known = np.isfinite(errors)  # below a curve's first point there is nothing
        return bits[known], errors[known]

    def _join(self, g: int) -> list[Corner]:
        """Join the rows' average curves to the family's hull."""
        found = [(b, e, row) for row in range(len(self.rows)) for b, e in zip(*self._average(row, g), strict=True)]
        return [Corner(float(b), float(e), row) for b, e, row in _chain(found)]

    def _ends(self, g: int, bits: float) -> tuple[list[Corner], list[float], float]:
        """Return the corners that are taken in turns at so many bits, their weights, and the slope of the chord."""
        corners = self._corners[g]
        after = next((place for place, corner in enumerate(corners) if corner.bits >= bits), len(corners))
        if after in (0, len(corners)):
            return [corners[min(after, len(corners) - 1)]], [1.0], 0.0
        low, high = corners[after - 1], corners[after]
        width = high.bits - low.bits
        return [low, high], [(high.bits - bits) / width, (bits - low.bits) / width], (high.error - low.error) / width

    def _mixed(self, g: int, bits: float) -> tuple[Array, float]:
        """Return each seed's error (S,) with the corners around so many bits taken in turns, and the slope of their chord."""
        ends, weights, slope = self._ends(g, bits)
        errors = [
            weight * np.array([_read(curve, np.array([end.bits]))[0] for curve in self._curves[end.row][g]])
            for end, weight in zip(ends, weights, strict=True)
        ]
        return np.sum(errors, axis=0), slope


@dataclass(frozen=True)
class Hulls:
    """Hulls of all families that have one.

    Attributes:
        families: Hulls by family.
        references: Errors of the reference rows on the coded clips, (1 + G, S) on each hull's own seeds, by family.
        left_out: Why rows are in no hull, by name.
    """

    families: dict[str, Hull]
    references: dict[str, tuple[Array, Array]]
    left_out: dict[str, str]

    def error_at(self, family: str, bits: float) -> Replicates:
        """Return a family's error at so many bits a transition; empty where it has no hull."""
        return self.families[family].error_at(bits) if family in self.families else Replicates()

    def bits_at(self, family: str, share: float) -> Replicates:
        """Return a family's fewest bits at a share of the gap closed; empty where it does not get there."""
        if family not in self.families:
            return Replicates()
        none, identity = self.references[family]
        return self.families[family].bits_at(none - share * (none - identity))

    def target(self, family: str, share: float) -> float:
        """Return the error at a share of the gap closed, on the coded clips."""
        none, identity = (each[0].mean() for each in self.references[family])
        return float(none - share * (none - identity))


@lru_cache(maxsize=4)
def family_hulls(comparison: Comparison) -> Hulls:
    """Compute the hull of every family on the clips that all its rows and the reference rows were coded on.

    Errors of reference rows are those of the same clips. Nothing is read while the reference rows are not apart.
    """
    hulls = Hulls({}, {}, {})
    if not comparison.gap_is_open:
        return hulls
    references = [comparison.references[name] for name in REFERENCE_ROWS]
    for family in comparison.families:
        rows, reasons = competing_rows(comparison, family)
        hulls.left_out.update(reasons)
        seeds = tuple(sorted(common_seeds(comparison, rows)))
        clips = _coded_clips(references[0], seeds)
        for row in rows:
            if not any(str(key).startswith(RATE + "point/") for run in row.runs.values() for key in run.clips):
                hulls.left_out[row.name] = "no rate-error points"
            elif _coded_clips(row, seeds) != clips or _coded_clips(references[1], seeds) != clips:
                hulls.left_out[row.name] = "coded on other clips than the reference rows"
        rows = [row for row in rows if row.name not in hulls.left_out]
        if not rows or not clips:
            continue
        none, identity = (_on(comparison.replicates(row, UNQUANTIZED), seeds) for row in references)
        points = [Points(ZERO, np.zeros((1, *none.values.shape)), none.values[None])]
        points += [_points(comparison, row, seeds) for row in rows]
        hulls.families[family] = Hull(points, seeds, none.share, none.unit)
        hulls.references[family] = none.values, identity.values
    return hulls


def lower_hull(bits: Array, errors: Array) -> Array:
    """Return the corners (m, 2) of the lower convex hull of points, fewest bits first; NaN is no point."""
    known = np.isfinite(bits) & np.isfinite(errors)
    found = [(b, e, 0) for b, e in zip(bits[known].tolist(), errors[known].tolist(), strict=True)]
    return np.array([(b, e) for b, e, _ in _chain(found)]).reshape(-1, 2)


def _chain(found: list[tuple[float, float, int]]) -> list[tuple[float, float, int]]:
    """Return the lower convex hull of points (bits, error, mark) by Andrew's monotone chain, while errors fall."""
    hull: list[tuple[float, float, int]] = []
    for b, e, mark in sorted(found):
        if hull and e >= hull[-1][1]:
            continue
        while len(hull) > 1:
            (b0, e0, _), (b1, e1, _) = hull[-2:]
            if (b1 - b0) * (e - e0) > (e1 - e0) * (b - b0):
                break
            hull.pop()
        hull.append((b, e, mark))
    return hull


def _read(curve: Array, bits: Array) -> Array:
    """Read a curve's error; infinite below its first point, its least error beyond the last."""
    errors: Array = np.interp(bits, curve[:, 0], curve[:, 1], left=np.inf)
    return errors


def _invert(corners: Sequence[Corner], error: float) -> float:
    """Return the fewest bits of a hull with at most an error; NaN where it is not reached."""
    if corners[-1].error > error:
        return float("nan")
    return float(np.interp(error, [one.error for one in corners[::-1]], [one.bits for one in corners[::-1]]))


def _points(comparison: Comparison, row: TableRow, seeds: tuple[int, ...]) -> Points:
    """Return a row's points on some seeds."""
    keys = sorted({str(key) for run in row.runs.values() for key in run.clips if str(key).startswith(RATE + "point/")})
    bits, errors = (
        _on(stack([comparison.replicates(row, key) for key in keys if key.endswith(end)]), seeds).values
        for end in ("/bits", "/error")
    )
    return Points(row.name, bits, errors)


def _on(replicates: Replicates, seeds: tuple[int, ...]) -> Replicates:
    """Take some seeds of a number."""
    places = [replicates.seeds.index(seed) for seed in seeds]
    return Replicates(seeds, replicates.values[..., places], replicates.share, replicates.unit)


def _coded_clips(row: TableRow, seeds: Sequence[int]) -> frozenset[int]:
    """Return positions of the clips that a row's latents were coded on, the same in all seeds; empty where they differ."""
    found = {
        frozenset(run.clips[UNQUANTIZED].dropna().index) if UNQUANTIZED in run.clips else frozenset[int]()
        for seed, run in row.runs.items()
        if seed in seeds
    }
    return found.pop() if len(found) == 1 else frozenset()
