"""Decoding: some frames of a sample, out of its bytes."""

from __future__ import annotations

import functools
import io
import os
import struct
from collections.abc import Sequence
from typing import Literal

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter

from lam.data.schema import KEY_FRAME_INTERVAL, Storage, unpack_row, unpack_states

Decoder = Literal["pyav", "torchcodec"]
"""What decodes mp4; both give the same pixels."""


def decode_frames(
    storage: Storage, data: memoryview, frames: Sequence[int], out: np.ndarray, decoder: Decoder = "pyav"
) -> None:
    """Decodes some frames of a sample and, as far as its storage allows, nothing else.

    Args:
        storage: How the sample is stored.
        data: The sample's video member.
        frames: Which frames, increasing.
        out: Where to put them, (len(frames), H, W, 3) uint8; states (len(frames), N, D) uint16, the bits of bfloat16.
        decoder: What decodes mp4.

    Raises:
        ValueError: The data are damaged or are not frames of that size.
    """
    decode = {Storage.jpeg: _decode_row, Storage.states: unpack_states, Storage.mp4: _DECODERS[decoder]}[storage]
    try:
        decode(data, frames, out)
    except (av.error.FFmpegError, IndexError, StopIteration, struct.error) as error:
        raise ValueError(f"its video cannot be decoded ({error or 'it ends too early'})") from error


def _decode_row(row: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decodes JPEGs of a packed row."""
    for place, jpeg in zip(out, unpack_row(row, frames), strict=True):
        picture = simplejpeg.decode_jpeg(jpeg, buffer=place)
        if picture.shape != place.shape:
            raise ValueError(f"a frame has shape {picture.shape}, expected {place.shape}")


def _decode_mp4(video: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decodes what is needed since the key frame before each frame; the result is that of decoding the whole video."""
    reformatter = _reformatter(os.getpid())
    with av.open(io.BytesIO(video), "r", format="mp4") as container:
        stream = container.streams.video[0]
        stream.codec_context.thread_count = 1
        ticks = (stream.duration or 0) // max(stream.frames, 1)  # of a frame: in the file they are evenly spaced
        pictures, following = container.decode(stream), 0
        for i, frame in enumerate(frames):
            if frame - frame % KEY_FRAME_INTERVAL > following:
                container.seek(frame * ticks, stream=stream)
                pictures = container.decode(stream)
            picture = next(pictures)
            while (picture.pts or 0) < frame * ticks:
                picture = next(pictures)
            out[i] = reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
            following = frame + 1


@functools.cache
def _reformatter(process: int) -> VideoReformatter:
    """One a process: making one a frame, as PyAV does by itself, halves the speed."""
    return VideoReformatter()


def _decode_torchcodec(video: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """The same by torchcodec."""
    try:
        decoder = import_torchcodec()(bytes(video), dimension_order="NHWC", num_ffmpeg_threads=1)
        out[:] = decoder.get_frames_at(list(frames)).data.numpy()
    except RuntimeError as error:
        raise ValueError(f"its video cannot be decoded ({error})") from error


def import_torchcodec() -> type:
    """The decoder class of torchcodec.

    Raises:
        ValueError: It is not installed, or not in a version that fits.
    """
    try:
        from torchcodec.decoders import VideoDecoder
    except (ImportError, OSError, RuntimeError) as error:
        raise ValueError(
            f"data.decoder torchcodec cannot be loaded ({str(error).splitlines()[0]}). For torch 2.13 on CPU install "
            "torchcodec 0.12 or 0.13 and FFmpeg's shared libraries (Debian: apt install ffmpeg), or set data.decoder pyav."
        ) from error
    return VideoDecoder


_DECODERS = {"pyav": _decode_mp4, "torchcodec": _decode_torchcodec}
