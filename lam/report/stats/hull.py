"""Rate and error of every family: the lower convex hull over all its knobs and coders, on the same clips as reference rows.

Every row has rate-error points: its latent coded ever more coarsely, with the bits and the error of single held-out clips
(``lam.evals.rate``). Coding a share of the transitions by one point and the others by another has the mean bits and the mean
error of the two (time sharing), so a family reaches the lower convex hull of all points of all its knobs. ``none`` costs 0
bits and is a point of every family: saying nothing is open to every sender, and without it a sweep that lacks a tight knob
would be read at the error that a loose model makes with the mean of z, which it never learned to use.

Which points are on the hull is chosen on all seeds but one and measured on that one (``lam.report.stats.envelope``).
Intervals go through all of it: with each group of clips left out points are chosen and measured anew, crossed with seeds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from lam.report.stats.envelope import Hull, Points
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
