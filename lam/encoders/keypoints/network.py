"""The network of the keypoints: maps over the picture, the place where each map lies, and a picture drawn from these places."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.encoders.autoencoder.network import to_signal
from lam.encoders.saved import EncoderNetwork

_START_SHARPNESS = 3.0
_SMALLEST_STD = 1e-3
"""Of coordinates, whose range is -1 to 1: where no point ever moved, states are zero and not blown up."""


class KeypointNetwork(EncoderNetwork):
    """Picture to places of keypoints, and back.

    Each of K maps over the picture becomes a distribution over its cells by a softmax; the keypoint is the expected place,
    so it moves by less than a cell. The picture is drawn from Gaussians at these places, so that nothing but places passes.
    Deep spatial autoencoders (https://arxiv.org/abs/1509.06113) have the spatial softmax, the Gaussian maps are those of
    conditional keypoints (https://arxiv.org/abs/1806.07823).

    Args:
        num_keypoints: Keypoints K.
        width: Channels of the hidden layers before the maps; half as many or fewer after each halving.
        num_halvings: Layers that halve the resolution before the maps.
        sigma: Standard deviation of the Gaussians, where the picture is 2 wide.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, num_keypoints: int = 16, width: int = 48, num_halvings: int = 2, sigma: float = 0.15) -> None:
        super().__init__()
        if min(num_keypoints, width // 4, num_halvings) < 1 or sigma <= 0:
            raise ValueError(
                f"num_keypoints {num_keypoints}, width {width}, num_halvings {num_halvings} and sigma {sigma} must be at least "
                "1, 4, 1 and above 0."
            )
        self.settings = {"num_keypoints": num_keypoints, "width": width, "num_halvings": num_halvings, "sigma": sigma}
        self.dim, self.num_halvings, self.sigma = 2 * num_keypoints, num_halvings, sigma
        widths = [5] + [max(4, width >> max(1, num_halvings - 1 - level)) for level in range(num_halvings)]
        down = [
            layer
            for fine, coarse in pairwise(widths)
            for layer in (nn.Conv2d(fine, coarse, 4, stride=2, padding=1), group_norm(coarse), nn.GELU())
        ]
        self.encoder = nn.Sequential(
            *down,
            nn.Conv2d(widths[-1], width, 3, padding=1),
            group_norm(width),
            nn.GELU(),
            nn.Conv2d(width, width, 3, padding=1),
            group_norm(width),
            nn.GELU(),
            nn.Conv2d(width, num_keypoints, 1),
        )
        self.sharpness = nn.Parameter(torch.tensor(_START_SHARPNESS))
        drawn = 2 * width // 3
        up: list[nn.Module] = []
        for level in range(num_halvings):
            fine = 3 if level == num_halvings - 1 else max(4, drawn >> (level + 1))
            up += [nn.ConvTranspose2d(max(4, drawn >> level), fine, 4, stride=2, padding=1)]
            up += [] if fine == 3 else [group_norm(fine), nn.GELU()]
        self.decoder = nn.Sequential(
            nn.Conv2d(num_keypoints + 2, drawn, 3, padding=1),
            group_norm(drawn),
            nn.GELU(),
            nn.Conv2d(drawn, drawn, 3, padding=1),
            group_norm(drawn),
            nn.GELU(),
            *up,
        )
        self.register_buffer("mean", torch.zeros(2 * num_keypoints))
        self.register_buffer("std", torch.ones(()))

    def locate(self, images: Tensor) -> Tensor:
        """Return the places (n, 2K) of the keypoints of images (n, 3, H, W) uint8: x of all, then y of all, each -1 to 1."""
        signal = to_signal(images)
        maps = self.encoder(torch.cat((signal, coordinates(signal)), dim=1))
        weights = (self.sharpness * maps.float()).flatten(2).softmax(dim=2).unflatten(2, maps.shape[-2:])  # (n, K, h, w)
        y, x = (torch.linspace(-1, 1, size, device=maps.device) for size in maps.shape[-2:])
        return torch.cat((weights.sum(dim=2) @ x, weights.sum(dim=3) @ y), dim=1)

    def draw(self, places: Tensor, size: int) -> Tensor:
        """Draw places (n, 2K) as a signal (n, 3, size, size), about -1 to 1."""
        side = size // 2**self.num_halvings
        line = torch.linspace(-1, 1, side, device=places.device)
        x, y = places.float().chunk(2, dim=1)
        across, down = ((-((line - at[..., None]) ** 2) / (2 * self.sigma**2)).exp() for at in (x, y))  # (n, K, side)
        maps = down[..., :, None] * across[..., None, :]
        signal: Tensor = self.decoder(torch.cat((maps, coordinates(maps)), dim=1))
        return signal

    @torch.no_grad()
    def measure(self, places: Tensor) -> None:
        """Measure the mean of each number, and one scale for all, on places (n, 2K) of training frames.

        With a scale of its own the jitter of a point that hardly moves would weigh as much as the way of one that does.
        """
        self.mean.copy_(places.mean(dim=0))
        self.std.copy_(places.var(dim=0, correction=0).mean().sqrt().clamp_min(_SMALLEST_STD))

    @override
    def encode(self, images: Tensor) -> Tensor:
        """Encode images (n, 3, H, W) uint8 as places at unit scale, (n, 2K)."""
        return (self.locate(images) - self.mean) / self.std

    def decode(self, states: Tensor, size: int) -> Tensor:
        """Draw places at unit scale (n, 2K) as a signal (n, 3, size, size)."""
        return self.draw(states * self.std + self.mean, size)

    @override
    def forward(self, images: Tensor) -> Tensor:
        """Reconstruct images (n, 3, H, W) uint8 as a signal (n, 3, H, W)."""
        return self.draw(self.locate(images), images.shape[-1])


def coordinates(maps: Tensor) -> Tensor:
    """Return x and y of the cells of maps (n, channels, h, w), from -1 to 1, as two channels (n, 2, h, w)."""
    y, x = (torch.linspace(-1, 1, size, device=maps.device) for size in maps.shape[-2:])
    return torch.stack(torch.meshgrid(y, x, indexing="ij")[::-1]).expand(len(maps), -1, -1, -1)


def group_norm(width: int) -> nn.GroupNorm:
    """Normalize groups of four channels or more."""
    return nn.GroupNorm(next(groups for groups in (8, 4, 2, 1) if width % groups == 0 and width >= 4 * groups), width)
