"""Loaders: what Lightning iterates over, built on a DataLoader whose items are whole batches.

They are not DataLoaders themselves, so Lightning neither replaces their order with a sampler of its own nor has to know
how the order is shared out between processes.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lam.data.clip import Clip
from lam.data.order import TrainingOrder, Windows
from lam.data.shards import SplitReader


class TrainingBatches(Dataset[Clip]):
    """One process's share of each batch of training windows, by the global position of the batch's first window.

    Args:
        reader: Where to read.
        order: Which window is at which position.
        stride: Every how many recorded frames one is taken.
        each: Windows for each process.
        rank: Which process this is.
    """

    def __init__(self, reader: SplitReader, order: TrainingOrder, stride: int, each: int, rank: int) -> None:
        self._reader, self._order, self._stride, self._each, self._rank = reader, order, stride, each, rank

    def __getitem__(self, first: int) -> Clip:
        """This process's share of the batch that begins at a position."""
        start = first + self._rank * self._each
        windows = self._order.windows(np.arange(start, start + self._each))
        return self._reader.read(windows, self._stride, labels=False)


class WindowBatches(Dataset[Clip]):
    """One process's share of each of a list of batches.

    Args:
        batches: Where to read each batch, and its windows, all processes' together.
        stride: Every how many recorded frames one is taken.
        world: Number of processes; it divides the size of every batch.
        rank: Which process this is.
        labels: Whether to read recorded actions and causes.
    """

    def __init__(self, batches: list[tuple[SplitReader, Windows]], stride: int, world: int, rank: int, labels: bool) -> None:
        self._batches, self._stride, self._world, self._rank, self._labels = batches, stride, world, rank, labels

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __getitem__(self, number: int) -> Clip:
        """This process's share of a batch."""
        reader, windows = self._batches[number]
        each = len(windows) // self._world
        return reader.read(windows.take(slice(self._rank * each, (self._rank + 1) * each)), self._stride, self._labels)


class BatchList:
    """A known number of batches, the same at every pass.

    Args:
        batches: The batches.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
    """

    def __init__(self, batches: WindowBatches, num_workers: int) -> None:
        self._batches = batches
        self._num_workers = min(num_workers, len(batches))

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Clip]:
        """One pass."""
        yield from _workers(self._batches, range(len(self)), self._num_workers)


class BatchStream:
    """Endless training batches, beginning where the trainer stands.

    Args:
        batches: This process's share of each batch.
        batch_size: Windows in a batch of all processes together.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
    """

    def __init__(self, batches: TrainingBatches, batch_size: int, batches_done: Callable[[], int], num_workers: int) -> None:
        self._batches, self._batch_size, self._num_workers = batches, batch_size, num_workers
        self._batches_done = batches_done
        self._origin = 0  # position of the trainer's first batch

    def position(self) -> int:
        """Position of the window after the last one the trainer has consumed; what was fetched ahead does not count."""
        return self._origin + self._batches_done() * self._batch_size

    def state_dict(self) -> dict[str, Any]:
        """The position, for Lightning's checkpoint."""
        return {"position": self.position()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continues at a checkpoint's position, also if the batch size has changed since."""
        self._origin += state["position"] - self.position()

    def __iter__(self) -> Iterator[Clip]:
        """Batches from the current position on."""
        yield from _workers(self._batches, itertools.count(self.position(), self._batch_size), self._num_workers)


def _workers(batches: Dataset[Clip], numbers: Iterable[int], num_workers: int) -> Iterator[Clip]:
    """Batches by number, decoded ahead by worker processes (one thread each) in the same order as without them."""
    parcels = DataLoader(
        batches,
        batch_size=None,
        sampler=numbers,
        num_workers=num_workers,
        collate_fn=_pack,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, so that starting workers leaves the run's random state alone
    )
    yield from map(_unpack, parcels)


def _pack(clip: Any) -> Any:
    """A clip with all but its frames as arrays: a tensor that changes process costs a connection, an array some bytes."""
    causes = {name: value.numpy() for name, value in clip.causes.items()}
    actions = None if clip.actions is None else clip.actions.numpy()
    return clip.frames, clip.times.numpy(), clip.position.numpy(), clip.key, clip.source, actions, causes


def _unpack(parcel: Any) -> Clip:
    frames, times, position, key, source, actions, causes = parcel
    return Clip(
        frames=frames,
        times=torch.from_numpy(times),
        position=torch.from_numpy(position),
        key=list(key),
        source=list(source),
        actions=None if actions is None else torch.from_numpy(actions),
        causes={name: torch.from_numpy(value) for name, value in causes.items()},
    )
