"""What the actions of a LeRobot data set consist of, and how their steps aggregate."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import pyarrow as pa

from data_prep.sources.lerobot.metadata import LeRobotMetadata
from lam.data.schema import ActionField, Aggregation


@dataclass(frozen=True)
class ActionSlice:
    """Consecutive numbers of a column that are a part of an action.

    Attributes:
        name: What it is.
        column: The column that holds it.
        start: Its first number in the column.
        end: One past its last.
        absolute: Whether it is a target and not a change, so far as the metadata say.
    """

    name: str
    column: str
    start: int
    end: int
    absolute: bool = True

    def field(self, deltas: Collection[str], rates: Collection[str]) -> ActionField:
        """Return the part with how its steps aggregate, where changes and rates are given by its name or its column's."""
        mine = {self.name, self.column}
        change = not self.absolute or mine & set(deltas)
        aggregation: Aggregation = "mean" if mine & set(rates) else "sum" if change else "last"
        return ActionField(self.name, self.end - self.start, aggregation)


def find_action_slices(layout: LeRobotMetadata, column: str) -> list[ActionSlice]:
    """Return what a column consists of: the groups of modality.json, else numbers with the names of info.json.

    Raises:
        ValueError: There is no such column, or a group has numbers that it has not.
    """
    known = [name for name, each in layout.features.items() if each["dtype"] in _NUMBERS]
    if column not in known:
        raise ValueError(f"{layout.src} has no column {column!r} of numbers, expected one of: {', '.join(known)}.")
    dim = math.prod(layout.features[column]["shape"])
    names = _texts(layout.features[column].get("names"))
    if len(set(names)) != dim or len(names) != dim:
        names = [f"{column}[{i}]" for i in range(dim)]
    # keys and their defaults: class LeRobotActionMetadata in gr00t/data/schema.py of NVIDIA/Isaac-GR00T
    groups = [
        ActionSlice(name, column, group["start"], group["end"], group.get("absolute", True))
        for name, group in layout.groups.items()
        if (group.get("original_key") or "action") == column
    ]
    for part in groups:
        if not 0 <= part.start < part.end <= dim:
            raise ValueError(
                f"{layout.src}/meta/modality.json has {part.name!r} at {part.start} to {part.end}, "
                f"expected a part of the {dim} numbers of {column!r}. Correct it."
            )
    return groups or [ActionSlice(name, column, i, i + 1) for i, name in enumerate(names)]


def read_numbers(table: pa.Table, column: str) -> np.ndarray:
    """Read a column as (rows, U) float32.

    Raises:
        ValueError: It has no finite numbers, or not as many in each row.
    """
    with np.errstate(over="ignore"):  # what is too large becomes infinite
        array = np.array(table[column].to_pylist(), np.float32).reshape(len(table), -1)
    for row, number in np.argwhere(~np.isfinite(array))[:1]:
        raise ValueError(f"number {number} of {column!r} is {array[row, number]} in row {row}, expected finite numbers")
    return array


_NUMBERS = ("float16", "float32", "float64", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "bool")


Names: TypeAlias = "str | int | Mapping[str, Names] | Sequence[Names] | None"
"""Names of numbers as the metadata of data sets write them."""


def _texts(names: Names) -> list[str]:
    """Return names of numbers: a list, a list in a list, {"motors": [...]}, {"delta_x": 0, ...}, or nothing."""
    if isinstance(names, str):
        return [names]
    if isinstance(names, Mapping):
        return [text for key, each in names.items() for text in ([key] if isinstance(each, int) else _texts(each))]
    return [text for each in names for text in _texts(each)] if isinstance(names, Sequence) else []
