"""Reading shards: any window of any sample, by the side indices, from memory-mapped tars."""

from __future__ import annotations

import io
import mmap
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from lam.data.clip import Clip
from lam.data.decode import decode_window
from lam.data.order import Windows
from lam.data.schema import DataIndex, ShardInfo, Split, Storage, side_index_name

_OPEN_SHARDS = 64  # enough for a shuffle buffer, few enough for the limit of open files


class SplitReader:
    """Random access to the samples of a split. Opens shards when they are needed, so it is cheap to send to workers.

    Attributes:
        index: The folder.
        split: Which split.
        lengths: Frames of each sample, (samples,) int64; samples are numbered through all shards.
        shards: Shard of each sample, (samples,) int64.

    Args:
        index: The folder.
        split: Which split.
    """

    def __init__(self, index: DataIndex, split: Split) -> None:
        self.index, self.split = index, split
        self._infos = index.splits[split]
        if not self._infos:
            raise ValueError(f"{index.path} has no {split} samples. Prepare more sources, so that both splits get some.")
        lengths = [_check_shard(index.path, info) for info in self._infos]
        self.lengths = np.concatenate(lengths).astype(np.int64)
        self.shards = np.repeat(np.arange(len(lengths)), [len(each) for each in lengths])
        self._first = np.cumsum([0, *(len(each) for each in lengths)])
        self._open: OrderedDict[int, _OpenShard] = OrderedDict()

    def __getstate__(self) -> dict[str, object]:
        """Everything but open files."""
        return {**self.__dict__, "_open": OrderedDict()}

    def read(self, windows: Windows, stride: int, labels: bool) -> Clip:
        """Reads a batch of windows.

        Args:
            windows: Which ones.
            stride: Every how many recorded frames one is taken.
            labels: Whether to read recorded actions and causes.
        """
        count, frames = len(windows), windows.frames
        pixels = np.empty((count, frames, self.index.height, self.index.width, 3), dtype=np.uint8)
        times = np.empty((count, frames))
        keys, sources, records = [], [], []
        for i, (sample, start) in enumerate(zip(windows.samples.tolist(), windows.starts.tolist(), strict=True)):
            shard = self._shard(int(self.shards[sample]))
            row = sample - int(self._first[self.shards[sample]])
            window = range(start, start + (frames - 1) * stride + 1, stride)
            shard.decode(row, window, pixels[i])
            times[i] = shard.times[row][window.start : window.stop : stride]
            keys.append(shard.keys[row])
            sources.append(shard.sources[row])
            if labels:
                records.append(_between(shard.labels(row), window))
        joined = {name: torch.from_numpy(np.stack([each[name] for each in records])) for name in (records or [{}])[0]}
        return Clip(
            # stored channels last, seen channels first: a copy here would cost as much as decoding
            frames=torch.from_numpy(pixels).permute(0, 1, 4, 2, 3),
            times=torch.from_numpy(times),
            position=torch.from_numpy(windows.positions.copy()),
            key=keys,
            source=sources,
            actions=joined.pop(_ACTIONS, None),
            causes=joined,
        )

    def video(self, sample: int) -> memoryview:
        """The stored video of one sample."""
        number = int(self.shards[sample])
        return self._shard(number).member("video", sample - int(self._first[number]))

    def _shard(self, number: int) -> _OpenShard:
        """One shard, opened if need be; the one used longest ago is closed."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        if len(self._open) >= _OPEN_SHARDS:
            self._open.popitem(last=False)
        self._open[number] = _OpenShard(self.index, self._infos[number])
        return self._open[number]


_ACTIONS = "\0actions"  # no cause can have this name


class _OpenShard:
    """A memory-mapped tar and its side index."""

    def __init__(self, index: DataIndex, info: ShardInfo) -> None:
        self.path = index.path / info.name
        with self.path.open("rb") as file:
            self._bytes = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
        table = pq.read_table(index.path / side_index_name(info.name), use_threads=False)
        self.keys: list[str] = table["key"].to_pylist()
        self.sources: list[str] = table["source"].to_pylist()
        times = table["times"].combine_chunks()
        self.times = np.split(times.flatten().to_numpy(), times.offsets.to_numpy()[1:-1])
        self._places = {
            member: (table[f"{member}_offset"].to_pylist(), table[f"{member}_bytes"].to_pylist())
            for member in ("video", "actions.npy", "causes.npz")
        }
        self._storage: Storage = index.storage
        self._labels: tuple[int, dict[str, np.ndarray]] = (-1, {})

    def member(self, member: str, row: int) -> memoryview:
        """Bytes of a member of a sample, none where it is absent."""
        offsets, sizes = self._places[member]
        return self._bytes[offsets[row] : offsets[row] + sizes[row]]

    def decode(self, row: int, window: range, out: np.ndarray) -> None:
        """Decodes a window of a sample."""
        try:
            decode_window(self._storage, self.member("video", row), window, out)
        except ValueError as error:
            raise ValueError(f"{self.path}, sample {self.keys[row]}: {error}. Copy it again or re-run data_prep.") from error

    def labels(self, row: int) -> dict[str, np.ndarray]:
        """Everything recorded beside a sample; the last sample's is remembered, since windows come in order."""
        if self._labels[0] != row:
            found: dict[str, np.ndarray] = {}
            if causes := self.member("causes.npz", row):
                with np.load(io.BytesIO(causes), allow_pickle=False) as arrays:
                    found.update(arrays)
            if actions := self.member("actions.npy", row):
                found[_ACTIONS] = np.load(io.BytesIO(actions), allow_pickle=False)
            self._labels = (row, found)
        return self._labels[1]


def _between(labels: dict[str, np.ndarray], window: range) -> dict[str, np.ndarray]:
    """Labels between the frames of a window.

    Over several recorded steps continuous ones add up, of discrete ones the largest counts, as in ``Clip.labels``.
    """
    steps = {}
    for name, value in labels.items():
        inside = value[window.start : window.stop - 1]
        groups = inside.reshape(len(window) - 1, window.step, *inside.shape[1:])
        steps[name] = groups.sum(axis=1) if np.issubdtype(value.dtype, np.floating) else groups.max(axis=1)
    return steps


def _check_shard(folder: Path, info: ShardInfo) -> np.ndarray:
    """Frames of each sample of a shard.

    Raises:
        ValueError: The tar or its side index is not what index.json says.
    """
    size = (folder / info.name).stat().st_size
    if size != info.bytes:
        raise ValueError(
            f"{folder / info.name} has {size} bytes, index.json says {info.bytes}. Copy it again or re-run data_prep."
        )
    frames = pq.read_table(folder / side_index_name(info.name), columns=["frames"], use_threads=False)["frames"].to_numpy()
    if (len(frames), frames.sum()) != (info.samples, info.frames):
        raise ValueError(
            f"{folder / side_index_name(info.name)} lists {len(frames)} samples of {frames.sum()} frames, index.json says "
            f"{info.samples} of {info.frames}. Copy it again or re-run data_prep."
        )
    return frames
