"""Rows of a comparison: the seeds of one bottleneck at one knob value, with intervals, gap closed and paired tests."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import pandas as pd

from lam.report.intervals import Mean, by_source, crossed_mean, gap_closed_values, half_width, p_value
from lam.report.runs import Run

ERROR = "eval/capacity/error"
GAP_CLOSED = "gap_closed"
ANCHORS = ("none", "identity")


@dataclass(frozen=True)
class Sample:
    """One key of one row, before it becomes a number.

    Attributes:
        seeds: Value of each seed.
        clips: Values by position and seed where single clips have one, else empty.
        sources: Source of each position.
    """

    seeds: pd.Series
    clips: pd.DataFrame
    sources: pd.Series

    def minus(self, other: Sample) -> Sample:
        """Paired difference on the seeds and clips that both have."""
        seeds = (self.seeds - other.seeds).dropna()
        clips = self.clips.sub(other.clips).reindex(columns=seeds.index).dropna()
        return Sample(seeds, clips, self.sources)

    def mean(self) -> tuple[Mean, str]:
        """Mean with its error, and what the error is over.

        Clips of a source are taken together where there are several sources and one of them has several clips.
        """
        crossed = " x seeds" if len(self.seeds) > 1 else ""
        if self.clips.empty:
            return crossed_mean(self.seeds.to_numpy()[None]), crossed.removeprefix(" x ")
        values, sources = self.clips.to_numpy(), self.sources.loc[self.clips.index]
        if 1 < sources.nunique() < len(sources):
            return crossed_mean(by_source(values, sources.to_numpy())), "sources" + crossed
        return crossed_mean(values), ("clips" + crossed if len(values) > 1 else crossed.removeprefix(" x "))


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


@dataclass(frozen=True)
class Row:
    """The finished seeds of one bottleneck at one value of its knob.

    Attributes:
        family: Bottleneck family.
        knob: The knob's text, empty for anchors.
        runs: Runs by seed.
    """

    family: str
    knob: str
    runs: dict[int, Run]

    @property
    def name(self) -> str:
        """Family and knob as in the run's name."""
        return f"{self.family}@{self.knob}" if self.knob else self.family

    @property
    def number(self) -> float:
        """The knob as a number; NaN where it is not one."""
        try:
            return float(self.knob)
        except ValueError:
            return float("nan")

    def sample(self, key: str) -> Sample:
        """Values of a key over the seeds that have it."""
        runs = {seed: run for seed, run in self.runs.items() if np.isfinite(run.metrics.get(key, np.nan))}
        seeds = pd.Series({seed: run.metrics[key] for seed, run in runs.items()}, dtype=float)
        sources = pd.concat([run.sources for run in self.runs.values()])
        sources = sources[~sources.index.duplicated()]
        if not runs or not all(key in run.clips for run in runs.values()):
            return Sample(seeds, pd.DataFrame(), sources)
        clips = pd.DataFrame({seed: run.clips[key] for seed, run in runs.items()}).dropna()
        return Sample(seeds, clips, sources)


class Comparison:
    """All rows of a setting, in the order of the table: anchors, then families by name, knobs from tight to loose.

    Args:
        runs: Finished runs.
        unfinished: Names of runs that did not finish, to be mentioned.
    """

    def __init__(self, runs: list[Run], unfinished: list[str]) -> None:
        self.runs = runs
        self.unfinished = unfinished
        grouped: dict[tuple[str, str], dict[int, Run]] = {}
        for run in sorted(runs, key=lambda run: run.seed):
            grouped.setdefault((run.family, run.knob), {})[run.seed] = run
        rows = [Row(family, knob, by_seed) for (family, knob), by_seed in grouped.items()]
        self.anchors = {row.family: row for row in rows if row.family in ANCHORS}
        self.families = {
            family: _sweep([row for row in rows if row.family == family])
            for family in sorted({row.family for row in rows} - set(ANCHORS))
        }
        self._samples: dict[tuple[str, str, str], Sample] = {}
        self._estimates: dict[tuple[str, str, str], Estimate] = {}

    @property
    def rows(self) -> list[Row]:
        """All rows in order."""
        anchors = [self.anchors[name] for name in ANCHORS if name in self.anchors]
        return anchors + [row for sweep in self.families.values() for row in sweep]

    @cached_property
    def keys(self) -> list[str]:
        """Every key that some run logged."""
        return sorted({key for run in self.runs for key in run.metrics})

    @cached_property
    def gap(self) -> Estimate:
        """The gap G between the anchors on the seeds that have both; NaN where an anchor is missing."""
        if len(self.anchors) < len(ANCHORS):
            return Estimate()
        return _estimate(self.anchors["none"].sample(ERROR).minus(self.anchors["identity"].sample(ERROR)))

    @property
    def gap_is_open(self) -> bool:
        """Whether the anchors are apart: gap closed means nothing while the interval of G touches 0."""
        half = 0.0 if np.isnan(self.gap.half) else self.gap.half
        return self.gap.value - half > 0

    def sample(self, row: Row, key: str) -> Sample:
        """Values of a key, or of gap closed, in a row."""
        place = (row.family, row.knob, key)
        if place not in self._samples:
            self._samples[place] = self._gap_closed(row) if key == GAP_CLOSED else row.sample(key)
        return self._samples[place]

    def estimate(self, row: Row, key: str) -> Estimate:
        """A cell of the table."""
        place = (row.family, row.knob, key)
        if place not in self._estimates:
            self._estimates[place] = _estimate(self.sample(row, key))
        return self._estimates[place]

    def p_value(self, row: Row, other: Row, key: str) -> float:
        """Paired test of two rows on the seeds and clips both have; NaN where there is nothing to test with."""
        difference = self.sample(row, key).minus(self.sample(other, key))
        return float("nan") if difference.seeds.empty else float(p_value(difference.mean()[0]))

    def _gap_closed(self, row: Row) -> Sample:
        """(none - row) / (none - identity) against the anchors of the same seed, on the same clips."""
        mine = row.sample(ERROR)
        if not self.gap_is_open:
            return Sample(pd.Series(dtype=float), pd.DataFrame(), mine.sources)
        none, identity = (self.anchors[name].sample(ERROR) for name in ANCHORS)
        seeds = ((none.seeds - mine.seeds) / (none.seeds - identity.seeds)).dropna()
        clips = none.clips.reindex(columns=seeds.index)
        shared = clips.index.intersection(mine.clips.index).intersection(identity.clips.index)
        if not len(shared) or not len(seeds):
            return Sample(seeds, pd.DataFrame(), mine.sources)
        three = [one.clips.loc[shared, seeds.index].to_numpy() for one in (none, mine, identity)]
        return Sample(seeds, pd.DataFrame(gap_closed_values(*three), shared, seeds.index), mine.sources)


def _estimate(sample: Sample) -> Estimate:
    """Mean and half width of a sample; the mean is that of the seeds' metrics."""
    if sample.seeds.empty:
        return Estimate()
    mean, over = sample.mean()
    return Estimate(float(sample.seeds.mean()), float(half_width(mean)), over)


def _sweep(rows: list[Row]) -> list[Row]:
    """Knobs in numerical order, beginning at the end with the larger error, so that capacity grows down the table."""
    ordered = sorted(rows, key=lambda row: (np.isnan(row.number), np.nan_to_num(row.number), row.knob))
    errors = [row.sample(ERROR).seeds.mean() for row in ordered]
    return ordered[::-1] if errors[0] < errors[-1] else ordered
