"""Decoding: the frames of a window, out of the bytes of a sample."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Sequence

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter

from lam.data.schema import KEY_FRAME_INTERVAL, Storage, unpack_row


def decode_window(storage: Storage, data: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decodes some frames of a sample and nothing else, as far as its storage allows.

    Args:
        storage: How the sample is stored.
        data: The sample's video member.
        frames: Which frames, increasing.
        out: Where to put them, (len(frames), H, W, 3) uint8.

    Raises:
        ValueError: The data are damaged or are not frames of that size.
    """
    try:
        (_decode_row if storage is Storage.jpeg else _decode_mp4)(data, frames, out)
    except (av.error.FFmpegError, IndexError, StopIteration, struct.error) as error:
        raise ValueError(f"its video cannot be decoded ({error or 'it ends too early'})") from error


def _decode_row(row: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decodes JPEGs of a packed row."""
    for i, jpeg in enumerate(unpack_row(row, frames)):
        out[i] = simplejpeg.decode_jpeg(jpeg)


def _decode_mp4(video: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decodes from the key frame before the window to its end; the result is that of decoding the whole video."""
    reformatter = _reformatter(os.getpid())
    with av.open(io.BytesIO(video), "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = (stream.duration or 0) // max(stream.frames, 1)  # of a frame: in the file they are evenly spaced
        if frames[0] >= KEY_FRAME_INTERVAL:
            container.seek(frames[0] * ticks, stream=stream)
        pictures = container.decode(stream)
        for i, frame in enumerate(frames):
            picture = next(pictures)
            while (picture.pts or 0) < frame * ticks:
                picture = next(pictures)
            out[i] = reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()


@functools.cache
def _reformatter(process: int) -> VideoReformatter:
    """One a process: making one a frame, as PyAV does by itself, halves the speed."""
    return VideoReformatter()
