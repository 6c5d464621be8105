"""Segments: the frames of a video, resampled in time, resized, and cut into pieces."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter

_SLACK = 1e-4  # of a target interval: times in files are rounded


@dataclass(frozen=True)
class Segment:
    """A piece of a video.

    Attributes:
        frames: Pixels, (F, size, size, 3) uint8.
        times: When each frame is shown, (F,) seconds from the first frame of the video.
    """

    frames: np.ndarray
    times: np.ndarray


def read_segments(path: Path, fps: float, size: int, length: int) -> Iterator[Segment]:
    """Segments of a video of ``length`` frames each, the last one shorter.

    Raises:
        av.error.FFmpegError: The file cannot be read; segments before the damage have been given by then.
        ValueError: The file has no video in it.
    """
    frames, times = [], []
    with av.open(str(path)) as container:
        if not container.streams.video:
            raise ValueError("it has no video stream")
        squares = Squares(size)
        for time, frame in resample(_timed_frames(container), fps):
            frames.append(squares.cut(frame))
            times.append(time)
            if len(frames) == length:
                yield Segment(np.stack(frames), np.array(times))
                frames, times = [], []
    if frames:
        yield Segment(np.stack(frames), np.array(times))


def resample(frames: Iterator[tuple[float, av.VideoFrame]], fps: float) -> Iterator[tuple[float, av.VideoFrame]]:
    """Keeps the frames that are on show at 0, 1/fps, 2/fps, ... seconds, with their own exact times.

    A frame is on show until the next one comes, so the latest frame not after each moment is taken; the future is never
    shown early, whatever the frame rate and however it varies. A frame is taken once, so a source slower than fps
    keeps its own rate.
    """
    held: tuple[float, av.VideoFrame] | None = None
    interval = 1 / fps
    for time, frame in frames:
        if held is not None:
            interval = time - held[0]
            if _on_show(held[0], interval, fps):
                yield held
        held = (time, frame)
    if held is not None and _on_show(held[0], interval, fps):  # the last frame lasts as long as the one before
        yield held


def _on_show(time: float, interval: float, fps: float) -> bool:
    """Whether one of the moments k/fps lies within [time, time + interval)."""
    return math.ceil(time * fps - _SLACK) < (time + interval) * fps - _SLACK


def _timed_frames(container: av.container.InputContainer) -> Iterator[tuple[float, av.VideoFrame]]:
    """Frames with their times from the first one on; without a time of its own a frame follows at the average rate."""
    stream = container.streams.video[0]
    stream.thread_type = "AUTO"
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    first: float | None = None
    last = -step
    for frame in container.decode(stream):
        shown = frame.time
        if first is None:
            first = shown or 0.0
        time = last + step if shown is None else shown - first
        if time > last:  # broken files repeat times
            last = time
            yield time, frame


class Squares:
    """Turns frames into squares: shorter side to size, middle of the longer side, upright.

    Args:
        size: Pixels a side.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._reformatter = VideoReformatter()  # one for all frames: making it costs as much as using it

    def cut(self, frame: av.VideoFrame) -> np.ndarray:
        """The square of one frame, (size, size, 3) uint8."""
        aspect = frame.width / frame.height
        height = self.size if aspect >= 1 else round(self.size / aspect)
        width = round(self.size * aspect) if aspect >= 1 else self.size
        small = self._reformatter.reformat(
            frame, width=width, height=height, format="rgb24", interpolation=Interpolation.AREA, threads=1
        ).to_ndarray()
        top, left = (height - self.size) // 2, (width - self.size) // 2
        square = small[top : top + self.size, left : left + self.size]
        return np.rot90(square, frame.rotation // 90)
