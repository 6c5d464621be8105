"""Metrics against what they should foretell: CSV, Markdown and a figure, one dot and interval a metric, one panel a target."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lam.io import write_text
from lam.report.figures.catalogue import save_figure
from lam.report.figures.palette import COLORS
from lam.report.figures.style import DASHES
from lam.report.stats.rows import Comparison
from lam.report.stats.usefulness import TARGETS
from lam.report.tables.main import provenance
from lam.report.tables.usefulness import CLAIMS, GUIDE, Foretold, usefulness, usefulness_grid

NOTHING = "#A8A8A8"


def write_usefulness(out: Path, comparisons: Sequence[Comparison]) -> list[Path]:
    """Write OUT.csv, OUT.md, OUT.png, OUT.svg and OUT.pdf.

    Raises:
        ValueError: No setting has rows that act.
    """
    found = usefulness(comparisons)
    if not found:
        raise ValueError(
            "No row acts: nothing to foretell. Train controllers with lam control on some rows, then make the table again."
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    csv, markdown = (out.parent / f"{out.name}.{kind}" for kind in ("csv", "md"))
    lines = [
        {
            **{"metric": one.metric.key, "heading": one.metric.heading, "target": one.target.heading, "setting": setting},
            **{"n": r.n, "r": r.value, "low": r.low, "high": r.high},
            "foretells": one.verdict if setting == "all" else "",
        }
        for one in found
        for setting, r in {"all": one.pooled, **one.settings}.items()
    ]
    write_text(csv, pd.DataFrame(lines).to_csv(index=False, float_format="%.6g", lineterminator="\n"))
    settings = ", ".join(one.runs[0].setting for one in comparisons)
    seeds = ", ".join(map(str, sorted({run.seed for one in comparisons for run in one.runs})))
    title = f"{settings}: every metric against acting. n = {max(one.pooled.n for one in found)} rows, seeds {seeds}"
    figures = save_figure(out, partial(draw_usefulness, found, CLAIMS), title)
    parts = ["# Every metric against what it is for", *(f"- {one.runs[0].setting}: {provenance(one)}" for one in comparisons)]
    parts += [usefulness_grid(found).markdown(), GUIDE, f"![metrics against acting]({out.name}.png)"]
    write_text(markdown, "\n\n".join(parts) + "\n")
    return [csv, markdown, *figures]


def draw_usefulness(found: Sequence[Foretold], claims: Sequence[float]) -> Figure | None:
    """Draw pooled coefficients with their intervals, gray where they hold 0; dashed lines are the literature's best claims.

    Args:
        found: Metrics and targets.
        claims: Correlations that the literature reports.
    """
    shown = [one for one in found if np.isfinite(one.pooled.value)]
    targets = [target for target in TARGETS if any(one.target == target for one in shown)]
    if not targets:
        return None
    names = {one.metric.key: one.metric.heading for one in shown}
    places = {key: place for place, key in enumerate(names)}
    figure = Figure(figsize=(2.2 + 2.6 * len(targets), 0.9 + 0.2 * len(names)), layout="constrained")
    axes = figure.subplots(1, len(targets), sharey=True, squeeze=False)[0]
    for axis, target in zip(axes, targets, strict=True):
        axis.axvline(0, color="#444444", linewidth=0.8)
        for claim in claims:
            for sign in (-1, 1):
                axis.axvline(sign * claim, color=COLORS[1], linewidth=0.8, linestyle=DASHES)
        for one in shown:
            if one.target == target:
                r, y = one.pooled, places[one.metric.key]
                color = NOTHING if r.holds_zero else COLORS[0]
                axis.plot([r.low, r.high], [y, y], color=color, linewidth=1.4)
                axis.plot(r.value, y, "o", color=color)
        axis.set(title=target.heading, xlim=(-1.05, 1.05))
    axes[0].set_yticks(range(len(names)), list(names.values()))
    axes[0].set_ylim(len(names) - 0.5, -0.5)
    figure.supxlabel("rank correlation with acting well (dashed: best claims of the literature, LAOF)", fontsize=9)
    return figure
