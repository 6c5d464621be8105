"""Mixtures of sets of shards: one set or several, opened and seen as one."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lightning.pytorch.utilities import rank_zero_warn

from lam.data.index import DataIndex
from lam.data.order import apportion
from lam.data.schema import INDEX_FILE, SHARDS_FILE, SPLITS
from lam.data.storage import Cache, Files, LocalFiles, RemoteFiles, is_url, read_url


@dataclass(frozen=True)
class ShardSet:
    """One set of a mixture.

    Attributes:
        index: Its summary.
        files: Where its files are.
        weight: How much of the training windows come from it, relative to others.
    """

    index: DataIndex
    files: Files
    weight: float = 1.0


@dataclass(frozen=True)
class ShardMixture:
    """One or several sets.

    Attributes:
        index: Index of all of them.
        sets: The sets.
    """

    index: DataIndex
    sets: list[ShardSet]


def open_mixture(shards: Mapping[str, float] | Path | str, cache: Path | None = None, cache_gib: float = 100.0) -> ShardMixture:
    """Open what ``data.shards`` names: a folder of shards or its URL, or several with their weights.

    Args:
        shards: Where they are.
        cache: Where copies of shards behind a URL are kept.
        cache_gib: How much it may hold.

    Raises:
        ValueError: Sets do not fit each other, or there is no cache for a URL.
    """
    weights = _weights(shards)
    sets = [ShardSet(_read_index(place), _files(place, cache, cache_gib), weight) for place, weight in weights.items()]
    return ShardMixture(_merge([each.index for each in sets], list(weights.values())), sets)


def open_index(shards: Mapping[str, float] | Path | str) -> DataIndex:
    """Read the index alone; no shard is opened."""
    weights = _weights(shards)
    return _merge([_read_index(place) for place in weights], list(weights.values()))


def _weights(shards: Mapping[str, float] | Path | str) -> dict[str, float]:
    weights = dict(shards) if isinstance(shards, Mapping) else {str(shards): 1.0}
    if not weights or not all(weight > 0 for weight in weights.values()):
        raise ValueError(f"data.shards is {weights}, expected one folder at least, and weights above 0.")
    return weights


def _read_index(place: str) -> DataIndex:
    if is_url(place):
        return DataIndex.parse(place, read_url(place, INDEX_FILE), read_url(place, SHARDS_FILE))
    return DataIndex.load(place)


def _files(place: str, cache: Path | None, cache_gib: float) -> Files:
    if not is_url(place):
        return LocalFiles(Path(place))
    if cache is None:
        raise ValueError(f"data.shards {place} is a URL. Set data.cache to a folder on a local disk that keeps copies.")
    return RemoteFiles(place, Cache(cache, cache_gib))


def _describe_frame(index: DataIndex) -> str:
    """Describe a frame of a set: its size, and of a feature cache the encoder that made it."""
    size = f"{index.height} x {index.width}"
    if index.features is None:
        return f"pictures of {size}"
    return f"states of {size} tokens by an encoder with fingerprint {index.features.fingerprint}"


def _merge(indices: list[DataIndex], weights: list[float]) -> DataIndex:
    """Merge the indices of sets; pixel statistics are those of the mixture.

    Raises:
        ValueError: Their frames differ in size, or states come from different encoders.
    """
    first, *others = indices
    if not others:
        return first
    for other in others:
        if _describe_frame(other) != _describe_frame(first):
            raise ValueError(
                f"{first.path} holds {_describe_frame(first)}, {other.path} {_describe_frame(other)}; "
                "sets that are mixed need the same. Prepare one of them again."
            )
    same = {name: all(getattr(other, name) == getattr(first, name) for other in others) for name in ("actions", "factors")}
    for name in [name for name, equal in same.items() if not equal]:
        rank_zero_warn(f"The sets of data.shards record different {name}: none are read.")
    parts = [(weight / sum(weights), index) for weight, index in zip(weights, indices, strict=True)]
    mean = [sum(weight * index.pixel_mean[i] for weight, index in parts) for i in range(3)]
    square = [sum(weight * (index.pixel_mean[i] ** 2 + index.pixel_std[i] ** 2) for weight, index in parts) for i in range(3)]
    std = [math.sqrt(max(square[i] - mean[i] ** 2, 0.0)) for i in range(3)]
    digest = json.dumps([[index.digest for index in indices], apportion(weights).tolist()])
    return dataclasses.replace(
        first,
        path=" + ".join(str(index.path) for index in indices),
        fps=sum(weight * index.fps for weight, index in parts),
        pixel_mean=(mean[0], mean[1], mean[2]),
        pixel_std=(std[0], std[1], std[2]),
        splits={split: [info for index in indices for info in index.splits[split]] for split in SPLITS},
        actions=first.actions if same["actions"] else [],
        action_statistics=None,
        factors=first.factors if same["factors"] else {},
        settings={},
        dropped={},
        quarantined=[],
        num_quarantined=sum(index.num_quarantined for index in indices),
        digest=hashlib.sha256(digest.encode()).hexdigest()[:16],
    )
