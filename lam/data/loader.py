"""Loaders: what Lightning iterates over, built on a DataLoader whose items are whole batches.

They are not DataLoaders themselves, so Lightning neither replaces their order with a sampler of its own nor has to know
how the order is divided between processes.
"""

from __future__ import annotations

import functools
import itertools
import signal
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset
from typing_extensions import override

from lam.data.clip import Clip
from lam.data.corruption import Corruption, CorruptionCounter
from lam.data.order import TrainingOrder, WindowList
from lam.data.split_reader import SplitReader
from lam.data.watchdog import Watchdog
from lam.noise import splitmix64

SYNCHRONIZE_EVERY = 100
"""Training batches after which processes tell each other of corrupt samples."""

Batch = tuple[Clip, list[Corruption]]
"""A batch, and what of it was corrupt and replaced."""


class Partition(NamedTuple):
    """One of several equal parts.

    Attributes:
        num_parts: Number of parts.
        part: Which of them this is.
    """

    num_parts: int = 1
    part: int = 0


class Cuts(NamedTuple):
    """Training windows that go on as others.

    Attributes:
        share: Share of the windows.
        frame: First frame that comes from the other window.
    """

    share: float = 0.0
    frame: int = 0

    def chosen(self, positions: np.ndarray) -> np.ndarray:
        """Tell which windows at positions (n,) go on as another one, (n,) bool, whatever else is in the batch."""
        numbers = splitmix64(torch.from_numpy(positions)).numpy() & (2**53 - 1)
        return np.asarray(numbers < self.share * 2**53)


class TrainingBatches(Dataset[Batch]):
    """One process's part of each batch of training windows, by the global position of the batch's first window.

    Args:
        reader: Reads the windows.
        order: Which window is at which position.
        windows_per_process: Windows of a batch for each process.
        rank: Which process this is.
        labels: Whether to read recorded actions.
        cuts: Which windows go on as the window beside them in the order, and where; recorded actions stay their own.
    """

    def __init__(
        self,
        reader: SplitReader,
        order: TrainingOrder,
        windows_per_process: int,
        rank: int,
        labels: bool = False,
        cuts: Cuts = Cuts(),  # noqa: B008  immutable
    ) -> None:
        self._reader, self._order, self._labels, self._cuts = reader, order, labels, cuts
        self._windows_per_process, self._rank = windows_per_process, rank

    def __getitem__(self, first: int) -> Batch:
        """This process's part of the batch that begins at a position."""
        corruptions: list[Corruption] = []
        positions = self._positions(first)
        clip = self._reader.read(self._order.windows(positions), self._labels, self._order.windows, corruptions, factors=False)
        cut = self._cuts.chosen(positions)
        if cut.any():  # position 2i goes on as 2i + 1 and the other way round, on whatever process they are
            other = self._reader.read(self._order.windows(positions[cut] ^ 1), False, self._order.windows, corruptions)
            clip.frames[torch.from_numpy(cut), self._cuts.frame :] = other.frames[:, self._cuts.frame :]
        return clip, corruptions

    def describe(self, first: int) -> str:
        """Say where this process's part of the batch that begins at a position is."""
        positions = self._positions(first)
        shards = ", ".join(self._reader.shard_names(self._order.windows(positions)))
        return f"training windows {positions[0]} to {positions[-1]}, in {shards}"

    def _positions(self, first: int) -> np.ndarray:
        start = first + self._rank * self._windows_per_process
        return np.arange(start, start + self._windows_per_process)


