"""Policies: from states and goals to actions, by a search through a world model, without it, or without a look at the goal."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lam.control.imagine import Act, Imagination, goal_cost
from lam.control.latent import LatentProblem, LatentSearch
from lam.control.planners import CEM, Chance, Plan, Planner, Problem, Stay

# Letters of this file: E episodes, H steps, U numbers of an action.

Policy = Callable[[Tensor, Tensor, Tensor, Tensor], Plan]
"""Plans (E, H, U) for states (E, N, D), goals (E, N, D), keys of the episodes (E,) and where to begin, (E, H, U)."""


@dataclass
class Search:
    """How a world model is searched.

    Attributes:
        planner: The search; the cross-entropy method with the papers' budget if not given.
        window: Imagined states that the world model looks back at; 2 in the public code adopted by
            https://arxiv.org/abs/2601.05230.
        at_once: Sequences that go through the model together, for memory.
        goal_tokens: Tokens of a state that the cost compares with the goal's; all if not given.
        latent: The search among latents of the prior, where one is asked for; with the papers' budget if not given.
    """

    planner: Planner | None = None
    window: int = 2
    at_once: int = 1024
    goal_tokens: list[int] | None = None
    latent: LatentSearch | None = None

    def mask(self, states: Tensor) -> Tensor | None:
        """Which tokens of states (E, N, D) the cost looks at, (N,); None where it is all."""
        if self.goal_tokens is None:
            return None
        mask = torch.zeros(states.shape[1], device=states.device)
        mask[self.goal_tokens] = 1
        return mask


def policies(module: Any, search: Search) -> dict[str, Policy]:
    """What a controlled world model is compared with, by the suffix of its keys.

    The search through the controller (no suffix), ``_stay`` (the mean action), ``_chance`` (actions as the recorded ones are
    spread) and ``_clone`` (behavior cloning).
    """

    def clone(states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Plan:
        posed = problem(module, controller(module), search, states, goals, keys, start)
        actions = posed.clip_actions(module.heads["clone"](states.float(), goals.float()))
        return Plan(actions, posed.cost(actions[:, None])[:, 0])

    return {
        "": searched(module, controller(module), search),
        "_stay": searched(module, controller(module), search, Stay()),
        "_chance": searched(module, controller(module), search, Chance()),
        "_clone": clone,
    }


def alternatives(module: Any, search: Search) -> dict[str, Policy]:
    """Other searches through the same world model, each as dear as the first.

    ``_latent`` looks among latents of the prior and needs no controller, only the reverse head. Two ought to fail: ``_blind``
    through the controller that does not see the state, ``_shuffled`` with each candidate at the cost of another.
    """

    def latent(states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Plan:
        mask = search.mask(states)
        posed = LatentProblem(module, states[:, None], goals, keys, start.shape[1], search.window, search.at_once, mask)
        return (search.latent or LatentSearch()).plan(posed)

    def shuffled(states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Plan:
        posed = problem(module, controller(module), search, states, goals, keys, start)
        return (search.planner or CEM()).plan(replace(posed, cost=lambda actions: posed.cost(actions).roll(1, dims=1)))

    return {
        "_latent": latent,
        "_blind": searched(module, partial(module.act, "blind"), search),
        "_shuffled": shuffled,
    }


def controller(module: Any) -> Act:
    """The controller that sees the state."""
    return partial(module.act, "controller")


def searched(module: Any, act: Act, search: Search, planner: Planner | None = None) -> Policy:
    """A planner, the search's own if none is given, with a controller and the module's world model."""

    def policy(states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Plan:
        return (planner or search.planner or CEM()).plan(problem(module, act, search, states, goals, keys, start))

    return policy


def problem(module: Any, act: Act, search: Search, states: Tensor, goals: Tensor, keys: Tensor, start: Tensor) -> Problem:
    """What is to be planned, from states to goals (E, N, D); bounds are those of the recorded actions."""
    imagination = Imagination(module, act, search.window, search.at_once)
    mask = search.mask(states)
    with torch.inference_mode(False):  # clones outside of it can take part in the gradients that a planner may need
        first, goals = states[:, None].clone(), goals.clone()
    none = first.new_zeros(len(first), 0, module.bottleneck.num_latents, module.bottleneck.dim)
    low, high, std = (bound.to(first.device) for bound in bounds(module.data.index))

    def cost(actions: Tensor) -> Tensor:
        return goal_cost(imagination(first, none, actions)[:, :, -1], goals, mask)

    return Problem(cost, keys, start.shape[1], low, high, start, std)


def bounds(index: Any) -> tuple[Tensor, Tensor, Tensor]:
    """Smallest and largest value of each number of the recorded actions, and their standard deviation, (U,) each."""
    statistics = index.action_statistics
    low, high, std = (torch.tensor(getattr(statistics, name)) for name in ("low", "high", "std"))
    return low, high, std


def beginning(index: Any, episodes: int, steps: int) -> Tensor:
    """Where a search begins, (E, H, U): the mean of the recorded actions at every step."""
    return torch.tensor(index.action_statistics.mean).expand(episodes, steps, -1)
