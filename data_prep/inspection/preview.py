"""Previews: the beginnings of some recordings of a source, read to see what it holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from tqdm import tqdm

from data_prep.inspection.image_motion import NUM_FEATURES, FilteredImage, gray_thumbnail, motion
from data_prep.sources.base import Recording, Source

_PICTURES, _PICTURE_HEIGHT = 7, 96


@dataclass(frozen=True)
class RecordingPreview:
    """First frames and actions of a recording, reduced to what an inspection needs.

    Attributes:
        name: The recording.
        source: What it is a recording of.
        height: Height of its frames, pixels.
        width: Width of its frames, pixels.
        times: Time of each frame that was read, (F,) seconds.
        whole: Whether it was read to its end.
        motion: Image motion between frames, (F-1, M).
        actions: Recorded actions: of the frames that were read, or more rows; None where there are none.
        factors: Names of what else was recorded.
        pictures: Some of its frames, evenly spread over what was read.
    """

    name: str
    source: str
    height: int
    width: int
    times: np.ndarray
    whole: bool
    motion: np.ndarray
    actions: np.ndarray | None
    factors: list[str]
    pictures: list[np.ndarray]


def preview_recordings(
    source: Source, listed: Sequence[Recording], recordings: int, frames: int
) -> tuple[list[RecordingPreview], list[tuple[str, str]]]:
    """Read some of the listed recordings, evenly spread.

    Args:
        source: The source.
        listed: What it holds.
        recordings: How many to read.
        frames: Frames of each; more where there are fewer recordings, so that about as many are read in all.

    Returns:
        What was seen, and the names of recordings that cannot be read and why.
    """
    chosen = [listed[i] for i in np.linspace(0, len(listed) - 1, min(recordings, len(listed))).round().astype(int)]
    seen: list[RecordingPreview] = []
    failed: list[tuple[str, str]] = []
    for recording in tqdm(chosen, desc="inspect", leave=False):
        try:
            seen.append(preview_recording(source, recording, frames * recordings // len(chosen)))
        except Exception as error:  # whatever a damaged file does: preparation leaves it out with the same reason
            failed.append((recording.name, str(error).strip() or type(error).__name__))
    return seen, failed


def preview_recording(source: Source, recording: Recording, frames: int) -> RecordingPreview:
    """Read the first frames of a recording.

    Raises:
        ValueError: It has no frames.
    """
    stream, reformatter = source.open(recording), VideoReformatter()
    times: list[float] = []
    motions: list[np.ndarray] = []
    spread, before, whole = _EvenFrames(), None, True
    for time, picture in stream.pictures:
        if len(times) == frames:
            whole = False
            break
        if not times:
            height, width = picture.height, picture.width
        after = FilteredImage.of(gray_thumbnail(picture, reformatter))
        if before is not None:
            motions.append(motion(before, after))
        spread.add(picture, reformatter)
        times.append(time)
        before = after
    if not times:
        raise ValueError("it has no frames")
    actions = stream.actions
    if actions is not None and whole:
        actions = actions[: max(len(times) - 1, 0)]
    return RecordingPreview(
        name=recording.name,
        source=recording.group,
        height=height,
        width=width,
        times=np.array(times),
        whole=whole,
        motion=np.array(motions).reshape(-1, NUM_FEATURES),
        actions=actions,
        factors=list(stream.factors),
        pictures=spread.pictures(),
    )


@dataclass
class _EvenFrames:
    """Evenly spread images of a stream whose length is not known."""

    every: int = 1
    count: int = 0
    kept: list[np.ndarray] = field(default_factory=list)

    def add(self, picture: av.VideoFrame, reformatter: VideoReformatter) -> None:
        """Take every so manyth image; when there are twice too many, half of them go."""
        if self.count % self.every == 0:
            width = max(round(picture.width * _PICTURE_HEIGHT / picture.height), 8)
            small = reformatter.reformat(picture, width, _PICTURE_HEIGHT, "rgb24", interpolation=Interpolation.AREA, threads=1)
            self.kept.append(small.to_ndarray())
            if len(self.kept) == 4 * _PICTURES:
                self.kept, self.every = self.kept[::2], 2 * self.every
        self.count += 1

    def pictures(self) -> list[np.ndarray]:
        """Return as many as fit a row."""
        which = np.linspace(0, len(self.kept) - 1, min(_PICTURES, len(self.kept))).round().astype(int)
        return [self.kept[i] for i in which]
