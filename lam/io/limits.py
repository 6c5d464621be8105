"""Limits on what files may ask for, so that a few damaged or hostile bytes cannot take all memory or run for ever.

They lie far above what data sets and models need; what exceeds them is refused like any other damage, with the limit named.
SECURITY.md says what they are for.
"""

from __future__ import annotations

import math
import os
import stat
from pathlib import Path
from typing import BinaryIO

MAX_SIDE = 16_384
"""Pixels of a side of a picture or a frame of video; 8K video has 7680."""
MAX_PIXELS = 2**26
"""Pixels of a picture or a frame, 67 million; 8K video has 33 million."""
MAX_FRAME_NUMBERS = 2**27
"""Numbers of a stored frame: pixels times 3, or tokens times their width."""
MAX_BATCH_BYTES = 64 * 2**30
"""Bytes of the frames of one batch of one process, 64 GiB."""
MAX_FPS = 1_000_000.0
"""Frames a second."""
MAX_SHARDS = 10_000_000
"""Shards of a set."""
MAX_INDEX_BYTES = 256 * 2**20
"""Bytes of index.json; a hundred thousand times what it has."""
MAX_TABLE_BYTES = 4 * 2**30
"""Bytes of a Parquet table, as it is and unpacked."""
MAX_ARRAY_BYTES = 2**30
"""Bytes of an array that is stored beside video (actions, ground-truth factors), unpacked."""
MAX_EPISODE_BYTES = 32 * 2**30
"""Bytes of the pictures of one episode in a file of arrays, which are in memory together, unpacked."""
MAX_SETTINGS_BYTES = 2**20
"""Bytes of a file of settings."""
MAX_SETTINGS_VALUES = 100_000
"""Values in a file of settings, each alias counted as what it stands for."""
MAX_SETTINGS_DEPTH = 100
"""How deep values of settings or of an index lie in each other."""


class LimitError(ValueError):
    """Raised for what asks for more than a limit allows."""


def check_limit(what: str, value: float, name: str) -> None:
    """Refuse a value above a limit of this module.

    Args:
        what: What has the value, for the message.
        value: The value; also what is no number is refused.
        name: Name of the limit.

    Raises:
        LimitError: It is above.
    """
    limit = globals()[name]
    if not value <= limit:
        raise LimitError(f"{what} is {value:,}, more than lam.io.limits.{name} allows ({limit:,}).")


def check_picture(what: str, width: int, height: int) -> None:
    """Refuse a picture or a frame that would take too much memory before it is decoded.

    Raises:
        LimitError: It is too large, or empty.
    """
    if width < 1 or height < 1:
        raise LimitError(f"{what} has {width} x {height} pixels.")
    check_limit(f"a side of {what}, {width} x {height} pixels,", max(width, height), "MAX_SIDE")
    check_limit(f"{what}, {width} x {height} pixels,", width * height, "MAX_PIXELS")


def check_values(what: str, value: object) -> None:
    """Refuse parsed settings that are too many or too deep, as a few lines of YAML with aliases can stand for billions.

    Raises:
        LimitError: They are.
    """
    todo: list[tuple[object, int]] = [(value, 0)]
    count = 0
    while todo:
        one, depth = todo.pop()
        count += 1
        check_limit(f"the depth of {what}", depth, "MAX_SETTINGS_DEPTH")
        check_limit(f"the number of values in {what}", count + len(todo), "MAX_SETTINGS_VALUES")
        if isinstance(one, dict):
            todo += [(item, depth + 1) for item in one.values()]
        elif isinstance(one, list | tuple):
            todo += [(item, depth + 1) for item in one]


def is_finite(value: object) -> bool:
    """Tell whether a value is a finite number, and not a truth value."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def open_file(path: Path) -> BinaryIO:
    """Open an ordinary file for reading; a pipe or a device in its place would make readers wait for ever.

    Raises:
        FileNotFoundError: There is none.
        OSError: It is no ordinary file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)  # a pipe without a writer does not block so
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        raise OSError(f"{path} is no ordinary file.")
    return os.fdopen(descriptor, "rb")


def read_file(path: Path, limit: str) -> bytes:
    """Return the bytes of an ordinary file of a limited size.

    Args:
        path: The file.
        limit: Name of the limit.

    Raises:
        FileNotFoundError: There is none.
        OSError: It is no ordinary file.
        LimitError: It is too large.
    """
    with open_file(path) as file:
        check_limit(f"the size of {path} in bytes", os.fstat(file.fileno()).st_size, limit)
        return file.read()
