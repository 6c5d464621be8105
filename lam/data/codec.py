"""Bytes of frames: packing them into a member of a sample, unpacking and decoding some of them."""

from __future__ import annotations

import functools
import io
import os
import struct
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, Literal

import av
import numpy as np
import simplejpeg
from av.video.reformatter import VideoReformatter

from lam.data.schema import KEY_FRAME_INTERVAL, Storage

Decoder = Literal["pyav", "torchcodec"]
"""What decodes mp4; both give the same pixels."""


def pack_jpegs(jpegs: Sequence[bytes]) -> bytes:
    """Pack the JPEGs of a sample into one member."""
    count = len(jpegs)
    return b"".join([struct.pack(f"<{count + 1}i{count}I", count, *map(len, jpegs), *map(zlib.crc32, jpegs)), *jpegs])


def unpack_jpegs(member: memoryview, frames: Sequence[int]) -> list[memoryview]:
    """Return the JPEGs of some frames, increasing.

    Raises:
        IndexError: The sample has fewer frames.
        struct.error: The member ends within its header.
        ValueError: A frame is not the one that was written.
    """
    count = int.from_bytes(member[:4], "little")
    if count > len(member) // 8:  # of each frame there are a length and a sum
        raise ValueError(f"it says that it holds {count} frames in {len(member)} bytes")
    lengths = struct.unpack_from(f"<{count}i", member, 4)
    start, passed = 4 * (2 * count + 1), 0
    jpegs: list[memoryview] = []
    for frame in frames:
        start += sum(lengths[passed:frame])
        passed = frame
        jpeg = member[start : start + lengths[frame]]
        if zlib.crc32(jpeg) != int.from_bytes(member[4 * (count + 1 + frame) : 4 * (count + 2 + frame)], "little"):
            raise ValueError(f"frame {frame} has changed since it was written")
        jpegs.append(jpeg)
    return jpegs


def pack_states(states: np.ndarray) -> bytes:
    """Pack the states of a sample, (F, N, D) uint16, the bits of bfloat16, into one member."""
    frames = [frame.tobytes() for frame in states.astype("<u2", copy=False)]
    return b"".join([struct.pack(f"<{len(frames)}I", *map(zlib.crc32, frames)), *frames])


def unpack_states(member: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Copy some frames of packed states to out, (frames, N, D) uint16.

    Raises:
        IndexError: The sample has fewer frames.
        ValueError: A frame is not the one that was written.
    """
    size = out[0].nbytes
    count = len(member) // (size + 4)
    sums = np.frombuffer(member, "<u4", count)
    for i, frame in enumerate(frames):
        start = 4 * count + frame * size
        if zlib.crc32(member[start : start + size]) != sums[frame]:
            raise ValueError(f"frame {frame} has changed since it was written")
        out[i] = np.frombuffer(member, "<u2", size // 2, start).reshape(out.shape[1:])


def decode_frames(
    storage: Storage, data: memoryview, frames: Sequence[int], out: np.ndarray, decoder: Decoder = "pyav"
) -> None:
    """Decode some frames of a sample and, as far as its storage allows, nothing else.

    Args:
        storage: How the sample is stored.
        data: The sample's video member.
        frames: Which frames, increasing.
        out: Where to put them, (len(frames), H, W, 3) uint8; states (len(frames), N, D) uint16, the bits of bfloat16.
        decoder: What decodes mp4.

    Raises:
        ValueError: The data are damaged or are not frames of that size.
    """
    decode = {Storage.jpeg: _decode_jpegs, Storage.states: unpack_states, Storage.mp4: _DECODERS[decoder]}[storage]
    try:
        decode(data, frames, out)
    except (av.error.FFmpegError, IndexError, StopIteration, struct.error, MemoryError) as error:
        raise ValueError(f"its video cannot be decoded ({error or 'it ends too early'})") from error


def _decode_jpegs(member: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decode JPEGs of a packed member."""
    for place, jpeg in zip(out, unpack_jpegs(member, frames), strict=True):
        picture = simplejpeg.decode_jpeg(jpeg, buffer=place)
        if picture.shape != place.shape:
            raise ValueError(f"a frame has shape {picture.shape}, expected {place.shape}")


def _decode_mp4(video: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decode from the key frame before each frame; the result is that of decoding the whole video."""
    reformatter = _reformatter(os.getpid())
    with av.open(io.BytesIO(video), "r", format="mp4") as container:
        stream = container.streams.video[0]
        if stream.codec_context is None:
            raise ValueError("its video is of a kind that cannot be decoded")
        stream.codec_context.thread_count = 1
        size = (stream.codec_context.height, stream.codec_context.width, 3)
        if size != out.shape[1:]:  # before anything is decoded: a few bytes may say that frames are of any size
            raise ValueError(f"its video has frames of shape {size}, expected {out.shape[1:]}")
        ticks = (stream.duration or 0) // max(stream.frames, 1)  # of a frame: in the file they are evenly spaced
        packets = container.demux(stream)
        pictures, following = _decoded(packets), 0
        for i, frame in enumerate(frames):
            if frame - frame % KEY_FRAME_INTERVAL > following:
                _drain(packets)
                container.seek(frame * ticks, stream=stream)
                packets = container.demux(stream)
                pictures = _decoded(packets)
            picture = next(pictures)
            while (picture.pts or 0) < frame * ticks:
                picture = next(pictures)
            pixels = reformatter.reformat(picture, format="rgb24", threads=1).to_ndarray()
            if pixels.shape != out.shape[1:]:
                raise ValueError(f"a frame has shape {pixels.shape}, expected {out.shape[1:]}")
            out[i] = pixels
            following = frame + 1
        _drain(packets)


def _decoded(packets: Iterator[av.Packet[av.VideoStream]]) -> Iterator[av.VideoFrame]:
    """Yield the frames of packets."""
    for packet in packets:
        for frame in packet.decode():
            if isinstance(frame, av.VideoFrame):
                yield frame


def _drain(packets: Iterator[av.Packet[av.VideoStream]]) -> None:
    """Read packets to their end: PyAV leaks 350 bytes of a demuxer that is left before it, and 5 of one that is not."""
    for _ in packets:
        pass


@functools.cache
def _reformatter(process: int) -> VideoReformatter:
    """Return the one of this process: making one a frame, as PyAV does by itself, halves the speed."""
    return VideoReformatter()


def _decode_torchcodec(video: memoryview, frames: Sequence[int], out: np.ndarray) -> None:
    """Decode by torchcodec."""
    try:
        decoder = import_torchcodec()(bytes(video), dimension_order="NHWC", num_ffmpeg_threads=1)
        out[:] = decoder.get_frames_at(list(frames)).data.numpy()
    except RuntimeError as error:
        raise ValueError(f"its video cannot be decoded ({error})") from error


def import_torchcodec() -> type[Any]:
    """Import the decoder class of torchcodec, which is optional and untyped here.

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
    decoder: type[Any] = VideoDecoder
    return decoder


_DECODERS = {"pyav": _decode_mp4, "torchcodec": _decode_torchcodec}
