"""The toy model inside a Lightning validation pass, with continuous, discrete or no latents, and captions read back."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lam.bottlenecks.base import BottleneckOutput
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

    def validation_step(self, clip, batch_idx=0):
        observation = super().validation_step(clip)
        self.clip_buffer.add(observation, clip.labels(1))
        return observation


def batches(count=40, frames=3, sources=None):
    """Batches of random clips with a factor."""
    factors = {"dx": torch.randn(count, frames - 1, 2, generator=torch.Generator().manual_seed(0))}
    clip = clips(count, frames, factors=factors)
    clip.source = sources or clip.source
    parts = [part(clip, start, min(start + 16, count)) for start in range(0, count, 16)]
    return torch.utils.data.DataLoader(parts, batch_size=None)


def validate(folder, *callbacks, model=None, data=None, logger=True, precision="32-true", method="validate"):
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


def images(trainer):
    """What TensorBoard shows, by tag."""
    trainer.logger.experiment.flush()
    events = EventAccumulator(trainer.logger.log_dir)
    events.Reload()
    return {tag: events.Images(tag) for tag in events.Tags()["images"]}


def read_captions(monkeypatch, module):
    """A list that will hold all captions that a board's file draws."""
    found, draw = [], module.caption

    def caption(text, *args, **options):
        found.append(text)
        return draw(text, *args, **options)

    monkeypatch.setattr(module, "caption", caption)
    return found
