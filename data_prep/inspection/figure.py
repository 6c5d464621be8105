"""The picture of an inspection: frames, actions over time, their histograms, the lag of image motion, intervals of frames."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure, SubFigure

from data_prep.inspection.action_lag import ActionLag
from data_prep.inspection.action_stats import ActionDimension
from data_prep.inspection.preview import RecordingPreview
from lam.io import atomic_file

_ACTION_COLOR, _LAG_COLOR, _INTERVAL_COLOR = (
    "#0072B2",
    "#D55E00",
    "#009E73",
)  # Okabe and Ito's, for color-blind readers
_STYLE: dict[str, Any] = {
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
}
_STRIPS, _NUMBERS, _ROWS = 4, 6, 300
_WIDTH = 11.0  # inches


def draw_inspection(
    path: Path, name: str, seen: Sequence[RecordingPreview], numbers: Sequence[ActionDimension] | None, lag: ActionLag | None
) -> Path:
    """Draw what was seen of a source.

    Args:
        path: File to write.
        name: What the source is called.
        seen: What was seen of its recordings.
        numbers: The numbers of its actions, None where there are none.
        lag: The lag between actions and image motion.

    Returns:
        The file.
    """
    strips = [seen[i] for i in np.linspace(0, len(seen) - 1, min(_STRIPS, len(seen))).round().astype(int)]
    heights = [1.0 * len(strips) + 0.3, 2.6]
    shown: list[int] = []
    if numbers is not None and lag is not None:
        shown = _which(numbers, lag)
        heights.insert(1, 0.9 * len(shown) + 0.7)
    # whatever matplotlibrc says; Any, as matplotlib's stubs want its settings by literal names
    plain: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}
    with mpl.rc_context(plain | _STYLE):
        figure = Figure(figsize=(_WIDTH, sum(heights)), layout="constrained")
        parts = figure.subfigures(len(heights), 1, height_ratios=heights, squeeze=False)[:, 0]
        _draw_strips(parts[0], name, strips)
        if numbers is not None and lag is not None and shown:
            _draw_actions(parts[1], _with_actions(seen), numbers, shown)
        panels = parts[-1].subplots(1, 2, squeeze=False)[0]
        _draw_lag(panels[0], numbers, lag)
        _draw_intervals(panels[1], seen)
        with atomic_file(path) as file:
            figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=110)
    return path


def _which(numbers: Sequence[ActionDimension], lag: ActionLag) -> list[int]:
    """Return the numbers to draw: those that go with motion first, constant ones last."""
    order = sorted(range(len(numbers)), key=lambda i: (not lag.visible[i], numbers[i].constant, i))
    return sorted(order[:_NUMBERS])


def _with_actions(seen: Sequence[RecordingPreview]) -> list[RecordingPreview]:
    return [each for each in seen if each.actions is not None and len(each.actions)]


def _draw_strips(part: SubFigure, name: str, strips: Sequence[RecordingPreview]) -> None:
    """Draw a row of frames for each of some recordings."""
    part.suptitle(f"{name}: frames of {len(strips)} recordings, evenly spread over what was read", fontsize=10)
    axes = part.subplots(len(strips), 1, squeeze=False)[:, 0]
    for axis, strip in zip(axes, strips, strict=True):
        gap = np.full((strip.pictures[0].shape[0], 4, 3), 255, np.uint8)
        axis.imshow(np.concatenate([each for picture in strip.pictures for each in (picture, gap)], axis=1)[:, :-4])
        axis.set_title(f"{strip.name}: {len(strip.times)} frames, {strip.times[-1]:.1f} s", fontsize=8, loc="left", pad=2)
        axis.set_anchor("W")
        axis.set_axis_off()


def _draw_actions(
    part: SubFigure, acted: Sequence[RecordingPreview], numbers: Sequence[ActionDimension], shown: Sequence[int]
) -> None:
    """Draw each number over time in the longest recording, and its histogram in all."""
    longest = max(acted, key=lambda each: len(each.times))
    rows, times = longest.actions, longest.times
    assert rows is not None
    count = min(len(rows), len(times), _ROWS)
    everything = np.concatenate([each.actions for each in acted if each.actions is not None])
    axes = part.subplots(len(shown), 2, squeeze=False, width_ratios=[4, 1])
    for (trace, histogram), i in zip(axes, shown, strict=True):
        trace.step(times[:count], rows[:count, i], where="post", color=_ACTION_COLOR, linewidth=0.9)
        trace.set_ylabel(numbers[i].name, fontsize=8, rotation=0, ha="right", va="center")
        values = everything[:, i][np.isfinite(everything[:, i])]
        histogram.hist(values, bins=40, color=_ACTION_COLOR)
        histogram.set_yticks([])
        for axis in (trace, histogram):
            axis.tick_params(labelsize=7)
        if i != shown[-1]:
            trace.tick_params(labelbottom=False)
    left = f" ({len(shown)} of {len(numbers)} numbers)" if len(shown) < len(numbers) else ""
    axes[0, 0].set_title(f"actions{left}, {longest.name}", fontsize=9, loc="left")
    axes[0, 1].set_title("all recordings", fontsize=9, loc="left")
    axes[-1, 0].set_xlabel("seconds")


def _draw_lag(axis: Axes, numbers: Sequence[ActionDimension] | None, lag: ActionLag | None) -> None:
    """Draw held-out R² of actions from image motion over the lag."""
    axis.set_title("actions predicted from image motion", fontsize=9, loc="left")
    if numbers is None or lag is None or np.isnan(lag.r2).all():
        axis.set_axis_off()
        axis.text(0.5, 0.5, "no actions" if lag is None else lag.verdict.value, ha="center", transform=axis.transAxes)
        return
    curves = np.clip(lag.r2, -0.1, 1)
    for i in np.flatnonzero(~np.isnan(curves[0])):
        axis.plot(lag.lags, curves[:, i], color="#BBBBBB", linewidth=0.8)
    if lag.visible.any():
        axis.axvspan(lag.low - 0.5, lag.high + 0.5, color=_LAG_COLOR, alpha=0.15, linewidth=0)
        axis.plot(lag.lags, lag.mean_r2, color=_LAG_COLOR, marker="o", label="mean of the numbers that show")
        axis.legend(loc="upper left", fontsize=7)
    axis.axhline(0, color="#444444", linewidth=0.8)
    axis.set_xticks(lag.lags)
    axis.set_xlabel(f"lag in frames ({lag.verdict.value}; gray: each number; shaded: 95 % interval)", fontsize=8)
    axis.set_ylabel("held-out R²")


def _draw_intervals(axis: Axes, seen: Sequence[RecordingPreview]) -> None:
    """Draw a histogram of the times between frames."""
    gaps = np.concatenate([np.diff(each.times) for each in seen])
    axis.set_title("intervals between frames", fontsize=9, loc="left")
    if not len(gaps):
        return
    middle = float(np.median(gaps))
    axis.hist(np.clip(gaps, 0, 3 * middle), bins=60, range=(0, 3 * middle), color=_INTERVAL_COLOR)
    axis.set_yscale("log")
    axis.set_xlabel(f"seconds (middle {middle:.3g}; longer than {3 * middle:.3g} at the right edge)", fontsize=8)
    axis.set_ylabel("frames")
