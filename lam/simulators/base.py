"""What is asked of a simulator: pictures, states to return to, distance to a goal, and a policy with a dial."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from lam.data.schema import ActionField


class Simulator(ABC):
    """One environment; a subclass a file. U is the width of a recorded action, S of a state.

    Attributes:
        fps: Actions a second.
        actions: What a recorded action consists of.
        low: Lower bounds of a recorded action, (U,).
        high: Upper bounds, (U,).

    Args:
        size: Side of the square picture, pixels.
    """

    fps: float
    actions: ClassVar[list[ActionField]]
    low: ClassVar[np.ndarray]
    high: ClassVar[np.ndarray]

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Starts an episode, whatever came before."""

    @abstractmethod
    def state(self) -> np.ndarray:
        """All that the future depends on, (S,) float64."""

    @abstractmethod
    def restore(self, state: np.ndarray) -> None:
        """Returns to a state, (S,), at any time: the same actions then lead to the same states and pictures, bit by bit."""

    @abstractmethod
    def distance(self, goal: np.ndarray) -> float:
        """How far the present state is from a goal, (S,), 1 being the threshold: the goal is reached below it."""

    @abstractmethod
    def picture(self) -> np.ndarray:
        """What is seen now, (size, size, 3) uint8; nothing of the last action may be drawn into it."""

    @abstractmethod
    def random(self, generator: np.random.Generator) -> np.ndarray:
        """An action that ignores the state, as ``step`` takes it; the draws are the same in any state."""

    @abstractmethod
    def habit(self) -> np.ndarray:
        """The action that is a function of the state."""

    @abstractmethod
    def step(self, action: np.ndarray) -> tuple[np.ndarray, dict[str, float | int]]:
        """Acts; returns the action as it is recorded, (U,), and what changed: factors by name."""


@dataclass
class Played:
    """An episode.

    Attributes:
        pictures: (F, H, W, 3) uint8.
        actions: As recorded, (F-1, U) float32.
        factors: What changed, by name, (F-1,) each: int64 if discrete, else float32.
        states: To return to, (F, S) float64.
    """

    pictures: np.ndarray
    actions: np.ndarray
    factors: dict[str, np.ndarray]
    states: np.ndarray


def play(simulator: Simulator, generator: np.random.Generator, steps: int, policy_entropy: float) -> Played:
    """Plays an episode; start, random actions and which steps are random do not depend on the policy's entropy.

    Args:
        simulator: Where; its own state is replaced.
        generator: Draws the start and the policy's dice.
        steps: Actions to take, 1 at least; frames are one more.
        policy_entropy: Share of steps whose action ignores the state; the others follow the habit.
    """
    simulator.reset(int(generator.integers(2**31)))
    pictures, states, actions, factors = [simulator.picture()], [simulator.state()], [], []
    for _ in range(steps):
        free, ignores = simulator.random(generator), generator.random() < policy_entropy
        action, caused = simulator.step(free if ignores else simulator.habit())
        pictures.append(simulator.picture())
        states.append(simulator.state())
        actions.append(action)
        factors.append(caused)
    columns = {name: _column([step[name] for step in factors]) for name in factors[0]}
    return Played(np.stack(pictures), np.array(actions, dtype=np.float32), columns, np.stack(states))


def _column(values: list[float | int]) -> np.ndarray:
    return np.array(values, dtype=np.int64 if isinstance(values[0], int) else np.float32)
