"""Keypoints: a state of a few places in the picture, learned from unlabeled video first and then frozen.

``lam encoder fit --config experiments/keypoints.yaml`` trains them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.encoders.autoencoder.network import from_signal
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.saved import TrainedEncoder


class Keypoints(TrainedEncoder[KeypointNetwork]):
    """Encodes every frame on its own as the places of a few keypoints: one token of two numbers each.

    Numbers have mean 0 over the training frames, and all together variance 1. Pictures of states are what the network draws.

    Args:
        path: Folder that holds encoder.safetensors and encoder.json: the run directory of its training, relative to the
            working directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__("keypoints", KeypointNetwork, path)
        self.grid = (1, 1)

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
