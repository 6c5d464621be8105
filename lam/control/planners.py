"""Planners: search for sequences of actions that a world model predicts to be cheap, for many episodes at once.

All candidates of all episodes go through the model together, and the noise of an episode is keyed by it, so that it does not
depend on which others are planned beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from typing_extensions import override

from lam.noise import keyed_normal, keyed_uniform, splitmix64

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
    """

    cost: Callable[[Tensor], Tensor]
    noise_keys: Tensor
    horizon: int
    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

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
    """

    actions: Tensor
    cost: Tensor
    trace: Tensor = field(default_factory=lambda: torch.empty(0))


class Planner(ABC):
    """Search for a cheap sequence of actions; one subclass an algorithm."""

    @abstractmethod
    def plan(self, problem: Problem) -> Plan:
        """Return a sequence for every episode."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode."""


class CEM(Planner):
    """Cross-entropy method (Rubinstein 1999): a Gaussian over sequences, refitted to its cheapest samples.

    The current mean is one of the candidates and the last mean is the plan, as in the public code whose protocol
    https://arxiv.org/abs/2601.05230 adopts for planning on DROID.

    Args:
        num_samples: Sequences an iteration; 300 there.
        num_elites: Cheapest ones that the Gaussian is refitted to; 10 there.
        num_iterations: Refits; 15 there.
        min_std: Smallest standard deviation, as a share of the first.
    """

    def __init__(self, num_samples: int = 300, num_elites: int = 10, num_iterations: int = 15, min_std: float = 0.0) -> None:
        if not 2 <= num_elites <= num_samples or num_iterations < 1:
            raise ValueError(
                f"num_elites is {num_elites}, num_samples {num_samples}, num_iterations {num_iterations}; CEM needs "
                "2 <= num_elites <= num_samples and at least 1 iteration."
            )
        self.num_samples, self.num_elites, self.num_iterations, self.min_std = num_samples, num_elites, num_iterations, min_std

    @property
    @override
    def evaluations(self) -> int:
        return self.num_samples * self.num_iterations + 1

    @override
    def plan(self, problem: Problem) -> Plan:
        mean = problem.initial_mean()
        std = problem.std.expand_as(mean)
        trace = []
        for iteration in range(self.num_iterations):
            drawn = mean[:, None] + std[:, None] * problem.noise(iteration, self.num_samples - 1)
            candidates = torch.cat([mean[:, None], problem.clip_actions(drawn)], dim=1)
            costs = problem.cost(candidates)
            best = costs.topk(self.num_elites, dim=1, largest=False)
            elites = candidates.gather(1, best.indices[:, :, None, None].expand(-1, -1, *mean.shape[1:]))
            mean = elites.mean(dim=1)
            std = elites.std(dim=1, correction=0).maximum(self.min_std * problem.std)
            trace.append(best.values[:, 0])
        return Plan(mean, problem.cost(mean[:, None])[:, 0], torch.stack(trace).cummin(dim=0).values)


class MPPI(Planner):
    """Model predictive path integral control (Williams et al., https://arxiv.org/abs/1509.01149): samples weighted by cost.

    Weights are exp(-cost / temperature), costs of an episode counted from their smallest in units of their spread, so that
    one temperature fits costs of any scale.

    Args:
        num_samples: Sequences an iteration.
        num_iterations: Updates of the mean.
        temperature: Small follows the cheapest sample alone, large the mean of all.
        decay: Factor of the standard deviation from one iteration to the next.
    """

    def __init__(self, num_samples: int = 300, num_iterations: int = 15, temperature: float = 0.1, decay: float = 0.8) -> None:
        if num_samples < 2 or num_iterations < 1 or temperature <= 0 or not 0 < decay <= 1:
            raise ValueError(
                f"num_samples is {num_samples}, num_iterations {num_iterations}, temperature {temperature}, decay {decay}; "
                "MPPI needs at least 2 samples, at least 1 iteration, a temperature above 0 and a decay in (0, 1]."
            )
        self.num_samples, self.num_iterations, self.temperature, self.decay = num_samples, num_iterations, temperature, decay

    @property
    @override
    def evaluations(self) -> int:
        return self.num_samples * self.num_iterations + 1

    @override
    def plan(self, problem: Problem) -> Plan:
        mean, std = problem.initial_mean(), problem.std
        trace = []
        for iteration in range(self.num_iterations):
            drawn = mean[:, None] + std * problem.noise(iteration, self.num_samples - 1)
            candidates = torch.cat([mean[:, None], problem.clip_actions(drawn)], dim=1)
            costs = problem.cost(candidates)
            least = costs.amin(dim=1, keepdim=True)
            spread = costs.std(dim=1, keepdim=True).clamp_min(torch.finfo(costs.dtype).tiny)
            weights = torch.softmax(-(costs - least) / (spread * self.temperature), dim=1)
            mean = (weights[:, :, None, None] * candidates).sum(dim=1)
            std = std * self.decay
            trace.append(least[:, 0])
        return Plan(mean, problem.cost(mean[:, None])[:, 0], torch.stack(trace).cummin(dim=0).values)


