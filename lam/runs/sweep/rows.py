"""A row of a table: trained and validated where it is missing or stale, skipped where it is done.

Starting a process costs seconds, so rows share a few; each row is still exactly what ``lam fit`` and ``lam validate`` would do.
"""

from __future__ import annotations

import sys
from abc import abstractmethod
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import lightning.pytorch as pl
from typing_extensions import override

from lam.data.mixture import open_index
from lam.runs.base import RunCLI
from lam.runs.cli import LamCLI, run
from lam.runs.errors import SettingsError
from lam.runs.provenance import Provenance, read_provenance, renew_hashes
from lam.runs.recovery.checkpoints import damage, previous, restore_checkpoint
from lam.runs.recovery.stale import bring_back, remove_stale, replaced
from lam.runs.results import timing_summary
from lam.runs.sweep.worker import StepProgress

QUIET: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
"""Defaults of trainers that work side by side."""


class RunStatus(Enum):
    """What is left to do for a run."""

    TO_TRAIN = "to train"
    TO_VALIDATE = "to validate"
    FINISHED = "finished"

    @classmethod
    def of(cls, done: Provenance | None, today: Provenance) -> RunStatus:
        """Return the status of a run from what its run.json says and what one would make today."""
        if done is None or not done.same_weights(today):
            return cls.TO_TRAIN
        return cls.FINISHED if done.evaluation_hash == today.evaluation_hash else cls.TO_VALIDATE


class NeededCLI(RunCLI):
    """A fit that trains and evaluates as far as that is needed; mixed into a command line that finds out its status.

    A stale run is moved aside when training begins, and put back where that ends before its first checkpoint. A run that
    another process is making is left to it.
    """

    replaces = True
    patience: ClassVar[float] = 0.0  # who asks for many rows looks again later
    status = RunStatus.TO_TRAIN
    aside: Path | None = None
    """Where the run lies that this one took the place of."""

    @abstractmethod
    def find_status(self) -> RunStatus:
        """Look at what lies in the run's folder; where training goes on, set the checkpoint to go on from."""

    @abstractmethod
    def complete(self) -> None:
        """Evaluate what was trained, and write what was found."""

    @abstractmethod
    def evaluate_again(self, checkpoint: Path) -> pl.Trainer:
        """Evaluate a model that was trained earlier, write what was found and return the trainer that did it."""

    @override
    def before_instantiate_classes(self) -> None:
        """Find out what is left to do.

        Raises:
            SettingsError: A trial was asked for, which leaves nothing that could be a row.
            RunTakenError: Another process makes the run.
        """
        if self.settings["trainer"]["fast_dev_run"]:
            raise SettingsError("trainer.fast_dev_run makes no row. Try settings with lam fit, or leave it out.")
        self.lock()
        bring_back(self.run_directory)
        self.status = self.find_status()
        if self.status is RunStatus.TO_TRAIN:
            super().before_instantiate_classes()

    @override
    def instantiate_classes(self) -> None:
        """Build what there is to train."""
        if self.status is RunStatus.TO_TRAIN:
            super().instantiate_classes()

    @override
    def _run_subcommand(self, subcommand: str) -> None:
        """Do what is left to do."""
        if self.status is RunStatus.TO_VALIDATE:
            self.trainer = self.evaluate_again(self.run_directory / self.result)
        elif self.status is RunStatus.TO_TRAIN and self.settings.get("ckpt_path"):
            super()._run_subcommand(subcommand)
            self.complete()
        elif self.status is RunStatus.TO_TRAIN:
            with replaced(self.run_directory) as self.aside:
                super()._run_subcommand(subcommand)
                self.complete()

    @property
    def done(self) -> str:
        """What was done, in words."""
        if self.status is RunStatus.FINISHED:
            return "up to date"
        kept = f". The run before it is kept in {self.aside}" if self.aside else ""
        word = "trained" if self.status is RunStatus.TO_TRAIN else "validated again"
        return f"{word}. {timing_summary(self.trainer)}{kept}"


