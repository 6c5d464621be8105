"""Writing files so that a kill at any moment leaves the old file or the new one, whole."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import socket
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

PART = ".part"
"""Ending of files that are being written: ``.<name>.<host>-<process>-<thread>.part`` beside the file itself."""


class AtomicFile:
    """A file being written beside its target, which takes the target's name only when all of it lies on the disk.

    What a killed process left beside the target is removed before. Several processes may write one target at a time: each
    has a file of its own, and the last to finish stays.

    Args:
        path: The target; folders above it are made.

    Attributes:
        path: The target.
        file: What to write to.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_abandoned(path)
        self._part = path.with_name(f".{path.name}.{_writer()}{PART}")
        self.file: BinaryIO = self._part.open("wb")

    def commit(self) -> None:
        """Bring all bytes to the disk and give the file its name."""
        self.file.close()
        with self._part.open("rb") as written:  # a library may have closed what it wrote to
            os.fsync(written.fileno())
        os.replace(self._part, self.path)
        _sync_folder(self.path.parent)

    def discard(self) -> None:
        """Give the file up; the target stays as it was."""
        with contextlib.suppress(OSError):  # a full disk refuses the last bytes too
            self.file.close()
        self._part.unlink(missing_ok=True)


class HashingFile:
    """A file that is written from start to end and hashed on the way.

    Args:
        file: The file.

    Attributes:
        written: Bytes so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._digest = hashlib.sha256()
        self.written = 0

    @property
    def sha256(self) -> str:
        """SHA-256 of the bytes so far, in hexadecimal digits."""
        return self._digest.hexdigest()

    def write(self, data: bytes) -> int:
        """Append bytes and return how many they are."""
        self._digest.update(data)
        count = self._file.write(data)
        self.written += count
        return count

    def tell(self) -> int:
        """Return the number of bytes so far."""
        return self.written

    def flush(self) -> None:
        """Hand what is written to the operating system."""
        self._file.flush()


@contextlib.contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file that appears under its name when the block ends, and not at all where it raises."""
    file = AtomicFile(path)
    try:
        yield file.file
        file.commit()
    except BaseException:
        file.discard()
        raise


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file whole or not at all."""
    with atomic_file(path) as file:
        file.write(content)


def write_text(path: Path, content: str) -> None:
    """Write text in UTF-8 whole or not at all."""
    write_bytes(path, content.encode())


def write_json(path: Path, content: object, indent: int | None = 2, sort_keys: bool = True) -> None:
    """Write JSON whole or not at all.

    Args:
        path: The file.
        content: What JSON can say.
        indent: Spaces of a level; None writes one line.
        sort_keys: Whether keys are sorted.
    """
    write_text(path, json.dumps(content, indent=indent, sort_keys=sort_keys) + "\n")


def hash_file(path: Path) -> str:
    """Compute the SHA-256 of a file, in hexadecimal digits."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def remove_abandoned(path: Path) -> None:
    """Remove what processes of this host that have ended were writing in the place of a file."""
    for part in _parts(path):
        host, _, rest = part.name[len(path.name) + 2 : -len(PART)].rpartition("-")[0].rpartition("-")
        if host == socket.gethostname() and not _is_alive(int(rest)):
            part.unlink(missing_ok=True)


def _parts(path: Path) -> Iterable[Path]:
    """Return what is being written in the place of a file."""
    start = f".{path.name}."
    with os.scandir(path.parent) as entries:
        return [path.with_name(entry.name) for entry in entries if entry.name.startswith(start) and entry.name.endswith(PART)]


def _writer() -> str:
    """Return a name of this thread that no other one on any host has."""
    return f"{socket.gethostname()}-{os.getpid()}-{threading.get_native_id()}"


def _is_alive(process: int) -> bool:
    """Whether a process of this host is running; one that has this process's number is this process."""
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _sync_folder(folder: Path) -> None:
    """Bring the names in a folder to the disk, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with contextlib.suppress(OSError):  # some network file systems refuse it and need it not
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
