"""What a folder of shards looks like: the one thing that data preparation and training share.

A folder holds ``{train,val}-000000.tar`` (WebDataset), beside each a side index ``train-000000.parquet``, and the
summary ``index.json``. A sample is a segment of one video; its members, named by the ending after the sample's key:

========== ===========================================================================================================
mp4        H.264 video (storage mp4)
jpgs       packed JPEG row (storage jpeg): int32 count, int32 length of each JPEG, the JPEGs; little-endian
json       fps, times (seconds, one a frame), source, episode, height, width
actions.npy  recorded actions between frames, (F-1, U) float32, optional
causes.npz   recorded causes between frames by name, (F-1, ...) float32 (continuous) or int64 (discrete), optional
========== ===========================================================================================================

A side index has a row a sample: key, source, episode, frames, times, and offset and bytes of each member in the tar.
"""

from __future__ import annotations

import hashlib
import json
import struct
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any, Literal

SCHEMA_VERSION = 1
KEY_FRAME_INTERVAL = 8
"""Frames from one key frame of an mp4 to the next: what a window may have to decode in vain before it begins."""
Split = Literal["train", "val"]
SPLITS: tuple[Split, ...] = ("train", "val")
MEMBERS = ("video", "json", "actions.npy", "causes.npz")
"""Members as side indices name them: columns ``<member>_offset`` and ``<member>_bytes``, bytes 0 where it is absent."""


class Storage(str, Enum):
    """How the frames of a sample are stored; the value is the ending of the member."""

    mp4 = "mp4"
    jpeg = "jpgs"


@dataclass(frozen=True)
class CauseInfo:
    """One recorded cause.

    Attributes:
        shape: Shape of one step of it, () for a number.
        kind: Continuous causes are float32, discrete ones int64.
    """

    shape: tuple[int, ...]
    kind: Literal["continuous", "discrete"]


@dataclass(frozen=True)
class ShardInfo:
    """One shard.

    Attributes:
        name: File name of the tar; the side index has the same name with the ending ``.parquet``.
        samples: Number of samples.
        frames: Frames of all its samples.
        bytes: Size of the tar.
        sha256: Hash of the tar.
        index_sha256: Hash of the side index.
    """

    name: str
    samples: int
    frames: int
    bytes: int
    sha256: str
    index_sha256: str


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
    """The summary ``index.json`` of a folder of shards.

    Attributes:
        path: The folder.
        storage: How frames are stored.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        fps: Nominal frames a second; exact times are in the samples.
        pixel_mean: Mean of the training frames' red, green and blue, in [0, 1].
        pixel_std: Their standard deviations.
        action_dim: Numbers U of a recorded action, or None where none were recorded.
        causes: Recorded causes by name.
        splits: Shards of each split.
        settings: What the set was made with.
        quarantined: What was left out, with the reason.
        digest: Hash of index.json; a run records it and is stale when it changes.
    """

    path: Path
    storage: Storage
    height: int
    width: int
    fps: float
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    action_dim: int | None
    causes: dict[str, CauseInfo]
    splits: dict[str, list[ShardInfo]]
    settings: dict[str, Any] = field(default_factory=dict)
    quarantined: list[Quarantined] = field(default_factory=list)
    digest: str = ""

    @classmethod
    def load(cls, path: Path | str) -> DataIndex:
        """Reads ``index.json`` of a folder and checks that every shard it names is there.

        Raises:
            FileNotFoundError: The folder, its index.json or a shard is missing.
            ValueError: index.json cannot be read or has another schema version.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"No folder of shards at {path}. Make one with python -m data_prep.")
        if not (path / "index.json").is_file():
            raise FileNotFoundError(
                f"{path} has no index.json: not a folder of shards, or data_prep did not finish. Run data_prep again."
            )
        text = (path / "index.json").read_bytes()
        index = _parse(path, text)
        for shard in [shard for shards in index.splits.values() for shard in shards]:
            for name in (shard.name, side_index_name(shard.name)):
                if not (path / name).is_file():
                    raise FileNotFoundError(
                        f"{path} lacks {name}, which its index.json names. Copy it again or re-run data_prep."
                    )
        return index

    def save(self) -> None:
        """Writes ``index.json`` atomically."""
        record = asdict(self)
        del record["path"], record["digest"]
        record["storage"] = self.storage.name
        temporary = self.path / ".index.json.tmp"
        temporary.write_text(json.dumps({"schema_version": SCHEMA_VERSION, **record}, indent=1) + "\n")
        temporary.replace(self.path / "index.json")


def _parse(path: Path, text: bytes) -> DataIndex:
    """The index in the text of index.json."""
    try:
        record = json.loads(text)
        version = record.pop("schema_version")
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{path / 'index.json'} is not the index of a folder of shards. Re-run data_prep.") from error
    if version != SCHEMA_VERSION:
        raise ValueError(
            f"{path} has shard schema version {version}, this code reads version {SCHEMA_VERSION}. Re-run data_prep."
        )
    try:
        return DataIndex(
            path=path,
            storage=Storage[record.pop("storage")],
            pixel_mean=tuple(record.pop("pixel_mean")),
            pixel_std=tuple(record.pop("pixel_std")),
            causes={name: CauseInfo(tuple(c["shape"]), c["kind"]) for name, c in record.pop("causes").items()},
            splits={name: [ShardInfo(**shard) for shard in shards] for name, shards in record.pop("splits").items()},
            quarantined=[Quarantined(**item) for item in record.pop("quarantined")],
            digest=hashlib.sha256(text).hexdigest()[:16],
            **record,
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"{path / 'index.json'} is damaged ({error}). Re-run data_prep.") from error


def side_index_name(shard: str) -> str:
    """File name of a shard's side index."""
    return str(Path(shard).with_suffix(".parquet"))


def pack_row(jpegs: Sequence[bytes]) -> bytes:
    """Packs the JPEGs of a sample into one member."""
    return b"".join([struct.pack(f"<{len(jpegs) + 1}i", len(jpegs), *map(len, jpegs)), *jpegs])


def unpack_row(row: memoryview, frames: Sequence[int]) -> list[memoryview]:
    """JPEGs of some frames of a packed row, frames increasing.

    Raises:
        IndexError: The row has fewer frames.
        struct.error: The row ends within its header.
    """
    count = int.from_bytes(row[:4], "little")
    lengths = struct.unpack_from(f"<{count}i", row, 4)
    start, passed, jpegs = 4 * (count + 1), 0, []
    for frame in frames:
        start += sum(lengths[passed:frame])
        passed = frame
        jpegs.append(row[start : start + lengths[frame]])
    return jpegs
