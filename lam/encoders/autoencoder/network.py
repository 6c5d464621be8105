"""The network of the autoencoder: a few strided convolutions to a grid of features, and back to pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.frozen import normalize_channels
from lam.encoders.saved import EncoderNetwork


class ConvAutoencoder(EncoderNetwork):
    """Convolutional autoencoder from an image to a grid of features and back.

    The features pass a LayerNorm without parameters inside, so the decoder learns to read what the states hold.

    Args:
        dim: Width D of a feature.
        width: Channels of the hidden layers.
        num_halvings: Layers that halve the resolution; a feature covers 2 ** num_halvings pixels a side.
    """

    def __init__(self, dim: int = 32, width: int = 64, num_halvings: int = 3) -> None:
        super().__init__()
        if min(dim, width // 2, num_halvings) < 1:
            raise ValueError(f"dim {dim}, width {width} and num_halvings {num_halvings} must be at least 1, 2 and 1.")
        self.settings = {"dim": dim, "width": width, "num_halvings": num_halvings}
        self.dim = dim
        self.num_halvings = num_halvings
        # the first layer has the most pixels to compute, so it is half as wide
        widths = [3, width // 2, *[width] * (num_halvings - 1)]
        steps = list(pairwise(widths))
        down = [layer for fine, coarse in steps for layer in (_downsample(fine, coarse), nn.SiLU())]
        up = [layer for fine, coarse in reversed(steps) for layer in (nn.SiLU(), _upsample(coarse, fine))]
        self.encoder = nn.Sequential(*down, ResidualBlock(widths[-1]), nn.Conv2d(widths[-1], dim, 1))
        self.decoder = nn.Sequential(nn.Conv2d(dim, widths[-1], 1), ResidualBlock(widths[-1]), *up)

    @override
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, H, W) uint8 into normalized features (n, rows, columns, D)."""
        features = self.encoder(to_signal(images))
        return normalize_channels(features.movedim(1, -1))

    def decode(self, features: Tensor) -> Tensor:
        """Decode normalized features (n, rows, columns, D) into a signal (n, 3, H, W), about -1 to 1."""
        signal: Tensor = self.decoder(features.movedim(-1, 1))
        return signal

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images (n, 3, H, W) uint8 as a signal (n, 3, H, W)."""
        return self.decode(self.encode(images))


class ResidualBlock(nn.Module):
    """Residual block of two convolutions.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1))

    @override
    def forward(self, x: Tensor) -> Tensor:
        """Transform features (n, width, rows, columns)."""
        change: Tensor = self.layers(x)
        return x + change


def to_signal(images: Tensor) -> Tensor:
    """Scale pixels uint8 to numbers from -1 to 1."""
    return images.float() / 127.5 - 1


def from_signal(signal: Tensor) -> Tensor:
    """Scale numbers from -1 to 1 to colors from 0 to 1, clamped."""
    return (signal.float() / 2 + 0.5).clamp(0, 1)


def _downsample(fine: int, coarse: int) -> nn.Conv2d:
    """Halve the resolution."""
    return nn.Conv2d(fine, coarse, 4, stride=2, padding=1)


def _upsample(coarse: int, fine: int) -> nn.ConvTranspose2d:
    """Double the resolution; a kernel of twice the stride gives every pixel equally many weights."""
    return nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1)
