"""Inverse dynamics models: what happened between two states."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

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
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""

    def infer_clip(self, labels: dict[str, Tensor], states: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of a clip's transitions, from its states (B, T, N, D) alone.

        Args:
            labels: What is recorded of the transitions, each (B, T-1, ...); only the labeled bound looks at it.
            states: States of the clip.
        """
        return self(states[:, :-1], states[:, 1:])

    def encode_actions(self, actions: Tensor) -> Tensor | None:
        """Latents (n, L, A) of known actions (n, U), where they need not be learned: of the labeled bound alone."""
        return None

    def use_index(self, index: DataIndex) -> None:
        """Takes what it needs from the training set's index; called once, before the first step of a fresh run."""


class RecordedActions(InverseModel):
    """Labeled upper bound: infers nothing, the latent is the recorded action, scaled to unit variance and filled up with zeros.

    With it the model is an action-conditioned world model, of the same size and trained on the same data as all other rows.

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

    def use_index(self, index: DataIndex) -> None:
        """Takes mean and standard deviation of the recorded actions.

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

    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Refuses: states do not say which action was recorded."""
        raise TypeError("The action-conditioned model knows recorded actions only; it infers nothing from states.")

    def infer_clip(self, labels: dict[str, Tensor], states: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of the recorded actions.

        Raises:
            ValueError: There are none in the clip.
        """
        if "action" not in labels:
            raise ValueError(
                "This clip has no recorded actions, and the labeled bound is conditioned on them. Set data.labels."
            )
        return self.encode_actions(labels["action"].flatten(0, 1)).unflatten(0, states[:, 1:].shape[:2])

    def encode_actions(self, actions: Tensor) -> Tensor:
        """Latents (n, L, A) of actions (n, U)."""
        num = actions.shape[-1]
        scaled = (actions - self.mean[:num]) / self.std[:num]
        filled = nn.functional.pad(scaled, (0, len(self.mean) - num))
        return filled.unflatten(-1, (self.num_latents, self.latent_dim))


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
