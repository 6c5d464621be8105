"""MiniGrid: an arrow in a room of 8 x 8 cells that turns or goes ahead (https://arxiv.org/abs/2306.13831, package minigrid)."""

from __future__ import annotations

import numpy as np
from minigrid.envs.empty import EmptyEnv

from lam.data.schema import ActionField
from lam.simulators.base import Simulator

CELLS = 8
LEFT, RIGHT, AHEAD = np.eye(3)


class MiniGrid(Simulator):
    """Recorded is which of left turn, right turn and step ahead was taken, one of three numbers being 1.

    The habit is to go ahead, and to turn right before a wall. A state is the arrow's cell and where it looks, 3 numbers.
    """

    fps = 4.0
    actions = [ActionField("move", 3, "sum")]  # noqa: RUF012  # as the base class declares it
    low, high = np.zeros(3), np.ones(3)

    def __init__(self, size: int) -> None:
        if size % CELLS:
            raise ValueError(f"size is {size}, expected a multiple of {CELLS}, the cells along a side. Change --size.")
        super().__init__(size)
        self._world = EmptyEnv(size=CELLS, agent_start_pos=None)
        self.reset(0)  # builds the room, so that a state can be restored at once

    def reset(self, seed: int) -> None:
        """The arrow in any free cell, looking anywhere."""
        self._world.reset(seed=seed)

    def state(self) -> np.ndarray:
        """Cell to the right, cell down, and quarter turns to the right."""
        return np.array([*self._world.agent_pos, self._world.agent_dir], dtype=np.float64)

    def restore(self, state: np.ndarray) -> None:
        """Puts the arrow there."""
        right, down, self._world.agent_dir = (int(value) for value in state)
        self._world.agent_pos = (right, down)

    def distance(self, goal: np.ndarray) -> float:
        """Cells along both sides and quarter turns apart: 0 or out of reach of the threshold."""
        apart = np.abs(self.state() - goal)
        return float(apart[0] + apart[1] + min(apart[2], 4 - apart[2]))

    def picture(self) -> np.ndarray:
        """The room from above."""
        return self._world.get_frame(highlight=False, tile_size=self.size // CELLS)

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Any of the three."""
        return np.eye(3)[generator.integers(3)]

    def habit(self) -> np.ndarray:
        """Along the walls."""
        ahead = self._world.grid.get(*self._world.front_pos)
        return AHEAD if ahead is None or ahead.can_overlap() else RIGHT

    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, float | int]]:
        """Move; factors are pixels to the right and down, ``agent_turn`` (1 left, 2 right) and ``move``, which of the three."""
        before, move = np.array(self._world.agent_pos), int(action.argmax())
        self._world.step(move)
        moved = (np.array(self._world.agent_pos) - before) * float(self.size // CELLS)
        turn = (move + 1) % 3  # left 1, right 2, ahead 0
        return action, {"agent_dx": moved[0], "agent_dy": moved[1], "agent_turn": turn, "move": move}
