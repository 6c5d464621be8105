"""The matched-capacity table as CSV, Markdown and, for a terminal, at the level that most families reach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.report.stats.matched import LEVELS, Match, match
from lam.report.stats.measures import BITS, GAP_CLOSED
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import Column, matched_columns
from lam.report.tables.layout import DASH, Grid, marks, number
from lam.report.tables.main import KEY, guide, provenance

TITLES = {GAP_CLOSED: "At equal gap closed", BITS: "At equal operational bits (@5%)"}
HEADS = {GAP_CLOSED: "gap closed", BITS: "bits @5%"}
GUIDE = f"""\
Every family at the same capacity. Along a family's sweep, within each seed, capacity is made non-decreasing by isotonic
regression and each number is interpolated linearly between the two knobs around the level; *between* names them. The farther
apart they are, the more a number leans on that line. Intervals and paired tests resample the whole interpolation. {DASH}
means that some seed, or a resample of its clips, does not bracket the level (nothing is extrapolated) or that the number
does not exist there. **Bold** and ≈ compare the families at one level."""


Matched = dict[str, list[Match]]
"""Families at all levels, by measure of capacity."""


def match_all(comparison: Comparison) -> Matched:
    """Families at all levels, with the columns of the tables."""
    return {along: match(comparison, along, [one.key for one in matched_columns(comparison, along)]) for along in LEVELS}


def grids(comparison: Comparison, matched: Matched) -> dict[str, Grid]:
    """The tables by measure of capacity; one that no family has a number in is left out."""
    return {
        along: _grid(along, matches, matched_columns(comparison, along))
        for along, matches in matched.items()
        if any(one.between for one in matches)
    }


def write_matched_csv(path: Path, matched: Matched) -> Path:
    """One line a level and family: every column with its interval, numbers in full."""
    lines = []
    for along, matches in matched.items():
        for one in matches:
            line: dict[str, object] = {"along": along, "level": one.level, "bottleneck": one.family, "between": one.between}
            for key, sample in one.samples.items():
                cell = sample.estimate()
                line |= {key: cell.value, f"{key}/low": cell.value - cell.half, f"{key}/high": cell.value + cell.half}
            lines.append(line)
    head = ["along", "level", "bottleneck", "between"]
    pd.DataFrame(lines, columns=None if lines else head).to_csv(path, index=False, float_format="%.8g", lineterminator="\n")
    return path


def write_matched_markdown(path: Path, comparison: Comparison, matched: Matched) -> Path:
    """Both tables with how to read them."""
    parts = [f"# {comparison.runs[0].setting}, at matched capacity", provenance(comparison), GUIDE]
    tables = grids(comparison, matched)
    for along, table in tables.items():
        parts += [f"## {TITLES[along]}", table.markdown()]
    if not tables:
        parts.append("No family brackets any level: a sweep of at least two knobs around it is needed, and both anchors.")
    path.write_text("\n\n".join([*parts, "# Of the columns", guide(comparison)]) + "\n")
    return path


def plain_matched(comparison: Comparison, matched: Matched) -> str:
    """For a terminal: at the level that most families bracket; empty where none does."""
    parts = []
    for along, all_matches in matched.items():
        matches = [one for one in all_matches if one.between]
        if not matches:
            continue
        levels = [one.level for one in matches]
        level = max(LEVELS[along], key=levels.count)
        shown = [column for column in matched_columns(comparison, along) if column.brief]
        parts.append(f"{TITLES[along]}, families that bracket {_level(along, level)}")
        parts.append(_grid(along, [one for one in matches if one.level == level], shown).text())
    return "\n".join([*parts, KEY]) if parts else ""


def _grid(along: str, matches: list[Match], shown: list[Column]) -> Grid:
    """Lines level by level, marks within a level."""
    lines = []
    for level in sorted({one.level for one in matches}):
        here = [one for one in matches if one.level == level]
        marked = {column.key: marks({one.family: one.samples[column.key] for one in here}, column.better) for column in shown}
        for one in here:
            line = [(text, "") for text in (_level(along, level), one.family, one.between or DASH)]
            for column in shown:
                cell = one.samples[column.key].estimate()
                line.append((number(cell, column.digits), marked[column.key].get(one.family, "")))
            lines.append(line)
    return Grid([HEADS[along], "bottleneck", "between", *(column.title for column in shown)], lines, names=2)


def _level(along: str, level: float) -> str:
    """A level as text."""
    return f"{level:.0%}" if along == GAP_CLOSED else f"{level:g}"
