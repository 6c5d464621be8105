"""The network of joint embeddings: a picture becomes one or a few tokens, by convolutions or a transformer, and back."""

from __future__ import annotations

from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import override

from lam.encoders.autoencoder.network import ResidualBlock, to_signal
from lam.encoders.keypoints.network import coordinates, group_norm
from lam.encoders.saved import EncoderNetwork

Backbone = Literal["conv", "vit"]
_SIDE = 8
"""Rows and columns of the map that is read as a whole, and that drawing begins with."""
_HEAD_DIM = 16
_SMALLEST_STD = 1e-3
"""Of embeddings, whose numbers are to have 1: those that collapsed are passed on small, not blown up."""


class JointNetwork(EncoderNetwork):
    """Picture to an embedding of N tokens, and back where it is to be drawn.

    Args:
        num_tokens: Tokens N of a state.
        dim: Width D of a token.
        backbone: What reads a picture: ``conv``, convolutions that halve the resolution, or ``vit``, a transformer on patches.
        width: Channels of the hidden layers; of a ViT a multiple of 16.
        depth: Residual blocks after the halvings, or blocks of the transformer.
        num_halvings: Layers that halve the resolution; patches of a ViT have 2 ** num_halvings pixels a side.
        draws: Whether it can draw what it embeds.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        num_tokens: int = 1,
        dim: int = 128,
        backbone: Backbone = "conv",
        width: int = 48,
        depth: int = 2,
        num_halvings: int = 3,
        draws: bool = True,
    ) -> None:
        super().__init__()
        sizes = {"num_tokens": num_tokens, "dim": dim, "width": width, "depth": depth, "num_halvings": num_halvings}
        if wrong := [f"{name} {size}" for name, size in sizes.items() if size < 1]:
            raise ValueError(f"{', '.join(wrong)} must be at least 1.")
        if backbone == "vit" and width % _HEAD_DIM:
            raise ValueError(f"width {width} does not divide into heads of {_HEAD_DIM} channels, as backbone vit needs it.")
        self.settings = {**sizes, "backbone": backbone, "draws": draws}
        self.num_tokens, self.dim, self.num_halvings, self.draws = num_tokens, dim, num_halvings, draws
        self.encoder: nn.Module
        if backbone == "vit":
            self.encoder = _Transformer(num_tokens, dim, width, depth, num_halvings)
        else:
            self.encoder = _Convolutions(num_tokens * dim, width, depth, num_halvings)
        if draws:
            self.decoder = _Drawing(num_tokens * dim, width, num_halvings)
        self.register_buffer("mean", torch.zeros(num_tokens * dim))
        self.register_buffer("std", torch.ones(()))

    def embed(self, images: Tensor) -> Tensor:
        """Embed images (n, 3, H, W) uint8 as they are trained, (n, N * D)."""
        signal = to_signal(images)
        embeddings: Tensor = self.encoder(torch.cat((signal, coordinates(signal)), dim=1))
        return embeddings

    def draw(self, embeddings: Tensor, size: int) -> Tensor:
        """Draw embeddings (n, N * D) as a signal (n, 3, size, size), about -1 to 1."""
        signal: Tensor = self.decoder(embeddings, size)
        return signal

    @torch.no_grad()
    def measure(self, embeddings: Tensor) -> None:
        """Measure the location of each number and the scale of all on embeddings (n, N * D) of training frames.

        One scale: distances keep their proportions, and a direction that holds nothing stays small.
        """
        self.mean.copy_(embeddings.mean(dim=0))
        self.std.copy_(embeddings.var(dim=0, correction=0).mean().sqrt().clamp_min(_SMALLEST_STD))

    @override
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, H, W) uint8 as embeddings at unit scale, (n, N, D)."""
        states: Tensor = ((self.embed(images) - self.mean) / self.std).unflatten(1, (self.num_tokens, self.dim))
        return states

    def decode(self, states: Tensor, size: int) -> Tensor:
        """Draw embeddings at unit scale (n, N, D) as a signal (n, 3, size, size)."""
        return self.draw(states.flatten(1) * self.std + self.mean, size)


