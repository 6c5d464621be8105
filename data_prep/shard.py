"""A shard that is being written: its tar, its side index and their hashes."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from webdataset.writer import TarWriter

from lam.data.schema import MEMBERS, ShardInfo, Storage, side_index_name


class OpenShard:
    """A shard that is being written, under a temporary name.

    Args:
        folder: Where it goes.
        name: File name of the tar.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.temporary = folder / f".{name}.tmp"
        self.size = 0
        self._file = self.temporary.open("wb")
        # a fixed time and no user, so that the same samples make the same bytes
        self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")
        self._rows: list[dict[str, Any]] = []

    @property
    def samples(self) -> int:
        """Samples so far."""
        return len(self._rows)

    def add(self, key: str, source: str, episode: str, times: np.ndarray, members: dict[str, bytes]) -> None:
        """Adds the members of a sample, by their endings."""
        self.size += self._tar.write({"__key__": key, **members})
        self._rows.append({"key": key, "source": source, "episode": episode, "frames": len(times), "times": times})

    def discard(self) -> None:
        """Gives the shard up and removes it."""
        self._tar.close()
        self._file.close()
        self.temporary.unlink()

    def finish(self) -> ShardInfo:
        """Closes the shard and gives it and its side index their names."""
        self._tar.close()
        self._file.close()
        side = self.folder / side_index_name(self.name)
        temporary_side = self.folder / f".{side.name}.tmp"
        pq.write_table(_side_index(self._rows, self.temporary), temporary_side)
        info = ShardInfo(
            name=self.name,
            samples=len(self._rows),
            frames=sum(row["frames"] for row in self._rows),
            bytes=self.temporary.stat().st_size,
            sha256=_sha256(self.temporary),
            index_sha256=_sha256(temporary_side),
        )
        temporary_side.replace(side)
        self.temporary.replace(self.folder / self.name)
        return info


def _side_index(rows: list[dict[str, Any]], tar: Path) -> pa.Table:
    """Table of a shard's samples; the offsets are read back from the tar, so they are those a reader will find."""
    with tarfile.open(tar) as file:
        places = {member.name: (member.offset_data, member.size) for member in file}
    endings = {member: member for member in MEMBERS}
    endings["video"] = next(storage.value for storage in Storage if f"{rows[0]['key']}.{storage.value}" in places)
    columns: dict[str, pa.Array] = {
        "key": pa.array([row["key"] for row in rows], pa.string()),
        "source": pa.array([row["source"] for row in rows], pa.string()),
        "episode": pa.array([row["episode"] for row in rows], pa.string()),
        "frames": pa.array([row["frames"] for row in rows], pa.int32()),
        "times": pa.array([row["times"] for row in rows], pa.list_(pa.float64())),
    }
    for member, ending in endings.items():
        found = [places.get(f"{row['key']}.{ending}", (0, 0)) for row in rows]
        columns[f"{member}_offset"] = pa.array([offset for offset, _ in found], pa.int64())
        columns[f"{member}_bytes"] = pa.array([size for _, size in found], pa.int64())
    return pa.table(columns)


def _sha256(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    return digest.hexdigest()
