"""Windows of a split: which shard each is in, and lists of all of them."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

from lam.data.hashes import REPLACEMENTS, hashes
from lam.data.windowing import Cover, Cut, Lengths, Spread


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
