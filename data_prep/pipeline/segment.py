"""Segmentation: from a recording to samples. Split at cuts, resampled in time, resized, cut to length, checked, aligned."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from typing_extensions import override

from data_prep.options import PreparationOptions
from data_prep.pipeline.scene_cuts import Frame, number_scenes
from data_prep.shards.sample import Sample, SampleGenerator, clip_key
from data_prep.shards.thumbnails import largest_change
from data_prep.sources.base import Recording, Source, Stream
from lam.data.resize import SquareResizer
from lam.data.schema import Aggregation, aggregate_steps

_SLACK = 1e-4  # of a target interval: times in files are rounded


class SegmentGenerator(SampleGenerator):
    """Generator of samples of a source's recordings.

    Args:
        source: The source; it has been asked what it holds.
        preparation: How recordings become samples.
    """

    def __init__(self, source: Source, preparation: PreparationOptions) -> None:
        self.source, self.preparation = source, preparation
        self.aggregations = [each.aggregation for each in source.action_fields() for _ in range(each.dim)]
        self.factor_aggregations = source.factor_aggregations()

    @override
    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        options = self.preparation
        stream = self.source.open(recording)
        frames: Iterator[Frame] = (Frame(i, time, picture) for i, (time, picture) in enumerate(stream.pictures))
        if options.cuts:
            frames = number_scenes(frames)
        if options.fps is not None:
            frames = resample(frames, options.fps)
        squares = SquareResizer(options.size, options.fit)
        count = 0
        for segment in _segments(frames, squares, options):
            count += 1
            if reason := _reason_to_drop(segment, options):
                drop(reason)
                continue
            yield self._sample(recording, stream, segment)
        if not count:
            raise ValueError("it has no frames")

    def _sample(self, recording: Recording, stream: Stream, segment: _Segment) -> Sample:
        numbers, times = np.array(segment.numbers), np.array(segment.times)
        actions = None if stream.actions is None else aggregate_steps(stream.actions, numbers, self.aggregations)
        factors = {
            name: aggregate_steps(value, numbers, self._aggregation(name, value)) for name, value in stream.factors.items()
        }
        name = "" if recording.name == recording.group else recording.name
        sample = Sample(
            key=clip_key(recording.group, segment.times[0], name),
            source=recording.group,
            episode=recording.name,
            frames=np.stack(segment.frames),
            times=times,
            actions=actions,
            factors=factors,
            first=int(numbers[0]),
        )
        sample.check_labels(len(self.aggregations))
        return sample

    def _aggregation(self, name: str, value: np.ndarray) -> Aggregation:
        return self.factor_aggregations.get(name, "sum" if value.dtype.kind == "f" else "max")


@dataclass
class _Segment:
    """Consecutive frames of one shot, resized."""

    frames: list[np.ndarray]
    times: list[float]
    numbers: list[int]


def _segments(frames: Iterator[Frame], squares: SquareResizer, options: PreparationOptions) -> Iterator[_Segment]:
    """Cut frames at scene changes and after the longest time allowed."""
    longest = options.max_seconds - (0.5 / options.fps if options.fps else _SLACK)
    segment, scene = _Segment([], [], []), 0
    for frame in frames:
        if segment.times and (frame.scene != scene or frame.time - segment.times[0] >= longest):
            yield segment
            segment = _Segment([], [], [])
        scene = frame.scene
        segment.frames.append(squares.resize(frame.image))
        segment.times.append(frame.time)
        segment.numbers.append(frame.number)
    if segment.times:
        yield segment


def _reason_to_drop(segment: _Segment, options: PreparationOptions) -> str | None:
    """Return why a segment is left out, or None."""
    if len(segment.times) < options.min_frames:
        return f"fewer than {options.min_frames} frames"
    if options.static_below and largest_change(np.stack(segment.frames)) < options.static_below:
        return "static"
    return None


def resample(frames: Iterator[Frame], fps: float) -> Iterator[Frame]:
    """Keep the frames that are on show at 0, 1/fps, 2/fps, ... seconds, with their own exact times.

    A frame is on show until the next one comes, so the latest frame not after each moment is taken; the future is never
    shown early, whatever the frame rate and however it varies. A frame is taken once, so a source slower than fps
    keeps its own rate.
    """
    held: Frame | None = None
    interval = 1 / fps
    for frame in frames:
        if held is not None:
            interval = frame.time - held.time
            if _on_show(held.time, interval, fps):
                yield held
        held = frame
    if held is not None and _on_show(held.time, interval, fps):  # the last frame lasts as long as the one before
        yield held


def _on_show(time: float, interval: float, fps: float) -> bool:
    """Return whether one of the moments k/fps lies within [time, time + interval)."""
    return math.ceil(time * fps - _SLACK) < (time + interval) * fps - _SLACK
