"""The planning problem, and the interface of planners that solve it for many episodes at once.

All candidates of all episodes go through the model together, and the noise of an episode is keyed by it, so that it does not
depend on which others are planned beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from lam.noise import keyed_normal, splitmix64

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.


@dataclass
class Problem:
    """Planning problem of some episodes.

    Attributes:
        cost: Cost (E, K) of candidates (E, K, H, U); differentiable for the gradient planner.
        noise_keys: One 64-bit integer an episode, (E,); all noise of an episode is a function of it.
        horizon: Steps H.
        low: Smallest value of each number of an action, (U,).
        high: Largest value, (U,).
        mean: Mean of the first candidates, (E, H, U) or what broadcasts to it: that of recorded actions, or an earlier plan.
        std: Standard deviation of the first candidates, (U,).
        elites: Sequences of an earlier plan that are worth a try, (E, K, H, U); none if not given.
    """

    cost: Callable[[Tensor], Tensor]
    noise_keys: Tensor
    horizon: int
    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor
    elites: Tensor | None = None

    def initial_mean(self) -> Tensor:
        """Return the first mean of every episode, (E, H, U), within bounds."""
        return self.clip_actions(self.mean.expand(len(self.noise_keys), self.horizon, len(self.low)))

    def clip_actions(self, actions: Tensor) -> Tensor:
        """Move actions (..., U) into their bounds."""
        return actions.clamp(self.low, self.high)

    def noise(self, iteration: int, num: int) -> Tensor:
        """Draw the standard normal noise of an iteration, (E, num, H, U)."""
        return keyed_normal(splitmix64(self.noise_keys) + iteration, (num, self.horizon, len(self.low)))


@dataclass
class Plan:
    """Result of a planner.

    Attributes:
        actions: One sequence an episode, (E, H, U), within bounds.
        cost: Cost that the model predicts for it, (E,).
        trace: Cost of the best candidate so far after each iteration, (iterations, E): where it still falls, the search is too
            short.
        elites: Cheapest sequences, (E, K, H, U), cheapest first, that the next plan of the same episodes may begin with; None
            where a planner does not hand them on.
    """

    actions: Tensor
    cost: Tensor
    trace: Tensor = field(default_factory=lambda: torch.empty(0))
    elites: Tensor | None = None

    def continuation(self, taken: int, mean: Tensor) -> Tensor:
        """Return what the next search starts from, (E, 1+K, H, U): plan and elites without the actions taken, then the mean.

        Args:
            taken: Actions of the plan that have been taken.
            mean: Actions at the end, of which nothing is known yet, (E, 1, H, U).
        """
        sequences = self.actions[:, None]
        if self.elites is not None:
            sequences = torch.cat([sequences, self.elites], dim=1)
        rest = sequences[:, :, taken:]
        return torch.cat([rest, mean[:, :, rest.shape[2] :].expand(-1, rest.shape[1], -1, -1)], dim=2)


class Planner(ABC):
    """Search for a cheap sequence of actions; one subclass an algorithm."""

    @abstractmethod
    def plan(self, problem: Problem) -> Plan:
        """Return a sequence for every episode."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode."""
