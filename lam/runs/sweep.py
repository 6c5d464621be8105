"""Rows of a table: train and validate what is missing or stale, skip what is done.

``lam sweep SETTING noisy:beta@1e-4 vq:num_codes@16 none --seeds 0 1`` is what ``make table`` runs.
Starting a process costs seconds, so rows share a few; each row is still exactly what ``lam fit`` and ``lam validate`` would do.
"""

from __future__ import annotations

import argparse
import difflib
import os
import shutil
import sys
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from lam.data.mixture import open_index
from lam.runs.base import RunCLI
from lam.runs.cli import LamCLI, run
from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError
from lam.runs.pool import StepProgress, work
from lam.runs.provenance import Provenance, read_provenance, renew_hashes
from lam.runs.results import timing_summary

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
    """

    setting: str
    family: str
    knob: str
    value: str
    seed: int

    @classmethod
    def parse(cls, setting: str, text: str, seed: int) -> RunSpec:
        """Read ``family`` or ``family:knob@value``."""
        head, _, value = text.partition("@")
        family, _, knob = head.partition(":")
        if bool(knob) != bool(value):
            raise ValueError(f"A row is written family or family:knob@value, for example noisy:beta@1e-4, not {text!r}.")
        return cls(setting, family, knob, value, seed)

    @property
    def name(self) -> str:
        """Name of the run under runs/."""
        return f"{self.setting}/{self.family}" + (f"@{self.value}" if self.value else "")

    def arguments(self, *extra: str) -> list[str]:
        """Return what one would type after ``lam fit``."""
        series = "" if Path(f"experiments/{self.setting}.yaml").exists() else self.setting.partition("-")[0]
        configs = [series or self.setting, f"bottlenecks/{self.family}"]
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
            if self.status is not RunStatus.TO_TRAIN:
                renew_hashes(folder)
                return
            started = read_provenance(folder / "started.json")
            checkpoint = folder / self.result
            if started and started.same_weights(today) and checkpoint.exists():
                self.settings["ckpt_path"] = str(checkpoint)
            elif folder.exists():
                shutil.rmtree(folder)
        super().before_instantiate_classes()


def train_row(row: RunSpec, extra: tuple[str, ...] = ()) -> str:
    """Make one row, as far as it is not made yet, and return what was done."""
    made = SweepCLI(["fit", *row.arguments(*extra)], callbacks=[StepProgress()], **QUIET)
    if made.status is RunStatus.FINISHED:
        return "up to date"
    if made.status is RunStatus.TO_TRAIN:
        made.trainer.validate(made.model, datamodule=made.datamodule, verbose=False)
        made.after_validate()
        return f"trained. {timing_summary(made.trainer)}"
    checkpoint = made.run_directory / made.result
    cli = run(["validate", *row.arguments(*extra), f"--ckpt_path={checkpoint}", "--verbose=false"], **QUIET)
    return f"validated again. {timing_summary(cli.trainer)}"


def rows_parser(command: str, description: str, example: str) -> argparse.ArgumentParser:
    """Return a parser of which rows of a setting, with which seeds, and how many side by side."""
    parser = argparse.ArgumentParser(
        prog=command,
        description=description,
        epilog=f"Example: {example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("setting", help="a file experiments/SETTING.yaml, or SERIES-WORLD of a series of worlds")
    parser.add_argument("rows", nargs="+", help="family, or family:knob@value")
    parser.add_argument("--jobs", type=int, default=1, help="rows made side by side, each with its share of the cores")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of weights, order of data and noise")
    return parser


def rows_of(options: argparse.Namespace) -> list[RunSpec]:
    """Return the rows that were asked for.

    Raises:
        SettingsError: There is no such setting or family.
    """
    rows = [RunSpec.parse(options.setting, text, seed) for seed in options.seeds for text in options.rows]
    settings = [path.stem for path in sorted(Path("experiments").glob("*.yaml")) if "shards" in read_yaml(path).get("data", {})]
    if not {options.setting, options.setting.partition("-")[0]} & set(settings):
        raise SettingsError(_not_there("setting", "experiments", options.setting, settings))
    families = [path.stem for path in sorted(Path("experiments/bottlenecks").glob("*.yaml"))]
    for row in rows:
        if row.family not in families:
            raise SettingsError(_not_there("family", "experiments/bottlenecks", row.family, families))
    return rows


def _not_there(kind: str, folder: str, name: str, there: list[str]) -> str:
    """Return what to say of a file that does not exist, with those that do."""
    if not there:
        return f"No {kind} in {folder}, seen from {Path.cwd()}. lam init writes a copy of the settings there."
    near = difflib.get_close_matches(name, there, 1)
    guess = f" Did you mean {near[0]}?" if near else ""
    return f"No {kind} {name}: there is no {folder}/{name}.yaml.{guess} There are: {', '.join(there)}."


def main(arguments: list[str]) -> None:
    """Read rows and make those that are missing or stale.

    Args:
        arguments: What is typed after ``lam sweep``.
    """
    parser = rows_parser("lam sweep", str(__doc__), "lam sweep demo none noisy:beta@1e-3 vq:num_codes@16 --seeds 0 1 --jobs 2")
    options, extra = parser.parse_known_args(arguments)
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise SettingsError("Rows are made side by side with --jobs; under torchrun or SLURM start each row with lam fit.")
    failed = work(rows_of(options), tuple(extra), options.jobs, train_row)
    if failed:
        sys.exit("lam: error: failed rows, left out of the table: " + ", ".join(f"{r.name} seed {r.seed}" for r in failed))
