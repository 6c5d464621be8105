"""Cloning of latents: from a state and a goal to the latents between them, learned without labels, used without a search."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor
from torch.utils.data import TensorDataset
from typing_extensions import override

from lam.control.heads import SMALLEST_STD, BehaviorCloning
from lam.data.clip import Clip
from lam.models.base import WorldModel


class LatentCloning(BehaviorCloning):
    """Goal-conditioned policy in latents: behavior cloning whose actions are the latents that the world model inferred.

    Goals are all later states of the same clip, so it knows those that are near too. The action decoder reads its latents back
    as actions, so labels are needed there alone. Where many ways lead to a goal it gives their mean.

    Args:
        shape: Layout of a state.
        num_actions: Numbers of a latent, all tokens joined.
        horizon: Latents H on the way to the farthest goals.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    @override
    @torch.no_grad()
    def measure(self, actions: Tensor) -> None:
        """Measure the normalization of latents (n, P): a mean for each number and one scale for all, as distances have it."""
        super().measure(actions)
        self.std.fill_(self.std.square().mean().sqrt())

    def goals_loss(self, states: Tensor, latents: Tensor) -> Tensor:
        """Return the squared distance to the latents between the first state and each later one, in units of their variance.

        Args:
            states: States of clips, (B, T, N, D).
            latents: Latents between them, (B, T-1, P).
        """
        steps = latents.shape[1]
        first = states[:, :1].expand(-1, steps, -1, -1)
        predicted: Tensor = self(first.flatten(0, 1), states[:, 1:].flatten(0, 1)).unflatten(0, (-1, steps))  # (B, goal, H, P)
        # a goal says nothing of the latents after it
        known = torch.ones(steps, steps, dtype=torch.bool, device=states.device).tril()
        error = (predicted - latents[:, None]) / self.std.clamp_min(SMALLEST_STD)
        return error.square().mean(dim=-1)[:, known].mean()


@torch.no_grad()
def infer_latents(model: WorldModel, clips: Iterable[Clip]) -> TensorDataset:
    """Return states (n, T, N, D) and latents (n, T-1, L * A) of clips whose actions are not looked at."""
    parts = []
    for clip in clips:
        states = model.encode(clip.to(model.device))
        z = model.apply_bottleneck(model.infer(states)).z
        parts.append([part.float().cpu() for part in (states, z.flatten(2))])
    return TensorDataset(*(torch.cat(part) for part in zip(*parts, strict=True)))
