"""Jobs side by side: a pool of processes that train, with one bar that counts their steps."""

from __future__ import annotations

import importlib
import logging
import multiprocessing
import os
import sys
import threading
import traceback
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from multiprocessing.sharedctypes import Synchronized
from typing import Any, Protocol, TypeVar

import lightning.pytorch as pl
import torch
from tqdm import tqdm

from lam.runs.cli import filter_known_warnings
from lam.runs.errors import explain
from lam.runs.terminal.hardware import hardware_hint


class StepProgress(pl.Callback):
    """Counts optimizer steps where the process that shows progress can see them."""

    def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
        """Count a step."""
        with _steps.get_lock():
            _steps.value += 1

    def on_train_start(self, trainer: pl.Trainer, pl_module: pl.LightningModule) -> None:
        """Count the steps that lie ahead; the first row says what is slow for all."""
        with _planned.get_lock():
            is_first = _planned.value == 0
            _planned.value += max(0, trainer.max_steps - trainer.global_step)
        if is_first and (hint := hardware_hint(trainer)):
            tqdm.write(f"lam: {hint}", file=sys.stderr)


_steps: Synchronized[int] = multiprocessing.Value("q", 0)
_planned: Synchronized[int] = multiprocessing.Value("q", 0)


def _start_worker(steps: Synchronized[int], planned: Synchronized[int], threads: int, packages: list[str]) -> None:
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
    """End this process when the one that started it is gone, so that a killed sweep does not go on unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def threads_of_each(jobs: int) -> int:
    """Return the threads of each of some processes: what ``OMP_NUM_THREADS`` says, or a share of the cores."""
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()  # PyTorch has read it
    return max(1, (os.cpu_count() or 1) // jobs)


class Job(Protocol):
    """A thing that a process of the pool makes."""

    @property
    def name(self) -> str:
        """Name that it is reported by."""

    @property
    def seed(self) -> int:
        """Its seed."""


AnyJob = TypeVar("AnyJob", bound=Job)


def work(rows: list[AnyJob], extra: tuple[str, ...], jobs: int, make: Callable[[AnyJob, tuple[str, ...]], str]) -> list[AnyJob]:
    """Make all rows, some side by side, and return those that failed; one that fails is reported and does not stop the others.

    Args:
        rows: What to make.
        extra: Passed on to the command line as it is.
        jobs: Processes that make rows side by side, each with its share of the cores, or as many
            threads as ``OMP_NUM_THREADS`` says.
        make: Makes one in a process of its own; returns what was done.
    """
    failed = []
    context = multiprocessing.get_context("spawn")
    steps, planned = context.Value("q", 0), context.Value("q", 0)
    packages = [name for name, module in sys.modules.items() if name.startswith("lam.") and hasattr(module, "__path__")]
    arguments = (steps, planned, threads_of_each(jobs), packages)
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
