"""Rows of a comparison: the seeds of one bottleneck at one knob value, with intervals, measures and paired tests."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lam.report.stats.intervals import p_value
from lam.report.stats.jackknife import FIRST_EPISODE, Means, group_positions, leave_one_out
from lam.report.stats.measures import ERROR, GAP_CLOSED, MEASURES, Measure, Part, acting_measures, label_budget
from lam.report.stats.runs import Run
from lam.report.stats.sample import Estimate, Sample, combine, stack

ANCHORS = ("none", "identity")
BOUNDS = ("actions", "simulator")
"""Labeled upper bounds of acting, no bottlenecks: a world model of recorded actions, and the true simulator."""


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


class Comparison:
    """All rows of a setting, in the order of the table: anchors, then families by name, knobs from tight to loose.

    Bounds of acting stand beside them: they are in no family, so nothing that goes through families meets them.

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
            for family in sorted({row.family for row in rows} - {*ANCHORS, *BOUNDS})
        }
        self.bounds = {row.family: row for row in rows if row.family in BOUNDS}
        budgets = sorted({label_budget(key) for run in runs for key in run.metrics} - {""})
        self.measures = MEASURES | {one.key: one for budget in budgets for one in acting_measures(budget)}
        sources = pd.concat([run.sources for run in runs])
        self.sources = sources[~sources.index.duplicated()].sort_index()
        self.groups = group_positions(self.sources)
        self.sources = self.sources[self.sources.index < FIRST_EPISODE]
        self._means: dict[Path, Means] = {}
        self._samples: dict[tuple[str, str], Sample] = {}
        self._estimates: dict[tuple[str, str], Estimate] = {}

    @property
    def rows(self) -> list[Row]:
        """Rows of the plain table in order: anchors, the model of recorded actions, families."""
        actions = [row for name, row in self.bounds.items() if name == "actions"]
        anchors = [self.anchors[name] for name in ANCHORS if name in self.anchors]
        return anchors + actions + [row for sweep in self.families.values() for row in sweep]

    @property
    def unlabeled(self) -> list[Row]:
        """Rows of latent actions, so all but the bounds."""
        return [row for row in self.rows if row.family not in BOUNDS]

    @cached_property
    def keys(self) -> list[str]:
        """Every key that a row's run logged, every measure that some row has, and gap closed."""
        logged = {key for row in self.rows for run in row.runs.values() for key in run.metrics}
        measured = {key for key in self.measures if any(self.sample(row, key).seeds for row in self.rows)}
        return sorted(logged | measured | {GAP_CLOSED})

    @cached_property
    def gap(self) -> Estimate:
        """The gap G between the anchors on the seeds that have both; NaN where an anchor is missing."""
        if len(self.anchors) < len(ANCHORS):
            return Estimate()
        none, identity = (self._logged(self.anchors[name], ERROR) for name in ANCHORS)
        return combine([none, identity], np.subtract).estimate()

    @property
    def gap_is_open(self) -> bool:
        """Whether the anchors are apart: gap closed means nothing while the interval of G touches 0."""
        return _is_apart(self.gap) and self.gap.value > 0

    def sample(self, row: Row, key: str) -> Sample:
        """Values of a key or a measure in a row."""
        place = (row.name, key)
        if place not in self._samples:
            measure = self.measures.get(key)
            self._samples[place] = self._measured(row, measure) if measure else self._logged(row, key)
        return self._samples[place]

    def estimate(self, row: Row, key: str) -> Estimate:
        """A cell of the table."""
        place = (row.name, key)
        if place not in self._estimates:
            self._estimates[place] = self.sample(row, key).estimate()
        return self._estimates[place]

    def p_value(self, row: Row, other: Row, key: str) -> float:
        """Paired test of two rows on the seeds and clips both have; NaN where there is nothing to test with."""
        return paired_p_value(self.sample(row, key), self.sample(other, key))

    def _measured(self, row: Row, measure: Measure) -> Sample:
        """A measure; where a run lacks its parts but logged its value, that value."""
        if measure.across_gap and not self.gap_is_open:
            return Sample()
        parts = [self._part(row, part) for part in measure.parts]
        if not all(part.seeds for part in parts):
            return self._logged(row, measure.key)
        if measure.whole and not _is_apart(combine(parts, measure.whole).estimate()):
            return Sample()
        return combine(parts, measure.formula)

    def _part(self, row: Row, part: Part) -> Sample:
        """What goes into a measure; empty where its anchor is missing."""
        if part.of:
            return self._logged(self.anchors[part.of], part.key) if part.of in self.anchors else Sample()
        if "*" not in part.key:
            return self._logged(row, part.key)
        names = sorted({str(key) for run in row.runs.values() for key in run.clips if fnmatchcase(str(key), part.key)})
        return stack([self._logged(row, name) for name in names])

    def _logged(self, row: Row, key: str) -> Sample:
        """Means of a key's clips over the runs that have it; what the runs logged where one of them has no clips."""
        means = {seed: self._means_of(run) for seed, run in row.runs.items()}
        finite = {
            seed: run.metrics.get(key, means[seed].values[key][0] if key in means[seed].values else np.nan)
            for seed, run in row.runs.items()
        }
        seeds = tuple(seed for seed, value in finite.items() if np.isfinite(value))
        if not seeds:
            return Sample()
        if not all(key in means[seed].values and (means[seed].share[key] > 0).sum() > 1 for seed in seeds):
            return Sample(seeds, np.array([[finite[seed] for seed in seeds]]))
        values = np.stack([means[seed].values[key].to_numpy() for seed in seeds], axis=1)
        share = np.mean([means[seed].share[key] for seed in seeds], axis=0)
        return Sample(seeds, values, share, self.groups.unit_of(share))

    def _means_of(self, run: Run) -> Means:
        """Means of a run's clips, computed once."""
        if run.path not in self._means:
            self._means[run.path] = leave_one_out(run.clips, self.groups)
        return self._means[run.path]


def paired_p_value(first: Sample, second: Sample) -> float:
    """Test that two numbers are equal, on the seeds and clips both have; NaN where there is nothing to test with."""
    difference = combine([first, second], np.subtract)
    return float(p_value(difference.mean())) if difference.seeds else float("nan")


def _is_apart(cell: Estimate) -> bool:
    """Whether a number is apart from 0 as far as its interval tells."""
    return bool(abs(cell.value) > np.nan_to_num(cell.half))


def _sweep(rows: list[Row]) -> list[Row]:
    """Knobs in numerical order, beginning at the end with the larger error, so that capacity grows down the table."""
    ordered = sorted(rows, key=lambda row: (np.isnan(row.number), np.nan_to_num(row.number), row.knob))
    errors = [np.mean([run.metrics.get(ERROR, np.nan) for run in row.runs.values()]) for row in ordered]
    return ordered[::-1] if errors[0] < errors[-1] else ordered
