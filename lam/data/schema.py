"""What a folder of shards looks like: the one thing that data preparation and training share.

A folder holds ``{train,val}-*.tar`` (WebDataset), beside each tar a side index of the same name ending in ``.parquet``,
the list of all shards ``shards.parquet``, and the summary ``index.json``, which stays small however many samples there are.
Names may hold a folder: ``part/train-000000.tar``. A sample is a segment of one video; its members, named by the ending
after the sample's key:

========== ===========================================================================================================
mp4        H.264 video (storage mp4)
jpgs       packed JPEG row (storage jpeg): int32 count, int32 length of each JPEG, uint32 CRC-32 of each, the JPEGs;
           little-endian
states     states of a frozen encoder (storage states): uint32 CRC-32 of each frame, bfloat16 (F, N, D); little-endian,
           C order
json       fps, times (seconds, one a frame), source, episode, height, width
actions.npy  recorded actions between frames, (F-1, U) float32, optional
causes.npz   recorded factors between frames by name, (F-1, ...) float32 (continuous) or int64 (discrete), optional
========== ===========================================================================================================

A side index has a row a sample: key, source, episode, frames, times, first (which of the source's own frames it begins
with), thumbnail (what it looks like, see ``data_prep.shards.duplicates``), and offset, bytes and CRC-32 of each member in the
tar.
``shards.parquet`` has a row a shard: split and the attributes of ``ShardInfo``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from lam.data.join import Join

SCHEMA_VERSION = 2
KEY_FRAME_INTERVAL = 8
"""Frames from one key frame of an mp4 to the next: what a window may have to decode in vain before it begins."""
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
MEMBERS = ("video", "json", "actions.npy", "causes.npz")
"""Members as side indices name them: columns ``<member>_offset``, ``<member>_bytes`` (0 where absent), ``<member>_crc32``."""
INDEX, SHARDS = "index.json", "shards.parquet"


class Storage(str, Enum):
    """How the frames of a sample are stored; the value is the ending of the member."""

    mp4 = "mp4"
    jpeg = "jpgs"
    states = "states"


@dataclass(frozen=True)
class FactorInfo:
    """One recorded factor.

    Attributes:
        shape: Shape of one step of it, () for a number.
        kind: Continuous factors are float32, discrete ones int64.
        join: What several steps of it become when frames between are left out.
    """

    shape: tuple[int, ...]
    kind: Literal["continuous", "discrete"]
    join: Join


@dataclass(frozen=True)
class ActionField:
    """Some numbers of a recorded action.

    Attributes:
        name: What they are.
        dim: How many.
        join: What several steps of them become when frames between are left out.
    """

    name: str
    dim: int
    join: Join


@dataclass(frozen=True)
class ActionStatistics:
    """Statistics of the recorded actions of the training split, a number for each of the U numbers of an action.

    Attributes:
        mean: Mean.
        std: Standard deviation.
        low: Smallest value.
        high: Largest value.
        at_low: Share of the steps at the smallest value: much of it means that actions were clipped there.
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
    """Which encoder made the states of a feature cache (storage states).

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
        lengths: Different numbers of frames that its samples have, increasing.
        counts: How many samples have each.
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
    """Something that was left out.

    Attributes:
        source: The file or episode.
        reason: Why.
    """

    source: str
    reason: str


@dataclass(frozen=True)
class DataIndex:
    """The summary of a folder of shards.

    Attributes:
        path: The folder, or its URL as a text; those that are mixed are joined by ``+``.
        storage: How frames are stored.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        fps: Mean frames a second; exact times are in the samples.
        pixel_mean: Mean of the training frames' red, green and blue, in [0, 1].
        pixel_std: Their standard deviations.
        splits: Shards of each split.
        actions: What recorded actions consist of, in order; empty where none were recorded.
        action_statistics: Their statistics, None where none were recorded.
        factors: Recorded factors by name.
        features: Which encoder made the states, None where there are pictures.
        settings: What the set was made with.
        dropped: How many segments were left out, by reason.
        quarantined: Files and episodes that were left out, the first hundred.
        num_quarantined: How many they are.
        digest: Hash of index.json; a run records it and is stale when it changes.
    """

    path: Path | str
    storage: Storage
    height: int
    width: int
    fps: float
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    splits: dict[str, list[ShardInfo]]
    actions: list[ActionField] = field(default_factory=list)
    action_statistics: ActionStatistics | None = None
    factors: dict[str, FactorInfo] = field(default_factory=dict)
    features: FeatureInfo | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    num_quarantined: int = 0
    digest: str = ""

    @property
    def name(self) -> str:
        """What the folder is called; those that are mixed are joined by ``+``."""
        places = (place.removesuffix("{name}").rstrip("/") for place in str(self.path).split(" + "))
        return "+".join(re.sub(r"[^\w.-]", "", place.rpartition("/")[2]) for place in places)

    @property
    def action_dim(self) -> int | None:
        """Numbers U of a recorded action, or None where none were recorded."""
        return sum(each.dim for each in self.actions) or None

    @property
    def action_joins(self) -> list[Join]:
        """How to join steps, for each of the U numbers of an action."""
        return [each.join for each in self.actions for _ in range(each.dim)]

    @classmethod
    def load(cls, path: Path | str) -> DataIndex:
        """Reads the index of a folder and checks that every shard it names is there.

        Raises:
            FileNotFoundError: The folder, its index or a shard is missing.
            ValueError: The index cannot be read or has another schema version.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"No folder of shards at {path}. Make one with python -m data_prep.")
        for name in (INDEX, SHARDS):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"{path} has no {name}: not a folder of shards, or data_prep did not finish. Run data_prep again."
                )
        index = cls.parse(path, (path / INDEX).read_bytes(), (path / SHARDS).read_bytes())
        listed = {name for shards in index.splits.values() for s in shards for name in (s.name, side_index_name(s.name))}
        folders = {os.path.dirname(name) for name in listed}  # listing them is ten times as fast as asking for each file
        present = {os.path.join(each, name) for each in folders if (path / each).is_dir() for name in os.listdir(path / each)}
        if absent := min(listed - present, default=None):
            raise FileNotFoundError(f"{path} lacks {absent}, which {SHARDS} names. Copy it again or re-run data_prep.")
        return index

    @classmethod
    def parse(cls, path: Path | str, summary: bytes, shards: bytes) -> DataIndex:
        """The index in the bytes of index.json and shards.parquet.

        Raises:
            ValueError: They are damaged, do not belong together, or have another schema version.
        """
        try:
            record = json.loads(summary)
            version = record.pop("schema_version")
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise ValueError(f"{path}/{INDEX} is not the index of a folder of shards. Re-run data_prep.") from error
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{path} has shard schema version {version}, this code reads version {SCHEMA_VERSION}. Re-run data_prep."
            )
        try:
            if record.pop("shards_sha256") != hashlib.sha256(shards).hexdigest():
                raise ValueError(f"{path}/{SHARDS} is not the one that {INDEX} names. Copy both again or re-run data_prep.")
            statistics, features = record.pop("action_statistics"), record.pop("features")
            del record["totals"]  # for people
            return cls(
                path=path,
                storage=Storage[record.pop("storage")],
                pixel_mean=tuple(record.pop("pixel_mean")),
                pixel_std=tuple(record.pop("pixel_std")),
                actions=[ActionField(**each) for each in record.pop("actions")],
                action_statistics=None if statistics is None else ActionStatistics(**statistics),
                factors={name: FactorInfo(**{**c, "shape": tuple(c["shape"])}) for name, c in record.pop("causes").items()},
                features=None if features is None else FeatureInfo(**features),
                splits=_read_shards(shards),
                quarantined=[Quarantined(**item) for item in record.pop("quarantined")],
                digest=hashlib.sha256(summary).hexdigest()[:16],
                **record,
            )
        except (KeyError, TypeError, pa.ArrowException) as error:
            raise ValueError(f"{path}/{INDEX} is damaged ({error}). Re-run data_prep.") from error

    def save(self) -> None:
        """Writes shards.parquet and index.json, each atomically, index.json last."""
        shards = _write_shards(self.splits)
        record = asdict(self)
        for name in ("path", "digest", "splits"):
            del record[name]
        # files keep the name that they had before ground-truth factors were called so
        record = {"causes" if name == "factors" else name: value for name, value in record.items()}
        record["storage"] = self.storage.name
        record["totals"] = {
            split: {
                "shards": len(infos),
                **{what: sum(getattr(i, what) for i in infos) for what in ("samples", "frames", "bytes")},
            }
            for split, infos in self.splits.items()
        }
        record["shards_sha256"] = hashlib.sha256(shards).hexdigest()
        summary = json.dumps({"schema_version": SCHEMA_VERSION, **record}, indent=1) + "\n"
        for name, data in ((SHARDS, shards), (INDEX, summary.encode())):
            temporary = Path(self.path) / f".{name}.tmp"
            temporary.write_bytes(data)
            temporary.replace(Path(self.path) / name)


