"""The format of a folder of shards, which data preparation writes and training reads.

A folder holds ``{train,val}-*.tar`` (WebDataset), beside each tar a side index of the same name ending in ``.parquet``,
the list of all shards ``shards.parquet``, and the summary ``index.json``, which stays small however many samples there are.
Names may hold a folder: ``part/train-000000.tar``. A sample is a segment of one video; its members, named by the ending
after the sample's key:

========== ===========================================================================================================
mp4        H.264 video (storage mp4)
jpgs       packed JPEGs (storage jpeg): int32 count, int32 length of each JPEG, uint32 CRC-32 of each, the JPEGs;
           little-endian
states     states of a frozen encoder (storage states): uint32 CRC-32 of each frame, bfloat16 (F, N, D); little-endian,
           C order
json       fps, times (seconds, one a frame), source, episode, height, width
actions.npy  recorded actions between frames, (F-1, U) float32, optional
causes.npz   ground-truth factors between frames by name, (F-1, ...) float32 (continuous) or int64 (discrete), optional
========== ===========================================================================================================

A side index has a row a sample: key, source, episode, frames, times, first (which of the source's own frames it begins
with), thumbnail (what it looks like, see ``data_prep.shards.duplicates``), and offset, bytes and CRC-32 of each member in the
tar.
``shards.parquet`` has a row a shard: split and the attributes of ``ShardInfo``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

import numpy as np

SCHEMA_VERSION = 2
KEY_FRAME_INTERVAL = 8
"""Frames from one key frame of an mp4 to the next: at most this many are decoded in vain before a window begins."""
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
MEMBERS = ("video", "json", "actions.npy", "causes.npz")
"""Members as side indices name them: columns ``<member>_offset``, ``<member>_bytes`` (0 where absent), ``<member>_crc32``."""
INDEX_FILE, SHARDS_FILE = "index.json", "shards.parquet"

Aggregation = Literal["sum", "first", "last", "mean", "max"]
"""How several recorded steps become one when the frames between them are left out. Displacements add up, of positions before a
step the first counts, of absolute targets the last, rates (a steering angle, a velocity) are averaged, of events the largest
counts (it happened)."""


class Storage(str, Enum):
    """How the frames of a sample are stored; the value is the ending of the member."""

    mp4 = "mp4"
    jpeg = "jpgs"
    states = "states"


@dataclass(frozen=True)
class FactorInfo:
    """One ground-truth factor.

    Attributes:
        shape: Shape of one step of it, () for a number.
        kind: Continuous factors are float32, discrete ones int64.
        aggregation: How several steps of it become one.
    """

    shape: tuple[int, ...]
    kind: Literal["continuous", "discrete"]
    aggregation: Aggregation

    def to_record(self) -> dict[str, Any]:
        """Return the entry of index.json, where the aggregation is named ``join``."""
        return {"shape": self.shape, "kind": self.kind, "join": self.aggregation}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> FactorInfo:
        """Read an entry of index.json."""
        return cls(tuple(record["shape"]), record["kind"], record["join"])


@dataclass(frozen=True)
class ActionField:
    """Consecutive numbers of a recorded action that belong together.

    Attributes:
        name: What they are.
        dim: How many.
        aggregation: How several steps of them become one.
    """

    name: str
    dim: int
    aggregation: Aggregation

    def to_record(self) -> dict[str, Any]:
        """Return the entry of index.json, where the aggregation is named ``join``."""
        return {"name": self.name, "dim": self.dim, "join": self.aggregation}

    @classmethod
    def from_record(cls, record: Mapping[str, Any]) -> ActionField:
        """Read an entry of index.json."""
        return cls(record["name"], record["dim"], record["join"])


@dataclass(frozen=True)
class ActionStatistics:
    """Statistics of the recorded actions of the training split, a number for each of the U numbers of an action.

    Attributes:
        mean: Mean.
        std: Standard deviation.
        low: Smallest value.
        high: Largest value.
        at_low: Share of the steps at the smallest value: if it is large, actions were clipped there.
        at_high: Share of the steps at the largest value.
    """

    mean: list[float]
    std: list[float]
    low: list[float]
    high: list[float]
    at_low: list[float]
    at_high: list[float]


@dataclass(frozen=True)
class FeatureInfo:
    """The encoder that made the states of a feature cache (storage states).

    Attributes:
        fingerprint: Hash of the encoder's class, settings and weights.
        encoder: Its class and settings, as a config names them.
        dim: Width D of a token; height and width of the index are rows and columns of the grid.
        frames_per_state: Frames of the shards it read that made a state; in the cache one frame is one state.
        shards: Digest of the index of the shards it read.
    """

    fingerprint: str
    encoder: dict[str, Any]
    dim: int
    frames_per_state: int
    shards: str


@dataclass(frozen=True)
class ShardInfo:
    """One shard.

    Attributes:
        name: Path of the tar below the folder; the side index has the same with the ending ``.parquet``.
        samples: Number of samples.
        frames: Frames of all its samples.
        bytes: Size of the tar.
        sha256: Hash of the tar.
        index_sha256: Hash of the side index.
        lengths: Distinct numbers of frames that its samples have, increasing.
        counts: Number of samples of each length.
    """

    name: str
    samples: int
    frames: int
    bytes: int
    sha256: str
    index_sha256: str
    lengths: tuple[int, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True)
class Quarantined:
    """A file or episode that was left out.

    Attributes:
        source: Its name.
        reason: Why it was left out.
    """

    source: str
    reason: str


def side_index_name(shard: str) -> str:
    """Return the path of a shard's side index."""
    return shard.removesuffix(".tar") + ".parquet"


def aggregate_steps(steps: np.ndarray, bounds: np.ndarray, aggregation: Aggregation | Sequence[Aggregation]) -> np.ndarray:
    """Aggregate consecutive steps to steps between the frames that are kept.

    Args:
        steps: Recorded steps, (S, ...); step i leads from frame i to frame i + 1.
        bounds: The frames that are kept, (F,) increasing, at most S.
        aggregation: How, for all of a step or for each of its numbers (then steps are (S, U)).

    Returns:
        Steps between the frames that are kept, (F-1, ...), of the same type.

    Raises:
        ValueError: There are fewer steps than frames need, or steps have another width than ``aggregation``.
    """
    if len(bounds) and bounds[-1] > len(steps):
        raise ValueError(f"{len(steps)} steps were recorded, frame {bounds[-1]} needs {bounds[-1]}")
    if not isinstance(aggregation, str):
        if len(aggregation) != steps.shape[1]:
            raise ValueError(f"steps have {steps.shape[1]} numbers, expected {len(aggregation)}")
        columns = [aggregate_steps(steps[:, i], bounds, each) for i, each in enumerate(aggregation)]
        return np.stack(columns, axis=1) if columns else np.empty((max(len(bounds) - 1, 0), 0), steps.dtype)
    if len(bounds) < 2:
        return steps[:0]
    result: np.ndarray
    if aggregation == "first":
        result = steps[bounds[:-1]]
    elif aggregation == "last":
        result = steps[bounds[1:] - 1]
    elif aggregation == "max":
        result = np.maximum.reduceat(steps[: bounds[-1]], bounds[:-1], axis=0)
    else:
        wide = np.float64 if steps.dtype.kind == "f" else steps.dtype
        result = np.add.reduceat(steps[: bounds[-1]], bounds[:-1], axis=0, dtype=wide)
        if aggregation == "mean":
            result = result / np.diff(bounds).reshape(-1, *[1] * (steps.ndim - 1))
        result = result.astype(steps.dtype)
    return result
