"""PushT: a disc that pushes a T, with contact dynamics by pymunk (https://arxiv.org/abs/2303.04137, package gym-pusht)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gym_pusht.envs.pusht import PushTEnv
from PIL import Image, ImageDraw
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction

SIDE = 512.0
REACH = 100.0
"""Farthest target from the agent, in the simulator's units: a fifth of the image."""
NEAR, TURNED = 20.0, math.pi / 9
"""Thresholds of https://github.com/gaoyuezhou/dino_wm (env/pusht/pusht_wrapper.py): positions together, angle."""
RECTANGLES = ((-60, 0, 60, 30), (-15, 30, 15, 120))
"""Bar and stem of the T about its position: left, top, right, bottom, in the simulator's units."""
DISC, EDGE = 15, 2
"""Radius of the disc, and how far edges reach to both sides of an outline."""
FINER = 4
"""Pixels that are drawn for each one of the picture, to each side; their mean is taken."""
GROUND, GOAL, WALL = (255, 255, 255), (144, 238, 144), (211, 211, 211)
DISC_EDGE, DISC_FILL, T_EDGE, T_FILL = (65, 105, 225), (78, 126, 255), (119, 136, 153), (142, 163, 183)
"""Colors of the package."""


class PushT(Simulator):
    """Disc that is pulled toward a target and pushes a T; an action is the target relative to the disc, 1 being ``REACH``.

    Policies: ``random`` goes anywhere around the disc, ``near`` anywhere around the T, ``expert`` for the middle of the T, and
    so pushes it.

    A state is the position of the agent, position and angle of the T, then their velocities in the same order, 10 numbers.
    pymunk holds more than can be read from it (contacts found before, corrections still to be made), so its space is built
    anew from these numbers after every action: the future is then a function of the state. A contact that lasts is found again
    in the first of the action's steps of 0.01 s.

    Args:
        size: Side of the square image, pixels.
        hold: Steps of the simulator, 0.1 s each, that a target is held. After 5 the agent has nearly arrived.
    """

    # pulls of several steps do not add up: like a rate, their mean says where the agent was drawn
    action_fields = [ActionField("target", 2, "mean")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = -np.ones(2), np.ones(2)
    policies = ("random", "near", "expert")

    def __init__(self, size: int, hold: int = 5) -> None:
        super().__init__(size)
        self.hold, self.fps = hold, 10 / hold
        self._env = RestorablePushTEnv()
        self._ground = draw_ground(size * FINER)

    @override
    def reset(self, seed: int) -> None:
        self._env.reset(seed=seed)  # agent and T anywhere, at rest
        self.set_state(self._read())

    @override
    def get_state(self) -> np.ndarray:
        return self._state.copy()

    @override
    def set_state(self, state: np.ndarray) -> None:
        # numbers are read back from pymunk with a rounding error, as the T's position is not its center of gravity
        self._state = np.array(state, dtype=np.float64)
        self._env.build(self._state)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Return the larger ratio to a threshold: that of the four positions together, 20, or of the angle, 20 degrees."""
        apart = self._state[:5] - goal[:5]
        return max(float(np.linalg.norm(apart[:4])) / NEAR, abs(math.remainder(apart[4], 2 * math.pi)) / TURNED)

    @override
    def render(self) -> np.ndarray:
        """Draw at the wanted size directly; the package draws 512 x 512 pixels and takes some of them."""
        canvas = self._ground.copy()
        scale = canvas.width / SIDE
        draw, (x, y) = ImageDraw.Draw(canvas), self._state[:2] * scale
        draw_tee(draw, self._state[2:5], scale, EDGE, T_EDGE, T_FILL)
        for radius, color in ((DISC, DISC_EDGE), (DISC - 2 * EDGE, DISC_FILL)):
            draw.ellipse((x - radius * scale, y - radius * scale, x + radius * scale, y + radius * scale), fill=color)
        return np.asarray(canvas.reduce(FINER))

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        return generator.uniform(-1, 1, 2)  # anywhere in a square around the agent

    @override
    def expert_action(self) -> np.ndarray:
        return np.clip((self._state[2:4] - self._state[:2]) / REACH, -1, 1)

    @override
    def policy_action(self, policy: str, sampled: np.ndarray) -> np.ndarray:
        if policy != "near":
            return super().policy_action(policy, sampled)
        return np.clip((self._state[2:4] + REACH * sampled - self._state[:2]) / REACH, -1, 1)

    @override
    def step(self, action: np.ndarray) -> Step:
        """Pull the disc; factors are in pixels to the right and down, the T's turn in radians."""
        before = self._state
        target = np.clip(before[:2] + REACH * action, 0, SIDE)
        self._env.pull(float(target[0]), float(target[1]), 10 * self.hold)
        self.set_state(self._read())
        moved = (self._state[:4] - before[:4]) * self.size / SIDE
        factors: dict[str, float | int] = dict(zip(("agent_dx", "agent_dy", "block_dx", "block_dy"), moved, strict=True))
        factors["block_turn"] = math.remainder(self._state[4] - before[4], 2 * math.pi)
        return Step((target - before[:2]) / REACH, factors)

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return positions in pixels to the right and down, and cosine and sine of the T's angle."""
        places = (self._state[:4] * self.size / SIDE).tolist()
        factors: dict[str, float | np.ndarray] = dict(zip(("agent_x", "agent_y", "block_x", "block_y"), places, strict=True))
        return factors | {"block_angle": direction(self._state[4])}

    def _read(self) -> np.ndarray:
        agent, block = self._env.agent, self._env.block
        return np.array(
            [*agent.position, *block.position, block.angle, *agent.velocity, *block.velocity, block.angular_velocity]
        )


class RestorablePushTEnv(PushTEnv):
    """Environment of the package that can be built in any state; steps without its reward take a third of the time."""

    def _handle_collision(self, arbiter: Any, space: Any, data: Any) -> None:
        """Count no contacts."""

    def pull(self, right: float, down: float, ticks: int) -> None:
        """Pull the disc toward a target as the package's ``step`` does, bit by bit, for so many times 0.01 s."""
        agent, pull, brake, tick = self.agent, self.k_p, self.k_v, self.dt
        for _ in range(ticks):
            (x, y), (vx, vy) = agent.position, agent.velocity
            agent.velocity = vx + (pull * (right - x) - brake * vx) * tick, vy + (pull * (down - y) - brake * vy) * tick
            self.space.step(tick)

    def build(self, state: np.ndarray) -> None:
        """Build the space anew in a state, (10,)."""
        self._setup()
        self.agent.position, self.agent.velocity = tuple(state[:2]), tuple(state[5:7])
        # the angle first: it turns the T about its center of gravity, which moves its position
        self.block.angle, self.block.angular_velocity = state[4], state[9]
        self.block.position, self.block.velocity = tuple(state[2:4]), tuple(state[7:9])
        for body in (self.agent, self.block):
            self.space.reindex_shapes_for_body(body)  # else they are drawn where they were made


def draw_ground(side: int) -> Image.Image:
    """Draw what does not move, a picture of side x side pixels: the walls, and where the package's own task has the T go."""
    picture, scale = Image.new("RGB", (side, side), GROUND), side / SIDE
    draw = ImageDraw.Draw(picture)
    draw_tee(draw, np.array([SIDE / 2, SIDE / 2, math.pi / 4]), scale, 0, GOAL, GOAL)
    near, far = (5 - EDGE) * scale, (506 + EDGE) * scale
    draw.rectangle((near, near, far, far), outline=WALL, width=round(2 * EDGE * scale))
    return picture


def draw_tee(
    draw: ImageDraw.ImageDraw, pose: np.ndarray, scale: float, edge: float, edge_color: tuple[int, ...], fill: tuple[int, ...]
) -> None:
    """Draw a T at a pose (x, y, angle) in the simulator's units, its bar first."""
    turn = np.array([[math.cos(pose[2]), math.sin(pose[2])], [-math.sin(pose[2]), math.cos(pose[2])]])
    for left, top, right, bottom in RECTANGLES:
        for grow, color in ((edge, edge_color), (-edge, fill)):
            corners = [(left - grow, top - grow), (right + grow, top - grow)]
            corners += [(right + grow, bottom + grow), (left - grow, bottom + grow)]
            draw.polygon([tuple(corner) for corner in ((np.array(corners) @ turn + pose[:2]) * scale).tolist()], fill=color)
