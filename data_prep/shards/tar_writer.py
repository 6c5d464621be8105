"""A shard that is being written: its tar, its side index and their hashes."""

from __future__ import annotations

import hashlib
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from webdataset.writer import TarWriter

from data_prep.shards.sample import Sample
from lam.data.schema import MEMBERS, ShardInfo, Storage, side_index_name
from lam.io import AtomicFile, HashingFile, write_bytes

_BLOCK = 512  # of a tar: a header, and what members are padded to


class TarShardWriter:
    """Shard that is being written, under a temporary name.

    Args:
        folder: Where it goes.
        name: File name of the tar.

    Attributes:
        size: Bytes so far.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.name = name
        self.folder = folder
        self.size = 0
        self._whole = AtomicFile(folder / name)
        self._file = HashingFile(self._whole.file)
        # a fixed time and no user, so that the same samples make the same bytes
        self._tar = TarWriter(self._file, encoder=False, mtime=0, user="", group="")
        self._rows: list[dict[str, Any]] = []

    @property
    def samples(self) -> int:
        """Return the number of samples so far."""
        return len(self._rows)

    def add(self, sample: Sample, members: dict[str, bytes], thumbnail: bytes) -> None:
        """Add the members of a sample, by their endings, in the order in which the tar gets them."""
        row: dict[str, Any] = {name: getattr(sample, name) for name in ("key", "source", "episode", "first", "times")}
        row |= {"frames": len(sample.times), "thumbnail": thumbnail}
        offset = self.size
        for ending, data in sorted(members.items()):  # as TarWriter sorts them
            name = "video" if ending in Storage.__members__.values() else ending
            offset += _BLOCK
            row |= {f"{name}_offset": offset, f"{name}_bytes": len(data), f"{name}_crc32": zlib.crc32(data)}
            offset += -(-len(data) // _BLOCK) * _BLOCK
        self._tar.write({"__key__": sample.key, **members})
        self.size = self._tar.tarstream.offset
        if self.size != offset:
            raise RuntimeError(f"{self.name}: sample {sample.key} ends at byte {self.size}, {offset} were counted.")
        self._rows.append(row)

    def discard(self) -> None:
        """Give the shard up and remove it."""
        self._tar.close()
        self._whole.discard()

    def finish(self) -> ShardInfo:
        """Close the shard and give it and its side index their names."""
        self._tar.close()
        lengths, counts = np.unique([row["frames"] for row in self._rows], return_counts=True)
        index_sha256 = write_side_index(self.folder / side_index_name(self.name), _side_index(self._rows))
        info = ShardInfo(
            name=self.name,
            samples=len(self._rows),
            frames=int(lengths @ counts),
            bytes=self._file.written,
            sha256=self._file.sha256,
            index_sha256=index_sha256,
            lengths=tuple(lengths.tolist()),
            counts=tuple(counts.tolist()),
        )
        self._whole.commit()
        return info


def write_side_index(path: Path, table: pa.Table) -> str:
    """Write a side index atomically and return its hash."""
    sink = pa.BufferOutputStream()
    pq.write_table(table, sink)
    data = sink.getvalue().to_pybytes()
    write_bytes(path, data)
    return hashlib.sha256(data).hexdigest()


def _side_index(rows: list[dict[str, Any]]) -> pa.Table:
    kinds = {
        "key": pa.string(),
        "source": pa.string(),
        "episode": pa.string(),
        "frames": pa.int32(),
        "first": pa.int64(),
        "times": pa.list_(pa.float64()),
        "thumbnail": pa.binary(),
    }
    for member in MEMBERS:
        kinds |= {f"{member}_offset": pa.int64(), f"{member}_bytes": pa.int64(), f"{member}_crc32": pa.uint32()}
    return pa.table({name: pa.array([row.get(name, 0) for row in rows], kind) for name, kind in kinds.items()})
