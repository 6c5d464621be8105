"""Heartbeats: which process of a training is stopped or dead, said within a minute instead of after a hang of half an hour."""

from __future__ import annotations

import socket
import sys
import threading
import time
from typing import Any

import lightning.pytorch as pl
import torch.distributed as dist
from typing_extensions import override

from lam.distributed import gather_objects, rank, world_size

BEAT = 3.0
"""Seconds between two signs of life."""
SILENCE = 30.0
"""Seconds without one after which a process is named."""
AFTER_AN_ERROR = 4 * BEAT
"""Seconds of silence that are enough once communication has failed."""


class Heartbeat(pl.Callback):
    """Names a process that gives no sign of life while several train together.

    Each process counts in the store that they met at, from a thread of its own, whatever its step waits for. The lowest
    process that lives says which others do not; where the store does not answer, all say so, as it lies with process 0 or
    with what launched it. A process that was only stopped may go on; nobody is ended.

    Args:
        silence: Seconds without a sign of life after which a process is named.
    """

    def __init__(self, silence: float = SILENCE) -> None:
        self.silence = silence
        self._ended: threading.Event | None = None
        self._seen: dict[int, tuple[bytes, float]] = {}
        self._hosts: list[str] = []
        self._named: set[int] = set()
        self._answered = 0.0

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        if world_size() == 1:
            return
        self._end()
        shared: Any = dist.distributed_c10d._get_default_store()
        store = shared.clone()  # a connection of its own, as the other's may be held by whoever waits
        store.set(_key(rank()), "0")
        self._hosts = gather_objects(socket.gethostname())
        self._answered = time.monotonic()
        self._seen = {other: (b"", self._answered) for other in range(world_size()) if other != rank()}
        self._named.clear()
        self._ended = threading.Event()
        for name, run in (("heartbeat", self._beat), ("heartbeat watch", self._watch)):  # a store may keep its caller waiting
            threading.Thread(target=run, args=(self._ended, store), name=name, daemon=True).start()

    @override
    def teardown(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        self._end()

    @override
    def on_exception(self, trainer: pl.Trainer, pl_module: pl.LightningModule, exception: BaseException) -> None:
        """Say whose end a failed communication was, which its own message does not."""
        if self._ended is not None and isinstance(exception, RuntimeError):
            self.silence = min(self.silence, AFTER_AN_ERROR)
            deadline = time.monotonic() + self.silence + 2 * BEAT
            while not self._named and time.monotonic() < deadline:
                time.sleep(0.1)
        self._end()

    def _end(self) -> None:
        if self._ended is not None:
            self._ended.set()

    def _beat(self, ended: threading.Event, store: Any) -> None:
        """Give signs of life and note those of others."""
        beats, others = 0, sorted(self._seen)
        while not ended.wait(BEAT):
            beats += 1
            try:
                store.set(_key(rank()), str(beats))
                found = store.multi_get([_key(other) for other in others])
            except RuntimeError:  # whoever holds the store is gone
                continue
            self._answered = time.monotonic()
            for other, value in zip(others, found, strict=True):
                if value != self._seen[other][0]:
                    self._seen[other] = value, self._answered
                    self._named.discard(other)

    def _watch(self, ended: threading.Event, store: Any) -> None:
        """Name those that are silent, each once."""
        while not ended.wait(BEAT / 3):
            now = time.monotonic()
            if now - self._answered > self.silence:  # nobody can be heard
                self._say(0, now - self._answered, "it or what launched it")
                continue
            silent = [other for other, (_, since) in self._seen.items() if now - since > self.silence]
            if not any(other < rank() and other not in silent for other in self._seen):
                for other in silent:
                    self._say(other, now - self._seen[other][1], "it")

    def _say(self, other: int, seconds: float, what: str) -> None:
        if other in self._named or other == rank():
            return
        print(
            f"\nlam: warning: process {other} of 0 to {len(self._seen)} on {self._hosts[other]} has given no sign of life for "
            f"{seconds:.0f} s: {what} is stopped or dead, and the others wait. Continue it, or end all and go on from the last "
            "checkpoint.",
            file=sys.stderr,
            flush=True,
        )
        self._named.add(other)


def _key(number: int) -> str:
    return f"lam/heartbeat/{number}"
