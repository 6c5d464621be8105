"""PushT: a disc that pushes a T, with contact dynamics by pymunk (https://arxiv.org/abs/2303.04137, package gym-pusht)."""

from __future__ import annotations

import math

import numpy as np
from gym_pusht.envs.pusht import PushTEnv

from data_prep.sim.simulator import Simulator
from lam.data.schema import ActionField

SIDE = 512.0
REACH = 160.0
"""Farthest target from the agent, in the simulator's units: an eighth of the picture is covered in a step at most."""


class PushT(Simulator):
    """The agent is pulled toward a target; recorded is the target relative to the agent, 1 being ``REACH``.

    The habit is to go for the middle of the T, and so to push it.
    """

    fps = 10.0
    # pulls of several steps do not add up: like a rate, their mean says where the agent was drawn
    actions = [ActionField("target", 2, "mean")]  # noqa: RUF012  # as the base class declares it

    def __init__(self, size: int) -> None:
        super().__init__(size)
        # its observation; render() marks the last action in the picture with a cross
        self._world = PushTEnv(obs_type="pixels", observation_width=size, observation_height=size)

    def reset(self, seed: int) -> None:
        """Agent and T somewhere, at rest."""
        self._world.reset(seed=seed)

    def picture(self) -> np.ndarray:
        """The scene from above."""
        return self._world.get_obs()

    def random(self, generator: np.random.Generator) -> np.ndarray:
        """Anywhere in a square around the agent."""
        return generator.uniform(-1, 1, 2)

    def habit(self) -> np.ndarray:
        """Toward the T, as far as one may."""
        return np.clip((self._block() - self._agent()) / REACH, -1, 1)

    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, float | int]]:
        """Moves; causes are in pixels to the right and down, the T's turn in radians."""
        agent, block, angle = self._agent(), self._block(), self._world.block.angle
        target = np.clip(agent + REACH * action, 0, SIDE)
        self._world.step(target)
        moved, pushed = ((now - before) * self.size / SIDE for now, before in ((self._agent(), agent), (self._block(), block)))
        turned = math.remainder(self._world.block.angle - angle, 2 * math.pi)
        causes = {
            "agent_dx": moved[0],
            "agent_dy": moved[1],
            "block_dx": pushed[0],
            "block_dy": pushed[1],
            "block_turn": turned,
        }
        return (target - agent) / REACH, causes

    def _agent(self) -> np.ndarray:
        return np.array(self._world.agent.position)

    def _block(self) -> np.ndarray:
        return np.array(self._world.block.position)
