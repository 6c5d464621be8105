"""What is asked of a simulator: pictures, a policy with a dial, the action that was executed and what it caused."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import ClassVar

import numpy as np

from lam.data.schema import ActionField


class Simulator(ABC):
    """One environment; a subclass a file.

    Attributes:
        fps: Steps a second.
        actions: What a recorded action consists of.

    Args:
        size: Side of the square picture, pixels.
    """

    fps: ClassVar[float]
    actions: ClassVar[list[ActionField]]

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Starts an episode."""

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
        """Acts; returns the action as it is recorded, (U,), and what changed: causes by name."""
