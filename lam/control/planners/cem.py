"""The cross-entropy method."""

from __future__ import annotations

import torch
from typing_extensions import override

from lam.control.planners.base import Plan, Planner, Problem


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
