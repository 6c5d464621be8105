"""The renderer: shapes with smooth edges over a textured background, all frames of a clip at once."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np


class Sprite(NamedTuple):
    """Shape that is drawn in front of what came before it.

    Attributes:
        shape: Index into ``SHAPES``.
        color: Red, green, blue in [0, 1].
        radius: Half its size, as a share of the picture.
        path: Where its center is, (right, down) in shares of the picture, (F, 2).
        opacity: 0 invisible to 1 solid, a number or one a frame, (F,).
    """

    shape: int
    color: tuple[float, float, float]
    radius: float
    path: np.ndarray
    opacity: float | np.ndarray = 1.0


class WorldScene(NamedTuple):
    """Ground, camera path and sprites of all frames of a clip.

    Attributes:
        ground: Colors of the ground at pixel distance, (3, rows, columns) float32; bilinear in between.
        camera: Place of the picture's upper left corner on the ground, (right, down) in pixels, (F, 2).
        sprites: Back to front.
        flicker: Brightness added to each patch, (F, patch rows, patch columns) float32.
    """

    ground: np.ndarray
    camera: np.ndarray
    sprites: list[Sprite]
    flicker: np.ndarray


def disc(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Return the signed distance to a disc, negative inside."""
    distance: np.ndarray = np.sqrt(dx * dx + dy * dy) - radius
    return distance


def square(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance to an upright square along the axes, negative inside."""
    distance: np.ndarray = np.maximum(np.abs(dx), np.abs(dy)) - radius
    return distance


def triangle(dx: np.ndarray, dy: np.ndarray, radius: float) -> np.ndarray:
    """Return the distance to the sides of a regular triangle pointing up, corners ``radius`` away; negative inside."""
    slanted = np.abs(dx) * (math.sqrt(3) / 2) - dy / 2
    distance: np.ndarray = np.maximum(slanted, dy) - radius / 2
    return distance


SHAPES: tuple[Callable[[np.ndarray, np.ndarray, float], np.ndarray], ...] = (disc, square, triangle)


def render(scene: WorldScene, size: int) -> np.ndarray:
    """Draw a scene, (F, size, size, 3) uint8."""
    canvas = _background(scene, size)
    for sprite in scene.sprites:
        _draw(canvas, sprite, size)
    if scene.flicker.any():
        patch = size // scene.flicker.shape[1]
        canvas += scene.flicker.repeat(patch, axis=1).repeat(patch, axis=2)[:, None]
    np.minimum(np.maximum(canvas, 0, out=canvas), 1, out=canvas)
    canvas *= 255
    canvas += 0.5
    pictures = np.empty((len(canvas), size, size, 3), dtype=np.uint8)
    for channel in range(3):
        pictures[..., channel] = canvas[:, channel]
    return pictures


def _background(scene: WorldScene, size: int) -> np.ndarray:
    """Return the ground as the camera sees it, (F, 3, size, size) float32."""
    frames = len(scene.camera)
    camera = scene.camera if (scene.camera != scene.camera[0]).any() else scene.camera[:1]
    corner = np.floor(camera).astype(int)
    share = (camera - corner).astype(np.float32)
    canvas = np.empty((len(corner), 3, size, size), dtype=np.float32)
    for picture, (column, row), (right, down) in zip(canvas, corner, share, strict=True):
        seen = scene.ground[:, row : row + size + 1, column : column + size + 1]
        lines = seen[:, :-1] + down * (seen[:, 1:] - seen[:, :-1])
        np.subtract(lines[:, :, 1:], lines[:, :, :-1], out=picture)
        picture *= right
        picture += lines[:, :, :-1]
    return canvas if len(canvas) == frames else np.repeat(canvas, frames, axis=0)


def _draw(canvas: np.ndarray, sprite: Sprite, size: int) -> None:
    """Blend a sprite into the canvas (F, 3, size, size), touching only the part of the picture that it crosses."""
    center, radius = sprite.path * size, sprite.radius * size
    low = np.floor(center.min(axis=0) - radius - 1).astype(int).clip(0, size)
    high = np.ceil(center.max(axis=0) + radius + 1).astype(int).clip(0, size)
    pixels = (np.arange(size) + 0.5).astype(np.float32)
    center = center.astype(np.float32)
    dx = pixels[None, None, low[0] : high[0]] - center[:, 0, None, None]
    dy = pixels[None, low[1] : high[1], None] - center[:, 1, None, None]
    # a pixel is covered by the share of it that lies inside, for an edge along its side
    covered = 0.5 - SHAPES[sprite.shape](dx, dy, radius)
    np.minimum(np.maximum(covered, 0, out=covered), 1, out=covered)
    covered *= np.asarray(sprite.opacity, dtype=np.float32).reshape(-1, 1, 1)
    for channel, color in enumerate(sprite.color):
        part = canvas[:, channel, low[1] : high[1], low[0] : high[0]]
        part += covered * (np.float32(color) - part)
