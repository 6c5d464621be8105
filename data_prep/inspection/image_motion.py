"""Image motion: how a small gray picture moved from one frame to the next, as a vector that actions can be compared with."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import av
import numpy as np
from av.video.reformatter import Interpolation, VideoReformatter
from scipy.ndimage import gaussian_filter

GRIDS = (1, 2, 4)
"""Cells a side of the grids on which motion is measured: the whole picture for a moving camera, cells for a moving arm."""
NUM_FEATURES = 2 + 3 * sum(cells**2 for cells in GRIDS)
ENERGY = 4
"""Which feature is the mean absolute difference of the whole picture, of levels 0 to 1."""
_WIDTH = 64
_BLUR = 1.5  # pixels; the flow is linear in the shift only where shifts are smaller than the structures
_FLAT = 1e-4  # mean squared gradient of a cell below which its flow counts as none


@dataclass(frozen=True)
class FilteredImage:
    """Gray image, made ready to be compared with its neighbors.

    Attributes:
        smooth: The picture blurred, (H, W).
        spectrum: Fourier transform of the picture, windowed, (H, W/2+1).
    """

    smooth: np.ndarray
    spectrum: np.ndarray

    @classmethod
    def of(cls, gray: np.ndarray) -> FilteredImage:
        """Make an image (H, W), levels 0 to 1, ready."""
        return cls(gaussian_filter(gray, _BLUR), np.fft.rfft2((gray - gray.mean()) * _window(*gray.shape)))


@functools.cache
def _window(height: int, width: int) -> np.ndarray:
    """Return weights that fade an image out towards its borders, where what comes in and goes out would look like motion."""
    return np.outer(np.hanning(height + 2)[1:-1], np.hanning(width + 2)[1:-1]).astype(np.float32)


def gray_thumbnail(frame: av.VideoFrame, reformatter: VideoReformatter) -> np.ndarray:
    """Return a frame in gray, (H, W) float32 of levels 0 to 1, at most 64 pixels wide."""
    width = min(_WIDTH, frame.width)
    height = max(round(frame.height * width / frame.width), 8)
    small = reformatter.reformat(frame, width, height, format="gray", interpolation=Interpolation.AREA, threads=1)
    return small.to_ndarray().astype(np.float32) / 255


def motion(before: FilteredImage, after: FilteredImage) -> np.ndarray:
    """Return motion between two images: shift x, y; then flow x, y and mean absolute difference of each cell, grid by grid."""
    x, y = shift(before.spectrum, after.spectrum, before.smooth.shape)
    gradient_y, gradient_x = np.gradient((before.smooth + after.smooth) / 2)
    change = after.smooth - before.smooth
    maps = [(gradient_x, gradient_x), (gradient_x, gradient_y), (gradient_y, gradient_y)]
    maps += [(gradient_x, change), (gradient_y, change), (np.sign(change), change)]
    products = np.stack([a * b for a, b in maps])
    features = [np.array([x, y])]
    for cells in GRIDS:
        *moments, difference = cell_means(products, cells)
        features += [*flow(*moments), difference]
    return np.concatenate([each.ravel() for each in features])


def shift(before: np.ndarray, after: np.ndarray, shape: tuple[int, int]) -> tuple[float, float]:
    """Return how far a picture moved to the right and down, pixels, at most a quarter of its sides, by phase correlation.

    Kuglin and Hines, 1975: the phases of the cross spectrum are those of the shift. Weak frequencies, which are noise, count
    less. The peak is refined by a parabola.

    Args:
        before: Spectrum of the first picture, (H, W/2+1).
        after: Spectrum of the second picture.
        shape: H, W.
    """
    cross = before.conj() * after
    size = np.abs(cross)
    correlation = np.fft.irfft2(cross / (size + 1e-3 * size.max() + 1e-12), shape)
    reach_y, reach_x = shape[0] // 4, shape[1] // 4
    near = np.roll(correlation, (reach_y, reach_x), (0, 1))[: 2 * reach_y + 1, : 2 * reach_x + 1]
    y, x = divmod(int(near.argmax()), near.shape[1])
    return x - reach_x + _peak(near[y], x), y - reach_y + _peak(near[:, x], y)


def _peak(values: np.ndarray, at: int) -> float:
    """Return where a parabola through the largest of some values and its neighbors peaks, from there."""
    if not 0 < at < len(values) - 1:
        return 0.0
    left, middle, right = values[at - 1 : at + 2]
    bend = left - 2 * middle + right
    return 0.0 if bend == 0 else float(0.5 * (left - right) / bend)


def flow(xx: np.ndarray, xy: np.ndarray, yy: np.ndarray, xt: np.ndarray, yt: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return least-squares flow to the right and down, pixels, from a cell's mean products of gradients (x, y) and change (t).

    Lucas and Kanade, 1981. Cells without structure have none.
    """
    xx, yy = xx + _FLAT, yy + _FLAT
    determinant = xx * yy - xy * xy
    return (xy * yt - yy * xt) / determinant, (xy * xt - xx * yt) / determinant


def cell_means(maps: np.ndarray, cells: int) -> np.ndarray:
    """Return the mean of each cell of a grid on maps (..., H, W), (..., cells, cells)."""
    edges_y, edges_x = (np.arange(cells + 1) * side // cells for side in maps.shape[-2:])
    sums = np.add.reduceat(np.add.reduceat(maps, edges_y[:-1], axis=-2), edges_x[:-1], axis=-1)
    return sums / np.outer(np.diff(edges_y), np.diff(edges_x))
