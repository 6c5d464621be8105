"""Rows of a table in one process: trains and validates what is missing or stale, skips what is done.

``lam sweep SETTING noisy:beta@1e-4 vq:num_codes@16 none --seeds 0 1`` is what ``make table`` runs.
Starting a process costs seconds, so rows share a few; each row is still exactly what ``lam fit`` and ``lam validate`` would do.
"""

from __future__ import annotations

import argparse
import difflib
import importlib
import logging
import multiprocessing
import os
import shutil
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

import lightning.pytorch as pl
import torch
from tqdm import tqdm

from lam.data.mixture import open_index
from lam.runs.cli import LamCLI, filter_known_warnings, run
from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError, explain
from lam.runs.results import read_provenance, timing_summary


class NothingToTrainError(Exception):
    """The row's weights are there already.

    Args:
        folder: The row's folder.
        finished: Whether today's evaluations have seen them too.
    """

    def __init__(self, folder: Path, finished: bool) -> None:
        super().__init__(folder, finished)
        self.folder = folder
        self.finished = finished


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
        series = "" if Path(f"experiments/{self.setting}.yaml").exists() else self.setting.partition("-")[0]
        configs = [series or self.setting, f"bottlenecks/{self.family}"]
        arguments = [f"--config=experiments/{config}.yaml" for config in configs]
        if series:
            arguments.append(f"--data.shards=shards/{self.setting}")
        if self.knob:
            arguments.append(f"--model.bottleneck.{self.knob}={self.value}")
        return [*arguments, *extra, f"--name={self.name}", f"--seed_everything={self.seed}"]


class SweepCLI(LamCLI):
    """A fit that knows whether it is needed: skips a finished run, resumes a killed one, replaces a stale one."""

    def before_instantiate_classes(self) -> None:
        """Decides by comparing today's provenance with what lies in the run's folder."""
        if self.subcommand == "fit":
            folder = self.run_directory
            today = self.provenance(open_index(self.settings["data"]["shards"]).digest)
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
    """Counts optimizer steps where the process that shows progress can see them."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """One step further."""
        with _steps.get_lock():
            _steps.value += 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """So many steps lie ahead."""
        with _planned.get_lock():
            _planned.value += max(0, trainer.max_steps - trainer.global_step)


_steps: Any = multiprocessing.Value("q", 0)
_planned: Any = multiprocessing.Value("q", 0)


def _start_worker(steps: Any, planned: Any, threads: int, packages: list[str]) -> None:
    """Prepare a process that makes rows."""
    global _steps, _planned
    _steps, _planned = steps, planned
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for package in packages:  # so that YAML finds classes by the same short names
        importlib.import_module(package)
    torch.set_num_threads(threads)
    filter_known_warnings()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)


def _end_with_parent() -> None:
    """Ends this process when the one that started it is gone, so that a killed sweep does not go on in the dark."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def train_row(row: RunSpec, extra: tuple[str, ...] = ()) -> str:
    """Makes one row, as far as it is not made yet; returns what was done."""
    quiet: dict[str, Any] = {"enable_progress_bar": False, "enable_model_summary": False}
    try:
        cli = run(["fit", *row.arguments(*extra)], SweepCLI, callbacks=[StepProgress()], **quiet)
    except NothingToTrainError as found:
        if found.finished:
            return "up to date"
        checkpoint = found.folder / "checkpoints" / "last.ckpt"
        cli = run(["validate", *row.arguments(*extra), f"--ckpt_path={checkpoint}", "--verbose=false"], **quiet)
        return f"validated again. {timing_summary(cli.trainer)}"
    cli.trainer.validate(cli.model, datamodule=cli.datamodule, verbose=False)
    cli.after_validate()
    return f"trained. {timing_summary(cli.trainer)}"


class Job(Protocol):
    """What a sweep makes.

    Attributes:
        seed: Its seed.
    """

    @property
    def name(self) -> str:
        """What to call it."""

    @property
    def seed(self) -> int:
        """Which of its seeds."""


AnyJob = TypeVar("AnyJob", bound=Job)


def sweep(
    rows: list[AnyJob], extra: tuple[str, ...], jobs: int, make: Callable[[AnyJob, tuple[str, ...]], str]
) -> list[AnyJob]:
    """Makes all rows, some side by side; one that fails is reported and does not stop the others. Returns the failed ones.

    Args:
        rows: What to make.
        extra: Passed on to the command line as it is.
        jobs: Processes that make rows side by side, each with its share of the cores.
        make: Makes one in a process of its own; returns what was done.
    """
    failed = []
    context = multiprocessing.get_context("spawn")
    steps, planned = context.Value("q", 0), context.Value("q", 0)
    packages = [name for name, module in sys.modules.items() if name.startswith("lam.") and hasattr(module, "__path__")]
    arguments = (steps, planned, max(1, (os.cpu_count() or 1) // jobs), packages)
    with (
        ProcessPoolExecutor(jobs, context, _start_worker, arguments) as pool,
        tqdm(total=0, unit="step", smoothing=0.05, desc=f"0/{len(rows)} rows") as bar,
    ):
        waiting = {pool.submit(make, row, extra): row for row in rows}
        while waiting:
            done, _ = wait(waiting, timeout=0.5, return_when=FIRST_COMPLETED)
            for future in done:
                row = waiting.pop(future)
                error = future.exception()
                if error is not None:
                    failed.append(row)
                    told = explain(error)
                    if told is None or os.environ.get("LAM_TRACEBACK"):
                        tqdm.write("".join(traceback.format_exception(error)), file=sys.stderr)
                    tqdm.write(f"{row.name} seed {row.seed}: failed: {told or error}", file=sys.stderr)
                else:
                    tqdm.write(f"{row.name} seed {row.seed}: {future.result()}")
                bar.set_description(f"{len(rows) - len(waiting)}/{len(rows)} rows")
            # rows that have not started are expected to be as long as those that have
            started = max(1, min(len(rows), len(rows) - len(waiting) + jobs))
            bar.total = round(planned.value / started * len(rows)) if waiting else planned.value
            bar.update(steps.value - bar.n)
    return failed


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
    failed = sweep(rows_of(options), tuple(extra), options.jobs, train_row)
    if failed:
        sys.exit("lam: error: failed rows, left out of the table: " + ", ".join(f"{r.name} seed {r.seed}" for r in failed))
