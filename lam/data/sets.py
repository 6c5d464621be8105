"""Sets of shards: one or several, opened and seen as one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lam.data.files import Files, LocalFiles
from lam.data.order import shares
from lam.data.schema import SPLITS, DataIndex


@dataclass(frozen=True)
class ShardSet:
    """One set.

    Attributes:
        index: Its summary.
        files: Where its files are.
        weight: How much of the training windows come from it, relative to others.
    """

    index: DataIndex
    files: Files
    weight: float = 1.0


@dataclass(frozen=True)
class ShardSets:
    """One or several sets.

    Attributes:
        index: What they have in common.
        sets: The sets.
    """

    index: DataIndex
    sets: list[ShardSet]


def open_sets(shards: Mapping[str, float] | Path | str) -> ShardSets:
    """Opens what ``data.shards`` says: a folder of shards, or several with their weights.

    Raises:
        ValueError: Sets do not fit each other.
    """
    weights = shards if isinstance(shards, Mapping) else {str(shards): 1.0}
    if not weights or not all(weight > 0 for weight in weights.values()):
        raise ValueError(f"data.shards is {dict(weights)}, expected one folder at least, with weights above 0.")
    sets = [_open_set(place, weight) for place, weight in weights.items()]
    return ShardSets(sets[0].index if len(sets) == 1 else _merge(sets), sets)


def open_index(shards: Mapping[str, float] | Path | str) -> DataIndex:
    """Only the summary."""
    return open_sets(shards).index


def _open_set(place: str, weight: float) -> ShardSet:
    return ShardSet(DataIndex.load(place), LocalFiles(Path(place)), weight)


def _merge(sets: list[ShardSet]) -> DataIndex:
    """What sets have in common; pixel statistics are those of the mixture.

    Raises:
        ValueError: Their frames differ in size, or states come from different encoders.
    """
    first, *others = [each.index for each in sets]
    for other in others:
        for name in ("height", "width", "features"):
            one, two = getattr(first, name), getattr(other, name)
            if one != two:
                raise ValueError(
                    f"{first.path} has {name} {one}, {other.path} has {two}; sets that are mixed need the "
                    "same. Prepare one of them again."
                )
    same = {name: all(getattr(other, name) == getattr(first, name) for other in others) for name in ("actions", "causes")}
    for name in [name for name, equal in same.items() if not equal]:
        rank_zero_warn(f"The sets of data.shards record different {name}: none are read.")
    total = sum(each.weight for each in sets)
    parts = [(each.weight / total, each.index) for each in sets]
    mean = [sum(weight * index.pixel_mean[i] for weight, index in parts) for i in range(3)]
    square = [sum(weight * (index.pixel_mean[i] ** 2 + index.pixel_std[i] ** 2) for weight, index in parts) for i in range(3)]
    std = [math.sqrt(max(square[i] - mean[i] ** 2, 0.0)) for i in range(3)]
    digest = json.dumps([[each.index.digest for each in sets], shares([each.weight for each in sets]).tolist()])
    return dataclasses.replace(
        first,
        path=" + ".join(str(each.index.path) for each in sets),
        fps=sum(weight * index.fps for weight, index in parts),
        pixel_mean=(mean[0], mean[1], mean[2]),
        pixel_std=(std[0], std[1], std[2]),
        splits={split: [info for each in sets for info in each.index.splits[split]] for split in SPLITS},
        actions=first.actions if same["actions"] else [],
        action_statistics=None,
        causes=first.causes if same["causes"] else {},
        settings={},
        dropped={},
        quarantined=[],
        num_quarantined=sum(each.index.num_quarantined for each in sets),
        digest=hashlib.sha256(digest.encode()).hexdigest()[:16],
    )
