"""Batches: one process's share of them, read where a worker process asks for it."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Dataset

from lam.data.clip import Clip
from lam.data.corruption import Damage
from lam.data.order import TrainingOrder
from lam.data.shards import SplitReader
from lam.data.windows import WindowList

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
        labels: Whether to read recorded actions and factors.
    """

    def __init__(self, reader: SplitReader, order: TrainingOrder, each: int, rank: int, labels: bool = False) -> None:
        self._reader, self._order, self._each, self._rank, self._labels = reader, order, each, rank, labels

    def __getitem__(self, first: int) -> Batch:
        """This process's share of the batch that begins at a position."""
        damages: list[Damage] = []
        clip = self._reader.read(self._order.windows(self._positions(first)), self._labels, self._order.windows, damages)
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
        labels: Whether to read recorded actions and factors.
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


def pack(batch: Any) -> Any:
    """A clip with all but its frames as arrays: a tensor that changes process costs a connection, an array some bytes."""
    clip, damages = batch
    factors = {name: value.numpy() for name, value in clip.factors.items()}
    actions = None if clip.actions is None else clip.actions.numpy()
    return (
        *(clip.frames, clip.times.numpy(), clip.position.numpy(), clip.key, clip.source, actions, factors, clip.aggregations),
        [tuple(vars(damage).values()) for damage in damages],
    )


def unpack(parcel: Any) -> Batch:
    """The clip again."""
    frames, times, position, key, source, actions, factors, aggregations, damages = parcel
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
    return clip, [Damage(*damage) for damage in damages]
