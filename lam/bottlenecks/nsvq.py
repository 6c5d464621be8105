"""Noise substitution in vector quantization (NSVQ, Vali and Backstrom, IEEE Access 2022), the bottleneck of LAPA."""

from __future__ import annotations

import torch
from torch import Tensor
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput
from lam.bottlenecks.codebook import Quantizer, capacity_bits, straight_through
from lam.noise import normal_like


class NSVQ(Quantizer):
    """Trains with noise as long as the quantization error in place of the code; evaluates with the code.

    Noise carries gradients to latent and code without a straight-through estimate, so there is no other loss. Differs from
    LAPA's code (arXiv 2410.11758) where that fails: codes start and restart on latents, at their scale and with jitter,
    instead of far away or as copies of each other; every assignment counts; the norm has a gradient of 0, not NaN, where
    a latent hits its code; all processes move the same codes; evaluation is without noise.

    One weakness is the method's own: of noise in a random direction only 1 / A of the power lies along any one direction, so
    a wide latent stays readable in training, and at evaluation the codes carry less than the forward model was trained on.
    On four tokens of 8 codes that describe 8 Gaussian numbers the error is 0.03 in training and 0.33 to 0.39 with codes, with
    8 to 24 % of the tuples in use, at A = 32, against 0.05 and 0.21 with 59 % at A = 8. ``DiVeQ`` has no such gap.

    Args:
        dim: Width A of a latent token; LAPA's is 32.
        num_latents: Latent tokens L of a transition, one code each out of one codebook; LAPA has 4.
        num_codes: Codes K. Capacity knob: larger passes more. LAPA's value is 8.
        reset_every: Longest time between resets of dead codes, in optimizer steps, LAPA's 500; the first come sooner.
        reset_until: Last step that resets, LAPA's 4500.
    """

    knob = "num_codes"

    def __init__(self, dim: int, num_latents: int, num_codes: int = 8, reset_every: int = 500, reset_until: int = 4500) -> None:
        super().__init__(dim, num_latents, num_codes, reset_every, reset_until)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        latent, codes, vectors = self.assign(z)
        quantized = straight_through(latent, vectors)
        if self.training:
            quantized = substitute_noise(latent, vectors, normal_like(latent, noise_keys))
        stats = {"distance": (vectors - latent).detach().square().mean(), **self.usage.stats()}
        bits = capacity_bits(codes, self.num_codes)
        return BottleneckOutput(quantized.to(z.dtype), latent.new_zeros(()), codes, bits, stats)


def substitute_noise(latent: Tensor, code: Tensor, noise: Tensor) -> Tensor:
    """Add an error of the length of (code - latent) in the direction of noise to a latent, over the last axis."""
    length: Tensor = torch.linalg.vector_norm(code - latent, dim=-1, keepdim=True)  # gradient 0 at length 0
    noise_length: Tensor = torch.linalg.vector_norm(noise, dim=-1, keepdim=True)
    return latent + length * noise / noise_length
