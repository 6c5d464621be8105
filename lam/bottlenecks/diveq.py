"""DiVeQ, the successor of NSVQ: the quantization error keeps its direction but for a little noise, arXiv 2509.26469."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput
from lam.bottlenecks.codebook import Quantizer, capacity_bits, straight_through
from lam.noise import normal_like


class DiVeQ(Quantizer):
    """Adds the quantization error in training as its length times a noisy unit direction; evaluates with the code.

    Length and latent carry gradients, the direction does not (Vali, Backstrom and Solin, ICLR 2026): codes move along the
    error, and the latent is told what changes across it. No straight-through estimate, no other loss. Codes start on the
    data and dead ones move to it as those of ``VQ``, where the authors copy codes in use. The variance is the paper's, of
    latents at variance 1; the authors' code takes the same number as a standard deviation.

    Args:
        dim: Width A of a latent token, and of a code.
        num_latents: Latent tokens L of a transition, one code each out of one codebook.
        num_codes: Codes K. Capacity knob: larger passes more.
        noise_variance: Variance of the noise that is added to the error before its direction is taken.
        reset_every: Longest time between resets of dead codes, in optimizer steps; the first come sooner.
    """

    knob = "num_codes"

    def __init__(
        self, dim: int, num_latents: int, num_codes: int = 16, noise_variance: float = 1e-3, reset_every: int = 300
    ) -> None:
        super().__init__(dim, num_latents, num_codes, reset_every, reset_until=None)
        if noise_variance < 0:
            raise ValueError(f"noise_variance is {noise_variance}, expected 0 or more; 1e-3 is the paper's value.")
        self.noise_variance = noise_variance

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        latent, codes, vectors = self.assign(z)
        quantized = straight_through(latent, vectors)
        if self.training:
            noise = math.sqrt(self.noise_variance) * normal_like(latent, noise_keys)
            quantized = add_directed_error(latent, vectors, noise)
        stats = {"distance": (vectors - latent).detach().square().mean(), **self.usage.stats()}
        bits = capacity_bits(codes, self.num_codes)
        return BottleneckOutput(quantized.to(z.dtype), latent.new_zeros(()), codes, bits, stats)


def add_directed_error(latent: Tensor, code: Tensor, noise: Tensor) -> Tensor:
    """Add an error of the length of (code - latent) in the fixed direction of (code - latent + noise), over the last axis.

    z_q = z + |c - z| sg(v / |v|) with v = c - z + noise: equations of DiVeQ.
    """
    error = code - latent
    length: Tensor = torch.linalg.vector_norm(error, dim=-1, keepdim=True)  # gradient 0 at length 0
    direction = torch.nn.functional.normalize((error + noise).detach(), dim=-1)
    return latent + length * direction
