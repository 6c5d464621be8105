"""Finite scalar quantization: each channel rounded to a few levels, arXiv 2309.15505, through vector-quantize-pytorch."""

from __future__ import annotations

import torch
from torch import Generator, Tensor, nn
from torch.optim import Optimizer
from typing_extensions import override

from lam.bottlenecks.base import SMALLEST_STD, BottleneckOutput, Standardize, StandardizedBottleneck, draw_choice
from lam.bottlenecks.codebook import CodeUsage, capacity_bits
from lam.distributed import gather_rows


class FSQ(StandardizedBottleneck):
    """Projects each latent token to a few channels, rounds each to evenly spaced levels, projects back. No loss, no codebook.

    The grid of levels cannot move, so the data are brought to it: after the first step the projections are those onto the
    leading principal directions of its latents and back, and each channel is standardized over the batch in training, by a
    running average in evaluation. With random projections and latents that a running average followed, half of the small
    runs on the world ``arm`` were ignored by the forward model (``experiments/LOG.md``).

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition, one code each.
        num_levels: Levels a channel, 2 or more. Capacity knob: larger passes more; a token has num_levels^num_channels codes.
            The paper takes mostly 5, and advises against fewer.
        num_channels: Channels a token, at most dim; the paper has 4 for its 1000 codes (8 * 5 * 5 * 5).
    """

    knob = "num_levels"

    def __init__(self, dim: int, num_latents: int, num_levels: int = 5, num_channels: int = 4) -> None:
        super().__init__(dim, num_latents)
        if num_levels < 2:
            raise ValueError(f"num_levels is {num_levels}, rounding needs 2 or more; for no latent use the none bottleneck.")
        if not 1 <= num_channels <= dim or num_levels**num_channels > 2**24:
            raise ValueError(
                f"num_channels is {num_channels}, expected 1 to {dim}, the width of a latent, and with num_levels "
                f"{num_levels} at most 2^24 codes; change one of them."
            )
        from vector_quantize_pytorch import FSQ as LibraryFSQ  # here, since importing it costs 3 s

        self.num_levels = num_levels
        self.num_codes = num_levels**num_channels
        self.to_channels = nn.Linear(dim, num_channels, bias=False)  # each channel is centered
        self.standardize_channels = Standardize(num_channels, num_latents, follow=True)
        # the paper's rounding is lopsided at 2 levels and the library refuses it, so there it is the symmetric one
        symmetric = num_levels == 2
        self.quantizer = LibraryFSQ(levels=[num_levels] * num_channels, preserve_symmetry=symmetric)
        self.from_channels = nn.Linear(num_channels, dim)
        self.usage = CodeUsage(self.num_codes, max_period=300)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        with torch.autocast(z.device.type, enabled=False):  # the library shuts off autocast on CUDA only
            channels = self.standardize_channels(self.to_channels(self.standardize(z)))
            levels, codes = self.quantizer(channels.flatten(0, 1))
            quantized = self.from_channels(levels)
        codes = codes.long().unflatten(0, z.shape[:2])
        self.keep(z, codes)
        quantized = quantized.unflatten(0, z.shape[:2]).to(z.dtype)
        loss = quantized.new_zeros((), dtype=torch.float32)
        return BottleneckOutput(quantized, loss, codes, capacity_bits(codes, self.num_codes), self.usage.stats())

    @override
    @torch.no_grad()
    def update_codes(self, z: Tensor, codes: Tensor, optimizer: Optimizer) -> None:
        self.usage.count(codes.unsqueeze(-1))
        latent: Tensor = self.standardize(z)  # (m, L, A)
        if self.usage.steps == 1:
            self._place(latent, optimizer)
        self.standardize_channels.update(self.to_channels(latent))

    def _place(self, latent: Tensor, optimizer: Optimizer) -> None:
        """Set the projections to the leading principal directions of latents (m, L, A) of all processes."""
        rows = gather_rows(latent).flatten(0, 1).cpu().double()
        values, vectors = torch.linalg.eigh(rows.T @ rows / len(rows))
        leading = vectors[:, -self.to_channels.out_features :]
        size = values[-self.to_channels.out_features :].clamp_min(0).sqrt().clamp_min(SMALLEST_STD)
        self.to_channels.weight.copy_((leading / size).T)
        self.from_channels.weight.copy_(leading * size)
        self.from_channels.bias.zero_()
        for parameter in (*self.to_channels.parameters(), *self.from_channels.parameters()):
            for moment in optimizer.state.get(parameter, {}).values():
                if isinstance(moment, Tensor) and moment.shape == parameter.shape:
                    moment.zero_()

    @override
    @torch.no_grad()
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # evenly from the codes in use lately
        return self.decode_codes(draw_choice(self.usage.used(), (n, self.num_latents), generator))

    @override
    def used_codes(self) -> list[Tensor]:
        return [self.usage.used()] * self.num_latents

    @override
    @torch.no_grad()
    def decode_codes(self, codes: Tensor) -> Tensor:
        latents: Tensor = self.from_channels(self.quantizer.indices_to_codes(codes))
        return latents
