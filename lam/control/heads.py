"""Heads between known actions and latent actions, with and without a look at the state."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn

from lam.encoders.base import StateShape
from lam.models.layers import MLP, Block, CrossAttention, RoPE, check_sizes, grid_positions

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
        self.embed = embedding(num_inputs, width)
        self.look = Look(shape, width, depth, heads)
        self.to_output = nn.Linear(width, num_outputs)

    def respond(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Outputs (B, Q)."""
        return self.to_output(self.look(self.embed(inputs), states))


class Classifying(Seeing):
    """Chooses one of the outputs that occurred in the labeled transitions, for latents that are codes.

    Args:
        shape: Layout of a state.
        num_inputs: Numbers P that are known.
        num_outputs: Numbers Q that are asked for.
        most: Different outputs there may be, the number of labeled transitions at most.
        width: Channels of a token.
    """

    choices: Tensor
    num_choices: Tensor

    def __init__(self, shape: StateShape, num_inputs: int, num_outputs: int, most: int, width: int = 64) -> None:
        super().__init__(shape, num_inputs, num_outputs, width)
        self.to_output = nn.Linear(width, most)
        self.register_buffer("choices", torch.zeros(most, num_outputs))
        self.register_buffer("num_choices", torch.tensor(0))

    @torch.no_grad()
    def measure(self, inputs: Tensor, outputs: Tensor) -> None:
        """Takes the scales and the different outputs of the labeled transitions, (n, P) and (n, Q)."""
        super().measure(inputs, outputs)
        found = outputs.unique(dim=0)
        self.choices[: len(found)] = found
        self.num_choices.fill_(len(found))

    def forward(self, inputs: Tensor, states: Tensor) -> Tensor:
        """The likeliest output (B, Q) for inputs (B, P) in states (B, N, D)."""
        return self.choices[self.scores(inputs, states).argmax(dim=1)]

    def loss(self, inputs: Tensor, states: Tensor, outputs: Tensor) -> Tensor:
        """Cross-entropy, in nats, of choosing outputs (B, Q)."""
        target = torch.cdist(outputs, self.choices[: int(self.num_choices)]).argmin(dim=1)
        return nn.functional.cross_entropy(self.scores(inputs, states), target)

    def scores(self, inputs: Tensor, states: Tensor) -> Tensor:
        """Logits of the choices there are, (B, choices)."""
        scaled = (inputs - self.input_mean) / self.input_std.clamp_min(_SMALLEST_STD)
        return self.respond(scaled, states)[:, : int(self.num_choices)]


class Clone(nn.Module):
    """Behavior cloning toward a goal: all actions on the way at once, from the state one is in and the one to reach.

    The bound that needs no world model and no latents. Sees both states token by token, joined along channels.

    Args:
        shape: Layout of a state.
        num_actions: Numbers U of an action.
        steps: Actions H on the way.
        width: Channels of a token.
        depth: Self-attention blocks.
        heads: Attention heads.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, shape: StateShape, num_actions: int, steps: int, width: int = 64, depth: int = 2, heads: int = 4
    ) -> None:
        super().__init__()
        self.num_actions = num_actions
        self.query = nn.Parameter(0.02 * torch.randn(width))
        self.look = Look(shape._replace(dim=2 * shape.dim), width, depth, heads)
        self.to_actions = nn.Linear(width, steps * num_actions)
        self.register_buffer("mean", torch.zeros(num_actions))
        self.register_buffer("std", torch.ones(num_actions))

    @torch.no_grad()
    def measure(self, actions: Tensor) -> None:
        """Takes the scale of each number of an action from those of the labeled clips, (n, U)."""
        self.mean.copy_(actions.mean(dim=0))
        self.std.copy_(actions.std(dim=0, correction=0))

    def forward(self, states: Tensor, goals: Tensor) -> Tensor:
        """Actions (B, H, U) that lead from states to goals, each (B, N, D)."""
        seen = self.look(self.query.expand(len(states), -1), torch.cat((states, goals), dim=-1))
        return self.to_actions(seen).unflatten(-1, (-1, self.num_actions)) * self.std + self.mean

    def loss(self, states: Tensor, goals: Tensor, actions: Tensor) -> Tensor:
        """Squared distance to the recorded actions (B, H, U), each number in units of its variance."""
        error = (self(states, goals) - actions) / self.std.clamp_min(_SMALLEST_STD)
        return error.square().mean()


class Look(nn.Module):
    """Self-attention over the tokens of a state, then one look at them by a query.

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
        self.places = nn.Parameter(
            0.02 * torch.randn(shape.tokens, width)
        )  # rotations alone say where tokens are to each other
        self.rope = RoPE(width // heads)
        self.blocks = nn.ModuleList(Block(width, heads) for _ in range(depth))
        self.norm_tokens = nn.LayerNorm(width)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)
        self.norm = nn.LayerNorm(width)

    def forward(self, query: Tensor, states: Tensor) -> Tensor:
        """What each query (B, width) sees in its state (B, N, D), (B, width)."""
        rotation = self.rope(grid_positions(self.shape, 1, states.device))
        tokens = self.embed_state(states) + self.places
        for block in self.blocks:
            tokens = block(tokens, rotation)
        query = query[:, None]
        query = query + self.cross(self.norm_cross(query), self.norm_tokens(tokens))
        query = query + self.mlp(self.norm_mlp(query))
        return self.norm(query)[:, 0]


def embedding(num_inputs: int, width: int) -> nn.Sequential:
    """MLP of three layers from a few numbers to a token."""
    return nn.Sequential(nn.Linear(num_inputs, width), nn.GELU(), nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