def _write_shards(splits: dict[str, list[ShardInfo]]) -> bytes:
    rows = [{"split": split, **asdict(info)} for split in SPLITS for info in splits[split]]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in _SHARD_COLUMNS.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


def _read_shards(data: bytes) -> dict[str, list[ShardInfo]]:
    splits: dict[str, list[ShardInfo]] = {split: [] for split in SPLITS}
    # pq.read_table would import pyarrow.dataset first, which takes half a second
    # a buffer of Arrow's own: it reads a Python file from threads, one of which can outlive the interpreter and abort it
    for row in pq.ParquetFile(pa.BufferReader(data)).read(use_threads=False).to_pylist():
        split, lengths, counts = row.pop("split"), tuple(row.pop("lengths")), tuple(row.pop("counts"))
        splits[split].append(ShardInfo(**row, lengths=lengths, counts=counts))
    return splits


_SHARD_COLUMNS = {
    "split": pa.string(),
    "lengths": pa.list_(pa.int32()),
    "counts": pa.list_(pa.int32()),
    "name": pa.string(),
    "samples": pa.int32(),
    "frames": pa.int64(),
    "bytes": pa.int64(),
    "sha256": pa.string(),
    "index_sha256": pa.string(),
}


def side_index_name(shard: str) -> str:
    """Path of a shard's side index."""
    return shard.removesuffix(".tar") + ".parquet"


