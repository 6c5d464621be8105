"""The order of data: which window is where, as a pure function of seed and position.

Nothing is carried from batch to batch: a run resumes, changes its number of processes or workers and still sees the same
windows at the same positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lam.data.windowing import (
    CoveringWindows,
    DisjointWindows,
    HashStream,
    LengthHistogram,
    RandomWindows,
    Windowing,
    hash_integers,
    hash_permutation,
)

DRAWS_PER_BLOCK = 1024
"""Draws in which every set of a mixture has exactly its share."""


@dataclass(frozen=True)
class Windows:
    """Some windows of equal length, as far as they are known before their shards are opened.

    Attributes:
        shards: Shard of each, (windows,) int64.
        numbers: Which of that shard's windows each is, (windows,) int64.
        positions: Number that identifies each, (windows,) int64; see the windowing.
        windowing: How samples become windows.
    """

    shards: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    windowing: Windowing

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.shards)

    def take(self, which: np.ndarray | slice) -> Windows:
        """Return some of the windows."""
        return Windows(self.shards[which], self.numbers[which], self.positions[which], self.windowing)


class SampleOrder:
    """Endless order of the samples of one set: every sample once a pass.

    Two levels, so that shards are read in sequence: each pass permutes the shards, lays their samples out one after another,
    cuts that line into blocks of ``buffer`` samples and permutes each block. With no more samples than ``buffer`` it is
    a full shuffle. Memory is that of the shards and a few blocks.

    Args:
        sizes: Samples of each shard, (shards,).
        seed: Seed of the order.
        buffer: Samples shuffled together.
    """

    def __init__(self, sizes: np.ndarray, seed: int, buffer: int) -> None:
        self._shards = np.flatnonzero(sizes)
        self._sizes = sizes[self._shards]
        self._samples = int(sizes.sum())
        self._seed, self._buffer = seed, buffer
        self._blocks: dict[tuple[int, int], tuple[np.ndarray, np.ndarray]] = {}

    def __len__(self) -> int:
        """Samples of a pass."""
        return self._samples

    def draw(self, draws: np.ndarray, attempt: int = 0) -> tuple[np.ndarray, np.ndarray]:
        """Return the shard of each draw, and which of its samples.

        Args:
            draws: Places in the order, (n,) int64.
            attempt: 0; from 1 on the same draws give others of the same block, to replace those that are corrupt.
        """
        passes, offsets = np.divmod(draws, len(self))
        blocks, places = np.divmod(offsets, self._buffer)
        found = np.empty((2, len(draws)), dtype=np.int64)
        for number, block in set(zip(passes.tolist(), blocks.tolist(), strict=True)):
            here = (passes == number) & (blocks == block)
            shards, numbers = self._block(number, block)
            inside = places[here]
            if attempt:
                others = hash_integers(self._seed, HashStream.REPLACEMENTS, attempt, draws[here])
                inside = (others % np.uint64(len(shards))).astype(np.int64)
            found[:, here] = shards[inside], numbers[inside]
        return found[0], found[1]

    def _block(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """Return one block of one pass, in order; the last few blocks are remembered."""
        found = self._blocks.get((number, block))
        if found is None:
            if len(self._blocks) >= 4:
                self._blocks.pop(next(iter(self._blocks)))
            found = self._blocks[number, block] = self._make_block(number, block)
        return found

    def _make_block(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        shards = hash_permutation(self._seed, HashStream.SHARDS, number, np.arange(len(self._sizes)))
        ends = np.cumsum(self._sizes[shards])
        offsets = np.arange(block * self._buffer, min((block + 1) * self._buffer, len(self)))
        offsets = hash_permutation(self._seed, HashStream.SAMPLES, number, offsets)
        which = np.searchsorted(ends, offsets, side="right")
        return self._shards[shards[which]], offsets - (ends - self._sizes[shards])[which]


class TrainingOrder:
    """Endless order of training windows from one or several sets, at a random place of their sample each time.

    Long samples come up as often as short ones. Of several sets each has exactly its share, rounded to 1/1024, in every 1024
    draws, and makes its own passes.

    Attributes:
        draws_per_set: Draws of each set in every 1024.

    Args:
        samples: Samples of each shard that are long enough for a window, by set; shards are numbered through all sets.
        weights: Weight of each set.
        windowing: How windows are drawn.
        buffer: Samples of a set shuffled together.
        windows_per_sample: Consecutive windows that come from the same sample.

    Raises:
        ValueError: A weight is too small.
    """

    def __init__(
        self,
        samples: Sequence[np.ndarray],
        weights: Sequence[float],
        windowing: RandomWindows,
        buffer: int,
        windows_per_sample: int = 1,
    ) -> None:
        self._windowing, self._windows_per_sample = windowing, windows_per_sample
        others = hash_integers(windowing.seed, HashStream.SEEDS, 0, np.arange(1, len(samples)))
        seeds = [windowing.seed, *others.tolist()]
        self._orders = [SampleOrder(sizes, seed, buffer) for sizes, seed in zip(samples, seeds, strict=True)]
        self._first = np.cumsum([0, *map(len, samples)])
        self.draws_per_set = apportion(weights)

    def __len__(self) -> int:
        """Samples of all sets."""
        return sum(len(order) for order in self._orders)

    def windows(self, positions: np.ndarray, attempt: int = 0) -> Windows:
        """Return the windows at these positions, (B,) int64.

        Args:
            positions: Places in the order.
            attempt: 0; from 1 on others of the same sets, to replace those that are corrupt.
        """
        draws = positions // self._windows_per_sample
        if len(self._orders) == 1:
            return Windows(*self._orders[0].draw(draws, attempt), positions, self._windowing)
        found = np.empty((2, len(positions)), dtype=np.int64)
        blocks, places = np.divmod(draws, DRAWS_PER_BLOCK)
        for block in set(blocks.tolist()):
            # of places; those of set 0 are the smallest
            sets = hash_permutation(self._windowing.seed, HashStream.SETS, block, np.arange(DRAWS_PER_BLOCK))
            sets = np.searchsorted(np.cumsum(self.draws_per_set), sets, side="right")
            for number, order in enumerate(self._orders):
                here = (blocks == block) & (sets[places] == number)
                before = np.cumsum(sets == number) - 1  # of the same set in this block
                shards, numbers = order.draw(block * self.draws_per_set[number] + before[places[here]], attempt)
                found[:, here] = shards + self._first[number], numbers
        return Windows(found[0], found[1], positions, self._windowing)


def apportion(weights: Sequence[float]) -> np.ndarray:
    """Apportion every 1024 draws to sets by largest remainders.

    Raises:
        ValueError: A weight is too small.
    """
    exact = np.asarray(weights) / sum(weights) * DRAWS_PER_BLOCK
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: DRAWS_PER_BLOCK - whole.sum()]] += 1
    if whole.min() < 1:
        raise ValueError(
            f"Weights {list(weights)} of data.shards leave a set less than 1 of {DRAWS_PER_BLOCK} draws. Raise the least."
        )
    return whole


class WindowList:
    """Windows of some shards in order, all of them or some evenly spread; kept as numbers of windows a shard.

    Args:
        counts: Windows of each shard, (shards,) int64.
        windowing: How samples become windows.
        limit: At most so many, evenly spread; None for all.
        first: Position of each shard's first window, where positions do not simply number all windows.
    """

    def __init__(
        self, counts: np.ndarray, windowing: Windowing, limit: int | None = None, first: np.ndarray | None = None
    ) -> None:
        self._ends, self._counts, self._first = np.cumsum(counts), counts, first
        self._total = int(counts.sum())
        self._chosen = self._total if limit is None else min(limit, self._total)
        self.windowing = windowing

    def __len__(self) -> int:
        """Number of windows."""
        return self._chosen

    def take(self, which: np.ndarray) -> Windows:
        """Return some of the windows, by number."""
        return self._windows((2 * which + 1) * self._total // (2 * self._chosen))

    def replacements(self, positions: np.ndarray, attempt: int) -> Windows:
        """Return other windows instead of corrupt ones at some positions, which they keep."""
        others = hash_integers(0, HashStream.REPLACEMENTS, attempt, positions) % np.uint64(self._total)
        return dataclasses.replace(self._windows(others.astype(np.int64)), positions=positions)

    def _windows(self, numbers: np.ndarray) -> Windows:
        shards = np.searchsorted(self._ends, numbers, side="right")
        positions = numbers if self._first is None else self._first[shards]
        return Windows(shards, numbers - (self._ends - self._counts)[shards], positions, self.windowing)

    def batch(self, number: int, batch_size: int, num_processes: int) -> Windows:
        """Return one batch of all processes together; it divides by their number.

        To be so, the last one repeats some of its own windows.
        """
        which = np.arange(number * batch_size, min((number + 1) * batch_size, len(self)))
        return self.take(np.resize(which, -(-len(which) // num_processes) * num_processes))


def list_disjoint_windows(histogram: LengthHistogram, frames: int, stride: int, limit: int | None) -> WindowList:
    """List windows that do not overlap, in order, or some of them, evenly spread. Positions number all of them.

    Args:
        histogram: Lengths of samples.
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        limit: How many to choose at most, None for all.
    """
    windowing = DisjointWindows(frames, stride)
    return WindowList(histogram.num_windows(windowing), windowing, limit)


def list_covering_windows(
    histogram: LengthHistogram, frames: int, stride: int, frames_per_state: int, first: int = 0
) -> list[WindowList]:
    """List windows in which every transition between states occurs once, by length, longest first.

    Args:
        histogram: Lengths of samples.
        frames: Frames of a window of full length.
        stride: Every how many recorded frames one is taken.
        frames_per_state: Frames that make a state.
        first: Position of the first window.
    """
    most = frames // frames_per_state - 1
    windowings = [CoveringWindows((t + 1) * frames_per_state, stride, most, frames_per_state) for t in range(most, 0, -1)]
    every = histogram.num_windows_any_length(windowings[0])
    starts = first + np.cumsum(every) - every
    lists = [WindowList(histogram.num_windows(windowing), windowing, first=starts) for windowing in windowings]
    return [each for each in lists if len(each)]
