"""Rungs of the ladder: policies in which dynamics or cost are the simulator's own."""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from torch import Tensor

from lam.control.base import ActionConditionedModel
from lam.control.closed_loop import EpisodePolicy, encode_images
from lam.control.episodes import EpisodeRunner, Outcome
from lam.control.imagination import Imagination, goal_cost
from lam.control.ladder.reading import CHUNK, StateReader
from lam.control.planners import CEM, Plan
from lam.control.policies import Search, bounded_problem

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.


def true_dynamics(model: ActionConditionedModel, search: Search) -> EpisodePolicy:
    """Return a policy whose candidates run in the simulator; the pictures at their end cost what the model says."""

    def policy(runners: list[EpisodeRunner], noise_keys: Tensor, initial: Tensor) -> Plan:
        goals = encode_images(model, [runner.goal_image for runner in runners])
        mask = search.mask(goals)

        def cost(actions: Tensor) -> Tensor:
            pairs = list(zip(runners, actions.double().cpu().numpy(), strict=True))
            images = [runner.imagine(candidate) for runner, candidates in pairs for candidate in candidates]
            failed = torch.tensor([image is None for image in images]).unflatten(0, actions.shape[:2])
            seen = [runners[0].image if image is None else image for image in images]
            parts = [encode_images(model, seen[first : first + CHUNK]) for first in range(0, len(seen), CHUNK)]
            costs = goal_cost(torch.cat(parts).unflatten(0, actions.shape[:2]), goals, mask)
            return costs.masked_fill(failed.to(costs.device), float("inf"))

        return (search.planner or CEM()).plan(bounded_problem(cost, model.action_statistics, noise_keys, initial))

    return policy


def true_cost(model: ActionConditionedModel, search: Search, reader: StateReader) -> EpisodePolicy:
    """Return a policy that imagines as the row does; the state read from what it imagines costs what the simulator says."""
    controller = partial(model.run_controller, "controller")

    def policy(runners: list[EpisodeRunner], noise_keys: Tensor, initial: Tensor) -> Plan:
        imagination = Imagination(model, controller, search.window, search.chunk_size)
        states = encode_images(model, [runner.image for runner in runners])[:, None]
        none = states.new_zeros(len(states), 0, model.bottleneck.num_latents, model.bottleneck.dim)

        def cost(actions: Tensor) -> Tensor:
            last = imagination(states, none, actions)[:, :, -1].float()
            numbers = reader(last.flatten(0, 1)).unflatten(0, actions.shape[:2]).numpy()
            return torch.tensor(
                [
                    [_distance(runner, reader.read, candidate) for candidate in each]
                    for runner, each in zip(runners, numbers, strict=True)
                ],
                dtype=torch.float32,
                device=actions.device,
            )

        return (search.planner or CEM()).plan(bounded_problem(cost, model.action_statistics, noise_keys, initial))

    return policy


def _distance(runner: EpisodeRunner, read: list[int], numbers: np.ndarray) -> float:
    """Return the simulator's distance to the goal from where some numbers are as given; infinite where there is none."""
    state, distance = runner.goal.copy(), float("inf")
    state[read] = numbers
    with runner.handle.use(Outcome(distance), state) as simulator:
        distance = simulator.distance(runner.goal)
    return distance
