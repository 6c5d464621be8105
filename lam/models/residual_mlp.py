"""Heads for states of one or a few tokens, read as one list of numbers: MLPs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.base import StateShape
from lam.models.forward import ForwardModel, zero_linear
from lam.models.inverse import InverseModel


class ResidualLayer(nn.Module):
    """Two linear layers behind a LayerNorm, added to their input.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.LayerNorm(width), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Transform features (..., width)."""
        change: Tensor = self.layers(x)
        return x + change


class Trunk(nn.Module):
    """Residual layers over embedded numbers, what both heads are made of.

    Args:
        num_inputs: Numbers P that are read.
        width: Channels.
        depth: Residual layers.
    """

    def __init__(self, num_inputs: int, width: int, depth: int) -> None:
        super().__init__()
        if min(width, depth) < 1:
            raise ValueError(f"width {width} and depth {depth} must both be at least 1.")
        self.embed = nn.Linear(num_inputs, width)
        self.blocks = nn.ModuleList(ResidualLayer(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width)

    @override
    def forward(self, numbers: Tensor) -> Tensor:
        """Transform numbers (..., P) into features (..., width)."""
        x = self.embed(numbers)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.norm(x)
        return features


class ResidualMLP(ForwardModel):
    """Predicts the change of the current state by a residual MLP over state and latent, and no change at the start.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels.
        depth: Residual blocks.
        latent_width: Channels of the embedded latent beside those of the state.
    """

    states_seen = 1

    def __init__(
        self,
        shape: StateShape,
        num_latents: int,
        latent_dim: int,
        width: int = 256,
        depth: int = 3,
        latent_width: int = 64,
    ) -> None:
        super().__init__(shape, num_latents, latent_dim)
        if latent_width < 1:
            raise ValueError(f"latent_width {latent_width} must be at least 1.")
        self.embed_latent = nn.Linear(num_latents * latent_dim, latent_width)
        self.trunk = Trunk(shape.tokens * shape.dim + latent_width, width, depth)
        self.to_change = zero_linear(width, shape.tokens * shape.dim)

    @override
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        latents = self.embed_latent(z.flatten(2)).to(states.dtype)
        change = self.to_change(self.trunk(torch.cat((states.flatten(2), latents), dim=-1)))
        predicted: Tensor = states + change.unflatten(-1, states.shape[2:])
        return predicted


class PairMLP(InverseModel):
    """Takes the two states as [s_t, s_t+1 - s_t], all numbers of all tokens in one list.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels.
        depth: Residual blocks.
    """

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int, width: int = 256, depth: int = 2) -> None:
        super().__init__(shape, num_latents, latent_dim)
        self.trunk = Trunk(2 * shape.tokens * shape.dim, width, depth)
        self.to_latent = nn.Linear(width, num_latents * latent_dim)
        nn.init.normal_(self.to_latent.weight, std=width**-0.5)
        nn.init.zeros_(self.to_latent.bias)

    @override
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        features = self.trunk(torch.cat((before.flatten(2), (after - before).flatten(2)), dim=-1))
        latents: Tensor = self.to_latent(features).unflatten(-1, (self.num_latents, self.latent_dim))
        return latents
