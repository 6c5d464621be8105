"""Resizing: from pictures of any size to the squares that encoders see, in preparation and when a trained model is used."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from torch import Tensor

Fit = Literal["crop", "pad"]
"""How a picture becomes a square, its aspect kept: crop (shorter side to size, middle of the longer side) or pad (longer
side to size, black bars)."""


class SquareResizer:
    """Turns pictures into upright squares.

    Args:
        size: Pixels a side.
        fit: How the aspect is kept.
    """

    def __init__(self, size: int, fit: Fit = "crop") -> None:
        self.size, self.fit = size, fit
        self._reformatter = VideoReformatter()  # one for all frames: making it costs as much as using it

    def resize(self, frame: av.VideoFrame) -> np.ndarray:
        """Return the square of one frame, (size, size, 3) uint8."""
        reference = min(frame.width, frame.height) if self.fit == "crop" else max(frame.width, frame.height)
        height, width = (max(round(self.size * side / reference), 1) for side in (frame.height, frame.width))
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()
        if self.fit == "crop":
            top, left = (height - self.size) // 2, (width - self.size) // 2
            square = small[top : top + self.size, left : left + self.size]
        else:
            square = np.zeros((self.size, self.size, 3), np.uint8)
            top, left = (self.size - height) // 2, (self.size - width) // 2
            square[top : top + height, left : left + width] = small
        return np.rot90(square, frame.rotation // 90)


def check_video(video: np.ndarray | Tensor) -> np.ndarray:
    """Return video as it was given, (F, H, W, 3) or (B, F, H, W, 3) uint8, as an array on the CPU.

    Raises:
        TypeError: It is no array.
        ValueError: It has another type, layout or range of values, or is empty.
    """
    if not isinstance(video, np.ndarray | Tensor):
        raise TypeError(f"Got a {type(video).__name__} for video, expected a numpy array or a tensor: np.stack(frames).")
    dtype = str(video.dtype).removeprefix("torch.")
    found = f"Got video of shape {tuple(video.shape)} and type {dtype}"
    if video.ndim in (3, 4, 5) and 0 in video.shape:
        raise ValueError(f"{found}, which is empty; expected (F, H, W, 3). Was the file read to its end?")
    if video.ndim == 3:
        raise ValueError(f"{found}, a single picture; expected (F, H, W, 3). A picture alone is video[None], with one frame.")
    if video.ndim not in (4, 5):
        raise ValueError(f"{found}, expected (F, H, W, 3) or a batch (B, F, H, W, 3).")
    if video.shape[-1] != 3:
        remedies = {1: "Repeat the gray channel three times.", 4: "Leave the fourth channel (alpha) out: video[..., :3]."}
        remedy = remedies.get(video.shape[-1], "Colors come last.")
        if video.shape[-3] == 3:
            remedy = "Channels come last: np.moveaxis(video, -3, -1) or video.movedim(-3, -1)."
        raise ValueError(f"{found}, expected (F, H, W, 3) or a batch (B, F, H, W, 3). {remedy}")
    if dtype != "uint8":
        low, high = video.min().item(), video.max().item()
        remedy = "Undo the normalization, then convert to uint8."
        if low >= 0 and high <= 255:
            remedy = "Multiply by 255, round and convert to uint8." if high <= 1 else "Convert to uint8."
        raise ValueError(f"{found} with values from {low:g} to {high:g}, expected uint8 from 0 to 255. {remedy}")
    return video.cpu().numpy() if isinstance(video, Tensor) else video


def check_aspect(height: int, width: int, size: int, fit: Fit | None) -> None:
    """Refuse pictures that are no squares where nobody said how they become squares.

    Raises:
        ValueError: They are no squares and ``fit`` is not given.
    """
    if height != width and fit is None:
        raise ValueError(
            f"Got pictures of {height} x {width} pixels, the model sees squares of {size} x {size}. Say how they become "
            'squares, as data_prep --fit did for training: fit="crop" keeps the middle, fit="pad" adds black bars.'
        )


def resize_pictures(pictures: np.ndarray, resizer: SquareResizer) -> np.ndarray:
    """Return squares (n, size, size, 3) of pictures (n, H, W, 3) uint8, made as preparation makes them."""
    if pictures.shape[1:3] == (resizer.size, resizer.size):
        return np.ascontiguousarray(pictures)
    frames = (av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format="rgb24") for picture in pictures)
    return np.stack([resizer.resize(frame) for frame in frames])