@dataclass(frozen=True)
class RunSpec:
    """One row of a table: a family at one value of its knob, with one seed.

    Attributes:
        setting: A file experiments/SETTING.yaml. Without one SERIES-WORLD is a world of a series: experiments/SERIES.yaml
            with shards/SERIES-WORLD.
        family: A file experiments/bottlenecks/FAMILY.yaml.
        knob: The argument of the bottleneck that is set; empty where none is.
        value: Its value as text.
        seed: Seed of weights, order of data and noise.
        system: A file experiments/systems/SYSTEM.yaml whose heads the row has; empty for those of the setting.
        folder: Folder below that of the setting or system that holds the run apart from the rows of a table.
    """

    setting: str
    family: str
    knob: str
    value: str
    seed: int
    system: str = ""
    folder: str = ""

    @classmethod
    def parse(cls, setting: str, text: str, seed: int) -> RunSpec:
        """Read ``family`` or ``family:knob@value``, of a system ``system/...``."""
        head, _, value = text.partition("@")
        head, _, knob = head.partition(":")
        system, _, family = head.rpartition("/")
        if bool(knob) != bool(value):
            raise ValueError(f"A row is written family or family:knob@value, for example noisy:beta@1e-4, not {text!r}.")
        return cls(setting, family, knob, value, seed, system)

    @property
    def name(self) -> str:
        """Name of the run under runs/."""
        parts = [self.setting, *(["systems", self.system] if self.system else []), *([self.folder] if self.folder else [])]
        return "/".join([*parts, self.family + (f"@{self.value}" if self.value else "")])

    def arguments(self, *extra: str) -> list[str]:
        """Return what one would type after ``lam fit``."""
        series = "" if Path(f"experiments/{self.setting}.yaml").exists() else self.setting.partition("-")[0]
        systems = [f"systems/{self.system}"] if self.system else []
        configs = [series or self.setting, *systems, f"bottlenecks/{self.family}"]
        arguments = [f"--config=experiments/{config}.yaml" for config in configs]
        if series:
            arguments.append(f"--data.shards=shards/{self.setting}")
        if self.knob:
            arguments.append(f"--model.bottleneck.{self.knob}={self.value}")
        return [*arguments, *extra, f"--name={self.name}", f"--seed_everything={self.seed}"]


class SweepCLI(NeededCLI, LamCLI):
    """A row: a finished run is skipped, a killed one resumed, a stale one moved aside for a new one."""

    @override
    def find_status(self) -> RunStatus:
        folder = self.run_directory
        today = self.provenance(open_index(self.settings["data"]["shards"]).digest)
        status = RunStatus.of(read_provenance(folder / "run.json"), today)
        if status is RunStatus.TO_VALIDATE and damage(folder / self.result):
            status = RunStatus.TO_TRAIN  # from the checkpoint before, if it is whole
        if status is not RunStatus.TO_TRAIN:
            renew_hashes(folder)
            return status
        started = read_provenance(folder / "started.json")
        checkpoint = folder / self.result
        same = started is not None and started.same_weights(today)
        lost = same and checkpoint.exists() and damage(checkpoint) and previous(checkpoint) is None
        if lost:
            print(f"lam: warning: {checkpoint}, the only one, is damaged. The row is trained again.", file=sys.stderr)
        if same and not lost and (whole := restore_checkpoint(checkpoint)) is not None:
            self.settings["ckpt_path"] = str(whole)
        return status

    @override
    def complete(self) -> None:
        self.evaluate()

    @override
    def evaluate_again(self, checkpoint: Path) -> pl.Trainer:
        return run(["validate", *self.words[1:], f"--ckpt_path={checkpoint}", "--verbose=false"], **QUIET).trainer


class MadeRow(NamedTuple):
    """A row that is there now.

    Attributes:
        folder: Its folder.
        status: What was to do before.
        done: What was done, in words.
    """

    folder: Path
    status: RunStatus
    done: str


def make_row(row: RunSpec, extra: tuple[str, ...] = (), without_stale: bool = False) -> MadeRow:
    """Make one row, as far as it is not made yet.

    Args:
        row: The row.
        extra: Settings as on the command line.
        without_stale: Whether to delete, once the row is there, the runs that it took the place of.

    Raises:
        RunTakenError: Another process is making it.
    """
    made = SweepCLI(["fit", *row.arguments(*extra)], callbacks=[StepProgress()], **QUIET)
    if without_stale:
        remove_stale(made.run_directory)
        made.aside = None
    return MadeRow(made.run_directory, made.status, made.done)


def train_row(row: RunSpec, extra: tuple[str, ...] = (), without_stale: bool = False) -> str:
    """Make one row, as far as it is not made yet, and return what was done."""
    return make_row(row, extra, without_stale).done
