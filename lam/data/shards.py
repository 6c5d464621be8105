"""Reading shards: any window of any sample, by the side indices, from memory-mapped tars."""

from __future__ import annotations

import math
import resource
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from lam.data.clip import Clip
from lam.data.codec import Decoder
from lam.data.corruption import ATTEMPTS, Damage, DamagedError
from lam.data.mixture import ShardSets
from lam.data.schema import Split, aggregate_steps
from lam.data.shard_reader import ACTIONS, OpenShard, array_type
from lam.data.windowing import Lengths
from lam.data.windows import Windows

_OPEN_SHARDS = min(resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 4, 4096)  # small ones: a shuffle buffer spans many
_OPEN_SAMPLES = 100_000  # of all open shards: their keys and times take memory

Replace = Callable[[np.ndarray, int], Windows]
"""Given positions of damaged windows and an attempt from 1 on, what to read instead of them."""
_Failed = tuple[list[int], DamagedError]
"""Places in a batch, and why they cannot be read."""


class SplitReader:
    """Random access to the windows of a split. Opens shards when they are needed, so it is cheap to send to workers.

    Attributes:
        sets: Where the shards are; they are numbered through all sets.
        split: Which split.
        lengths: How long samples are.

    Args:
        sets: Where the shards are.
        split: Which split.
        decoder: What decodes mp4.
    """

    def __init__(self, sets: ShardSets, split: Split, decoder: Decoder = "pyav") -> None:
        self.sets, self.split, self._decoder = sets, split, decoder
        self._infos = [(each, info) for each in sets.sets for info in each.index.splits[split]]
        if not self._infos:
            raise ValueError(f"{sets.index.path} has no {split} samples. Prepare more sources, so that both splits get some.")
        self.lengths = Lengths([info for _, info in self._infos])
        self._open: OrderedDict[int, OpenShard | DamagedError] = OrderedDict()
        self._open_samples = 0

    def __getstate__(self) -> dict[str, object]:
        """Everything but open files."""
        return {**self.__dict__, "_open": OrderedDict(), "_open_samples": 0}

    def read(self, windows: Windows, labels: bool, replace: Replace | None = None, damages: list[Damage] | None = None) -> Clip:
        """Reads a batch of windows.

        Args:
            windows: Which ones.
            labels: Whether to read recorded actions and factors.
            replace: What to read instead of damaged windows; without it the first one is an error.
            damages: Gets what was found damaged and replaced.

        Raises:
            DamagedError: A window is damaged, and so is what should replace it.
        """
        batch = _Batch(self, windows, labels)
        todo = np.arange(len(windows))
        for attempt in range(1, ATTEMPTS + 1):
            failed = self._fill(batch, windows, todo)
            if not failed:
                return batch.clip()
            if replace is None or damages is None or attempt == ATTEMPTS:
                break
            damages += [error.damage for _, error in failed if isinstance(error.damage, Damage)]
            todo = np.sort([i for places, _ in failed for i in places])
            instead = replace(windows.positions[todo], attempt)
            windows.shards[todo], windows.numbers[todo] = instead.shards, instead.numbers
        raise failed[0][1]

    def _fill(self, batch: _Batch, windows: Windows, todo: np.ndarray) -> list[_Failed]:
        """Reads some of the windows, shard by shard and sample by sample; returns those that are damaged."""
        failed: list[_Failed] = []
        found: list[tuple[OpenShard, np.ndarray]] = []
        rows, lengths, places = np.zeros((3, len(windows)), dtype=np.int64)
        shards = windows.shards[todo]
        for number in dict.fromkeys(shards.tolist()):
            here = todo[shards == number]
            shard = self.shard(number)
            if isinstance(shard, DamagedError):
                failed.append((here.tolist(), shard))
                continue
            rows[here], lengths[here], places[here], batch.positions[here] = windows.cut.find(
                shard.lengths, windows.numbers[here], windows.positions[here]
            )
            found.append((shard, here))
        starts = windows.cut.starts(lengths, places, windows.positions)  # of all shards at once: batches span many
        for shard, here in found:
            samples: dict[int, list[tuple[int, int]]] = {}
            for i, row, start in zip(here.tolist(), rows[here].tolist(), starts[here].tolist(), strict=True):
                samples.setdefault(row, []).append((i, start))
            for row, windows_here in samples.items():
                failed += batch.read(shard, row, windows_here)
        return failed

    def shard(self, number: int) -> OpenShard | DamagedError:
        """One shard, opened if need be, or why that is impossible; the one used longest ago is closed."""
        if number in self._open:
            self._open.move_to_end(number)
            return self._open[number]
        part, info = self._infos[number]
        self._open_samples += info.samples
        while self._open and (len(self._open) >= _OPEN_SHARDS or self._open_samples > _OPEN_SAMPLES):
            closed, _ = self._open.popitem(last=False)
            self._open_samples -= self._infos[closed][1].samples
        try:
            self._open[number] = OpenShard(part.files, part.index, info)
        except DamagedError as error:
            self._open[number] = error
        return self._open[number]

    def by_set(self, values: np.ndarray) -> list[np.ndarray]:
        """Values of all shards, (shards,), those of each set by themselves."""
        ends = np.cumsum([len(each.index.splits[self.split]) for each in self.sets.sets])
        return np.split(values, ends[:-1])

    def names(self, windows: Windows) -> list[str]:
        """Names of the shards that hold some windows, for people."""
        found = (self._infos[number] for number in dict.fromkeys(windows.shards.tolist()))
        return [f"{part.index.path}/{info.name}" for part, info in found]


