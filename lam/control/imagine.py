"""Imagination: what a world model expects of sequences of actions that a controller translates into latents."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lam.models.base import WorldModel

# Letters of this file: E episodes, K candidates, H steps, U numbers of an action, P past states.

Act = Callable[[Tensor, Tensor], Tensor]
"""Latents (n, L, A) for actions (n, U) in states (n, N, D)."""


class Imagination:
    """Rolls many sequences of actions through a world model at once.

    Args:
        world: The world model.
        act: The controller.
        window: States that the world model looks back at, no more than it was trained with.
        at_once: Sequences that go through the model together, for memory.
    """

    def __init__(self, world: WorldModel, act: Act, window: int, at_once: int = 1024) -> None:
        if window < 1 or at_once < 1:
            raise ValueError(f"window is {window} and at_once {at_once}, both must be at least 1.")
        self.world, self.act, self.window, self.at_once = world, act, window, at_once

    def __call__(self, states: Tensor, z: Tensor, actions: Tensor) -> Tensor:
        """States after each action, (E, K, H, N, D).

        Args:
            states: Past and current states, (E, P, N, D).
            z: Latents between them, (E, P-1, L, A).
            actions: Candidates, (E, K, H, U).
        """
        num = actions.shape[1]
        past, between = states[:, -self.window :], z[:, max(0, z.shape[1] - self.window + 1) :]
        rows = torch.arange(actions.shape[0] * num, device=actions.device) // num  # the episode of each sequence
        flat = actions.flatten(0, 1)
        parts = [
            self._roll(past[rows[chunk]], between[rows[chunk]], flat[chunk])
            for chunk in torch.arange(len(rows), device=actions.device).split(self.at_once)
        ]
        return torch.cat(parts).unflatten(0, (-1, num))

    def _roll(self, states: Tensor, z: Tensor, actions: Tensor) -> Tensor:
        """States after each action (n, H, U), from states (n, P, N, D) and the latents between them."""
        imagined = []
        for action in actions.unbind(dim=1):
            z = torch.cat([z, self.act(action, states[:, -1]).to(states.dtype)[:, None]], dim=1)
            after = self.world.predict(states, z)[:, -1:].to(states.dtype)
            imagined.append(after)
            states = torch.cat([states, after], dim=1)[:, -self.window :]
            z = z[:, max(0, z.shape[1] - self.window + 1) :]
        return torch.cat(imagined, dim=1)


def goal_cost(states: Tensor, goal: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared distance of states (E, K, N, D) to a goal (E, N, D), (E, K); of the tokens of a mask (N,) alone if given."""
    distance = (states.float() - goal.float()[:, None]).square().mean(dim=-1)
    if mask is None:
        return distance.mean(dim=-1)
    return (distance * mask).sum(dim=-1) / mask.sum()
