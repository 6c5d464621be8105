"""MiniGrid: an arrow in a room of 8 x 8 cells that turns or goes ahead (https://arxiv.org/abs/2306.13831, package minigrid)."""

from __future__ import annotations

import math

import numpy as np
from minigrid.envs.empty import EmptyEnv
from typing_extensions import override

from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step, direction

CELLS = 8
LEFT, RIGHT, AHEAD = np.eye(3)


class MiniGrid(Simulator):
    """Room in which an arrow turns left, turns right or steps ahead: one of the three numbers of an action is 1.

    The expert goes ahead, and turns right before a wall. A state is the arrow's cell (to the right, down) and its direction in
    quarter turns to the right, 3 numbers.

    Args:
        size: Side of the square image, pixels; a multiple of 8.
    """

    fps = 4.0
    action_fields = [ActionField("move", 3, "sum")]  # noqa: RUF012  # as the base class declares it
    action_low, action_high = np.zeros(3), np.ones(3)

    def __init__(self, size: int) -> None:
        if size % CELLS:
            raise ValueError(f"size is {size}, expected a multiple of {CELLS}, the cells along a side. Change --size.")
        super().__init__(size)
        self._env = EmptyEnv(size=CELLS, agent_start_pos=None)
        self.reset(0)  # builds the room, so that a state can be set at once

    @override
    def reset(self, seed: int) -> None:
        self._env.reset(seed=seed)  # the arrow in any free cell, in any direction

    @override
    def get_state(self) -> np.ndarray:
        return np.array([*self._env.agent_pos, self._env.agent_dir], dtype=np.float64)

    @override
    def set_state(self, state: np.ndarray) -> None:
        right, down, self._env.agent_dir = (int(value) for value in state)
        self._env.agent_pos = (right, down)

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Count cells along both sides and quarter turns: 0, or at least the threshold."""
        apart = np.abs(self.get_state() - goal)
        return float(apart[0] + apart[1] + min(apart[2], 4 - apart[2]))

    @override
    def render(self) -> np.ndarray:
        image: np.ndarray = self._env.get_frame(highlight=False, tile_size=self.size // CELLS)
        return image

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        one_hot: np.ndarray = np.eye(3)[generator.integers(3)]
        return one_hot

    @override
    def expert_action(self) -> np.ndarray:
        ahead = self._env.grid.get(*self._env.front_pos)
        blocked = ahead is not None and not ahead.can_overlap()
        return RIGHT if blocked else AHEAD

    @override
    def step(self, action: np.ndarray) -> Step:
        """Turn or go ahead; factors are pixels to the right and down, ``agent_turn`` (1 left, 2 right), and which ``move``."""
        before, move = np.array(self._env.agent_pos), int(action.argmax())
        self._env.step(move)
        moved = (np.array(self._env.agent_pos) - before) * float(self.size // CELLS)
        turn = (move + 1) % 3  # left 1, right 2, ahead 0
        return Step(action, {"agent_dx": moved[0], "agent_dy": moved[1], "agent_turn": turn, "move": move})

    @override
    def state_factors(self) -> dict[str, float | np.ndarray]:
        """Return the middle of the arrow's cell in pixels to the right and down, and cosine and sine of its direction."""
        x, y = ((np.array(self._env.agent_pos) + 0.5) * (self.size // CELLS)).tolist()
        return {"agent_x": x, "agent_y": y, "agent_heading": direction(self._env.agent_dir * math.pi / 2)}