class _Batch:
    """A batch that is being read.

    Args:
        reader: Who reads it.
        windows: What it will hold.
        labels: Whether to read recorded actions and factors.
    """

    def __init__(self, reader: SplitReader, windows: Windows, labels: bool) -> None:
        self._index, self._decoder, self._cut = reader.sets.index, reader._decoder, windows.cut
        shape, kind = array_type(self._index)
        self._frames = _empty((len(windows), self._cut.frames, *shape), kind)
        self.frames = self._frames.numpy()
        self.times = np.empty((len(windows), self._cut.frames))
        self.positions = windows.positions.copy()
        self.keys, self.sources = [""] * len(windows), [""] * len(windows)
        self._aggregations: dict[str, Any] = {name: factor.aggregation for name, factor in self._index.factors.items()}
        if self._index.actions:
            self._aggregations[ACTIONS] = self._index.action_aggregations
        self._labels: list[dict[str, np.ndarray]] = [{} for _ in range(len(windows))] if labels else []

    def read(self, shard: OpenShard, row: int, places: list[tuple[int, int]]) -> list[_Failed]:
        """Reads windows of one sample, from one opened video; returns those that are damaged.

        Args:
            shard: The shard.
            row: Sample in the shard.
            places: Place in the batch and first frame of each window.
        """
        try:
            self._read(shard, row, places)
        except DamagedError as error:
            if len(places) == 1:
                return [([places[0][0]], error)]
            # whether a window is damaged must not depend on what else is in the batch
            return [failed for place in places for failed in self.read(shard, row, [place])]
        return []

    def _read(self, shard: OpenShard, row: int, places: list[tuple[int, int]]) -> None:
        stride, span = self._cut.stride, self._cut.span
        windows = [(i, range(start, start + span, stride)) for i, start in places]
        if len(windows) == 1:
            shard.decode(row, windows[0][1], self.frames[windows[0][0]], self._decoder)
        else:
            needed = sorted(set().union(*(window for _, window in windows)))
            pictures = np.empty((len(needed), *self.frames.shape[2:]), dtype=self.frames.dtype)
            shard.decode(row, needed, pictures, self._decoder)
            for i, window in windows:
                self.frames[i] = pictures[np.searchsorted(needed, window)]
        times, labels = shard.times(row), shard.labels(row) if self._labels else {}
        for i, window in windows:
            self.times[i] = times[window.start : window.stop : stride]
            self.keys[i], self.sources[i] = shard.keys[row], shard.sources[row]
            if self._labels:
                bounds = np.array(window)
                self._labels[i] = {
                    name: aggregate_steps(labels[name], bounds, join) for name, join in self._aggregations.items()
                }

    def clip(self) -> Clip:
        """The batch."""
        read = self._aggregations if self._labels else {}
        joined = {name: torch.from_numpy(np.stack([each[name] for each in self._labels])) for name in read}
        # pixels are stored channels last, seen channels first: a copy here would cost as much as decoding
        pixels = self._frames.dtype is torch.uint8
        frames = self._frames.permute(0, 1, 4, 2, 3) if pixels else self._frames.view(torch.bfloat16)
        return Clip(
            frames=frames,
            times=torch.from_numpy(self.times),
            position=torch.from_numpy(self.positions),
            key=self.keys,
            source=self.sources,
            actions=joined.pop(ACTIONS, None),
            factors=joined,
            aggregations={("action" if name == ACTIONS else name): join for name, join in self._aggregations.items()},
        )


def _empty(shape: tuple[int, ...], kind: torch.dtype) -> Tensor:
    """Memory for frames; in a worker process such as the process that trains can see, so that nothing is copied there."""
    if get_worker_info() is None:
        return torch.empty(shape, dtype=kind)
    # as torch's default_collate does it; share_memory_() would copy
    storage = torch.UntypedStorage._new_shared(math.prod(shape) * kind.itemsize, device="cpu")
    return torch.empty(0, dtype=kind).set_(storage).view(shape)
