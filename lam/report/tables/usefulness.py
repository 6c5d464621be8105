"""Every cheap metric against what it is for, over the rows of one or several settings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Literal, NamedTuple

import numpy as np

from lam.report.stats.control import main_label_budget
from lam.report.stats.correlation import Correlation
from lam.report.stats.measures import CONTROLLER, label_budget
from lam.report.stats.rows import Comparison
from lam.report.stats.usable import usable
from lam.report.stats.usefulness import TARGETS, Target, foretell, pool
from lam.report.tables.columns import declared_columns, main_columns
from lam.report.tables.layout import DASH, Grid
from lam.report.tables.ranks import format_correlation
from lam.runs.columns import LABELS, Column

CLAIMS = (0.83, 0.73)
"""The literature's best correlations of a metric with success: LAOF, https://arxiv.org/abs/2511.16407."""

GUIDE = f"""\
Spearman's correlation of each metric with how well rows act, over all rows but `none`, bounds and rows whose latent says
nothing: positive where rows with more of the metric act better (smaller errors, more success). Rows are ranked within a
setting; coefficients of several settings are combined as random effects. Intervals have the number of rows in them, the
clips and the seeds behind each row's numbers, and the difference between settings. A metric whose interval holds 0 foretells
*nothing*, as far as these rows tell; of so many metrics one in twenty misses 0 by luck. ↑ and ↓ say which end the metric
itself calls better, and *against its arrow* that rows at that end act worse. The best correlations that the literature
reports of a metric with success are {CLAIMS[0]} and {CLAIMS[1]} (LAOF), without intervals."""


class Foretold(NamedTuple):
    """One metric and what it should foretell.

    Attributes:
        metric: The metric's column; its key without the label budget.
        target: What it should foretell.
        settings: Coefficients by setting.
        pooled: All settings together.
    """

    metric: Column
    target: Target
    settings: dict[str, Correlation]
    pooled: Correlation

    @property
    def verdict(self) -> str:
        """Say what the metric foretells, by its interval."""
        if self.pooled.holds_zero:
            return "nothing"
        against = self.metric.better * self.pooled.value < 0
        return self.target.heading + (", against its arrow" if against else "")


def usefulness(comparisons: Sequence[Comparison]) -> list[Foretold]:
    """Correlate every declared metric with every target that some setting has, the most foretelling metrics of each first."""
    found = []
    for target in TARGETS:
        metrics: dict[str, Column] = {}
        coefficients: dict[str, dict[str, Correlation]] = {}
        for comparison in comparisons:
            budget = main_label_budget(comparison)
            rows = [row for row in comparison.unlabeled if usable(comparison, row)]
            key = f"{target.key}@{budget}"
            if not budget or not any(comparison.replicates(row, key).seeds for row in rows):
                continue
            for column in _metrics(comparison, target):
                found_here = foretell(comparison, rows, column.key.replace(LABELS, budget), key, target.better)
                if found_here is not None and np.isfinite(found_here.value):
                    metrics.setdefault(column.key, column)
                    coefficients.setdefault(column.key, {})[comparison.runs[0].setting] = found_here
        each = [
            Foretold(one, target, coefficients[key], pool(list(coefficients[key].values()))) for key, one in metrics.items()
        ]
        found += sorted(each, key=lambda one: (one.pooled.holds_zero, -abs(one.pooled.value)))
    return found


def usefulness_grid(found: Sequence[Foretold]) -> Grid:
    """Return one line a metric, one column a target, and what it foretells; metrics that foretell most come first."""
    targets = [target for target in TARGETS if any(one.target == target for one in found)]
    by_metric: dict[str, dict[str, Foretold]] = {}
    for one in found:
        by_metric.setdefault(one.metric.key, {})[one.target.key] = one
    lines = []
    for each in by_metric.values():
        metric = next(iter(each.values())).metric
        cells = [metric.heading, {1: "↑", -1: "↓", 0: ""}[metric.better]]
        for target in targets:
            found_here = each.get(target.key)
            cells.append(f"{format_correlation(found_here.pooled)} (n {found_here.pooled.n})" if found_here else DASH)
        verdicts = [one.verdict for one in each.values() if one.verdict != "nothing"]
        lines.append([*cells, "; ".join(verdicts) or "nothing"])
    headings = ["metric", "better", *(target.heading for target in targets), "foretells"]
    return Grid(headings, [[(text, "") for text in line] for line in lines], names=1)


def _metrics(comparison: Comparison, target: Target) -> list[Column]:
    """Return columns of metrics that need no acting, and of controllers where they are not the target's own numbers.

    Arrows are those that evaluations declare, also where the wide table shows none, since a column is no contest there.
    """
    declared = declared_columns(comparison, "main")

    def arrow(key: str) -> Literal[-1, 0, 1]:
        found = (one for one in declared if one.key == key or (one.key.endswith("*") and key.startswith(one.key[:-1])))
        return next((one.better for one in found), 0)

    cheap = [column for column in main_columns(comparison) if not label_budget(column.key)]
    columns = [replace(column, better=arrow(column.key)) for column in cheap]
    for column in declared_columns(comparison, "control"):
        stem = column.key.removesuffix("@" + LABELS)
        own = target.key.startswith(CONTROLLER) and stem != CONTROLLER + "inferred"
        if stem.startswith(CONTROLLER) and not own:
            named = column.heading if column.heading.startswith("controller") else f"controller, {column.heading}"
            columns.append(replace(column, heading=named))
    return columns
