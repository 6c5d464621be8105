"""Joining steps: what several recorded steps become when the frames between them are left out."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

Join = Literal["sum", "first", "last", "mean", "max"]
"""How steps become one: displacements add up, of places before a step the first counts, of absolute targets the last, rates
(a steering angle, a velocity) are averaged, of events the largest counts (it happened)."""


def join_steps(steps: np.ndarray, bounds: np.ndarray, join: Join | Sequence[Join]) -> np.ndarray:
    """Joins consecutive steps.

    Args:
        steps: Recorded steps, (S, ...); step i leads from frame i to frame i + 1.
        bounds: The frames that are kept, (F,) increasing, at most S.
        join: How, for all of a step or for each of its numbers (then steps are (S, U)).

    Returns:
        Steps between the frames that are kept, (F-1, ...), of the same type.

    Raises:
        ValueError: There are fewer steps than frames need, or steps have another width than ``join``.
    """
    if len(bounds) and bounds[-1] > len(steps):
        raise ValueError(f"{len(steps)} steps were recorded, frame {bounds[-1]} needs {bounds[-1]}")
    if not isinstance(join, str):
        if len(join) != steps.shape[1]:
            raise ValueError(f"steps have {steps.shape[1]} numbers, expected {len(join)}")
        columns = [join_steps(steps[:, i], bounds, each) for i, each in enumerate(join)]
        return np.stack(columns, axis=1) if columns else np.empty((max(len(bounds) - 1, 0), 0), steps.dtype)
    if len(bounds) < 2:
        return steps[:0]
    if join == "first":
        return steps[bounds[:-1]]
    if join == "last":
        return steps[bounds[1:] - 1]
    inside = steps[: bounds[-1]]
    if join == "max":
        return np.maximum.reduceat(inside, bounds[:-1], axis=0)
    total = np.add.reduceat(inside, bounds[:-1], axis=0, dtype=np.float64 if steps.dtype.kind == "f" else steps.dtype)
    if join == "mean":
        total = total / np.diff(bounds).reshape(-1, *[1] * (steps.ndim - 1))
    return total.astype(steps.dtype)
