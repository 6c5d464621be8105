"""The pictures of a LeRobot episode: frames of a span of a video, or image files in the rows of a parquet file."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import pyarrow.compute as pc
import pyarrow.dataset as ds
from av.container import InputContainer
from av.video.stream import VideoStream

from data_prep.sources.base import image_frame

_MARGIN = 1.0  # seconds before a span from which packets are read: seeking goes by decoding times, which are earlier


@dataclass(frozen=True)
class FrameSpan:
    """Consecutive frames of a video.

    Attributes:
        file: The video.
        key: Decoding time of the key frame to begin with, in units of the stream.
        last: Decoding time of the last packet that is needed.
        stamps: When each frame is shown, in units of the stream, increasing.
    """

    file: Path
    key: int
    last: int
    stamps: list[int]


def find_frames(file: Path, start: float | None, end: float | None) -> FrameSpan:
    """Find the frames of a video that are shown in [start, end), seconds, or all of them, without decoding.

    Raises:
        av.error.FFmpegError: The file cannot be read.
        ValueError: It has no video, or no frames there.
    """
    stamps, keys, last = [], [], 0
    with av.open(str(file)) as container:
        if not container.streams.video:
            raise ValueError(f"{file.name} has no video stream")
        stream = container.streams.video[0]
        low, high = float("-inf"), float("inf")
        if start is not None and end is not None:
            assert stream.average_rate and stream.time_base  # every mp4 has them
            # times of episodes are sums of durations: half a frame allows for their rounding
            low, high = ((time - 0.5 / stream.average_rate) / stream.time_base for time in (start, end))
            container.seek(max(0, int(low - _MARGIN / stream.time_base)), stream=stream)
        for packet in container.demux(stream):
            if packet.pts is None or packet.dts is None or packet.is_discard:
                continue
            if packet.dts >= high:
                break
            if packet.is_keyframe:
                keys.append((packet.pts, packet.dts))
            if low <= packet.pts < high:
                stamps.append(packet.pts)
                last = packet.dts
    if not stamps:
        raise ValueError(f"{file.name} has no frames" + ("" if start is None else f" from {start:.3f} to {end:.3f} s"))
    stamps.sort()
    return FrameSpan(file, max(key for key in keys if key[0] <= stamps[0])[1], last, stamps)


def video_frames(span: FrameSpan, fps: float) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decode frames that have been found. Times are by number: those of rows need not be those of frames (GR00T's begin late).

    Raises:
        av.error.FFmpegError: One cannot be decoded.
        ValueError: One is missing.
    """
    with av.open(str(span.file)) as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1  # recordings are read in parallel
        decoded = (frame for frame in _decode(container, stream, span) if frame.pts is not None and frame.pts >= span.stamps[0])
        for number, stamp in enumerate(span.stamps):
            frame = next(decoded, None)
            if frame is None or frame.pts != stamp:
                raise ValueError(f"{span.file.name} is damaged: frame {number} of the episode cannot be decoded")
            yield number / fps, frame


def _decode(container: InputContainer, stream: VideoStream, span: FrameSpan) -> Iterator[av.VideoFrame]:
    """Yield frames of the packets that are needed; those of other episodes are not given to the decoder."""
    container.seek(span.key, stream=stream)  # not past it, but it may be to an earlier key frame
    for packet in container.demux(stream):
        if packet.dts is None or packet.dts > span.last:
            break
        if packet.dts >= span.key:
            yield from packet.decode()
    yield from stream.codec_context.decode(None)  # what the decoder holds back to put frames in order


def image_column_frames(
    file: Path, column: str, rows: pc.Expression | None, fps: float
) -> Iterator[tuple[float, av.VideoFrame]]:
    """Decode the image files in a column of a parquet file, a few at a time.

    Raises:
        ValueError: One is not there, or damaged.
    """
    number = 0
    for batch in ds.dataset(file).to_batches(columns=[column], filter=rows, batch_size=32, use_threads=False):
        for cell in batch.column(0).to_pylist():
            if cell is None or cell["bytes"] is None:
                raise ValueError(f"row {number} has no bytes in column {column!r}, expected an image file in each")
            yield number / fps, image_frame(cell["bytes"])
            number += 1
