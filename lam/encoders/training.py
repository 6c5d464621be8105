"""Training of encoders on a setting's own unlabeled video, before world models are trained on their states."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from pathlib import Path
from typing import ClassVar

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.types import OptimizerLRScheduler
from torch import Tensor
from torch.optim import AdamW
from typing_extensions import override

from lam.data.clip import Clip
from lam.encoders.saved import EncoderNetwork, save_encoder
from lam.encoders.state_probes import describe_probes, label_states, probe_states, recorded_factors
from lam.optimizers import scheduled

_FIT_CLIPS, _TEST_CLIPS = 512, 256
"""Windows that probes of states are fitted and scored on, at most."""
_MEASURED_CLIPS = 1024
"""Training windows on which states are put on unit scale, at most."""


class EncoderTraining(pl.LightningModule, ABC):
    """Trains the network of an encoder; at the end its run directory holds encoder.safetensors and encoder.json.

    A subclass sets ``network`` and implements ``losses``.

    Attributes:
        kind: Kind of encoder, as its files say.
        network: The network that is kept.
        uses_labels: Whether recorded actions train it; its files and whoever loads them say so.
        measured: Numbers of its states by key, since the last validation or the end of training: ``probe/<factor>``, R².
        findings: The same in words, a line each.

    Args:
        learning_rate: Highest learning rate of AdamW, reached after a tenth of the steps; then it falls along a cosine.
    """

    kind: ClassVar[str]
    network: EncoderNetwork

    def __init__(self, learning_rate: float) -> None:
        super().__init__()
        self.learning_rate = learning_rate
        self.uses_labels = False
        self.measured: dict[str, float] = {}
        self.findings: list[str] = []
        self._measured_at: int | None = None

    @abstractmethod
    def losses(self, clip: Clip) -> dict[str, Tensor]:
        """Compute the terms of the loss of a batch by name; their sum is trained."""

    def on_trained(self) -> None:
        """Take statistics of the trained network, in every process, before it is saved."""

    def describe_states(self, states: Tensor) -> tuple[dict[str, float], list[str]]:
        """Measure states (n, S) of validation clips beside their probes: numbers by key, and what is to be said of them."""
        return {}, []

    def measure(self) -> None:
        """Probe states for the recorded factors of the state before a step, once for each step of training.

        Every process reads the same clips and finds the same.
        """
        if self._measured_at == self.global_step:
            return
        self._measured_at = self.global_step
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in a connector
        names = recorded_factors(data.index.factors)
        test = label_states(data.validation_sample(_TEST_CLIPS), self._encode, names)
        self.measured, self.findings = self.describe_states(test.states)
        scores: dict[str, float] = {}
        if names:
            scores = probe_states(label_states(data.training_sample(_FIT_CLIPS, labels=True), self._encode, names), test)
        self.measured |= {f"probe/{name}": score for name, score in scores.items()}
        self.findings += describe_probes(scores)

    @torch.no_grad()
    def training_frames(self, encode: Callable[[Tensor], Tensor]) -> Tensor:
        """Encode images (n, 3, H, W) of training clips, all frames of all; all processes read the same."""
        data = self.trainer.datamodule  # type: ignore[attr-defined]  # Lightning sets it in a connector
        clips = (clip.to(self.device) for clip in data.training_sample(_MEASURED_CLIPS))
        return torch.cat([encode(clip.frames.flatten(0, 1)) for clip in clips])

    def _encode(self, images: Tensor) -> Tensor:
        return self.network.encode(images.to(self.device))

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
    def on_validation_epoch_end(self) -> None:
        """Log what states hold."""
        if not self.trainer.sanity_checking:
            self.measure()
            for name, value in self.measured.items():
                # equal on all processes, so their mean changes nothing; without it Lightning warns
                self.log(name, value, sync_dist=True)

    @override
    def on_fit_end(self) -> None:
        """Measure and save the network."""
        folder = self.trainer.log_dir  # every process has to ask
        trying: bool = self.trainer.fast_dev_run  # type: ignore[attr-defined]  # Lightning sets it in a connector
        if trying:
            return
        self.measure()
        self.on_trained()
        if self.trainer.is_global_zero:
            save_encoder(self.kind, self.network, self.image_size, Path(str(folder)), self.uses_labels)

    @override
    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build AdamW under a linear warm-up and a cosine to zero, stepped each batch."""
        optimizer = AdamW(self.parameters(), lr=self.learning_rate, betas=(0.9, 0.95))
        return scheduled(optimizer, self.trainer, 0.1)
