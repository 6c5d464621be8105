"""Scene cuts: where one shot ends and another begins.

A frame begins a shot if it differs from the one before much more than its neighbors do from theirs: the rule of
PySceneDetect's AdaptiveDetector (its defaults: 3 times the mean of two neighbors on each side, and 15 of 255 levels), here on
small color pictures and without OpenCV, which its package needs. Fades and dissolves are not cuts to it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

RATIO = 3.0
LEAST = 15.0
_NEIGHBORS = 2
_WIDTH, _HEIGHT = 48, 32


@dataclass(frozen=True)
class Shown:
    """A frame of a recording.

    Attributes:
        number: Which of the recording's frames it is.
        time: When it is shown, s.
        picture: The frame.
        scene: How many cuts came before it.
    """

    number: int
    time: float
    picture: av.VideoFrame
    scene: int = 0


def number_scenes(frames: Iterator[Shown]) -> Iterator[Shown]:
    """The same frames with their scenes; holds back two frames, since a cut shows only after them."""
    small = _small_pictures()
    held: deque[Shown] = deque()
    changes: deque[float] = deque()  # of the held frames, and of two before them
    last: np.ndarray | None = None
    scene = 0
    for frame in frames:
        picture = small(frame.picture)
        changes.append(math.nan if last is None else float(np.abs(picture - last).mean()))
        last = picture
        held.append(frame)
        if len(held) > _NEIGHBORS:
            scene += _is_cut(changes, len(changes) - 1 - _NEIGHBORS)
            yield Shown(held[0].number, held[0].time, held.popleft().picture, scene)
            if len(changes) > 2 * _NEIGHBORS:
                changes.popleft()
    while held:
        scene += _is_cut(changes, len(changes) - len(held))
        yield Shown(held[0].number, held[0].time, held.popleft().picture, scene)


def _is_cut(changes: deque[float], place: int) -> bool:
    """Whether the change at a place stands out of its neighbors."""
    near = range(max(place - _NEIGHBORS, 0), min(place + _NEIGHBORS + 1, len(changes)))
    around = [changes[i] for i in near if i != place and not math.isnan(changes[i])]  # the first frame has no change
    return changes[place] >= LEAST and changes[place] >= RATIO * sum(around) / max(len(around), 1)


def _small_pictures() -> Callable[[av.VideoFrame], np.ndarray]:
    """A function that makes small pictures, float32."""
    reformatter = VideoReformatter()

    def small(picture: av.VideoFrame) -> np.ndarray:
        return (
            reformatter.reformat(
                picture, width=_WIDTH, height=_HEIGHT, format="rgb24", interpolation=Interpolation.FAST_BILINEAR, threads=1
            )
            .to_ndarray()
            .astype(np.float32)
        )

    return small
