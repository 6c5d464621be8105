"""Planning by gradients through the world model."""

from __future__ import annotations

from dataclasses import replace

import torch
from typing_extensions import override

from lam.control.planners.base import Plan, Planner, Problem


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
