"""The order of data: which window is where, as a pure function of seed and position.

Nothing is carried from batch to batch: a run resumes, changes its number of processes or workers and still sees the same
windows at the same positions.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from lam.data.hashes import REPLACEMENTS, SAMPLES, SEEDS, SETS, SHARDS, hashes, permutation
from lam.data.windowing import Draw
from lam.data.windows import Windows

MIXED = 1024
"""Draws in which every set has exactly its share."""


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