class GradientDescent(Planner):
    """Adam on the actions, with gradients through the model, from several starts; the cheapest result is the plan.

    Args:
        num_starts: Sequences that are improved: the mean, and samples around it.
        num_iterations: Steps of Adam.
        learning_rate: Size of a step, in standard deviations of the first candidates.
    """

    def __init__(self, num_starts: int = 8, num_iterations: int = 50, learning_rate: float = 0.1) -> None:
        if num_starts < 1 or num_iterations < 1 or learning_rate <= 0:
            raise ValueError(
                f"num_starts is {num_starts}, num_iterations {num_iterations}, learning_rate {learning_rate}; gradient descent "
                "needs at least 1 start, at least 1 iteration and a learning rate above 0."
            )
        self.num_starts, self.num_iterations, self.learning_rate = num_starts, num_iterations, learning_rate

    @property
    @override
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode, all but the last of each start with its gradient."""
        return self.num_starts * (self.num_iterations + 1)

    @override
    def plan(self, problem: Problem) -> Plan:
        trace = []
        with torch.inference_mode(False), torch.enable_grad():
            # clones, as what is made in inference mode cannot take part in gradients
            problem = replace(problem, **{name: getattr(problem, name).clone() for name in ("low", "high", "mean", "std")})
            mean = problem.initial_mean()
            first = torch.cat([mean[:, None], mean[:, None] + problem.std * problem.noise(0, self.num_starts - 1)], dim=1)
            offsets = torch.zeros_like(first, requires_grad=True)  # in standard deviations
            adam = torch.optim.Adam([offsets], lr=self.learning_rate)
            for _ in range(self.num_iterations):
                costs = problem.cost(problem.clip_actions(first + problem.std * offsets))
                adam.zero_grad()
                costs.sum().backward()
                adam.step()
                trace.append(costs.detach().amin(dim=1))
        candidates = problem.clip_actions(first + problem.std * offsets.detach())
        costs = problem.cost(candidates)
        best = costs.argmin(dim=1)
        each = torch.arange(len(best), device=best.device)
        return Plan(candidates[each, best], costs[each, best], torch.stack(trace).cummin(dim=0).values)


class MeanAction(Planner):
    """Reference: the first mean of the search at every step, whatever the goal."""

    evaluations = 0

    @override
    def plan(self, problem: Problem) -> Plan:
        actions = problem.initial_mean()
        return Plan(actions, problem.cost(actions[:, None])[:, 0])


class RandomPlan(Planner):
    """Reference: actions drawn with the spread of the recorded ones, within bounds, whatever the goal."""

    evaluations = 0

    @override
    def plan(self, problem: Problem) -> Plan:
        actions = problem.clip_actions(problem.initial_mean() + problem.std * problem.noise(0, 1)[:, 0])
        return Plan(actions, problem.cost(actions[:, None])[:, 0])


class StraightLines(Planner):
    """Straight lines: the same action at every step, the cheapest of uniform samples, as NWM is made to plan on RECON.

    Args:
        num_samples: Actions that are evaluated; 120 there.
        num_elites: Cheapest ones whose mean is taken; 5 there.
    """

    def __init__(self, num_samples: int = 120, num_elites: int = 5) -> None:
        if not 1 <= num_elites <= num_samples:
            raise ValueError(
                f"num_elites is {num_elites}, num_samples {num_samples}; StraightLines needs 1 <= num_elites <= num_samples."
            )
        self.num_samples, self.num_elites = num_samples, num_elites

    @property
    @override
    def evaluations(self) -> int:
        return self.num_samples + 1

    @override
    def plan(self, problem: Problem) -> Plan:
        uniform = keyed_uniform(splitmix64(problem.noise_keys), (self.num_samples, 1, len(problem.low)))
        candidates = (problem.low + uniform * (problem.high - problem.low)).expand(-1, -1, problem.horizon, -1)
        best = problem.cost(candidates).topk(self.num_elites, dim=1, largest=False).indices
        actions = candidates.gather(1, best[:, :, None, None].expand(-1, -1, *candidates.shape[2:])).mean(dim=1)
        return Plan(actions, problem.cost(actions[:, None])[:, 0])
