"""Rows of a table in one process: trains and validates what is missing or stale, skips what is done.

``python -m lam.sweep SETTING noisy:beta@1e-4 vq:num_codes@16 none --seeds 0 1`` is what ``make table`` runs. Starting a process
costs seconds, so the rows share one; each row is still exactly what ``lam fit`` and ``lam validate`` would do.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from tqdm import tqdm

from lam.cli import LamCLI, run
from lam.data.schema import DataIndex
from lam.results import read_provenance


class NothingToTrainError(Exception):
    """The row's weights are there already.

    Args:
        folder: The row's folder.
        finished: Whether today's evaluations have seen them too.
    """

    def __init__(self, folder: Path, finished: bool) -> None:
        super().__init__(folder)
        self.folder = folder
        self.finished = finished


@dataclass(frozen=True)
class Row:
    """One row of a table: a family at one value of its knob, with one seed."""

    setting: str
    family: str
    knob: str
    value: str
    seed: int

    @classmethod
    def parse(cls, setting: str, text: str, seed: int) -> Row:
        """Reads ``family`` or ``family:knob@value``."""
        head, _, value = text.partition("@")
        family, _, knob = head.partition(":")
        if bool(knob) != bool(value):
            raise ValueError(f"A row is written family or family:knob@value, for example noisy:beta@1e-4, not {text!r}.")
        return cls(setting, family, knob, value, seed)

    @property
    def name(self) -> str:
        """Run name under runs/."""
        return f"{self.setting}/{self.family}" + (f"@{self.value}" if self.value else "")

    def arguments(self, *extra: str) -> list[str]:
        """What one would type after ``lam fit``."""
        configs = ["base", self.setting, f"bottlenecks/{self.family}"]
        arguments = [f"--config=experiments/{config}.yaml" for config in configs]
        if self.knob:
            arguments.append(f"--model.bottleneck.{self.knob}={self.value}")
        return [*arguments, *extra, f"--name={self.name}", f"--seed_everything={self.seed}"]


class SweepCLI(LamCLI):
    """A fit that knows whether it is needed: skips a finished run, resumes a killed one, replaces a stale one."""

    def before_instantiate_classes(self) -> None:
        """Decides by comparing today's provenance with what lies in the run's folder."""
        if self.subcommand == "fit":
            folder = self.run_directory
            today = self.provenance(DataIndex.load(self.settings["data"]["shards"]).digest)
            done = read_provenance(folder / "run.json")
            if done and done.same_weights(today):
                raise NothingToTrainError(folder, finished=done.evaluation_hash == today.evaluation_hash)
            started = read_provenance(folder / "started.json")
            checkpoint = folder / "checkpoints" / "last.ckpt"
            if started and started.same_weights(today) and checkpoint.exists():
                self.settings["ckpt_path"] = str(checkpoint)
            elif folder.exists():
                shutil.rmtree(folder)
        super().before_instantiate_classes()


class StepProgress(pl.Callback):
    """Moves a progress bar that spans all rows.

    Args:
        bar: The bar, in optimizer steps.
    """

    def __init__(self, bar: tqdm) -> None:
        self.bar = bar

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """One step further."""
        self.bar.update()


def make_row(row: Row, bar: tqdm, *extra: str) -> str:
    """Makes one row, as far as it is not made yet; returns what was done."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    try:
        cli = run(["fit", *row.arguments(*extra)], SweepCLI, callbacks=[StepProgress(bar)], **quiet)
    except NothingToTrainError as found:
        if found.finished:
            return "up to date"
        checkpoint = found.folder / "checkpoints" / "last.ckpt"
        run(["validate", *row.arguments(*extra), f"--ckpt_path={checkpoint}", "--verbose=false"], **quiet)
        return "validated again"
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    cli.after_validate()
    return "trained"


def sweep(rows: list[Row], *extra: str) -> list[Row]:
    """Makes all rows; one that fails is reported and does not stop the others. Returns the failed ones."""
    failed = []
    with tqdm(total=0, unit="step", smoothing=0.05) as bar:
        for number, row in enumerate(rows, 1):
            bar.set_description(f"row {number}/{len(rows)} {row.name} seed {row.seed}")
            try:
                outcome = make_row(row, bar, *extra)
            except Exception as error:  # a row may fail in any way; the table is made of the others
                failed.append(row)
                outcome = f"failed: {error}"
                tqdm.write(traceback.format_exc(), file=sys.stderr)
            if outcome != "up to date":
                tqdm.write(f"{row.name} seed {row.seed}: {outcome}")
    return failed


def main() -> None:
    """Reads rows from the command line and makes them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("setting", help="a file experiments/SETTING.yaml")
    parser.add_argument("rows", nargs="+", help="family, or family:knob@value")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0], help="seeds of weights, order of data and noise")
    options, extra = parser.parse_known_args()
    sys.argv = sys.argv[:1]  # LightningCLI warns when it is given arguments while the process has its own
    rows = [Row.parse(options.setting, text, seed) for seed in options.seeds for text in options.rows]
    failed = sweep(rows, *extra)
    if failed:
        sys.exit("lam.sweep: failed rows, left out of the table: " + ", ".join(f"{r.name} seed {r.seed}" for r in failed))


if __name__ == "__main__":
    main()
