"""Controllers and plans for the rows of a table: what is missing or stale is made, the rest skipped.

``lam control sweep SETTING noisy:beta@1e-4 vq:num_codes@16 --seeds 0 1 --labels 64 256`` is what ``make table`` runs
after the rows themselves. Settings are those of experiments/control.yaml and, where there is one,
experiments/control/SETTING.yaml, else that of the nearest setting which SETTING extends.
"""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
from typing_extensions import override

from lam.control.cli import ControlCLI, control_provenance
from lam.runs.configs import with_bases
from lam.runs.provenance import read_provenance
from lam.runs.recovery.checkpoints import restore_checkpoint
from lam.runs.recovery.locks import check_free
from lam.runs.recovery.stale import remove_stale
from lam.runs.sweep.command import part_of, refuse_several_processes, rows_of, rows_parser
from lam.runs.sweep.pool import work
from lam.runs.sweep.rows import QUIET, NeededCLI, RunSpec, RunStatus
from lam.runs.sweep.worker import StepProgress


@dataclass(frozen=True)
class Controllers:
    """Heads and plans of one row of a table with one label budget.

    Attributes:
        row: Which row.
        labels: Clips whose actions may be seen.
    """

    row: RunSpec
    labels: int

    @property
    def name(self) -> str:
        """Name of the row and its label budget."""
        return f"{self.row.name} with {self.labels} labels"

    @property
    def seed(self) -> int:
        """Seed of the row, which is that of the heads too."""
        return self.row.seed

    def arguments(self, *extra: str) -> list[str]:
        """Return what one would type after ``lam control fit``."""
        configs = ["experiments/control.yaml", *control_settings(self.row.setting)]
        return [
            *(f"--config={config}" for config in configs),
            f"--model.run=runs/{self.row.name}/seed{self.seed}",
            f"--model.labeled_clips={self.labels}",
            f"--seed_everything={self.seed}",
            *extra,
        ]


def control_settings(setting: str) -> list[str]:
    """Return the file of control settings of a setting, or of the nearest one that it extends; none where none has one."""
    path = Path(f"experiments/{setting}.yaml")
    chain = with_bases(path) if path.exists() else [path]
    files = (f"experiments/control/{one.name}" for one in reversed(chain))
    return [file for file in files if Path(file).exists()][:1]


class SweepControlCLI(NeededCLI, ControlCLI):
    """Heads and plans: finished ones are skipped, killed ones resumed, stale ones moved aside for new ones."""

    @override
    def find_status(self) -> RunStatus:
        world = Path(self.settings["model"]["run"])
        check_free(world)
        status = RunStatus.of(read_provenance(self.run_directory / "run.json", control_provenance), self.provenance())
        checkpoint = self.run_directory / self.result
        if status is RunStatus.TO_TRAIN and self.is_begun() and _is_newer(checkpoint, world / "trained.json"):
            whole = restore_checkpoint(checkpoint)
            self.settings["ckpt_path"] = str(whole) if whole else None
        return status

    @override
    def complete(self) -> None:
        """Leave it at the evaluation that each training of heads ends with."""

    @override
    def evaluate_again(self, checkpoint: Path) -> pl.Trainer:
        return ControlCLI(["validate", *self.words[1:], f"--ckpt_path={checkpoint}", "--verbose=false"], **QUIET).trainer


def make_controllers(one: Controllers, extra: tuple[str, ...] = (), without_stale: bool = False) -> str:
    """Train and evaluate heads, as far as that is not done yet, and return what was done.

    Args:
        one: Which heads.
        extra: Settings as on the command line.
        without_stale: Whether to delete, once they are there, those that they took the place of.

    Raises:
        RunTakenError: Another process is making them or their world model.
    """
    made = SweepControlCLI(["fit", *one.arguments(*extra)], callbacks=[StepProgress()], **QUIET)
    if without_stale:
        remove_stale(made.run_directory)
        made.aside = None
    return made.done


def _is_newer(checkpoint: Path, trained: Path) -> bool:
    """Tell whether heads were begun after their world model was trained, and not on another one that lay in its place."""
    return checkpoint.stat().st_mtime_ns > trained.stat().st_mtime_ns


def main(arguments: list[str]) -> None:
    """Read rows and label budgets and make what is missing.

    Args:
        arguments: What is typed after ``lam control sweep``.
    """
    parser = rows_parser("lam control sweep", str(__doc__), "lam control sweep arm noisy:beta@1e-2 --labels 64 256 --seeds 0 1")
    parser.add_argument("--labels", nargs="+", type=int, default=[256], help="budgets of labeled clips")
    options, extra = parser.parse_known_args(arguments)
    refuse_several_processes()
    asked = [Controllers(row, labels) for labels in options.labels for row in rows_of(options)]
    make = functools.partial(make_controllers, without_stale=options.remove_stale)
    failed = work(part_of(asked, options.part), tuple(extra), options.jobs, make)
    if failed:
        sys.exit("lam: error: failed, left out of the table: " + ", ".join(f"{one.name}, seed {one.seed}" for one in failed))
