"""Parts that all figures share: lines of a family, reference rows, axes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import AutoLocator, NullLocator

from lam.report.figures.palette import INK, REFERENCE_COLORS, line_style
from lam.report.stats.estimates import Estimate
from lam.report.stats.jackknife import Array
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow

STYLE: dict[str, Any] = {
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "pdf.fonttype": 42,  # text stays text
    "svg.hashsalt": "lam",  # element ids would be random otherwise
}
DASHES = (0, (4, 2))
CURVE = 3
"""Values of a knob that make a curve, at least; two are joined by a line that nobody measured."""


def style_of(family: str) -> dict[str, Any]:
    """Return the color and marker of a row's family, the same in every figure of every setting."""
    if family in REFERENCE_ROWS:
        return {"label": family, "color": REFERENCE_COLORS[family], "marker": "*", "markersize": 9, "linestyle": "none"}
    return {"label": family} | line_style(family)


def error_bars(cells: Sequence[Estimate]) -> Array:
    """Return how far intervals reach below and above their numbers, (2, n); 0 where there is none."""
    return np.nan_to_num([[cell.value - cell.low for cell in cells], [cell.high - cell.value for cell in cells]])


def points(axis: Axes, comparison: Comparison, x: Array, rows: Sequence[TableRow], key: str) -> None:
    """Draw a family's rows with intervals where there are any, joined in the order of their sweep where they make a curve."""
    cells = [comparison.estimate(row, key) for row in rows]
    y = np.array([cell.value for cell in cells])
    keep = np.isfinite(x) & np.isfinite(y)
    if keep.any():
        style = style_of(rows[0].family) | ({} if keep.sum() >= CURVE else {"linestyle": "none"})
        axis.errorbar(x[keep], y[keep], error_bars(cells)[:, keep], elinewidth=1, capsize=2, alpha=0.9, **style)


def scatter(axis: Axes, comparison: Comparison, x_key: str, y_key: str, with_references: bool = True) -> None:
    """Draw one key against another: a line a family, a star a reference row."""
    for rows in [*([row] for row in comparison.references.values() if with_references), *comparison.families.values()]:
        x = np.array([comparison.estimate(row, x_key).value for row in rows])
        points(axis, comparison, x, rows, y_key)


def reference_levels(axis: Axes, comparison: Comparison, key: str, named: bool) -> None:
    """Draw the reference rows as levels with their intervals as bands, named at the right edge."""
    for name, row in comparison.references.items():
        cell = comparison.estimate(row, key)
        color = REFERENCE_COLORS[name]
        axis.axhline(cell.value, color=color, linewidth=1, linestyle=DASHES)
        if np.isfinite(cell.half):
            axis.axhspan(cell.low, cell.high, color=color, alpha=0.12, linewidth=0)
        if named:
            axis.text(1.01, cell.value, name, va="center", color=color, transform=axis.get_yaxis_transform())


def legend(
    figure: Figure, comparison: Comparison, references: bool = True, extra: Sequence[Line2D] = (), key: str = ""
) -> None:
    """Draw one legend at the right of the whole figure, whatever single panels show; with a key, of rows that have it."""
    names = [name for name in REFERENCE_ROWS if name in comparison.references and references] + list(comparison.families)
    if key:
        acting = {row.family for row in comparison.unlabeled if comparison.estimate(row, key).defined}
        names = [name for name in names if name in acting]
    handles = [Line2D([], [], **style_of(name)) for name in names]
    figure.legend(handles=[*handles, *extra], loc="outside right upper")


def value(comparison: Comparison, row: TableRow, key: str) -> float:
    """Return a cell's mean."""
    return comparison.estimate(row, key).value


def has_any(comparison: Comparison, key: str, rows: Sequence[TableRow] | None = None) -> bool:
    """Tell whether some row has a number of this key."""
    return any(comparison.estimate(row, key).defined for row in (comparison.rows if rows is None else rows))


def bits_axis(axis: Axes, room: float = 1.15) -> None:
    """Scale an axis of bits: linear up to 1, then by powers of 2, so that 0 and 40 bits have a place on one axis.

    Args:
        axis: Drawn already.
        room: How many times the largest number the axis reaches.
    """
    top = axis.get_xlim()[1]
    axis.set_xscale("symlog", base=2, linthresh=1, linscale=0.7)
    ticks = [0.0, *2.0 ** np.arange(0, max(2, int(np.ceil(np.log2(max(top, 2)))) + 1))]
    axis.set_xticks(ticks if len(ticks) < 9 else ticks[:1] + ticks[1::2], labels=None)
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter("{x:g}")
    axis.set_xlim(-0.2, top * room)


def knob_axis(axis: Axes, rows: Sequence[TableRow]) -> Array:
    """Place the knobs with their text as labels: logarithmic where they span a decade, tight end on the left."""
    numbers = np.array([row.number for row in rows])
    if not np.isfinite(numbers).all():
        numbers = np.arange(len(rows), dtype=float)
    if numbers.min() > 0 and numbers.max() / numbers.min() >= 10:
        axis.set_xscale("log")
    crowded = sum(len(row.knob) for row in rows) > 12
    axis.set_xticks(numbers, [row.knob for row in rows], rotation=90 if crowded else 0, fontsize=7 if crowded else 9)
    axis.set_xticks([], minor=True)
    axis.margins(x=0.15)
    if numbers[0] > numbers[-1]:
        axis.invert_xaxis()
    return numbers


def mark_cuts(figure: Figure) -> None:
    """Mark each axis that does not begin at 0 with two strokes across it, as its lengths are no proportions.

    Axes of bits, of knobs and logarithmic ones are left as they are.
    """
    stroke: dict[str, Any] = {"color": INK, "linewidth": 1, "linestyle": "none", "markersize": 7, "clip_on": False, "zorder": 5}
    for axis in figure.axes:
        if _is_cut(axis.yaxis, axis.get_ylim()):
            axis.plot([0, 0], [0.025, 0.055], marker=[(-1, -0.4), (1, 0.4)], transform=axis.transAxes, gid="cut", **stroke)
        if _is_cut(axis.xaxis, axis.get_xlim()):
            axis.plot([0.02, 0.04], [0, 0], marker=[(-0.4, -1), (0.4, 1)], transform=axis.transAxes, gid="cut", **stroke)


def _is_cut(axis: Axis, limits: tuple[float, float]) -> bool:
    """Tell whether an axis of plain numbers leaves 0 out."""
    return axis.get_scale() == "linear" and isinstance(axis.get_major_locator(), AutoLocator) and min(limits) > 0


def small_panels(count: int, wide: int, size: tuple[float, float]) -> tuple[Figure, list[Axes]]:
    """Make a figure of ``count`` panels that share their axes' range, ``wide`` in a line; unused ones are removed."""
    wide = min(wide, count)
    high = -(-count // wide)
    figure = Figure(figsize=(1.6 + size[0] * wide, 0.6 + size[1] * high), layout="constrained")
    panels = list(figure.subplots(high, wide, sharey=True, squeeze=False).flatten())
    for axis in panels[count:]:
        axis.remove()
    return figure, panels[:count]
