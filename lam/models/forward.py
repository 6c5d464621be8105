"""Forward models: predict the next state from the past and a latent action."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.base import StateShape
from lam.models.layers import AdaLNBlock, Block, CrossBlock, FiLMBlock, RoPE, check_sizes, grid_positions


class ForwardModel(nn.Module, ABC):
    """Predicts the next state; prediction t depends on states up to t and latents up to t.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
    """

    states_seen: int | None = None
    """Of how many of the last states, with the latents after them, a prediction is a function; None where it is of all."""

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int) -> None:
        super().__init__()
        if num_latents < 1 or latent_dim < 1:
            raise ValueError(f"num_latents {num_latents} and latent_dim {latent_dim} must both be at least 1.")
        self.shape = shape
        self.num_latents = num_latents
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        """Predict states 1..T-1, (B, T-1, N, D), from states 0..T-2, (B, T-1, N, D), and z, (B, T-1, L, A)."""


class AdaLN(ForwardModel):
    """Latents set the norms and gates of a transformer over the past, as in https://arxiv.org/abs/2601.05230.

    Predicts the change of the state, and no change at the start: blocks and output are zero then. Latents have no position
    in the grid, so copying the next state through them is hard.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
        modulation_std: Standard deviation of the modulations' weights at the start. Zero (AdaLN-zero, as published) makes
            the blocks the identity. With 0.2, the default of the related public code facebookresearch/jepa-wms, z is
            used at once: after 200 steps on moving sprites its probe was at R2 0.91 and 0.93, with zero at 0.82 and 0.75.
    """

    def __init__(
        self,
        shape: StateShape,
        num_latents: int,
        latent_dim: int,
        width: int = 128,
        depth: int = 2,
        heads: int = 4,
        modulation_std: float = 0.0,
    ) -> None:
        super().__init__(shape, num_latents, latent_dim)
        check_sizes(width, heads, depth)
        self.embed = nn.Linear(shape.dim, width)
        self.embed_latent = nn.Linear(num_latents * latent_dim, width)
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(AdaLNBlock(width, heads, modulation_std) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_change = zero_linear(width, shape.dim)

    @override
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        rotation = self.rope(grid_positions(self.shape, states.shape[1], states.device))
        condition = self.embed_latent(z.flatten(2))
        x = self.embed(states)
        for block in self.blocks:
            x = block(x, rotation, condition)
        predicted: Tensor = states + self.to_change(self.norm(x))
        return predicted


class Cross(ForwardModel):
    """Tokens of the current state attend to the latent tokens, as in LAPA's decoder.

    Predicts the next state itself from the current one, without the past before it (https://arxiv.org/abs/2410.11758).
    The frozen encoder's states stand for LAPA's detached patch embeddings. As there, learned null tokens let a token
    attend to no latent; unlike there, latent tokens are marked by their number, which LAPA's code mixes up.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
    """

    states_seen = 1

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
        check_sizes(width, heads, depth)
        self.embed = nn.Linear(shape.dim, width)
        self.embed_latent = nn.Linear(latent_dim, width)
        self.marks = nn.Parameter(0.02 * torch.randn(2 + num_latents, width))
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(CrossBlock(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_state = zero_linear(width, shape.dim)

    @override
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        rotation = self.rope(grid_positions(self.shape, 1, states.device))
        latents = self.embed_latent(z.flatten(0, 1))  # (B * (T-1), L, width)
        context = nn.functional.pad(latents, (0, 0, 2, 0)) + self.marks
        x = self.embed(states.detach().flatten(0, 1))
        for block in self.blocks:
            x = block(x, rotation, context)
        predicted: Tensor = self.to_state(self.norm(x)).unflatten(0, states.shape[:2])
        return predicted


class Tokens(ForwardModel):
    """Latent tokens join the tokens of the current state in one sequence, as residual latent actions are decoded.

    Predicts the next state itself, with no skip from the current one and an output that starts at zero, as published.
    The published decoder has no positions; here they are on unless switched off, as in ``lam.models.inverse.Difference``.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a token.
        depth: Transformer blocks.
        heads: Attention heads.
        positions: Tell the blocks where each token is; the published form does not.
    """

    states_seen = 1

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
        check_sizes(width, heads, depth)
        self.embed = nn.Linear(shape.dim, width)
        self.embed_latent = nn.Linear(latent_dim, width)
        self.marks = nn.Parameter(0.2 * torch.randn(num_latents, width))
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.to_state = zero_linear(width, shape.dim)
        self.positions = positions

    @override
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        rotation = None
        if self.positions:
            grid = grid_positions(self.shape, 1, states.device)
            center = grid.mean(dim=0, keepdim=True).expand(self.num_latents, -1)
            rotation = self.rope(torch.cat((center, grid)))
        latents = self.embed_latent(z.flatten(0, 1)) + self.marks  # (B * (T-1), L, width)
        x = torch.cat((latents, self.embed(states.flatten(0, 1)).to(latents.dtype)), dim=1)
        for block in self.blocks:
            x = block(x, rotation)
        predicted: Tensor = self.to_state(self.norm(x[:, self.num_latents :])).unflatten(0, states.shape[:2])
        return predicted


class Convolutional(ForwardModel):
    """Latents scale and shift the channels of convolutions over the grid of the current state.

    Predicts the change of the state, and no change at the start, without the past before it.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
        width: Channels of a grid cell.
        depth: Blocks; a cell depends on depth + 2 cells to each side.
    """

    states_seen = 1

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int, width: int = 128, depth: int = 4) -> None:
        super().__init__(shape, num_latents, latent_dim)
        check_sizes(width, 1, depth)
        self.embed = nn.Conv2d(shape.dim, width, 3, padding=1)
        self.embed_latent = nn.Sequential(
            nn.Linear(num_latents * latent_dim, width), nn.SiLU(), nn.Linear(width, width), nn.SiLU()
        )
        self.blocks = nn.ModuleList(FiLMBlock(width) for _ in range(depth))
        self.to_change = nn.Conv2d(width, shape.dim, 3, padding=1)
        for parameter in self.to_change.parameters():
            nn.init.zeros_(parameter)

    @override
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        grid = states.flatten(0, 1).unflatten(1, (self.shape.rows, self.shape.columns)).movedim(-1, 1)
        condition = self.embed_latent(z.flatten(0, 1).flatten(1))
        x = self.embed(grid)
        for block in self.blocks:
            x = block(x, condition)
        change = self.to_change(nn.functional.silu(x)).flatten(2).movedim(1, -1)
        predicted: Tensor = states + change.unflatten(0, states.shape[:2])
        return predicted


def zero_linear(width: int, out_dim: int) -> nn.Linear:
    """Build a linear map that is 0 at the start."""
    linear = nn.Linear(width, out_dim)
    nn.init.zeros_(linear.weight)
    nn.init.zeros_(linear.bias)
    return linear
