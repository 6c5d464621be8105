"""Planning in latent space: sequences of latents from the prior that lead to the goal, read back as actions afterwards.

No controller takes part in the search, so what a plan costs in labels is the reverse head alone. The counterpart of planning
over known actions, https://arxiv.org/abs/2601.05230, with the prior of evaluation E12 in place of the spread of actions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Generator, Tensor

from lam.control.imagine import Imagination, goal_cost
from lam.control.planners import Plan
from lam.noise import keyed_uniform, splitmix64

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action.

POOL = 2048
"""Latents that are drawn from the prior once; every step of every candidate is one of them, picked by the episode's key.
One pool for all episodes is what makes their draws independent of company with any prior, and Langevin dynamics cheap."""


@dataclass
class LatentProblem:
    """What is to be planned in latent space.

    Attributes:
        module: The world model with its heads, a ``ControlledModel``.
        first: State that an episode starts from, (E, 1, N, D).
        goal: State that it is to end at, (E, N, D).
        keys: One 64-bit integer an episode, (E,); all draws of an episode are a function of it.
        horizon: Steps H.
        window: States that the world model looks back at.
        at_once: Sequences that go through the model together.
        mask: Tokens that are compared with the goal's, (N,), see ``goal_cost``; all if not given.
    """

    module: Any
    first: Tensor
    goal: Tensor
    keys: Tensor
    horizon: int
    window: int
    at_once: int = 1024
    mask: Tensor | None = None

    @cached_property
    def prior(self) -> Tensor:
        """The pool, (POOL, L, A)."""
        generator = Generator(device=self.module.device).manual_seed(0)
        return self.module.bottleneck.sample_prior(POOL, generator).to(self.first.device)

    def uniform(self, turn: int, shape: tuple[int, ...]) -> Tensor:
        """Numbers in (0, 1) of a turn of the search, (E, *shape)."""
        return keyed_uniform(splitmix64(self.keys) + turn, shape)

    def draw(self, shares: Tensor) -> Tensor:
        """The latents (..., L, A) of the pool that uniform numbers (...) fall on."""
        return self.prior[below(shares, POOL)]

    def imagine(self, latents: Tensor) -> Tensor:
        """States (E, K, H, N, D) after each of the latents (E, K, H, L, A)."""
        imagination = Imagination(self.module, lambda z, states: z, self.window, self.at_once)
        return imagination(self.first, latents[:, 0, :0].to(self.first.dtype), latents)

    def cost(self, latents: Tensor) -> Tensor:
        """Cost (E, K) of candidates (E, K, H, L, A)."""
        return goal_cost(self.imagine(latents)[:, :, -1], self.goal, self.mask)

    def read(self, latents: Tensor) -> Tensor:
        """Actions (E, H, U), within the bounds of the recording, that the reverse head sees in latents (E, H, L, A)."""
        states = torch.cat([self.first, self.imagine(latents[:, None])[:, 0, :-1]], dim=1)  # before each action
        actions = self.module.heads["action_decoder"](latents.flatten(0, 1).flatten(1).float(), states.flatten(0, 1).float())
        statistics = self.module.data.index.action_statistics
        low, high = (torch.tensor(bound, device=actions.device) for bound in (statistics.low, statistics.high))
        return actions.clamp(low, high).unflatten(0, latents.shape[:2])


class LatentSearch:
    """Sequences drawn from the prior; turn by turn the cheapest are kept and copied with one step drawn anew.

    An evolution strategy of elites and children, as a mutation needs nothing of a latent but that the prior can draw it: the
    same search serves codes and continuous latents. The first turn alone is random shooting.

    Args:
        candidates: Sequences a turn, elites included.
        elites: Cheapest ones that are kept, and of which the others are mutations.
        turns: Turns, the first from the prior.
    """

    def __init__(self, candidates: int = 300, elites: int = 10, turns: int = 15) -> None:
        if not 1 <= elites < candidates or turns < 1:
            raise ValueError(
                f"A latent search needs 1 <= elites < candidates and a turn; got {elites}, {candidates} and {turns} turns."
            )
        self.candidates, self.elites, self.turns = candidates, elites, turns

    @property
    def evaluations(self) -> int:
        """Candidates that it costs an episode; reading the plan back takes one more through the model."""
        return self.candidates + (self.turns - 1) * (self.candidates - self.elites)

    def plan(self, problem: LatentProblem) -> Plan:
        """A sequence of actions for every episode, with the cost that its latents had before they were read back."""
        latents = problem.draw(problem.uniform(0, (self.candidates, problem.horizon)))
        costs = problem.cost(latents)
        trace = [costs.amin(dim=1)]
        for turn in range(1, self.turns):
            best = costs.topk(self.elites, dim=1, largest=False)
            elites = rows(latents, best.indices)
            children = mutate(problem, elites, problem.uniform(turn, (3, self.candidates - self.elites)))
            latents = torch.cat([elites, children], dim=1)
            costs = torch.cat([best.values, problem.cost(children)], dim=1)
            trace.append(costs.amin(dim=1))
        cost, winner = costs.min(dim=1)
        return Plan(problem.read(rows(latents, winner[:, None])[:, 0]), cost, torch.stack(trace))


def mutate(problem: LatentProblem, parents: Tensor, shares: Tensor) -> Tensor:
    """Copies (E, n, H, L, A) of parents (E, K, H, L, A) in which one step is drawn from the prior anew.

    Args:
        problem: Whose prior it is.
        parents: Sequences to copy.
        shares: Uniform numbers (E, 3, n): which parent, which step, which latent of the pool.
    """
    parent, step, latent = shares.unbind(dim=1)
    children = rows(parents, below(parent, parents.shape[1]))
    here = torch.arange(parents.shape[2], device=parents.device) == below(step, parents.shape[2])[:, :, None]  # (E, n, H)
    return torch.where(here[..., None, None], problem.draw(latent)[:, :, None], children)


def rows(sequences: Tensor, which: Tensor) -> Tensor:
    """Of sequences (E, K, ...) those of the given numbers (E, n), (E, n, ...)."""
    return sequences[torch.arange(len(sequences), device=sequences.device)[:, None], which]


def below(shares: Tensor, count: int) -> Tensor:
    """Uniform numbers in (0, 1) as integers 0..count-1, each as likely as the others."""
    return (shares.double() * count).long()
