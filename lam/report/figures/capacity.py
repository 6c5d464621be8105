"""Figures of capacity: hulls of rate and error, where they come from, gap closed along knobs, codes used."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lam.report.figures.palette import INK, REFERENCE_COLORS
from lam.report.figures.style import (
    CURVE,
    DASHES,
    bits_axis,
    knob_axis,
    legend,
    points,
    reference_levels,
    small_panels,
    style_of,
    value,
)
from lam.report.stats.envelope import Hull
from lam.report.stats.hull import UNQUANTIZED, family_hulls
from lam.report.stats.jackknife import Array
from lam.report.stats.knobs import titled
from lam.report.stats.measures import BITS, CODES_USED, GAP_CLOSED
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow
from lam.report.tables.hull import BITS_AT, CORNER, ERROR_AT, REFERENCE, hull_table

MARGIN = 5.0  # percent of G, as in BITS
ALL_CODES = 0.995
"""Share of the code tuples in use that is shown as 100 %."""


def draw_hull(comparison: Comparison) -> Figure | None:
    """Draw each family's rate-error hull as ``hull.csv`` holds it, with what tables read off it and the intervals of that."""
    table = hull_table(comparison)
    if not (table["reading"] == CORNER).any():
        return None
    figure = Figure(figsize=(7.6, 4.6), layout="constrained")
    axis = figure.subplots()
    end = 1.3 * max(table["bits"][table["reading"] != CORNER].max(), 1.0)
    for family in comparison.families:
        lines = table[table["bottleneck"] == family]
        corners, errors, bits = (lines[lines["reading"] == kind] for kind in (CORNER, ERROR_AT, BITS_AT))
        if corners.empty:
            continue
        style = style_of(family)
        x, y = dense(corners["bits"].to_numpy(), corners["error"].to_numpy(), end)
        axis.plot(x, y, color=style["color"], linestyle=style["linestyle"], alpha=0.9)
        dots = style | {"linestyle": "none", "label": "", "alpha": 0.9, "elinewidth": 1, "capsize": 2}
        axis.errorbar(errors["bits"], errors["error"], np.nan_to_num(errors["high"] - errors["error"]), **dots)
        hollow = dots | {"markerfacecolor": "white"}
        axis.errorbar(bits["bits"], bits["error"], xerr=np.nan_to_num(bits["high"] - bits["bits"]), **hollow)
    for _, line in table[table["reading"] == REFERENCE].iterrows():
        color = REFERENCE_COLORS[str(line["bottleneck"])]
        axis.axhline(line["error"], color=color, linewidth=1, linestyle=DASHES)
        axis.text(1.01, line["error"], line["bottleneck"], va="center", color=color, transform=axis.get_yaxis_transform())
    axis.set_xlabel("held-out bits a transition")
    axis.set_ylabel("prediction error (copying the last state = 1)")
    axis.set_xlim(0, end)
    axis.margins(y=0.05)
    bits_axis(axis, room=1.0)
    legend(figure, comparison, references=False)
    return figure


def dense(x: Array, y: Array, end: float) -> tuple[Array, Array]:
    """Return a hull's line up to ``end`` bits with many points between corners, as chords bend on an axis of bits."""
    along = np.unique(np.concatenate([x, np.linspace(x[0], max(end, x[-1]), 600)]))
    return along, np.interp(along, x, y)


