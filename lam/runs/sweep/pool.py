"""Jobs side by side: processes that make rows, with one bar that counts their steps.

Several sweeps may run at a time, on any hosts that share the folder of runs: each makes the rows that nobody makes, and waits
for those that others make. A sweep that is asked to end has its processes save.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from lam.runs.recovery.locks import Watch
from lam.runs.recovery.stopping import TERMINATED, requeue
from lam.runs.sweep.worker import AnyJob, Shared, Worker

LOOK = 2.0
"""Seconds between two looks at whether a run that another process makes is free."""

ASK = 5.0
"""Seconds after which a process that was asked to end is asked again."""


def threads_of_each(jobs: int) -> int:
    """Return the threads of each of some processes: what ``OMP_NUM_THREADS`` says, or a share of the cores."""
    if "OMP_NUM_THREADS" in os.environ:
        return torch.get_num_threads()  # PyTorch has read it
    return max(1, (os.cpu_count() or 1) // jobs)


def work(rows: list[AnyJob], extra: tuple[str, ...], jobs: int, make: Callable[[AnyJob, tuple[str, ...]], str]) -> list[AnyJob]:
    """Make all rows, some side by side, and return those that failed; one that fails is reported and does not stop the others.

    Args:
        rows: What to make.
        extra: Passed on to the command line as it is.
        jobs: Processes that make rows side by side, each with its share of the cores, or as many
            threads as ``OMP_NUM_THREADS`` says.
        make: Makes one in a process of its own; returns what was done.

    Raises:
        SystemExit: The sweep was asked to end, and its processes have saved and ended.
    """
    context = multiprocessing.get_context("spawn")
    packages = [name for name, module in sys.modules.items() if name.startswith("lam.") and hasattr(module, "__path__")]
    shared = Shared(context.Value("q", 0), context.Value("q", 0), threads_of_each(jobs), packages, extra)
    waiting, taken, failed = deque(rows), dict[Path, tuple[Watch, list[AnyJob]]](), list[AnyJob]()
    workers: list[Worker[AnyJob]] = []
    with _listening() as asked, _bar(len(rows)) as bar:
        try:
            looked = time.monotonic()
            while not asked and (waiting or taken or any(worker.job for worker in workers)):
                while waiting and (idle := _idle(workers, jobs, lambda: Worker(context, shared, make))):
                    idle.begin(waiting.popleft())
                for worker in _answering(workers):
                    job, answer = worker.answer()
                    if answer.taken is not None:
                        if answer.taken not in taken:
                            taken[answer.taken] = Watch(answer.taken), []
                            tqdm.write(f"{job.name} seed {job.seed}: waits for {answer.owner}, which makes {answer.taken}")
                        taken[answer.taken][1].append(job)
                    elif answer.failed:
                        failed.append(job)
                        lines = f"{answer.lines}{job.name} seed {job.seed}: failed: {answer.failed}"
                        tqdm.write(lines, file=sys.stderr)
                    else:
                        tqdm.write(f"{job.name} seed {job.seed}: {answer.done}")
                if time.monotonic() - looked > LOOK:
                    looked = time.monotonic()
                    for folder in [folder for folder, (watch, _) in taken.items() if watch.is_free()]:
                        waiting.extend(taken.pop(folder)[1])
                _show(bar, shared, len(rows), len(waiting) + sum(len(jobs) for _, jobs in taken.values()), workers)
        finally:
            _end(workers, asked)
    if asked:
        _say_goodbye(asked[0])
    return failed


def _idle(workers: list[Worker[AnyJob]], jobs: int, start: Callable[[], Worker[AnyJob]]) -> Worker[AnyJob] | None:
    """Return a process without a job, a new one where there are not so many yet; None where all are busy."""
    workers[:] = [worker for worker in workers if worker.job is not None or worker.process.is_alive()]
    idle = next((worker for worker in workers if worker.job is None), None)
    if idle is None and len(workers) < jobs:
        workers.append(idle := start())
    return idle


def _answering(workers: list[Worker[AnyJob]]) -> list[Worker[AnyJob]]:
    """Return processes that have an answer, or have ended without one, after half a second at most."""
    busy = {worker.connection: worker for worker in workers if worker.job is not None}
    if not busy:
        time.sleep(0.5)
        return []
    ready = wait(list(busy), timeout=0.5)
    return [worker for connection, worker in busy.items() if connection in ready]


def _bar(rows: int) -> Any:
    """Return a bar that counts steps; a file that it is written to gets a line of it now and then."""
    seconds = 0.5 if sys.stderr.isatty() else 30.0
    return tqdm(total=0, unit="step", smoothing=0.05, mininterval=seconds, maxinterval=seconds, desc=f"0/{rows} rows")


def _show(bar: Any, shared: Shared, rows: int, unbegun: int, workers: list[Worker[AnyJob]]) -> None:
    """Show how many rows are done, and steps; rows that have not begun are expected to be as long as those that have."""
    busy = sum(worker.job is not None for worker in workers)
    bar.set_description(f"{rows - unbegun - busy}/{rows} rows", refresh=False)
    planned = shared.planned.value
    bar.total = round(planned / max(1, rows - unbegun) * rows) if unbegun + busy else planned
    bar.update(shared.steps.value - bar.n)


# ---------------------------------------------------------------------- ending


@contextlib.contextmanager
def _listening() -> Iterator[list[signal.Signals]]:
    """Collect signals that ask this process to end, instead of ending."""
    asked: list[signal.Signals] = []
    names = [signal.SIGTERM, signal.SIGINT, *([signal.SIGUSR1] if "SLURM_JOB_ID" in os.environ else [])]
    if threading.current_thread() is not threading.main_thread():
        names = []
    before = {name: signal.signal(name, lambda number, _: asked.append(signal.Signals(number))) for name in names}
    try:
        yield asked
    finally:
        for name, handler in before.items():
            signal.signal(name, handler)


def _end(workers: list[Worker[AnyJob]], asked: list[signal.Signals]) -> None:
    """Let processes without a job end, ask the others to save and end, and wait for them; who asks twice waits no longer."""
    for worker in workers:
        if worker.job is None:
            worker.connection.close()
    last = -ASK
    while alive := [worker for worker in workers if worker.process.is_alive()]:
        if len(asked) > 1:
            for worker in alive:
                worker.process.kill()
        elif time.monotonic() - last > ASK:
            last = time.monotonic()
            for worker in alive:
                if worker.job is not None:
                    worker.process.terminate()
        alive[0].process.join(0.2)


def _say_goodbye(number: signal.Signals) -> None:
    """Say in a line what ended the sweep, and end this process."""
    name = "Ctrl-C" if number is signal.SIGINT else number.name
    print(
        f"lam: stopped by {name}. Rows that were training are saved at their last step; the same command goes on from there.",
        file=sys.stderr,
    )
    if number is signal.SIGUSR1:
        requeue()
    raise SystemExit(128 + signal.SIGINT if number is signal.SIGINT else TERMINATED)
