"""Planners: sequences of actions that a world model expects to be cheap, for many episodes at once.

All candidates of all episodes go through the model together, and the draws of an episode are keyed by it, so that they do not
depend on which others are planned beside it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from lam.noise import keyed_normal, keyed_uniform, splitmix64

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.


@dataclass
class Problem:
    """What is to be planned.

    Attributes:
        cost: Cost (E, K) of candidates (E, K, H, U); differentiable for the gradient planner.
        keys: One 64-bit integer an episode, (E,); all noise of an episode is a function of it.
        horizon: Steps H.
        low: Smallest value of each number of an action, (U,).
        high: Largest value, (U,).
        mean: Where a search starts, (E, H, U) or what broadcasts to it: the mean of the recorded actions, or an earlier plan.
        std: How far it looks at first, (U,).
    """

    cost: Callable[[Tensor], Tensor]
    keys: Tensor
    horizon: int
    low: Tensor
    high: Tensor
    mean: Tensor
    std: Tensor

    def start(self) -> Tensor:
        """The first mean of every episode, (E, H, U), within bounds."""
        return self.clip_actions(self.mean.expand(len(self.keys), self.horizon, len(self.low)))

    def clip_actions(self, actions: Tensor) -> Tensor:
        """Actions (..., U) moved into their bounds."""
        return actions.clamp(self.low, self.high)

    def noise(self, turn: int, num: int) -> Tensor:
        """Standard normal noise of a turn of the search, (E, num, H, U)."""
        return keyed_normal(splitmix64(self.keys) + turn, (num, self.horizon, len(self.low)))


@dataclass
class Plan:
    """What a planner found.

    Attributes:
        actions: One sequence an episode, (E, H, U), within bounds.
        cost: What the model expects of it, (E,).
        trace: Cost of the best candidate so far after each turn, (turns, E): a search that is still falling is too short.
    """

    actions: Tensor
    cost: Tensor
    trace: Tensor = field(default_factory=lambda: torch.empty(0))


class Planner(ABC):
    """Looks for a cheap sequence of actions."""

    @abstractmethod
    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Candidates that it costs an episode."""


class CEM(Planner):
    """Cross-entropy method (Rubinstein 1999): a Gaussian over sequences, refitted to its cheapest draws turn by turn.

    The current mean is one of the candidates and the last mean is the plan, as in the public code whose protocol
    https://arxiv.org/abs/2601.05230 adopts for planning on DROID.

    Args:
        candidates: Sequences a turn; 300 there.
        elites: Cheapest ones that the Gaussian is refitted to; 10 there.
        turns: Refits; 15 there.
        smallest_std: The search never narrows below this share of its first width.
    """

    def __init__(self, candidates: int = 300, elites: int = 10, turns: int = 15, smallest_std: float = 0.0) -> None:
        if not 2 <= elites <= candidates or turns < 1:
            raise ValueError(f"CEM needs 2 <= elites <= candidates and a turn; got {elites}, {candidates} and {turns} turns.")
        self.candidates, self.elites, self.turns, self.smallest_std = candidates, elites, turns, smallest_std

    @property
    def evaluations(self) -> int:
        """Candidates that it costs an episode."""
        return self.candidates * self.turns + 1

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        mean = problem.start()
        std = problem.std.expand_as(mean)
        trace = []
        for turn in range(self.turns):
            drawn = mean[:, None] + std[:, None] * problem.noise(turn, self.candidates - 1)
            candidates = torch.cat([mean[:, None], problem.clip_actions(drawn)], dim=1)
            costs = problem.cost(candidates)
            best = costs.topk(self.elites, dim=1, largest=False)
            elites = candidates.gather(1, best.indices[:, :, None, None].expand(-1, -1, *mean.shape[1:]))
            mean = elites.mean(dim=1)
            std = elites.std(dim=1, correction=0).maximum(self.smallest_std * problem.std)
            trace.append(best.values[:, 0])
        return Plan(mean, problem.cost(mean[:, None])[:, 0], torch.stack(trace).cummin(dim=0).values)


