"""Residual vector quantization: each quantizer codes what the ones before left over (SoundStream, arXiv 2107.03312)."""

from __future__ import annotations

import torch
from torch import Generator, Tensor
from torch.optim import Optimizer

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.bottlenecks.codebook import (
    CODEBOOK_LR_SCALE,
    Usage,
    capacity,
    check_codebook,
    learning_rate_is_active,
    nearest,
    reset_dead_codes,
    straight_through,
    vq_loss,
)
from lam.bottlenecks.prior import draw_from
from lam.bottlenecks.standardize import Standardize


class RVQ(Bottleneck):
    """Replaces each latent token by a sum of codes, one from each of several codebooks.

    Codes are found by vector-quantize-pytorch's ResidualVQ. Its moving averages, k-means start, dead-code rule and loss stay
    off: they act on each process alone when it is built before the process group, and its loss is 0 in eval mode. Codebooks
    learn by gradient from the loss of ``VQ``, summed over quantizers, and are kept in use in the same way.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition; C = L * num_quantizers codes.
        num_quantizers: Quantizers in a row. The capacity knob: larger says more. Four of 16 codes have the 16 bits of
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
        self.standardize = Standardize(dim, num_latents)
        self.quantizer = ResidualVQ(
            dim=dim,
            num_quantizers=num_quantizers,
            codebook_size=num_codes,
            learnable_codebook=True,
            ema_update=False,
            rotation_trick=False,
            sync_codebook=False,
        )
        self.usage = Usage(num_codes, reset_every, num_books=num_quantizers)
        self._seen: tuple[Tensor, Tensor] | None = None

    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Limits z to sums of codes."""
        latent = self.standardize(z)
        tokens = latent.flatten(0, 1)  # (B * (T-1), L, A)
        codes = self._search(tokens)  # (B * (T-1), L, num_quantizers)
        parts = [
            CODEBOOK_LR_SCALE * codebook[0][own]
            for codebook, own in zip(self.quantizer.parameters(), codes.unbind(-1), strict=True)
        ]
        loss = latent.new_zeros(())
        left = tokens
        for part in parts:
            loss = loss + vq_loss(left, part, self.commitment)
            left = left - part.detach()
        codes = codes.flatten(1).unflatten(0, z.shape[:2])  # (B, T-1, L * num_quantizers)
        if self.training:
            self._seen = (z.detach(), codes)
        stats = {"distance": left.detach().square().mean(), **self.usage.stats()}
        limited = straight_through(latent, torch.stack(parts).sum(dim=0).unflatten(0, z.shape[:2])).to(z.dtype)
        return BottleneckOutput(limited, loss, codes, capacity(codes, self.num_codes), stats)

    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        """Counts codes and moves dead ones, quantizer after quantizer, since each must fit what the moved ones leave over."""
        if self._seen is None:
            return
        z, codes = self._seen
        self._seen = None
        self.standardize.measure(z)
        left = self.standardize(z).flatten(0, 2)  # (B * (T-1) * L, A)
        ended = self.usage.count(codes.unflatten(-1, (self.num_latents, self.num_quantizers)))
        if ended and learning_rate_is_active(next(self.quantizer.parameters()), optimizer):
            for codebook, dead in zip(self.quantizer.parameters(), self.usage.dead, strict=True):
                reset_dead_codes(codebook, dead, left, self.usage.steps, optimizer)
                codes = CODEBOOK_LR_SCALE * codebook.detach()[0]
                left = left - codes[nearest(left, codes)]

    @torch.no_grad()
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Codes drawn evenly from those in use lately, each quantizer for itself."""
        shape = (n, self.num_latents)
        codes = [draw_from(self.usage.used(book), shape, generator) for book in range(self.num_quantizers)]
        return CODEBOOK_LR_SCALE * self.quantizer.get_output_from_indices(torch.stack(codes, dim=-1))

    @torch.compiler.disable  # the library builds its indexing as text, which cannot be traced
    @torch.no_grad()
    def _search(self, tokens: Tensor) -> Tensor:
        """Codes (..., L, num_quantizers) of tokens (..., L, A)."""
        with torch.autocast(tokens.device.type, enabled=False):  # the library shuts off autocast on CUDA only
            return self.quantizer(tokens / CODEBOOK_LR_SCALE)[1]
