"""The table at matched capacity as CSV, Markdown and, for a terminal, at the level that most families reach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.report.stats.matched import LEVELS, Match, match
from lam.report.stats.measures import BITS, GAP_CLOSED
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import matched_columns
from lam.report.tables.layout import DASH, Grid, format_estimate, marks
from lam.report.tables.main import KEY, guide, provenance
from lam.runs.columns import Column

TITLES = {GAP_CLOSED: "At equal gap closed", BITS: "At equal operational bits (@5%)"}
HEADINGS = {GAP_CLOSED: "gap closed", BITS: "bits @5%"}
GUIDE = f"""\
Every family at the same capacity. Along a family's sweep, within each seed, capacity is made non-decreasing by isotonic
regression and each number is interpolated linearly between the two knobs around the level; *between* names them. The farther
apart they are, the more a number leans on that line. Intervals and paired tests resample the whole interpolation. {DASH}
means that some seed, or a resample of its clips, does not bracket the level (nothing is extrapolated) or that the number
does not exist there. **Bold** and ≈ compare the families at one level."""
NOTHING = "No family brackets any level: a sweep of at least two knobs around it is needed, and both reference rows."


Matched = dict[str, list[Match]]
"""Families at all levels, by measure of capacity."""


def match_all(comparison: Comparison) -> Matched:
    """Interpolate all families to all levels, for the columns of the tables."""
    return {along: match(comparison, along, [one.key for one in matched_columns(comparison, along)]) for along in LEVELS}


def matched_grids(comparison: Comparison, matched: Matched) -> dict[str, Grid]:
    """Return the tables by measure of capacity; one that no family has a number in is left out."""
    return {
        along: _grid(along, matches, matched_columns(comparison, along))
        for along, matches in matched.items()
        if any(one.between for one in matches)
    }


def write_matched_csv(path: Path, matched: Matched) -> Path:
    """Write one line a level and family: every column with its interval, numbers in full."""
    lines = []
    for along, matches in matched.items():
        for one in matches:
            line: dict[str, object] = {"along": along, "level": one.level, "bottleneck": one.family, "between": one.between}
            for key, replicates in one.replicates.items():
                cell = replicates.estimate()
                line |= {key: cell.value, f"{key}/low": cell.value - cell.half, f"{key}/high": cell.value + cell.half}
            lines.append(line)
    names = ["along", "level", "bottleneck", "between"]
    pd.DataFrame(lines, columns=None if lines else names).to_csv(path, index=False, float_format="%.8g", lineterminator="\n")
    return path


def write_matched_markdown(path: Path, comparison: Comparison, matched: Matched) -> Path:
    """Write both tables with how to read them."""
    parts = [f"# {comparison.runs[0].setting}, at matched capacity", provenance(comparison), GUIDE]
    tables = matched_grids(comparison, matched)
    for along, table in tables.items():
        parts += [f"## {TITLES[along]}", table.markdown()]
    if not tables:
        parts.append(NOTHING)
    path.write_text("\n\n".join([*parts, "# Of the columns", guide(comparison)]) + "\n")
    return path


def matched_text(comparison: Comparison, matched: Matched) -> str:
    """Return the tables for a terminal, at the level that most families bracket; empty where none does."""
    parts = []
    for along, all_matches in matched.items():
        matches = [one for one in all_matches if one.between]
        if not matches:
            continue
        levels = [one.level for one in matches]
        level = max(LEVELS[along], key=levels.count)
        columns = [column for column in matched_columns(comparison, along) if column.brief]
        parts.append(f"{TITLES[along]}, families that bracket {_format_level(along, level)}")
        parts.append(_grid(along, [one for one in matches if one.level == level], columns).text())
    return "\n".join([*parts, KEY]) if parts else ""


def _grid(along: str, matches: list[Match], columns: list[Column]) -> Grid:
    """Lay out rows level by level, with marks within a level."""
    rows = []
    for level in sorted({one.level for one in matches}):
        here = [one for one in matches if one.level == level]
        marked = {
            column.key: marks({one.family: one.replicates[column.key] for one in here}, column.better) for column in columns
        }
        for one in here:
            cells = [(text, "") for text in (_format_level(along, level), one.family, one.between or DASH)]
            for column in columns:
                cell = one.replicates[column.key].estimate()
                cells.append((format_estimate(cell, column.digits), marked[column.key].get(one.family, "")))
            rows.append(cells)
    return Grid([HEADINGS[along], "bottleneck", "between", *(column.heading for column in columns)], rows, names=2)


def _format_level(along: str, level: float) -> str:
    """Format a level."""
    return f"{level:.0%}" if along == GAP_CLOSED else f"{level:g}"
