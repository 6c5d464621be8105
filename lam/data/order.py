"""The order of data: which window is where, as a pure function of seed and position.

Nothing is carried from batch to batch: a run resumes, changes its number of processes or workers and still sees the same
windows at the same positions. Numbers come from a hash (SplitMix64's finalizer, Steele, Lea and Flood, OOPSLA 2014).
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # 2^64 / golden ratio
_SHARDS, _SAMPLES, _STARTS = range(3)  # what a stream of hashes is used for


@dataclass(frozen=True)
class Windows:
    """Some windows of equal length.

    Attributes:
        samples: Sample of each, (windows,) int64.
        starts: First frame of each, (windows,) int64.
        positions: What identifies each, (windows,) int64.
        frames: Frames F of each.
    """

    samples: np.ndarray
    starts: np.ndarray
    positions: np.ndarray
    frames: int

    def __len__(self) -> int:
        """Number of windows."""
        return len(self.samples)

    def take(self, which: np.ndarray | slice) -> Windows:
        """Some of the windows."""
        return Windows(self.samples[which], self.starts[which], self.positions[which], self.frames)


class TrainingOrder:
    """Endless order of training windows: every sample once a pass, at a random place each time.

    Two levels, so that shards are read in sequence: each pass permutes the shards, lays their samples out one after another,
    cuts that line into blocks of ``buffer`` samples and permutes each block. With no more samples than ``buffer`` it is
    a full shuffle. Long samples come up as often as short ones.

    Args:
        shards: Shard of each sample, (samples,), not decreasing.
        lengths: Frames of each sample, (samples,).
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        seed: Seed of the order.
        buffer: Samples shuffled together.
    """

    def __init__(
        self, shards: np.ndarray, lengths: np.ndarray, frames: int, stride: int, seed: int, buffer: int = 4096
    ) -> None:
        span = (frames - 1) * stride + 1
        self._samples = np.flatnonzero(lengths >= span)
        self._starts = (lengths - span + 1)[self._samples]
        self._first = np.flatnonzero(np.diff(shards[self._samples], prepend=-1))  # of each shard with any long enough
        self._sizes = np.diff(self._first, append=len(self._samples))
        self._frames, self._seed, self._buffer = frames, seed, buffer
        self._blocks: dict[tuple[int, int], np.ndarray] = {}

    def __len__(self) -> int:
        """Samples of a pass: those that are long enough for a window."""
        return len(self._samples)

    def windows(self, positions: np.ndarray) -> Windows:
        """The windows at these positions, (B,) int64."""
        passes, offsets = np.divmod(positions, len(self))
        blocks, places = np.divmod(offsets, self._buffer)
        drawn = np.empty(len(positions), dtype=np.int64)
        for number, block in set(zip(passes.tolist(), blocks.tolist(), strict=True)):
            here = (passes == number) & (blocks == block)
            drawn[here] = self._block(number, block)[places[here]]
        uniform = (_hash(self._seed, _STARTS, 0, positions) >> np.uint64(11)) * 2.0**-53
        starts = (uniform * self._starts[drawn]).astype(np.int64)
        return Windows(self._samples[drawn], starts, positions, self._frames)

    def _block(self, number: int, block: int) -> np.ndarray:
        """One block of one pass, in order; the last few blocks are remembered."""
        if (number, block) not in self._blocks:
            if len(self._blocks) >= 4:
                self._blocks.pop(next(iter(self._blocks)))
            self._blocks[number, block] = self._make_block(number, block)
        return self._blocks[number, block]

    def _make_block(self, number: int, block: int) -> np.ndarray:
        shards = np.argsort(_hash(self._seed, _SHARDS, number, np.arange(len(self._sizes))), kind="stable")
        ends = np.cumsum(self._sizes[shards])
        offsets = np.arange(block * self._buffer, min((block + 1) * self._buffer, len(self)))
        offsets = offsets[np.argsort(_hash(self._seed, _SAMPLES, number, offsets), kind="stable")]
        which = np.searchsorted(ends, offsets, side="right")
        return self._first[shards[which]] + offsets - (ends - self._sizes[shards])[which]


def spread_windows(lengths: np.ndarray, frames: int, stride: int, limit: int | None) -> Windows:
    """Windows that do not overlap, in order, or at most ``limit`` of them, evenly spread. Positions number them all.

    Args:
        lengths: Frames of each sample, (samples,).
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        limit: How many to choose, None for all.
    """
    span = (frames - 1) * stride + 1
    counts = lengths // span
    ends = np.cumsum(counts, dtype=np.int64)
    total = int(ends[-1])
    chosen = total if limit is None else min(limit, total)
    numbers = (2 * np.arange(chosen, dtype=np.int64) + 1) * total // (2 * max(chosen, 1))
    samples = np.searchsorted(ends, numbers, side="right")
    return Windows(samples, (numbers - ends[samples] + counts[samples]) * span, numbers, frames)


def covering_windows(lengths: np.ndarray, frames: int, stride: int, frames_per_state: int) -> list[Windows]:
    """Windows in which every transition between states occurs once, by length, longest first.

    Neighbors share one state. What remains at the end of a sample is a shorter window; frames that do not fill a state are
    left out. Positions follow time within a sample and samples in order.

    Args:
        lengths: Frames of each sample, (samples,).
        frames: Frames of a window of full length.
        stride: Every how many recorded frames one is taken.
        frames_per_state: Frames that make a state.
    """
    full = frames // frames_per_state - 1  # transitions in a window of full length
    step = full * frames_per_state * stride
    transitions = np.maximum(((lengths - 1) // stride + 1) // frames_per_state - 1, 0)
    counts = -(-transitions // full)
    samples = np.repeat(np.arange(len(lengths)), counts)
    positions = np.arange(len(samples))
    places = positions - (np.cumsum(counts) - counts)[samples]
    held = np.minimum(full, transitions[samples] - places * full)
    everything = Windows(samples, places * step, positions, frames)
    return [
        dataclasses.replace(everything.take(held == each), frames=(each + 1) * frames_per_state)
        for each in range(full, 0, -1)
        if (held == each).any()
    ]


def global_batches(windows: Windows, batch_size: int, world: int) -> list[Windows]:
    """Cuts windows into batches of all processes together, each divisible by their number.

    To be so, the last one repeats some of its own windows.
    """
    batches = []
    for start in range(0, len(windows), batch_size):
        which = np.arange(start, min(start + batch_size, len(windows)))
        batches.append(windows.take(np.resize(which, -(-len(which) // world) * world)))
    return batches


def _hash(seed: int, use: int, number: int, x: np.ndarray) -> np.ndarray:
    """64-bit hashes of (seed, use, number, x), one for each of the integers x."""
    key = np.array([seed % 2**64], dtype=np.uint64)
    for part in (np.array([use]), np.array([number]), x):  # arrays, for which wrapping around is no overflow to NumPy
        key = _mix(key + (part.astype(np.uint64) + np.uint64(1)) * _GOLDEN)
    return key


def _mix(x: np.ndarray) -> np.ndarray:
    """SplitMix64's finalizer."""
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))