class WindowBatches(Dataset[Batch]):
    """One process's part of the batches of some lists of windows.

    Args:
        lists: Windows, and who reads them; a batch lies in one list.
        batch_size: Windows in a batch, all processes' together.
        within_batches: Which part of each batch to read, where processes divide every batch, as in validation.
        among_batches: Which batches to read, where processes take whole batches in turn, as in prediction.
        labels: Whether to read recorded actions and factors.
        replace: Whether other windows take the place of corrupt ones.
    """

    def __init__(
        self,
        lists: list[tuple[SplitReader, WindowList]],
        batch_size: int,
        within_batches: Partition = Partition(),  # noqa: B008  immutable
        among_batches: Partition = Partition(),  # noqa: B008  likewise
        labels: bool = False,
        replace: bool = False,
    ) -> None:
        self._lists, self._batch_size, self._within, self._among = lists, batch_size, within_batches, among_batches
        self._labels, self._replace = labels, replace
        self._ends = np.cumsum([-(-len(windows) // batch_size) for _, windows in lists])

    def __len__(self) -> int:
        """Number of batches."""
        return len(range(self._among.part, int(self._ends[-1]), self._among.num_parts))

    def __getitem__(self, number: int) -> Batch:
        """This process's part of a batch."""
        number = self._among.part + number * self._among.num_parts
        place = int(np.searchsorted(self._ends, number, side="right"))
        reader, windows = self._lists[place]
        batch = windows.batch(number - int(self._ends[place - 1] if place else 0), self._batch_size, self._within.num_parts)
        each = len(batch) // self._within.num_parts
        batch = batch.take(slice(self._within.part * each, (self._within.part + 1) * each))
        corruptions: list[Corruption] = []
        return reader.read(batch, self._labels, windows.replacements if self._replace else None, corruptions), corruptions

    def describe(self, number: int) -> str:
        """Say which batch this is."""
        return f"batch {number} of {len(self)}"


class BatchList:
    """A known number of batches, the same at every pass.

    Args:
        batches: The batches.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        counter: Counts what was corrupt and replaced.
    """

    def __init__(
        self, batches: WindowBatches, num_workers: int, watchdog: Watchdog, counter: CorruptionCounter | None = None
    ) -> None:
        self._batches = batches
        self._num_workers = min(num_workers, len(batches))
        self._watchdog, self._counter = watchdog, counter

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Clip]:
        """One pass."""
        for clip, corruptions in _read_ahead(self._batches, range(len(self)), self._num_workers, self._watchdog):
            if self._counter is not None:
                self._counter.add(corruptions)
            yield clip


class TrainingStream(ABC):
    """Endless training batches, beginning where the trainer stands.

    Args:
        batch_size: Windows in a batch of all processes together.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        counter: Counts what was corrupt and replaced.
    """

    def __init__(
        self,
        batch_size: int,
        batches_done: Callable[[], int],
        num_workers: int,
        watchdog: Watchdog,
        counter: CorruptionCounter,
    ) -> None:
        self._batch_size, self._num_workers = batch_size, num_workers
        self._batches_done, self._watchdog, self._counter = batches_done, watchdog, counter
        self._origin = 0  # position of the trainer's first batch

    def position(self) -> int:
        """Position of the window after the last one the trainer has consumed; what was fetched ahead does not count."""
        return self._origin + self._batches_done() * self._batch_size

    def state_dict(self) -> dict[str, Any]:
        """Return the position, for Lightning's checkpoint."""
        return {"position": self.position()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue at a checkpoint's position, also if the batch size has changed since."""
        self._origin += state["position"] - self.position()

    @abstractmethod
    def __iter__(self) -> Iterator[Clip]:
        """Batches from the current position on."""

    def _count(self, number: int, corruptions: list[Corruption]) -> None:
        """Count what was corrupt in a batch, by its number from 1 on, now and then with the other processes."""
        self._counter.add(corruptions)
        if number % SYNCHRONIZE_EVERY == 0:
            self._counter.synchronize()


class BatchStream(TrainingStream):
    """Endless training batches of shards, in their exact order.

    Args:
        batches: This process's part of each batch.
        batch_size: Windows in a batch of all processes together.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        counter: Counts what was corrupt and replaced.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        batch_size: int,
        batches_done: Callable[[], int],
        num_workers: int,
        watchdog: Watchdog,
        counter: CorruptionCounter,
    ) -> None:
        super().__init__(batch_size, batches_done, num_workers, watchdog, counter)
        self._batches = batches

    @override
    def __iter__(self) -> Iterator[Clip]:
        positions = itertools.count(self.position(), self._batch_size)
        batches = _read_ahead(self._batches, positions, self._num_workers, self._watchdog)
        for number, (clip, corruptions) in enumerate(batches, start=1):
            self._count(number, corruptions)
            yield clip


def _read_ahead(
    batches: TrainingBatches | WindowBatches, numbers: Iterable[int], num_workers: int, watchdog: Watchdog
) -> Iterator[Batch]:
    """Yield batches by number, prefetched by worker processes (one thread each) in the same order as without them."""
    numbers, asked = itertools.tee(numbers)
    packed = iter(packed_batches(batches, num_workers, sampler=asked))
    with watchdog.watch():
        for number in numbers:
            describe = functools.partial(batches.describe, number)
            watchdog.begin_wait(describe)
            batch = unpack_batch(next(packed))
            watchdog.begin_step(describe)
            yield batch


def packed_batches(batches: Dataset[Batch], num_workers: int, sampler: Iterable[int] | None = None) -> DataLoader[Any]:
    """Return a loader of packed batches, made by worker processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=pack_batch,  # type: ignore[arg-type]  # without a batch size it gets single items
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, so that starting workers leaves the run's random state alone
        worker_init_fn=_outlive_a_signal,
    )


def _outlive_a_signal(worker: int) -> None:
    """Let a worker go on when all processes of a job get SIGTERM, as the training needs it for its last step.

    It ends with its training, at the latest by the next SIGTERM, which that sends where a worker does not end by itself.
    """
    signal.signal(signal.SIGTERM, lambda number, frame: signal.signal(number, signal.SIG_DFL))


def pack_batch(batch: Batch) -> tuple[Any, ...]:
    """Pack a batch with all but its frames as arrays: a tensor that changes process costs a connection, an array some bytes."""
    clip, corruptions = batch
    factors = {name: value.numpy() for name, value in clip.factors.items()}
    actions = None if clip.actions is None else clip.actions.numpy()
    return (
        *(clip.frames, clip.times.numpy(), clip.position.numpy(), clip.key, clip.source, actions, factors, clip.aggregations),
        [tuple(vars(each).values()) for each in corruptions],
    )


def unpack_batch(packed: tuple[Any, ...]) -> Batch:
    """Unpack a batch."""
    frames, times, position, key, source, actions, factors, aggregations, corruptions = packed
    clip = Clip(
        frames=frames,
        times=torch.from_numpy(times),
        position=torch.from_numpy(position),
        key=list(key),
        source=list(source),
        actions=None if actions is None else torch.from_numpy(actions),
        factors={name: torch.from_numpy(value) for name, value in factors.items()},
        aggregations=aggregations,
    )
    return clip, [Corruption(*each) for each in corruptions]
