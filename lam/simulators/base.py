"""The interface of a simulator: images, states to return to, distance to a goal, and a policy of adjustable randomness."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np

from lam.data.schema import ActionField

# Letters of this file: U numbers of a recorded action, S numbers of a state, F frames.


class Step(NamedTuple):
    """What an action did.

    Attributes:
        action: The action as it is recorded, (U,): what was executed, which bounds may have changed.
        factors: Ground-truth factors of the transition by name: what changed, as floats, or ints where they are discrete.
    """

    action: np.ndarray
    factors: Mapping[str, float | int]


class Simulator(ABC):
    """An environment that is seen in images, acted in, and put back into any of its states; one subclass a file.

    Attributes:
        fps: Actions a second.
        action_fields: What the numbers of a recorded action are.
        action_low: Lower bounds of a recorded action, (U,).
        action_high: Upper bounds of a recorded action, (U,).
        policies: Names of the policies that recordings may mix.

    Args:
        size: Side of the square image, pixels.
    """

    fps: float
    action_fields: list[ActionField]
    action_low: np.ndarray
    action_high: np.ndarray
    policies: ClassVar[tuple[str, ...]] = ("random", "expert")

    def __init__(self, size: int) -> None:
        self.size = size

    @abstractmethod
    def reset(self, seed: int) -> None:
        """Start an episode that is a function of the seed, whatever came before."""

    @abstractmethod
    def get_state(self) -> np.ndarray:
        """Return a copy of all that the future depends on, (S,) float64."""

    @abstractmethod
    def set_state(self, state: np.ndarray) -> None:
        """Return to a state (S,) at any time: the same actions then lead to the same states and images, bit by bit."""

    @abstractmethod
    def distance(self, goal: np.ndarray) -> float:
        """Return how far the present state is from a goal (S,) in units of the threshold: below 1 the goal is reached."""

    @abstractmethod
    def render(self) -> np.ndarray:
        """Draw the present state, (size, size, 3) uint8; nothing of the last action may be drawn into it."""

    @abstractmethod
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        """Draw an action that ignores the state, (U,); in any state the same numbers are drawn."""

    @abstractmethod
    def expert_action(self) -> np.ndarray:
        """Return the action (U,) of a fixed policy, a function of the state."""

    def policy_action(self, policy: str, sampled: np.ndarray) -> np.ndarray:
        """Return the action (U,) of a policy, a function of the state and of an action (U,) that ignores it."""
        return sampled if policy == "random" else self.expert_action()

    @abstractmethod
    def step(self, action: np.ndarray) -> Step:
        """Take an action (U,)."""

    def state_factors(self) -> Mapping[str, float | np.ndarray]:
        """Return ground-truth factors of the present state by name, numbers or arrays; recordings hold them before each step.

        They are what a state must hold to be planned with, in numbers that do not jump: of an angle cosine and sine.
        """
        return {}


SimulatorFactory = Callable[[int], Simulator]
"""Makes a simulator, given the side of its square image in pixels: a subclass of ``Simulator`` or a function."""


@dataclass
class Trajectory:
    """An episode that was played.

    Attributes:
        frames: Images, (F, H, W, 3) uint8.
        actions: Actions as recorded, (F-1, U) float32.
        factors: Ground-truth factors by name, those of a step and those of the state before it, (F-1, ...) each: int64 where
            discrete, else float32.
        states: States to return to, (F, S); of shape (0,) where they were not kept.
    """

    frames: np.ndarray
    actions: np.ndarray
    factors: dict[str, np.ndarray]
    states: np.ndarray


def record_episode(
    simulator: Simulator, generator: np.random.Generator, steps: int, policy: Mapping[str, float], keep_states: bool = True
) -> Trajectory:
    """Play an episode; its start and what is drawn for each step do not depend on the policy.

    Args:
        simulator: Where to play; its own state is replaced.
        generator: Draws the start, random actions, and which of them are taken.
        steps: Actions to take, at least 1; there is one frame more.
        policy: Share of the steps that each policy of the simulator takes.
        keep_states: Whether the episode is to be returned to. A simulator that cannot return is played without.
    """
    simulator.reset(int(generator.integers(2**31)))
    frames, states = [simulator.render()], [simulator.get_state()] if keep_states else []
    taken: list[Step] = []
    before: list[Mapping[str, float | np.ndarray]] = []
    for _ in range(steps):
        before.append(simulator.state_factors())
        taken.append(simulator.step(draw_action(simulator, generator, policy)))
        frames.append(simulator.render())
        if keep_states:
            states.append(simulator.get_state())
    factors = {name: _column([step.factors[name] for step in taken]) for name in taken[0].factors}
    factors |= {name: np.array([each[name] for each in before], dtype=np.float32) for name in before[0]}
    actions = np.array([step.action for step in taken], dtype=np.float32)
    return Trajectory(np.stack(frames), actions, factors, np.stack(states) if states else np.empty(0))


def draw_action(simulator: Simulator, generator: np.random.Generator, policy: Mapping[str, float]) -> np.ndarray:
    """Draw the next action (U,) of a mixture of policies; what is drawn for it does not depend on the mixture.

    Args:
        simulator: In the present state.
        generator: Draws the action that ignores the state, and which policy acts.
        policy: Share of the steps that each policy of the simulator takes.
    """
    sampled, bounds = simulator.sample_action(generator), np.cumsum(list(policy.values()))
    chosen = int(np.searchsorted(bounds, generator.random() * bounds[-1], side="right"))
    return simulator.policy_action(list(policy)[chosen], sampled)


def check_policy(known: tuple[str, ...], policy: Mapping[str, float]) -> None:
    """Check that a simulator with some policies has those that are to be mixed.

    Raises:
        ValueError: It has not, a share is negative, or all are zero.
    """
    unknown = [name for name in policy if name not in known]
    if unknown or not policy or min(policy.values()) < 0 or not 0 < sum(policy.values()) < np.inf:
        raise ValueError(f"policy is {dict(policy)}, expected shares of {', '.join(known)}, which are 0 or more and not all 0.")


def direction(angle: float) -> np.ndarray:
    """Return cosine and sine of an angle in radians, (2,): the same for angles that are a whole turn apart."""
    return np.array([math.cos(angle), math.sin(angle)])


def _column(values: list[float | int]) -> np.ndarray:
    return np.array(values, dtype=np.int64 if isinstance(values[0], int) else np.float32)
