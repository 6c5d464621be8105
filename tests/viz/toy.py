"""The toy model inside a Lightning validation pass, with continuous, discrete or no latents, and captions read back."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType
from typing import Literal

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator, ImageEvent
from torch import Tensor
from torch.utils.data import DataLoader

from lam.bottlenecks.base import BottleneckOutput
from lam.data.clip import Clip
from lam.models.base import Observation
from tests.evals.toy import ToyBottleneck, ToyModel, clips, part


class Signs(ToyBottleneck):
    """Three codes of one bit: the sign of each entry; z is plus or minus a tenth."""

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        codes = (z[:, :, 0] > 0).long()
        return BottleneckOutput(0.2 * codes[:, :, None] - 0.1, z.new_zeros(()), codes, z.new_full(z.shape[:2], 3.0))


class Mute(ToyBottleneck):
    """Lets nothing through."""

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        return BottleneckOutput(torch.zeros_like(z), z.new_zeros(()))


class Model(ToyModel):
    """Fills the clip buffer, as models do."""

    def __init__(self, bottleneck: ToyBottleneck | None = None):
        super().__init__()
        self.bottleneck = bottleneck or ToyBottleneck(3, 1)

    def validation_step(self, clip: Clip, batch_idx: int = 0) -> Observation:  # type: ignore[override]  # narrower than Lightning's
        observation = super().validation_step(clip)
        self.clip_buffer.add(clip, observation.states, observation.bottleneck_output.z, observation.z_drawn, clip.labels(1))
        return observation


def batches(count: int = 40, frames: int = 3, sources: list[str] | None = None) -> DataLoader[Clip]:
    """Batches of random clips with a factor."""
    factors = {"dx": torch.randn(count, frames - 1, 2, generator=torch.Generator().manual_seed(0))}
    clip = clips(count, frames, factors=factors)
    clip.source = sources or clip.source
    parts = [part(clip, start, min(start + 16, count)) for start in range(0, count, 16)]
    return DataLoader(parts, batch_size=None)  # type: ignore[arg-type]  # any sequence will do


def validate(
    folder: Path,
    *callbacks: pl.Callback,
    model: Model | None = None,
    data: DataLoader[Clip] | None = None,
    logger: bool = True,
    precision: Literal["32-true", "bf16-mixed"] = "32-true",
    method: str = "validate",
) -> pl.Trainer:
    """A pass; returns its trainer."""
    trainer = pl.Trainer(
        accelerator="cpu",
        devices=1,
        precision=precision,
        logger=TensorBoardLogger(folder, name="", version="") if logger else False,
        callbacks=list(callbacks),
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=folder,
    )
    getattr(trainer, method)(model or Model(), data or batches(), verbose=False)
    return trainer


def images(trainer: pl.Trainer) -> dict[str, list[ImageEvent]]:
    """Images that TensorBoard shows, by tag."""
    logger = trainer.logger
    assert isinstance(logger, TensorBoardLogger)
    logger.experiment.flush()
    events = EventAccumulator(logger.log_dir)
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def read_captions(monkeypatch: pytest.MonkeyPatch, module: ModuleType) -> list[str]:
    """A list that will hold all captions that the module of a visualization draws."""
    found: list[str] = []
    draw = module.caption

    def caption(text: str, width: int, bold: bool = False) -> np.ndarray:
        found.append(text)
        image: np.ndarray = draw(text, width, bold=bold)
        return image

    monkeypatch.setattr(module, "caption", caption)
    return found
