"""A simulator without packages: its picture shows a number that actions add to."""

import numpy as np

from lam.data.schema import ActionField
from lam.simulators import Simulator


class Counter(Simulator):
    """The habit is to subtract 1, random actions add 1 or 2."""

    fps = 2.0
    actions = [ActionField("add", 1, "sum")]  # noqa: RUF012
    low, high = -np.ones(1), 2 * np.ones(1)

    def reset(self, seed):
        self.number = 100 + seed % 50

    def state(self):
        return np.array([self.number], dtype=np.float64)

    def restore(self, state):
        self.number = int(state[0])

    def distance(self, goal):
        return abs(self.number - goal[0])

    def picture(self):
        return np.full((self.size, self.size, 3), self.number % 256, dtype=np.uint8)

    def random(self, generator):
        return generator.integers(1, 3, 1).astype(float)

    def habit(self):
        return -np.ones(1)

    def step(self, action):
        self.number += int(action[0])
        return action, {"moved": float(action[0]), "up": int(action[0] > 0)}
