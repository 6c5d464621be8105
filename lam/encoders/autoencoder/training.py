"""Training of the autoencoder, before a world model is trained on its states."""

from __future__ import annotations

from pathlib import Path

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from typing_extensions import override

from lam.data.clip import Clip
from lam.encoders.autoencoder.network import ConvAutoencoder, save_autoencoder, to_signal
from lam.optimizers import scheduled


class AutoencoderTraining(pl.LightningModule):
    """Trains an autoencoder on single frames; at the end its run directory holds encoder.safetensors and encoder.json.

    Args:
        dim: Width D of a token.
        width: Channels of the hidden layers.
        num_halvings: Layers that halve the resolution; a token covers 2 ** num_halvings pixels a side.
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    def __init__(self, dim: int = 32, width: int = 64, num_halvings: int = 3, learning_rate: float = 5e-3) -> None:
        super().__init__()
        self.network = ConvAutoencoder(dim, width, num_halvings)
        self.learning_rate = learning_rate

    @property
    def image_size(self) -> int:
        """Return height and width of the frames of the data set, in pixels.

        Raises:
            ValueError: They are not square, or do not divide into the network's features.
        """
        index = self.trainer.datamodule.index  # type: ignore[attr-defined]  # Lightning sets it in a connector
        pixels = self.network.pixels_per_feature
        if index.height != index.width or index.height % pixels:
            raise ValueError(
                f"{index.path} holds frames of {index.height} x {index.width} pixels, the autoencoder needs squares of a "
                f"multiple of {pixels}. Prepare the data with another --size or set model.num_halvings."
            )
        size: int = index.height
        return size

    @override
    def on_fit_start(self) -> None:
        _ = self.image_size  # raises before time is spent

    @override
    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Compute the mean squared error of all frames of a batch of clips."""
        error = self._error(clip)
        self.log("train/error", error, prog_bar=True)
        return error

    @override
    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        self.log("val/error", self._error(clip), batch_size=len(clip), sync_dist=True)

    def _error(self, clip: Clip) -> Tensor:
        """Compute the mean squared error of pixels from 0 to 1."""
        images = clip.frames.flatten(0, 1)
        error: Tensor = (self.network(images) - to_signal(images)).square().mean() / 4
        return error

    @override
    def on_fit_end(self) -> None:
        """Save the network."""
        folder = self.trainer.log_dir  # every process has to ask
        trying: bool = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if self.trainer.is_global_zero and not trying:
            save_autoencoder(self.network, self.image_size, Path(str(folder)))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = AdamW(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.95))
        return scheduled(optimizer, self.trainer, 0.1)