class MPPI(Planner):
    """Model predictive path integral control (Williams et al., https://arxiv.org/abs/1509.01149): all draws, weighted by cost.

    Weights are exp(-cost / temperature), costs of an episode counted from their smallest in units of their spread, so that
    one temperature fits costs of any scale.

    Args:
        candidates: Sequences a turn.
        turns: Updates of the mean.
        temperature: Small follows the cheapest draw alone, large the mean of all.
        decay: By what the width of the search shrinks from turn to turn.
    """

    def __init__(self, candidates: int = 300, turns: int = 15, temperature: float = 0.1, decay: float = 0.8) -> None:
        if candidates < 2 or turns < 1 or temperature <= 0 or not 0 < decay <= 1:
            raise ValueError(
                "MPPI needs 2 candidates, a turn, a temperature above 0 and a decay in (0, 1]; got "
                f"{candidates}, {turns}, {temperature}, {decay}."
            )
        self.candidates, self.turns, self.temperature, self.decay = candidates, turns, temperature, decay

    @property
    def evaluations(self) -> int:
        """Candidates that it costs an episode."""
        return self.candidates * self.turns + 1

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        mean, std = problem.start(), problem.std
        trace = []
        for turn in range(self.turns):
            drawn = mean[:, None] + std * problem.noise(turn, self.candidates - 1)
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
    """Adam on the actions through the model, from several starts; the cheapest end wins.

    Args:
        starts: Sequences that are improved, the first from the mean, the others drawn around it.
        turns: Steps of Adam.
        learning_rate: Size of a step, in units of the search's first width.
    """

    def __init__(self, starts: int = 8, turns: int = 50, learning_rate: float = 0.1) -> None:
        if starts < 1 or turns < 1 or learning_rate <= 0:
            raise ValueError(f"Gradient descent needs a start, a turn and a step; got {starts}, {turns}, {learning_rate}.")
        self.starts, self.turns, self.learning_rate = starts, turns, learning_rate

    @property
    def evaluations(self) -> int:
        """Candidates that it costs an episode; each of them with its gradient but the last."""
        return self.starts * (self.turns + 1)

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        trace = []
        with torch.inference_mode(False), torch.enable_grad():
            # clones, as what is made in inference mode cannot take part in gradients
            problem = replace(problem, **{name: getattr(problem, name).clone() for name in ("low", "high", "mean", "std")})
            mean = problem.start()
            first = torch.cat([mean[:, None], mean[:, None] + problem.std * problem.noise(0, self.starts - 1)], dim=1)
            offsets = torch.zeros_like(first, requires_grad=True)  # in units of the width
            adam = torch.optim.Adam([offsets], lr=self.learning_rate)
            for _ in range(self.turns):
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


class Stay(Planner):
    """Bound: the first mean of the search at every step, whatever the goal."""

    evaluations = 0

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        actions = problem.start()
        return Plan(actions, problem.cost(actions[:, None])[:, 0])


class Chance(Planner):
    """Bound: actions drawn as the recorded ones are spread, within bounds, whatever the goal."""

    evaluations = 0

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        actions = problem.clip_actions(problem.start() + problem.std * problem.noise(0, 1)[:, 0])
        return Plan(actions, problem.cost(actions[:, None])[:, 0])


class StraightLines(Planner):
    """The same action at every step, the cheapest of evenly spread draws, as NWM is made to plan on RECON.

    Args:
        candidates: Actions tried; 120 there.
        elites: Cheapest ones whose mean is taken; 5 there.
    """

    def __init__(self, candidates: int = 120, elites: int = 5) -> None:
        if not 1 <= elites <= candidates:
            raise ValueError(f"StraightLines needs 1 <= elites <= candidates; got {elites} and {candidates}.")
        self.candidates, self.elites = candidates, elites

    @property
    def evaluations(self) -> int:
        """Candidates that it costs an episode."""
        return self.candidates + 1

    def plan(self, problem: Problem) -> Plan:
        """A sequence for every episode."""
        shares = keyed_uniform(splitmix64(problem.keys), (self.candidates, 1, len(problem.low)))
        candidates = (problem.low + shares * (problem.high - problem.low)).expand(-1, -1, problem.horizon, -1)
        best = problem.cost(candidates).topk(self.elites, dim=1, largest=False).indices
        actions = candidates.gather(1, best[:, :, None, None].expand(-1, -1, *candidates.shape[2:])).mean(dim=1)
        return Plan(actions, problem.cost(actions[:, None])[:, 0])
