"""The index of a folder of shards: its summary ``index.json`` and its list of shards ``shards.parquet``."""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from lam.data.index.checks import check_frames, check_labels, check_shard
from lam.data.schema import (
    INDEX_FILE,
    SCHEMA_VERSION,
    SHARDS_FILE,
    SPLITS,
    ActionField,
    ActionStatistics,
    Aggregation,
    FactorInfo,
    FeatureInfo,
    Quarantined,
    ShardInfo,
    Storage,
    side_index_name,
)
from lam.io import write_bytes
from lam.io.limits import LimitError, check_limit, check_values, read_file

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


@dataclass(frozen=True)
class DataIndex:
    """The summary of a folder of shards.

    Attributes:
        path: The folder, or its URL as a text; those of a mixture are joined by ``+``.
        storage: How frames are stored.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        fps: Mean frames a second; exact times are in the samples.
        pixel_mean: Mean of the training frames' red, green and blue, in [0, 1].
        pixel_std: Their standard deviations.
        splits: Shards of each split.
        actions: Fields of the recorded actions, in order; empty where none were recorded.
        action_statistics: Their statistics, None where none were recorded.
        factors: Ground-truth factors by name.
        features: The encoder that made the states, None where the set holds pictures.
        settings: Settings that the set was made with.
        dropped: Number of segments that were left out, by reason.
        quarantined: Files and episodes that were left out, the first hundred.
        num_quarantined: Number of all of them.
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
        """Name of the folder; those of a mixture are joined by ``+``."""
        places = (place.removesuffix("{name}").rstrip("/") for place in str(self.path).split(" + "))
        return "+".join(re.sub(r"[^\w.-]", "", place.rpartition("/")[2]) for place in places)

    @property
    def action_dim(self) -> int | None:
        """Numbers U of a recorded action, or None where none were recorded."""
        return sum(each.dim for each in self.actions) or None

    @property
    def action_aggregations(self) -> list[Aggregation]:
        """How steps aggregate, for each of the U numbers of an action."""
        return [each.aggregation for each in self.actions for _ in range(each.dim)]

    @classmethod
    def load(cls, path: Path | str) -> DataIndex:
        """Read the index of a folder and check that every shard it names is there.

        Raises:
            FileNotFoundError: The folder, its index or a shard is missing.
            ValueError: The index cannot be read or has another schema version.
        """
        path = Path(path)
        if not path.is_dir():
            raise FileNotFoundError(f"No folder of shards at {path}. Make one with data_prep.")
        for name in (INDEX_FILE, SHARDS_FILE):
            if not (path / name).is_file():
                raise FileNotFoundError(
                    f"{path} has no {name}: not a folder of shards, or data_prep did not finish. Run data_prep again."
                )
        summary, listed = read_file(path / INDEX_FILE, "MAX_INDEX_BYTES"), read_file(path / SHARDS_FILE, "MAX_TABLE_BYTES")
        index = cls.parse(path, summary, listed)
        names = {name for shards in index.splits.values() for s in shards for name in (s.name, side_index_name(s.name))}
        folders = {os.path.dirname(name) for name in names}  # listing them is ten times as fast as asking for each file
        present = {os.path.join(each, name) for each in folders if (path / each).is_dir() for name in os.listdir(path / each)}
        if absent := min(names - present, default=None):
            raise FileNotFoundError(f"{path} lacks {absent}, which {SHARDS_FILE} names. Copy it again or re-run data_prep.")
        return index

    @classmethod
    def parse(cls, path: Path | str, summary: bytes, shards: bytes) -> DataIndex:
        """Parse the bytes of index.json and shards.parquet.

        Raises:
            ValueError: They are damaged, do not belong together, or have another schema version.
        """
        try:
            record = json.loads(summary)
            version = record.pop("schema_version")
            check_values(INDEX_FILE, record)
        except LimitError:
            raise
        except (ValueError, KeyError, AttributeError, TypeError, RecursionError) as error:
            raise ValueError(f"{path}/{INDEX_FILE} is not the index of a folder of shards. Re-run data_prep.") from error
        if version != SCHEMA_VERSION:
            raise ValueError(
                f"{path} has shard schema version {version}, this code reads version {SCHEMA_VERSION}. Re-run data_prep."
            )
        try:
            if record.pop("shards_sha256") != hashlib.sha256(shards).hexdigest():
                raise ValueError(f"{SHARDS_FILE} is not the one that it names; copy both again")
            statistics, features = record.pop("action_statistics"), record.pop("features")
            del record["totals"]  # for people
            index = cls(
                path=path,
                storage=Storage[record.pop("storage")],
                pixel_mean=tuple(record.pop("pixel_mean")),
                pixel_std=tuple(record.pop("pixel_std")),
                actions=[ActionField.from_record(each) for each in record.pop("actions")],
                action_statistics=None if statistics is None else ActionStatistics(**statistics),
                factors={name: FactorInfo.from_record(each) for name, each in record.pop("causes").items()},
                features=None if features is None else FeatureInfo(**features),
                splits=_unpack_shard_list(shards),
                quarantined=[Quarantined(**item) for item in record.pop("quarantined")],
                digest=hashlib.sha256(summary).hexdigest()[:16],
                **record,
            )
            check_frames(index.height, index.width, index.fps, index.pixel_mean, index.pixel_std, index.features)
            if not isinstance(index.settings, dict) or not isinstance(index.dropped, dict):
                raise ValueError("settings or dropped are no mapping")
            check_labels(index.actions, index.action_statistics, index.factors)
            for info in (info for shards in index.splits.values() for info in shards):
                check_shard(info)
        except (KeyError, TypeError, AttributeError, ValueError, OverflowError, pa.ArrowException, OSError) as error:
            raise ValueError(f"{path}/{INDEX_FILE} is damaged ({error}). Re-run data_prep.") from error
        return index

    def save(self) -> None:
        """Write shards.parquet and index.json, each atomically, index.json last."""
        shards = _pack_shard_list(self.splits)
        record = asdict(self)
        for name in ("path", "digest", "splits"):
            del record[name]
        record["actions"] = [each.to_record() for each in self.actions]
        record["factors"] = {name: each.to_record() for name, each in self.factors.items()}
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
        for name, data in ((SHARDS_FILE, shards), (INDEX_FILE, summary.encode())):
            write_bytes(Path(self.path) / name, data)


def _pack_shard_list(splits: dict[str, list[ShardInfo]]) -> bytes:
    """Return the bytes of shards.parquet."""
    rows = [{"split": split, **asdict(info)} for split in SPLITS for info in splits[split]]
    columns = {name: pa.array([row[name] for row in rows], kind) for name, kind in _SHARD_COLUMNS.items()}
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def read_table(data: bytes, columns: list[str] | None = None) -> pa.Table:
    """Read a small table of Parquet that is all in memory.

    Raises:
        ValueError: It is far larger, unpacked, than tables of a set are.
        ArrowException: It is damaged.
    """
    # pq.read_table would import pyarrow.dataset first, which takes half a second
    # a buffer of Arrow's own: it reads a Python file from threads, one of which can outlive the interpreter and abort it
    file = pq.ParquetFile(pa.BufferReader(data))
    check_limit("the number of rows", file.metadata.num_rows, "MAX_SHARDS")
    unpacked = sum(file.metadata.row_group(i).total_byte_size for i in range(file.metadata.num_row_groups))
    check_limit("a table in bytes, unpacked,", unpacked, "MAX_TABLE_BYTES")
    return file.read(columns, use_threads=False)


def _unpack_shard_list(data: bytes) -> dict[str, list[ShardInfo]]:
    """Return the shards of each split from the bytes of shards.parquet."""
    splits: dict[str, list[ShardInfo]] = {split: [] for split in SPLITS}
    for row in read_table(data).to_pylist():
        split, lengths, counts = row.pop("split"), tuple(row.pop("lengths")), tuple(row.pop("counts"))
        splits[split].append(ShardInfo(**row, lengths=lengths, counts=counts))
    return splits
