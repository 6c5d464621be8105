"""The table at matched capacity as CSV, Markdown and, for a terminal, at the level that most families reach."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.hull import GAP_LEVELS
from lam.report.stats.matched import HULL_BITS, NARROW, NEAR, Match, match
from lam.report.stats.rows import Comparison
from lam.report.tables.columns import matched_columns
from lam.report.tables.layout import DASH, Grid, escape_markdown, format_estimate, marks, prose
from lam.report.tables.main import DRAWN, KEY, guide, provenance
from lam.runs.columns import Column

TITLE = "At equal gap closed"
GUIDE = f"""\
Every family at the same gap closed. A family stands at a level by a row that was trained to it: *row* names its knob,
*off by* how far its gap closed is from the level, {NEAR:g} at most. Where there is none but two rows around the level lie less
than {NARROW:g} of the gap apart, *row* names both and numbers are interpolated between them. Otherwise there is a {DASH}:
nothing is read across wider brackets. Bits are those of the family's hull at the level (`hull.md`), not of the row. Intervals
are the row's own. `lam sweep --match` trains rows to levels. **Bold** and ≈ compare the families at one level."""
NOTHING = (
    f"No family has a row within {NEAR:g} of a level of gap closed, nor two rows less than {NARROW:g} apart around one. "
    "`lam sweep --match` trains rows to the levels; both reference rows are needed."
)


def match_all(comparison: Comparison) -> list[Match]:
    """Match all families at all levels, for the columns of the table."""
    return match(comparison, [one.key for one in matched_columns(comparison) if one.key != HULL_BITS])


def matched_grid(comparison: Comparison, matches: list[Match]) -> Grid | None:
    """Return the table; None where no family stands at any level."""
    return _grid(matches, matched_columns(comparison)) if any(one.rows for one in matches) else None


def write_matched_csv(path: Path, matches: list[Match]) -> Path:
    """Write one line a level and family: every column with its interval, numbers in full."""
    lines = []
    for one in matches:
        line: dict[str, object] = {"level": one.level, "bottleneck": one.family, "row": one.name, "off by": one.distance}
        for key, replicates in one.replicates.items():
            cell = replicates.estimate()
            line |= {key: cell.value, f"{key}/low": cell.low, f"{key}/high": cell.high}
        lines.append(line)
    names = ["level", "bottleneck", "row", "off by"]
    write_text(
        path,
        pd.DataFrame(lines, columns=None if lines else names).to_csv(index=False, float_format="%.8g", lineterminator="\n"),
    )
    return path


def write_matched_markdown(path: Path, comparison: Comparison, matches: list[Match]) -> Path:
    """Write the table with how to read it."""
    table = matched_grid(comparison, matches)
    parts = [f"# {escape_markdown(comparison.runs[0].setting)}, at matched capacity", prose(provenance(comparison)), GUIDE]
    parts += [f"## {TITLE}", table.markdown()] if table else [NOTHING]
    write_text(path, "\n\n".join([*parts, "# Of the columns", prose(guide(comparison))]) + "\n")
    return path


def matched_text(comparison: Comparison, matches: list[Match]) -> str:
    """Return the table for a terminal, at the level at which most families stand; empty where none does."""
    levels = [one.level for one in matches if one.rows]
    if not levels:
        return ""
    level = max(GAP_LEVELS, key=levels.count)
    columns = [column for column in matched_columns(comparison) if column.brief]
    here = [one for one in matches if one.rows and one.level == level]
    return f"{TITLE}, families with rows at {level:.0%}\n{_grid(here, columns).text()}\n{KEY}\n{DRAWN}"


def _grid(matches: list[Match], columns: list[Column]) -> Grid:
    """Lay out rows level by level, with marks within a level."""
    rows = []
    for level in sorted({one.level for one in matches}):
        here = [one for one in matches if one.level == level]
        marked = {
            column.key: marks({one.family: one.replicates[column.key] for one in here}, column.better) for column in columns
        }
        for one in here:
            off = {0: DASH, 1: f"{one.distance:+.3f}", 2: "interpolated"}[len(one.rows)]
            cells = [(text, "") for text in (f"{level:.0%}", one.family, one.name or DASH, off)]
            for column in columns:
                cell = one.replicates[column.key].estimate()
                cells.append((format_estimate(cell, column.digits), marked[column.key].get(one.family, "")))
            rows.append(cells)
    return Grid(["gap closed", "bottleneck", "row", "off by", *(column.heading for column in columns)], rows, names=2)
