"""Imagination: the states that a world model predicts for sequences of actions, which a controller turns into latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lam.models.base import WorldModel

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action, P past states.

CACHED_TOKENS = 1024
"""Tokens that go through a model together on a CPU: their features stay in its cache, and calls are few. On an AMD EPYC with
512 KiB a core, states of one token through a residual MLP of width 256 took 2.2 times as long by 64 at a time and as long by
4 times as many; 64 tokens of width 128 through a transformer 1.2 times as long by 4 times as many and 1.4 by a quarter."""

Controller = Callable[[Tensor, Tensor], Tensor]
"""Turns actions (n, U) in states (n, N, D) into latents (n, L, A)."""


class Imagination:
    """Roll many sequences of actions through a world model at once.

    Args:
        model: The world model.
        controller: Turns actions into latents.
        window: States that the world model looks back at, no more than it was trained with. States that its predictions do not
            depend on are left out.
        chunk_size: Most sequences that go through the model together; bounds the memory. On a CPU no more than stay in cache.
    """

    def __init__(self, model: WorldModel, controller: Controller, window: int, chunk_size: int = 1024) -> None:
        if window < 1 or chunk_size < 1:
            raise ValueError(f"window is {window} and chunk_size {chunk_size}, expected at least 1 of both.")
        self.model, self.controller, self.chunk_size = model, controller, chunk_size
        self.window = window if model.states_seen is None else min(window, model.states_seen)

    def __call__(self, states: Tensor, z: Tensor, actions: Tensor) -> Tensor:
        """Predict the states after each action, (E, K, H, N, D).

        Args:
            states: Past and current states, (E, P, N, D).
            z: Latents between them, (E, P-1, L, A).
            actions: Candidates, (E, K, H, U).
        """
        num = actions.shape[1]
        past, between = states[:, -self.window :], z[:, max(0, z.shape[1] - self.window + 1) :]
        rows = torch.arange(actions.shape[0] * num, device=actions.device) // num  # the episode of each sequence
        size = self._even_size(past, len(rows))
        chunks = zip(rows.split(size), actions.flatten(0, 1).split(size), strict=True)
        parts = [self._roll(past[row], between[row], chunk) for row, chunk in chunks]
        states_after: Tensor = torch.cat(parts).unflatten(0, (-1, num))
        return states_after

    def _even_size(self, past: Tensor, num: int) -> int:
        """Return how many of so many sequences from past states (E, P, N, D) go through the model together, in even chunks."""
        most = self.chunk_size
        if past.device.type == "cpu":
            most = min(most, max(1, CACHED_TOKENS // (self.window * past.shape[2])))
        return -(-num // max(1, -(-num // most)))

    def _roll(self, states: Tensor, z: Tensor, actions: Tensor) -> Tensor:
        """Predict the states after each action (n, H, U), from states (n, P, N, D) and the latents between them."""
        imagined = []
        for action in actions.unbind(dim=1):
            z = torch.cat([z, self.controller(action, states[:, -1]).to(states.dtype)[:, None]], dim=1)
            after = self.model.predict(states, z)[:, -1:].to(states.dtype)
            imagined.append(after)
            states = torch.cat([states, after], dim=1)[:, -self.window :]
            z = z[:, max(0, z.shape[1] - self.window + 1) :]
        return torch.cat(imagined, dim=1)


def goal_cost(states: Tensor, goal: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the mean squared distance (E, K) of states (E, K, N, D) to goals (E, N, D), of a mask's tokens (N,) if given."""
    distance = (states.float() - goal.float()[:, None]).square().mean(dim=-1)
    if mask is None:
        return distance.mean(dim=-1)
    return (distance * mask).sum(dim=-1) / mask.sum()
