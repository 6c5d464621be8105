"""A small autoencoder, trained first on the shards of an experiment and then frozen; its decoder shows what states hold.

``lam encoder fit --config experiments/autoencoder.yaml`` trains one.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.encoders.autoencoder.network import ConvAutoencoder, from_signal
from lam.encoders.saved import TrainedEncoder


class Autoencoder(TrainedEncoder[ConvAutoencoder]):
    """Encodes every frame on its own by a small convolutional network that was trained to reconstruct it.

    Features are normalized over channels by a LayerNorm without parameters, and the decoder was trained to read them so. The
    network computes in float32 whatever the precision of the run: states do not depend on it, and on the processors we tried
    convolutions in bf16 were four times slower.

    Args:
        path: Folder that holds encoder.safetensors and encoder.json: the run directory of its training, relative to the
            working directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__("autoencoder", ConvAutoencoder, path)
        side = self.image_size // self.backbone.pixels_per_feature
        self.grid = (side, side)

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            features = self.backbone.encode(frames.flatten(0, 1))
        states: Tensor = features.flatten(1, 2).unflatten(0, frames.shape[:2])
        return states

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            signal = self.backbone.decode(states.float().flatten(0, 1).unflatten(1, self.grid))
        images: Tensor = from_signal(signal).unflatten(0, states.shape[:2])
        return images
