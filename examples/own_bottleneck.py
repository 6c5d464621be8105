"""Plug in a bottleneck of your own, train a small model with it in Python, and look at the latents.

    python examples/own_bottleneck.py --shards shards/demo --steps 100

The same class works with every experiment: PYTHONPATH=examples lam fit ... --model.bottleneck own_bottleneck.Signs
"""

import argparse

import lightning.pytorch as pl
from torch import Generator, Tensor, nn, randn

from lam import Bottleneck, BottleneckOutput, ClipDataModule, LatentActionModel, TrainedModel
from lam.encoders import Patches
from lam.models.forward import AdaLN
from lam.models.inverse import ChannelPair
from lam.optimizers import MuonAdamW


class Signs(Bottleneck):
    """One bit an entry: keeps the sign of each number and nothing else; gradients pass straight through its tanh."""

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Replace each number of z (B, T-1, L, A) by -1 or 1."""
        soft, hard = z.tanh(), z.sign()
        bits = z.new_full(z.shape[:2], self.num_latents * self.dim)
        return BottleneckOutput(hard.detach() + (soft - soft.detach()), loss=z.new_zeros(()), rate_bits=bits)

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draw n latents (n, L, A), each sign as likely as the other."""
        device = None if generator is None else generator.device
        return randn(n, self.num_latents, self.dim, generator=generator, device=device).sign()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shards", default="shards/demo")
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    pl.seed_everything(0, verbose=False)
    data = ClipDataModule(options.shards, frames=3, batch_size=16, num_workers=0)
    model = LatentActionModel(
        encoder=Patches(image_size=data.index.height, patch=8),
        inverse_model=ChannelPair,
        bottleneck=Signs,
        forward_model=AdaLN,
        optimizer=MuonAdamW,
        distance=nn.MSELoss(reduction="none"),
        latent_dim=8,
    )
    trainer = pl.Trainer(
        accelerator="cpu", max_steps=options.steps, limit_val_batches=0, logger=False, enable_checkpointing=False
    )
    trainer.fit(model, data)
    print(f"Prediction error after {options.steps} steps: {trainer.callback_metrics['train/prediction']:.3f}")

    clip = next(data.training_sample(1)).frames[0].permute(0, 2, 3, 1)
    print(TrainedModel(model, data.frames).label(clip).z)
