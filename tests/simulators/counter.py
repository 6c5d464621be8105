"""A simulator without packages: its image shows a number that actions add to."""

import numpy as np

from lam.data.schema import ActionField
from lam.simulators import Simulator, Step
from lam.simulators.base import direction


class Counter(Simulator):
    """The expert subtracts 1, random actions add 1 or 2."""

    fps = 2.0
    action_fields = [ActionField("add", 1, "sum")]  # noqa: RUF012
    action_low, action_high = -np.ones(1), 2 * np.ones(1)

    def reset(self, seed):
        self.number = 100 + seed % 50

    def get_state(self):
        return np.array([self.number], dtype=np.float64)

    def set_state(self, state):
        self.number = int(state[0])

    def distance(self, goal):
        return abs(self.number - goal[0])

    def render(self):
        return np.full((self.size, self.size, 3), self.number % 256, dtype=np.uint8)

    def sample_action(self, generator):
        return generator.integers(1, 3, 1).astype(float)

    def expert_action(self):
        return -np.ones(1)

    def step(self, action):
        self.number += int(action[0])
        return Step(action, {"moved": float(action[0]), "up": int(action[0] > 0)})

    def state_factors(self):
        return {"number": float(self.number), "phase": direction(self.number)}


def mixed(share: float) -> dict[str, float]:
    """A policy that ignores the state in a share of the steps and follows the expert in the others."""
    return {"random": share, "expert": 1 - share}
