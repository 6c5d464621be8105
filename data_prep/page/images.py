"""Pictures of samples: clips that play, pairs of frames with their difference, a sheet of all."""

from __future__ import annotations

import base64
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from data_prep.shards.sample import Sample

LONGEST = 120
"""Frames of a clip that play."""
_ACROSS, _TILE, _LABEL = 8, 96, 14  # frames a row of the sheet; their height and that of the text above, pixels
_EXACT = 3 * 96 * 96  # bytes of a frame up to which clips are stored without loss: more would make the page large
_SHORTEST_MS = 20  # browsers slow down what is shorter


def data_uri(data: bytes, kind: str) -> str:
    """Return the bytes of a picture as the address of that picture."""
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"


def animate(frames: np.ndarray, times: np.ndarray) -> bytes:
    """Encode frames (F, H, W, 3) uint8 as an animated WebP that plays in the time it took; the last frame rests a second."""
    shown = [Image.fromarray(frame) for frame in frames[:LONGEST]]
    lasting = [max(round(1000 * gap), _SHORTEST_MS) for gap in np.diff(times[:LONGEST])]
    exact = frames[0].size <= _EXACT
    options: dict[str, Any] = {"lossless": exact, "quality": 50 if exact else 85, "method": 3}
    buffer = io.BytesIO()
    shown[0].save(buffer, "WEBP", save_all=True, append_images=shown[1:], duration=[*lasting, 1000], loop=0, **options)
    return buffer.getvalue()


def png(frame: np.ndarray) -> bytes:
    """Encode one frame (H, W, 3) uint8 as a PNG."""
    buffer = io.BytesIO()
    Image.fromarray(frame).save(buffer, "PNG")
    return buffer.getvalue()


def difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return what changed between two frames, twice as strong; gray where nothing did."""
    changed: np.ndarray = np.clip(128 + 2 * (after.astype(int) - before), 0, 255).astype(np.uint8)
    return changed


def contact_sheet(samples: Sequence[tuple[str, Sample]]) -> Image.Image:
    """Draw a row of frames for each sample, evenly spread over it."""
    height, width = samples[0][1].frames.shape[1:3]
    across = max(round(_TILE * width / height), 1)
    sheet = Image.new("RGB", (_ACROSS * (across + 4) + 4, len(samples) * (_TILE + _LABEL + 6) + 4), "white")
    pen = ImageDraw.Draw(sheet)
    for number, (split, sample) in enumerate(samples):
        top = 4 + number * (_TILE + _LABEL + 6)
        length = f"{len(sample.frames)} frames, {sample.times[-1] - sample.times[0]:.2f} s"
        pen.text((4, top), f"{sample.key}  {split}  {length}", fill="black")
        chosen = np.linspace(0, len(sample.frames) - 1, min(_ACROSS, len(sample.frames))).round().astype(int)
        for place, frame in enumerate(chosen):
            tile = Image.fromarray(sample.frames[frame]).resize((across, _TILE), Image.Resampling.BILINEAR)
            sheet.paste(tile, (4 + place * (across + 4), top + _LABEL))
    return sheet
