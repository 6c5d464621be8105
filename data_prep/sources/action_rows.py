"""Action rows: what sources check and say of the numbers that they read as actions."""

from __future__ import annotations

from collections.abc import Collection
from itertools import groupby

import numpy as np

from lam.data.schema import ActionField, Aggregation


def as_actions(rows: np.ndarray) -> np.ndarray:
    """Return actions (rows, U) float32.

    Raises:
        ValueError: Some are infinite or no numbers.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is refused
        return check_finite(rows.astype(np.float32), "actions")


def check_finite(rows: np.ndarray, what: str) -> np.ndarray:
    """Return the same rows.

    Raises:
        ValueError: Some are infinite or no numbers.
    """
    bad = ~np.isfinite(rows).all(axis=1)
    if bad.any():
        raise ValueError(f"{bad.sum()} of {len(bad)} {what} have infinite numbers or none (NaN), first row {bad.argmax()}")
    return rows


def group_fields(dim: int, absolute: Collection[int]) -> list[ActionField]:
    """Return a field for each run of numbers that are joined alike.

    Args:
        dim: Numbers of an action.
        absolute: Which of them are targets, of which the last counts; the others add up.

    Raises:
        ValueError: There are no such numbers.
    """
    if strange := [i for i in absolute if not 0 <= i < dim]:
        raise ValueError(f"--absolute names {strange}, expected numbers of an action, which are 0 to {dim - 1}.")
    runs = [(aggregation, list(run)) for aggregation, run in groupby(range(dim), lambda i: _aggregation(i, absolute))]
    if len(runs) == 1:
        return [ActionField("action", dim, runs[0][0])]
    return [ActionField(_name(run), len(run), aggregation) for aggregation, run in runs]


def _aggregation(i: int, absolute: Collection[int]) -> Aggregation:
    return "last" if i in absolute else "sum"


def _name(run: list[int]) -> str:
    return f"action {run[0]}" if len(run) == 1 else f"action {run[0]} to {run[-1]}"
