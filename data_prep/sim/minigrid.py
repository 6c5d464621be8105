"""MiniGrid: an arrow in a room of 8 x 8 cells that turns or goes ahead (https://arxiv.org/abs/2306.13831, package minigrid)."""

from __future__ import annotations

import numpy as np
from minigrid.envs.empty import EmptyEnv

from data_prep.sim.simulator import Simulator
from lam.data.schema import ActionField

CELLS = 8
LEFT, RIGHT, AHEAD = np.eye(3)


class MiniGrid(Simulator):
    """Recorded is which of left turn, right turn and step ahead was taken, one of three numbers being 1.

    The habit is to go ahead, and to turn right before a wall.
    """

    fps = 4.0
    actions = [ActionField("move", 3, "sum")]  # noqa: RUF012  # as the base class declares it

    def __init__(self, size: int) -> None:
        if size % CELLS:
            raise ValueError(f"size is {size}, expected a multiple of {CELLS}, the cells along a side. Change --size.")
        super().__init__(size)
        self._world = EmptyEnv(size=CELLS, agent_start_pos=None)

    def reset(self, seed: int) -> None:
        """The arrow in any free cell, looking anywhere."""
        self._world.reset(seed=seed)

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
        """Moves; causes are pixels to the right and down, ``agent_turn`` (1 left, 2 right) and ``move``, which of the three."""
        before, move = np.array(self._world.agent_pos), int(action.argmax())
        self._world.step(move)
        moved = (np.array(self._world.agent_pos) - before) * float(self.size // CELLS)
        turn = (move + 1) % 3  # left 1, right 2, ahead 0
        return action, {"agent_dx": moved[0], "agent_dy": moved[1], "agent_turn": turn, "move": move}
