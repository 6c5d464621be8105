"""Acting with latents: the label budget that a table is at, and the rows that stand in it, bounds first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lam.report.stats.estimates import Replicates, combine, stack
from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, PLANNING, label_budget
from lam.report.stats.rows import BOUNDS, REFERENCE_ROWS, Comparison, TableRow

ALL_LABELS = "all"
"""The label budget of the true simulator, which has nothing to learn."""

RELATIVE = {PLANNING + "relative": PLANNING + "error", CLOSED_LOOP + "relative": CLOSED_LOOP + "success"}
"""Ratios to the model of recorded actions, and of what."""

LOGGED_BOUNDS = {
    "stay": "stay (mean action)",
    "chance": "chance (random plan)",
    "clone": "cloning (behavior cloning)",
}
"""Bounds that every run logs beside its own plans, by the ending of their keys."""

TITLES = {"actions": "actions (labeled)", "simulator": "true simulator"}
"""Names in tables of the bounds that have runs of their own."""


@dataclass(frozen=True)
class ControlRow:
    """A bound or a row of the control table.

    Attributes:
        family: The bound, or the row's family.
        knob: The row's knob.
        replicates: Maps a key without its label budget to its number.
        competes: Whether it is one of those among which the best is marked.
    """

    family: str
    knob: str
    replicates: Callable[[str], Replicates]
    competes: bool = False

    @property
    def name(self) -> str:
        """Family and knob."""
        return f"{self.family}@{self.knob}" if self.knob else self.family

    @property
    def seeds(self) -> int:
        """Number of seeds that acted."""
        keys = (CONTROLLER + "error", PLANNING + "error", CLOSED_LOOP + "success")
        return len({seed for key in keys for seed in self.replicates(key).seeds})


def label_budgets(comparison: Comparison) -> dict[str, int]:
    """Return label budgets from few to many clips, and how many rows of latent actions acted with them."""
    each = [
        {label_budget(key) for run in row.runs.values() for key in run.metrics} - {"", ALL_LABELS}
        for row in comparison.unlabeled
    ]
    counts = Counter(budget for one in each for budget in one)
    return {budget: counts[budget] for budget in sorted(counts, key=int)}


def main_label_budget(comparison: Comparison) -> str:
    """Return the largest budget of more than half of the rows that act, else the most frequent one; empty if none acts."""
    counts = label_budgets(comparison)
    acting = sum(any(label_budget(key) for run in row.runs.values() for key in run.metrics) for row in comparison.unlabeled)
    common = [budget for budget, rows in counts.items() if 2 * rows > acting]
    return common[-1] if common else max(counts, key=lambda budget: (counts[budget], int(budget)), default="")


def key_of(row: TableRow, key: str) -> str:
    """Return the key of a number in a row: the true simulator has those of acting at all labels."""
    return re.sub(r"@\d+$", f"@{ALL_LABELS}", key) if row.family == "simulator" and label_budget(key) else key


def control_rows(comparison: Comparison, budget: str) -> list[ControlRow]:
    """Return bounds that have any number, then the rows that acted with this budget."""
    bounds = [_logged_bound(comparison, name, budget) for name in LOGGED_BOUNDS]
    bounds += [_row(comparison, comparison.bounds[name], budget) for name in reversed(BOUNDS) if name in comparison.bounds]
    rows = [_row(comparison, row, budget) for row in comparison.unlabeled]
    return [row for row in [*bounds, *rows] if row.seeds]


def mean_over(replicates: Sequence[Replicates]) -> Replicates:
    """Average a number of several rows over those that have it, seed by seed and resample by resample."""
    every = stack(replicates)
    return replace(every, values=np.nanmean(every.values, axis=0)) if every.seeds else every


def _row(comparison: Comparison, row: TableRow, budget: str) -> ControlRow:
    """Return a row, or a bound that has runs of its own."""

    def replicates(key: str) -> Replicates:
        return comparison.replicates(row, key_of(row, f"{key}@{budget}"))

    competes = row.family not in (*REFERENCE_ROWS, *BOUNDS)
    return ControlRow(TITLES.get(row.family, row.family), row.knob, _with_relative(comparison, replicates, budget), competes)


def _logged_bound(comparison: Comparison, name: str, budget: str) -> ControlRow:
    """Return a bound that all runs log: of each seed the mean over the rows that have it, which are the same episodes."""

    def replicates(key: str) -> Replicates:
        return mean_over([comparison.replicates(row, f"{key}_{name}@{budget}") for row in comparison.unlabeled])

    return ControlRow(LOGGED_BOUNDS[name], "", _with_relative(comparison, replicates, budget))


def _with_relative(comparison: Comparison, replicates: Callable[[str], Replicates], budget: str) -> Callable[[str], Replicates]:
    """Add ratios to the model of recorded actions, of means within each seed."""

    def extended(key: str) -> Replicates:
        if key not in RELATIVE:
            return replicates(key)
        if "actions" not in comparison.bounds:
            return Replicates()
        labeled = comparison.replicates(comparison.bounds["actions"], f"{RELATIVE[key]}@{budget}")
        return combine([replicates(RELATIVE[key]), labeled], np.divide)

    return extended
