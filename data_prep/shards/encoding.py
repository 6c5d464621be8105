"""Encoding: frames and arrays as the bytes that a shard holds."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import simplejpeg

from lam.data.codec import pack_jpegs
from lam.data.schema import KEY_FRAME_INTERVAL


def encode_jpegs(frames: np.ndarray) -> bytes:
    """Encode frames (F, H, W, 3) uint8 as a packed JPEG row, quality 95 without chroma subsampling."""
    frames = np.ascontiguousarray(frames)
    return pack_jpegs([simplejpeg.encode_jpeg(frame, quality=95, colorspace="RGB", colorsubsampling="444") for frame in frames])


def encode_mp4(frames: np.ndarray, fps: float) -> bytes:
    """Encode frames (F, H, W, 3) uint8 as H.264 video; key frames are frequent, so that windows decode few others."""
    height, width = frames.shape[1:3]
    if height % 2 or width % 2:
        raise ValueError(f"mp4 needs even sizes, got {height} x {width}. Choose an even --size or --storage jpeg.")
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        # evenly spaced, whatever the times: those are in the json, and seeking counts frames
        stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001))
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        stream.codec_context.gop_size = KEY_FRAME_INTERVAL
        stream.codec_context.max_b_frames = 0
        stream.codec_context.thread_count = 1
        # with mbtree the same small frames became other bytes from call to call; without it files are larger
        stream.options = {"preset": "veryfast", "crf": "19", "sc_threshold": "0", "threads": "1", "x264-params": "mbtree=0"}
        for i, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = i
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return buffer.getvalue()


def encode_npy(value: np.ndarray) -> bytes:
    """Encode one array as an npy file."""
    buffer = io.BytesIO()
    np.save(buffer, value, allow_pickle=False)
    return buffer.getvalue()


def encode_npz(values: dict[str, np.ndarray]) -> bytes:
    """Encode arrays by name as an npz file."""
    buffer = io.BytesIO()
    np.savez(buffer, allow_pickle=False, **values)
    return buffer.getvalue()