class _Convolutions(nn.Module):
    """Convolutions that halve the resolution, residual blocks, and a linear map of all that they see."""

    def __init__(self, num_outputs: int, width: int, depth: int, num_halvings: int) -> None:
        super().__init__()
        down: list[nn.Module] = []
        for fine, coarse in pairwise([5, *_channels(width, num_halvings)]):
            down += [nn.Conv2d(fine, coarse, 4, stride=2, padding=1), group_norm(coarse), nn.GELU()]
        self.layers = nn.Sequential(*down, *(ResidualBlock(width) for _ in range(depth)), group_norm(width), nn.GELU())
        self.to_embedding = nn.Linear(_SIDE**2 * width, num_outputs)

    @override
    def forward(self, picture: Tensor) -> Tensor:
        """Embed pictures with coordinates (n, 5, H, W)."""
        seen = F.adaptive_avg_pool2d(self.layers(picture), _SIDE)
        embedding: Tensor = self.to_embedding(seen.flatten(1))
        return embedding


class _Transformer(nn.Module):
    """Vision transformer whose N learned tokens read the patches; each becomes a token of the state.

    Patches hold the coordinates of their pixels, so that any size of picture fits. No norm follows the last linear map, which
    would keep embeddings from being Gaussian.
    """

    def __init__(self, num_tokens: int, dim: int, width: int, depth: int, num_halvings: int) -> None:
        super().__init__()
        patch: int = 2**num_halvings
        self.to_patches = nn.Conv2d(5, width, patch, stride=patch)
        self.tokens = nn.Parameter(torch.randn(num_tokens, width))
        block = nn.TransformerEncoderLayer(
            width, width // _HEAD_DIM, 4 * width, dropout=0.0, activation="gelu", batch_first=True, norm_first=True
        )
        self.blocks = nn.TransformerEncoder(block, depth, nn.LayerNorm(width), enable_nested_tensor=False)
        self.to_embedding = nn.Linear(width, dim)

    @override
    def forward(self, picture: Tensor) -> Tensor:
        """Embed pictures with coordinates (n, 5, H, W)."""
        patches = self.to_patches(picture).flatten(2).transpose(1, 2)
        tokens = self.tokens.expand(len(picture), -1, -1)
        read = self.blocks(torch.cat((tokens, patches), dim=1))[:, : tokens.shape[1]]
        embedding: Tensor = self.to_embedding(read).flatten(1)
        return embedding


class _Drawing(nn.Module):
    """A linear map to a coarse map, and transposed convolutions."""

    def __init__(self, num_inputs: int, width: int, num_halvings: int) -> None:
        super().__init__()
        self.width, self.num_halvings = width, num_halvings
        self.to_map = nn.Linear(num_inputs, _SIDE**2 * width)
        up: list[nn.Module] = []
        for coarse, fine in pairwise([*reversed(_channels(width, num_halvings)), 3]):
            up += [group_norm(coarse), nn.GELU(), nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1)]
        self.layers = nn.Sequential(ResidualBlock(width), *up)

    @override
    def forward(self, embeddings: Tensor, size: int) -> Tensor:
        """Draw embeddings (n, S) as a signal (n, 3, size, size)."""
        coarse = self.to_map(embeddings).unflatten(1, (self.width, _SIDE, _SIDE))
        side = size // 2**self.num_halvings
        if side != _SIDE:
            coarse = F.interpolate(coarse, size=(side, side), mode="bilinear", align_corners=False)
        signal: Tensor = self.layers(coarse)
        return signal


def _channels(width: int, num_halvings: int) -> list[int]:
    """Return the channels after each halving: half as many after the first of several, which has the most pixels."""
    return [max(4, width // 2) if level == 0 and num_halvings > 1 else width for level in range(num_halvings)]
