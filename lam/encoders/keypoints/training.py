"""Training of keypoints: what changes is reconstructed, and the next places are predicted under a small latent action."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.data.clip import Clip
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.objectives import LatentPrediction, change_weighted_error
from lam.encoders.training import EncoderTraining
from lam.noise import splitmix64


class KeypointTraining(EncoderTraining):
    """Trains keypoints on windows of unlabeled video.

    Two terms. The reconstruction draws each frame from its places; a pixel that changes to the next frame weighs
    ``1 + change_weight``, since what moves is small and a state that lacks it cannot be planned with. The prediction is of the
    next places from the present ones and a latent action that is inferred from both, so that places move as something can move
    them.

    Args:
        num_keypoints: Keypoints K.
        width: Channels of the hidden layers before the maps.
        num_halvings: Layers that halve the resolution before the maps.
        sigma: Standard deviation of the Gaussians that are drawn, where the picture is 2 wide.
        reconstruction: Weight of the squared error of pixels from 0 to 1.
        change_weight: Additional weight of a pixel that changes.
        change_threshold: Change of a color from 0 to 1 from which on it counts.
        prediction: Weight of the squared error of predicted coordinates from -1 to 1.
        latent_dim: Numbers of the latent action.
        beta: Weight of its KL from N(0, 1), relative to the prediction.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    kind = "keypoints"
    network: KeypointNetwork

    def __init__(
        self,
        num_keypoints: int = 16,
        width: int = 48,
        num_halvings: int = 2,
        sigma: float = 0.15,
        reconstruction: float = 10.0,
        change_weight: float = 20.0,
        change_threshold: float = 0.1,
        prediction: float = 4.0,
        latent_dim: int = 4,
        beta: float = 1e-4,
        learning_rate: float = 1e-3,
    ) -> None:
        super().__init__(learning_rate)
        self.network = KeypointNetwork(num_keypoints, width, num_halvings, sigma)
        # a step takes 0.85 of the time on CPUs; torch leaves it out of its types
        self.network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.reconstruction, self.prediction = reconstruction, prediction
        self.change_weight, self.change_threshold = change_weight, change_threshold
        self.predictor = LatentPrediction(self.network.dim, latent_dim, beta)

    @override
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute both terms on windows of frames."""
        places = self.network.locate(clip.frames.flatten(0, 1)).unflatten(0, clip.frames.shape[:2])  # (B, F, 2K)
        return {
            "reconstruction": self.reconstruction * self.reconstruction_error(clip.frames, places),
            "prediction": self.prediction * self.predictor(places, splitmix64(clip.position + torch.initial_seed())),
        }

    def reconstruction_error(self, frames: Tensor, places: Tensor) -> Tensor:
        """Compute the weighted squared error of frames drawn from their places, of colors from 0 to 1."""
        size = frames.shape[-1]
        return change_weighted_error(
            frames, places, lambda each: self.network.draw(each, size), self.change_weight, self.change_threshold
        )

    @override
    @torch.no_grad()
    def on_trained(self) -> None:
        """Measure mean and scale of places on training clips."""
        self.network.measure(self.training_frames(self.network.locate))
