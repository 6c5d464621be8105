"""The upper anchor: an unconstrained latent action."""

from __future__ import annotations

import torch
from torch import Generator, Tensor

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.bottlenecks.prior import draw_normal


class Identity(Bottleneck):
    """Says everything: z as it comes, at no cost and with no knob. Only its width limits it."""

    origin: Tensor

    def __init__(self, dim: int, num_latents: int) -> None:
        super().__init__(dim, num_latents)
        self.register_buffer("origin", torch.zeros(num_latents, dim), persistent=False)

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Passes z on."""
        return BottleneckOutput(z, self.origin.new_zeros(()))

    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """N(0, I), for want of a belief."""
        return draw_normal((n, self.num_latents, self.dim), self.origin.device, generator)
