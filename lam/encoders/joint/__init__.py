"""Joint embeddings: a state of one or a few tokens that predicts the next one, trained first and then frozen.

``lam encoder fit --config experiments/joint.yaml`` trains them.
"""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.encoders.autoencoder.network import from_signal
from lam.encoders.frozen import color_features
from lam.encoders.joint.network import JointNetwork
from lam.encoders.saved import TrainedEncoder


class Joint(TrainedEncoder[JointNetwork]):
    """Encodes every frame on its own as a joint embedding of one or a few tokens.

    Numbers have mean 0 over the training frames, and all together variance 1. Pictures of states are what the network draws
    from them where it was trained to draw, else three directions of each token as red, green and blue.

    Args:
        path: Folder that holds encoder.safetensors and encoder.json: the run directory of its training, relative to the
            working directory.
    """

    def __init__(self, path: str) -> None:
        super().__init__("joint", JointNetwork, path)
        self.grid = (1, self.backbone.num_tokens)
        self.shows_pixels = self.backbone.draws

    @override
    @torch.no_grad()
    def forward(self, frames: Tensor) -> Tensor:
        with torch.autocast(frames.device.type, enabled=False):
            embeddings = self.backbone.encode(frames.flatten(0, 1))
        states: Tensor = embeddings.unflatten(0, frames.shape[:2])
        return states

    @override
    @torch.no_grad()
    def to_image(self, states: Tensor) -> Tensor:
        if not self.shows_pixels:
            return color_features(states, self.grid, self.image_size)
        with torch.autocast(states.device.type, enabled=False):
            signal = self.backbone.decode(states.float().flatten(0, 1), self.image_size)
        images: Tensor = from_signal(signal).unflatten(0, states.shape[:2])
        return images
