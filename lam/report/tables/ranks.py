"""Rank correlations across rows: which one-step or controller error foretells how well a row plans.

Spearman's coefficient with the interval of Bonett and Wright (2000, https://doi.org/10.1007/BF02294183), and the interval of
the difference of two that share a variable after Zou (2007, https://doi.org/10.1037/1082-989X.12.4.399).
"""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike

from lam.report.stats.control import main_label_budget
from lam.report.stats.measures import CONTROLLER, ERROR, PLANNING
from lam.report.stats.rows import Comparison
from lam.report.tables.layout import DASH, Grid
from lam.report.tables.published import PUBLISHED_CONTROL

AGAINST = {
    "inferred": "error with inferred latents",
    "controller": "controller error",
    "capacity": "one-step error",
}
"""Errors that planning error is ranked against."""

NORMAL_95 = 1.959963984540054


class Correlation(NamedTuple):
    """Spearman's coefficient of n pairs with its 95 % interval; NaN where there is none."""

    value: float
    n: int
    low: float = float("nan")
    high: float = float("nan")

    def text(self) -> str:
        """Format the coefficient with its interval."""
        if np.isnan(self.value):
            return DASH
        return f"{self.value:.2f}" + ("" if np.isnan(self.low) else f" [{self.low:.2f}, {self.high:.2f}]")


def rank_correlation(x: ArrayLike, y: ArrayLike) -> Correlation:
    """Compute Spearman's coefficient; Fisher's z has variance (1 + r^2 / 2) / (n - 3).

    There is no coefficient where one side has no two different numbers, and no interval for n < 4 or perfect agreement, of
    which the formula says that it is certain.
    """
    from scipy.stats import spearmanr

    x, y = np.asarray(x), np.asarray(y)
    if len(x) < 2 or np.ptp(x) == 0 or np.ptp(y) == 0:
        return Correlation(float("nan"), len(x))
    r = float(np.clip(spearmanr(x, y).statistic, -1, 1))
    if len(x) < 4 or abs(r) > 1 - 1e-12:
        return Correlation(r, len(x))
    half = NORMAL_95 * np.sqrt((1 + r**2 / 2) / (len(x) - 3))
    return Correlation(r, len(x), float(np.tanh(np.arctanh(r) - half)), float(np.tanh(np.arctanh(r) + half)))


def difference(first: Correlation, second: Correlation, between: float) -> tuple[float, float]:
    """Return the 95 % interval of first - second, coefficients of one variable with two others; NaN where one has none.

    Args:
        first: Coefficient of the shared variable with one.
        second: Coefficient of the shared variable with the other.
        between: Coefficient of the two others.
    """
    r, s = first.value, second.value
    spread = (1 - r**2) * (1 - s**2)
    if np.isnan([first.low, second.low, between]).any() or not spread:
        return float("nan"), float("nan")
    joint = ((between - r * s / 2) * (1 - r**2 - s**2 - between**2) + between**3) / spread  # of both estimates
    joint = float(np.clip(joint, -1, 1))
    lower, upper = (r - first.low, second.high - s), (first.high - r, s - second.low)
    low, high = (np.sqrt(max(0.0, a**2 + b**2 - 2 * joint * a * b)) for a, b in (lower, upper))
    return r - s - float(low), r - s + float(high)


def rank_table(comparison: Comparison) -> pd.DataFrame:
    """Collect planning error and what it is ranked against, of rows and seeds that have all four; no bounds, no ``none``."""
    budget = main_label_budget(comparison)
    keys = {"planning": f"{PLANNING}error@{budget}", "inferred": f"{CONTROLLER}inferred@{budget}"}
    keys |= {"controller": f"{CONTROLLER}error@{budget}", "capacity": ERROR}
    lines = []
    for row in comparison.unlabeled:
        replicates = {name: comparison.replicates(row, key) for name, key in keys.items()}
        seeds = set.intersection(*(set(one.seeds) for one in replicates.values()))
        for seed in sorted(seeds if row.family != "none" else ()):
            numbers = {name: float(one.means[one.seeds.index(seed)]) for name, one in replicates.items()}
            lines.append({"row": row.name, "seed": seed, **numbers})
    return pd.DataFrame(lines, columns=["row", "seed", *keys])


def rank_grid(table: pd.DataFrame) -> Grid:
    """Return correlations of planning error over rows, seeds averaged, then in each seed, then published ones."""
    means = table.groupby("row").mean()
    seeds = sorted(table["seed"].unique())
    lines = []
    for name, title in AGAINST.items():
        every = [rank_correlation(one[name], one["planning"]) for one in (means, *(table[table["seed"] == s] for s in seeds))]
        line = [title, every[0].text(), str(every[0].n), *(f"{one.text()} (n {one.n})" for one in every[1:])]
        lines.append([*line, *(_published(data, name) for data in ("DROID", "RECON"))])
    headings = [
        "planning error with",
        "over rows",
        "n rows",
        *(f"seed {seed}" for seed in seeds),
        "DROID, published",
        "RECON, published",
    ]
    return Grid(headings, [[(text, "") for text in line] for line in lines], names=1)


def rank_sentence(table: pd.DataFrame) -> str:
    """Say whether the coefficients over rows can be told apart, by the intervals of their differences."""
    means = table.groupby("row").mean()
    correlations = {name: rank_correlation(means[name], means["planning"]) for name in AGAINST}
    differences, apart = [], []
    for one, other in combinations(AGAINST, 2):
        low, high = difference(correlations[one], correlations[other], rank_correlation(means[one], means[other]).value)
        if np.isnan(low):
            continue
        pair = f"{AGAINST[one]} less {AGAINST[other]}"
        differences.append(f"{pair} {correlations[one].value - correlations[other].value:+.2f} [{low:+.2f}, {high:+.2f}]")
        if low > 0 or high < 0:
            apart.append(f"{AGAINST[one]} and {AGAINST[other]}")
    if not differences:
        return f"{len(means)} rows leave no intervals (fewer than four rows, or perfect agreement) that could tell them apart."
    verdict = f"Told apart: {', '.join(apart)}" if apart else f"{len(means)} rows do not tell them apart"
    return f"{verdict}. Differences of coefficients: {'; '.join(differences)}."


def _published(data: str, name: str) -> str:
    """Return the coefficient over the eight published rows, where they have that error."""
    if name == "capacity":
        return DASH
    rows = [one for one in PUBLISHED_CONTROL if one.data == data]
    errors = [one.inferred if name == "inferred" else one.controller for one in rows]
    return rank_correlation(errors, [one.planning for one in rows]).text()
