"""The order of data: which window is where, as a pure function of seed and position.

Nothing is carried from batch to batch: a run resumes, changes its number of processes or workers and still sees the same
windows at the same positions.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lam.data.cuts import Cover, Cut, Draw, Lengths, Spread
from lam.data.hashes import REPLACEMENTS, SAMPLES, SEEDS, SETS, SHARDS, hashes, permutation

MIXED = 1024
"""Draws in which every set has exactly its share."""


@dataclass(frozen=True)
class Windows:
    """Some windows of equal length, as far as they are known before their shards are opened.

    Attributes:
        shards: Shard of each, (windows,) int64.
        numbers: Which of that shard's windows each is, (windows,) int64.
        positions: What identifies each, (windows,) int64; see the cut.
        cut: How samples become windows.
    """

    shards: np.ndarray
    numbers: np.ndarray
    positions: np.ndarray
    cut: Cut

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.shards)

    def take(self, which: np.ndarray | slice) -> Windows:
        """Some of the windows."""
        return Windows(self.shards[which], self.numbers[which], self.positions[which], self.cut)


class ShardOrder:
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
        """Shard of each draw, and which of its samples.

        Args:
            draws: Places in the order, (n,) int64.
            attempt: 0; then the same draws from 1 on give others of the same block, to replace those that are damaged.
        """
        passes, offsets = np.divmod(draws, len(self))
        blocks, places = np.divmod(offsets, self._buffer)
        found = np.empty((2, len(draws)), dtype=np.int64)
        for number, block in set(zip(passes.tolist(), blocks.tolist(), strict=True)):
            here = (passes == number) & (blocks == block)
            shards, numbers = self._block(number, block)
            inside = places[here]
            if attempt:
                others = hashes(self._seed, REPLACEMENTS, attempt, draws[here])
                inside = (others % np.uint64(len(shards))).astype(np.int64)
            found[:, here] = shards[inside], numbers[inside]
        return found[0], found[1]

    def _block(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        """One block of one pass, in order; the last few blocks are remembered."""
        found = self._blocks.get((number, block))
        if found is None:
            if len(self._blocks) >= 4:
                self._blocks.pop(next(iter(self._blocks)))
            found = self._blocks[number, block] = self._make_block(number, block)
        return found

    def _make_block(self, number: int, block: int) -> tuple[np.ndarray, np.ndarray]:
        shards = permutation(self._seed, SHARDS, number, np.arange(len(self._sizes)))
        ends = np.cumsum(self._sizes[shards])
        offsets = np.arange(block * self._buffer, min((block + 1) * self._buffer, len(self)))
        offsets = permutation(self._seed, SAMPLES, number, offsets)
        which = np.searchsorted(ends, offsets, side="right")
        return self._shards[shards[which]], offsets - (ends - self._sizes[shards])[which]


class TrainingOrder:
    """Endless order of training windows from one or several sets, at a random place of their sample each time.

    Long samples come up as often as short ones. Of several sets each has exactly its share, rounded to 1/1024, in every 1024
    draws, and makes its own passes.

    Args:
        samples: Samples of each shard that are long enough for a window, by set; shards are numbered through all sets.
        weights: Weight of each set.
        cut: How windows are drawn.
        buffer: Samples of a set shuffled together.
        windows_per_sample: Consecutive windows that come from the same sample.

    Raises:
        ValueError: A weight is too small.
    """

    def __init__(
        self, samples: Sequence[np.ndarray], weights: Sequence[float], cut: Draw, buffer: int, windows_per_sample: int = 1
    ) -> None:
        self._cut, self._windows_per_sample = cut, windows_per_sample
        seeds = [cut.seed, *hashes(cut.seed, SEEDS, 0, np.arange(1, len(samples))).tolist()]
        self._orders = [ShardOrder(sizes, seed, buffer) for sizes, seed in zip(samples, seeds, strict=True)]
        self._first = np.cumsum([0, *map(len, samples)])
        self.shares = shares(weights)

    def __len__(self) -> int:
        """Samples of all sets."""
        return sum(len(order) for order in self._orders)

    def windows(self, positions: np.ndarray, attempt: int = 0) -> Windows:
        """The windows at these positions, (B,) int64.

        Args:
            positions: Places in the order.
            attempt: 0; from 1 on others of the same sets, to replace those that are damaged.
        """
        draws = positions // self._windows_per_sample
        if len(self._orders) == 1:
            return Windows(*self._orders[0].draw(draws, attempt), positions, self._cut)
        found = np.empty((2, len(positions)), dtype=np.int64)
        blocks, places = np.divmod(draws, MIXED)
        for block in set(blocks.tolist()):
            sets = permutation(self._cut.seed, SETS, block, np.arange(MIXED))  # of places; those of set 0 are the smallest
            sets = np.searchsorted(np.cumsum(self.shares), sets, side="right")
            for number, order in enumerate(self._orders):
                here = (blocks == block) & (sets[places] == number)
                before = np.cumsum(sets == number) - 1  # of the same set in this block
                shards, numbers = order.draw(block * self.shares[number] + before[places[here]], attempt)
                found[:, here] = shards + self._first[number], numbers
        return Windows(found[0], found[1], positions, self._cut)


def shares(weights: Sequence[float]) -> np.ndarray:
    """Draws of each set in every 1024, by largest remainders.

    Raises:
        ValueError: A weight is too small.
    """
    exact = np.asarray(weights) / sum(weights) * MIXED
    whole = np.floor(exact).astype(np.int64)
    whole[np.argsort(whole - exact, kind="stable")[: MIXED - whole.sum()]] += 1
    if whole.min() < 1:
        raise ValueError(f"Weights {list(weights)} of data.shards leave a set less than 1 of {MIXED} draws. Raise the least.")
    return whole


class WindowList:
    """Windows of some shards in order, all of a cut or some of them evenly spread; kept as numbers of windows a shard.

    Args:
        counts: Windows of each shard, (shards,) int64.
        cut: How samples become windows.
        limit: At most so many, evenly spread; None for all.
        first: Position of each shard's first window, where positions do not simply number all windows.
    """

    def __init__(self, counts: np.ndarray, cut: Cut, limit: int | None = None, first: np.ndarray | None = None) -> None:
        self._ends, self._counts, self._first = np.cumsum(counts), counts, first
        self._total = int(counts.sum())
        self._chosen = self._total if limit is None else min(limit, self._total)
        self.cut = cut

    def __len__(self) -> int:
        """Number of windows."""
        return self._chosen

    def take(self, which: np.ndarray) -> Windows:
        """Some of the windows, by number."""
        return self._windows((2 * which + 1) * self._total // (2 * self._chosen))

    def replacements(self, positions: np.ndarray, attempt: int) -> Windows:
        """Other windows instead of those at some positions, which they keep, because these are damaged."""
        others = hashes(0, REPLACEMENTS, attempt, positions) % np.uint64(self._total)
        return dataclasses.replace(self._windows(others.astype(np.int64)), positions=positions)

    def _windows(self, numbers: np.ndarray) -> Windows:
        shards = np.searchsorted(self._ends, numbers, side="right")
        positions = numbers if self._first is None else self._first[shards]
        return Windows(shards, numbers - (self._ends - self._counts)[shards], positions, self.cut)

    def batch(self, number: int, batch_size: int, world: int) -> Windows:
        """One batch of all processes together; it divides by their number.

        To be so, the last one repeats some of its own windows.
        """
        which = np.arange(number * batch_size, min((number + 1) * batch_size, len(self)))
        return self.take(np.resize(which, -(-len(which) // world) * world))


def spread_windows(lengths: Lengths, frames: int, stride: int, limit: int | None) -> WindowList:
    """Windows that do not overlap, in order, or at most ``limit`` of them, evenly spread. Positions number them all.

    Args:
        lengths: How long samples are.
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        limit: How many to choose, None for all.
    """
    cut = Spread(frames, stride)
    return WindowList(lengths.windows(cut), cut, limit)


def covering_windows(lengths: Lengths, frames: int, stride: int, frames_per_state: int, first: int = 0) -> list[WindowList]:
    """Windows in which every transition between states occurs once, by length, longest first; see ``Cover``.

    Args:
        lengths: How long samples are.
        frames: Frames of a window of full length.
        stride: Every how many recorded frames one is taken.
        frames_per_state: Frames that make a state.
        first: Position of the first window.
    """
    full = frames // frames_per_state - 1
    cuts = [Cover((held + 1) * frames_per_state, stride, full, frames_per_state) for held in range(full, 0, -1)]
    every = lengths.covering_windows(cuts[0])
    starts = first + np.cumsum(every) - every
    parts = [WindowList(lengths.windows(cut), cut, first=starts) for cut in cuts]
    return [part for part in parts if len(part)]
