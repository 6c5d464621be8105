"""Acting with latents: which label budget a table is at, and the lines that stand in it, bounds first."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, PLANNING, label_budget
from lam.report.stats.rows import ANCHORS, BOUNDS, Comparison, Row
from lam.report.stats.sample import Sample, combine, stack

ALL = "all"
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
"""How bounds with runs of their own are called in tables."""


@dataclass(frozen=True)
class Line:
    """A bound or a row of the control table.

    Attributes:
        name: The bound, or the row's family.
        knob: The row's knob.
        sample: Maps a key without its label budget to its sample.
        competes: Whether it is one of those among which the best is marked.
    """

    name: str
    knob: str
    sample: Callable[[str], Sample]
    competes: bool = False

    @property
    def seeds(self) -> int:
        """Seeds that acted."""
        keys = (CONTROLLER + "error", PLANNING + "error", CLOSED_LOOP + "success")
        return len({seed for key in keys for seed in self.sample(key).seeds})


def budgets(comparison: Comparison) -> dict[str, int]:
    """Label budgets from few to many clips, and how many rows of latent actions acted with them."""
    each = [{label_budget(key) for run in row.runs.values() for key in run.metrics} - {"", ALL} for row in comparison.unlabeled]
    found = Counter(budget for one in each for budget in one)
    return {budget: found[budget] for budget in sorted(found, key=int)}


def main_budget(comparison: Comparison) -> str:
    """The largest budget that more than half of the rows that act have, else the one that most have; empty if none acts."""
    found = budgets(comparison)
    acting = sum(any(label_budget(key) for run in row.runs.values() for key in run.metrics) for row in comparison.unlabeled)
    common = [budget for budget, rows in found.items() if 2 * rows > acting]
    return common[-1] if common else max(found, key=lambda budget: (found[budget], int(budget)), default="")


def key_of(row: Row, key: str) -> str:
    """What a row calls a number of acting: the true simulator has it at all labels."""
    return re.sub(r"@\d+$", f"@{ALL}", key) if row.family == "simulator" and label_budget(key) else key


def control_lines(comparison: Comparison, budget: str) -> list[Line]:
    """Bounds that have any number, then the rows that acted with this budget."""
    bounds = [_logged_bound(comparison, name, budget) for name in LOGGED_BOUNDS]
    bounds += [_row(comparison, comparison.bounds[name], budget) for name in reversed(BOUNDS) if name in comparison.bounds]
    rows = [_row(comparison, row, budget) for row in comparison.unlabeled]
    return [line for line in [*bounds, *rows] if line.seeds]


def _row(comparison: Comparison, row: Row, budget: str) -> Line:
    """A row, or a bound that has runs of its own."""

    def sample(key: str) -> Sample:
        return comparison.sample(row, key_of(row, f"{key}@{budget}"))

    competes = row.family not in (*ANCHORS, *BOUNDS)
    return Line(TITLES.get(row.family, row.family), row.knob, _with_relative(comparison, sample, budget), competes)


def _logged_bound(comparison: Comparison, name: str, budget: str) -> Line:
    """A bound from the runs of all rows: of each seed the mean over the rows that have it, which are the same episodes."""

    def sample(key: str) -> Sample:
        return mean_over([comparison.sample(row, f"{key}_{name}@{budget}") for row in comparison.unlabeled])

    return Line(LOGGED_BOUNDS[name], "", _with_relative(comparison, sample, budget))


def mean_over(samples: Sequence[Sample]) -> Sample:
    """One number from several rows: the mean of those that have it, seed by seed and resample by resample."""
    every = stack(samples)
    return replace(every, values=np.nanmean(every.values, axis=0)) if every.seeds else every


def _with_relative(comparison: Comparison, sample: Callable[[str], Sample], budget: str) -> Callable[[str], Sample]:
    """The same with ratios to the model of recorded actions, of means within each seed."""

    def found(key: str) -> Sample:
        if key not in RELATIVE:
            return sample(key)
        if "actions" not in comparison.bounds:
            return Sample()
        labeled = comparison.sample(comparison.bounds["actions"], f"{RELATIVE[key]}@{budget}")
        return combine([sample(RELATIVE[key]), labeled], np.divide)

    return found
