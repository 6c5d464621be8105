"""Samples: segments of recordings, what generates them, and what all samples of a set have in common."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from data_prep.sources.base import Recording, sha256
from lam.data.schema import ActionField, Aggregation, FeatureInfo, Storage


@dataclass(frozen=True)
class Sample:
    """Segment of one recording.

    Attributes:
        key: Name of the sample, unique in the set: letters, digits, ``_``, ``-``, ``/``.
        source: The video or episode it was cut from; splits and probes keep a source together.
        episode: The recording within the source.
        frames: Pixels, (F, H, W, 3) uint8; or states of a feature cache, (F, N, D) uint16, the bits of bfloat16.
        times: When each frame was taken, (F,) seconds from the start of the source, increasing.
        actions: Recorded actions between frames, (F-1, U).
        factors: Recorded factors between frames by name, each (F-1, ...), float (continuous) or integer (discrete).
        first: Which of the source's own frames it begins with.
    """

    key: str
    source: str
    episode: str
    frames: np.ndarray
    times: np.ndarray
    actions: np.ndarray | None = None
    factors: dict[str, np.ndarray] = field(default_factory=dict)
    first: int = 0

    def check_labels(self, action_dim: int) -> None:
        """Check that what was recorded fits the frames and the set.

        Args:
            action_dim: Numbers of an action in the set, 0 where none are recorded.

        Raises:
            ValueError: It does not.
        """
        labels = self.factors if self.actions is None else {**self.factors, "actions": self.actions}
        for name, value in labels.items():
            if len(value) != len(self.times) - 1:
                raise ValueError(f"{name} has {len(value)} steps, expected {len(self.times) - 1}, one between two frames")
            if not np.isfinite(value).all():
                raise ValueError(f"{name} has numbers that are infinite or not a number (NaN)")
        found = 0 if self.actions is None else self.actions.shape[1]
        if found != action_dim:
            raise ValueError(f"actions have {found} numbers, those of the set {action_dim}")


@dataclass(frozen=True)
class DatasetSpec:
    """What all samples of a set have in common.

    Attributes:
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        storage: How to store frames.
        actions: What recorded actions consist of; empty where none are recorded.
        factor_aggregations: How several steps of a factor become one, where continuous ones are not summed or discrete ones
            do not become the largest.
        features: Which encoder made the states, for storage states.
        samples_per_shard: A shard is closed after this many samples.
        bytes_per_shard: A shard is closed after this many bytes.
    """

    height: int
    width: int
    storage: Storage
    actions: Sequence[ActionField] = ()
    factor_aggregations: dict[str, Aggregation] = field(default_factory=dict)
    features: FeatureInfo | None = None
    samples_per_shard: int = 2000
    bytes_per_shard: int = 256 * 2**20


class SampleGenerator(ABC):
    """Generator of the samples of recordings; it is sent to worker processes."""

    @abstractmethod
    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        """Yield the samples of a recording, in order, the same at every call.

        Args:
            recording: What to read.
            drop: Called with the reason for every segment that is left out.

        Raises:
            Exception: The recording cannot be read, or not to its end.
        """


def clip_key(source: str, start: float, name: str = "") -> str:
    """Return the key of a clip: its source and first millisecond; where several recordings share a source, its own name too.

    Args:
        source: The source.
        start: Time of the first frame, s.
        name: The recording, if it is not called as its source.
    """
    readable = re.sub(r"[^A-Za-z0-9_-]", "-", source)[-56:]
    return f"{readable}-{sha256(f'{source}//{name}')[:8]}/{round(start * 1000):09d}"
