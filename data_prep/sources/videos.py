"""Source ``videos``: any folder of videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import av
from av.stream import Disposition
from typing_extensions import override

from data_prep.options import PreparationOptions
from data_prep.sources.base import Listing, Recording, Source, Stream, file_state, find_files, relative
from lam.io.limits import check_picture

ENDINGS = {".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm", ".gif", ".mpg", ".mpeg", ".ts", ".flv", ".wmv", ".3gp", ".ogv"}


class Videos(Source):
    """A folder of videos (mp4, mkv, avi, webm, gif ...), searched in depth; or one video.

    A file's content decides how it is read, whatever its ending. Of several video streams the largest is taken. Frames are
    turned upright as the file says. Times are those of the file, from its first frame on.

    Args:
        src: Folder of videos, or one video.
    """

    preparation: ClassVar[PreparationOptions] = PreparationOptions(fps=4.0, cuts=True, static_below=2.0, duplicates_below=4.0)

    def __init__(self, src: Path) -> None:
        self.src = src

    @override
    def find(self) -> Listing:
        """Return all files whose names end as those of videos do."""
        files = find_files(self.src, ENDINGS, "videos")
        recordings = [
            Recording(name, name, file.stat().st_size, {"file": str(file)}, state=file_state(file))
            for file in files
            for name in [relative(self.src, file)]
        ]
        if self.src.is_file():
            return Listing(recordings)
        every = Counter(file.suffix.lower() or "no ending" for file in self.src.rglob("*") if file.is_file())
        others = {ending: count for ending, count in sorted(every.items()) if ending not in ENDINGS}
        notes = [f"Not looked at: {', '.join(f'{count} x {ending}' for ending, count in others.items())}."] if others else []
        return Listing(recordings, notes=notes)

    @override
    def open(self, recording: Recording) -> Stream:
        """Return a video; it is opened when its first frame is asked for."""
        return Stream(video_frames(Path(recording.place["file"])))


def video_frames(path: Path, start: float = 0.0, end: float = float("inf")) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield frames of a video from one time to another, with their times from ``start`` on.

    A frame without a time of its own follows at the average rate; one that repeats the time before (broken files) is left out.

    Args:
        path: The video.
        start: Time of the file at which to begin, s; the key frame before it is sought, so nothing else is decoded in vain.
        end: Time of the file before which to stop, s.

    Raises:
        av.error.FFmpegError: The file cannot be read; frames before the damage have been given by then.
        ValueError: The file has no video in it.
    """
    with av.open(str(path)) as container:
        pictures = [stream for stream in container.streams.video if Disposition.attached_pic not in stream.disposition]
        if not pictures:
            raise ValueError("it has no video stream" + (", only sound" if container.streams.audio else ""))
        if not (pictures := [stream for stream in pictures if stream.codec_context is not None]):
            raise ValueError("its video is of a kind that cannot be decoded")
        stream = max(pictures, key=lambda each: (each.width or 0) * (each.height or 0))
        check_picture("its video", stream.width, stream.height)
        stream.codec_context.thread_count = 1  # recordings are read side by side
        first: float | None = None
        if start > 0 and stream.time_base:
            first = float((stream.start_time or 0) * stream.time_base)
            container.seek(int((first + start) / stream.time_base), stream=stream)
        yield from _between(_timed(container, stream, first), start, end)


def _timed(
    container: av.container.InputContainer, stream: av.VideoStream, first: float | None
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Yield frames with increasing times, from ``first`` on, or from the first of them."""
    step = float(1 / stream.average_rate) if stream.average_rate else 0.04
    last = -step
    for frame in container.decode(stream):
        shown = frame.time
        if first is None:
            first = shown or 0.0
        time = last + step if shown is None else shown - first
        if time > last:
            last = time
            yield time, frame


def _between(frames: Iterator[tuple[float, av.VideoFrame]], start: float, end: float) -> Iterator[tuple[float, av.VideoFrame]]:
    slack = 1e-4  # times in files are rounded
    for time, frame in frames:
        if time >= end - slack:
            return
        if time >= start - slack:
            yield time - start, frame
