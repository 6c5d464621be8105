"""Cuts: how samples become windows, counted before a shard is opened and placed once it is.

How many windows a shard holds follows from the histogram of its samples' lengths, so an order over 10^8 samples needs memory
for the shards only. Which sample a window lies in is known when the shard's side index is read.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import NamedTuple

import numpy as np

from lam.data.hashes import STARTS, uniform
from lam.data.schema import ShardInfo


class Found(NamedTuple):
    """Windows of one shard.

    Attributes:
        rows: Sample of each in the shard, (windows,) int64.
        lengths: Frames of that sample, (windows,) int64.
        places: Which of its sample's windows each is, (windows,) int64.
        positions: What identifies each, (windows,) int64.
    """

    rows: np.ndarray
    lengths: np.ndarray
    places: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Cut(ABC):
    """A way to cut samples into windows of equal length; a shard's windows are numbered by sample, then by time.

    Attributes:
        frames: Frames F of a window.
        stride: Every how many recorded frames one is taken.
    """

    frames: int
    stride: int

    @property
    def span(self) -> int:
        """Recorded frames from the first of a window to its last."""
        return (self.frames - 1) * self.stride + 1

    @abstractmethod
    def count(self, lengths: np.ndarray) -> np.ndarray:
        """Windows of samples of these lengths."""

    @abstractmethod
    def starts(self, lengths: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """First frames of windows, of any shards.

        Args:
            lengths: Frames of the sample of each.
            places: Which of its sample's windows each is.
            positions: Their places in the order of the stream.
        """

    def find(self, lengths: np.ndarray, numbers: np.ndarray, positions: np.ndarray) -> Found:
        """Which samples windows of a shard are in.

        Args:
            lengths: Frames of each sample of the shard.
            numbers: Which of the shard's windows.
            positions: Their places in the order of the stream.
        """
        counts = self.count(lengths)
        ends = np.cumsum(counts)
        rows = np.searchsorted(ends, numbers, side="right")
        places = numbers - (ends - counts)[rows]
        return Found(rows, lengths[rows], places, self._positions(lengths, rows, places, positions))

    def _positions(self, lengths: np.ndarray, rows: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """What identifies each window."""
        return positions


@dataclass(frozen=True)
class Draw(Cut):
    """One window of every sample that is long enough, at a random place.

    Attributes:
        seed: Seed of the places.
    """

    seed: int

    def count(self, lengths: np.ndarray) -> np.ndarray:
        """One, or none of a sample that is too short."""
        return (lengths >= self.span).astype(np.int64)

    def starts(self, lengths: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """A hash of the position, uniform over the sample."""
        return (uniform(self.seed, STARTS, 0, positions) * (lengths - self.span + 1)).astype(np.int64)


@dataclass(frozen=True)
class Spread(Cut):
    """Windows that do not overlap."""

    def count(self, lengths: np.ndarray) -> np.ndarray:
        """As many as fit."""
        return lengths // self.span

    def starts(self, lengths: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """One after another."""
        return places * self.span


@dataclass(frozen=True)
class Cover(Cut):
    """Those windows of a given length of a cut in which every transition between states occurs once.

    Neighbors share one state. What remains at the end of a sample is a shorter window; frames that do not fill a state are
    left out. Positions are given as that of the shard's first window; they follow time within a sample and samples in order.

    Attributes:
        full: Transitions of a window of full length.
        frames_per_state: Frames that make a state.
    """

    full: int
    frames_per_state: int

    @property
    def held(self) -> int:
        """Transitions of these windows."""
        return self.frames // self.frames_per_state - 1

    def transitions(self, lengths: np.ndarray) -> np.ndarray:
        """Transitions between states of samples of these lengths."""
        return np.maximum(((lengths - 1) // self.stride + 1) // self.frames_per_state - 1, 0)

    def count_all(self, lengths: np.ndarray) -> np.ndarray:
        """Windows of any length."""
        return -(-self.transitions(lengths) // self.full)

    def count(self, lengths: np.ndarray) -> np.ndarray:
        """Windows of this length."""
        whole, rest = np.divmod(self.transitions(lengths), self.full)
        return whole if self.held == self.full else (rest == self.held).astype(np.int64)

    def starts(self, lengths: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """One after another."""
        return self._places(lengths, places) * self.full * self.frames_per_state * self.stride

    def _places(self, lengths: np.ndarray, places: np.ndarray) -> np.ndarray:
        """Which of its sample's windows of any length each is; the short one comes last."""
        return places if self.held == self.full else self.transitions(lengths) // self.full

    def _positions(self, lengths: np.ndarray, rows: np.ndarray, places: np.ndarray, positions: np.ndarray) -> np.ndarray:
        before = np.cumsum(self.count_all(lengths)) - self.count_all(lengths)
        return positions + before[rows] + self._places(lengths[rows], places)


class Lengths:
    """How long the samples of each shard are, for all shards together.

    Args:
        infos: The shards.
    """

    def __init__(self, infos: Sequence[ShardInfo]) -> None:
        self.num_shards = len(infos)
        self._shards = np.repeat(np.arange(len(infos)), [len(info.lengths) for info in infos])
        self._lengths = np.fromiter(chain.from_iterable(info.lengths for info in infos), dtype=np.int64)
        self._samples = np.fromiter(chain.from_iterable(info.counts for info in infos), dtype=np.int64)

    @property
    def longest(self) -> int:
        """Frames of the longest sample."""
        return int(self._lengths.max())

    @property
    def samples(self) -> int:
        """Number of samples."""
        return int(self._samples.sum())

    def shorter(self, span: int) -> int:
        """Number of samples of fewer frames."""
        return int(self._samples[self._lengths < span].sum())

    def windows(self, cut: Cut) -> np.ndarray:
        """Windows of each shard, (shards,) int64."""
        return self._sum(cut.count(self._lengths))

    def covering_windows(self, cut: Cover) -> np.ndarray:
        """Windows of any length of each shard, (shards,) int64."""
        return self._sum(cut.count_all(self._lengths))

    def _sum(self, counts: np.ndarray) -> np.ndarray:
        totals = np.bincount(self._shards, weights=counts * self._samples, minlength=self.num_shards)
        return totals.astype(np.int64)  # exact: far below 2^53
