"""Drawings of the page, as SVG: what was recorded beside a clip, and how long samples are."""

from __future__ import annotations

import itertools
from html import escape

import numpy as np

from data_prep.shards.sample import Sample
from lam.data.index import DataIndex
from lam.data.schema import SPLITS

_TRACES = 8  # numbers drawn of a clip
_BARS = 40
_COLORS = {"train": "#0072B2", "val": "#56B4E9"}
_WIDTH, _ROW, _HISTOGRAM = 280, 26, 150


def draw_traces(index: DataIndex, sample: Sample) -> str:
    """Draw the numbers of actions and factors that change most over time; actions between the limits of the whole set."""
    rows = list_numbers(index, sample)
    changes = [-float(np.ptp(values)) / (high - low) if high > low else 0.0 for _, values, low, high in rows]
    chosen = sorted(np.argsort(changes, kind="stable")[:_TRACES].tolist())
    drawn = []
    for number, (name, values, low, high) in enumerate(rows[i] for i in chosen):
        top = number * _ROW
        line = step_line(sample.times, values, low, high, _WIDTH - 120, _ROW - 8)
        drawn.append(
            f'<text x="0" y="{top + 16}" font-size="9">{escape(name[:22])}</text>'
            f'<g transform="translate(118 {top + 4})"><rect width="{_WIDTH - 120}" height="{_ROW - 8}" fill="#f4f4f4"/>'
            f'<polyline points="{line}" fill="none" stroke="#0072B2"/><title>{low:.4g} to {high:.4g}</title></g>'
        )
    if not drawn:
        return ""
    more = f'<p class="quiet">and {len(rows) - _TRACES} numbers that change less</p>' if len(rows) > _TRACES else ""
    return f'<svg viewBox="0 0 {_WIDTH} {len(drawn) * _ROW}">{"".join(drawn)}</svg>{more}'


def list_numbers(index: DataIndex, sample: Sample) -> list[tuple[str, np.ndarray, float, float]]:
    """Return name, values (F-1,) and limits of each number that was recorded beside a sample."""
    rows: list[tuple[str, np.ndarray, float, float]] = []
    if sample.actions is not None:
        names = [f"{each.name}[{i}]" if each.dim > 1 else each.name for each in index.actions for i in range(each.dim)]
        for i, (name, values) in enumerate(zip(names, sample.actions.T, strict=True)):
            found = index.action_statistics
            limits = (values.min(), values.max()) if found is None else (found.low[i], found.high[i])
            rows.append((name, values, *map(float, limits)))
    for name, factor in sample.factors.items():
        columns = factor.reshape(len(factor), -1).T
        for i, values in enumerate(columns):
            label = name if len(columns) == 1 else f"{name}[{i}]"
            rows.append((label, values, float(values.min()), float(values.max())))
    return rows


def step_line(times: np.ndarray, values: np.ndarray, low: float, high: float, width: float, height: float) -> str:
    """Return points of a line that stays at each value from one frame to the next; it lies in the middle where low is high."""
    across = (times - times[0]) / (times[-1] - times[0]) * width
    down = height * (1 - (values - low) / (high - low)) if high > low else np.full(len(values), height / 2)
    down = np.clip(down, 0, height)  # validation may go beyond what training did
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in zip(np.repeat(across, 2)[1:-1], np.repeat(down, 2), strict=True))


def count_lengths(index: DataIndex) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return bounds (bars + 1,) in frames, and for each split the number of samples between them."""
    lengths = {split: np.array([n for info in index.splits[split] for n in info.lengths], int) for split in SPLITS}
    counts = {split: np.array([n for info in index.splits[split] for n in info.counts], int) for split in SPLITS}
    every = np.concatenate(list(lengths.values()))
    width = -(-(every.max() - every.min() + 1) // _BARS)
    bounds = np.arange(every.min(), every.max() + width + 1, width)
    return bounds, {s: np.histogram(lengths[s], bounds, weights=counts[s])[0].astype(int) for s in SPLITS}


def draw_lengths(index: DataIndex) -> str:
    """Draw a histogram of the numbers of frames of samples."""
    bounds, counts = count_lengths(index)
    tallest = int(np.sum(list(counts.values()), axis=0).max())
    width = 760 / (len(bounds) - 1)
    bars: list[str] = []
    for i, (low, high) in enumerate(itertools.pairwise(bounds)):
        base = float(_HISTOGRAM)
        for split in SPLITS:
            tall = _HISTOGRAM * counts[split][i] / tallest
            base -= tall
            frames = f"{low}" if high == low + 1 else f"{low} to {high - 1}"
            bars.append(
                f'<rect x="{i * width:.1f}" y="{base:.1f}" width="{max(width - 1, 0.5):.1f}" height="{tall:.1f}" '
                f'fill="{_COLORS[split]}"><title>{frames} frames: {counts[split][i]:,} {split}</title></rect>'
            )
    ends = [bounds[0], bounds[-1] - 1]
    said = [f"{each} frames ({each / index.fps:.3g} s)" for each in ends]
    text = f'<text x="0" y="{_HISTOGRAM + 16}">{said[0]}</text>'
    if ends[0] != ends[1]:
        text += f'<text x="760" y="{_HISTOGRAM + 16}" text-anchor="end">{said[1]}</text>'
    text += _legend()
    box = f'viewBox="0 -20 760 {_HISTOGRAM + 44}" style="max-width: 760px" font-size="12"'
    return f"<svg {box}>{''.join(bars)}{text}</svg><p class=quiet>The highest bar: {tallest:,} samples.</p>"


def _legend() -> str:
    return "".join(
        f'<rect x="{580 + 90 * i}" y="-16" width="12" height="12" fill="{_COLORS[split]}"/>'
        f'<text x="{597 + 90 * i}" y="-6">{split}</text>'
        for i, split in enumerate(SPLITS)
    )
