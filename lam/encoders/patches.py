"""Raw patches: states are the pixels themselves, cut into squares and put on one scale."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from lam.data.index import DataIndex
from lam.encoders.base import Encoder


class Patches(Encoder):
    """Cuts frames into square patches; has no weights and loses nothing.

    A token lists its patch's red, then green, then blue, each row by row. The training set's mean color is subtracted and
    one scale divides all colors, so states have about unit variance and errors keep the proportions they have in pixels.
    Until the index is read, pixels are mapped to [-1, 1].

    Args:
        image_size: Height and width of the frames, in pixels.
        patch: Height and width of a patch, in pixels.
    """

    shows_pixels = True
    mean: Tensor
    scale: Tensor

    def __init__(self, image_size: int = 64, patch: int = 8) -> None:
        super().__init__()
        if patch < 1 or image_size < patch or image_size % patch:
            raise ValueError(f"image_size {image_size} does not divide into patches of {patch} pixels. Choose a divisor.")
        self.image_size = image_size
        self.patch = patch
        self.grid = (image_size // patch, image_size // patch)
        self.dim = 3 * patch**2
        self.register_buffer("mean", torch.full((3, 1), 0.5))
        self.register_buffer("scale", torch.tensor(0.5))
        self.eval()

    @override
    def forward(self, frames: Tensor) -> Tensor:
        """Cut frames (B, F, 3, H, W), 0 to 255 in any type, into states (B, T, N, D), float, with F = T."""
        p = self.patch
        rows, columns = self.grid
        squares = frames.reshape(*frames.shape[:3], rows, p, columns, p).permute(0, 1, 3, 5, 2, 4, 6)
        colors = squares.reshape(*frames.shape[:2], rows * columns, 3, p * p)
        return ((colors / 255 - self.mean) / self.scale).flatten(-2)

    @override
    def use_index(self, index: DataIndex) -> None:
        """Take mean and scale of the pixels.

        Raises:
            ValueError: All pixels have the same color.
        """
        scale = math.sqrt(sum(std**2 for std in index.pixel_std) / 3)
        if not scale > 0:
            raise ValueError(f"All frames of {index.path} are of one single color. Prepare it from other video.")
        self.mean.copy_(torch.tensor(index.pixel_mean)[:, None])
        self.scale.fill_(scale)

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        p = self.patch
        rows, columns = self.grid
        colors: Tensor = states.float().unflatten(-1, (3, p * p)) * self.scale + self.mean
        grid = colors.reshape(*states.shape[:2], rows, columns, 3, p, p).permute(0, 1, 4, 2, 5, 3, 6)
        return grid.reshape(*states.shape[:2], 3, self.image_size, self.image_size).clamp(0, 1)
