"""Inverse dynamics models: what happened between two states."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lam.encoders.base import StateShape
from lam.layers import Block, RoPE, check_sizes, grid_positions


class InverseModel(nn.Module, ABC):
    """Infers the latent action of a transition from its two states and nothing else.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
    """

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int) -> None:
        super().__init__()
        if num_latents < 1 or latent_dim < 1:
            raise ValueError(f"num_latents {num_latents} and latent_dim {latent_dim} must both be at least 1.")
        self.shape = shape
        self.num_latents = num_latents
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""


class Reader(nn.Module):
    """Transformer whose learned query tokens read a set of tokens.

    Args:
        num_queries: Query tokens; they stand in the middle of the grid.
        out_dim: Numbers read by each query, of unit variance at the start.
        width: Channels of a token.
        depth: Blocks.
        heads: Attention heads.
    """

    def __init__(self, num_queries: int, out_dim: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        check_sizes(width, heads, depth)
        self.queries = nn.Parameter(0.02 * torch.randn(num_queries, width))
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_out = nn.Linear(width, out_dim)
        nn.init.normal_(self.to_out.weight, std=width**-0.5)
        nn.init.zeros_(self.to_out.bias)

    def forward(self, tokens: Tensor, positions: Tensor | None) -> Tensor:
        """What the queries read, (B, num_queries, out_dim), of tokens (B, S, width) at positions (S, 3), if any."""
        num_queries = len(self.queries)
        rotation = None
        if positions is not None:
            center = positions.mean(dim=0, keepdim=True).expand(num_queries, -1)
            rotation = self.rope(torch.cat((center, positions)))
        x = torch.cat((self.queries.to(tokens.dtype).expand(len(tokens), -1, -1), tokens), dim=1)
        for block in self.blocks:
            x = block(x, rotation)
        return self.to_out(self.norm(x[:, :num_queries]))


class ChannelPair(InverseModel):
    """Sees the two states joined token by token along channels, as [s_t, s_t+1 - s_t].

    What moved is in the input, so this is the form that learns soonest.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
    """

    def __init__(
        self,
        shape: StateShape,
        num_latents: int,
        latent_dim: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__(shape, num_latents, latent_dim)
        self.embed = nn.Linear(2 * shape.dim, width)
        self.reader = Reader(num_latents, latent_dim, width, depth, heads)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""
        pairs = torch.cat((before, after - before), dim=-1).flatten(0, 1)  # (B * (T-1), N, 2D)
        latents = self.reader(self.embed(pairs), grid_positions(self.shape, 1, before.device))
        return latents.unflatten(0, before.shape[:2])


class SequencePair(InverseModel):
    """Sees the two states one after the other, with a learned mark of which is which, as in AdaWorld and UniVLA.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
    """

    def __init__(
        self,
        shape: StateShape,
        num_latents: int,
        latent_dim: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
    ) -> None:
        super().__init__(shape, num_latents, latent_dim)
        self.embed = nn.Linear(shape.dim, width)
        self.which = nn.Parameter(0.02 * torch.randn(2, 1, width))
        self.reader = Reader(num_latents, latent_dim, width, depth, heads)

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""
        pairs = self.embed(torch.stack((before, after), dim=2)) + self.which  # (B, T-1, 2, N, width)
        tokens = pairs.flatten(2, 3).flatten(0, 1)
        return self.reader(tokens, grid_positions(self.shape, 2, before.device)).unflatten(0, before.shape[:2])


class Difference(InverseModel):
    """Sees only s_t+1 - s_t, as residual latent actions do.

    The published encoder has no positions at all and leaves it to the features to say where a change is; raw patches do
    not say, so here positions are on unless switched off.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
        positions: Tell the blocks where each token is; the published form does not.
    """

    def __init__(
        self,
        shape: StateShape,
        num_latents: int,
        latent_dim: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        positions: bool = True,
    ) -> None:
        super().__init__(shape, num_latents, latent_dim)
        self.embed = nn.Linear(shape.dim, width)
        self.reader = Reader(num_latents, latent_dim, width, depth, heads)
        self.positions = positions

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""
        positions = grid_positions(self.shape, 1, before.device) if self.positions else None
        latents = self.reader(self.embed((after - before).flatten(0, 1)), positions)
        return latents.unflatten(0, before.shape[:2])
