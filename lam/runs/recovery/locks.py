"""Locks of runs: one process at a time makes a run, of all hosts that share its folder."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

from filelock import SoftFileLease, Timeout

LEASE = 60.0
"""Seconds without a sign of life after which a process of another host loses its locks; one of this host does when it ends."""

_held: set[tuple[int, Path]] = set()


class RunTakenError(FileExistsError):
    """Raised for a run that another process is making.

    Args:
        folder: The run's folder.
        owner: Who makes it, in words.
    """

    def __init__(self, folder: Path, owner: str) -> None:
        super().__init__(f"{folder} is being made by {owner}. Wait for it or end it; what it has saved is gone on from.")
        self.folder = folder
        self.owner = owner


@contextlib.contextmanager
def lock_run(folder: Path, patience: float = 0.0) -> Iterator[None]:
    """Hold a run for the time of a block; blocks of one process may lie in each other.

    The lock is ``.<name>.lock`` beside the folder, which may be moved meanwhile. A process that was killed holds nothing. One
    that finds its lock gone, after a silence so long that another host took it over, ends at once.

    Args:
        folder: The run's folder; those above it are made.
        patience: Seconds to wait for a sign of life of a holder on another host, which may have died with its host.

    Raises:
        RunTakenError: Another process makes the run.
    """
    mine = (os.getpid(), folder.resolve())
    if mine in _held:
        yield
        return
    folder.parent.mkdir(parents=True, exist_ok=True)
    lease = _lease(folder)
    try:
        lease.acquire(timeout=0)
    except Timeout:
        owner = lease.owner
        if owner is None or owner.hostname == socket.gethostname() or not patience:  # in a container names have an ending
            raise RunTakenError(folder, _words(lease)) from None
        print(f"lam: {folder} is held by {_words(lease)}; {patience:.0f} s will show whether it lives.", file=sys.stderr)
        try:
            lease.acquire(timeout=patience)
        except Timeout:
            raise RunTakenError(folder, _words(lease)) from None
    _held.add(mine)
    try:
        yield
    finally:
        _held.discard(mine)
        lease.release()


class Watch:
    """A look now and then at whether a run is free.

    Args:
        folder: The run's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._lease = _lease(folder)  # it remembers how long a holder on another host has been silent

    def is_free(self) -> bool:
        """Tell whether nobody makes the run now."""
        try:
            self._lease.acquire(timeout=0)
        except Timeout:
            return False
        except FileNotFoundError:  # the folder above it is gone
            return True
        self._lease.release()
        return True


def check_free(folder: Path) -> None:
    """Look whether anybody makes a run.

    Raises:
        RunTakenError: Another process does.
    """
    if (folder.with_name(f".{folder.name}.lock")).exists():
        with lock_run(folder):
            pass


def _lease(folder: Path) -> SoftFileLease:
    lock = folder.with_name(f".{folder.name}.lock")
    return SoftFileLease(lock, lease_duration=LEASE, thread_local=False, on_compromise=lambda _: _end(folder))


def _words(lease: SoftFileLease) -> str:
    """Say who holds a lock."""
    owner = lease.owner
    return f"process {owner.pid} on {owner.hostname.partition('?')[0]}" if owner else "another process"


def _end(folder: Path) -> None:
    """End this process, which another one may take for dead."""
    print(
        f"\nlam: error: the lock of {folder} is gone: another process may be making it. This one ends before both write to it; "
        "what it has saved stays.",
        file=sys.stderr,
        flush=True,
    )
    os._exit(1)