def pack_row(jpegs: Sequence[bytes]) -> bytes:
    """Packs the JPEGs of a sample into one member."""
    count = len(jpegs)
    return b"".join([struct.pack(f"<{count + 1}i{count}I", count, *map(len, jpegs), *map(zlib.crc32, jpegs)), *jpegs])


def unpack_row(row: memoryview, frames: Sequence[int]) -> list[memoryview]:
    """JPEGs of some frames of a packed row, frames increasing.

    Raises:
        IndexError: The row has fewer frames.
        struct.error: The row ends within its header.
        ValueError: A frame is not the one that was written.
    """
    count = int.from_bytes(row[:4], "little")
    lengths = struct.unpack_from(f"<{count}i", row, 4)
    start, passed, jpegs = 4 * (2 * count + 1), 0, []
    for frame in frames:
        start += sum(lengths[passed:frame])
        passed = frame
        jpeg = row[start : start + lengths[frame]]
        if zlib.crc32(jpeg) != int.from_bytes(row[4 * (count + 1 + frame) : 4 * (count + 2 + frame)], "little"):
            raise ValueError(f"frame {frame} has changed since it was written")
        jpegs.append(jpeg)
    return jpegs


def pack_states(states: np.ndarray) -> bytes:
    """Packs the states of a sample, (F, N, D) uint16, the bits of bfloat16, into one member."""
    frames = [frame.tobytes() for frame in states.astype("<u2", copy=False)]
    return b"".join([struct.pack(f"<{len(frames)}I", *map(zlib.crc32, frames)), *frames])


def unpack_states(member: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Copies some frames of packed states to out, (frames, N, D) uint16.

    Raises:
        IndexError: There are fewer frames.
        ValueError: A frame is not the one that was written.
    """
    size = out[0].nbytes
    count = len(member) // (size + 4)
    sums = np.frombuffer(member, "<u4", count)
    for i, frame in enumerate(frames):
        start = 4 * count + frame * size
        if zlib.crc32(member[start : start + size]) != sums[frame]:
            raise ValueError(f"frame {frame} has changed since it was written")
        out[i] = np.frombuffer(member, "<u2", size // 2, start).reshape(out.shape[1:])
