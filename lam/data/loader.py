"""Loaders: what Lightning iterates over, built on a DataLoader whose items are whole batches.

They are not DataLoaders themselves, so Lightning neither replaces their order with a sampler of its own nor has to know
how the order is shared out between processes.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from lam.data.batches import Batch, TrainingBatches, WindowBatches, pack, unpack
from lam.data.clip import Clip
from lam.data.corruption import DamageCount
from lam.data.watchdog import Watchdog

JOIN_EVERY = 100
"""Training batches after which processes tell each other of damaged samples."""


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
