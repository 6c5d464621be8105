"""Reader of a split: any window of any sample of its shards."""

from __future__ import annotations

import math
import resource
from collections import OrderedDict
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lam.data.clip import Clip
from lam.data.codec import Decoder
from lam.data.corruption import MAX_ATTEMPTS, Corruption, CorruptionError
from lam.data.mixture import ShardMixture
from lam.data.order import Windows
from lam.data.schema import Aggregation, Split, aggregate_steps
from lam.data.shard_reader import ACTIONS, ShardReader, frame_type
from lam.data.windowing import LengthHistogram
from lam.io.limits import check_limit

_OPEN_SHARDS = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 4096)  # small ones: a shuffle buffer spans many
_OPEN_SAMPLES = 100_000  # of all open shards: their keys and times take memory

ReplaceWindows = Callable[[np.ndarray, int], Windows]
"""Given positions of corrupt windows and an attempt from 1 on, returns windows to read instead of them."""
_Failed = tuple[list[int], CorruptionError]
"""Places in a batch, and why they cannot be read."""


class SplitReader:
    """Random access to the windows of a split. Opens shards when they are needed, so it is cheap to send to workers.

    Attributes:
        mixture: The sets that the shards are in; shards are numbered through all of them.
        split: Which split.
        decoder: What decodes mp4.
        histogram: Lengths of samples.

    Args:
        mixture: The sets that the shards are in.
        split: Which split.
        decoder: What decodes mp4.
    """

    def __init__(self, mixture: ShardMixture, split: Split, decoder: Decoder = "pyav") -> None:
        self.mixture, self.split, self.decoder = mixture, split, decoder
        self._infos = [(each, info) for each in mixture.sets for info in each.index.splits[split]]
        if not self._infos:
            raise ValueError(
                f"{mixture.index.path} has no {split} samples. Prepare more sources, so that both splits get some."
            )
        self.histogram = LengthHistogram([info for _, info in self._infos])
        self._open: OrderedDict[int, ShardReader | CorruptionError] = OrderedDict()
        self._open_samples = 0

    def __getstate__(self) -> dict[str, object]:
        """Everything but open files."""
        return {**self.__dict__, "_open": OrderedDict(), "_open_samples": 0}

    def read(
        self,
        windows: Windows,
        labels: bool,
        replace: ReplaceWindows | None = None,
        corruptions: list[Corruption] | None = None,
        factors: bool = True,
    ) -> Clip:
        """Read a batch of windows.

        Args:
            windows: Which ones.
            labels: Whether to read recorded actions and factors.
            replace: What to read instead of corrupt windows; without it the first one is an error.
            corruptions: Gets what was found corrupt and replaced.
            factors: Whether labels are factors too and not recorded actions alone.

        Raises:
            CorruptionError: A window is corrupt, and so is what should replace it.
        """
        batch = _Batch(self, windows, labels, factors)
        todo = np.arange(len(windows))
        for attempt in range(1, MAX_ATTEMPTS + 1):
            failed = self._fill(batch, windows, todo)
            if not failed:
                return batch.clip()
            if replace is None or corruptions is None or attempt == MAX_ATTEMPTS:
                break
            corruptions += [error.corruption for _, error in failed if isinstance(error.corruption, Corruption)]
            todo = np.sort([i for places, _ in failed for i in places])
            instead = replace(windows.positions[todo], attempt)
            windows.shards[todo], windows.numbers[todo] = instead.shards, instead.numbers
        raise failed[0][1]

    def _fill(self, batch: _Batch, windows: Windows, todo: np.ndarray) -> list[_Failed]:
        """Read some of the windows, shard by shard and sample by sample; return those that are corrupt."""
        failed: list[_Failed] = []
        found: list[tuple[ShardReader, np.ndarray]] = []
        rows, lengths, indices = np.zeros((3, len(windows)), dtype=np.int64)
        shards = windows.shards[todo]
        for number in dict.fromkeys(shards.tolist()):
            here = todo[shards == number]
            shard = self.shard(number)
            if isinstance(shard, CorruptionError):
                failed.append((here.tolist(), shard))
                continue
            rows[here], lengths[here], indices[here], batch.positions[here] = windows.windowing.locate(
                shard.lengths, windows.numbers[here], windows.positions[here]
            )
            found.append((shard, here))
        starts = windows.windowing.starts(lengths, indices, windows.positions)  # of all shards at once: batches span many
        for shard, here in found:
            samples: dict[int, list[tuple[int, int]]] = {}
            for i, row, start in zip(here.tolist(), rows[here].tolist(), starts[here].tolist(), strict=True):
                samples.setdefault(row, []).append((i, start))
            for row, windows_here in samples.items():
                failed += batch.read(shard, row, windows_here)
        return failed

    def shard(self, number: int) -> ShardReader | CorruptionError:
        """Return one shard, opened if need be, or why that is impossible; the one used longest ago is closed."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        part, info = self._infos[number]
        self._open_samples += info.samples
        while self._open and (len(self._open) >= _OPEN_SHARDS or self._open_samples > _OPEN_SAMPLES):
            closed, _ = self._open.popitem(last=False)
            self._open_samples -= self._infos[closed][1].samples
        try:
            self._open[number] = ShardReader(part.files, part.index, info)
        except CorruptionError as error:
            self._open[number] = error
        return self._open[number]

    def split_by_set(self, values: np.ndarray) -> list[np.ndarray]:
        """Split values of all shards, (shards,), into those of each set."""
        ends = np.cumsum([len(each.index.splits[self.split]) for each in self.mixture.sets])
        return np.split(values, ends[:-1])

    def shard_names(self, windows: Windows) -> list[str]:
        """Return the paths of the shards that hold some windows, for messages."""
        found = (self._infos[number] for number in dict.fromkeys(windows.shards.tolist()))
        return [f"{part.index.path}/{info.name}" for part, info in found]


class _Batch:
    """A batch that is being read.

    Args:
        reader: The reader of its split.
        windows: What it will hold.
        labels: Whether to read recorded actions and factors.
        factors: Whether labels are factors too.
    """

    def __init__(self, reader: SplitReader, windows: Windows, labels: bool, factors: bool) -> None:
        self._index, self._decoder, self._windowing = reader.mixture.index, reader.decoder, windows.windowing
        shape, kind = frame_type(self._index)
        size = len(windows) * self._windowing.frames * math.prod(shape) * kind.itemsize
        check_limit(f"a batch of {len(windows)} windows in bytes", size, "MAX_BATCH_BYTES")
        self._frames = _empty((len(windows), self._windowing.frames, *shape), kind)
        self.frames = self._frames.numpy()
        self.times = np.empty((len(windows), self._windowing.frames))
        self.positions = windows.positions.copy()
        self.keys, self.sources = [""] * len(windows), [""] * len(windows)
        self._aggregations: dict[str, Aggregation | list[Aggregation]] = {
            name: factor.aggregation for name, factor in self._index.factors.items() if factors
        }
        self._factors = factors
        if self._index.actions:
            self._aggregations[ACTIONS] = self._index.action_aggregations
        self._labels: list[dict[str, np.ndarray]] = [{} for _ in range(len(windows))] if labels else []

    def read(self, shard: ShardReader, row: int, places: list[tuple[int, int]]) -> list[_Failed]:
        """Read windows of one sample, from one opened video; return those that are corrupt.

        Args:
            shard: The shard.
            row: Sample in the shard.
            places: Place in the batch and first frame of each window.
        """
        try:
            self._read(shard, row, places)
        except CorruptionError as error:
            if len(places) == 1:
                return [([places[0][0]], error)]
            # whether a window is corrupt must not depend on what else is in the batch
            return [failed for place in places for failed in self.read(shard, row, [place])]
        return []

    def _read(self, shard: ShardReader, row: int, places: list[tuple[int, int]]) -> None:
        stride, span = self._windowing.stride, self._windowing.span
        windows = [(i, range(start, start + span, stride)) for i, start in places]
        if len(windows) == 1:
            shard.decode(row, windows[0][1], self.frames[windows[0][0]], self._decoder)
        else:
            needed = sorted(set().union(*(window for _, window in windows)))
            pictures = np.empty((len(needed), *self.frames.shape[2:]), dtype=self.frames.dtype)
            shard.decode(row, needed, pictures, self._decoder)
            for i, window in windows:
                self.frames[i] = pictures[np.searchsorted(needed, window)]
        times, labels = shard.times(row), shard.labels(row, self._factors) if self._labels else {}
        for i, window in windows:
            self.times[i] = times[window.start : window.stop : stride]
            self.keys[i], self.sources[i] = shard.keys[row], shard.sources[row]
            if self._labels:
                bounds = np.array(window)
                self._labels[i] = {name: aggregate_steps(labels[name], bounds, how) for name, how in self._aggregations.items()}

    def clip(self) -> Clip:
        """Return the batch."""
        read = self._aggregations if self._labels else {}
        labels = {name: torch.from_numpy(np.stack([each[name] for each in self._labels])) for name in read}
        # pixels are stored channels last, seen channels first: a copy here would cost as much as decoding
        pixels = self._frames.dtype is torch.uint8
        frames = self._frames.permute(0, 1, 4, 2, 3) if pixels else self._frames.view(torch.bfloat16)
        return Clip(
            frames=frames,
            times=torch.from_numpy(self.times),
            position=torch.from_numpy(self.positions),
            key=self.keys,
            source=self.sources,
            actions=labels.pop(ACTIONS, None),
            factors=labels,
            aggregations={("action" if name == ACTIONS else name): how for name, how in self._aggregations.items()},
        )


def _empty(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """Allocate frames, in a worker process in memory that the process that trains can see, so that nothing is copied there."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    # as torch's default_collate does it, untyped by torch; share_memory_() would copy
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize, device="cpu")
    return torch.empty(0, dtype=kind).set_(storage).view(shape)
