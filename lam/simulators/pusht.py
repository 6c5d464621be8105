"""PushT: a disc that pushes a T, with contact dynamics by pymunk (https://arxiv.org/abs/2303.04137, package gym-pusht)."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from gym_pusht.envs.pusht import PushTEnv

from lam.data.schema import ActionField
from lam.simulators.base import Simulator

SIDE = 512.0
REACH = 100.0
"""Farthest target from the agent, in the simulator's units: a fifth of the picture."""
NEAR, TURNED = 20.0, math.pi / 9
"""Thresholds of https://github.com/gaoyuezhou/dino_wm (env/pusht/pusht_wrapper.py): positions together, angle."""


class PushT(Simulator):
    """The agent is pulled toward a target; recorded is the target relative to the agent, 1 being ``REACH``.

    The habit is to go for the middle of the T, and so to push it.

    A state is the position of the agent, position and angle of the T, then their velocities in the same order, 10 numbers.
    pymunk holds more than can be read from it (contacts found before, corrections still to be made), so the scene is built
    anew from these numbers after every action: the future is then a function of the state. A contact that lasts is found again
    in the first of the action's steps of 0.01 s.

    Args:
        size: Side of the square picture, pixels.
        hold: Steps of the simulator, 0.1 s each, that a target is held. After 5 the agent has nearly arrived.
    """

    # pulls of several steps do not add up: like a rate, their mean says where the agent was drawn
    actions = [ActionField("target", 2, "mean")]  # noqa: RUF012  # as the base class declares it
    low, high = -np.ones(2), np.ones(2)

    def __init__(self, size: int, hold: int = 5) -> None:
        super().__init__(size)
        self.hold, self.fps = hold, 10 / hold
        self._world = Scene(observation_width=size, observation_height=size)

    def reset(self, seed: int) -> None:
        """Agent and T somewhere, at rest."""
        self._world.reset(seed=seed)
        self.restore(self._read())

    def state(self) -> np.ndarray:
        """Positions, angle and velocities."""
        return self._state.copy()

    def restore(self, state: np.ndarray) -> None:
        """Builds the scene anew."""
        # numbers are read back from pymunk with a rounding error, as the T's position is not its center of gravity
        self._state = np.array(state, dtype=np.float64)
        self._world.build(self._state)

    def distance(self, goal: np.ndarray) -> float:
        """The larger of both thresholds' ratios: four positions together over 20, angle over 20 degrees."""
        apart = self._state[:5] - goal[:5]
        return max(float(np.linalg.norm(apart[:4])) / NEAR, abs(math.remainder(apart[4], 2 * math.pi)) / TURNED)

    def picture(self) -> np.ndarray:
        """The scene from above."""
        return self._world.seen()

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Anywhere in a square around the agent."""
        return generator.uniform(-1, 1, 2)

    def habit(self) -> np.ndarray:
        """Toward the T, as far as one may."""
        return np.clip((self._state[2:4] - self._state[:2]) / REACH, -1, 1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, float | int]]:
        """Moves; factors are in pixels to the right and down, the T's turn in radians."""
        before = self._state
        target = np.clip(before[:2] + REACH * action, 0, SIDE)
        self._world.pull(float(target[0]), float(target[1]), 10 * self.hold)
        self.restore(self._read())
        moved = (self._state[:4] - before[:4]) * self.size / SIDE
        factors: dict[str, float | int] = dict(zip(("agent_dx", "agent_dy", "block_dx", "block_dy"), moved, strict=True))
        factors["block_turn"] = math.remainder(self._state[4] - before[4], 2 * math.pi)
        return (target - before[:2]) / REACH, factors

    def _read(self) -> np.ndarray:
        agent, block = self._world.agent, self._world.block
        return np.array(
            [*agent.position, *block.position, block.angle, *agent.velocity, *block.velocity, block.angular_velocity]
        )


class Scene(PushTEnv):
    """The package's environment, built from any state; its steps without the reward take a third of the time."""

    def _handle_collision(self, arbiter: Any, space: Any, data: Any) -> None:
        """Counts no contacts."""

    def pull(self, right: float, down: float, ticks: int) -> None:
        """What the package's ``step`` does to the scene, bit by bit, for so many times 0.01 s."""
        agent, pull, brake, tick = self.agent, self.k_p, self.k_v, self.dt
        for _ in range(ticks):
            (x, y), (vx, vy) = agent.position, agent.velocity
            agent.velocity = vx + (pull * (right - x) - brake * vx) * tick, vy + (pull * (down - y) - brake * vy) * tick
            self.space.step(tick)

    def build(self, state: np.ndarray) -> None:
        """A fresh scene in this state, (10,)."""
        self._setup()
        self.agent.position, self.agent.velocity = tuple(state[:2]), tuple(state[5:7])
        # the angle first: it turns the T about its center of gravity, which moves its position
        self.block.angle, self.block.angular_velocity = state[4], state[9]
        self.block.position, self.block.velocity = tuple(state[2:4]), tuple(state[7:9])
        for body in (self.agent, self.block):
            self.space.reindex_shapes_for_body(body)  # else they are drawn where they were made

    def seen(self) -> np.ndarray:
        """The scene, (H, W, 3) uint8; render() would mark the last action in it with a cross."""
        return self._render()
