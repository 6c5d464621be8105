"""Arrays: the pictures and actions of an .npz file, brought to one layout."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np


@dataclass(frozen=True)
class Recording:
    """E episodes of T frames, seen by one or several cameras.

    Attributes:
        views: Pixels of each camera, (E, T, H, W, 3) uint8; H and W may differ between cameras.
        actions: Actions between frames, (E, T-1, U) float32, where asked for.
        single: Whether the file is one episode, its arrays without an axis for episodes.
    """

    views: list[np.ndarray]
    actions: np.ndarray | None
    single: bool

    def episodes(self, file: str) -> Iterator[tuple[str, list[np.ndarray], np.ndarray | None]]:
        """Name, views (T, H, W, 3) and actions (T-1, U) of each episode; it is named by its file, and its number if need be."""
        for i in range(len(self.views[0])):
            actions = None if self.actions is None else self.actions[i]
            yield file if self.single else f"{file}/{i:05d}", [view[i] for view in self.views], actions


@dataclass(frozen=True)
class Layout:
    """Which arrays of a file are what.

    Attributes:
        frames: Names of the arrays of pictures, one a camera.
        actions: Name of the array of actions, None to leave them.
        shift: Whether a row of actions led to its frame; else it is what was done after it.
    """

    frames: list[str]
    actions: str | None
    shift: bool

    def read(self, path: Path) -> Recording:
        """Reads a file.

        Raises:
            ValueError: It cannot be read or does not fit; the text is the reason.
        """
        arrays = _load(path, [*self.frames, *([self.actions] if self.actions else [])])
        views = [as_pictures(name, arrays[name]) for name in self.frames]
        first = arrays[self.frames[0]]
        leading = first.shape[:-3]
        for name in self.frames:
            if arrays[name].shape[:-3] != leading:
                raise ValueError(
                    f"array {name!r} is {arrays[name].shape} and {self.frames[0]!r} is {first.shape}, "
                    "expected the same episodes and frames"
                )
        actions = between_frames(self.actions, arrays[self.actions], leading, self.shift) if self.actions else None
        return Recording(views, actions, single=len(leading) == 1)


def as_pictures(name: str, array: np.ndarray) -> np.ndarray:
    """Pixels (E, T, H, W, 3) uint8 of an array of pictures; E is 1 where it has no axis for episodes.

    Raises:
        ValueError: It has another type or shape.
    """
    if not np.issubdtype(array.dtype, np.integer):
        raise ValueError(
            f"array {name!r} is {array.dtype}, expected uint8 or integers 0 to 255; convert it, "
            "since which numbers stand for black and white is not known"
        )
    fits = array.ndim in (4, 5) and array.size > 0
    if fits and _stacked(*array.shape[-3:]):
        array = np.moveaxis(array[..., -3:, :, :], -3, -1)  # the newest frame is the last
    elif not fits or array.shape[-1] != 3:
        raise ValueError(f"array {name!r} is {array.shape}, expected (T, H, W, 3), (E, T, H, W, 3) or (T, 3k, H, W)")
    if array.dtype != np.uint8:
        if array.min() < 0 or array.max() > 255:
            raise ValueError(f"array {name!r} goes from {array.min()} to {array.max()}, expected 0 to 255")
        array = array.astype(np.uint8)
    return array if array.ndim == 5 else array[None]


def _stacked(channels: int, height: int, width: int) -> bool:
    """Whether the last axes are those of stacked frames; other pictures are seldom narrower than they have channels."""
    return width != 3 and channels % 3 == 0 and channels < min(height, width)


def between_frames(name: str, array: np.ndarray, leading: tuple[int, ...], shift: bool) -> np.ndarray:
    """Actions (E, T-1, U) float32 between the frames of pictures (E, T, ...) or (T, ...), from a row for each frame.

    Raises:
        ValueError: It has another type or length.
    """
    if array.dtype.kind not in "fiub":
        raise ValueError(f"array {name!r} is {array.dtype}, expected numbers")
    axes = len(leading)
    if array.shape[:axes] != leading or array.ndim > axes + 1 or array.size == 0:
        wanted = ", ".join(map(str, leading))
        raise ValueError(f"array {name!r} is {array.shape}, expected ({wanted}, U), a row of U numbers for each frame")
    with np.errstate(over="ignore"):  # what is too large becomes infinite, which is checked
        rows = array.reshape(-1, leading[-1], array.size // int(np.prod(leading))).astype(np.float32)
    return rows[:, 1:] if shift else rows[:, :-1]


def _load(path: Path, names: list[str]) -> dict[str, np.ndarray]:
    try:
        with path.open("rb") as opened, np.load(opened, allow_pickle=False) as file:
            found = list(file.keys())
            arrays = {name: file[name] for name in names if name in found}
    except Exception as error:  # damage comes as any kind of error: of zip, of zlib, of numpy's parser
        raise ValueError(f"damaged or not an npz file ({str(error).strip() or type(error).__name__})") from error
    missing = [name for name in names if name not in found]
    if missing:
        raise ValueError(f"no array {', '.join(map(repr, missing))}; it has {', '.join(map(repr, found)) or 'none'}")
    return arrays
