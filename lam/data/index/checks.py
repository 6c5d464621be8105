"""Checks of what an index and its list of shards say: they may come from elsewhere, and memory is allocated by them."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import get_args

from lam.data.schema import ActionField, ActionStatistics, Aggregation, FactorInfo, FeatureInfo, ShardInfo
from lam.data.storage import check_name, is_hash
from lam.io.limits import check_limit, is_finite


def check_frames(
    height: int, width: int, fps: float, pixel_mean: Sequence[float], pixel_std: Sequence[float], features: FeatureInfo | None
) -> None:
    """Refuse what no preparation says of frames.

    Raises:
        ValueError: Something in it is of another type, out of range, or above a limit (``lam.io.limits``).
    """
    for name, size in (("height", height), ("width", width)):
        _count(name, size, least=1)
        check_limit(name, size, "MAX_SIDE")
    if not is_finite(fps) or fps <= 0:
        raise ValueError(f"fps is {fps!r}, expected a number above 0")
    check_limit("fps", fps, "MAX_FPS")
    if features is not None:
        _check_features(features)
    check_limit("numbers of a frame", height * width * (3 if features is None else features.dim), "MAX_FRAME_NUMBERS")
    for name, value in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
        if len(value) != 3 or not all(is_finite(each) and 0 <= each <= 1 for each in value):
            raise ValueError(f"{name} is {list(value)!r}, expected three numbers from 0 to 1")


def check_labels(
    actions: Sequence[ActionField], statistics: ActionStatistics | None, factors: Mapping[str, FactorInfo]
) -> None:
    """Refuse what no preparation says of recorded actions and ground-truth factors.

    Raises:
        ValueError: Something in it is of another type, out of range, or above a limit.
    """
    for field in actions:
        _count(f"the width of action {field.name!r}", field.dim, least=1)
        _aggregation(field.aggregation)
    dim = sum(field.dim for field in actions)
    for name, value in vars(statistics).items() if statistics is not None else ():
        if not isinstance(value, list) or len(value) != dim or not all(map(is_finite, value)):
            raise ValueError(f"the statistic {name} of actions is no list of {dim} finite numbers")
    for name, factor in factors.items():
        for size in factor.shape:
            _count(f"a size of factor {name!r}", size, least=0)
        check_limit(f"the bytes of a step of factor {name!r}", 8 * math.prod(factor.shape), "MAX_ARRAY_BYTES")
        if factor.kind not in ("continuous", "discrete"):
            raise ValueError(f"factor {name!r} is {factor.kind!r}, expected continuous or discrete")
        _aggregation(factor.aggregation)


def check_shard(info: ShardInfo) -> None:
    """Refuse a row of the list of shards whose name leaves the set, or whose numbers do not agree."""
    if not isinstance(info.name, str) or not info.name.endswith(".tar"):
        raise ValueError(f"a shard is named {info.name!r}, expected a name that ends in .tar")
    check_name("it", info.name)
    if not is_hash(info.sha256) or not is_hash(info.index_sha256):
        raise ValueError(f"the hashes of {info.name} are no SHA-256")
    for value in (info.samples, info.frames, info.bytes, *info.lengths, *info.counts):
        _count(f"a number of {info.name}", value, least=0)
    if len(info.lengths) != len(info.counts):
        raise ValueError(f"the lengths of samples of {info.name} do not add up: there are {len(info.counts)} counts of them")
    frames = sum(length * count for length, count in zip(info.lengths, info.counts, strict=True))
    if sum(info.counts) != info.samples or frames != info.frames:
        raise ValueError(f"the lengths of samples of {info.name} do not add up to its samples and frames")


def _check_features(features: FeatureInfo) -> None:
    _count("dim of the states", features.dim, least=1)
    _count("frames_per_state", features.frames_per_state, least=1)
    if not isinstance(features.encoder, dict) or not isinstance(features.fingerprint, str):
        raise ValueError("features name no encoder and fingerprint")


def _count(what: str, value: object, least: int) -> None:
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ValueError(f"{what} is {value!r}, expected an integer, {least} or more")


def _aggregation(name: object) -> None:
    if name not in get_args(Aggregation):
        raise ValueError(f"{name!r} is no way to join steps, expected one of {', '.join(get_args(Aggregation))}")
