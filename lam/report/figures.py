"""Figures of a comparison, as PNG and SVG, the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator

from lam.report.rows import ANCHORS, ERROR, GAP_CLOSED, Comparison, Row
from lam.report.table import GAIN, probed_causes

BITS, CODES_USED = "eval/rate/bits_nominal", "eval/usage/codes_used"

# told apart by color-blind readers: Okabe and Ito's (https://jfly.uni-koeln.de/color) without yellow and black, then a wine
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#882255")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "<", ">")
ANCHOR_COLORS = {"none": "#444444", "identity": "#999999"}
STYLE: dict[str, Any] = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E5E5E5",
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 5,
    "svg.hashsalt": "lam",  # element ids would be random otherwise
}


def write_figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Draws what the runs have numbers for; a figure from an earlier call that has none now is removed."""
    drawings: dict[str, Callable[[Comparison], Figure | None]] = {
        "error": draw_error,
        "gap": draw_gap,
        "probe": draw_probe,
        "codes": draw_codes,
    }
    plain: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}  # whatever matplotlibrc says
    written = []
    for name, draw in drawings.items():
        paths = [folder / f"{name}.png", folder / f"{name}.svg"]
        with mpl.rc_context(plain | STYLE):
            figure = draw(comparison)
            if figure is None:
                for path in paths:
                    path.unlink(missing_ok=True)
                continue
            figure.draw_without_rendering()
            figure.set_layout_engine(None)  # laid out once; both files keep it
            figure.savefig(paths[0], dpi=150, metadata={"Software": None})
            figure.savefig(paths[1], metadata={"Date": None, "Creator": None})
        written += paths
    return written


def draw_error(comparison: Comparison) -> Figure | None:
    """Error against nominal bits, and along each family's knob, between the anchors."""
    if not comparison.families:
        return None
    rows_with_knobs = [row for rows in comparison.families.values() for row in rows]
    bits_of = {row.name: comparison.estimate(row, BITS).value for row in rows_with_knobs}
    with_bits = bool(np.isfinite(list(bits_of.values())).any())
    figure = Figure(figsize=(9 if with_bits else 5.5, 4), layout="constrained")
    axes = figure.subplots(1, 2 if with_bits else 1, sharey=True, squeeze=False)[0]
    for index, (family, rows) in enumerate(comparison.families.items()):
        ranks = np.arange(len(rows)) + 1.0 + 0.04 * (index - (len(comparison.families) - 1) / 2)  # side by side
        _points(axes[-1], comparison, ranks, rows, ERROR, _style(index, family))
        if with_bits:
            bits = np.array([bits_of[row.name] for row in rows])
            if np.isfinite(bits).any():
                _points(axes[0], comparison, bits, rows, ERROR, _style(index, family))
    for axis in axes:
        _anchors(axis, comparison, ERROR, named=axis is axes[-1])
    axes[0].set_ylabel("prediction error (copying the last state = 1)")
    if with_bits:
        axes[0].set_xlabel("nominal bits a transition")
        _log_if_wide(axes[0], np.array(list(bits_of.values())))
    axes[-1].set_xlabel("place in the sweep, from tight to loose")
    axes[-1].set_xticks(range(1, 1 + max(len(rows) for rows in comparison.families.values())))
    handles, labels = axes[-1].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    return figure


