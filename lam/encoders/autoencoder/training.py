"""Training of the autoencoder: single frames are reconstructed."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from lam.data.clip import Clip
from lam.encoders.autoencoder.network import ConvAutoencoder, to_signal
from lam.encoders.training import EncoderTraining


class AutoencoderTraining(EncoderTraining):
    """Trains an autoencoder on single frames.

    Args:
        dim: Width D of a token.
        width: Channels of the hidden layers.
        num_halvings: Layers that halve the resolution; a token covers 2 ** num_halvings pixels a side.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    kind = "autoencoder"

    def __init__(self, dim: int = 32, width: int = 64, num_halvings: int = 3, learning_rate: float = 5e-3) -> None:
        super().__init__(learning_rate)
        self.network = ConvAutoencoder(dim, width, num_halvings)

    @override
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute the mean squared error of all frames, of pixels from 0 to 1."""
        images = clip.frames.flatten(0, 1)
        return {"error": (self.network(images) - to_signal(images)).square().mean() / 4}
