"""Planners that others are compared with: the mean action, random actions and straight lines."""

from __future__ import annotations

from typing_extensions import override

from lam.control.planners.base import Plan, Planner, Problem
from lam.noise import keyed_uniform, splitmix64


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
