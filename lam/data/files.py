"""Where the files of a set are; here, in a local folder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import BinaryIO


class ChangedFileError(ValueError):
    """A file is not what was written."""


class Files(ABC):
    """The files of a set of shards; it is sent to worker processes."""

    @abstractmethod
    def open(self, name: str, sha256: str, size: int | None) -> BinaryIO:
        """Opens a file for reading.

        Args:
            name: Path below the set.
            sha256: Hash of its bytes.
            size: Number of bytes, None where it is not known.

        Raises:
            FileNotFoundError: There is none.
            ChangedFileError: It is not what was written; a local file is checked where it is read.
        """


class LocalFiles(Files):
    """A folder, read where it is.

    Args:
        folder: The folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def open(self, name: str, sha256: str, size: int | None) -> BinaryIO:
        """Opens a file for reading."""
        return (self._folder / name).open("rb")
