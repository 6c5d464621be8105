"""Planning in latent space: search for sequences of latents from the prior that lead to the goal, then decode them as actions.

No controller takes part in the search, so the action decoder is all that a plan needs labels for. The counterpart of planning
over known actions, https://arxiv.org/abs/2601.05230, with the bottleneck's prior in place of the spread of actions.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Generator, Tensor, nn
from typing_extensions import override

from lam.control.base import ActionConditionedModel
from lam.control.imagination import Imagination, goal_cost
from lam.control.planners import Plan
from lam.models.base import WorldModel
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


class LatentPlanner(ABC):
    """Search for a cheap sequence of latents; one subclass an algorithm."""

    @abstractmethod
    def plan(self, problem: LatentProblem) -> Plan:
        """Return a sequence of actions for every episode, with the cost of its latents."""

    @property
    @abstractmethod
    def evaluations(self) -> int:
        """Candidates that are evaluated for an episode; decoding the plan takes one more through the model."""

    def check(self, model: WorldModel) -> None:  # noqa: B027  # any prior can be searched unless a subclass objects
        """Check that the latents of a model can be searched.

        Raises:
            ValueError: They cannot.
        """


class LatentSearch(LatentPlanner):
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
    @override
    def evaluations(self) -> int:
        return self.num_samples + (self.num_iterations - 1) * (self.num_samples - self.num_elites)

    @override
    def plan(self, problem: LatentProblem) -> Plan:
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


class CategoricalCEM(LatentPlanner):
    """Cross-entropy method over codes: one categorical distribution for each code of each step, refitted to the elites.

    For latents that are codes; several tokens or residual quantizers have a distribution each. It starts even over the codes
    in use lately, as the prior is. The cheapest sequence ever met is always a candidate, and the plan.

    Args:
        num_samples: Sequences an iteration.
        num_elites: Cheapest ones that the distributions are refitted to.
        num_iterations: Iterations, the first from the prior.
        smoothing: Share of a former probability in the new one, so that no code is lost at once; 0.1 to 0.6 in the tutorial of
            de Boer et al. (2005), whose alpha is 1 - smoothing.
    """

    def __init__(self, num_samples: int = 300, num_elites: int = 10, num_iterations: int = 15, smoothing: float = 0.5) -> None:
        if not 1 <= num_elites <= num_samples or num_iterations < 1 or not 0 <= smoothing < 1:
            raise ValueError(
                f"num_elites is {num_elites}, num_samples {num_samples}, num_iterations {num_iterations}, smoothing "
                f"{smoothing}; CategoricalCEM needs 1 <= num_elites <= num_samples, at least 1 iteration and a smoothing in "
                "[0, 1)."
            )
        self.num_samples, self.num_elites, self.num_iterations = num_samples, num_elites, num_iterations
        self.smoothing = smoothing

    @property
    @override
    def evaluations(self) -> int:
        return self.num_samples * self.num_iterations

    @override
    def check(self, model: WorldModel) -> None:
        if not model.bottleneck.used_codes():
            raise ValueError(
                f"CategoricalCEM searches among codes, and latents of {type(model.bottleneck).__name__} are not codes. Name "
                "LatentSearch under search.latent instead, which searches among draws of any prior."
            )

    @override
    def plan(self, problem: LatentProblem) -> Plan:
        self.check(problem.model)
        choices = problem.model.bottleneck.used_codes()  # C times (K,), each with a K of its own
        values = nn.utils.rnn.pad_sequence(choices, batch_first=True)  # (C, K)
        sizes = torch.tensor([len(numbers) for numbers in choices], device=values.device)
        even = (torch.arange(values.shape[1], device=values.device) < sizes[:, None]).double() / sizes[:, None]
        probabilities = even.expand(len(problem.noise_keys), problem.horizon, -1, -1)  # (E, H, C, K)
        picks = torch.empty(len(probabilities), 0, problem.horizon, len(choices), dtype=torch.int64, device=values.device)
        costs, trace = picks.new_empty(len(picks), 0, dtype=torch.float32), []
        for iteration in range(self.num_iterations):
            uniform = problem.uniform(iteration, (self.num_samples, problem.horizon, len(choices)))
            drawn = torch.minimum(draw_categorical(probabilities, uniform), sizes - 1)
            costs = torch.cat([costs[:, :1], problem.cost(decode_picks(problem, values, drawn))], dim=1)
            best = costs.topk(self.num_elites, dim=1, largest=False)
            picks, costs = take_rows(torch.cat([picks[:, :1], drawn], dim=1), best.indices), best.values
            frequencies = nn.functional.one_hot(picks, values.shape[1]).double().mean(dim=1)
            probabilities = frequencies.lerp(probabilities, self.smoothing)
            trace.append(costs[:, 0])
        return Plan(problem.decode_actions(decode_picks(problem, values, picks[:, :1])[:, 0]), costs[:, 0], torch.stack(trace))


def draw_categorical(probabilities: Tensor, uniform: Tensor) -> Tensor:
    """Return numbers (E, n, H, C) drawn from probabilities (E, H, C, K), by uniform numbers (E, n, H, C)."""
    each = uniform.to(probabilities.dtype).movedim(1, -1).contiguous()
    return torch.searchsorted(probabilities.cumsum(dim=-1), each, right=True).movedim(-1, 1)


def decode_picks(problem: LatentProblem, values: Tensor, picks: Tensor) -> Tensor:
    """Return the latents (E, n, H, L, A) of picks (E, n, H, C) among the codes' values (C, K)."""
    codes = values[torch.arange(len(values), device=values.device), picks]
    latents: Tensor = problem.model.bottleneck.decode_codes(codes.flatten(0, 2)).unflatten(0, picks.shape[:3])
    return latents


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
