"""Residual vector quantization: each quantizer codes the residual of those before it (SoundStream, arXiv 2107.03312)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput, StandardizedBottleneck, draw_choice
from lam.bottlenecks.codebook import (
    CODEBOOK_LR_SCALE,
    CodeUsage,
    capacity_bits,
    check_codebook,
    learning_rate_is_active,
    nearest,
    reset_dead_codes,
    straight_through,
    vq_loss,
)


class RVQ(StandardizedBottleneck):
    """Replaces each latent token by a sum of codes, one from each of several codebooks.

    Codes are found by vector-quantize-pytorch's ResidualVQ. Its moving averages, k-means start, dead-code rule and loss stay
    off: they act on each process alone when it is built before the process group, and its loss is 0 in eval mode. Codebooks
    learn by gradient from the loss of ``VQ``, summed over quantizers, and are kept in use in the same way.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition; C = L * num_quantizers codes.
        num_quantizers: Quantizers in a row. Capacity knob: larger passes more. Four of 16 codes have the 16 bits of
            UniVLA's four tokens of 16 codes; SoundStream has 8 of 1024 for audio.
        num_codes: Codes K of each quantizer.
        commitment: Weight of the commitment term.
        reset_every: Longest time between resets of dead codes, in optimizer steps; the first come sooner.
    """

    knob = "num_quantizers"

    def __init__(
        self,
        dim: int,
        num_latents: int,
        num_quantizers: int = 4,
        num_codes: int = 16,
        commitment: float = 0.25,
        reset_every: int = 300,
    ) -> None:
        super().__init__(dim, num_latents)
        check_codebook(num_codes, reset_every)
        if num_quantizers < 1:
            raise ValueError(f"num_quantizers is {num_quantizers}, expected 1 or more; for no latent use the none bottleneck.")
        from vector_quantize_pytorch import ResidualVQ  # here, since importing it costs 3 s

        self.num_quantizers = num_quantizers
        self.num_codes = num_codes
        self.commitment = commitment
        self.quantizer = ResidualVQ(
            dim=dim,
            num_quantizers=num_quantizers,
            codebook_size=num_codes,
            learnable_codebook=True,
            ema_update=False,
            rotation_trick=False,
            sync_codebook=False,
        )
        self.usage = CodeUsage(num_codes, reset_every, num_codebooks=num_quantizers)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        latent: Tensor = self.standardize(z)
        tokens = latent.flatten(0, 1)  # (B * (T-1), L, A)
        codes = self._find_codes(tokens)  # (B * (T-1), L, num_quantizers)
        parts = [
            CODEBOOK_LR_SCALE * codebook[0][numbers]
            for codebook, numbers in zip(self.quantizer.parameters(), codes.unbind(-1), strict=True)
        ]
        loss = latent.new_zeros(())
        residual = tokens
        for part in parts:
            loss = loss + vq_loss(residual, part, self.commitment)
            residual = residual - part.detach()
        codes = codes.flatten(1).unflatten(0, z.shape[:2])  # (B, T-1, L * num_quantizers)
        self.keep(z, codes)
        stats = {"distance": residual.detach().square().mean(), **self.usage.stats()}
        quantized = straight_through(latent, torch.stack(parts).sum(dim=0).unflatten(0, z.shape[:2])).to(z.dtype)
        return BottleneckOutput(quantized, loss, codes, capacity_bits(codes, self.num_codes), stats)

    @override
    def update_codes(self, z: Tensor, codes: Tensor, optimizer: Optimizer) -> None:
        period_ended = self.usage.count(codes.unflatten(-1, (self.num_latents, self.num_quantizers)))
        active = learning_rate_is_active(next(self.quantizer.parameters()), optimizer)
        if not (period_ended and active):
            return
        residual: Tensor = self.standardize(z).flatten(0, 1)  # (n * L, A)
        # quantizer after quantizer, since each must fit the residual that the moved codes leave over
        for codebook, dead in zip(self.quantizer.parameters(), self.usage.dead, strict=True):
            reset_dead_codes(codebook, dead, residual, self.usage.steps, optimizer)
            vectors = CODEBOOK_LR_SCALE * codebook.detach()[0]
            residual = residual - vectors[nearest(residual, vectors)]

    @override
    @torch.no_grad()
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # evenly from the codes in use lately, each quantizer for itself
        shape = (n, self.num_latents)
        codes = [draw_choice(self.usage.used(number), shape, generator) for number in range(self.num_quantizers)]
        return self.decode_codes(torch.stack(codes, dim=-1).flatten(1))

    @override
    def used_codes(self) -> list[Tensor]:
        return [self.usage.used(number) for number in range(self.num_quantizers)] * self.num_latents

    @override
    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        numbers = codes.unflatten(1, (self.num_latents, self.num_quantizers))
        latents: Tensor = CODEBOOK_LR_SCALE * self.quantizer.get_output_from_indices(numbers)
        return latents

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # torch leaves it so; the library builds its indexing as text, which cannot be traced
    @torch.no_grad()
    def _find_codes(self, tokens: Tensor) -> Tensor:
        """Find the codes (..., L, num_quantizers) of tokens (..., L, A)."""
        with torch.autocast(tokens.device.type, enabled=False):  # the library shuts off autocast on CUDA only
            codes: Tensor = self.quantizer(tokens / CODEBOOK_LR_SCALE)[1]
        return codes