def draw_gap(comparison: Comparison) -> Figure | None:
    """Gap closed along each family's own knob, one panel a family."""
    families = {
        family: rows
        for family, rows in comparison.families.items()
        if any(np.isfinite(comparison.estimate(row, GAP_CLOSED).value) for row in rows)
    }
    if not families:
        return None
    wide = min(4, len(families))
    high = -(-len(families) // wide)
    figure = Figure(figsize=(1 + 2.1 * wide, 0.6 + 2.2 * high), layout="constrained")
    panels = figure.subplots(high, wide, sharey=True, squeeze=False).flatten()
    order = list(comparison.families)
    for axis, (family, rows) in zip(panels, families.items(), strict=False):
        _points(axis, comparison, _knob_axis(axis, rows), rows, GAP_CLOSED, _style(order.index(family), family))
        for name, level in zip(ANCHORS, (0.0, 1.0), strict=True):
            axis.axhline(level, color=ANCHOR_COLORS[name], linewidth=1, linestyle=(0, (4, 2)))
        axis.set_title(family, fontsize=10)
    for axis in panels[len(families) :]:
        axis.remove()
    figure.supxlabel("knob, from tight to loose", fontsize=9)
    figure.supylabel("gap closed (0 = none, 1 = identity)", fontsize=9)
    return figure


def draw_probe(comparison: Comparison) -> Figure | None:
    """What z adds to the state about each cause, against gap closed."""
    causes = probed_causes(comparison)
    gaps = {row.name: comparison.estimate(row, GAP_CLOSED).value for row in comparison.rows}
    if not causes or not np.isfinite(list(gaps.values())).any():
        return None
    wide = min(3, len(causes))
    high = -(-len(causes) // wide)
    figure = Figure(figsize=(1.6 + 2.7 * wide, 0.6 + 2.5 * high), layout="constrained")
    panels = figure.subplots(high, wide, sharex=True, sharey=True, squeeze=False).flatten()
    for axis, cause in zip(panels, causes, strict=False):
        anchors = [row for row in comparison.rows if row.family in ANCHORS]
        for row in anchors:
            style = {"label": row.family, "color": ANCHOR_COLORS[row.family], "marker": "*", "markersize": 9}
            _points(axis, comparison, np.array([gaps[row.name]]), [row], GAIN + cause, style)
        for index, (family, rows) in enumerate(comparison.families.items()):
            x = np.array([gaps[row.name] for row in rows])
            _points(axis, comparison, x, rows, GAIN + cause, _style(index, family))
        axis.axhline(0, color="#444444", linewidth=0.8)
        axis.set_title(cause, fontsize=10)
    for axis in panels[max(0, len(causes) - wide) : len(causes)]:
        axis.tick_params(labelbottom=True)
    for axis in panels[len(causes) :]:
        axis.remove()
    figure.supxlabel("gap closed", fontsize=9)
    figure.supylabel("gain: score of state and z less score of state", fontsize=9)
    handles, labels = panels[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside right upper")
    return figure


def draw_codes(comparison: Comparison) -> Figure | None:
    """Share of the codebook in use, one bar a discrete row."""
    bars = [
        (row, index, comparison.estimate(row, CODES_USED))
        for index, rows in enumerate(comparison.families.values())
        for row in rows
        if np.isfinite(comparison.estimate(row, CODES_USED).value)
    ]
    if not bars:
        return None
    figure = Figure(figsize=(5.5, 0.9 + 0.28 * len(bars)), layout="constrained")
    axis = figure.subplots()
    places = list(range(len(bars)))
    axis.barh(places, [cell.value for _, _, cell in bars], color=[_style(i, "")["color"] for _, i, _ in bars], height=0.7)
    for place, (_, _, cell) in zip(places, bars, strict=True):
        if np.isfinite(cell.half):
            axis.errorbar(cell.value, place, xerr=cell.half, color="#222222", linewidth=1, capsize=2)
        axis.text(1.02, place, f"{cell.value:.0%}", va="center", transform=axis.get_yaxis_transform())
    axis.set_yticks(places, [row.name for row, _, _ in bars])
    axis.invert_yaxis()
    axis.set_xlim(0, 1)
    axis.grid(axis="y", visible=False)
    axis.set_xlabel("share of codes used on held-out clips")
    return figure


def _style(index: int, family: str) -> dict[str, Any]:
    """Color and marker of a family; markers differ where colors repeat."""
    line = ("-", "--")[index // len(COLORS) % 2]
    return {
        "label": family,
        "color": COLORS[index % len(COLORS)],
        "marker": MARKERS[index % len(MARKERS)],
        "linestyle": line,
    }


def _points(axis: Axes, comparison: Comparison, x: np.ndarray, rows: list[Row], key: str, style: dict[str, Any]) -> None:
    """A family's rows joined in the order of their sweep, with intervals where there are any."""
    cells = [comparison.estimate(row, key) for row in rows]
    y, half = np.array([cell.value for cell in cells]), np.nan_to_num([cell.half for cell in cells])
    keep = np.isfinite(x) & np.isfinite(y)
    axis.errorbar(x[keep], y[keep], half[keep], elinewidth=1, capsize=2, alpha=0.9, **style)


def _anchors(axis: Axes, comparison: Comparison, key: str, named: bool) -> None:
    """The anchors as levels with their intervals as bands, named at the right edge."""
    for name, row in comparison.anchors.items():
        cell = comparison.estimate(row, key)
        color = ANCHOR_COLORS[name]
        axis.axhline(cell.value, color=color, linewidth=1, linestyle=(0, (4, 2)))
        if np.isfinite(cell.half):
            axis.axhspan(cell.value - cell.half, cell.value + cell.half, color=color, alpha=0.12, linewidth=0)
        if named:
            axis.text(1.01, cell.value, name, va="center", color=color, transform=axis.get_yaxis_transform())


def _log_if_wide(axis: Axes, values: np.ndarray) -> None:
    """A logarithmic axis where positive values span more than a decade."""
    x = values[np.isfinite(values)]
    if len(x) and x.min() > 0 and x.max() / x.min() > 10:
        axis.set_xscale("log")
        axis.xaxis.set_major_locator(LogLocator(subs=(1, 3)))
        axis.xaxis.set_major_formatter("{x:g}")


def _knob_axis(axis: Axes, rows: list[Row]) -> np.ndarray:
    """Places of the knobs with their text as labels: logarithmic where they span a decade, tight end on the left."""
    numbers = np.array([row.number for row in rows])
    if not np.isfinite(numbers).all():
        numbers = np.arange(len(rows), dtype=float)
    if numbers.min() > 0 and numbers.max() / numbers.min() >= 10:
        axis.set_xscale("log")
    axis.set_xticks(numbers, [row.knob for row in rows])
    axis.set_xticks([], minor=True)
    axis.margins(x=0.15)
    if numbers[0] > numbers[-1]:
        axis.invert_xaxis()
    return numbers
