"""One open shard: a memory-mapped tar and its side index, which says where everything is."""

from __future__ import annotations

import hashlib
import io
import mmap
import os
import zipfile
import zlib
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch

from lam.data.codec import Decoder, decode_frames
from lam.data.corruption import Damage, DamagedError
from lam.data.files import ChangedFileError, Files
from lam.data.index import DataIndex
from lam.data.schema import MEMBERS, ShardInfo, Storage, side_index_name

ACTIONS = "\0actions"  # no factor can have this name


class OpenShard:
    """Random access to the samples of a shard.

    Attributes:
        path: Where the tar is, for people.
        lengths: Frames of each sample, (samples,) int64.
        keys: Key of each sample.
        sources: Source of each sample.

    Args:
        files: Where the set's files are.
        index: The set.
        info: The shard.

    Raises:
        DamagedError: The tar or its side index is missing or is not what was written.
    """

    def __init__(self, files: Files, index: DataIndex, info: ShardInfo) -> None:
        self.path = f"{index.path}/{info.name}"
        self._storage, self._info = index.storage, info
        self._bytes = self._map(files)
        self._read_side_index(files)

    def _map(self, files: Files) -> memoryview:
        """The tar."""
        try:
            with files.open(self._info.name, self._info.sha256, self._info.bytes) as file:
                size = os.fstat(file.fileno()).st_size
                if size != self._info.bytes:
                    raise self._damaged(f"the tar has {size} bytes, {self._info.bytes} were written")
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise self._damaged("it is not there any more") from error
        except ChangedFileError as error:
            raise self._damaged(str(error)) from error

    def _read_side_index(self, files: Files) -> None:
        """What the side index says."""
        name = side_index_name(self._info.name)
        try:
            with files.open(name, self._info.index_sha256, None) as file:
                data = file.read()
        except FileNotFoundError as error:
            raise self._damaged(f"its side index {name} is not there any more") from error
        except ChangedFileError as error:
            raise self._damaged(str(error)) from error
        if hashlib.sha256(data).hexdigest() != self._info.index_sha256:
            raise self._damaged(f"its side index {name} is not the one that was written")
        places = [f"{member}_{what}" for member in MEMBERS for what in ("offset", "bytes", "crc32")]
        table = pq.ParquetFile(pa.BufferReader(data)).read(["key", "source", "times", *places], use_threads=False)
        self.keys: list[str] = table["key"].to_pylist()
        self.sources: list[str] = table["source"].to_pylist()
        times = table["times"].combine_chunks()
        self._times, self._bounds = times.flatten().to_numpy(), times.offsets.to_numpy()
        self.lengths = np.diff(self._bounds).astype(np.int64)
        self._places = {place: table[place].to_pylist() for place in places}
        self._labels: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def times(self, row: int) -> np.ndarray:
        """When each frame of a sample was taken."""
        return self._times[self._bounds[row] : self._bounds[row + 1]]

    def member(self, member: str, row: int) -> memoryview:
        """Bytes of a member of a sample, none where it is absent."""
        offset = self._places[f"{member}_offset"][row]
        return self._bytes[offset : offset + self._places[f"{member}_bytes"][row]]

    def checked(self, member: str, row: int) -> memoryview:
        """The same, compared with what was written.

        Raises:
            DamagedError: It has changed.
        """
        data = self.member(member, row)
        if zlib.crc32(data) != self._places[f"{member}_crc32"][row]:
            raise self._damaged(f"its {member} has changed since it was written", row)
        return data

    def decode(self, row: int, frames: Sequence[int], out: np.ndarray, decoder: Decoder) -> None:
        """Decodes some frames of a sample, increasing.

        Raises:
            DamagedError: That is not possible.
        """
        # packed rows and states have a sum for each frame
        data = (self.checked if self._storage is Storage.mp4 else self.member)("video", row)
        try:
            decode_frames(self._storage, data, frames, out, decoder)
        except ValueError as error:
            raise self._damaged(str(error), row) from error

    def labels(self, row: int) -> dict[str, np.ndarray]:
        """Everything recorded beside a sample; the last sample's is remembered, since windows come in order.

        Raises:
            DamagedError: It has changed since it was written.
        """
        if self._labels[0] != row:
            found: dict[str, np.ndarray] = {}
            try:
                if factors := self.checked("causes.npz", row):
                    with np.load(io.BytesIO(factors), allow_pickle=False) as arrays:
                        found.update(arrays)
                if actions := self.checked("actions.npy", row):
                    found[ACTIONS] = np.load(io.BytesIO(actions), allow_pickle=False)
            except (ValueError, EOFError, zipfile.BadZipFile) as error:
                raise error if isinstance(error, DamagedError) else self._damaged(str(error), row) from error
            self._labels = (row, found)
        return self._labels[1]

    def _damaged(self, reason: str, row: int | None = None) -> DamagedError:
        """The error that says so, of a sample or of all of them."""
        key, samples = ("", self._info.samples) if row is None else (self.keys[row], 1)
        return DamagedError(Damage(self.path, key, samples, reason))


def array_type(index: DataIndex) -> tuple[tuple[int, ...], torch.dtype]:
    """Shape and type of a stored frame."""
    if index.features is not None:
        return (index.height * index.width, index.features.dim), torch.uint16
    return (index.height, index.width, 3), torch.uint8
