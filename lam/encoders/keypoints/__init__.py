"""Keypoints: a state of a few places in the picture, learned from unlabeled video first and then frozen.

``lam encoder fit --config experiments/keypoints.yaml`` trains them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.encoders.autoencoder.network import from_signal
from lam.encoders.frozen import FrozenEncoder
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.saved import load_encoder

KIND = "keypoints"
"""As its files say."""


class Keypoints(FrozenEncoder):
    """Encodes every frame on its own as the places of a few keypoints: one token of two numbers each.

    Numbers have mean 0 and variance 1 over the training frames. Pictures of states are what the network draws from them.

    Args:
        path: Folder that holds encoder.safetensors and encoder.json: the run directory of its training, relative to the
            working directory.
    """

    shows_pixels = True

    def __init__(self, path: str) -> None:
        super().__init__()
        trained = load_encoder(KIND, KeypointNetwork, path)
        self.source = path
        self.image_size = trained.image_size
        self.dim = trained.network.dim
        self.grid = (1, 1)
        self.backbone = trained.network
        self.digest = trained.digest
        self.requires_grad_(False).eval()

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            places = self.backbone.encode(frames.flatten(0, 1))
        states: Tensor = places.unflatten(0, frames.shape[:2])[:, :, None]
        return states

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        with torch.autocast(states.device.type, enabled=False):
            signal = self.backbone.decode(states.float().flatten(0, 2), self.image_size)
        images: Tensor = from_signal(signal).unflatten(0, states.shape[:2])
        return images
