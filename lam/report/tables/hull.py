"""Rate and error of families, read off their hulls: the data of the figure, the table, and the sentence that comes first."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from lam.io import write_text
from lam.report.stats.estimates import Estimate, Replicates
from lam.report.stats.hull import BITS_LEVELS, GAP_LEVELS, ZERO, family_hulls
from lam.report.stats.measures import ERROR_DRAWN
from lam.report.stats.rows import REFERENCE_ROWS, Comparison
from lam.report.stats.usable import left_out
from lam.report.tables.layout import BEST, TIED, Grid, escape_markdown, format_estimate, marks

CORNER, ERROR_AT, BITS_AT, REFERENCE = "corner", "error at bits", "bits at gap closed", "reference"
"""Kinds of lines of ``hull.csv``."""

SHARES = {0.25: "A quarter", 0.5: "Half"}
BRIEF = {ERROR_AT: (4.0, 8.0), BITS_AT: (0.5, 0.75, 0.9)}
"""Levels that a terminal shows."""

NOTHING = "No family has rate-error points between two reference rows that are apart, so no bits are compared."
GUIDE = """\
Rate and error of a family are read off the lower convex hull of all its rate-error points: every row's latent coded ever more
coarsely on held-out clips, and `none` at 0 bits, which every family may say. Two points taken in turns (time sharing) reach
every point of the chord between them. *Error at bits*: beyond the largest point the least error. *Bits at gap closed*: where
the error has come so far from `none` to `identity`, both measured on the coded clips; no number where the hull, or a resample
of it, does not get there. Which points are on the hull is chosen on all seeds but one and measured on that one, for every seed
in turn, so that luck of a seed is not read; the mean of these curves is drawn and read, and need not be exactly convex.
Intervals leave out groups of clips, choice and all, crossed with seeds."""
ONE_SEED = (
    "With one seed the points of a hull are chosen on the very numbers that are read: errors and bits are somewhat too low, "
    "the more the more knobs are alike. Two seeds or more choose on the others."
)


def hull_table(comparison: Comparison) -> pd.DataFrame:
    """Return what ``hull.csv`` holds, the figure draws and the tables print, one line a corner, reading or reference row.

    Columns: bottleneck; reading, one of corner, error at bits, bits at gap closed, reference; level, of what is read at; bits
    and error of the point; low and high, the interval of what is read; rows, those whose points are taken in turns there.
    """
    hulls = family_hulls(comparison)
    lines: list[tuple[object, ...]] = []
    for place, name in enumerate(REFERENCE_ROWS):
        for none_and_identity in list(hulls.references.values())[:1]:
            lines.append((name, REFERENCE, None, None, none_and_identity[place][0].mean(), None, None, name))
    for family, hull in hulls.families.items():
        for x, y in zip(*hull.curve, strict=True):
            lines.append((family, CORNER, None, x, y, None, None, _joined(hull.around(float(x)))))
        for bits in BITS_LEVELS:
            cell = hulls.error_at(family, bits).estimate()
            lines.append((family, ERROR_AT, bits, bits, cell.value, *_ends(cell), _joined(hull.around(bits))))
        for share in GAP_LEVELS:
            cell = hulls.bits_at(family, share).estimate()
            rows = _joined(hull.around(cell.value)) if cell.defined else ""
            lines.append((family, BITS_AT, share, cell.value, hulls.target(family, share), *_ends(cell), rows))
    columns = ["bottleneck", "reading", "level", "bits", "error", "low", "high", "rows"]
    return pd.DataFrame(lines, columns=columns)


def hull_grid(comparison: Comparison, brief: bool = False) -> Grid:
    """Return the table of readings; the brief one has what fits a terminal."""
    hulls = family_hulls(comparison)
    columns: list[tuple[str, int, dict[str, Replicates]]] = []
    for kind, levels, read in ((ERROR_AT, BITS_LEVELS, hulls.error_at), (BITS_AT, GAP_LEVELS, hulls.bits_at)):
        for level in levels:
            if not brief or level in BRIEF[kind]:
                heading = f"error at {level:g} bits" if kind == ERROR_AT else f"bits at {level:.0%}"
                columns.append((heading, 3 if kind == ERROR_AT else 1, {one: read(one, level) for one in hulls.families}))
    marked = {heading: marks(cells, -1) for heading, _, cells in columns}
    rows = [
        [(family, "")]
        + [
            (format_estimate(cells[family].estimate(), digits), marked[heading].get(family, ""))
            for heading, digits, cells in columns
        ]
        for family in hulls.families
    ]
    return Grid(["bottleneck", *(heading for heading, _, _ in columns)], rows, names=1)


def hull_sentence(comparison: Comparison) -> str:
    """Say how many bits each family needs at half of the gap (a quarter, if none gets there), and what tests tell apart."""
    hulls = family_hulls(comparison)
    share = next((one for one in (0.5, 0.25) if _reached(comparison, one)), 0.0)
    if not share:
        return NOTHING if not hulls.families else "No family gets to a quarter of the gap between none and identity."
    found = _reached(comparison, share)
    order = sorted(found, key=lambda family: found[family].estimate().value)
    each = [f"{family} {format_estimate(found[family].estimate(), 1)}" for family in order]
    sentence = f"{SHARES[share]} of the gap between none and identity takes {_enumerate(each)} bits on the rate-error hull"
    marked = marks(found, -1)
    tied = [family for family in order[1:] if marked.get(family) == TIED]
    if len(tied) == len(found) - 1 > 2:
        sentence += f"; paired tests do not tell {order[0]} from any other"
    elif tied:
        sentence += f"; {order[0]} is not distinguishable from {_enumerate(tied)} by paired tests"
    elif marked.get(order[0]) == BEST:
        sentence += f"; {order[0]} needs the fewest by paired tests"
    missing = [family for family in hulls.families if family not in found]
    if missing:
        sentence += f"; {_enumerate(missing)} {'does' if len(missing) == 1 else 'do'} not get there"
    return sentence + "."


def hull_text(comparison: Comparison, figure: Path | None) -> str:
    """Return what a terminal shows first: the sentence, the path of the figure, the table and who is not in it."""
    parts = [hull_sentence(comparison), *drawn_notes(comparison)]
    if family_hulls(comparison).families:
        parts += [str(figure), "", hull_grid(comparison, brief=True).text()]
    return "\n".join([*parts, *hull_notes(comparison)])


def hull_notes(comparison: Comparison) -> list[str]:
    """Return errors of the reference rows on the coded clips, and which rows are in no comparison of families and why."""
    hulls = family_hulls(comparison)
    notes = []
    if hulls.references:
        none, identity = (each[0].mean() for each in next(iter(hulls.references.values())))
        notes.append(f"On the coded clips none has an error of {none:.3f} and identity of {identity:.3f}.")
    if any(len(hull.seeds) == 1 for hull in hulls.families.values()):
        notes.append(ONE_SEED)
    reasons = left_out(comparison)
    if reasons:
        notes.append(f"Left out of hulls, of matched rows and of what is said of families: {_reasons(reasons)}.")
    coded = {name: why for name, why in hulls.left_out.items() if name not in reasons}
    if coded and hulls.families:
        notes.append(f"Left out of hulls alone: {_reasons(coded)}.")
    return notes


def drawn_notes(comparison: Comparison) -> list[str]:
    """Return which runs were validated before what passed the channel was measured: they have no gap closed."""
    runs = [run for row in comparison.unlabeled for run in row.runs.values() if ERROR_DRAWN not in run.metrics]
    if not runs:
        return []
    names = ", ".join(f"{run.path.parent.name}/{run.path.name}" for run in runs[:6]) + (", ..." if len(runs) > 6 else "")
    return [
        f"{len(runs)} of {len(comparison.runs)} runs lack `{ERROR_DRAWN}`, the error with what passed the channel, and so gap "
        f"closed: {names}. They were evaluated by older code; run `lam validate` on them again."
    ]


def write_hull(folder: Path, comparison: Comparison) -> list[Path]:
    """Write hull.csv, numbers in full, and hull.md; remove both where no family has a hull."""
    csv, markdown = folder / "hull.csv", folder / "hull.md"
    if not family_hulls(comparison).families:
        csv.unlink(missing_ok=True)
        markdown.unlink(missing_ok=True)
        return []
    write_text(csv, hull_table(comparison).to_csv(index=False, float_format="%.8g", lineterminator="\n"))
    parts = [
        f"# {escape_markdown(comparison.runs[0].setting)}, rate and error",
        hull_markdown(comparison),
        "![hull](hull.png)",
        GUIDE,
    ]
    write_text(markdown, "\n\n".join(parts) + "\n")
    return [csv, markdown]


def hull_markdown(comparison: Comparison) -> str:
    """Return sentence, table and notes."""
    grid = [hull_grid(comparison).markdown()] if family_hulls(comparison).families else []
    return "\n\n".join([hull_sentence(comparison), *grid, *hull_notes(comparison)])


def _reached(comparison: Comparison, share: float) -> dict[str, Replicates]:
    """Return bits at a share of the gap closed of the families that get there."""
    hulls = family_hulls(comparison)
    found = {family: hulls.bits_at(family, share) for family in hulls.families}
    return {family: one for family, one in found.items() if one.seeds}


def _ends(cell: Estimate) -> tuple[float, float]:
    """Return the ends of an interval."""
    return cell.low, cell.high


def _reasons(reasons: dict[str, str]) -> str:
    """Name rows with why they are left out."""
    return "; ".join(f"{name} ({why})" for name, why in reasons.items())


def _joined(rows: list[str]) -> str:
    """Name the rows of a mixture; ``none`` goes without saying beside another."""
    return " … ".join(row for row in rows if row != ZERO or len(rows) == 1)


def _enumerate(names: list[str]) -> str:
    """Join words as a sentence does."""
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)
