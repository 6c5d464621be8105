"""The first screen: one sentence, the figure of hulls, six columns."""

from __future__ import annotations

from pathlib import Path

from lam.report.figures.palette import REFERENCE_COLORS, line_style
from lam.report.page.figures import figure_html
from lam.report.page.markup import folded, inline, paragraphs
from lam.report.page.style import themed
from lam.report.stats.hull import family_hulls
from lam.report.stats.knobs import knob_name, swept
from lam.report.stats.measures import GAP_CLOSED, LEAKAGE, TRANSFER
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow
from lam.report.stats.usable import competing_rows
from lam.report.tables.columns import main_columns
from lam.report.tables.hull import hull_sentence
from lam.report.tables.layout import DASH, Grid, format_estimate
from lam.report.tables.main import notes, provenance

HALF = 0.5
CAPTION = "Each family at the knob that closes most of the gap"
GUIDE = (
    "*Bits at 50 %* are the held-out bits that the family's hull takes for half of the gap between `none` (no latent action) "
    "and `identity` (an unconstrained one), over all its knobs. The other numbers are of the row that is named: *gap closed* "
    "is 0 for none and 1 for identity; *leakage ratio* is near 1 where latents copy the next state; *transfer ratio* is 1 "
    "where latents mean the same in another clip, and also where they say nothing. ± is half a 95 % interval, – no number. "
    "Rows that do not compete are left out; all rows, with tests of what can be told apart, are under *Table*."
)


def first_screen(comparison: Comparison, figures: list[Path]) -> str:
    """Return what answers the reader before anything is opened."""
    hull = "".join(figure_html(figure, swept(comparison)) for figure in figures if figure.name == "hull.svg")
    table = first_grid(comparison).html(CAPTION, family_colors(comparison))
    table += folded("What the columns are", paragraphs(GUIDE))
    warnings = [f'<p class="note">{inline(note)}</p>' for note in notes(comparison)]
    known = folded(
        f"{len(warnings)} notes on these numbers" if len(warnings) > 1 else "A note on these numbers", "".join(warnings)
    )
    return (
        f'<p class="answer">{inline(hull_sentence(comparison))}</p><div class="screen">{hull}<div>{table}{known}</div></div>'
        f'<p class="faint">{inline(provenance(comparison))}</p>'
    )


def first_grid(comparison: Comparison) -> Grid:
    """Return six columns: the reference rows, then of each family the competing row that closes most of the gap."""
    digits = {column.key: column.digits for column in main_columns(comparison)}
    shown = {"gap closed": GAP_CLOSED, "leakage ratio": LEAKAGE + "ratio_drawn", "transfer ratio": TRANSFER + "ratio_drawn"}
    hulls = family_hulls(comparison)
    rows = []
    best = {family: _best(comparison, family) for family in comparison.families}
    for family, row in [
        *((name, comparison.references[name]) for name in REFERENCE_ROWS if name in comparison.references),
        *best.items(),
    ]:
        cells = [family, _knob(comparison, row)]
        cells.append(format_estimate(hulls.bits_at(family, HALF).estimate(), 1) if family in hulls.families else DASH)
        for key in shown.values():
            known = row is not None and key in comparison.keys
            cells.append(format_estimate(comparison.estimate(row, key), digits.get(key, 2)) if known and row else DASH)
        rows.append([(cell, "") for cell in cells])
    return Grid(["bottleneck", "knob", f"bits at {HALF:.0%}", *shown], rows, names=1)


def family_colors(comparison: Comparison) -> dict[str, str]:
    """Return the color that each family has in figures, by what tables call it."""
    references = {name: themed(REFERENCE_COLORS[name]) for name in REFERENCE_ROWS}
    return references | {family: themed(line_style(family)["color"]) for family in comparison.families}


def _best(comparison: Comparison, family: str) -> TableRow | None:
    """Return the competing row that closes most of the gap; None where no row does."""
    rows = [row for row in competing_rows(comparison, family)[0] if comparison.estimate(row, GAP_CLOSED).defined]
    return max(rows, key=lambda row: comparison.estimate(row, GAP_CLOSED).value, default=None)


def _knob(comparison: Comparison, row: TableRow | None) -> str:
    """Return name and value of a row's knob."""
    if row is None or not row.knob:
        return DASH
    return f"{knob_name(comparison.families[row.family])} {row.knob}".strip()
