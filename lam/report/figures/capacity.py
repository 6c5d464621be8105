"""Figures of capacity: error and gap closed against bits and knobs, rate-error curves, codes used."""

from __future__ import annotations

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lam.report.figures.style import (
    DASHES,
    REFERENCE_COLORS,
    bits_axis,
    has_any,
    knob_axis,
    legend,
    points,
    reference_levels,
    small_panels,
    style_of,
    value,
)
from lam.report.stats.jackknife import Array
from lam.report.stats.measures import BITS, CODES_USED, ERROR, GAP_CLOSED, NOMINAL_BITS, RATE
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow

MARGIN = 5.0  # percent of G, as in BITS


def draw_error(comparison: Comparison) -> Figure | None:
    """Draw error against operational bits (nominal ones where there are none) and along each family's knob."""
    if not comparison.families:
        return None
    rows = [row for sweep in comparison.families.values() for row in sweep]
    bits = next((key for key in (BITS, NOMINAL_BITS) if has_any(comparison, key, rows)), "")
    figure = Figure(figsize=(9 if bits else 5.5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if bits else 1, sharey=True, squeeze=False)[0]
    for index, sweep in enumerate(comparison.families.values()):
        shift = 0.04 * (index - (len(comparison.families) - 1) / 2)  # so that families stand side by side
        ranks: Array = np.arange(len(sweep), dtype=np.float64) + 1.0 + shift
        points(axes[-1], comparison, ranks, sweep, ERROR)
        if bits:
            points(axes[0], comparison, np.array([value(comparison, row, bits) for row in sweep]), sweep, ERROR)
    for axis in axes:
        reference_levels(axis, comparison, ERROR, named=axis is axes[-1])
    axes[0].set_ylabel("prediction error (copying the last state = 1)")
    if bits:
        axes[0].set_xlabel("operational bits a transition (@5%)" if bits == BITS else "nominal bits a transition")
        bits_axis(axes[0])
    axes[-1].set_xlabel("place in the sweep, from tight to loose")
    axes[-1].set_xticks(range(1, 1 + max(len(sweep) for sweep in comparison.families.values())))
    legend(figure, comparison, references=False)
    return figure


def draw_rate(comparison: Comparison) -> Figure | None:
    """Draw error of the quantized latent against its bits: one panel a family, one hull a knob."""
    families = {
        name: [row for row in rows if len(rate_points(comparison, row)[0])] for name, rows in comparison.families.items()
    }
    families = {name: rows for name, rows in families.items() if rows}
    if not families:
        return None
    figure, panels = small_panels(len(families), 4, (2.3, 2.4))
    for axis, (family, rows) in zip(panels, families.items(), strict=True):
        for row, shade in zip(rows, np.linspace(0.35, 1.0, len(rows)) if len(rows) > 1 else [1.0], strict=True):
            _curve(axis, comparison, row, shade)
        reference_levels(axis, comparison, ERROR, named=False)
        axis.set_title(family, fontsize=10)
        bits_axis(axis, room=2.0)
    figure.supxlabel("held-out bits a transition of the quantized latent", fontsize=9)
    figure.supylabel("prediction error with it", fontsize=9)
    cross = Line2D([], [], color="#222222", marker="x", linestyle="none", label="operational bits @5%")
    dot = Line2D([], [], color="#222222", marker=".", linestyle="none", label="a coder")
    lines = [
        Line2D([], [], color=REFERENCE_COLORS[n], linestyle=DASHES, label=n)
        for n in REFERENCE_ROWS
        if n in comparison.references
    ]
    figure.legend(handles=[dot, cross, *lines], loc="outside upper center", ncols=4)
    return figure


def rate_points(comparison: Comparison, row: TableRow) -> tuple[Array, Array]:
    """Return bits and errors of a row's coders, means over seeds; empty where it has none."""
    names = sorted({str(key) for run in row.runs.values() for key in run.clips if str(key).startswith(RATE + "point/")})
    stems = sorted({name.rsplit("/", 1)[0] for name in names})
    pairs = np.array([[value(comparison, row, f"{stem}/{axis}") for axis in ("bits", "error")] for stem in stems])
    x, y = pairs.reshape(-1, 2).T
    keep = np.isfinite(x) & np.isfinite(y)
    return x[keep], y[keep]


def lower_hull(x: Array, y: Array) -> Array:
    """Return the corners (m, 2) of the lower convex hull of points, from the fewest bits to the least error."""
    hull: list[Array] = []
    for point in np.stack([x, y], axis=1)[np.lexsort((y, x))]:
        if hull and point[1] >= hull[-1][1]:
            continue
        while len(hull) > 1 and np.linalg.det(np.stack([hull[-1] - hull[-2], point - hull[-2]])) <= 0:
            hull.pop()
        hull.append(point)
    return np.array(hull)


def draw_gap(comparison: Comparison) -> Figure | None:
    """Draw gap closed along each family's own knob, one panel a family."""
    families = {family: rows for family, rows in comparison.families.items() if has_any(comparison, GAP_CLOSED, rows)}
    if not families:
        return None
    figure, panels = small_panels(len(families), 4, (2.1, 2.2))
    for axis, (family, rows) in zip(panels, families.items(), strict=True):
        points(axis, comparison, knob_axis(axis, rows), rows, GAP_CLOSED)
        for name, level in zip(REFERENCE_ROWS, (0.0, 1.0), strict=True):
            axis.axhline(level, color=REFERENCE_COLORS[name], linewidth=1, linestyle=DASHES)
        axis.set_title(family, fontsize=10)
    figure.supxlabel("knob, from tight to loose", fontsize=9)
    figure.supylabel("gap closed (0 = none, 1 = identity)", fontsize=9)
    return figure


def draw_codes(comparison: Comparison) -> Figure | None:
    """Draw the share of the code tuples in use, one bar a discrete row."""
    bars = [row for rows in comparison.families.values() for row in rows if comparison.estimate(row, CODES_USED).defined]
    if not bars:
        return None
    figure = Figure(figsize=(5.5, 0.9 + 0.28 * len(bars)), layout="constrained")
    axis = figure.subplots()
    for place, row in enumerate(bars):
        cell = comparison.estimate(row, CODES_USED)
        axis.barh(place, cell.value, color=style_of(comparison, row.family)["color"], height=0.7)
        if np.isfinite(cell.half):
            axis.errorbar(cell.value, place, xerr=cell.half, color="#222222", linewidth=1, capsize=2)
        axis.text(1.02, place, f"{cell.value:.0%}", va="center", transform=axis.get_yaxis_transform())
    axis.set_yticks(range(len(bars)), [row.name for row in bars])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("share of code tuples used on held-out clips")
    return figure


def _curve(axis: Axes, comparison: Comparison, row: TableRow, shade: float) -> None:
    """Draw a row's coders as dots, their hull as a line with the knob at its end, a cross where error is 5 % of the gap up."""
    color = style_of(comparison, row.family)["color"]
    x, y = rate_points(comparison, row)
    axis.plot(x, y, ".", color=color, alpha=0.45 * shade, markersize=4)
    corners = lower_hull(x, y)
    along = np.unique(
        np.concatenate([corners[:, 0], np.linspace(corners[0, 0], corners[-1, 0], 400)])
    )  # chords bend on this axis
    axis.plot(along, np.interp(along, *corners.T), "-", color=color, alpha=shade)
    axis.annotate(row.knob, corners[-1], (4, 0), textcoords="offset points", va="center", fontsize=7, color="#444444")
    bits, unquantized = value(comparison, row, BITS), value(comparison, row, RATE + "unquantized")
    axis.plot(bits, unquantized + MARGIN / 100 * comparison.gap.value, "x", color="#222222", markersize=6)
