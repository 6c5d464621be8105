"""A paragraph a family, written from its numbers: only what intervals and paired tests support."""

from __future__ import annotations

from itertools import pairwise

import numpy as np

from lam.report.stats.estimates import Estimate
from lam.report.stats.hull import GAP_LEVELS, family_hulls
from lam.report.stats.matched import Match
from lam.report.stats.measures import GAP_CLOSED, LEAKAGE, TRANSFER
from lam.report.stats.rows import Comparison, TableRow
from lam.report.stats.usable import competing_rows
from lam.report.tables.columns import flags
from lam.report.tables.layout import ALPHA, DASH, format_estimate

AT_LEVELS = {LEAKAGE + "ratio_drawn": "leakage ratio", TRANSFER + "ratio_drawn": "transfer ratio"}


def read_family(comparison: Comparison, family: str, matched: list[Match]) -> list[str]:
    """Describe one family in sentences, in the order of range, bits, ends, knob, matched levels, flags, rows left out.

    Nothing is told from rows that do not compete (``stats.usable``).
    """
    competing, reasons = competing_rows(comparison, family)
    rows = [row for row in competing if comparison.estimate(row, GAP_CLOSED).defined]
    last = [*_flagged(comparison, family), *_left_out(reasons)]
    if not rows:
        return ["Gap closed is undefined, so nothing can be said of its capacity.", *last]
    sentences = [_span(comparison, rows), *_bits(comparison, family), *_ends(comparison, rows), *_knob(comparison, rows)]
    sentences += [_at_levels(matched, family, key, title) for key, title in AT_LEVELS.items() if _is_matched(matched, key)]
    return sentences + last


def _span(comparison: Comparison, rows: list[TableRow]) -> str:
    """Describe the range of gap closed."""
    tight, loose = (comparison.estimate(row, GAP_CLOSED) for row in (rows[0], rows[-1]))
    if len(rows) == 1:
        span = f"One knob value, {rows[0].knob or rows[0].name}, closes {format_estimate(tight, 2)} of the gap"
    else:
        closed = f"{format_estimate(tight, 2)} to {format_estimate(loose, 2)}"
        span = f"From {rows[0].knob} to {rows[-1].knob} it closes {closed} of the gap"
    return span + "."


def _bits(comparison: Comparison, family: str) -> list[str]:
    """Say how many bits the family's hull needs at the levels of gap closed."""
    hulls = family_hulls(comparison)
    if family not in hulls.families:
        return []
    cells = [format_estimate(hulls.bits_at(family, share).estimate(), 1) for share in GAP_LEVELS]
    levels = ", ".join(f"{share:.0%}" for share in GAP_LEVELS)
    return [
        f"Its hull reaches {levels} of the gap at {', '.join(cells)} bits"
        + (f" ({DASH}: not reached)." if DASH in cells else ".")
    ]


def _ends(comparison: Comparison, rows: list[TableRow]) -> list[str]:
    """Say whether the sweep reaches the reference rows, as far as intervals tell."""
    cells = {row.knob or row.name: comparison.estimate(row, GAP_CLOSED) for row in rows}
    most, least = (pick(cells, key=lambda knob: cells[knob].value) for pick in (max, min))
    if any(np.isnan(cells[knob].half) for knob in (most, least)):
        return ["Without intervals it is open whether it reaches the reference rows."]
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


def _knob(comparison: Comparison, rows: list[TableRow]) -> list[str]:
    """Name steps of the knob that go backward, and whether the last step still does anything."""
    sentences = []
    for before, after in pairwise(rows):
        difference = comparison.estimate(after, GAP_CLOSED).value - comparison.estimate(before, GAP_CLOSED).value
        if difference < 0 and comparison.p_value(before, after, GAP_CLOSED) < ALPHA:
            sentences.append(f"Loosening from {before.knob} to {after.knob} closes less of the gap, not more.")
    if len(rows) > 1 and comparison.p_value(rows[-2], rows[-1], GAP_CLOSED) >= ALPHA:
        sentences.append(f"The last step, {rows[-2].knob} to {rows[-1].knob}, makes no distinguishable difference.")
    return sentences


def _at_levels(matched: list[Match], family: str, key: str, title: str) -> str:
    """Describe a number at the levels of gap closed."""
    here = [one for one in matched if one.family == family]
    levels = ", ".join(f"{one.level:.0%}" for one in here)
    cells = ", ".join(format_estimate(one.replicates[key].estimate(), 2) for one in here)
    if not any(one.replicates[key].seeds for one in here):
        return f"Its {title} at matched capacity is unknown: no row stands at a level of gap closed."
    return f"At {levels} of the gap its {title} is {cells}" + (f" ({DASH}: no row there)." if DASH in cells else ".")


def _is_matched(matched: list[Match], key: str) -> bool:
    """Tell whether a number is compared at the levels of gap closed."""
    return any(key in one.replicates for one in matched)


def _flagged(comparison: Comparison, family: str) -> list[str]:
    """Name rows with warnings."""
    raised = {row.name: text for row in comparison.families[family] if (text := flags(comparison, row))}
    return ["Flagged: " + "; ".join(f"{name} {text}" for name, text in raised.items()) + "."] if raised else []


def _left_out(reasons: dict[str, str]) -> list[str]:
    """Name rows of which nothing is told."""
    return [f"Nothing of this is told from {'; '.join(f'{name} ({why})' for name, why in reasons.items())}."] if reasons else []


def _interval(cell: Estimate) -> tuple[float, float]:
    """Return the ends of an interval."""
    return cell.low, cell.high
