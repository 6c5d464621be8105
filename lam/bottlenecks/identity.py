"""The upper reference row: an unconstrained latent action."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput, draw_normal


class Identity(Bottleneck):
    """Passes latents on as they are, at no cost and with no knob; only their width limits them."""

    has_prior = False
    origin: Tensor

    def __init__(self, dim: int, num_latents: int) -> None:
        super().__init__(dim, num_latents)
        self.register_buffer("origin", torch.zeros(num_latents, dim), persistent=False)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        return BottleneckOutput(z, self.origin.new_zeros(()))

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # N(0, I), for want of a learned prior
        return draw_normal((n, self.num_latents, self.dim), self.origin.device, generator)
