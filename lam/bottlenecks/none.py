"""The lower reference row: no latent action at all, a deterministic world model."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput


class NoLatent(Bottleneck):
    """Replaces latents by 0, at no cost and with no knob."""

    origin: Tensor

    def __init__(self, dim: int, num_latents: int) -> None:
        super().__init__(dim, num_latents)
        self.register_buffer("origin", torch.zeros(num_latents, dim), persistent=False)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        # a product, so that parameters before it have a gradient of 0 rather than none, as DDP demands
        return BottleneckOutput(0 * z, self.origin.new_zeros(()), rate_bits=self.origin.new_zeros(z.shape[:2]))

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        return self.origin.repeat(n, 1, 1)
