"""The clock: times of frames that were taken at an even rate, which their files do not say."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Clock:
    """An even rate.

    Attributes:
        fps: Frames a second.
    """

    fps: float

    def __post_init__(self) -> None:
        """Checks the rate."""
        if not 0 < self.fps < math.inf:
            raise ValueError(f"--recorded_fps is {self.fps}, expected above 0.")

    def times(self, count: int) -> list[float]:
        """Times of so many frames, seconds from the first."""
        return [i / self.fps for i in range(count)]
