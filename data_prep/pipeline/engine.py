"""Engines: jobs side by side, on the cores of this machine or on a Ray cluster; which one does not change the result."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from multiprocessing.sharedctypes import Synchronized
from typing import Literal

from tqdm import tqdm

from data_prep.pipeline.job import ShardJob


@dataclass(frozen=True)
class Engine:
    """Options of how the work is spread over processes and machines.

    Args:
        jobs: Recordings read side by side on this machine, a process each; 1 works in this process. As many as there are
            cores if not given.
        engine: local, or ray: jobs go to the Ray cluster that RAY_ADDRESS names (or one on this machine), which must see
            the same folders.
        part: For several machines without Ray, such as a SLURM array: which of how many parts to do, for example 3/16. When
            all are done the same command without it writes the index.
    """

    jobs: int | None = None
    engine: Literal["local", "ray"] = "local"
    part: str | None = None

    def __post_init__(self) -> None:
        """Check the values."""
        self.share()
        if self.jobs is not None and self.jobs < 1:
            raise ValueError(f"--jobs is {self.jobs}, expected 1 or more.")

    def share(self) -> tuple[int, int]:
        """Return which part of the work is done here, from 0, and of how many."""
        try:
            part, parts = (int(number) for number in (self.part or "1/1").split("/"))
        except ValueError:
            raise ValueError(f"--part is {self.part!r}, expected like 3/16.") from None
        if not 1 <= part <= parts:
            raise ValueError(f"--part is {self.part!r}, expected 1/{parts} to {parts}/{parts}.")
        return part - 1, parts

    def run(self, jobs: list[ShardJob], title: str) -> None:
        """Do this machine's share of the jobs, with a progress bar.

        Raises:
            OSError: Something cannot be written.
            RuntimeError: A worker process died though it worked alone and on no recording.
        """
        part, parts = self.share()
        mine = [job for number, job in enumerate(jobs) if number % parts == part]
        left = [job for job in mine if not job.is_done]
        with tqdm(total=sum(job.size for job in mine), unit="B", unit_scale=True, desc=title, smoothing=0.05) as bar:
            bar.update(bar.total - sum(job.size for job in left))
            if self.engine == "ray":
                _run_on_ray(left, bar)
            elif self.jobs == 1:
                for job in left:
                    job.run(bar.update)
            elif left:
                _run_on_cores(left, min(self.jobs or cores(), len(left)), bar)


def cores() -> int:
    """Return cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _run_on_cores(jobs: list[ShardJob], workers: int, bar: tqdm) -> None:
    """Do jobs in worker processes; if one dies, those being done are repeated alone, to find out whose fault it was."""
    try:
        for _ in _pool(jobs, workers, bar):
            pass
    except BrokenProcessPool:
        suspects = [job for job in jobs if not job.is_done and job.note.exists() and job.note.read_text()]
        for job in suspects:
            _run_alone(job, bar)
        left = [job for job in jobs if not job.is_done]
        if left:
            _run_on_cores(left, workers, bar)


def _run_alone(job: ShardJob, bar: tqdm) -> None:
    """Do a job in a process of its own, without the recordings that kill it."""
    while not job.is_done:
        try:
            for _ in _pool([job], 1, bar):
                pass
        except BrokenProcessPool as error:
            name = job.note.read_text()
            if not name or name in job.crashing:
                raise RuntimeError(
                    f"A process that prepared {job.out} died and left no trace. Is there memory enough?"
                ) from error
            reason = "reading it killed the process (out of memory, or a fault in a decoder)"
            job = dataclasses.replace(job, crashing={**job.crashing, name: reason})


_done: Synchronized[int]  # bytes done, shared by the workers of a pool; each gets it when it starts


def _pool(jobs: list[ShardJob], workers: int, bar: tqdm) -> Iterator[None]:
    """Do jobs in worker processes."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_prep.pipeline.job", "data_prep.pipeline.segment"])
    counter, seen = context.Value("q", 0), 0
    with ProcessPoolExecutor(workers, context, _start_worker, (counter,)) as pool:
        pending = {pool.submit(_run_job, job) for job in jobs}
        try:
            while pending:
                done, pending = wait(pending, timeout=0.5, return_when=FIRST_COMPLETED)
                bar.update(counter.value - seen)
                seen = counter.value
                for future in done:
                    yield future.result()
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            bar.update(counter.value - seen)


def _start_worker(counter: Synchronized[int]) -> None:
    global _done
    _done = counter
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End this worker when the process that started it is gone, however that ended."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _run_job(job: ShardJob) -> None:
    job.run(_count)


def _count(size: int) -> None:
    with _done.get_lock():
        _done.value += size


def _run_on_ray(jobs: list[ShardJob], bar: tqdm) -> None:
    """Do jobs on a Ray cluster; one whose worker dies is tried again twice by Ray."""
    try:
        import ray
    except ImportError as error:
        raise ValueError("--engine ray needs Ray. Install it with pip install 'lam[ray]', or use --engine local.") from error
    ray.init(ignore_reinit_error=True, log_to_driver=False)
    run: Callable[[ShardJob], None] = _run_quietly
    remote = ray.remote(num_cpus=1, max_retries=2)(run)
    pending = {remote.remote(job): job for job in jobs}
    while pending:
        ready, _ = ray.wait(list(pending), timeout=1.0)
        for reference in ready:
            ray.get(reference)
            bar.update(pending.pop(reference).size)


def _run_quietly(job: ShardJob) -> None:
    job.run(lambda size: None)