def draw_rate(comparison: Comparison) -> Figure | None:
    """Draw where hulls come from: one panel a family, each row's points and curve, and the hull of all."""
    hulls = family_hulls(comparison).families
    if not hulls:
        return None
    figure, panels = small_panels(len(hulls), 4, (2.3, 2.4))
    for axis, (family, hull) in zip(panels, hulls.items(), strict=True):
        rows = [row for row in comparison.families[family] if row.name in hull.rows]
        for row, shade in zip(rows, np.linspace(0.35, 1.0, len(rows)) if len(rows) > 1 else [1.0], strict=True):
            _curve(axis, comparison, hull, row, shade)
        axis.plot(*dense(*hull.curve, hull.curve[0][-1]), "-", color=INK, linewidth=0.8)
        reference_levels(axis, comparison, UNQUANTIZED, named=False)
        axis.set_title(titled(comparison, family), fontsize=9)
        bits_axis(axis, room=2.0)
    figure.supxlabel("held-out bits a transition of the quantized latent", fontsize=9)
    figure.supylabel("prediction error with it", fontsize=9)
    cross = Line2D([], [], color=INK, marker="x", linestyle="none", label="operational bits @5%")
    dot = Line2D([], [], color=INK, marker=".", linestyle="none", label="a coder, one seed")
    line = Line2D([], [], color=INK, linewidth=0.8, label="hull of the family")
    lines = [
        Line2D([], [], color=REFERENCE_COLORS[n], linestyle=DASHES, label=n)
        for n in REFERENCE_ROWS
        if n in comparison.references
    ]
    figure.legend(handles=[dot, line, cross, *lines], loc="outside right upper")
    return figure


def draw_gap(comparison: Comparison) -> Figure | None:
    """Draw gap closed along each family's own knob, one panel a family; one or two values are no curve, the table has them."""
    families = {
        family: rows
        for family, rows in comparison.families.items()
        if sum(comparison.estimate(row, GAP_CLOSED).defined for row in rows) >= CURVE
    }
    if not families:
        return None
    figure, panels = small_panels(len(families), 4, (2.1, 2.2))
    for axis, (family, rows) in zip(panels, families.items(), strict=True):
        points(axis, comparison, knob_axis(axis, rows), rows, GAP_CLOSED)
        for name, level in zip(REFERENCE_ROWS, (0.0, 1.0), strict=True):
            axis.axhline(level, color=REFERENCE_COLORS[name], linewidth=1, linestyle=DASHES)
        axis.set_title(titled(comparison, family), fontsize=9)
    figure.supxlabel("knob, from tight to loose", fontsize=9)
    figure.supylabel("gap closed (0 = none, 1 = identity)", fontsize=9)
    return figure


def draw_codes(comparison: Comparison) -> Figure | None:
    """Draw the share of the code tuples in use, one bar a discrete row; nothing where every row uses all of them."""
    bars = [row for rows in comparison.families.values() for row in rows if comparison.estimate(row, CODES_USED).defined]
    if all(comparison.estimate(row, CODES_USED).value >= ALL_CODES for row in bars):
        return None
    figure = Figure(figsize=(5.5, 0.9 + 0.28 * len(bars)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(bars):
        cell = comparison.estimate(row, CODES_USED)
        axis.barh(place, cell.value, color=style_of(row.family)["color"], height=0.7)
        if np.isfinite(cell.half):
            axis.errorbar(cell.value, place, xerr=cell.half, color=INK, linewidth=1, capsize=2)
        axis.text(1.02, place, f"{cell.value:.0%}", va="center", transform=axis.get_yaxis_transform())
    axis.set_yticks(range(len(bars)), [row.name for row in bars])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("share of code tuples used on held-out clips")
    return figure


def _curve(axis: Axes, comparison: Comparison, hull: Hull, row: TableRow, shade: float) -> None:
    """Draw a row's coders as dots, its curve with the knob at its end, a cross where error is 5 % of the gap up."""
    color = style_of(row.family)["color"]
    x, y = hull.row_points(row.name)
    axis.plot(x, y, ".", color=color, alpha=0.45 * shade, markersize=4)
    x, y = hull.row_curve(row.name)
    axis.plot(*dense(x, y, x[-1]), "-", color=color, alpha=shade)
    axis.annotate(row.knob, (x[-1], y[-1]), (4, 0), textcoords="offset points", va="center", fontsize=7, color="#444444")
    bits, unquantized = value(comparison, row, BITS), value(comparison, row, UNQUANTIZED)
    axis.plot(bits, unquantized + MARGIN / 100 * comparison.gap.value, "x", color=INK, markersize=6)
