"""Figures of acting: controller error over capacity, planning error over capacity, success over labels."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lam.report.figures.style import error_bars, has_any, legend, scatter, style_of
from lam.report.stats.control import ControlRow, control_rows, label_budgets, main_label_budget
from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, GAP_CLOSED, PLANNING
from lam.report.stats.rows import REFERENCE_ROWS, Comparison, TableRow

BOUND_STYLES: dict[str, dict[str, Any]] = {  # colors belong to families
    "stay": {"color": "#666666", "linestyle": (0, (5, 2))},
    "chance": {"color": "#666666", "linestyle": (0, (1, 1.5))},
    "cloning": {"color": "#222222", "linestyle": (0, (5, 2, 1, 2))},
    "actions": {"color": "#222222", "linestyle": "-"},
    "true simulator": {"color": "#222222", "linestyle": (0, (1, 1.5))},
}
"""Styles of bounds, by the beginning of their names in the control table."""

MAX_ROWS = 8
"""Curves over the number of labels, at most."""


def draw_controller(comparison: Comparison) -> Figure | None:
    """Draw controller error, error with inferred latents and their ratio against gap closed, the first two on one scale."""
    budget = main_label_budget(comparison)
    panels = {
        f"{CONTROLLER}error@{budget}": "with the controller's latents",
        f"{CONTROLLER}inferred@{budget}": "with inferred latents",
        f"{CONTROLLER}ratio@{budget}": "ratio: controller / inferred",
    }
    if not (budget and has_any(comparison, GAP_CLOSED) and has_any(comparison, f"{CONTROLLER}error@{budget}")):
        return None
    figure = Figure(figsize=(9.7, 3.4), layout="constrained")
    axes = figure.subplots(1, 3)
    axes[1].sharey(axes[0])
    for axis, (key, title) in zip(axes, panels.items(), strict=True):
        scatter(axis, comparison, GAP_CLOSED, key)
        axis.axhline(1, color="#444444", linewidth=0.8)
        axis.set_title(title, fontsize=9)
        axis.set_xlabel("gap closed")
    axes[0].set_ylabel("error of unrolled clips (last state = 1)")
    legend(figure, comparison, key=f"{CONTROLLER}error@{budget}")
    return figure


def draw_planning(comparison: Comparison) -> Figure | None:
    """Draw planning error against gap closed, bounds as levels."""
    budget = main_label_budget(comparison)
    key = f"{PLANNING}error@{budget}"
    if not (budget and has_any(comparison, GAP_CLOSED) and has_any(comparison, key)):
        return None
    figure = Figure(figsize=(6.2, 3.8), layout="constrained")
    axis = figure.subplots()
    shown = _bounds(comparison, budget, PLANNING + "error")
    scatter(axis, comparison, GAP_CLOSED, key)
    _levels(axis, shown, PLANNING + "error")
    axis.set_xlabel("gap closed")
    axis.set_ylim(bottom=0)
    axis.set_ylabel("planning error (recorded units)")
    legend(figure, comparison, extra=_level_handles(shown), key=key)
    return figure


def draw_labels(comparison: Comparison) -> Figure | None:
    """Draw success, planning error where there is no simulator, against the number of labeled clips."""
    every = list(label_budgets(comparison))
    numbers = np.array([float(budget) for budget in every])
    key = next((key for key in (CLOSED_LOOP + "success", PLANNING + "error") if _has(comparison, key, every)), "")
    rows = _acting_at_several(comparison, key, every)
    if not key or not rows:
        return None
    figure = Figure(figsize=(6.6, 3.8), layout="constrained")
    axis = figure.subplots()
    handles: list[Line2D] = []
    for row in rows:
        style = style_of(row.family) | {"label": row.name, "linestyle": "-"}
        cells = [comparison.estimate(row, f"{key}@{budget}") for budget in every]
        values = np.array([cell.value for cell in cells])
        keep = np.isfinite(values)
        axis.errorbar(numbers[keep], values[keep], error_bars(cells)[:, keep], elinewidth=1, capsize=2, alpha=0.9, **style)
        handles.append(Line2D([], [], **style))
    clones = [_bounds(comparison, budget, key).get("cloning") for budget in every]
    cloned = np.array([row.replicates(key).estimate().value if row else np.nan for row in clones])
    if np.isfinite(cloned).any():
        style = BOUND_STYLES["cloning"] | {"label": "cloning", "marker": "x"}
        axis.plot(numbers, cloned, **style)
        handles.append(Line2D([], [], **style))
    others = {name: row for name, row in _bounds(comparison, every[-1], key).items() if name != "cloning"}
    _levels(axis, others, key)
    axis.set_xscale("log", base=2)
    axis.set_xticks(numbers, every)
    axis.set_xticks([], minor=True)
    axis.set_ylim(bottom=-0.03 * axis.get_ylim()[1])  # a marker at 0 is whole
    axis.set_xlabel("labeled clips")
    axis.set_ylabel("success" if key.startswith(CLOSED_LOOP) else "planning error (recorded units)")
    figure.legend(handles=[*handles, *_level_handles(others)], loc="outside right upper")
    return figure


def _acting_at_several(comparison: Comparison, key: str, every: Sequence[str]) -> list[TableRow]:
    """Return rows with a number at several budgets: reference rows, then of each family the best with most labels."""
    better: Callable[..., TableRow] = max if key.startswith(CLOSED_LOOP) else min

    def several(row: TableRow) -> bool:
        return sum(comparison.estimate(row, f"{key}@{budget}").defined for budget in every) > 1

    def at_most(row: TableRow) -> float:
        return next(cell.value for budget in reversed(every) if (cell := comparison.estimate(row, f"{key}@{budget}")).defined)

    sweeps = [[row for row in sweep if several(row)] for sweep in comparison.families.values()]
    best = [better(sweep, key=at_most) for sweep in sweeps if sweep]
    return [*(row for row in comparison.unlabeled if row.family in REFERENCE_ROWS and several(row)), *best][:MAX_ROWS]


def _has(comparison: Comparison, key: str, every: Sequence[str]) -> bool:
    """Tell whether rows have a number at some budget."""
    return any(has_any(comparison, f"{key}@{budget}", comparison.unlabeled) for budget in every)


def _bounds(comparison: Comparison, budget: str, key: str) -> dict[str, ControlRow]:
    """Return bounds that have a number, by their short names."""
    rows = control_rows(comparison, budget)
    return {name: row for name in BOUND_STYLES for row in rows if row.family.startswith(name) and row.replicates(key).seeds}


def _levels(axis: Axes, shown: dict[str, ControlRow], key: str) -> None:
    """Draw each bound as a level with its interval as a band."""
    for name, row in shown.items():
        cell = row.replicates(key).estimate()
        style = BOUND_STYLES[name]
        axis.axhline(cell.value, linewidth=1, **style)
        if np.isfinite(cell.half):
            axis.axhspan(cell.low, cell.high, color=style["color"], alpha=0.1, linewidth=0)


def _level_handles(shown: dict[str, ControlRow]) -> list[Line2D]:
    """Return the legend of the levels."""
    return [Line2D([], [], linewidth=1, label=name, **BOUND_STYLES[name]) for name in shown]
