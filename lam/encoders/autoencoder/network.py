"""The network of the autoencoder: a few strided convolutions to a grid of features, and back to pixels."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn

from lam.encoders.features import normalize_channels


class ConvAutoencoder(nn.Module):
    """Squeezes an image into a grid of features and paints it again from them.

    The features pass a LayerNorm without parameters inside, so the decoder learns to read just what the states hold.

    Args:
        dim: Width D of a feature.
        width: Channels of the hidden layers.
        num_halvings: Layers that halve the resolution; a feature covers 2 ** num_halvings pixels a side.
    """

    def __init__(self, dim: int = 32, width: int = 64, num_halvings: int = 3) -> None:
        super().__init__()
        if min(dim, width // 2, num_halvings) < 1:
            raise ValueError(f"dim {dim}, width {width} and num_halvings {num_halvings} must be at least 1, 2 and 1.")
        self.dim = dim
        self.width = width
        self.num_halvings = num_halvings
        # the first layer sees the most pixels, so it is half as wide
        widths = [3, width // 2, *[width] * (num_halvings - 1)]
        steps = list(pairwise(widths))
        down = [layer for fine, coarse in steps for layer in (_halve(fine, coarse), nn.SiLU())]
        up = [layer for fine, coarse in reversed(steps) for layer in (nn.SiLU(), _double(coarse, fine))]
        self.encoder = nn.Sequential(*down, Residual(widths[-1]), nn.Conv2d(widths[-1], dim, 1))
        self.decoder = nn.Sequential(nn.Conv2d(dim, widths[-1], 1), Residual(widths[-1]), *up)

    @property
    def pixels_per_feature(self) -> int:
        """Pixels a side that a feature stands for."""
        return 2**self.num_halvings

    def encode(self, images: Tensor) -> Tensor:
        """Normalized features (n, rows, columns, D) of images (n, 3, H, W) uint8."""
        features = self.encoder(to_signal(images))
        return normalize_channels(features.movedim(1, -1))

    def decode(self, features: Tensor) -> Tensor:
        """Signal (n, 3, H, W), about -1 to 1, of normalized features (n, rows, columns, D)."""
        return self.decoder(features.movedim(-1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Reconstruction (n, 3, H, W), as a signal, of images (n, 3, H, W) uint8."""
        return self.decode(self.encode(images))


class Residual(nn.Module):
    """Adds what two convolutions see around each feature.

    Args:
        width: Channels.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.SiLU(), nn.Conv2d(width, width, 3, padding=1), nn.SiLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Features of the same shape, (n, width, rows, columns)."""
        return x + self.layers(x)


def to_signal(images: Tensor) -> Tensor:
    """Pixels uint8 as numbers from -1 to 1."""
    return images.float() / 127.5 - 1


def from_signal(signal: Tensor) -> Tensor:
    """Numbers from -1 to 1 as color from 0 to 1; what lies outside is cut off."""
    return (signal.float() / 2 + 0.5).clamp(0, 1)


def _halve(fine: int, coarse: int) -> nn.Conv2d:
    return nn.Conv2d(fine, coarse, 4, stride=2, padding=1)


def _double(coarse: int, fine: int) -> nn.ConvTranspose2d:
    """Doubles the resolution; a kernel of twice the stride paints every pixel with equally many weights."""
    return nn.ConvTranspose2d(coarse, fine, 4, stride=2, padding=1)
