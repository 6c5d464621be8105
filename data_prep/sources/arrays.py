"""Arrays: pictures and actions in .npz files, read an episode at a time and brought to one layout."""

from __future__ import annotations

import functools
import math
import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from lam.io.limits import check_limit


@dataclass(frozen=True)
class ArrayHeader:
    """Shape and type of an array, without its numbers.

    Attributes:
        shape: Its shape.
        dtype: Its type.
        fortran: Whether its first axis is the fastest in the file.
    """

    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool = False


def read_headers(path: Path) -> dict[str, ArrayHeader]:
    """Read the headers of a file's arrays by name, without their numbers.

    Raises:
        ValueError: It is not an npz file, or damaged.
    """
    try:
        with zipfile.ZipFile(path) as file:
            headers = {}
            for name in file.namelist():
                if name.endswith(".npy"):
                    with file.open(name) as member:
                        headers[name.removesuffix(".npy")] = _read_header(member)
            return headers
    except Exception as error:  # damage comes as any kind of error: of zip, of zlib, of numpy's parser
        raise _corruption_error(error) from error


def read_array(path: Path, name: str, episode: int | None) -> np.ndarray:
    """Read one episode of an array, or all of an array that has no axis for episodes.

    What comes before the episode is read and passed over, so that memory holds no more than an episode; but arrays in Fortran
    order are read whole.

    Raises:
        ValueError: It is damaged.
    """
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as member:
            header = _read_header(member)
            numbers = math.prod(header.shape if header.fortran or episode is None else header.shape[1:])
            check_limit("an episode in bytes", numbers * header.dtype.itemsize, "MAX_EPISODE_BYTES")
            if header.fortran:
                member.seek(0)
                whole = np.lib.format.read_array(member, allow_pickle=False)
                return whole if episode is None else whole[episode]
            shape = header.shape if episode is None else header.shape[1:]
            size = math.prod(shape) * header.dtype.itemsize
            member.seek(size * (episode or 0), os.SEEK_CUR)
            return np.frombuffer(member.read(size), header.dtype).reshape(shape)  # at the end zipfile compares the CRC-32
    except Exception as error:
        raise _corruption_error(error) from error


@functools.cache
def find_corruption(path: Path, name: str, state: str) -> str | None:
    """Return why an array is corrupt, or None; it is read to its end once a process, as reading an episode checks nothing.

    Args:
        path: The file.
        name: The array.
        state: Size and modification time of the file, so that a changed one is read again.
    """
    try:
        with zipfile.ZipFile(path) as file, file.open(f"{name}.npy") as member:
            while member.read(2**20):
                pass
    except Exception as error:
        return str(_corruption_error(error))
    return None


def _read_header(member: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(member)
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(member)
    return ArrayHeader(shape, dtype, fortran)


def _corruption_error(error: Exception) -> ValueError:
    return ValueError(f"damaged or not an npz file ({str(error).strip() or type(error).__name__})")


def check_images(name: str, header: ArrayHeader) -> tuple[int, ...]:
    """Return axes before those of a picture: (T,), or (E, T) where there is an axis for episodes.

    Raises:
        ValueError: Pictures cannot have this type or shape.
    """
    if not np.issubdtype(header.dtype, np.integer):
        raise ValueError(
            f"array {name!r} is {header.dtype}, expected uint8 or integers 0 to 255; convert it, "
            "since which numbers stand for black and white is not known"
        )
    shape = header.shape
    if len(shape) not in (4, 5) or not math.prod(shape) or not (shape[-1] == 3 or _stacked(*shape[-3:])):
        raise ValueError(f"array {name!r} is {shape}, expected (T, H, W, 3), (E, T, H, W, 3) or (T, 3k, H, W)")
    return shape[:-3]


def as_images(name: str, array: np.ndarray) -> np.ndarray:
    """Return pixels (..., H, W, 3) uint8 of an array that ``check_images`` let pass; of stacked frames the last, the newest.

    Raises:
        ValueError: Numbers are not those of pixels.
    """
    if _stacked(*array.shape[-3:]):
        array = np.moveaxis(array[..., -3:, :, :], -3, -1)
    if array.dtype != np.uint8 and (array.min() < 0 or array.max() > 255):
        raise ValueError(f"array {name!r} goes from {array.min()} to {array.max()}, expected 0 to 255")
    return array.astype(np.uint8, copy=False)


def _stacked(channels: int, height: int, width: int) -> bool:
    """Return whether the last axes are those of stacked frames; other pictures are seldom narrower than they have channels."""
    return width != 3 and channels % 3 == 0 and channels < min(height, width)


def check_rows(name: str, header: ArrayHeader, leading: tuple[int, ...]) -> int:
    """Return numbers U of an action, given the axes before those of a picture.

    Raises:
        ValueError: The array has another type, or no row for each frame.
    """
    if header.dtype.kind not in "fiub":
        raise ValueError(f"array {name!r} is {header.dtype}, expected numbers")
    axes, shape = len(leading), header.shape
    if shape[:axes] != leading or len(shape) > axes + 1 or not math.prod(shape):
        wanted = ", ".join(map(str, leading))
        raise ValueError(f"array {name!r} is {shape}, expected ({wanted}, U), a row of U numbers for each frame")
    return math.prod(shape[axes:])


def between_frames(rows: np.ndarray, shift: bool) -> np.ndarray:
    """Return actions (T-1, U) between frames, of a row for each of T frames.

    Args:
        rows: A row, or a number, for each frame.
        shift: Whether a row led to its frame; else it is what was done after it.
    """
    rows = rows.reshape(len(rows), -1)
    return rows[1:] if shift else rows[:-1]
