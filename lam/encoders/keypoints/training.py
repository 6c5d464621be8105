"""Training of keypoints: what changes is reconstructed, and the next places are predicted under a small latent action."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from typing_extensions import override

from lam.bottlenecks.noisy import Noisy
from lam.data.clip import Clip
from lam.encoders.autoencoder.network import to_signal
from lam.encoders.keypoints.network import KeypointNetwork
from lam.encoders.training import EncoderTraining
from lam.noise import splitmix64

_HIDDEN = 256
_MEASURED_CLIPS = 1024


class KeypointTraining(EncoderTraining):
    """Trains keypoints on windows of unlabeled video.

    Two terms. The reconstruction draws every second frame from its places; a pixel that changes to the next frame weighs
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
        self.network.to(memory_format=torch.channels_last)  # a step takes 0.85 of the time on CPUs
        self.reconstruction, self.prediction = reconstruction, prediction
        self.change_weight, self.change_threshold = change_weight, change_threshold
        dim = self.network.dim
        self.inverse_model = _mlp(2 * dim, latent_dim)
        self.bottleneck = Noisy(latent_dim, 1, beta)
        self.forward_model = _mlp(dim + latent_dim, dim)

    @override
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute both terms on windows of frames."""
        places = self.network.locate(clip.frames.flatten(0, 1)).unflatten(0, clip.frames.shape[:2])  # (B, F, 2K)
        return {
            "reconstruction": self.reconstruction * self.reconstruction_error(clip.frames, places),
            "prediction": self.prediction * self.prediction_error(places, splitmix64(clip.position + torch.initial_seed())),
        }

    def reconstruction_error(self, frames: Tensor, places: Tensor) -> Tensor:
        """Compute the weighted squared error of every second frame drawn from its places, of colors from 0 to 1."""
        now, later = (to_signal(frames[:, start::2]) / 2 for start in (0, 1))
        now = now[:, : later.shape[1]]
        changes = (later - now).abs().amax(dim=2, keepdim=True) > self.change_threshold
        drawn = self.network.draw(places[:, ::2][:, : later.shape[1]].flatten(0, 1), frames.shape[-1]) / 2
        squares = (drawn - now.flatten(0, 1)).square() * (1 + self.change_weight * changes.flatten(0, 1))
        return squares.mean()

    def prediction_error(self, places: Tensor, noise_keys: Tensor) -> Tensor:
        """Compute the squared error of the next places, plus what the latent action costs."""
        before, after = places[:, :-1], places[:, 1:]
        latent = self.inverse_model(torch.cat((before, after - before), dim=-1))[:, :, None]
        output = self.bottleneck(latent, noise_keys=noise_keys)
        change = self.forward_model(torch.cat((before, output.z[:, :, 0]), dim=-1))
        error: Tensor = (before + change - after).square().mean() + output.loss
        return error

    @override
    @torch.no_grad()
    def on_trained(self) -> None:
        """Measure location and scale of places on training clips; all processes read the same."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in a connector
        clips = (clip.to(self.device) for clip in data.training_sample(_MEASURED_CLIPS))
        self.network.measure(torch.cat([self.network.locate(clip.frames.flatten(0, 1)) for clip in clips]))


def _mlp(num_inputs: int, num_outputs: int) -> nn.Sequential:
    """Build an MLP of three layers."""
    return nn.Sequential(
        nn.Linear(num_inputs, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, _HIDDEN), nn.GELU(), nn.Linear(_HIDDEN, num_outputs)
    )
