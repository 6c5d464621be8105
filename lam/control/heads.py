"""Heads between known actions and latent actions, with and without a look at the state."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lam.encoders.base import StateShape
from lam.layers import MLP, Block, CrossAttention, RoPE, check_sizes, grid_positions

_SMALLEST_STD = 1e-6  # an input that never varied is passed on as zero, not blown up


class Head(nn.Module, ABC):
    """Maps what is known of a transition to what is asked for: action and state to a latent action, or back.

    Inputs and outputs have the scale of the labeled transitions: each input number its own, all output numbers one, so that
    the loss is the squared distance between outputs in units of their variance.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P that are known.
        num_outputs: Numbers Q that are asked for.
    """

    input_mean: Tensor
    input_std: Tensor
    output_mean: Tensor
    output_std: Tensor

    def __init__(self, shape: StateShape, num_inputs: int, num_outputs: int) -> None:
        super().__init__()
        if num_inputs < 1 or num_outputs < 1:
            raise ValueError(f"A head from {num_inputs} to {num_outputs} numbers has nothing to do; both must be at least 1.")
        self.shape = shape
        self.register_buffer("input_mean", torch.zeros(num_inputs))
        self.register_buffer("input_std", torch.ones(num_inputs))
        self.register_buffer("output_mean", torch.zeros(num_outputs))
        self.register_buffer("output_std", torch.ones(()))

    @torch.no_grad()
    def measure(self, inputs: Tensor, outputs: Tensor) -> None:
        """Takes the scales from the labeled transitions, (n, P) and (n, Q)."""
        self.input_mean.copy_(inputs.mean(dim=0))
        self.input_std.copy_(inputs.std(dim=0, correction=0))
        self.output_mean.copy_(outputs.mean(dim=0))
        self.output_std.copy_((outputs - outputs.mean(dim=0)).square().mean().sqrt())

    def forward(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Outputs (B, Q) for inputs (B, P) in states (B, N, D), in the units of the labeled transitions."""
        scaled = (inputs - self.input_mean) / self.input_std.clamp_min(_SMALLEST_STD)
        return self.respond(scaled, states) * self.output_std + self.output_mean

    def loss(self, inputs: Tensor, states: Tensor, outputs: Tensor) -> Tensor:
        """Squared distance between answer and outputs (B, Q), in units of the outputs' variance: 1 is answering their mean."""
        error = (self(inputs, states) - outputs).square().mean()
        return error / self.output_std.square().clamp_min(_SMALLEST_STD**2)

    @abstractmethod
    def respond(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Outputs (B, Q) for inputs (B, P), both of unit scale, in states (B, N, D)."""


class Blind(Head):
    """Does not see the state: an MLP of three layers.

    As controller the foil of https://arxiv.org/abs/2601.05230: where the same action means other latents in
    other states and camera poses, it ends at a latent that moves nothing.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P that are known.
        num_outputs: Numbers Q that are asked for.
        width: Channels of the hidden layers.
    """

    def __init__(self, shape: StateShape, num_inputs: int, num_outputs: int, width: int = 128) -> None:
        super().__init__(shape, num_inputs, num_outputs)
        self.net = nn.Sequential(embedding(num_inputs, width), nn.GELU(), nn.Linear(width, num_outputs))

    def respond(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Outputs (B, Q); the states are ignored."""
        return self.net(inputs)


class Seeing(Head):
    """Sees the last state: self-attention over its tokens, then one look at them by what is known.

    The controller of https://arxiv.org/abs/2601.05230: two self-attention blocks over the last state only, one
    cross-attention block from the input, embedded by an MLP of three layers, and a linear map of its single token.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P that are known.
        num_outputs: Numbers Q that are asked for.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    def __init__(
        self, shape: StateShape, num_inputs: int, num_outputs: int, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__(shape, num_inputs, num_outputs)
        check_sizes(width, heads, depth)
        self.embed = embedding(num_inputs, width)
        self.embed_state = nn.Linear(shape.dim, width)
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm_tokens = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.norm = nn.LayerNorm(width)
        self.to_output = nn.Linear(width, num_outputs)

    def respond(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Outputs (B, Q)."""
        rotation = self.rope(grid_positions(self.shape, 1, states.device))
        tokens = self.embed_state(states)
        for block in self.blocks:
            tokens = block(tokens, rotation)
        query = self.embed(inputs)[:, None]
        query = query + self.cross(self.norm_cross(query), self.norm_tokens(tokens))
        query = query + self.mlp(self.norm_mlp(query))
        return self.to_output(self.norm(query))[:, 0]


def embedding(num_inputs: int, width: int) -> nn.Sequential:
    """MLP of three layers from a few numbers to a token."""
    return nn.Sequential(nn.Linear(num_inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
