"""Heads between known actions and latent actions, with and without attention to the state."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.base import StateShape
from lam.models.layers import MLP, Block, CrossAttention, RoPE, check_sizes, grid_positions
from lam.models.residual_mlp import Trunk

SMALLEST_STD = 1e-6  # an input that never varied is passed on as zero, not blown up


class Head(nn.Module, ABC):
    """Map between the actions and the latent actions of transitions, in either direction.

    Inputs and outputs are normalized by the labeled transitions: each input number by its own standard deviation, all output
    numbers by one, so that the loss is the squared distance between outputs in units of their variance.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P of an input.
        num_outputs: Numbers Q of an output.
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
        """Measure the normalization on the labeled transitions, (n, P) and (n, Q)."""
        self.input_mean.copy_(inputs.mean(dim=0))
        self.input_std.copy_(inputs.std(dim=0, correction=0))
        self.output_mean.copy_(outputs.mean(dim=0))
        self.output_std.copy_((outputs - outputs.mean(dim=0)).square().mean().sqrt())

    def forward(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Return outputs (B, Q) for inputs (B, P) in states (B, N, D), in the units of the labeled transitions."""
        return self.forward_normalized(self.normalize(inputs), states) * self.output_std + self.output_mean

    def loss(self, inputs: Tensor, states: Tensor, outputs: Tensor) -> Tensor:
        """Return the squared distance to outputs (B, Q) in units of their variance: 1 is what predicting their mean costs."""
        predicted: Tensor = self(inputs, states)
        error = (predicted - outputs).square().mean()
        return error / self.output_std.square().clamp_min(SMALLEST_STD**2)

    def normalize(self, inputs: Tensor) -> Tensor:
        """Return inputs (B, P) at unit scale."""
        return (inputs - self.input_mean) / self.input_std.clamp_min(SMALLEST_STD)

    @abstractmethod
    def forward_normalized(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Return outputs (B, Q) for inputs (B, P), both at unit scale, in states (B, N, D)."""


class ActionOnlyHead(Head):
    """Head that does not see the state: an MLP of three layers.

    As controller it is the control of https://arxiv.org/abs/2601.05230: where the same action means other latents in
    other states and camera poses, it converges to a latent that moves nothing.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P of an input.
        num_outputs: Numbers Q of an output.
        width: Channels of the hidden layers.
    """

    def __init__(self, shape: StateShape, num_inputs: int, num_outputs: int, width: int = 128) -> None:
        super().__init__(shape, num_inputs, num_outputs)
        self.net = nn.Sequential(mlp_embedding(num_inputs, width), nn.GELU(), nn.Linear(width, num_outputs))

    @override
    def forward_normalized(self, inputs: Tensor, states: Tensor) -> Tensor:
        outputs: Tensor = self.net(inputs)
        return outputs


class StateConditionedHead(Head):
    """Head that sees the last state: self-attention over its tokens, then cross-attention from the input to them.

    The controller of https://arxiv.org/abs/2601.05230: two self-attention blocks over the last state only, one
    cross-attention block from the input, embedded by an MLP of three layers, and a linear map of its single token. A state of
    one token has nothing to attend to: there a residual MLP reads both.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P of an input.
        num_outputs: Numbers Q of an output.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    def __init__(
        self, shape: StateShape, num_inputs: int, num_outputs: int, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__(shape, num_inputs, num_outputs)
        self.embed = mlp_embedding(num_inputs, width)
        self.attention = state_reader(shape, width, depth, heads)
        self.to_output = nn.Linear(width, num_outputs)

    @override
    def forward_normalized(self, inputs: Tensor, states: Tensor) -> Tensor:
        outputs: Tensor = self.to_output(self.attention(self.embed(inputs), states))
        return outputs


class CodeClassifier(StateConditionedHead):
    """Head that chooses one of the outputs that occurred in the labeled transitions, for latents that are codes.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P of an input.
        num_outputs: Numbers Q of an output.
        max_choices: Different outputs there may be; no more than labeled transitions.
        width: Channels of a token.
    """

    choices: Tensor
    num_choices: Tensor

    def __init__(self, shape: StateShape, num_inputs: int, num_outputs: int, max_choices: int, width: int = 64) -> None:
        super().__init__(shape, num_inputs, num_outputs, width)
        self.to_output = nn.Linear(width, max_choices)
        self.register_buffer("choices", torch.zeros(max_choices, num_outputs))
        self.register_buffer("num_choices", torch.tensor(0))

    @override
    @torch.no_grad()
    def measure(self, inputs: Tensor, outputs: Tensor) -> None:
        """Measure the normalization and collect the different outputs of the labeled transitions, (n, P) and (n, Q)."""
        super().measure(inputs, outputs)
        found = outputs.unique(dim=0)
        self.choices[: len(found)] = found
        self.num_choices.fill_(len(found))

    @override
    def forward(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Return the most probable output (B, Q) for inputs (B, P) in states (B, N, D)."""
        return self.choices[self.logits(inputs, states).argmax(dim=1)]

    @override
    def loss(self, inputs: Tensor, states: Tensor, outputs: Tensor) -> Tensor:
        """Return the cross-entropy, in nats, of choosing outputs (B, Q)."""
        target = torch.cdist(outputs, self.choices[: int(self.num_choices)]).argmin(dim=1)
        return nn.functional.cross_entropy(self.logits(inputs, states), target)

    def logits(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Return the logits of the choices there are, (B, choices)."""
        return self.forward_normalized(self.normalize(inputs), states)[:, : int(self.num_choices)]


class BehaviorCloning(nn.Module):
    """Behavior cloning toward a goal: predicts all actions on the way at once from the present state and the goal.

    The reference that needs no world model and no latents. Both states are joined token by token along channels.

    Args:
        shape: Layout of a state.
        num_actions: Numbers U of an action.
        horizon: Actions H on the way.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, shape: StateShape, num_actions: int, horizon: int, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.attention = state_reader(shape._replace(dim=2 * shape.dim), width, depth, heads)
        self.to_actions = nn.Linear(width, horizon * num_actions)
        self.register_buffer("mean", torch.zeros(num_actions))
        self.register_buffer("std", torch.ones(num_actions))

    @torch.no_grad()
    def measure(self, actions: Tensor) -> None:
        """Measure the normalization of each number of an action on those of the labeled clips, (n, U)."""
        self.mean.copy_(actions.mean(dim=0))
        self.std.copy_(actions.std(dim=0, correction=0))

    def forward(self, states: Tensor, goals: Tensor) -> Tensor:
        """Return actions (B, H, U) that lead from states to goals, each (B, N, D)."""
        features = self.attention(self.query.expand(len(states), -1), torch.cat((states, goals), dim=-1))
        normalized: Tensor = self.to_actions(features).unflatten(-1, (-1, self.num_actions))
        return normalized * self.std + self.mean

    def loss(self, states: Tensor, goals: Tensor, actions: Tensor) -> Tensor:
        """Return the squared distance to the recorded actions (B, H, U), each number in units of its variance."""
        predicted: Tensor = self(states, goals)
        error = (predicted - actions) / self.std.clamp_min(SMALLEST_STD)
        return error.square().mean()


class StateAttention(nn.Module):
    """Self-attention over the tokens of a state, then cross-attention from one query to them.

    Args:
        shape: Layout of a state.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    def __init__(self, shape: StateShape, width: int, depth: int, heads: int) -> None:
        super().__init__()
        check_sizes(width, heads, depth)
        self.shape = shape
        self.embed_state = nn.Linear(shape.dim, width)
        # rotary embeddings alone encode where tokens are relative to each other
        self.positions = nn.Parameter(0.02 * torch.randn(shape.tokens, width))
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm_tokens = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, states: Tensor) -> Tensor:
        """Return the features (B, width) that queries (B, width) find in their states (B, N, D)."""
        rotation = self.rope(grid_positions(self.shape, 1, states.device))
        tokens = self.embed_state(states) + self.positions
        for block in self.blocks:
            tokens = block(tokens, rotation)
        query = query[:, None]
        query = query + self.cross(self.norm_cross(query), self.norm_tokens(tokens))
        query = query + self.mlp(self.norm_mlp(query))
        features: Tensor = self.norm(query)
        return features[:, 0]


class StateMLP(nn.Module):
    """Residual MLP over a query and a state of one token.

    Args:
        shape: Layout of a state.
        width: Channels.
        depth: Residual layers.
    """

    def __init__(self, shape: StateShape, width: int, depth: int) -> None:
        super().__init__()
        self.trunk = Trunk(shape.tokens * shape.dim + width, width, depth)

    def forward(self, query: Tensor, states: Tensor) -> Tensor:
        """Return features (B, width) of queries (B, width) in their states (B, N, D)."""
        features: Tensor = self.trunk(torch.cat((query, states.flatten(1)), dim=-1))
        return features


def state_reader(shape: StateShape, width: int, depth: int, heads: int) -> StateAttention | StateMLP:
    """Build what finds the features that a query asks of a state: attention, or an MLP where there is one token."""
    return StateMLP(shape, width, depth) if shape.tokens == 1 else StateAttention(shape, width, depth, heads)


def mlp_embedding(num_inputs: int, width: int) -> nn.Sequential:
    """Build an MLP of three layers from a few numbers to a token."""
    return nn.Sequential(nn.Linear(num_inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
