"""Image files: pictures on disk that are the frames of a recording."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import av

from data_prep.sources.base import image_frame

ENDINGS = {".jpg", ".jpeg", ".png", ".webp", ".bmp"}


@dataclass(frozen=True)
class ImageFolder:
    """The images in one folder, not those below it.

    Attributes:
        files: The images in the natural order of their names; hidden ones are passed over.
        size: Bytes of all.
        state: What changes when one is added, removed or written: their number and the newest modification time.
    """

    files: list[Path]
    size: int
    state: str

    @classmethod
    def scan(cls, folder: Path) -> ImageFolder:
        """List a folder."""
        with os.scandir(folder) as entries:
            found = {
                entry.name: entry.stat()
                for entry in entries
                if os.path.splitext(entry.name)[1].lower() in ENDINGS and not entry.name.startswith(".") and entry.is_file()
            }
        newest = max((stat.st_mtime_ns for stat in found.values()), default=0)
        return cls(
            files=[folder / name for name in sorted(found, key=natural_order)],
            size=sum(stat.st_size for stat in found.values()),
            state=f"{len(found)}@{newest}",
        )


def natural_order(name: str) -> tuple[list[str | int], str]:
    """Return the key that sorts names with their numbers as numbers: img2 before img10."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if i % 2 else part for i, part in enumerate(parts)], name


def read_images(files: Sequence[Path], times: Sequence[float]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield times and pictures of image files, read one at a time.

    Raises:
        ValueError: One cannot be decoded, or has another size than the first.
    """
    return decode_images(((file.name, file.read_bytes()) for file in files), times)


def decode_images(images: Iterable[tuple[str, bytes]], times: Sequence[float]) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield times and pictures of images, given their names and bytes, decoded one at a time.

    Raises:
        ValueError: One cannot be decoded, or has another size than the first.
    """
    size: tuple[int, int] | None = None
    for time, (name, data) in zip(times, images, strict=True):
        try:
            frame = image_frame(data)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from error
        size = size or (frame.width, frame.height)
        if (frame.width, frame.height) != size:
            raise ValueError(
                f"{name} is {frame.width} x {frame.height}, those before {size[0]} x {size[1]}; a recording has one size"
            )
        yield time, frame
