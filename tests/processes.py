"""Run a function in several gloo processes and collect the results."""

from __future__ import annotations

import multiprocessing
import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from lightning.pytorch.utilities import rank_zero_only
from torch.multiprocessing.spawn import start_processes

# a server that has imported what is slow to import forks the processes of all tests
multiprocessing.set_forkserver_preload(["lam.runs.cli", "scipy.stats"])


def run_processes(function: Callable[..., Any], *args: Any, folder: Path, count: int = 2, timeout: float = 60) -> list[Any]:
    """Return the results of ``function(*args)`` in ``count`` processes of one gloo group; a hang becomes an error."""
    port = free_port()
    context = start_processes(
        _worker, (count, port, folder, function, args), nprocs=count, join=False, start_method="forkserver"
    )
    try:
        deadline = time.monotonic() + timeout
        while not context.join(timeout=1):  # true once all have ended; raises what a process raised
            if time.monotonic() > deadline:
                raise TimeoutError(f"{function.__name__} still ran after {timeout} s in {count} processes: a hang.")
    finally:
        for process in context.processes:
            process.kill()
    return [torch.load(folder / f"result-{rank}.pt", weights_only=False) for rank in range(count)]


def free_port() -> int:
    """Return a port of this host that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _worker(rank: int, count: int, port: int, folder: Path, function: Callable[..., Any], args: tuple[Any, ...]) -> None:
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port), RANK=str(rank), WORLD_SIZE=str(count))
    # Lightning reads RANK when it is imported, which the server has done before there was one
    rank_zero_only.rank = rank  # type: ignore[attr-defined]  # Lightning sets it undeclared
    dist.init_process_group("gloo", rank=rank, world_size=count)
    result = function(*args)
    torch.save(result, folder / f"result-{rank}.pt")
    dist.barrier()
    dist.destroy_process_group()
