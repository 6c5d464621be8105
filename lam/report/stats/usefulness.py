"""What cheap metrics are for: how well each foretells, over rows and settings, how well a row serves to act through."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, NamedTuple

import numpy as np

from lam.metrics.wilson import NORMAL_95
from lam.report.stats.correlation import (
    FEWEST,
    Correlation,
    corrected_ends,
    draw_errors,
    uncertain_correlation,
)
from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, PLANNING
from lam.report.stats.rows import Comparison, TableRow


class Target(NamedTuple):
    """What metrics should foretell.

    Attributes:
        key: Its key without the label budget.
        heading: What it is called.
        better: 1 where more is better, -1 where less is.
    """

    key: str
    heading: str
    better: Literal[-1, 1]


TARGETS = (
    Target(PLANNING + "error", "planning error", -1),
    Target(CONTROLLER + "error", "controller error", -1),
    Target(CLOSED_LOOP + "success", "success", 1),
)
"""What rows are for, all at the label budget of a setting's table."""


def foretell(comparison: Comparison, rows: Sequence[TableRow], key: str, target: str, better: int) -> Correlation | None:
    """Correlate a number with how well rows act, positive where rows with more of it act better; None without a row of both.

    Args:
        comparison: A setting.
        rows: Its rows that may be ranked.
        key: The number.
        target: Key of the number that it should foretell, in full.
        better: 1 where more of that is better, -1 where less is.
    """
    pairs = []
    for row in rows:
        x, y = comparison.replicates(row, key), comparison.replicates(row, target)
        if seeds := sorted(set(x.seeds) & set(y.seeds)):
            pairs.append([x.of_seeds(seeds), y.of_seeds(seeds)])
    if len(pairs) < 2:
        return None
    means = [np.array([float(pair[side].means.mean()) for pair in pairs]) for side in (0, 1)]
    errors = draw_errors(pairs)
    return uncertain_correlation(means[0], better * means[1], errors[0], better * errors[1])


def pool(correlations: Sequence[Correlation]) -> Correlation:
    """Combine coefficients of several settings, ranks being taken within each: in Fisher's z, settings as random effects.

    Settings may truly differ; their variance is that of DerSimonian and Laird (1986,
    https://doi.org/10.1016/0197-2456(86)90046-2). Settings without an interval are left out; n is the rows of the others.
    """
    known = [one for one in correlations if np.isfinite(one.error) and np.isfinite(one.low)]
    if len(known) < 2:
        return known[0] if known else Correlation(float("nan"), sum(one.n for one in correlations))
    z, variance = np.array([one.z for one in known]), np.array([one.error**2 for one in known])
    weight = 1 / variance
    fixed = (weight * z).sum() / weight.sum()
    excess = (weight * (z - fixed) ** 2).sum() - (len(known) - 1)
    between = max(0.0, excess / (weight.sum() - (weight**2).sum() / weight.sum()))
    weight = 1 / (variance + between)
    weight /= (total := weight.sum())
    mean, error = float((weight * z).sum()), float(total**-0.5)
    drawn = float((weight * np.arctanh([np.clip(one.value, *_inside(one.n)) for one in known])).sum())
    kept = float((weight * [one.kept for one in known]).sum())
    ends = [np.tanh(drawn - NORMAL_95 * error), np.tanh(drawn + NORMAL_95 * error), *corrected_ends(mean, error, kept)]
    low, high = float(min(ends)), float(max(ends))
    return Correlation(float(np.tanh(drawn)), sum(one.n for one in known), low, high, mean, error, kept)


def _inside(n: int) -> tuple[float, float]:
    """Return the coefficients of n rows that stand for perfect disagreement and agreement where z must be finite."""
    most = 1 - 3 / (max(n, FEWEST) * (max(n, FEWEST) ** 2 - 1))
    return -most, most
