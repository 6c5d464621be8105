"""Planning in latent space: search for sequences of latents from the prior that lead to the goal, then decode them as actions.

No controller takes part in the search, so the action decoder is all that a plan needs labels for. The counterpart of planning
over known actions, https://arxiv.org/abs/2601.05230, with the bottleneck's prior in place of the spread of actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor

from lam.control.base import ActionConditionedModel
from lam.control.imagination import Imagination, goal_cost
from lam.control.planners import Plan
from lam.noise import keyed_uniform, splitmix64

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.

POOL = 2048
"""Latents that are drawn from the prior once; every step of every candidate is one of them, picked by the episode's key.
One pool for all episodes makes an episode's draws independent of the others with any prior, and Langevin dynamics cheap."""


@dataclass
class LatentProblem:
    """Planning problem of some episodes in latent space.

    Attributes:
        model: The world model with its action decoder.
        first: State that an episode starts from, (E, 1, N, D).
        goal: State that it is to end at, (E, N, D).
        noise_keys: One 64-bit integer an episode, (E,); all draws of an episode are a function of it.
        horizon: Steps H.
        window: States that the world model looks back at.
        chunk_size: Sequences that go through the model together.
        mask: Tokens that are compared with the goal's, (N,), see ``goal_cost``; all if not given.
    """

    model: ActionConditionedModel
    first: Tensor
    goal: Tensor
    noise_keys: Tensor
    horizon: int
    window: int
    chunk_size: int = 1024
    mask: Tensor | None = None

    @cached_property
    def prior(self) -> Tensor:
        """The pool, (POOL, L, A)."""
        generator = Generator(device=self.model.device).manual_seed(0)
        return self.model.bottleneck.sample_prior(POOL, generator).to(self.first.device)

    def uniform(self, iteration: int, shape: tuple[int, ...]) -> Tensor:
        """Draw numbers in (0, 1) for an iteration of the search, (E, *shape)."""
        return keyed_uniform(splitmix64(self.noise_keys) + iteration, shape)

    def draw(self, uniform: Tensor) -> Tensor:
        """Return the latents (..., L, A) of the pool that uniform numbers (...) pick."""
        return self.prior[uniform_to_index(uniform, POOL)]

    def imagine(self, latents: Tensor) -> Tensor:
        """Predict the states (E, K, H, N, D) after each of the latents (E, K, H, L, A)."""
        imagination = Imagination(self.model, lambda z, states: z, self.window, self.chunk_size)
        return imagination(self.first, latents[:, 0, :0].to(self.first.dtype), latents)

    def cost(self, latents: Tensor) -> Tensor:
        """Return the cost (E, K) of candidates (E, K, H, L, A)."""
        return goal_cost(self.imagine(latents)[:, :, -1], self.goal, self.mask)

    def decode_actions(self, latents: Tensor) -> Tensor:
        """Decode latents (E, H, L, A) as actions (E, H, U), within the bounds of the recorded ones."""
        states = torch.cat([self.first, self.imagine(latents[:, None])[:, 0, :-1]], dim=1)  # before each action
        actions = self.model.decode_actions("action_decoder", latents.flatten(0, 1), states.flatten(0, 1))
        statistics = self.model.action_statistics
        low, high = (torch.tensor(bound, device=actions.device) for bound in (statistics.low, statistics.high))
        bounded: Tensor = actions.clamp(low, high).unflatten(0, latents.shape[:2])
        return bounded


class LatentSearch:
    """Evolution strategy over sequences of latents: the cheapest are kept and copied with one step drawn anew.

    A mutation needs nothing of a latent except that the prior can draw it, so the same search serves codes and continuous
    latents. The first iteration alone is random shooting.

    Args:
        num_samples: Sequences an iteration, elites included.
        num_elites: Cheapest ones that are kept, and of which the others are mutations.
        num_iterations: Iterations, the first from the prior.
    """

    def __init__(self, num_samples: int = 300, num_elites: int = 10, num_iterations: int = 15) -> None:
        if not 1 <= num_elites < num_samples or num_iterations < 1:
            raise ValueError(
                f"num_elites is {num_elites}, num_samples {num_samples}, num_iterations {num_iterations}; a latent search "
                "needs 1 <= num_elites < num_samples and at least 1 iteration."
            )
        self.num_samples, self.num_elites, self.num_iterations = num_samples, num_elites, num_iterations

    @property
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode; decoding the plan takes one more through the model."""
        return self.num_samples + (self.num_iterations - 1) * (self.num_samples - self.num_elites)

    def plan(self, problem: LatentProblem) -> Plan:
        """Return a sequence of actions for every episode, with the cost of its latents."""
        latents = problem.draw(problem.uniform(0, (self.num_samples, problem.horizon)))
        costs = problem.cost(latents)
        trace = [costs.amin(dim=1)]
        for iteration in range(1, self.num_iterations):
            best = costs.topk(self.num_elites, dim=1, largest=False)
            elites = take_rows(latents, best.indices)
            children = mutate(problem, elites, problem.uniform(iteration, (3, self.num_samples - self.num_elites)))
            latents = torch.cat([elites, children], dim=1)
            costs = torch.cat([best.values, problem.cost(children)], dim=1)
            trace.append(costs.amin(dim=1))
        cost, winner = costs.min(dim=1)
        return Plan(problem.decode_actions(take_rows(latents, winner[:, None])[:, 0]), cost, torch.stack(trace))


def mutate(problem: LatentProblem, parents: Tensor, uniform: Tensor) -> Tensor:
    """Return copies (E, n, H, L, A) of parents (E, K, H, L, A) in which one step is drawn from the prior anew.

    Args:
        problem: Whose prior it is.
        parents: Sequences to copy.
        uniform: Uniform numbers (E, 3, n): which parent, which step, which latent of the pool.
    """
    parent, step, latent = uniform.unbind(dim=1)
    children = take_rows(parents, uniform_to_index(parent, parents.shape[1]))
    mutated_step = uniform_to_index(step, parents.shape[2])[:, :, None]
    mutated = torch.arange(parents.shape[2], device=parents.device) == mutated_step  # (E, n, H)
    return torch.where(mutated[..., None, None], problem.draw(latent)[:, :, None], children)


def take_rows(sequences: Tensor, indices: Tensor) -> Tensor:
    """Return of sequences (E, K, ...) those of indices (E, n), (E, n, ...)."""
    return sequences[torch.arange(len(sequences), device=sequences.device)[:, None], indices]


def uniform_to_index(uniform: Tensor, count: int) -> Tensor:
    """Turn uniform numbers in (0, 1) into integers 0..count-1, each as likely as the others."""
    return (uniform.double() * count).long()
