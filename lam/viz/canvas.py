"""Canvas: pictures enlarged, captioned and laid side by side, as files that a browser shows.

An image here is an array (height, width, 3) of uint8.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np
from torch import Tensor

CELL = 112
"""Pixels that a picture is enlarged to, at least."""
GAP = 4
FONT_SIZE = 20
"""Font size, in pixels; visualizations are up to WIDTH pixels wide and shown smaller than that."""
WIDTH = 1600
WHITE = 255


def enlarge(pictures: Tensor, cell: int = CELL) -> np.ndarray:
    """Turn pictures (..., 3, h, w) in [0, 1] into images (..., H, W, 3), pixels repeated until no side is below ``cell``."""
    factor = -(-cell // min(pictures.shape[-2:]))
    bytes_ = (pictures.float().clamp(0, 1) * 255).round().byte().movedim(-3, -1).cpu().numpy()
    return bytes_.repeat(factor, axis=-3).repeat(factor, axis=-2)


def signed_difference(after: Tensor, before: Tensor, gain: float = 2.0) -> Tensor:
    """Compute the signed difference of pictures, in [0, 1]: gray is no difference, brighter is more, darker is less."""
    return (0.5 + gain / 2 * (after.float().clamp(0, 1) - before.float().clamp(0, 1))).clamp(0, 1)


def caption(text: str, width: int, size: int = FONT_SIZE, bold: bool = False) -> np.ndarray:
    """Draw black text on white, as wide as asked for, broken into lines where it is wider."""
    from PIL import Image, ImageDraw

    font = _font(size)
    lines: list[str] = []
    for paragraph in text.split("\n"):
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}" if line else word
            fits = font.getlength(longer) <= width - GAP
            if line and not fits:
                lines.append(line)
            line = longer if fits or not line else word
        lines.append(line)
    height = round(1.3 * size)
    image = Image.new("RGB", (width, height * len(lines) + GAP), (WHITE,) * 3)
    draw = ImageDraw.Draw(image)
    for place, line in enumerate(lines):
        draw.text((1, place * height), line, fill=0, font=font, stroke_width=0.5 if bold else 0, stroke_fill=0)
    return np.array(image)


@cache
def _font(size: int) -> Any:
    """Load Pillow's own font, which takes longer than drawing with it."""
    from PIL import ImageFont

    return ImageFont.load_default(size)


def blank(height: int, width: int) -> np.ndarray:
    """Return a white image."""
    return np.full((height, width, 3), WHITE, np.uint8)


def hstack(*images: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Lay images from left to right, their tops level."""
    height = max(len(image) for image in images)
    parts: list[np.ndarray] = []
    for image in images:
        parts += [np.pad(image, ((0, height - len(image)), (0, 0), (0, 0)), constant_values=WHITE), blank(height, gap)]
    return np.concatenate(parts[:-1], axis=1)


def vstack(*images: np.ndarray, gap: int = GAP) -> np.ndarray:
    """Lay images from top to bottom, their left sides level."""
    width = max(image.shape[1] for image in images)
    parts: list[np.ndarray] = []
    for image in images:
        parts += [np.pad(image, ((0, 0), (0, width - image.shape[1]), (0, 0)), constant_values=WHITE), blank(gap, width)]
    return np.concatenate(parts[:-1], axis=0)


def wrap(images: Sequence[np.ndarray], gap: int, width: int = WIDTH) -> np.ndarray:
    """Lay images of one width in lines, equally many a line, no line wider than asked for."""
    each = max(1, (width + gap) // (images[0].shape[1] + gap))
    each = -(-len(images) // -(-len(images) // each))
    return vstack(*(hstack(*images[start : start + each], gap=gap) for start in range(0, len(images), each)), gap=gap)


def pad(image: np.ndarray, margin: int = 2 * GAP) -> np.ndarray:
    """Add a white margin to an image."""
    return np.pad(image, ((margin, margin), (margin, margin), (0, 0)), constant_values=WHITE)


def png(image: np.ndarray) -> bytes:
    """Encode an image as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, "PNG", compress_level=3)  # higher levels take long and save little
    return buffer.getvalue()


def gif(images: Sequence[np.ndarray], seconds: Sequence[float]) -> bytes:
    """Encode images as an animated GIF file that repeats forever, each image shown for so many seconds.

    All images share one palette, or static parts would flicker. It covers rare colors, which are those of what moves, then
    is fitted to where most pixels are, which keeps gray gray. There is no dithering, which looks like noise of the model.
    """
    from PIL import Image

    sample = Image.fromarray(np.concatenate(images)[::8, ::8])
    palette = sample.quantize(256, method=Image.Quantize.MAXCOVERAGE, kmeans=1)
    frames = [Image.fromarray(image).quantize(palette=palette, dither=Image.Dither.NONE) for image in images]
    durations = [round(1000 * each) for each in seconds]
    buffer = io.BytesIO()
    frames[0].save(buffer, "GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)
    return buffer.getvalue()


def axes(title: str, across: str, up: str) -> Any:
    """Make the axes of a new figure for ``figure_png``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5))
    figure.subplots_adjust(left=0.08, right=0.98, bottom=0.12, top=0.92)  # automatic layouts take as long as drawing
    made = figure.subplots()
    made.set_title(title, loc="left")
    made.set_xlabel(across)
    made.set_ylabel(up)
    made.spines[["top", "right"]].set_visible(False)
    return made


def figure_png(figure: Any) -> bytes:
    """Encode a matplotlib figure as a PNG file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110)
    return buffer.getvalue()


def evenly_spaced(count: int, most: int) -> list[int]:
    """Choose at most so many of the numbers below ``count``, evenly spaced, the first and the last among them."""
    return sorted({round(place) for place in np.linspace(0, count - 1, min(count, most))})
