"""Storage of the files of a set: a local folder, or a URL read through WebDataset or fsspec into a local cache.

Files in the cache are named by the hash of their bytes, so a set that has changed is never mistaken for the old one, and
several sets, runs and processes share one cache. A file that is deleted while it is mapped into memory stays readable.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import shlex
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO, TypeVar
from urllib.parse import urlsplit

import fsspec
from filelock import FileLock
from typing_extensions import override

from lam.io.limits import MAX_TABLE_BYTES, LimitError, check_limit, open_file
from lam.io.trust import UntrustedError, check_pipe

T = TypeVar("T")

RETRY_DELAYS = (1.0, 4.0, 16.0)
"""Seconds before reading again what could not be read."""
_CHUNK = 2**20
_CACHED = re.compile(r"[0-9a-f]{64}|\.[0-9a-f]{64}\.part")


class ChangedFileError(ValueError):
    """Raised for a file that is not what was written."""


class Files(ABC):
    """The files of a set of shards; it is sent to worker processes."""

    @abstractmethod
    def open(self, name: str, sha256: str, size: int | None) -> BinaryIO:
        """Open a file for reading.

        Args:
            name: Path below the set.
            sha256: Hash of its bytes.
            size: Number of bytes, None where it is not known.

        Raises:
            FileNotFoundError: There is none.
            ChangedFileError: It is not what was written; a local file is checked where it is read.
            OSError: It cannot be fetched.
        """


class LocalFiles(Files):
    """The files of a set in a folder, read where they are.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @override
    def open(self, name: str, sha256: str, size: int | None) -> BinaryIO:
        check_name(str(self._folder), name)
        return open_file(self._folder / name)


class Cache:
    """A folder of files named by the hash of their bytes; those used longest ago make room for new ones.

    Args:
        folder: The folder; made if missing.
        gib: How much it may hold, GiB. Files that are being read count no more once they are deleted.
    """

    def __init__(self, folder: Path, gib: float) -> None:
        self._folder, self._gib = folder, gib
        folder.mkdir(parents=True, exist_ok=True)

    def open(self, sha256: str, size: int | None, write: Callable[[BinaryIO], None]) -> BinaryIO:
        """Open a file, which is made if it is not there.

        Args:
            sha256: Hash of its bytes.
            size: Number of bytes, None where it is not known.
            write: Writes its bytes, and raises where they are not right.
        """
        if not is_hash(sha256):  # it becomes the name of a file
            raise ValueError(f"{sha256!r} is not the SHA-256 of a file.")
        path = self._folder / sha256
        with contextlib.suppress(FileNotFoundError):
            return _mark_used(path.open("rb"))
        with FileLock(self._folder / f".lock-{sha256[:2]}"):  # a process at a time, of any that share the folder
            with contextlib.suppress(FileNotFoundError):
                return _mark_used(path.open("rb"))
            part = self._folder / f".{sha256}.part"
            try:
                with part.open("wb") as file:
                    self._make_room(part, size or 0)
                    write(file)
                opened = part.open("rb")  # before another process may evict it
                part.replace(path)
            except BaseException:
                part.unlink()
                raise
            return opened

    def _make_room(self, mine: Path, size: int) -> None:
        """Delete the files used longest ago, and what killed processes left, until so many bytes fit."""
        limit = int(self._gib * 2**30)
        if size > limit:
            raise ValueError(f"data.cache_gib {self._gib} does not hold a shard of {size} bytes. Raise it.")
        with FileLock(self._folder / ".lock"):
            found = []
            for entry in os.scandir(self._folder):
                with contextlib.suppress(FileNotFoundError):
                    if _CACHED.fullmatch(entry.name) and entry.name != mine.name:  # nobody else's files are touched
                        found.append((entry.stat().st_mtime, entry.stat().st_size, entry))
            os.truncate(mine, size)  # others count it from now on
            held = sum(each for _, each, _ in found) + size
            for used, each, entry in sorted(found, key=lambda item: item[0]):
                abandoned = entry.name.endswith(".part") and used < time.time() - 3600
                if abandoned or (held > limit and not entry.name.endswith(".part")):
                    Path(entry.path).unlink(missing_ok=True)
                    held -= each


