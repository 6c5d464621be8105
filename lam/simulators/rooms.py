"""Two rooms: a disc goes through the door of a wall (https://arxiv.org/abs/2502.14819), in numpy alone."""

from __future__ import annotations

import math
from typing import ClassVar

import numpy as np
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction

SIDE, BORDER = 65.0, 4.0
"""Side of the world and thickness of its outer walls, in units: pixels of https://github.com/facebookresearch/eb_jepa."""
RADIUS, HALF_WALL, CLEARANCE = 2.5, 1.5, 4.0
"""Radius of the disc, half the thickness of the wall, and how far the disc's center may be beside the middle of the door."""
LOW, HIGH, GAP = BORDER + RADIUS, SIDE - BORDER - RADIUS, HALF_WALL + RADIUS
"""Bounds of the disc's center, and its least distance to the middle of the wall."""
REACH, TICKS = 10.0, 5
"""Farthest way along each axis of an action, and steps that it is split into: an action stands for five of the public ones."""
TURN = 0.5
"""Share of a drawn action's angle that a wandering disc turns: 52 degrees in the mean square, as five public steps do."""
NEAR = 4.5
"""Threshold of eb_jepa (``eval_state``) and of https://github.com/gaoyuezhou/dino_wm; PLDM's is 1.41 (mean square 1)."""
STRIDE = np.array([0.7548776662466927, 0.5698402909980532])
"""Steps between targets in shares of the free ground: Roberts' sequence R2, which covers a square evenly."""
GROUND, WALL, DISC = np.array([240.0, 240, 235]), np.array([75.0, 80, 90]), np.array([220.0, 50, 40])
"""Colors."""


class Rooms(Simulator):
    """Disc in two rooms that walls stop; an action is a displacement, 1 being ``REACH``. Wall and door lie anywhere.

    What goes into a wall is stopped, what goes along it is not; the public worlds stop a step whole and add noise. Policies:
    ``random`` goes as far as the drawn action, in the direction of the last one turned by half of the drawn angle, and is
    reflected by walls; ``expert`` goes to a target anywhere in the rooms, through the door where it must, and then to the next.

    A state is the disc's place, its direction, the target as shares of the free ground, the place of the wall from the left and
    that of the door from above, 7 numbers. Direction and target are not drawn: they matter to the policies alone.
    """

    fps = 2.0
    action_fields = [ActionField("displacement", 2, "sum")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = -np.ones(2), np.ones(2)
    walls: ClassVar[tuple[float, float]] = (20.0, 45.0)
    """Bounds of the wall's place."""
    doors: ClassVar[tuple[float, float]] = (LOW + CLEARANCE, HIGH - CLEARANCE)
    """Bounds of the door's place."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self._pixels = np.arange(size + 1) * (SIDE / size)  # edges of pixels, units
        self._drawn: tuple[float, float] | None = None  # wall and door of the ground that is kept
        self.reset(0)

    @override
    def reset(self, seed: int) -> None:
        # the disc, its target and the ways between them anywhere
        generator = np.random.default_rng(seed)
        wall, door = generator.uniform(*self.walls), generator.uniform(*self.doors)
        place, target, heading = generator.random(2), generator.random(2), generator.uniform(-math.pi, math.pi)
        self._state = np.array([*on_ground(place, wall), heading, *target, wall, door])

    @override
    def get_state(self) -> np.ndarray:
        return self._state.copy()

    @override
    def set_state(self, state: np.ndarray) -> None:
        self._state = np.array(state, dtype=np.float64)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Return the way to the goal's place as the crow flies, over 4.5 units of 65."""
        return math.hypot(*(self._state[:2] - goal[:2])) / NEAR

    @override
    def render(self) -> np.ndarray:
        wall, door = self._state[5:].tolist()
        if self._drawn != (wall, door):
            self._ground, self._drawn = draw_ground(self._pixels, wall, door), (wall, door)
        picture, pixel = self._ground.copy(), SIDE / self.size
        columns, rows = (slice(int((at - RADIUS) / pixel), int((at + RADIUS) / pixel) + 1) for at in self._state[:2])
        centers = self._pixels[:-1] + pixel / 2
        away = np.hypot(centers[columns] - self._state[0], centers[rows, None] - self._state[1])
        covered = np.clip((RADIUS - away) / pixel + 0.5, 0, 1)[..., None]
        picture[rows, columns] += covered * (DISC - picture[rows, columns])
        rounded: np.ndarray = np.rint(picture).astype(np.uint8)
        return rounded

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1, 1, 2)

    @override
    def expert_action(self) -> np.ndarray:
        x, y, _, _, _, wall, door = self._state.tolist()
        aim = on_ground(self._state[3:5], wall)
        side, beyond = math.copysign(1, x - wall), math.copysign(1, aim[0] - wall)
        if side != beyond:  # to the middle of the door on this side, from there to the other
            aim = np.array([wall + (beyond if abs(y - door) <= CLEARANCE else side) * GAP, door])
        way: np.ndarray = (aim - self._state[:2]) / REACH
        return way / max(1.0, math.hypot(*way))

    @override
    def policy_action(self, policy: str, sampled: np.ndarray) -> np.ndarray:
        if policy != "random":
            return super().policy_action(policy, sampled)
        angle = self._state[2] + TURN * math.atan2(sampled[1], sampled[0])
        way = math.hypot(*sampled) * direction(angle)
        return way / max(1.0, float(np.abs(way).max()))

    @override
    def step(self, action: np.ndarray) -> Step:
        """Move the disc; factors are pixels to the right and down."""
        action = np.clip(action, -1, 1)
        wall, door = self._state[5:].tolist()
        place, way = self._state[:2].tolist(), (action * REACH / TICKS).tolist()
        turned = [1.0, 1.0]
        for _ in range(TICKS):
            for axis in (0, 1):
                wanted = place[axis] + way[axis]
                low, high = bounds(place, axis, wall, door)
                place[axis] = min(max(wanted, low), high)
                turned[axis] = turned[axis] if place[axis] == wanted else -1.0
        moved = (np.array(place) - self._state[:2]) * (self.size / SIDE)
        if action.any():
            self._state[2] = math.atan2(turned[1] * action[1], turned[0] * action[0])
        self._state[:2] = place
        if math.dist(place, on_ground(self._state[3:5], wall)) < RADIUS:
            self._state[3:5] = (self._state[3:5] + STRIDE) % 1
        return Step(action, {"agent_dx": float(moved[0]), "agent_dy": float(moved[1])})

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return the place of the disc, and those of wall and door where they vary, in pixels to the right and down."""
        shown = ("agent_x", "agent_y", "wall_x", "door_y") if self.walls[0] < self.walls[1] else ("agent_x", "agent_y")
        return dict(zip(shown, (self._state[[0, 1, 5, 6]] * (self.size / SIDE)).tolist(), strict=False))


class RoomsFixed(Rooms):
    """The rooms of ``Rooms`` with the wall in the middle and the door high in it, as PLDM's recordings have them."""

    walls, doors = (32.5, 32.5), (LOW + CLEARANCE, LOW + CLEARANCE)


