"""Loaders: what Lightning iterates over, built on a DataLoader whose items are whole batches.

They are not DataLoaders themselves, so Lightning neither replaces their order with a sampler of its own nor has to know
how the order is shared out between processes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from lam.data.clip import Clip
from lam.data.damage import Damage, DamageCount
from lam.data.order import TrainingOrder, WindowList
from lam.data.shards import SplitReader
from lam.data.watch import Watchdog

JOIN_EVERY = 100
"""Training batches after which processes tell each other of damaged samples."""

Batch = tuple[Clip, list[Damage]]
"""A batch, and what of it was damaged and replaced."""


class Share(NamedTuple):
    """What falls to one of several.

    Attributes:
        of: How many share.
        which: Which of them this is.
    """

    of: int = 1
    which: int = 0


class TrainingBatches(Dataset[Batch]):
    """One process's share of each batch of training windows, by the global position of the batch's first window.

    Args:
        reader: Where to read.
        order: Which window is at which position.
        each: Windows for each process.
        rank: Which process this is.
    """

    def __init__(self, reader: SplitReader, order: TrainingOrder, each: int, rank: int) -> None:
        self._reader, self._order, self._each, self._rank = reader, order, each, rank

    def __getitem__(self, first: int) -> Batch:
        """This process's share of the batch that begins at a position."""
        damages: list[Damage] = []
        clip = self._reader.read(self._order.windows(self._positions(first)), False, self._order.windows, damages)
        return clip, damages

    def describe(self, first: int) -> str:
        """Where this process's share of the batch that begins at a position is, for people."""
        positions = self._positions(first)
        shards = ", ".join(self._reader.names(self._order.windows(positions)))
        return f"training windows {positions[0]} to {positions[-1]}, in {shards}"

    def _positions(self, first: int) -> np.ndarray:
        start = first + self._rank * self._each
        return np.arange(start, start + self._each)


class WindowBatches(Dataset[Batch]):
    """One process's share of the batches of some lists of windows.

    Args:
        parts: Where to read windows, and which; a batch lies in one part.
        batch_size: Windows in a batch, all processes' together.
        slices: How batches are shared out: part of each batch, in validation,
        turns: or whole batches in turn, in prediction.
        labels: Whether to read recorded actions and causes.
        replace: Whether other windows take the place of damaged ones.
    """

    def __init__(
        self,
        parts: list[tuple[SplitReader, WindowList]],
        batch_size: int,
        slices: Share = Share(),  # noqa: B008  immutable
        turns: Share = Share(),  # noqa: B008
        labels: bool = False,
        replace: bool = False,
    ) -> None:
        self._parts, self._batch_size, self._slices, self._turns = parts, batch_size, slices, turns
        self._labels, self._replace = labels, replace
        self._ends = np.cumsum([-(-len(windows) // batch_size) for _, windows in parts])

    def __len__(self) -> int:
        """Number of batches."""
        return len(range(self._turns.which, int(self._ends[-1]), self._turns.of))

    def __getitem__(self, number: int) -> Batch:
        """This process's share of a batch."""
        number = self._turns.which + number * self._turns.of
        part = int(np.searchsorted(self._ends, number, side="right"))
        reader, windows = self._parts[part]
        batch = windows.batch(number - int(self._ends[part - 1] if part else 0), self._batch_size, self._slices.of)
        each = len(batch) // self._slices.of
        batch = batch.take(slice(self._slices.which * each, (self._slices.which + 1) * each))
        damages: list[Damage] = []
        clip = reader.read(batch, self._labels, windows.replacements if self._replace else None, damages)
        return clip, damages

    def describe(self, number: int) -> str:
        """Which batch this is, for people."""
        return f"batch {number} of {len(self)}"


class BatchList:
    """A known number of batches, the same at every pass.

    Args:
        batches: The batches.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        damage: Counts what was damaged and replaced.
    """

    def __init__(self, batches: WindowBatches, num_workers: int, watchdog: Watchdog, damage: DamageCount | None = None) -> None:
        self._batches = batches
        self._num_workers = min(num_workers, len(batches))
        self._watchdog, self._damage = watchdog, damage

    def __len__(self) -> int:
        """Number of batches."""
        return len(self._batches)

    def __iter__(self) -> Iterator[Clip]:
        """One pass."""
        for clip, damages in _workers(self._batches, range(len(self)), self._num_workers, self._watchdog):
            if self._damage is not None:
                self._damage.add(damages)
            yield clip


class BatchStream:
    """Endless training batches, beginning where the trainer stands.

    Args:
        batches: This process's share of each batch.
        batch_size: Windows in a batch of all processes together.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        damage: Counts what was damaged and replaced.
    """

    def __init__(
        self,
        batches: TrainingBatches,
        batch_size: int,
        batches_done: Callable[[], int],
        num_workers: int,
        watchdog: Watchdog,
        damage: DamageCount,
    ) -> None:
        self._batches, self._batch_size, self._num_workers = batches, batch_size, num_workers
        self._batches_done, self._watchdog, self._damage = batches_done, watchdog, damage
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
        positions = itertools.count(self.position(), self._batch_size)
        batches = _workers(self._batches, positions, self._num_workers, self._watchdog)
        for number, (clip, damages) in enumerate(batches, start=1):
            self._damage.add(damages)
            if number % JOIN_EVERY == 0:
                self._damage.join()
            yield clip


def _workers(
    batches: TrainingBatches | WindowBatches, numbers: Iterable[int], num_workers: int, watchdog: Watchdog
) -> Iterator[Batch]:
    """Batches by number, decoded ahead by worker processes (one thread each) in the same order as without them."""
    numbers, asked = itertools.tee(numbers)
    parcels = iter(parcels_of(batches, num_workers, sampler=asked))
    with watchdog.watching():
        for number in numbers:
            where = functools.partial(batches.describe, number)
            watchdog.waits(where)
            batch = unpack(next(parcels))
            watchdog.has(where)
            yield batch


def parcels_of(batches: Dataset[Batch], num_workers: int, sampler: Any = None) -> DataLoader[Any]:
    """Packed batches, made by worker processes."""
    return DataLoader(
        batches,
        batch_size=None,
        sampler=sampler,
        num_workers=num_workers,
        collate_fn=pack,
        pin_memory=torch.cuda.is_available(),
        generator=torch.Generator(),  # its own, so that starting workers leaves the run's random state alone
    )


def pack(batch: Any) -> Any:
    """A clip with all but its frames as arrays: a tensor that changes process costs a connection, an array some bytes."""
    clip, damages = batch
    causes = {name: value.numpy() for name, value in clip.causes.items()}
    actions = None if clip.actions is None else clip.actions.numpy()
    return (
        *(clip.frames, clip.times.numpy(), clip.position.numpy(), clip.key, clip.source, actions, causes, clip.joins),
        [tuple(vars(damage).values()) for damage in damages],
    )


def unpack(parcel: Any) -> Batch:
    """The clip again."""
    frames, times, position, key, source, actions, causes, joins, damages = parcel
    clip = Clip(
        frames=frames,
        times=torch.from_numpy(times),
        position=torch.from_numpy(position),
        key=list(key),
        source=list(source),
        actions=None if actions is None else torch.from_numpy(actions),
        causes={name: torch.from_numpy(value) for name, value in causes.items()},
        joins=joins,
    )
    return clip, [Damage(*damage) for damage in damages]
