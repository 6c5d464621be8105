"""Rows of a comparison: the seeds of one bottleneck at one knob value, with intervals, measures and paired tests."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import cached_property
from pathlib import Path

import numpy as np
import pandas as pd

from lam.report.stats.estimates import Estimate, Replicates, combine, paired_p_value, stack
from lam.report.stats.jackknife import EPISODES, FIRST_EPISODE, ONE_SOURCE, LeaveOneOutMeans, group_positions, leave_one_out
from lam.report.stats.measures import ERROR, GAP_CLOSED, MEASURES, Measure, Term, control_measures, label_budget
from lam.report.stats.runs import FinishedRun

REFERENCE_ROWS = ("none", "identity")
"""No latent action and an unconstrained one, between which all other rows are read; trained like every row."""

CONTROL_ROWS = ("cuts",)
"""Positive controls, whose answer is known: an unconstrained latent trained on clips with cuts copies. They stand below the
reference rows and neither compete nor belong to a family."""

BOUNDS = ("actions", "simulator")
"""Labeled upper bounds of acting, no bottlenecks: a world model of recorded actions, and the true simulator."""


@dataclass(frozen=True)
class TableRow:
    """The finished seeds of one bottleneck at one value of its knob.

    Attributes:
        family: Bottleneck family.
        knob: The knob's text, empty where there is none.
        runs: Runs by seed.
    """

    family: str
    knob: str
    runs: dict[int, FinishedRun]

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
    """All rows of a setting, in the order of the table: reference rows, families by name, knobs from tight to loose.

    Bounds of acting stand beside them: they are in no family, so nothing that goes through families meets them.

    Args:
        runs: Finished runs.
        unfinished: Names of runs that did not finish, to be mentioned.
    """

    def __init__(self, runs: list[FinishedRun], unfinished: list[str]) -> None:
        self.runs = runs
        self.unfinished = unfinished
        grouped: dict[tuple[str, str], dict[int, FinishedRun]] = {}
        for run in sorted(runs, key=lambda run: run.seed):
            grouped.setdefault((run.family, run.knob), {})[run.seed] = run
        rows = [TableRow(family, knob, by_seed) for (family, knob), by_seed in grouped.items()]
        self.references = {row.family: row for row in rows if row.family in REFERENCE_ROWS}
        self.families = {
            family: _sweep([row for row in rows if row.family == family])
            for family in sorted({row.family for row in rows} - {*REFERENCE_ROWS, *CONTROL_ROWS, *BOUNDS})
        }
        self.controls = [row for row in rows if row.family in CONTROL_ROWS]
        self.bounds = {row.family: row for row in rows if row.family in BOUNDS}
        budgets = sorted({label_budget(key) for run in runs for key in run.metrics} - {""})
        self.measures = MEASURES | {one.key: one for budget in budgets for one in control_measures(budget)}
        sources = pd.concat([run.sources for run in runs])
        self.sources = sources[~sources.index.duplicated()].sort_index()
        self.groups = group_positions(self.sources)
        self.sources = self.sources[self.sources.index < FIRST_EPISODE]
        self._means: dict[Path, LeaveOneOutMeans] = {}
        self._replicates: dict[tuple[str, str], Replicates] = {}
        self._estimates: dict[tuple[str, str], Estimate] = {}

    @property
    def rows(self) -> list[TableRow]:
        """Rows of the wide table in order: reference rows, positive controls, the model of recorded actions, families."""
        actions = [row for name, row in self.bounds.items() if name == "actions"]
        references = [self.references[name] for name in REFERENCE_ROWS if name in self.references]
        return references + self.controls + actions + [row for sweep in self.families.values() for row in sweep]

    @property
    def unlabeled(self) -> list[TableRow]:
        """Rows of latent actions, so all but the bounds and positive controls."""
        return [row for row in self.rows if row.family not in (*CONTROL_ROWS, *BOUNDS)]

    @cached_property
    def keys(self) -> list[str]:
        """Every key that a row's run logged, every measure that some row has, and gap closed."""
        logged = {key for row in self.rows for run in row.runs.values() for key in run.metrics}
        measured = {key for key in self.measures if any(self.replicates(row, key).seeds for row in self.rows)}
        return sorted(logged | measured | {GAP_CLOSED})

    @cached_property
    def gap(self) -> Estimate:
        """The gap G between the reference rows on the seeds that have both; NaN where one is missing."""
        if len(self.references) < len(REFERENCE_ROWS):
            return Estimate()
        none, identity = (self._logged(self.references[name], ERROR) for name in REFERENCE_ROWS)
        return combine([none, identity], np.subtract).estimate()

    @property
    def gap_is_open(self) -> bool:
        """Whether the reference rows are apart: gap closed means nothing while the interval of G touches 0."""
        return _is_apart(self.gap) and self.gap.value > 0

    def replicates(self, row: TableRow, key: str) -> Replicates:
        """Return the number of a key or a measure in a row."""
        place = (row.name, key)
        if place not in self._replicates:
            measure = self.measures.get(key)
            self._replicates[place] = self._measured(row, measure) if measure else self._logged(row, key)
        return self._replicates[place]

    def estimate(self, row: TableRow, key: str) -> Estimate:
        """Return a cell of the table."""
        place = (row.name, key)
        if place not in self._estimates:
            self._estimates[place] = self.replicates(row, key).estimate()
        return self._estimates[place]

    def p_value(self, row: TableRow, other: TableRow, key: str) -> float:
        """Test that two rows are equal, on the seeds and clips both have; NaN where there is nothing to test with."""
        return paired_p_value(self.replicates(row, key), self.replicates(other, key))

    def _measured(self, row: TableRow, measure: Measure) -> Replicates:
        """Compute a measure; where a run lacks its terms but logged its value, that value."""
        if measure.needs_gap and not self.gap_is_open:
            return Replicates()
        terms = [self._term(row, term) for term in measure.terms]
        if not all(term.seeds for term in terms):
            return self._logged(row, measure.key)
        if measure.denominator and not _is_apart(combine(terms, measure.denominator).estimate()):
            return Replicates()
        return combine(terms, measure.formula)

    def _term(self, row: TableRow, term: Term) -> Replicates:
        """Return what goes into a measure; empty where its reference row is missing."""
        if term.row:
            return self._logged(self.references[term.row], term.key) if term.row in self.references else Replicates()
        if "*" not in term.key:
            return self._logged(row, term.key)
        names = sorted({str(key) for run in row.runs.values() for key in run.clips if fnmatchcase(str(key), term.key)})
        return stack([self._logged(row, name) for name in names])

    def _logged(self, row: TableRow, key: str) -> Replicates:
        """Average a key's clips over the runs that have it; what the runs logged where one of them has no clips."""
        means = {seed: self._means_of(run) for seed, run in row.runs.items()}
        finite = {
            seed: run.metrics.get(key, means[seed].values[key][0] if key in means[seed].values else np.nan)
            for seed, run in row.runs.items()
        }
        seeds = tuple(seed for seed, value in finite.items() if np.isfinite(value))
        if not seeds:
            return Replicates()
        if not all(key in means[seed].values and (means[seed].share[key] > 0).sum() > 1 for seed in seeds):
            of_one = all(key in means[seed].values and (means[seed].share[key] > 0).sum() == 1 for seed in seeds)
            unit = ONE_SOURCE if of_one else self.groups.unit
            return Replicates(seeds, np.array([[finite[seed] for seed in seeds]]), unit=unit)
        values = np.stack([means[seed].values[key].to_numpy() for seed in seeds], axis=1)
        share = np.mean([means[seed].share[key] for seed in seeds], axis=0)
        unit = self.groups.unit_of(share)
        trials = min(_trials(row.runs[seed].clips[key]) for seed in seeds) if unit == EPISODES else 0
        return Replicates(seeds, values, share, unit, trials)

    def _means_of(self, run: FinishedRun) -> LeaveOneOutMeans:
        """Return the means of a run's clips, computed once."""
        if run.path not in self._means:
            self._means[run.path] = leave_one_out(run.clips, self.groups)
        return self._means[run.path]


def _trials(values: pd.Series[float]) -> int:
    """Return how many episodes a share is of; 0 where their values are not 0 and 1 alone."""
    known = values.dropna()
    return len(known) if known.isin([0.0, 1.0]).all() else 0


def _is_apart(cell: Estimate) -> bool:
    """Tell whether a number is apart from 0, by its interval."""
    return bool(abs(cell.value) > np.nan_to_num(cell.half))


def _sweep(rows: list[TableRow]) -> list[TableRow]:
    """Sort knobs in numerical order from the end with the larger error, so that capacity grows down the table."""
    ordered = sorted(rows, key=lambda row: (np.isnan(row.number), np.nan_to_num(row.number), row.knob))
    errors = [np.mean([run.metrics.get(ERROR, np.nan) for run in row.runs.values()]) for row in ordered]
    return ordered[::-1] if errors[0] < errors[-1] else ordered
