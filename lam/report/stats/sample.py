"""A number of a row before it becomes a cell: of each seed, from all clips and with each group of them left out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np

from lam.report.stats.intervals import Mean, crossed_mean, half_width
from lam.report.stats.jackknife import Array, lines


@dataclass(frozen=True)
class Estimate:
    """A cell of the table: a mean and, where there is one, its 95 % interval.

    Attributes:
        value: Mean over seeds; NaN where no seed has it.
        half: Half the interval's width; NaN where there is none.
        over: What the interval is over: clips, clips x seeds, sources, sources x seeds, seeds or nothing.
    """

    value: float = float("nan")
    half: float = float("nan")
    over: str = ""

    @property
    def defined(self) -> bool:
        """Whether there is a number."""
        return bool(np.isfinite(self.value))


@dataclass(frozen=True)
class Sample:
    """One number of one row.

    Attributes:
        seeds: Seeds that have it.
        values: (..., 1 + G, S): for each of S seeds from all clips, then with each of G groups left out; (..., 1, S) where
            single clips have no value. Leading axes are independent numbers.
        share: Share of the clips that each group has, (G,) or (0,).
        unit: What groups are made of.
    """

    seeds: tuple[int, ...] = ()
    values: Array = field(default_factory=lambda: np.empty((1, 0)))
    share: Array = field(default_factory=lambda: np.empty(0))
    unit: str = "clips"

    @property
    def means(self) -> Array:
        """The number of each seed, (..., S)."""
        return self.values[..., 0, :]

    def mean(self) -> Mean:
        """Mean over seeds with its error, the groups crossed with the seeds."""
        return crossed_mean(lines(self.values, self.share) if len(self.share) else self.values)

    def estimate(self) -> Estimate:
        """The cell."""
        if not self.seeds:
            return Estimate()
        mean = self.mean()
        over = [self.unit] * bool(len(self.share)) + ["seeds"] * (len(self.seeds) > 1)
        return Estimate(float(mean.value), float(half_width(mean)), " x ".join(over))


def combine(samples: Sequence[Sample], formula: Callable[..., Array]) -> Sample:
    """A number computed from others on the seeds that all of them have; no number where any part of it is not finite.

    Args:
        samples: What goes in.
        formula: Maps their values, in order and of the same last two axes (1 + G, S), to values (1 + G, S).
    """
    seeds = sorted(set.intersection(*(set(sample.seeds) for sample in samples)))
    if not seeds:
        return Sample()
    share = np.mean([sample.share for sample in samples], axis=0) if all(len(s.share) for s in samples) else np.empty(0)
    taken = [sample.values[..., : 1 + len(share), [sample.seeds.index(seed) for seed in seeds]] for sample in samples]
    with np.errstate(divide="ignore", invalid="ignore"):
        values = formula(*taken)
    return Sample(tuple(seeds), values, share, samples[0].unit) if np.isfinite(values).all() else Sample()


def stack(samples: Sequence[Sample]) -> Sample:
    """Several numbers as one with a leading axis, on the seeds that any of them has; NaN where one lacks a seed."""
    have = [sample for sample in samples if sample.seeds]
    if not have:
        return Sample()
    seeds = sorted({seed for sample in have for seed in sample.seeds})
    share = np.mean([sample.share for sample in have], axis=0) if all(len(s.share) for s in have) else np.empty(0)
    values = np.full((len(samples), 1 + len(share), len(seeds)), np.nan)
    for line, sample in zip(values, samples, strict=True):
        line[:, [seeds.index(seed) for seed in sample.seeds]] = sample.values[: 1 + len(share)]
    return Sample(tuple(seeds), values, share, have[0].unit)
