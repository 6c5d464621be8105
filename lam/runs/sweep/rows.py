"""A row of a table: trained and validated where it is missing or stale, skipped where it is done.

Starting a process costs seconds, so rows share a few; each row is still exactly what ``lam fit`` and ``lam validate`` would do.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any, NamedTuple

from lam.data.mixture import open_index
from lam.runs.base import RunCLI
from lam.runs.cli import LamCLI, run
from lam.runs.provenance import Provenance, read_provenance, renew_hashes
from lam.runs.recovery.checkpoints import damage, previous, restore_checkpoint
from lam.runs.results import timing_summary
from lam.runs.sweep.pool import StepProgress

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
    """A fit that builds and runs nothing where there is nothing to train; mixed into a command line that knows its status."""

    status = RunStatus.TO_TRAIN

    def instantiate_classes(self) -> None:
        """Build what there is to train."""
        if self.status is RunStatus.TO_TRAIN:
            super().instantiate_classes()

    def _run_subcommand(self, subcommand: str) -> None:
        """Train where that is needed."""
        if self.status is RunStatus.TO_TRAIN:
            super()._run_subcommand(subcommand)


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
    """A fit that knows whether it is needed: skips a finished run, resumes a killed one, replaces a stale one."""

    def before_instantiate_classes(self) -> None:
        """Compare today's provenance with what lies in the run's folder."""
        if self.subcommand == "fit":
            folder = self.run_directory
            today = self.provenance(open_index(self.settings["data"]["shards"]).digest)
            self.status = RunStatus.of(read_provenance(folder / "run.json"), today)
            if self.status is RunStatus.TO_VALIDATE and damage(folder / self.result):
                self.status = RunStatus.TO_TRAIN  # from the checkpoint before, if it is whole
            if self.status is not RunStatus.TO_TRAIN:
                renew_hashes(folder)
                return
            started = read_provenance(folder / "started.json")
            checkpoint = folder / self.result
            same = started is not None and started.same_weights(today)
            lost = same and checkpoint.exists() and damage(checkpoint) and previous(checkpoint) is None
            if lost:
                print(f"lam: warning: {checkpoint}, the only one, is damaged. The row is trained again.", file=sys.stderr)
            if same and not lost and (whole := restore_checkpoint(checkpoint)) is not None:
                self.settings["ckpt_path"] = str(whole)
            elif folder.exists():
                shutil.rmtree(folder)
        super().before_instantiate_classes()


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


def make_row(row: RunSpec, extra: tuple[str, ...] = ()) -> MadeRow:
    """Make one row, as far as it is not made yet."""
    made = SweepCLI(["fit", *row.arguments(*extra)], callbacks=[StepProgress()], **QUIET)
    folder = made.run_directory
    if made.status is RunStatus.FINISHED:
        return MadeRow(folder, made.status, "up to date")
    if made.status is RunStatus.TO_TRAIN:
        made.evaluate()
        return MadeRow(folder, made.status, f"trained. {timing_summary(made.trainer)}")
    cli = run(["validate", *row.arguments(*extra), f"--ckpt_path={folder / made.result}", "--verbose=false"], **QUIET)
    return MadeRow(folder, made.status, f"validated again. {timing_summary(cli.trainer)}")


def train_row(row: RunSpec, extra: tuple[str, ...] = ()) -> str:
    """Make one row, as far as it is not made yet, and return what was done."""
    return make_row(row, extra).done
