"""Rank correlations across rows: which one-step or controller error foretells how well a row plans."""

from __future__ import annotations

from itertools import combinations
from typing import NamedTuple

import numpy as np
import pandas as pd

from lam.report.stats.control import main_label_budget
from lam.report.stats.correlation import Correlation, difference, draw_errors, rank_correlation, uncertain_correlation
from lam.report.stats.jackknife import Array
from lam.report.stats.measures import CONTROLLER, ERROR, PLANNING
from lam.report.stats.rows import Comparison
from lam.report.stats.usable import usable
from lam.report.tables.layout import DASH, Grid
from lam.report.tables.published import PUBLISHED_CONTROL

AGAINST = {
    "inferred": "error with inferred latents",
    "controller": "controller error",
    "capacity": "one-step error",
}
"""Errors that planning error is ranked against."""


class Ranked(NamedTuple):
    """Numbers to rank rows by.

    Attributes:
        table: One line a row and seed: planning error and the errors of ``AGAINST``.
        means: Their means over seeds, one line a row.
        errors: Draws of the means' errors by name, (draws, rows).
    """

    table: pd.DataFrame
    means: pd.DataFrame
    errors: dict[str, Array]

    def correlation(self, one: str, other: str = "planning") -> Correlation:
        """Return the rank correlation of two numbers over rows."""
        x, y = (self.means[name].to_numpy() for name in (one, other))
        return uncertain_correlation(x, y, self.errors[one], self.errors[other])


def format_correlation(found: Correlation) -> str:
    """Format a coefficient with its interval, or a dash."""
    if np.isnan(found.value):
        return DASH
    return f"{found.value:.2f}" + ("" if np.isnan(found.low) else f" [{found.low:.2f}, {found.high:.2f}]")


def rank_table(comparison: Comparison) -> Ranked | None:
    """Collect planning error and what it is ranked against, of rows and seeds that have all four; None where no row does.

    Neither ``none`` and bounds nor rows whose latent says nothing are ranked.
    """
    budget = main_label_budget(comparison)
    keys = {"planning": f"{PLANNING}error@{budget}", "inferred": f"{CONTROLLER}inferred@{budget}"}
    keys |= {"controller": f"{CONTROLLER}error@{budget}", "capacity": ERROR}
    lines, rows = [], []
    for row in comparison.unlabeled:
        if not usable(comparison, row):
            continue
        replicates = [comparison.replicates(row, key) for key in keys.values()]
        seeds = sorted(set.intersection(*(set(one.seeds) for one in replicates)))
        if not seeds:
            continue
        shared = [one.of_seeds(seeds) for one in replicates]
        rows.append(shared)
        for place, seed in enumerate(seeds):
            numbers = {name: float(one.means[place]) for name, one in zip(keys, shared, strict=True)}
            lines.append({"row": row.name, "seed": seed, **numbers})
    if not rows:
        return None
    table = pd.DataFrame(lines)
    means = table.groupby("row", sort=False)[list(keys)].mean()
    return Ranked(table, means, dict(zip(keys, draw_errors(rows), strict=True)))


def rank_grid(ranked: Ranked) -> Grid:
    """Return correlations of planning error over rows, seeds averaged, then in each seed, then published ones."""
    seeds = sorted(ranked.table["seed"].unique())
    lines = []
    for name, title in AGAINST.items():
        found = ranked.correlation(name)
        of_means = rank_correlation(ranked.means[name], ranked.means["planning"])
        line = [title, format_correlation(found), format_correlation(of_means._replace(low=np.nan)), str(found.n)]
        for seed in seeds:
            here = ranked.table[ranked.table["seed"] == seed]
            in_seed = rank_correlation(here[name], here["planning"])
            line.append(f"{format_correlation(in_seed._replace(low=np.nan))} (n {in_seed.n})")
        lines.append([*line, *(_published(data, name) for data in ("DROID", "RECON"))])
    headings = [
        "planning error with",
        "over rows",
        "of their means",
        "n rows",
        *(f"seed {seed}" for seed in seeds),
        "DROID, published",
        "RECON, published",
    ]
    return Grid(headings, [[(text, "") for text in line] for line in lines], names=1)


def rank_sentence(ranked: Ranked) -> str:
    """Say whether the coefficients over rows can be told apart, by the intervals of their differences."""
    correlations = {name: ranked.correlation(name) for name in AGAINST}
    rows, differences, apart = len(ranked.means), [], []
    for one, other in combinations(AGAINST, 2):
        low, high = difference(correlations[one], correlations[other], ranked.correlation(one, other).value)
        if np.isnan(low):
            continue
        pair = f"{AGAINST[one]} less {AGAINST[other]}"
        differences.append(f"{pair} {correlations[one].value - correlations[other].value:+.2f} [{low:+.2f}, {high:+.2f}]")
        if low > 0 or high < 0:
            apart.append(f"{AGAINST[one]} and {AGAINST[other]}")
    if not differences:
        return f"{rows} rows leave no intervals (fewer than four, or of unknown error) that could tell them apart."
    verdict = f"Told apart: {', '.join(apart)}" if apart else f"{rows} rows do not tell them apart"
    return f"{verdict}. Differences of coefficients: {'; '.join(differences)}."


def _published(data: str, name: str) -> str:
    """Return the coefficient over the eight published rows, where they have that error; nobody says how uncertain a row is."""
    if name == "capacity":
        return DASH
    rows = [one for one in PUBLISHED_CONTROL if one.data == data]
    errors = [one.inferred if name == "inferred" else one.controller for one in rows]
    return format_correlation(rank_correlation(errors, [one.planning for one in rows]))
