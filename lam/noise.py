"""Noise that is a function of a sample's key: the same on any device, rank or batch position.

A counter-based generator in the manner of Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC 2011), with the
finalizer of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014) as its mixing function: noise number i of a sample is a hash of
(key, i), so nothing has to be carried from step to step or kept equal between processes.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

_GOLDEN = -7046029254386353131  # 2^64 / golden ratio, as a signed 64-bit integer
_MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
_MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def splitmix64(x: Tensor) -> Tensor:
    """Scramble 64-bit integers, so that neighbors become unrelated numbers (SplitMix64's finalizer)."""
    x = (x ^ _shift_right(x, 30)) * _MIX_1
    x = (x ^ _shift_right(x, 27)) * _MIX_2
    return x ^ _shift_right(x, 31)


def keyed_uniform(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw uniform numbers in (0, 1), (B, *shape) float32; number i of a row is a hash of (its key, i).

    Args:
        keys: One 64-bit integer a row, (B,).
        shape: Shape of one row.
    """
    counter = torch.arange(1, math.prod(shape) + 1, device=keys.device, dtype=torch.int64)
    bits = splitmix64(splitmix64(keys)[:, None] + counter * _GOLDEN)
    return ((_shift_right(bits, 41).to(torch.float32) + 0.5) * 2.0**-23).reshape(len(keys), *shape)


def keyed_normal(keys: Tensor, shape: Sequence[int]) -> Tensor:
    """Draw standard normal numbers, (B, *shape) float32, by the Box-Muller transform of ``keyed_uniform``."""
    radius, angle = keyed_uniform(keys, (2, *shape)).unbind(dim=1)
    return (-2.0 * radius.log()).sqrt() * (2.0 * math.pi * angle).cos()


def normal_like(x: Tensor, keys: Tensor | None = None) -> Tensor:
    """Draw standard normal noise like x, (B, ...): ``keyed_normal`` where keys (B,) are given, else from the global state."""
    if keys is None:
        return torch.randn_like(x)
    return keyed_normal(keys, x.shape[1:]).to(x.dtype)


def _shift_right(x: Tensor, by: int) -> Tensor:
    """Shift signed 64-bit integers logically (PyTorch's own shift copies the sign)."""
    return (x >> by) & ((1 << (64 - by)) - 1)
