"""Resizing: from pictures of any size to the squares that encoders see, in preparation and when a trained model is used."""

from __future__ import annotations

from typing import Literal

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

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
