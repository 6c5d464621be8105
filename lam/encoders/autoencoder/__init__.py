"""A small autoencoder, trained first on the shards of an experiment and then frozen; its decoder shows what states hold.

``lam autoencoder fit`` trains one.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lam.encoders.autoencoder.export import load_export
from lam.encoders.autoencoder.network import from_signal
from lam.encoders.frozen import FrozenEncoder


class Autoencoder(FrozenEncoder):
    """Sees every frame on its own through a small convolutional network that was trained to repaint it.

    Features are normalized over channels by a LayerNorm without parameters, and the decoder was trained to read them so. It
    computes in float32 whatever the precision of the run: states do not depend on it, and on the processors we tried
    convolutions in bf16 were four times slower.

    Args:
        path: Folder that holds encoder.safetensors and encoder.json: the run directory of its training, relative to the
            working directory.
    """

    shows_pixels = True

    def __init__(self, path: str) -> None:
        super().__init__()
        export = load_export(path)
        self.source = path
        self.image_size = export.image_size
        self.dim = export.network.dim
        self.grid = export.grid
        self.backbone = export.network
        self.digest = export.digest
        self.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        """States (B, T, N, D), float, of frames (B, F, 3, H, W) uint8, with F = T."""
        with torch.autocast(frames.device.type, enabled=False):
            features = self.backbone.encode(frames.flatten(0, 1))
        return features.flatten(1, 2).unflatten(0, frames.shape[:2])

    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        """What the decoder paints of states (B, T, N, D): (B, T, 3, H, W) in [0, 1]."""
        with torch.autocast(states.device.type, enabled=False):
            signal = self.backbone.decode(states.float().flatten(0, 1).unflatten(1, self.grid))
        return from_signal(signal).unflatten(0, states.shape[:2])
