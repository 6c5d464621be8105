"""Controllers and plans for the rows of a table: what is missing or stale is made, the rest skipped.

``lam control sweep SETTING noisy:beta@1e-4 vq:num_codes@16 --seeds 0 1 --labels 64 256`` is what ``make table`` runs
after the rows themselves. Settings are those of experiments/control.yaml and, where there is one,
experiments/control/SETTING.yaml.
"""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path

from lam.control.cli import ControlCLI, control_provenance
from lam.runs.provenance import read_provenance
from lam.runs.results import timing_summary
from lam.runs.sweep.command import rows_of, rows_parser
from lam.runs.sweep.pool import StepProgress, work
from lam.runs.sweep.rows import QUIET, NeededCLI, RunSpec, RunStatus


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
        own = Path(f"experiments/control/{self.row.setting}.yaml")
        configs = ["experiments/control.yaml", *([str(own)] if own.exists() else [])]
        return [
            *(f"--config={config}" for config in configs),
            f"--model.run=runs/{self.row.name}/seed{self.seed}",
            f"--model.labeled_clips={self.labels}",
            f"--seed_everything={self.seed}",
            *extra,
        ]


class SweepControlCLI(NeededCLI, ControlCLI):
    """A fit that knows whether it is needed; heads train in seconds, so what was begun or is stale is made anew."""

    def before_instantiate_classes(self) -> None:
        """Compare today's provenance with what lies in the folder."""
        if self.subcommand == "fit":
            done = read_provenance(self.run_directory / "run.json", control_provenance)
            self.status = RunStatus.of(done, self.provenance())
            if self.status is not RunStatus.TO_TRAIN:
                return
            if self.run_directory.exists():
                shutil.rmtree(self.run_directory)
        super().before_instantiate_classes()


def make_controllers(one: Controllers, extra: tuple[str, ...] = ()) -> str:
    """Train and evaluate heads, as far as that is not done yet, and return what was done."""
    made = SweepControlCLI(["fit", *one.arguments(*extra)], callbacks=[StepProgress()], **QUIET)
    if made.status is RunStatus.FINISHED:
        return "up to date"
    if made.status is RunStatus.TO_TRAIN:
        return f"trained. {timing_summary(made.trainer)}"
    checkpoint = made.run_directory / made.result
    cli = ControlCLI(["validate", *one.arguments(*extra), f"--ckpt_path={checkpoint}", "--verbose=false"], **QUIET)
    return f"validated again. {timing_summary(cli.trainer)}"


def main(arguments: list[str]) -> None:
    """Read rows and label budgets and make what is missing.

    Args:
        arguments: What is typed after ``lam control sweep``.
    """
    parser = rows_parser("lam control sweep", str(__doc__), "lam control sweep arm noisy:beta@1e-2 --labels 64 256 --seeds 0 1")
    parser.add_argument("--labels", nargs="+", type=int, default=[256], help="budgets of labeled clips")
    options, extra = parser.parse_known_args(arguments)
    asked = [Controllers(row, labels) for labels in options.labels for row in rows_of(options)]
    failed = work(asked, tuple(extra), options.jobs, make_controllers)
    if failed:
        sys.exit("lam: error: failed, left out of the table: " + ", ".join(f"{one.name}, seed {one.seed}" for one in failed))
