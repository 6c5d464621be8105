"""Finite scalar quantization: each channel rounded to a few levels, arXiv 2309.15505, through vector-quantize-pytorch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput, StandardizedBottleneck, draw_choice
from lam.bottlenecks.codebook import CodeUsage, capacity_bits


class FSQ(StandardizedBottleneck):
    """Projects each latent token to a few channels, rounds each to evenly spaced levels, projects back. No loss, no codebook.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition, one code each.
        num_levels: Levels a channel, 2 or more. Capacity knob: larger passes more; a token has num_levels^num_channels codes.
            The paper takes mostly 5, and advises against fewer.
        num_channels: Channels a token; the paper has 4 for its 1000 codes (8 * 5 * 5 * 5).
    """

    knob = "num_levels"

    def __init__(self, dim: int, num_latents: int, num_levels: int = 5, num_channels: int = 4) -> None:
        super().__init__(dim, num_latents, follow=True)
        if num_levels < 2:
            raise ValueError(f"num_levels is {num_levels}, rounding needs 2 or more; for no latent use the none bottleneck.")
        if num_channels < 1 or num_levels**num_channels > 2**24:
            raise ValueError(
                f"num_levels {num_levels} to the power num_channels {num_channels} must give 2 to 2^24 codes; "
                "change one of them."
            )
        from vector_quantize_pytorch import FSQ as LibraryFSQ  # here, since importing it costs 3 s

        self.num_levels = num_levels
        self.num_codes = num_levels**num_channels
        # the paper's rounding is lopsided at 2 levels and the library refuses it, so there it is the symmetric one
        symmetric = num_levels == 2
        self.quantizer = LibraryFSQ(levels=[num_levels] * num_channels, dim=dim, preserve_symmetry=symmetric)
        self.usage = CodeUsage(self.num_codes, max_period=300)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        tokens = self.standardize(z).flatten(0, 1)  # (B * (T-1), L, A)
        with torch.autocast(z.device.type, enabled=False):  # the library shuts off autocast on CUDA only
            quantized, codes = self.quantizer(tokens)
        codes = codes.long().unflatten(0, z.shape[:2])
        self.keep(z, codes)
        quantized = quantized.unflatten(0, z.shape[:2]).to(z.dtype)
        loss = tokens.new_zeros(())
        return BottleneckOutput(quantized, loss, codes, capacity_bits(codes, self.num_codes), self.usage.stats())

    @override
    def update_codes(self, z: Tensor, codes: Tensor, optimizer: Optimizer) -> None:
        self.usage.count(codes.unsqueeze(-1))

    @override
    @torch.no_grad()
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # evenly from the codes in use lately
        drawn: Tensor = self.quantizer.indices_to_codes(draw_choice(self.usage.used(), (n, self.num_latents), generator))
        return drawn