def on_ground(shares: np.ndarray, wall: float) -> np.ndarray:
    """Return the place (2,) of shares in [0, 1) of the free ground, (2,): from the left without the wall, from above."""
    x, y = LOW + shares[0] * (HIGH - LOW - 2 * GAP), LOW + shares[1] * (HIGH - LOW)
    return np.array([x if x < wall - GAP else x + 2 * GAP, y])


def bounds(place: list[float], axis: int, wall: float, door: float) -> tuple[float, float]:
    """Return between which numbers the disc at a place (x, y) moves along an axis."""
    x, y = place
    in_door = abs(x - wall) < GAP - 1e-9  # a disc that touches the wall is beside it, however its place was rounded
    if axis == 1:
        return (door - CLEARANCE, door + CLEARANCE) if in_door else (LOW, HIGH)
    if in_door or abs(y - door) <= CLEARANCE:
        return LOW, HIGH
    return (LOW, wall - GAP) if x < wall else (wall + GAP, HIGH)


def draw_ground(edges: np.ndarray, wall: float, door: float) -> np.ndarray:
    """Draw what does not move, (size, size, 3) float64, given where pixels begin and end, (size + 1,)."""

    def covered(low: float, high: float) -> np.ndarray:
        """Return the share of each pixel, (size,), that lies between two numbers."""
        length: np.ndarray = np.clip(np.minimum(edges[1:], high) - np.maximum(edges[:-1], low), 0, None)
        return length / float(edges[1] - edges[0])

    inside, wall_columns = covered(BORDER, SIDE - BORDER), covered(wall - HALF_WALL, wall + HALF_WALL)
    closed_rows = 1 - covered(door - CLEARANCE - RADIUS, door + CLEARANCE + RADIUS)
    free = inside * inside[:, None] * (1 - wall_columns * closed_rows[:, None])
    picture: np.ndarray = WALL + free[..., None] * (GROUND - WALL)
    return picture