class RemoteFiles(Files):
    """The files of a set behind a URL.

    Args:
        url: Address of the folder, or ``pipe:command {name}``.
        cache: Where copies are kept.
    """

    def __init__(self, url: str, cache: Cache) -> None:
        self._url, self._cache = url, cache

    @override
    def open(self, name: str, sha256: str, size: int | None) -> BinaryIO:
        return self._cache.open(
            sha256, size, lambda file: _retry(self._url, name, lambda: self._fetch(name, sha256, size, file))
        )

    def _fetch(self, name: str, sha256: str, size: int | None, file: BinaryIO) -> None:
        file.seek(0)
        file.truncate()
        digest, most = hashlib.sha256(), MAX_TABLE_BYTES if size is None else size
        with contextlib.closing(open_url(self._url, name)) as source:
            while file.tell() <= most and (chunk := source.read(_CHUNK)):  # what never ends would fill the disk
                digest.update(chunk)
                file.write(chunk)
        file.flush()
        if digest.hexdigest() != sha256:
            raise ChangedFileError(f"the {file.tell()} bytes of {self._url}: {name} are not those that were written")


def check_name(place: str, name: str) -> None:
    """Refuse the name of a file that may lie outside its set, or mean something to a shell.

    Raises:
        ValueError: It may.
    """
    if not re.fullmatch(r"\w[\w./-]*", name, re.ASCII) or ".." in name:
        raise ValueError(f"{place} names a file {name[:200]!r}, expected letters, digits, '_', '-', '/' and '.', and no '..'.")


def is_hash(text: object) -> bool:
    """Tell whether a value is a SHA-256 in hexadecimal digits."""
    return isinstance(text, str) and re.fullmatch(r"[0-9a-f]{64}", text) is not None


def is_url(place: str) -> bool:
    """Whether a place is a URL, or a command to read from, and no local folder."""
    return "://" in place or place.startswith("pipe:")


def read_url(url: str, name: str) -> bytes:
    """Read all bytes of a small file of a set behind a URL."""

    def read() -> bytes:
        with contextlib.closing(open_url(url, name)) as source:
            data = source.read(MAX_TABLE_BYTES + 1)
        check_limit(f"the size of {name} in bytes", len(data), "MAX_TABLE_BYTES")
        return data

    return _retry(url, name, read)


def open_url(url: str, name: str) -> BinaryIO:
    """Open a file of a set behind a URL.

    Raises:
        UntrustedError: It would run a command that nobody has said to be trusted.
        ValueError: The name is not one of a file below the set.
    """
    from webdataset.gopen import gopen  # imports torch, and reports read local indices without it

    check_name(url, name)
    if url.startswith("pipe:"):
        check_pipe(url)
        file: BinaryIO = gopen(url.replace("{name}", shlex.quote(name)))
        return file
    place = f"{url.rstrip('/')}/{name}"
    file = gopen(place) if urlsplit(url).scheme in ("http", "https", "file") else fsspec.open(place, "rb").open()
    return file


def _retry(url: str, name: str, action: Callable[[], T]) -> T:
    """Return what an action returns, tried a few times with growing delays.

    Raises:
        OSError: The last one failed too.
        ChangedFileError: The file that came the last time is not what was written.
    """
    for delay in RETRY_DELAYS:
        try:
            return action()
        except (LimitError, UntrustedError):
            raise
        except Exception:
            time.sleep(delay)
    try:
        return action()
    except (ChangedFileError, LimitError, UntrustedError):
        raise
    except Exception as error:  # every file system of fsspec has errors of its own
        raise OSError(
            f"{url}: {name} could not be read in {len(RETRY_DELAYS) + 1} attempts ({error}). Check the address and the network."
        ) from error


def _mark_used(file: BinaryIO) -> BinaryIO:
    """Note that an opened file is used now, and return it."""
    os.utime(file.fileno())
    return file
