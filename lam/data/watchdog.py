"""The watchdog: says which process waits for data, and which one for the others, while a run seems to hang."""

from __future__ import annotations

import logging
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

_log = logging.getLogger(__name__)  # without settings, Python prints warnings to stderr


@dataclass(frozen=True)
class _State:
    """Activity of a process.

    Attributes:
        waiting: Whether it waits for data; else it has received them.
        describe: Says which data.
        since: When it began, s.
    """

    waiting: bool
    describe: Callable[[], str]
    since: float


class Watchdog:
    """Reports once that this process has waited long for data, or has had them long without asking for more.

    Args:
        num_processes: Number of processes.
        rank: Which of them this is.
        data_seconds: How long data may take.
        step_seconds: How long a step may take; other processes that are late make it long too.
    """

    def __init__(self, num_processes: int, rank: int, data_seconds: float = 60.0, step_seconds: float = 300.0) -> None:
        self._name = f"Process {rank} of 0 to {num_processes - 1} on {socket.gethostname()}"
        self._limits = {True: data_seconds, False: step_seconds}
        self._state: _State | None = None
        self._watching = 0
        self._ended = threading.Event()

    def begin_wait(self, describe: Callable[[], str]) -> None:
        """Note that data are being waited for."""
        self._state = _State(True, describe, time.monotonic())

    def begin_step(self, describe: Callable[[], str]) -> None:
        """Note that data have been handed over."""
        self._state = _State(False, describe, time.monotonic())

    def pause(self) -> None:
        """Note that data are neither waited for nor used."""
        self._state = None

    @contextmanager
    def watch(self) -> Iterator[None]:
        """Watch as long as this is open; validation is watched within training."""
        self._watching += 1
        if self._watching == 1:
            self._ended = threading.Event()
            threading.Thread(target=self._run, args=(self._ended,), name="data watchdog", daemon=True).start()
        try:
            yield
        finally:
            self._watching -= 1
            if not self._watching:
                self._ended.set()
                self.pause()

    def _run(self, ended: threading.Event) -> None:
        reported: _State | None = None
        while not ended.wait(min(self._limits.values()) / 10):
            state = self._state
            if state is not None and state is not reported and time.monotonic() - state.since > self._limits[state.waiting]:
                _log.warning(self._message(state))
                reported = state

    def _message(self, state: _State) -> str:
        seconds = f"{time.monotonic() - state.since:.0f} s"
        if state.waiting:
            return f"{self._name} has waited {seconds} for data: {state.describe()}. Other processes wait for it."
        return (
            f"{self._name} has had its data for {seconds} and asks for no more: {state.describe()}. Its step is long, or it "
            "waits for another process; look for one that reports that it waits for data."
        )
