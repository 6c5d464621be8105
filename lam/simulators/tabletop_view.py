"""Pictures of a table with blocks: cameras above it and aslant, and how prisms are drawn."""

from __future__ import annotations

import math
from typing import NamedTuple, Protocol

import numpy as np
from PIL import Image, ImageDraw

FINER = 4
"""Pixels that are drawn for each one of the picture, to each side; their mean is taken."""
SHADE = 0.65
"""Brightness of the sides of a prism, of its top 1."""
FLOOR, WOOD, RIM = (96, 96, 104), (232, 222, 205), (150, 120, 90)
"""Colors of what lies around the table, of the table and of its rim."""

Color = tuple[int, int, int]


class Prism(NamedTuple):
    """Body on the table: a convex outline that is as high everywhere.

    Attributes:
        outline: Corners one after the other, (corners, 2) in units to the right and toward the viewer.
        height: Height, units.
        color: Color of the top.
    """

    outline: np.ndarray
    height: float
    color: Color


class Camera(Protocol):
    """Where things are seen."""

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return where points (n, 3), units to the right, toward the viewer and up, are seen, (n, 2) shares of the picture."""
        ...


class Above:
    """Camera far above the middle of the table: heights are not seen.

    Args:
        side: Side of the table, units; it fills the picture.
    """

    def __init__(self, side: float) -> None:
        self.side = side

    def project(self, points: np.ndarray) -> np.ndarray:
        """Return right and down."""
        seen: np.ndarray = points[:, :2] / self.side
        return seen


class Aslant:
    """Pinhole camera in front of the table that looks down at it, 57 degrees below the horizon.

    Args:
        side: Side of the table, units; its front edge is nearly as wide as the picture.
    """

    def __init__(self, side: float) -> None:
        self.eye, look = side * np.array([0.5, 1.5, 1.4]), side * np.array([0.5, 0.6, 0.0])
        ahead = (look - self.eye) / math.dist(look, self.eye)
        right = np.array([1.0, 0.0, 0.0])
        self.axes = np.stack([right, np.array([0.0, -ahead[2], ahead[1]]), ahead])
        self.focal = 1.41

    def project(self, points: np.ndarray) -> np.ndarray:
        """Divide by the distance along the line of sight."""
        right, down, ahead = self.axes @ (points - self.eye).T
        seen: np.ndarray = 0.5 + self.focal * np.stack([right, down], axis=1) / ahead[:, None]
        return seen


def draw(camera: Camera, side: float, rim: float, prisms: list[Prism], size: int) -> np.ndarray:
    """Draw a table and what stands on it, what is nearer to the viewer over what is farther.

    Args:
        camera: Where things are seen.
        side: Side of the table, units.
        rim: Width of its rim, units.
        prisms: What stands on it.
        size: Side of the picture, pixels.

    Returns:
        The picture, (size, size, 3) uint8.
    """
    picture = Image.new("RGB", (size * FINER, size * FINER), FLOOR)
    brush, scale = ImageDraw.Draw(picture), size * FINER

    def seen(outline: np.ndarray, height: float) -> list[tuple[float, float]]:
        """Return where points (n, 2) at a height are in the picture."""
        points = np.column_stack([outline, np.full(len(outline), height)])
        return [(x, y) for x, y in (camera.project(points) * scale).tolist()]

    for inset, color in ((0.0, RIM), (rim, WOOD)):
        near, far = inset, side - inset
        brush.polygon(seen(np.array([[near, near], [far, near], [far, far], [near, far]]), 0), fill=color)
    for prism in sorted(prisms, key=lambda each: float(each.outline[:, 1].max())):
        foot, top = seen(prism.outline, 0), seen(prism.outline, prism.height)
        if foot != top:
            dark = (int(SHADE * prism.color[0]), int(SHADE * prism.color[1]), int(SHADE * prism.color[2]))
            for corner in range(len(foot)):
                brush.polygon([foot[corner - 1], foot[corner], top[corner], top[corner - 1]], fill=dark)
        brush.polygon(top, fill=prism.color)
    return np.asarray(picture.reduce(FINER))
