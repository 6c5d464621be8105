"""Policies: from states and goals to actions, by planning through a world model, by cloning, or without regard to the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

import torch
from torch import Tensor

from lam.control.base import ActionConditionedModel
from lam.control.imagination import Controller, Imagination, goal_cost
from lam.control.latent_planning import LatentPlanner, LatentProblem, LatentSearch
from lam.control.planners import CEM, MeanAction, Plan, Planner, Problem, RandomPlan
from lam.data.schema import ActionStatistics
from lam.models.base import WorldModel

# Letters of this file: E episodes, H steps, U numbers of an action.

Policy = Callable[[Tensor, Tensor, Tensor, Tensor], Plan]
"""Plans (E, H, U) for states (E, N, D), goals (E, N, D), noise keys of the episodes (E,) and what the search starts
from, (E, 1+K, H, U): its first mean, then candidates that an earlier plan handed on."""


@dataclass
class Search:
    """How plans are searched for.

    Attributes:
        planner: The algorithm; the cross-entropy method with the papers' budget if not given.
        window: Imagined states that the world model looks back at; 2 in the public code adopted by
            https://arxiv.org/abs/2601.05230.
        chunk_size: Most sequences that go through the model together; bounds the memory.
        goal_tokens: Tokens of a state that the cost compares with the goal's; all if not given.
        latent: The search among latents of the prior, where one is asked for; with the papers' budget if not given.
            ``CategoricalCEM`` searches among codes.
    """

    planner: Planner | None = None
    window: int = 2
    chunk_size: int = 1024
    goal_tokens: list[int] | None = None
    latent: LatentSearch | LatentPlanner | None = None  # the first is what settings without a class_path mean

    def mask(self, states: Tensor) -> Tensor | None:
        """Return which tokens of states (E, N, D) the cost compares, (N,); None where it is all."""
        if self.goal_tokens is None:
            return None
        mask = torch.zeros(states.shape[1], device=states.device)
        mask[self.goal_tokens] = 1
        return mask


def policies(model: ActionConditionedModel, search: Search) -> dict[str, Policy]:
    """Return the planner and the references that it is compared with, by the suffix of their keys.

    The planner through the controller (no suffix), ``_stay`` (the mean action), ``_chance`` (actions with the spread of the
    recorded ones), ``_clone`` (behavior cloning) and, where latents were cloned, ``_latent_clone`` (latents from state and
    goal, without a search, read back by the action decoder).
    """
    controller, statistics = partial(model.run_controller, "controller"), model.action_statistics

    def clone(states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor) -> Plan:
        problem = make_problem(model, statistics, controller, search, states, goals, noise_keys, initial)
        actions = problem.clip_actions(model.clone_actions(states, goals))
        return Plan(actions, problem.cost(actions[:, None])[:, 0])

    def latent_clone(states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor) -> Plan:
        problem = make_latent_problem(model, search, states, goals, noise_keys, initial)
        latents = model.clone_latents(states, goals)
        return Plan(problem.decode_actions(latents), problem.cost(latents[:, None])[:, 0])

    found = {
        "": planner_policy(model, statistics, controller, search),
        "_stay": planner_policy(model, statistics, controller, search, MeanAction()),
        "_chance": planner_policy(model, statistics, controller, search, RandomPlan()),
        "_clone": clone,
    }
    return found | {"_latent_clone": latent_clone} if model.unlabeled_clips else found


def ablations(model: ActionConditionedModel, search: Search) -> dict[str, Policy]:
    """Return other planners through the same world model by the suffix of their keys, each as expensive as the first.

    ``_latent`` searches among latents of the prior and needs no controller, only the action decoder. Two should fail:
    ``_blind`` through the controller that does not see the state, ``_shuffled`` with each candidate at the cost of another.
    """
    controller, statistics = partial(model.run_controller, "controller"), model.action_statistics

    def latent(states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor) -> Plan:
        problem = make_latent_problem(model, search, states, goals, noise_keys, initial)
        return (search.latent or LatentSearch()).plan(problem)

    def shuffled(states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor) -> Plan:
        problem = make_problem(model, statistics, controller, search, states, goals, noise_keys, initial)
        return (search.planner or CEM()).plan(replace(problem, cost=lambda actions: problem.cost(actions).roll(1, dims=1)))

    return {
        "_latent": latent,
        "_blind": planner_policy(model, statistics, partial(model.run_controller, "blind"), search),
        "_shuffled": shuffled,
    }


def planner_policy(
    model: WorldModel, statistics: ActionStatistics, controller: Controller, search: Search, planner: Planner | None = None
) -> Policy:
    """Return the policy of a planner through a world model.

    Args:
        model: The world model.
        statistics: Statistics of the recorded actions; plans stay within their bounds.
        controller: Turns actions into latents.
        search: How plans are searched for.
        planner: The algorithm; that of the search if not given.
    """

    def policy(states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor) -> Plan:
        problem = make_problem(model, statistics, controller, search, states, goals, noise_keys, initial)
        return (planner or search.planner or CEM()).plan(problem)

    return policy


def make_problem(
    model: WorldModel,
    statistics: ActionStatistics,
    controller: Controller,
    search: Search,
    states: Tensor,
    goals: Tensor,
    noise_keys: Tensor,
    initial: Tensor,
) -> Problem:
    """Return the planning problem of leading states to goals, (E, N, D) each, within the bounds of the recorded actions."""
    imagination = Imagination(model, controller, search.window, search.chunk_size)
    mask = search.mask(states)
    with torch.inference_mode(False):  # clones outside of it can take part in the gradients that a planner may need
        first, goals = states[:, None].clone(), goals.clone()
    none = first.new_zeros(len(first), 0, model.bottleneck.num_latents, model.bottleneck.dim)

    def cost(actions: Tensor) -> Tensor:
        return goal_cost(imagination(first, none, actions)[:, :, -1], goals, mask)

    return bounded_problem(cost, statistics, noise_keys, initial)


def bounded_problem(
    cost: Callable[[Tensor], Tensor], statistics: ActionStatistics, noise_keys: Tensor, initial: Tensor
) -> Problem:
    """Return the problem of a cost (E, K) of candidates (E, K, H, U) within the bounds of the recorded actions.

    Args:
        cost: The cost.
        statistics: Statistics of the recorded actions.
        noise_keys: Noise keys of the episodes, (E,).
        initial: What the search starts from, (E, 1+K, H, U).
    """
    low, high, std = (bound.to(initial.device) for bound in action_bounds(statistics))
    return Problem(cost, noise_keys, initial.shape[2], low, high, initial[:, 0], std, initial[:, 1:])


def make_latent_problem(
    model: ActionConditionedModel, search: Search, states: Tensor, goals: Tensor, noise_keys: Tensor, initial: Tensor
) -> LatentProblem:
    """Return the problem of leading states to goals, (E, N, D) each, by latents."""
    mask = search.mask(states)
    return LatentProblem(model, states[:, None], goals, noise_keys, initial.shape[2], search.window, search.chunk_size, mask)


def action_bounds(statistics: ActionStatistics) -> tuple[Tensor, Tensor, Tensor]:
    """Return smallest and largest value of each number of the recorded actions, and their standard deviation, (U,) each."""
    return torch.tensor(statistics.low), torch.tensor(statistics.high), torch.tensor(statistics.std)


def initial_actions(statistics: ActionStatistics, episodes: int, horizon: int) -> Tensor:
    """Return the actions that a search starts from, (E, 1, H, U): the mean of the recorded ones at every step."""
    return torch.tensor(statistics.mean).expand(episodes, 1, horizon, -1)
