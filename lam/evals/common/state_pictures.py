"""States as small pictures that a convolutional network can read, kept in little memory."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from lam.encoders.base import Encoder
from lam.metrics.dimensionality import count_sketch

MAX_PIXELS, MAX_TOKENS, MAX_CHANNELS = 32, 16, 64
"""Sides, at most, of a picture of pixels and of one of tokens, and numbers of a token: 32 KiB a state in half precision."""


def state_pictures(states: Tensor, encoder: Encoder) -> Tensor:
    """Arrange states (B, T, N, D) as pictures (B, T, C, h, w) float16.

    They are the pixels where the encoder shows pixels, else the tokens on their grid, wide ones projected by a fixed random
    map; both averaged over areas where they are larger than the bounds.
    """
    rows, columns = encoder.grid
    if encoder.shows_pixels:
        pictures, size = encoder.to_image(states.float()).flatten(0, 1), MAX_PIXELS
    else:
        tokens = count_sketch(states.float().flatten(0, 2), MAX_CHANNELS)
        pictures, size = tokens.view(-1, rows, columns, tokens.shape[1]).permute(0, 3, 1, 2), MAX_TOKENS
    if max(pictures.shape[-2:]) > size:
        pictures = F.adaptive_avg_pool2d(pictures, (min(pictures.shape[-2], size), min(pictures.shape[-1], size)))
    limit = torch.finfo(torch.float16).max
    kept: Tensor = pictures.clamp(-limit, limit).half().unflatten(0, states.shape[:2])
    return kept
