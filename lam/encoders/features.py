"""What encoders with learned features share: their normalization, and colors for people to look at."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def normalize_channels(features: Tensor) -> Tensor:
    """LayerNorm over the last axis without parameters, in float32: every token has mean 0 and variance 1.

    V-JEPA 2-AC normalizes its targets this way (https://arxiv.org/abs/2506.09985).
    """
    return F.layer_norm(features.float(), features.shape[-1:])


def color_features(states: Tensor, grid: tuple[int, int], size: int) -> Tensor:
    """Three fixed directions of the features as red, green and blue.

    The directions are the first three waves of a cosine basis over the channels: orthonormal, the same for every state and
    run, and chosen by nobody. A token of normalized features has components about N(0, 1) along them; two standard
    deviations to either side span black to full color, so equal features have equal color in every picture.

    Args:
        states: Normalized features (B, T, N, D).
        grid: Rows and columns; N = rows * columns.
        size: Height and width of the pictures, at least those of the grid.

    Returns:
        Pictures (B, T, 3, size, size) in [0, 1].
    """
    dim = states.shape[-1]
    channel = (torch.arange(dim, device=states.device, dtype=torch.float32) + 0.5) * math.pi / dim
    waves = torch.stack([(k * channel).cos() for k in (1, 2, 3)], dim=-1) * math.sqrt(2 / dim)  # (D, 3)
    colors = (0.5 + states.float() @ waves / 4).clamp(0, 1)  # (B, T, N, 3)
    pictures = colors.unflatten(2, grid).movedim(-1, 2)  # (B, T, 3, rows, columns)
    return F.interpolate(pictures.flatten(0, 1), size=(size, size), mode="nearest").unflatten(0, states.shape[:2])
