"""Plug in an encoder of your own and train a small model on the states that it makes.

    python examples/own_encoder.py --shards shards/demo --steps 100

The same class works with every experiment: PYTHONPATH=examples lam fit ... --model.encoder own_encoder.ColorGrid
"""

import argparse

import lightning.pytorch as pl
import torch.nn.functional as F
from torch import Tensor, nn

from lam import ClipDataModule, Encoder, LatentActionModel
from lam.bottlenecks import Noisy
from lam.models.forward import AdaLN
from lam.models.inverse import ChannelPair
from lam.optimizers import MuonAdamW


class ColorGrid(Encoder):
    """Sees the mean color of each block of pixels: a token of three numbers a block."""

    def __init__(self, image_size: int = 64, block: int = 4) -> None:
        super().__init__()
        self.image_size, self.block = image_size, block
        self.grid, self.dim = (image_size // block, image_size // block), 3

    def forward(self, frames: Tensor) -> Tensor:
        """Encode frames (B, F, 3, H, W) uint8 into states (B, T, N, D) with F = T."""
        colors: Tensor = F.avg_pool2d(frames.flatten(0, 1) / 127.5 - 1, self.block)
        return colors.flatten(2).transpose(1, 2).unflatten(0, frames.shape[:2])

    def to_image(self, states: Tensor) -> Tensor:
        """Show states (B, T, N, D) as pictures (B, T, 3, H, W) in [0, 1]."""
        pictures = states.transpose(-1, -2).unflatten(-1, self.grid) / 2 + 0.5
        return pictures.repeat_interleave(self.block, -1).repeat_interleave(self.block, -2).clamp(0, 1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="shards/demo")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    data = ClipDataModule(options.shards, frames=3, batch_size=16, num_workers=0)
    model = LatentActionModel(
        encoder=ColorGrid(image_size=data.index.height),
        inverse_model=ChannelPair,
        bottleneck=Noisy,
        forward_model=AdaLN,
        optimizer=MuonAdamW,
        distance=nn.MSELoss(reduction="none"),
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=options.steps, limit_val_batches=0, logger=False, enable_checkpointing=False
    )
    trainer.fit(model, data)
    print(f"Prediction error after {options.steps} steps: {trainer.callback_metrics['train/prediction']:.3f}")
