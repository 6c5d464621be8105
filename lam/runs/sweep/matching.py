"""Families trained to levels of gap closed: a knob is searched for on the first seed, then all seeds are trained there.

Rows that only serve the search live in ``runs/<setting>/search``, apart from the table, and move into it when they match. A
search goes on from the rows that it finds in both places.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from lam.io import write_text
from lam.runs.columns import Declarations
from lam.runs.errors import SettingsError
from lam.runs.provenance import read_provenance
from lam.runs.recovery.locks import lock_run
from lam.runs.sweep.knobs import Knob, knob_of
from lam.runs.sweep.rows import RunSpec, make_row
from lam.runs.sweep.search import TOLERANCE, Trial, nearest, next_trial

ERROR = "eval/capacity/error_drawn"
"""Error with what passed the channel, from which the gap that a row closes is computed."""

DEAD = ("collapsed", "ignored")
"""Flags of a latent that says nothing, or that the forward model does not listen to."""

SEARCH = "search"
"""Folder of a setting that holds rows of searches apart from those of its table."""

ANCHORS = ("none", "identity")
"""Rows whose errors are the ends of the gap."""


@dataclass(frozen=True)
class MatchJob:
    """A family to be trained to levels of gap closed.

    Attributes:
        setting: Setting of its rows.
        family: The family.
        levels: Shares of the gap.
        seeds: Seeds to train at each level; the first is the one that is searched with.
        max_runs: Rows that may be trained in search of one level.
    """

    setting: str
    family: str
    levels: tuple[float, ...]
    seeds: tuple[int, ...]
    max_runs: int

    @property
    def name(self) -> str:
        """Name that it is reported by."""
        return f"{self.setting}/{self.family}"

    @property
    def seed(self) -> int:
        """The seed that is searched with."""
        return self.seeds[0]

    def row(self, knob: Knob, text: str, seed: int, folder: str = "") -> RunSpec:
        """Return the row at a value of the knob."""
        return RunSpec(self.setting, self.family, knob.name, text, seed, folder=folder)


def match_family(job: MatchJob, extra: tuple[str, ...] = ()) -> str:
    """Train a family to all levels and say in a line a level what came of it.

    Raises:
        SettingsError: The family has no knob, or a run lacks the error that gaps are made of.
    """
    knob, start = knob_of(job.family)
    gap = Gap.of(job, extra)
    trials = gap.trials(job, knob)
    return "\n".join(["matched", *(_match(job, knob, start, gap, trials, level, extra) for level in job.levels)])


@dataclass(frozen=True)
class Gap:
    """The gap between the reference rows on the first seed.

    Attributes:
        none: Error without a latent.
        identity: Error with an unconstrained one.
        folder: Folder of the setting's runs.
        anchor: A run that all others must be comparable with.
    """

    none: float
    identity: float
    folder: Path
    anchor: Path

    @classmethod
    def of(cls, job: MatchJob, extra: tuple[str, ...]) -> Gap:
        """Read the gap from the reference rows, which are trained where they are missing.

        Raises:
            SettingsError: It is not open, or they lack the error.
        """
        folders = [make_row(RunSpec(job.setting, name, "", "", job.seed), extra).folder for name in ANCHORS]
        none, identity = (_number(folder) for folder in folders)
        if not none > identity:
            raise SettingsError(
                f"Nothing can be matched in {job.setting}: with seed {job.seed} identity does not predict better "
                f"({identity:.4g}) than none ({none:.4g}). Train longer, or take data in which something happens."
            )
        return cls(none, identity, folders[0].parent.parent, folders[0])

    def trial(self, text: str, folder: Path) -> Trial:
        """Read a finished run as a trial.

        Raises:
            SettingsError: It lacks the error.
        """
        if is_dead(folder):
            return Trial(text, None)
        return Trial(text, (self.none - _number(folder)) / (self.none - self.identity))

    def trials(self, job: MatchJob, knob: Knob) -> dict[float, Trial]:
        """Read all finished rows of a family that can be compared with the reference rows, by the value of the knob."""
        found: dict[float, Trial] = {}
        anchor = read_provenance(self.anchor / "run.json")
        for place in (self.folder, self.folder / SEARCH):
            for run in sorted(place.glob(f"{job.family}@*/seed{job.seed}")):
                text = run.parent.name.partition("@")[2]
                about = read_provenance(run / "run.json")
                if about is None or anchor is None or not _is_number(text):
                    continue
                if (about.shared_hash, about.heads, about.data_hash) == (anchor.shared_hash, anchor.heads, anchor.data_hash):
                    found.setdefault(float(text), self.trial(text, run))
                else:
                    _say(f"{run} was made with other settings or data than {self.anchor} and is left out.")
        return found


def is_dead(folder: Path) -> bool:
    """Tell whether a finished run raises one of the flags of a latent that says nothing."""
    declared = Declarations.read(folder)
    metrics = json.loads((folder / "metrics.json").read_text())
    flags = declared.flags if declared else ()
    return any(flag.name in DEAD and metrics.get(flag.key) == flag.value for flag in flags)


def adopt(folder: Path, name: str, setting: str) -> None:
    """Move a row of a search into the table, if it is not there yet.

    Args:
        folder: Folder of the setting's runs.
        name: The row's folder with its seed, ``family@value/seed0``.
        setting: Name of the setting, which files of the run hold.
    """
    source, target = folder / SEARCH / name, folder / name
    if not source.exists() or target.exists():
        return
    with lock_run(source), lock_run(target):
        config = source / "config.yaml"
        row = Path(name).parent.name
        write_text(config, config.read_text().replace(f"{setting}/{SEARCH}/{row}", f"{setting}/{row}"))
        for path in (source / file for file in ("started.json", "trained.json", "run.json")):
            about = read_provenance(path)
            if about is not None:
                replace(about, setting=setting).write(path)
        source.rename(target)  # last, so that after a kill it is done again


def _match(
    job: MatchJob, knob: Knob, start: str, gap: Gap, trials: dict[float, Trial], level: float, extra: tuple[str, ...]
) -> str:
    """Train a family to one level; rows that are tried join the trials."""
    runs = 0
    while True:
        step = next_trial(knob, list(trials.values()), level, start)
        if step.found:
            trials[float(step.text)] = found = _train_all(job, knob, step.text, gap, extra)
            said = "collapses with one of the seeds" if found.gap is None else f"closes {found.gap:.3f}"
            line = f"{job.family} at {level:g}: {job.family}@{step.text} {said}; rows tried for it: {runs}"
            if found.gap is not None and abs(found.gap - level) <= TOLERANCE:
                return line
            _say(line)
            continue
        if step.reason or runs == job.max_runs:
            reason = step.reason or f"not found within {runs} rows; the same command goes on"
            best = nearest(list(trials.values()), level)
            closest = f"nearest is {job.family}@{best.text} with {best.gap:.3f}" if best else "all of its rows collapse"
            return f"{job.family} at {level:g}: no row, {reason}; {closest}"
        runs += 1
        trials[float(step.text)] = tried = _try(job, knob, step.text, gap, extra)
        said = "says nothing" if tried.gap is None else f"closes {tried.gap:.3f}"
        _say(f"{job.family} at {level:g}, row {runs} of at most {job.max_runs}: {job.family}@{step.text} {said}")


def _try(job: MatchJob, knob: Knob, text: str, gap: Gap, extra: tuple[str, ...]) -> Trial:
    """Train a row of the search; a value that its bottleneck refuses, or a loss that is not finite, says nothing."""
    try:
        made = make_row(job.row(knob, text, job.seed, SEARCH), extra)
    except ValueError as error:
        _say(f"{job.family}@{text} failed: {error}")
        return Trial(text, None)
    return gap.trial(text, made.folder)


def _train_all(job: MatchJob, knob: Knob, text: str, gap: Gap, extra: tuple[str, ...]) -> Trial:
    """Make a row of the table with all seeds; return what the first one closes, or that one of them collapses."""
    adopt(gap.folder, f"{job.family}@{text}/seed{job.seed}", job.setting)
    folders = [make_row(job.row(knob, text, seed), extra).folder for seed in job.seeds]
    return Trial(text, None) if any(is_dead(folder) for folder in folders) else gap.trial(text, folders[0])


def _number(folder: Path) -> float:
    """Return the error of a finished run with what passed its channel.

    Raises:
        SettingsError: It has none.
    """
    metrics: dict[str, float] = json.loads((folder / "metrics.json").read_text())
    if ERROR not in metrics:
        raise SettingsError(
            f"{folder} has no {ERROR}, from which the gap is computed: its settings lack the evaluation Capacity, or it was "
            "validated by an earlier release. Remove its run.json and run the same command, which makes it again."
        )
    return metrics[ERROR]


def _is_number(text: str) -> bool:
    """Tell whether a knob's text is a positive number, which has a place on a logarithmic axis."""
    try:
        return float(text) > 0
    except ValueError:
        return False


def _say(text: str) -> None:
    """Report progress from a process of the pool."""
    print(text, flush=True)
