"""A process that makes one job after another, and what the process that started it knows of it."""

from __future__ import annotations

import contextlib
import importlib
import logging
import multiprocessing
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnContext
from multiprocessing.sharedctypes import Synchronized
from pathlib import Path
from types import FrameType
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

import lightning.pytorch as pl
import torch
from tqdm import tqdm

from lam.runs.cli import filter_known_warnings
from lam.runs.errors import explain
from lam.runs.recovery.locks import RunTakenError
from lam.runs.recovery.stopping import TERMINATED
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


class Job(Protocol):
    """A thing that a process of the pool makes."""

    @property
    def name(self) -> str:
        """Name that it is reported by."""

    @property
    def seed(self) -> int:
        """Its seed."""


AnyJob = TypeVar("AnyJob", bound=Job)


class Answer(NamedTuple):
    """What became of a job.

    Attributes:
        done: What was done, in words.
        failed: Why it failed, in words; empty where it did not.
        lines: Where in the program it failed, where that is no matter of shared.
        taken: Folder of the run that another process is making; the job is still to be done then.
        owner: Who is making it.
    """

    done: str = ""
    failed: str = ""
    lines: str = ""
    taken: Path | None = None
    owner: str = ""


class Shared(NamedTuple):
    """What each process of a pool is given.

    Attributes:
        steps: Steps that all of them have made.
        planned: Steps that lie ahead of what they have begun.
        threads: Threads of each.
        packages: Packages to import, so that YAML finds classes by the same short names.
        extra: Settings as on the command line.
    """

    steps: Synchronized[int]
    planned: Synchronized[int]
    threads: int
    packages: list[str]
    extra: tuple[str, ...]


# ---------------------------------------------------------------------- in a process of the pool


def _serve(connection: Connection, shared: Shared, make: Callable[[Any, tuple[str, ...]], str]) -> None:
    """Make jobs that come through a connection, one after the other, until it is closed."""
    signal.signal(signal.SIGTERM, _leave)  # while nothing is trained; training saves first
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes; the one that started this one asks it to end
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    if "SLURM_JOB_ID" in os.environ:
        signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    global _steps, _planned
    _steps, _planned = shared.steps, shared.planned
    threading.Thread(target=_end_with_parent, daemon=True).start()
    for package in shared.packages:
        importlib.import_module(package)
    torch.set_num_threads(shared.threads)
    filter_known_warnings()
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    try:
        while True:
            connection.send(_attempt(connection.recv(), shared.extra, make))
    except EOFError:
        pass
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it ends now


def _attempt(job: Any, extra: tuple[str, ...], make: Callable[[Any, tuple[str, ...]], str]) -> Answer:
    """Make a job and tell what became of it, in words, as an exception may not be fit to be sent."""
    try:
        return Answer(done=make(job, extra))
    except RunTakenError as error:
        return Answer(taken=error.folder, owner=error.owner)
    except Exception as error:
        told = explain(error)
        lines = traceback.format_exc() if told is None or os.environ.get("LAM_TRACEBACK") else ""
        return Answer(failed=told or f"{type(error).__name__}: {error}", lines=lines)


def _leave(number: int, frame: FrameType | None) -> None:
    """End this process, unless it is about to."""
    if not isinstance(sys.exc_info()[1], SystemExit):
        raise SystemExit(TERMINATED)


def _end_with_parent() -> None:
    """End this process when the one that started it is gone, so that a killed sweep does not go on unseen."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


# ---------------------------------------------------------------------- in the process that shows progress


class Worker(Generic[AnyJob]):
    """A process of the pool, as the one that started it sees it.

    Attributes:
        job: What it makes now.
    """

    def __init__(self, context: SpawnContext, shared: Shared, make: Callable[[AnyJob, tuple[str, ...]], str]) -> None:
        self.connection, other = context.Pipe()
        self.process = context.Process(target=_serve, args=(other, shared, make))
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # it inherits that, until it can ignore Ctrl-C
        try:
            self.process.start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        other.close()
        self.job: AnyJob | None = None

    def begin(self, job: AnyJob) -> None:
        """Give it a job."""
        self.job = job
        with contextlib.suppress(BrokenPipeError):  # that it has ended is found when its answer is looked for
            self.connection.send(job)

    def answer(self) -> tuple[AnyJob, Answer]:
        """Return its job and what became of it, once something can be read."""
        job, self.job = self.job, None
        assert job is not None
        try:
            return job, self.connection.recv()
        except (EOFError, ConnectionResetError):
            self.process.join()
            return job, Answer(failed=_end_of(self.process.exitcode or 0))


def _end_of(status: int) -> str:
    """Say how a process ended that did not answer."""
    if status == -signal.SIGKILL:
        return "its process was killed, most often for want of memory: fewer --jobs, or a smaller data.batch_size"
    if status < 0:
        return f"its process was ended by {signal.Signals(-status).name}"
    return "its process was asked to end" if status == TERMINATED else f"its process ended with status {status}"
