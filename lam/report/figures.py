"""Figures of a comparison, as PNG and SVG, the same bytes for the same runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.figure import Figure

from lam.report.drawing import STYLE
from lam.report.figures_capacity import draw_codes, draw_error, draw_gap, draw_rate
from lam.report.figures_meaning import draw_leakage, draw_probe, draw_transfer
from lam.report.rows import Comparison

FIGURES: dict[str, Callable[[Comparison], Figure | None]] = {
    "error": draw_error,
    "rate": draw_rate,
    "gap": draw_gap,
    "leakage": draw_leakage,
    "transfer": draw_transfer,
    "probe": draw_probe,
    "codes": draw_codes,
}
"""What there is to draw, in the order of the report."""


def write_figures(folder: Path, comparison: Comparison) -> list[Path]:
    """Draws what the runs have numbers for; a figure from an earlier call that has none now is removed."""
    plain: Any = {key: value for key, value in mpl.rcParamsDefault.items() if key != "backend"}  # whatever matplotlibrc says
    written = []
    for name, draw in FIGURES.items():
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
