"""Numbers of an action: how each is distributed, and what looks like a mistake."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lam.data.schema import ActionField, Aggregation

_SATURATED = 0.05  # share of the rows at a limit that is worth a remark
_FEW_VALUES = 10
_SELDOM, _OFTEN, _NEARLY_ALWAYS = 0.001, 0.25, 0.95  # shares of rows outside -1 to 1


@dataclass(frozen=True)
class ActionDimension:
    """Distribution of one number of an action.

    Attributes:
        name: Its field, and its place in it where it has several.
        aggregation: What several steps of it become.
        low: Smallest value.
        high: Largest value.
        mean: Mean.
        std: Standard deviation.
        at_low: Share of the rows at exactly the smallest value.
        at_high: Share of the rows at exactly the largest value.
        outside: Share of the rows outside -1 to 1.
        distinct: How many different values there are.
        bad: How many rows are infinite or not a number; nothing else counts them.
    """

    name: str
    aggregation: Aggregation
    low: float
    high: float
    mean: float
    std: float
    at_low: float
    at_high: float
    outside: float
    distinct: int
    bad: int

    @property
    def constant(self) -> bool:
        """Return whether it never changes."""
        return self.distinct <= 1


def describe_dimensions(fields: Sequence[ActionField], rows: np.ndarray) -> list[ActionDimension]:
    """Describe each number of actions (rows, U)."""
    names = [(f"{each.name}[{i}]" if each.dim > 1 else each.name, each.aggregation) for each in fields for i in range(each.dim)]
    return [_describe(name, how, rows[:, i].astype(np.float64)) for i, (name, how) in enumerate(names)]


def _describe(name: str, aggregation: Aggregation, values: np.ndarray) -> ActionDimension:
    good = values[np.isfinite(values)]
    bad = len(values) - len(good)
    if not len(good):
        good = np.array([np.nan])
    low, high = float(good.min()) + 0.0, float(good.max()) + 0.0  # no -0
    return ActionDimension(
        name=name,
        aggregation=aggregation,
        low=low,
        high=high,
        mean=float(good.mean()),
        std=float(good.std()),
        at_low=float(np.mean(good == low)),
        at_high=float(np.mean(good == high)),
        outside=float(np.mean(np.abs(good) > 1)),
        distinct=len(np.unique(good)),
        bad=bad,
    )


def find_anomalies(numbers: Sequence[ActionDimension], actions: Sequence[np.ndarray]) -> list[str]:
    """Return what looks like a mistake, a sentence each.

    Args:
        numbers: The numbers of an action.
        actions: Actions of each recording, (rows, U).
    """
    found = []
    if bad := [f"{each.name} ({each.bad} rows)" for each in numbers if each.bad]:
        found.append(f"Infinite or not a number (NaN): {', '.join(bad)}. Such recordings are left out.")
    if constant := [each for each in numbers if each.constant]:
        found.append(f"Never change: {_names(constant, numbers)}.")
    if switches := [each for each in numbers if 1 < each.distinct <= _FEW_VALUES]:
        found.append(f"A few values only, a switch or a class: {_names(switches, numbers)}.")
    for each in numbers:
        if each.distinct > _FEW_VALUES and max(each.at_low, each.at_high) > _SATURATED:
            shares = [(each.at_low, "smallest", each.low), (each.at_high, "largest", each.high)]
            parts = [f"{share:.0%} of the rows are at exactly its {which} value {at:g}" for share, which, at in shares]
            said = " and ".join(part for part, (share, _, _) in zip(parts, shares, strict=True) if share > _SATURATED)
            found.append(f"{each.name} is saturated or was clipped: {said}.")
    if over := [each for each in numbers if _looks_unclipped(each)]:
        worst = max(over, key=lambda each: max(-each.low, each.high))
        found.append(
            f"Rows outside -1 to 1: {', '.join(f'{each.name} ({each.outside:.1%})' for each in over)}, "
            f"{worst.name} from {worst.low:g} to {worst.high:g}. If the robot or environment clips to -1 to 1, as many do, "
            "what was recorded is not what was done."
        )
    if starts_at_zero(actions):
        found.append(f"The first row is all zeros in all {len(actions)} recordings, as where row i led to frame i.")
    return found


def _looks_unclipped(number: ActionDimension) -> bool:
    """Return whether clipping may have been forgotten: seldom outside -1 to 1, or often on both sides, as a policy's outputs.

    Policies of the Distracting Control Suite are outside in 83 to 90 % of their numbers. Of targets 1 is no limit: they may be
    angles; nor of what is nearly always larger.
    """
    both = number.low < -1 < 1 < number.high
    return number.aggregation != "last" and _SELDOM < number.outside < (_NEARLY_ALWAYS if both else _OFTEN)


def _names(some: Sequence[ActionDimension], numbers: Sequence[ActionDimension]) -> str:
    """Name some of the numbers; a field all of whose numbers are among them is named once."""
    fields = [each.name.split("[")[0] for each in numbers]
    names = [each.name.split("[")[0] for each in some]
    whole = {name for name in names if names.count(name) == fields.count(name)}
    return ", ".join(dict.fromkeys(name if name in whole else each.name for name, each in zip(names, some, strict=True)))


def starts_at_zero(actions: Sequence[np.ndarray]) -> bool:
    """Return whether all of several recordings begin with a row of zeros that is not just the first of a rest."""
    begins = np.array([rows[:2].any(axis=1) for rows in actions if len(rows) > 1]).reshape(-1, 2)
    return len(begins) > 1 and not begins[:, 0].any() and bool(begins[:, 1].mean() > 0.5)
