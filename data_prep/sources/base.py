"""Sources: they list recordings and read each as a stream of frames, with what was recorded beside them.

A new source is one file with a ``Source`` in it and one line in ``data_prep.cli``; cutting, resampling, resizing,
aligning of actions, splitting, sharding, resuming and quarantine come with it.
"""

from __future__ import annotations

import hashlib
import io
import math
import struct
import zlib
from abc import ABC, abstractmethod
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import av
import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from data_prep.options import PreparationOptions
from lam.data.schema import ActionField, Aggregation, Split
from lam.io.limits import LimitError, check_picture


@dataclass(frozen=True)
class Recording:
    """One video, or one camera's view of one episode: what is read in one go.

    Attributes:
        name: Its name, unique in the source: a path below the folder, with episode and camera where a file holds several.
        group: What it must not be parted from when sources are split: the file, or the episode that several cameras saw.
        size: How much work it is, in bytes; jobs are cut and progress is counted by it.
        place: Where the source finds it; numbers and texts, for the source alone.
        split: The split it belongs to where the source says so, else it is drawn by its group.
        state: What must not change between two runs (a modification time), so that a resumed run notices.
    """

    name: str
    group: str
    size: int
    place: dict[str, Any] = field(default_factory=dict)
    split: Split | None = None
    state: str = ""


@dataclass(frozen=True)
class Listing:
    """Recordings of a source, and what of it cannot be used.

    Attributes:
        recordings: The recordings, in a fixed order.
        unreadable: Names of files and episodes that cannot be used, and why.
        notes: What else a person should know, a sentence each.
    """

    recordings: list[Recording]
    unreadable: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Stream:
    """Frames of a recording that is being read, with what was recorded beside them.

    Attributes:
        pictures: Time in seconds, increasing from 0, and picture of each frame; read on demand, so that a long recording
            needs no more memory than a short one.
        actions: Recorded actions, (frames - 1, U) float32 or more rows: row i is what was done from frame i to frame i + 1.
        factors: What else was recorded from frame to frame, by name, each (frames - 1, ...) or more rows.
    """

    pictures: Iterator[tuple[float, av.VideoFrame]]
    actions: np.ndarray | None = None
    factors: dict[str, np.ndarray] = field(default_factory=dict)


class Source(ABC):
    """Kind of input; its constructor's arguments are the options of the command line, and it is sent to worker processes.

    Attributes:
        src: The folder or file it reads.
        preparation: How its recordings become samples if nothing else is asked for.
    """

    src: Path
    preparation: ClassVar[PreparationOptions] = PreparationOptions()

    @abstractmethod
    def find(self) -> Listing:
        """Find the recordings, without decoding any picture.

        Raises:
            FileNotFoundError: There is nothing at ``src``, or nothing of this kind.
            ValueError: What is there has another layout than this source reads.
        """

    @abstractmethod
    def open(self, recording: Recording) -> Stream:
        """Open a recording; it is read in one pass and by one process.

        Raises:
            Exception: It cannot be read. The text becomes the reason for leaving it out; so do errors while it is read.
        """

    def action_fields(self) -> list[ActionField]:
        """Return what the actions consist of, known after ``find``; empty where the source has none."""
        return []

    def factor_aggregations(self) -> dict[str, Aggregation]:
        """Return how several steps of a factor become one, if not the sum of continuous and the largest of discrete ones."""
        return {}


@dataclass(frozen=True)
class Clock:
    """Even rate at which frames were taken, where their files do not say.

    Attributes:
        fps: Frames a second.
    """

    fps: float

    def __post_init__(self) -> None:
        """Check the rate."""
        if not 0 < self.fps < math.inf:
            raise ValueError(f"--recorded_fps is {self.fps}, expected above 0.")

    def times(self, count: int) -> list[float]:
        """Return times of so many frames, seconds from the first."""
        return [i / self.fps for i in range(count)]


def find_files(src: Path, endings: Collection[str], kind: str) -> list[Path]:
    """Return files below a folder, by the endings of their names, sorted; or the file itself. Hidden ones are passed over.

    Raises:
        FileNotFoundError: There is no such folder, or no such file in it.
    """
    if not src.exists():
        raise FileNotFoundError(f"No folder or file at {src}.")
    found = [src] if src.is_file() else sorted(file for file in src.rglob("*") if _wanted(file, endings))
    if not found:
        raise FileNotFoundError(f"{src} has no {kind}. Names must end in one of {' '.join(sorted(endings))}.")
    return found


def _wanted(file: Path, endings: Collection[str]) -> bool:
    return file.suffix.lower() in endings and not file.name.startswith(".") and not file.is_dir()


def relative(src: Path, file: Path) -> str:
    """Return the name of a file below the folder it was found in."""
    return file.name if file == src else file.relative_to(src).as_posix()


def file_state(*files: Path) -> str:
    """Return sizes and modification times of files, for ``Recording.state``."""
    return " ".join(f"{file.stat().st_size}@{file.stat().st_mtime_ns}" for file in files)


def sha256(text: str) -> str:
    """Return the hash of a text, in hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()


def array_frames(pictures: np.ndarray) -> Iterator[av.VideoFrame]:
    """Yield video frames of pixels (F, H, W, 3) uint8."""
    for picture in pictures:
        yield av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24")


def image_frame(data: bytes) -> av.VideoFrame:
    """Decode an image file from its bytes (JPEG, PNG, WebP, BMP, GIF ...), upright as the file says.

    Raises:
        ValueError: It cannot be decoded.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:  # reads the header alone
            check_picture("the picture", *image.size)
            return av.VideoFrame.from_ndarray(np.asarray(ImageOps.exif_transpose(image).convert("RGB")), format="rgb24")
    except Image.DecompressionBombError as error:
        raise LimitError(str(error)) from error
    except (UnidentifiedImageError, OSError, SyntaxError, EOFError, struct.error, IndexError, KeyError, zlib.error) as error:
        raise ValueError(f"not a picture, or damaged ({error})") from error
