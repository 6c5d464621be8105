"""Model predictive path integral control."""

from __future__ import annotations

import torch
from typing_extensions import override

from lam.control.planners.base import Plan, Planner, Problem


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
