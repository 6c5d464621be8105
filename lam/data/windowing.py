"""Windowing: how samples become windows, counted before a shard is opened and located once it is.

How many windows a shard holds follows from the histogram of its samples' lengths, so an order over 10^8 samples needs memory
for the shards only. Which sample a window lies in is known when the shard's side index is read. What is random follows from
hashes (SplitMix64's finalizer, Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import functools
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import chain
from typing import NamedTuple

import numpy as np
from typing_extensions import override

from lam.data.schema import ShardInfo


class WindowLocation(NamedTuple):
    """Where windows of one shard are.

    Attributes:
        rows: Sample of each in the shard, (windows,) int64.
        lengths: Frames of that sample, (windows,) int64.
        indices: Which of its sample's windows each is, (windows,) int64.
        positions: Number that identifies each, (windows,) int64.
    """

    rows: np.ndarray
    lengths: np.ndarray
    indices: np.ndarray
    positions: np.ndarray


@dataclass(frozen=True)
class Windowing(ABC):
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
        """Return the number of windows of samples of these lengths."""

    @abstractmethod
    def starts(self, lengths: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the first frames of windows, of any shards.

        Args:
            lengths: Frames of the sample of each.
            indices: Which of its sample's windows each is.
            positions: Their places in the order of the stream.
        """

    def locate(self, lengths: np.ndarray, numbers: np.ndarray, positions: np.ndarray) -> WindowLocation:
        """Locate windows of one shard in its samples.

        Args:
            lengths: Frames of each sample of the shard.
            numbers: Which of the shard's windows.
            positions: Their places in the order of the stream.
        """
        counts = self.count(lengths)
        ends = np.cumsum(counts)
        rows = np.searchsorted(ends, numbers, side="right")
        indices = numbers - (ends - counts)[rows]
        return WindowLocation(rows, lengths[rows], indices, self._identify(lengths, rows, indices, positions))

    def _identify(self, lengths: np.ndarray, rows: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        """Return the number that identifies each window."""
        return positions


@dataclass(frozen=True)
class RandomWindows(Windowing):
    """One window of every sample that is long enough, at a random place: a hash of its position, uniform over the sample.

    Attributes:
        seed: Seed of the places.
    """

    seed: int

    @override
    def count(self, lengths: np.ndarray) -> np.ndarray:
        return (lengths >= self.span).astype(np.int64)

    @override
    def starts(self, lengths: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        places = hash_uniform(self.seed, HashStream.STARTS, 0, positions) * (lengths - self.span + 1)
        starts: np.ndarray = places.astype(np.int64)
        return starts


@dataclass(frozen=True)
class DisjointWindows(Windowing):
    """Windows that do not overlap, one after another, as many as fit."""

    @override
    def count(self, lengths: np.ndarray) -> np.ndarray:
        return lengths // self.span

    @override
    def starts(self, lengths: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return indices * self.span


@dataclass(frozen=True)
class CoveringWindows(Windowing):
    """Windows of one length, of all those in which every transition between states occurs once.

    Neighbors share one state. The rest of a sample is a shorter window; frames that do not fill a state are left out.
    Positions are given as that of the shard's first window; they follow time within a sample and samples in order.

    Attributes:
        max_transitions: Transitions of a window of full length.
        frames_per_state: Frames that make a state.
    """

    max_transitions: int
    frames_per_state: int

    @property
    def num_transitions(self) -> int:
        """Transitions of these windows."""
        return self.frames // self.frames_per_state - 1

    def transitions(self, lengths: np.ndarray) -> np.ndarray:
        """Return the number of transitions between states of samples of these lengths."""
        transitions: np.ndarray = np.maximum(((lengths - 1) // self.stride + 1) // self.frames_per_state - 1, 0)
        return transitions

    def count_any_length(self, lengths: np.ndarray) -> np.ndarray:
        """Return the number of windows, also of other lengths than these."""
        count: np.ndarray = -(-self.transitions(lengths) // self.max_transitions)
        return count

    @override
    def count(self, lengths: np.ndarray) -> np.ndarray:
        whole, rest = np.divmod(self.transitions(lengths), self.max_transitions)
        return whole if self.num_transitions == self.max_transitions else (rest == self.num_transitions).astype(np.int64)

    @override
    def starts(self, lengths: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        return self._among_any_length(lengths, indices) * self.max_transitions * self.frames_per_state * self.stride

    def _among_any_length(self, lengths: np.ndarray, indices: np.ndarray) -> np.ndarray:
        """Return which of its sample's windows of any length each is; the short one comes last."""
        if self.num_transitions == self.max_transitions:
            return indices
        last: np.ndarray = self.transitions(lengths) // self.max_transitions
        return last

    @override
    def _identify(self, lengths: np.ndarray, rows: np.ndarray, indices: np.ndarray, positions: np.ndarray) -> np.ndarray:
        counts = self.count_any_length(lengths)
        found: np.ndarray = positions + (np.cumsum(counts) - counts)[rows] + self._among_any_length(lengths[rows], indices)
        return found


class LengthHistogram:
    """How many samples of each length each shard has, for all shards together.

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
    def num_samples(self) -> int:
        """Number of samples."""
        return int(self._samples.sum())

    def num_shorter(self, span: int) -> int:
        """Return the number of samples of fewer frames."""
        return int(self._samples[self._lengths < span].sum())

    def num_windows(self, windowing: Windowing) -> np.ndarray:
        """Return the number of windows of each shard, (shards,) int64."""
        return self._sum(windowing.count(self._lengths))

    def num_windows_any_length(self, windowing: CoveringWindows) -> np.ndarray:
        """Return the number of windows of each shard, also of other lengths, (shards,) int64."""
        return self._sum(windowing.count_any_length(self._lengths))

    def _sum(self, counts: np.ndarray) -> np.ndarray:
        totals = np.bincount(self._shards, weights=counts * self._samples, minlength=self.num_shards)
        return totals.astype(np.int64)  # exact: far below 2^53


class HashStream(IntEnum):
    """Streams of hashes: one for each of their uses. The numbers stand in every order of data there is."""

    SHARDS = 0
    SAMPLES = 1
    STARTS = 2
    REPLACEMENTS = 3
    SETS = 4
    SEEDS = 5


_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio


def hash_integers(seed: int, stream: HashStream, number: int, x: np.ndarray) -> np.ndarray:
    """Return 64-bit hashes of (seed, stream, number, x), one for each of the integers x."""
    return _absorb(_key(seed, stream, number), x)


def hash_uniform(seed: int, stream: HashStream, number: int, x: np.ndarray) -> np.ndarray:
    """Return numbers in [0, 1), float64, hashes of (seed, stream, number, x)."""
    return (hash_integers(seed, stream, number, x) >> np.uint64(11)) * 2.0**-53


def hash_permutation(seed: int, stream: HashStream, number: int, x: np.ndarray) -> np.ndarray:
    """Return the integers x in an order of their own for each (seed, stream, number)."""
    return x[np.argsort(hash_integers(seed, stream, number, x), kind="stable")]


@functools.lru_cache(64)
def _key(seed: int, stream: HashStream, number: int) -> np.ndarray:
    """Return the common part of hashes of (seed, stream, number), (1,) uint64."""
    key = np.array([seed % 2**64], dtype=np.uint64)
    return _absorb(_absorb(key, np.array([int(stream)])), np.array([number]))


def _absorb(key: np.ndarray, part: np.ndarray) -> np.ndarray:
    """Absorb another integer into a key; arrays, for which wrapping around is no overflow to NumPy."""
    return _splitmix64(key + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN)


def _splitmix64(x: np.ndarray) -> np.ndarray:
    """Scramble 64-bit integers by SplitMix64's finalizer, as ``lam.noise.splitmix64`` does for tensors."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    mixed: np.ndarray = x ^ (x >> np.uint64(31))
    return mixed
