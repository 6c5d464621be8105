"""Running statistics of a set, counted while shards are written and added up over shards, jobs and machines."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from lam.data.schema import ActionStatistics


@dataclass
class RunningStatistics:
    """Statistics that are updated while shards are written, and merged over shards, jobs and machines.

    Attributes:
        pixels: How often each level of red, green and blue occurs in training frames, (3, 256).
        actions: Statistics of training actions.
        steps: Steps from frame to frame.
        seconds: How long they took together.
        dropped: Segments that were left out, by reason.
        quarantined: Files and episodes that were left out, and why.
    """

    pixels: np.ndarray = field(default_factory=lambda: np.zeros((3, 256), dtype=np.int64))
    actions: RunningActionStatistics = field(default_factory=lambda: RunningActionStatistics())
    steps: int = 0
    seconds: float = 0.0
    dropped: Counter[str] = field(default_factory=Counter)
    quarantined: list[tuple[str, str]] = field(default_factory=list)

    def add_pixels(self, frames: np.ndarray) -> None:
        """Count the pixels of frames (F, H, W, 3) uint8."""
        for channel in range(3):
            self.pixels[channel] += np.bincount(frames[..., channel].ravel(), minlength=256)

    def merge(self, other: RunningStatistics) -> None:
        """Add other statistics to these."""
        self.pixels += other.pixels
        self.actions.merge(other.actions)
        self.steps += other.steps
        self.seconds += other.seconds
        self.dropped += other.dropped
        self.quarantined += other.quarantined

    def pixel_moments(self) -> tuple[tuple[float, float, float], tuple[float, float, float]]:
        """Return the exact mean and standard deviation of all pixels by channel, in [0, 1]."""
        levels = np.arange(256) / 255
        weights = self.pixels / np.maximum(self.pixels.sum(axis=1, keepdims=True), 1)
        mean = weights @ levels
        std = np.sqrt((weights * (levels - mean[:, None]) ** 2).sum(axis=1))
        return tuple(mean.tolist()), tuple(std.tolist())

    def to_json(self) -> dict[str, Any]:
        """Return the statistics as numbers and texts."""
        return {
            "pixels": self.pixels.tolist(),
            "actions": {name: np.asarray(value).tolist() for name, value in vars(self.actions).items()},
            "steps": self.steps,
            "seconds": self.seconds,
            "dropped": dict(self.dropped),
            "quarantined": self.quarantined,
        }

    @classmethod
    def from_json(cls, record: dict[str, Any]) -> RunningStatistics:
        """Return the statistics that ``to_json`` gave."""
        actions: dict[str, Any] = {name: np.asarray(value, dtype=np.float64) for name, value in record["actions"].items()}
        return cls(
            pixels=np.array(record["pixels"], dtype=np.int64),
            actions=RunningActionStatistics(**{**actions, "count": int(actions["count"])}),
            steps=record["steps"],
            seconds=record["seconds"],
            dropped=Counter(record["dropped"]),
            quarantined=[(name, reason) for name, reason in record["quarantined"]],
        )


@dataclass
class RunningActionStatistics:
    """Moments and limits of actions, for each of their U numbers; empty before the first.

    Attributes:
        count: Steps.
        mean: Mean.
        squares: Sum of squared differences from the mean.
        low: Smallest value.
        high: Largest value.
        at_low: Steps at the smallest value.
        at_high: Steps at the largest value.
    """

    count: int = 0
    mean: np.ndarray = field(default_factory=lambda: np.zeros(0))
    squares: np.ndarray = field(default_factory=lambda: np.zeros(0))
    low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    high: np.ndarray = field(default_factory=lambda: np.zeros(0))
    at_low: np.ndarray = field(default_factory=lambda: np.zeros(0))
    at_high: np.ndarray = field(default_factory=lambda: np.zeros(0))

    def add(self, actions: np.ndarray) -> None:
        """Count actions (S, U)."""
        values = actions.astype(np.float64)
        mean, low, high = values.mean(axis=0), values.min(axis=0), values.max(axis=0)
        at_low, at_high = ((values == limit).sum(axis=0).astype(np.float64) for limit in (low, high))
        self.merge(RunningActionStatistics(len(values), mean, ((values - mean) ** 2).sum(axis=0), low, high, at_low, at_high))

    def merge(self, other: RunningActionStatistics) -> None:
        """Add other statistics to these (Chan, Golub and LeVeque 1979)."""
        if not self.count or not other.count:
            self.__dict__.update(vars(other if other.count else self))
            return
        count = self.count + other.count
        difference = other.mean - self.mean
        self.mean = self.mean + difference * other.count / count
        self.squares = self.squares + other.squares + difference**2 * self.count * other.count / count
        low, high = np.minimum(self.low, other.low), np.maximum(self.high, other.high)
        self.at_low = self.at_low * (self.low == low) + other.at_low * (other.low == low)
        self.at_high = self.at_high * (self.high == high) + other.at_high * (other.high == high)
        self.count, self.low, self.high = count, low, high

    def statistics(self) -> ActionStatistics | None:
        """Return what the index says of the actions, None where there were none."""
        if not self.count:
            return None
        std, shares = np.sqrt(self.squares / self.count), (self.at_low / self.count, self.at_high / self.count)
        return ActionStatistics(*(value.tolist() for value in (self.mean, std, self.low, self.high, *shares)))
