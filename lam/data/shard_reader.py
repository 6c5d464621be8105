"""Reader of one shard: a memory-mapped tar and its side index, which says where everything is."""

from __future__ import annotations

import hashlib
import mmap
import os
import zlib
from collections import Counter
from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import torch

from lam.data.codec import Decoder, decode_frames
from lam.data.corruption import Corruption, CorruptionError
from lam.data.index import DataIndex, read_table
from lam.data.schema import MEMBERS, ShardInfo, Storage, side_index_name
from lam.data.storage import ChangedFileError, Files
from lam.io.arrays import read_npy, read_npz

ACTIONS = "\0actions"
"""Recorded actions among the labels of a sample; no factor can have this name."""


class ShardReader:
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
        CorruptionError: The tar or its side index is missing or is not what was written.
    """

    def __init__(self, files: Files, index: DataIndex, info: ShardInfo) -> None:
        self.path = f"{index.path}/{info.name}"
        self._storage, self._info, self._index = index.storage, info, index
        self._bytes = self._map(files)
        self._read_side_index(files)

    def _map(self, files: Files) -> memoryview:
        """Map the tar into memory."""
        try:
            with files.open(self._info.name, self._info.sha256, self._info.bytes) as file:
                size = os.fstat(file.fileno()).st_size
                if size != self._info.bytes:
                    raise self._error(f"the tar has {size} bytes, {self._info.bytes} were written")
                return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        except FileNotFoundError as error:
            raise self._error("it is not there any more") from error
        except ChangedFileError as error:
            raise self._error(str(error)) from error
        except ValueError as error:  # an empty file cannot be mapped
            raise error if isinstance(error, CorruptionError) else self._error(str(error)) from error

    def _read_side_index(self, files: Files) -> None:
        """Read where everything is."""
        name = side_index_name(self._info.name)
        try:
            with files.open(name, self._info.index_sha256, None) as file:
                data = file.read()
        except FileNotFoundError as error:
            raise self._error(f"its side index {name} is not there any more") from error
        except ChangedFileError as error:
            raise self._error(str(error)) from error
        if hashlib.sha256(data).hexdigest() != self._info.index_sha256:
            raise self._error(f"its side index {name} is not the one that was written")
        places = [f"{member}_{what}" for member in MEMBERS for what in ("offset", "bytes", "crc32")]
        try:
            table = read_table(data, ["key", "source", "times", *places])
            self.keys: list[str] = table["key"].to_pylist()
            self.sources: list[str] = table["source"].to_pylist()
            stored = table["times"].combine_chunks()
            self._times, self._bounds = stored.flatten().to_numpy(), stored.offsets.to_numpy()
            self._places: dict[str, list[int]] = {place: table[place].to_pylist() for place in places}
        except (pa.ArrowException, AttributeError, KeyError, ValueError) as error:
            raise self._error(f"its side index {name} cannot be read ({error})") from error
        self.lengths = np.diff(self._bounds).astype(np.int64)
        if Counter(self.lengths.tolist()) != Counter(dict(zip(self._info.lengths, self._info.counts, strict=True))):
            raise self._error(f"its side index {name} has samples of other lengths than the list of shards says")
        self._labels: tuple[tuple[int, bool], dict[str, np.ndarray]] = ((-1, False), {})

    def times(self, row: int) -> np.ndarray:
        """Return when each frame of a sample was taken, s."""
        times: np.ndarray = self._times[self._bounds[row] : self._bounds[row + 1]]
        return times

    def member(self, member: str, row: int) -> memoryview:
        """Return the bytes of a member of a sample, none where it is absent.

        Raises:
            CorruptionError: The side index says that it lies outside of the tar.
        """
        offset, size = self._places[f"{member}_offset"][row], self._places[f"{member}_bytes"][row]
        if not 0 <= offset <= offset + size <= len(self._bytes):
            raise self._error(f"its {member} lies outside of the tar", row)
        return self._bytes[offset : offset + size]

    def verified_member(self, member: str, row: int) -> memoryview:
        """Return the bytes of a member after comparing their sum with that of what was written.

        Raises:
            CorruptionError: It has changed.
        """
        data = self.member(member, row)
        if zlib.crc32(data) != self._places[f"{member}_crc32"][row]:
            raise self._error(f"its {member} has changed since it was written", row)
        return data

    def decode(self, row: int, frames: Sequence[int], out: np.ndarray, decoder: Decoder) -> None:
        """Decode some frames of a sample, increasing.

        Raises:
            CorruptionError: The sample cannot be decoded.
        """
        # packed JPEGs and states have a sum for each frame
        data = (self.verified_member if self._storage is Storage.mp4 else self.member)("video", row)
        try:
            decode_frames(self._storage, data, frames, out, decoder)
        except ValueError as error:
            raise self._error(str(error), row) from error

    def labels(self, row: int, factors: bool = True) -> dict[str, np.ndarray]:
        """Return what is recorded beside a sample; the last sample's is remembered, since windows come in order.

        Args:
            row: Which sample.
            factors: Whether to read factors too, many small arrays, and not recorded actions alone.

        Raises:
            CorruptionError: It has changed since it was written.
        """
        if self._labels[0] != (row, factors):
            found: dict[str, np.ndarray] = {}
            try:
                if factors and (stored := self.verified_member("causes.npz", row)):
                    found.update(read_npz(stored))
                if actions := self.verified_member("actions.npy", row):
                    found[ACTIONS] = read_npy(actions)
                self._check_labels(found, int(self.lengths[row]) - 1, factors)
            except ValueError as error:
                raise error if isinstance(error, CorruptionError) else self._error(str(error), row) from error
            self._labels = ((row, factors), found)
        return self._labels[1]

    def _check_labels(self, found: dict[str, np.ndarray], steps: int, factors: bool) -> None:
        """Refuse labels that are not what the index says of them.

        Raises:
            ValueError: They are not.
        """
        expected: dict[str, tuple[int, ...]] = {}
        if factors:
            expected |= {name: factor.shape for name, factor in self._index.factors.items()}
        if self._index.action_dim is not None:
            expected[ACTIONS] = (self._index.action_dim,)
        for name, shape in expected.items():
            name_in_words = "recorded actions" if name == ACTIONS else f"the factor {name}"
            if name not in found:
                raise ValueError(f"{name_in_words} are missing")
            if found[name].shape != (steps, *shape) or found[name].dtype.kind not in "fiub":
                raise ValueError(
                    f"{name_in_words} have shape {found[name].shape} and type {found[name].dtype}, expected {(steps, *shape)}"
                )

    def _error(self, reason: str, row: int | None = None) -> CorruptionError:
        """Return the error for one sample, or for all of them."""
        key, num_samples = ("", self._info.samples) if row is None else (self.keys[row], 1)
        return CorruptionError(Corruption(self.path, key, num_samples, reason))


def frame_type(index: DataIndex) -> tuple[tuple[int, ...], torch.dtype]:
    """Return shape and type of a stored frame."""
    if index.features is not None:
        return (index.height * index.width, index.features.dim), torch.uint16
    return (index.height, index.width, 3), torch.uint8
