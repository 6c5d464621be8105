"""Layers of inverse and forward models: attention with rotary positions, MLPs, frame-wise AdaLN-zero, FiLM convolutions."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lam.encoders.base import StateShape

# Letters of this file: S tokens of a sequence, C channels of one attention head.


class Rotation(NamedTuple):
    """Angles of rotary positions, ready to apply: cosines and signed sines, each (S, C)."""

    cos: Tensor
    sin: Tensor


class RoPE(nn.Module):
    """Rotary positions over time, height and width (Su et al., https://arxiv.org/abs/2104.09864).

    Channel i of a head is paired with channel i + C/2. A third of the pairs turns with each axis, as in V-JEPA 2; the
    C/2 mod 3 pairs left over do not turn. Frequencies fall from 1 to about 1/100 a step: grids have tens of rows, not
    the thousands of words that the usual 1/10000 is made for.

    Args:
        head_dim: Channels C of a head.
    """

    def __init__(self, head_dim: int) -> None:
        super().__init__()
        if head_dim < 6 or head_dim % 2:
            raise ValueError(f"Heads have {head_dim} channels, rotary positions need an even number >= 6: change heads.")
        pairs = head_dim // 6
        frequencies = torch.zeros(3, head_dim // 2)
        for axis in range(3):
            frequencies[axis, axis * pairs : (axis + 1) * pairs] = 100.0 ** -(torch.arange(pairs) / pairs)
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.frequencies: Tensor

    def forward(self, positions: Tensor) -> Rotation:
        """Compute the rotation of tokens at positions (S, 3): time, row, column."""
        angles = (positions[:, :, None] * self.frequencies).sum(dim=1)  # (S, C/2), in float32 under autocast too
        cos, sin = angles.cos(), angles.sin()
        return Rotation(torch.cat((cos, cos), dim=-1), torch.cat((-sin, sin), dim=-1))


def grid_positions(shape: StateShape, num_states: int, device: torch.device) -> Tensor:
    """List time, row and column of the tokens of consecutive states, (num_states * N, 3)."""
    axes = [torch.arange(n, device=device, dtype=torch.float32) for n in (num_states, shape.rows, shape.columns)]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"), dim=-1).flatten(0, 2)


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Rotate queries or keys (..., S, C), so that their products depend on differences of positions only."""
    return x * rotation.cos.to(x.dtype) + x.roll(x.shape[-1] // 2, dims=-1) * rotation.sin.to(x.dtype)


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention softmax(q k^T / sqrt(C)) v over (B, heads, S, C) by what is fastest on the device.

    Fused, except in bfloat16 on the CPU: there the fused backward pass is slow, and the written-out product took 0.2 to
    0.8 times as long; in float32 it took 1.5 to 1.8 times as long (``benchmarks/train_step.py --attention``).
    """
    if q.device.type == "cpu" and q.dtype == torch.bfloat16:
        return attend_explicitly(q, k, v)
    return F.scaled_dot_product_attention(q, k, v)


def attend_explicitly(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Compute attention by its formula; the softmax sums in float32 whatever its input is."""
    scores: Tensor = (q * q.shape[-1] ** -0.5) @ k.transpose(-2, -1)
    return scores.softmax(dim=-1) @ v


def attend_block_causally(q: Tensor, k: Tensor, v: Tensor, num_states: int) -> Tensor:
    """Compute block-causal attention: tokens of a state see all tokens of that state and of earlier ones, never later ones.

    State by state on the keys it may see: nothing is computed to be masked, and fused kernels without masks apply.
    """
    if num_states == 1:
        return attend(q, k, v)
    tokens = q.shape[-2] // num_states
    ends = [(t + 1) * tokens for t in range(num_states)]
    return torch.cat(
        [attend(q[:, :, end - tokens : end], k[:, :, :end], v[:, :, :end]) for end in ends],
        dim=-2,
    )


class Attention(nn.Module):
    """Self-attention, block-causal over states.

    Args:
        width: Channels of a token.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_sizes(width, heads)
        self.heads = heads
        self.to_qkv = nn.Linear(width, 3 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, rotation: Rotation | None, num_states: int = 1) -> Tensor:
        """Mix tokens x, (B, S, width), that belong to num_states consecutive states."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).transpose(1, 3).unbind(dim=2)  # (B, heads, S, C)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        out: Tensor = self.to_out(attend_block_causally(q, k, v, num_states).transpose(1, 2).flatten(2))
        return out


class CrossAttention(nn.Module):
    """Attention from tokens to a context.

    Args:
        width: Channels of a token and of the context.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        check_sizes(width, heads)
        self.heads = heads
        self.to_q = nn.Linear(width, width)
        self.to_kv = nn.Linear(width, 2 * width)
        self.to_out = nn.Linear(width, width)

    def forward(self, x: Tensor, context: Tensor) -> Tensor:
        """Attend from tokens x, (B, S, width), to a context (B, n, width)."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        k, v = self.to_kv(context).unflatten(-1, (2, self.heads, -1)).transpose(1, 3).unbind(dim=2)
        out: Tensor = self.to_out(attend(q, k, v).transpose(1, 2).flatten(2))
        return out


class MLP(nn.Sequential):
    """Two layers with a GELU between them, four times as wide inside."""

    def __init__(self, width: int) -> None:
        super().__init__(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))


class Block(nn.Module):
    """Pre-norm transformer block.

    Args:
        width: Channels of a token.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, rotation: Rotation | None) -> Tensor:
        """Transform tokens (B, S, width)."""
        x = x + self.attention(self.norm_attention(x), rotation)
        change: Tensor = self.mlp(self.norm_mlp(x))
        return x + change


class CrossBlock(nn.Module):
    """Pre-norm block that attends to a context between its self-attention and its MLP.

    Args:
        width: Channels of a token and of the context.
        heads: Attention heads.
    """

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.norm_attention = nn.LayerNorm(width)
        self.attention = Attention(width, heads)
        self.norm_cross = nn.LayerNorm(width)
        self.cross = CrossAttention(width, heads)
        self.norm_mlp = nn.LayerNorm(width)
        self.mlp = MLP(width)

    def forward(self, x: Tensor, rotation: Rotation, context: Tensor) -> Tensor:
        """Transform tokens (B, S, width), given a context (B, n, width)."""
        x = x + self.attention(self.norm_attention(x), rotation)
        x = x + self.cross(self.norm_cross(x), context)
        change: Tensor = self.mlp(self.norm_mlp(x))
        return x + change


class AdaLNBlock(nn.Module):
    """Block whose norms and gates are set by a condition, one a state; the identity at the start (AdaLN-zero).

    DiT's block (Peebles and Xie, https://arxiv.org/abs/2212.09748), frame-wise as in https://arxiv.org/abs/2601.05230:
    the tokens of a state are modulated by that state's own condition.

    Args:
        width: Channels of a token and of the condition.
        heads: Attention heads.
        modulation_std: Standard deviation of the modulation's weights at the start; zero makes the block the identity.
    """

    def __init__(self, width: int, heads: int, modulation_std: float = 0.0) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.attention = Attention(width, heads)
        self.mlp = MLP(width)
        self.modulation = nn.Linear(width, 6 * width)
        nn.init.normal_(self.modulation.weight, std=modulation_std)
        nn.init.zeros_(self.modulation.bias)

    def forward(self, x: Tensor, rotation: Rotation, condition: Tensor) -> Tensor:
        """Transform states (B, T-1, N, width), given conditions (B, T-1, width)."""
        modulation: Tensor = self.modulation(F.silu(condition))[:, :, None]  # (B, T-1, 1, 6 * width)
        shift_1, scale_1, gate_1, shift_2, scale_2, gate_2 = modulation.chunk(6, dim=-1)
        num_states = x.shape[1]
        mixed = self.attention(torch.addcmul(shift_1, self.norm(x), 1 + scale_1).flatten(1, 2), rotation, num_states)
        x = x + gate_1 * mixed.unflatten(1, (num_states, -1))
        change: Tensor = gate_2 * self.mlp(torch.addcmul(shift_2, self.norm(x), 1 + scale_2))
        return x + change


class FiLMBlock(nn.Module):
    """Convolution whose channels a condition scales and shifts (FiLM, Perez et al., https://arxiv.org/abs/1709.07871).

    Args:
        width: Channels of a grid cell and of the condition.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.around = nn.Conv2d(width, width, 3, padding=1)
        self.modulation = nn.Linear(width, 2 * width)
        self.mix = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Transform grids (n, width, h, w), given conditions (n, width)."""
        scale, shift = self.modulation(condition)[:, :, None, None].chunk(2, dim=1)
        change: Tensor = self.mix(F.silu(torch.addcmul(shift, self.around(F.silu(x)), 1 + scale)))
        return x + change


def check_sizes(width: int, heads: int, depth: int = 1) -> None:
    """Check the sizes of a transformer.

    Raises:
        ValueError: Heads do not share the width evenly, or there are no blocks.
    """
    if heads < 1 or width % heads:
        raise ValueError(f"width {width} cannot be shared by {heads} heads: choose a width divisible by heads.")
    if depth < 1:
        raise ValueError(f"depth {depth} leaves no transformer block: give at least 1.")
