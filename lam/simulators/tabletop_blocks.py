"""Blocks of a tabletop, what is asked about them, and how an agent pushes them, by pymunk (https://www.pymunk.org)."""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

import numpy as np
import pymunk

from lam.simulators.tabletop_view import Color, Prism

SIDE, RIM, HIGH = 512.0, 8.0, 24.0
"""Side of the table, width of its rim and height of what stands on it, units."""
HOLD, TICK = 25, 0.02
"""Steps of an action and their length, s."""
FRICTION = 0.7
TOGETHER = 4.0
"""Gap of circumscribed circles below which two blocks are together, units; blocks that touch are at less, however they lie."""


class Piece(NamedTuple):
    """A block, or a part of the agent.

    Attributes:
        name: Color and shape.
        color: Color.
        corners: Corners about its center of gravity, (corners, 2); of a circle those of a polygon that is drawn in its place.
        radius: Radius of a circle, 0 for a polygon.
    """

    name: str
    color: Color
    corners: np.ndarray
    radius: float = 0.0

    @property
    def extent(self) -> float:
        """Radius of the circumscribed circle."""
        return float(np.linalg.norm(self.corners, axis=1).max())


class Instruction(NamedTuple):
    """What is to be done: push a block to another.

    Attributes:
        block: Index of the block to push.
        to: Index of the block that it is pushed to.
    """

    block: int
    to: int

    @property
    def distance(self) -> float:
        """Distance of the blocks' centers below which it is done, units."""
        return BLOCKS[self.block].extent + BLOCKS[self.to].extent + TOGETHER

    def __str__(self) -> str:
        return f"push the {BLOCKS[self.block].name} to the {BLOCKS[self.to].name}"


def regular(corners: int, radius: float, start: float = 0.0) -> np.ndarray:
    """Return the corners (corners, 2) of a regular polygon about its center, the first at an angle."""
    angles = start + np.arange(corners) * (2 * math.pi / corners)
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def box(left: float, top: float, right: float, bottom: float) -> np.ndarray:
    """Return the corners (4, 2) of a rectangle."""
    return np.array([[left, top], [right, top], [right, bottom], [left, bottom]])


BLOCKS = (
    Piece("red circle", (214, 48, 49), regular(20, 30), 30),
    Piece("blue square", (52, 101, 214), regular(4, 38, math.pi / 4)),
    Piece("green triangle", (46, 160, 67), regular(3, 40)),
    Piece("yellow square", (240, 190, 30), regular(4, 38, math.pi / 4)),
)
INSTRUCTIONS = [Instruction(*pair) for pair in permutations(range(len(BLOCKS)), 2)]
GRAY = (70, 70, 78)
DISC = (Piece("disc", GRAY, regular(16, 16), 16),)
FORK = tuple(Piece("fork", GRAY, part) for part in (box(-8, -27, 2, 27), box(2, -27, 30, -15), box(2, 15, 30, 27)))
"""Bodies of the agent, which look to the right at an angle of 0."""


def prism(part: Piece, pose: np.ndarray) -> Prism:
    """Return a block or part as it stands at a pose (x, y, angle)."""
    cos, sin = math.cos(pose[2]), math.sin(pose[2])
    return Prism(part.corners @ np.array([[cos, sin], [-sin, cos]]) + pose[:2], HIGH, part.color)


def push(agent: tuple[Piece, ...], poses: np.ndarray, way: np.ndarray, turn: float) -> np.ndarray:
    """Move an agent among blocks that lie still, and let them come to rest.

    Args:
        agent: Parts of its body.
        poses: Position and angle of the agent, then of the blocks, (5, 3).
        way: Where it goes, (2,) units, if nothing stops it.
        turn: By how much it turns, radians.

    Returns:
        Poses afterwards, (5, 3).
    """
    space = pymunk.Space()
    space.damping, space.iterations = 0, 20  # what is not pushed stands still
    corners = [(0, 0), (SIDE, 0), (SIDE, SIDE), (0, SIDE)]
    for here, there in zip(corners, [*corners[1:], corners[0]], strict=True):
        space.add(pymunk.Segment(space.static_body, here, there, RIM))
    bodies = [add_body(space, parts, pose) for parts, pose in zip([agent, *((each,) for each in BLOCKS)], poses, strict=True)]
    speed = way / (HOLD * TICK)
    force = (speed * bodies[0].mass / TICK).tolist()
    for _ in range(HOLD):
        # with this damping a force for one step is a speed, from which contacts take what is blocked
        bodies[0].force, bodies[0].torque = tuple(force), turn / (HOLD * TICK) * bodies[0].moment / TICK
        space.step(TICK)
    space.step(TICK)  # goes the way of the last step's speeds
    return np.array([[*body.position, body.angle] for body in bodies])


def add_body(space: pymunk.Space, parts: tuple[Piece, ...], pose: np.ndarray) -> pymunk.Body:
    """Add a body of one or more parts at a pose (x, y, angle); an agent weighs much more, so that blocks hardly slow it."""
    mass = 1.0 if parts[0] in BLOCKS else 16.0
    body = pymunk.Body(mass, mass * max(part.extent for part in parts) ** 2 / 2)
    body.position, body.angle = (float(pose[0]), float(pose[1])), float(pose[2])
    shapes = [
        pymunk.Circle(body, part.radius)
        if part.radius
        else pymunk.Poly(body, [tuple(corner) for corner in part.corners.tolist()])
        for part in parts
    ]
    for shape in shapes:
        shape.friction = FRICTION
    space.add(body, *shapes)
    return body
