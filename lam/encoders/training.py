"""Training of encoders on a setting's own unlabeled video, before world models are trained on their states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from typing_extensions import override

from lam.data.clip import Clip
from lam.encoders.saved import EncoderNetwork, save_encoder
from lam.optimizers import scheduled


class EncoderTraining(pl.LightningModule, ABC):
    """Trains the network of an encoder; at the end its run directory holds encoder.safetensors and encoder.json.

    A subclass sets ``network`` and implements ``losses``.

    Attributes:
        kind: Kind of encoder, as its files say.
        network: The network that is kept.

    Args:
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    kind: ClassVar[str]
    network: EncoderNetwork

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate

    @abstractmethod
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute the terms of the loss of a batch by name; their sum is trained."""

    def on_trained(self) -> None:
        """Take statistics of the trained network, in every process, before it is saved."""

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
                f"{index.path} holds frames of {index.height} x {index.width} pixels, the {self.kind} needs squares of a "
                f"multiple of {pixels}. Prepare the data with another --size or set model.num_halvings."
            )
        size: int = index.height
        return size

    @override
    def on_fit_start(self) -> None:
        _ = self.image_size  # raises before time is spent

    @override
    def training_step(self, clip: Clip, batch_idx: int) -> Tensor:
        """Compute the loss of a batch of clips."""
        losses = self.losses(clip)
        for name, value in losses.items():
            self.log(f"train/{name}", value, prog_bar=True)
        return sum(losses.values(), next(iter(losses.values())).new_zeros(()))

    @override
    def validation_step(self, clip: Clip, batch_idx: int) -> None:
        for name, value in self.losses(clip).items():
            self.log(f"val/{name}", value, batch_size=len(clip), sync_dist=True)

    @override
    def on_fit_end(self) -> None:
        """Save the network."""
        folder = self.trainer.log_dir  # every process has to ask
        trying: bool = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if trying:
            return
        self.on_trained()
        if self.trainer.is_global_zero:
            save_encoder(self.kind, self.network, self.image_size, Path(str(folder)))

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = AdamW(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.95))
        return scheduled(optimizer, self.trainer, 0.1)
