"""Scene cuts: where one shot ends and another begins.

A frame begins a shot if it differs from the one before much more than its neighbors do from theirs: the rule of
PySceneDetect's AdaptiveDetector, here on a grid of points of brightness and color and without OpenCV, which its package needs.
A frame differs by the mean change of brightness plus those of both color differences, in levels of 255. At the six cuts of the
22 videos this was set on that is 53 or more and at least 3.4 times what it is around; elsewhere it is at most 41, and once, in
a fast movement, 28 and 3.7 times, which is taken for a cut. Fades and dissolves are no cuts to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.plane import VideoPlane
from av.video.reformatter import Interpolation

RATIO = 3.0
LEAST = 20.0
_NEIGHBORS = 2
_ROWS, _COLUMNS, _PLANES = 32, 48, 3
_PLANAR = {"yuv420p", "yuvj420p", "yuv422p", "yuvj422p", "yuv444p", "yuvj444p"}


@dataclass(frozen=True)
class Frame:
    """Frame of a recording.

    Attributes:
        number: Which of the recording's frames it is.
        time: When it is shown, s.
        image: The frame.
        scene: How many cuts came before it.
    """

    number: int
    time: float
    image: av.VideoFrame
    scene: int = 0


def number_scenes(frames: Iterator[Frame]) -> Iterator[Frame]:
    """Yield the same frames with their scenes; two frames are held back, since a cut shows only after them."""
    held: deque[Frame] = deque()
    changes: deque[float] = deque()  # of the held frames, and of two before them
    last: np.ndarray | None = None
    scene = 0
    for frame in frames:
        points = _points(frame.image)
        changes.append(math.nan if last is None else float(np.abs(points - last).mean()) * _PLANES)
        last = points
        held.append(frame)
        if len(held) > _NEIGHBORS:
            scene += _is_cut(changes, len(changes) - 1 - _NEIGHBORS)
            yield Frame(held[0].number, held[0].time, held.popleft().image, scene)
            if len(changes) > 2 * _NEIGHBORS:
                changes.popleft()
    while held:
        scene += _is_cut(changes, len(changes) - len(held))
        yield Frame(held[0].number, held[0].time, held.popleft().image, scene)


def _is_cut(changes: deque[float], place: int) -> bool:
    """Return whether the change at a place stands out of its neighbors."""
    near = range(max(place - _NEIGHBORS, 0), min(place + _NEIGHBORS + 1, len(changes)))
    around = [changes[i] for i in near if i != place and not math.isnan(changes[i])]  # the first frame has no change
    return changes[place] >= LEAST and changes[place] >= RATIO * sum(around) / max(len(around), 1)


def _points(image: av.VideoFrame) -> np.ndarray:
    """Return brightness and color at a grid of points, (points,) int16: cheaper than making a smaller image, and as telling."""
    if image.format.name not in _PLANAR:
        image = image.reformat(_COLUMNS, _ROWS, "yuv444p", interpolation=Interpolation.POINT)
    return np.concatenate([_grid(plane) for plane in image.planes[:_PLANES]])


def _grid(plane: VideoPlane) -> np.ndarray:
    """Return values of a plane of bytes at points of a grid."""
    values = np.frombuffer(memoryview(plane), np.uint8).reshape(-1, plane.line_size)
    rows, columns = max(plane.height // _ROWS, 1), max(plane.width // _COLUMNS, 1)
    return values[rows // 2 : plane.height : rows, columns // 2 : plane.width : columns].ravel().astype(np.int16)
