"""Inverse dynamics models: infer the latent action between two states."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.data.index import DataIndex
from lam.encoders.base import StateShape
from lam.models.layers import Block, RoPE, check_sizes, grid_positions

_SMALLEST_STD = 1e-6  # a number that never varied is passed on as zero, not blown up


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
        """Infer the latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""

    def infer_clip(self, labels: dict[str, Tensor], states: Tensor) -> Tensor:
        """Infer the latents (B, T-1, L, A) of a clip's transitions from its states alone.

        Args:
            labels: Recorded actions and factors of the transitions, each (B, T-1, ...); only ``RecordedActions`` reads them.
            states: States of the clip, (B, T, N, D).
        """
        latents: Tensor = self(states[:, :-1], states[:, 1:])
        return latents

    def encode_actions(self, actions: Tensor) -> Tensor | None:
        """Encode recorded actions (n, U) as latents (n, L, A); None except in ``RecordedActions``."""
        return None

    def use_index(self, index: DataIndex) -> None:
        """Take statistics from the training set's index, once, before the first step of a fresh run."""


class RecordedActions(InverseModel):
    """Labeled upper bound: the latent is the recorded action, scaled to unit variance and padded with zeros.

    It makes the model an action-conditioned world model, of the same size and trained on the same data as all other rows.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int) -> None:
        super().__init__(shape, num_latents, latent_dim)
        self.register_buffer("mean", torch.zeros(num_latents * latent_dim))
        self.register_buffer("std", torch.ones(num_latents * latent_dim))

    @override
    def use_index(self, index: DataIndex) -> None:
        """Take mean and standard deviation of the recorded actions.

        Raises:
            ValueError: There are none, or more numbers than a latent holds.
        """
        statistics = index.action_statistics
        if statistics is None:
            raise ValueError(f"{index.path} has no recorded actions, and the labeled bound is conditioned on them.")
        num = len(statistics.mean)
        if num > len(self.mean):
            raise ValueError(
                f"Actions of {index.path} have {num} numbers, a latent holds {len(self.mean)}. Raise model.latent_dim."
            )
        self.mean[:num] = torch.tensor(statistics.mean)
        self.std[:num] = torch.tensor(statistics.std).clamp_min(_SMALLEST_STD)

    @override
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Raise TypeError: states do not say which action was recorded."""
        raise TypeError("The action-conditioned model knows recorded actions only; it infers nothing from states.")

    @override
    def infer_clip(self, labels: dict[str, Tensor], states: Tensor) -> Tensor:
        """Encode the recorded actions as latents (B, T-1, L, A).

        Raises:
            ValueError: The clip has none.
        """
        if "action" not in labels:
            raise ValueError(
                "This clip has no recorded actions, and the labeled bound is conditioned on them. Set data.labels."
            )
        latents: Tensor = self.encode_actions(labels["action"].flatten(0, 1)).unflatten(0, states[:, 1:].shape[:2])
        return latents

    @override
    def encode_actions(self, actions: Tensor) -> Tensor:
        num = actions.shape[-1]
        scaled = (actions - self.mean[:num]) / self.std[:num]
        padded = nn.functional.pad(scaled, (0, len(self.mean) - num))
        latents: Tensor = padded.unflatten(-1, (self.num_latents, self.latent_dim))
        return latents


class QueryPooling(nn.Module):
    """Pools a set of tokens with learned query tokens, by a transformer over both.

    Args:
        num_queries: Query tokens; they stand in the middle of the grid.
        out_dim: Numbers that each query gives, of unit variance at the start.
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
        """Pool tokens (B, S, width) at positions (S, 3), if any, into (B, num_queries, out_dim)."""
        num_queries = len(self.queries)
        rotation = None
        if positions is not None:
            center = positions.mean(dim=0, keepdim=True).expand(num_queries, -1)
            rotation = self.rope(torch.cat((center, positions)))
        x = torch.cat((self.queries.to(tokens.dtype).expand(len(tokens), -1, -1), tokens), dim=1)
        for block in self.blocks:
            x = block(x, rotation)
        pooled: Tensor = self.to_out(self.norm(x[:, :num_queries]))
        return pooled


class ChannelPair(InverseModel):
    """Takes the two states joined token by token along channels, as [s_t, s_t+1 - s_t].

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
        self.reader = QueryPooling(num_latents, latent_dim, width, depth, heads)

    @override
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        pairs = torch.cat((before, after - before), dim=-1).flatten(0, 1)  # (B * (T-1), N, 2D)
        pooled = self.reader(self.embed(pairs), grid_positions(self.shape, 1, before.device))
        latents: Tensor = pooled.unflatten(0, before.shape[:2])
        return latents


class SequencePair(InverseModel):
    """Takes the two states one after the other, with a learned mark of which is which, as in AdaWorld and UniVLA.

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
        self.reader = QueryPooling(num_latents, latent_dim, width, depth, heads)

    @override
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        pairs = self.embed(torch.stack((before, after), dim=2)) + self.which  # (B, T-1, 2, N, width)
        tokens = pairs.flatten(2, 3).flatten(0, 1)
        pooled = self.reader(tokens, grid_positions(self.shape, 2, before.device))
        latents: Tensor = pooled.unflatten(0, before.shape[:2])
        return latents


class Difference(InverseModel):
    """Takes only the difference s_t+1 - s_t, as residual latent actions do.

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
        self.reader = QueryPooling(num_latents, latent_dim, width, depth, heads)
        self.positions = positions

    @override
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        positions = grid_positions(self.shape, 1, before.device) if self.positions else None
        pooled = self.reader(self.embed((after - before).flatten(0, 1)), positions)
        latents: Tensor = pooled.unflatten(0, before.shape[:2])
        return latents
