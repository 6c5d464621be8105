"""A paragraph a family, written from its numbers: only what intervals and paired tests support."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lam.report.stats.measures import BITS, GAP_CLOSED, LEAKAGE, TRANSFER
from lam.report.stats.rows import Comparison, Row
from lam.report.stats.sample import Estimate
from lam.report.tables.columns import flags
from lam.report.tables.layout import ALPHA, DASH, number
from lam.report.tables.matched import Matched

AT_LEVELS = {LEAKAGE + "ratio": "leakage ratio", TRANSFER + "ratio": "transfer ratio"}


def read_family(comparison: Comparison, family: str, matched: Matched) -> list[str]:
    """Sentences about one family, in the order of range, ends, knob, matched levels, flags."""
    rows = [row for row in comparison.families[family] if comparison.estimate(row, GAP_CLOSED).defined]
    if not rows:
        return ["Gap closed is undefined, so nothing can be said of its capacity.", *_flagged(comparison, family)]
    found = [_span(comparison, rows), *_ends(comparison, rows), *_knob(comparison, rows)]
    found += [_at_levels(matched, family, key, title) for key, title in AT_LEVELS.items() if key in comparison.keys]
    return found + _flagged(comparison, family)


def _span(comparison: Comparison, rows: list[Row]) -> str:
    """The range of gap closed and bits."""
    tight, loose = (comparison.estimate(row, GAP_CLOSED) for row in (rows[0], rows[-1]))
    if len(rows) == 1:
        said = f"One knob value, {rows[0].knob or rows[0].name}, closes {number(tight, 2)} of the gap"
    else:
        said = f"From {rows[0].knob} to {rows[-1].knob} it closes {number(tight, 2)} to {number(loose, 2)} of the gap"
    bits = [cell for row in rows if (cell := comparison.estimate(row, BITS)).defined]
    if bits:
        low, high = min(bits, key=lambda cell: cell.value), max(bits, key=lambda cell: cell.value)
        several = f"{number(low, 1)} to {number(high, 1)}" if low is not high else number(low, 1)
        lacking = len(rows) - len(bits)
        said += f", at {several} operational bits (@5%)" + (
            f" where they are defined ({lacking} of {len(rows)} not)" * bool(lacking)
        )
    return said + "."


def _ends(comparison: Comparison, rows: list[Row]) -> list[str]:
    """Whether the sweep reaches the anchors, as far as intervals tell."""
    cells = {row.knob or row.name: comparison.estimate(row, GAP_CLOSED) for row in rows}
    most, least = (pick(cells, key=lambda knob: cells[knob].value) for pick in (max, min))
    if any(np.isnan(cells[knob].half) for knob in (most, least)):
        return ["Without intervals it is open whether it reaches the anchors."]
    top, bottom = _interval(cells[most]), _interval(cells[least])
    if top[1] < 1:
        first = f"It stays below identity in this sweep: the interval of its best, {most}, ends at {top[1]:.3f}."
    elif top[0] > 1:
        first = f"Its best, {most}, beats identity: its interval begins at {top[0]:.3f}."
    else:
        first = f"Its best, {most}, is not distinguishable from identity."
    if bottom[0] > 0:
        return [first, f"It stays above none: the interval of its least, {least}, begins at {bottom[0]:.3f}."]
    if bottom[1] < 0:
        return [first, f"Its least, {least}, predicts worse than none: its interval ends at {bottom[1]:.3f}."]
    return [first, f"Its least, {least}, is not distinguishable from none."]


def _knob(comparison: Comparison, rows: list[Row]) -> list[str]:
    """Steps of the knob that go backward, and whether the last step still does anything."""
    found = []
    for before, after in pairwise(rows):
        difference = comparison.estimate(after, GAP_CLOSED).value - comparison.estimate(before, GAP_CLOSED).value
        if difference < 0 and comparison.p_value(before, after, GAP_CLOSED) < ALPHA:
            found.append(f"Loosening from {before.knob} to {after.knob} closes less of the gap, not more.")
    if len(rows) > 1 and comparison.p_value(rows[-2], rows[-1], GAP_CLOSED) >= ALPHA:
        found.append(f"The last step, {rows[-2].knob} to {rows[-1].knob}, makes no distinguishable difference.")
    return found


def _at_levels(matched: Matched, family: str, key: str, title: str) -> str:
    """A number at the levels of gap closed."""
    here = [one for one in matched[GAP_CLOSED] if one.family == family]
    levels = ", ".join(f"{one.level:.0%}" for one in here)
    cells = ", ".join(number(one.samples[key].estimate(), 2) for one in here)
    if not any(one.samples[key].seeds for one in here):
        return f"Its {title} at matched capacity is unknown: no level of gap closed is bracketed in every seed and resample."
    return f"At {levels} of the gap its {title} is {cells}" + (f" ({DASH}: not bracketed)." if DASH in cells else ".")


def _flagged(comparison: Comparison, family: str) -> list[str]:
    """Rows with warnings."""
    raised = {row.name: said for row in comparison.families[family] if (said := flags(comparison, row))}
    return ["Flagged: " + "; ".join(f"{name} {said}" for name, said in raised.items()) + "."] if raised else []


def _interval(cell: Estimate) -> tuple[float, float]:
    """Its ends."""
    return cell.value - cell.half, cell.value + cell.half
