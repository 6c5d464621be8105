"""Nested latent actions: one bottleneck for every rate, by dropping the last parts of a latent in training.

Nested dropout: Rippel et al., arXiv 1402.0915. FlexLAM (arXiv 2606.19408, no code) says that a latent action model trained
so equals models that were trained at each rate. Lengths are drawn here with a chance in proportion to 1 / length, as many
from 1 to 2 as from 8 to 16; what FlexLAM draws is not known, Rippel et al. draw from a geometric distribution.
"""

from __future__ import annotations

import math

import torch
from torch import Generator, Tensor
from typing_extensions import override

from lam.bottlenecks.base import Bottleneck, BottleneckOutput, draw_normal
from lam.bottlenecks.codebook import CODEBOOK_LR_SCALE
from lam.bottlenecks.rvq import RVQ
from lam.noise import keyed_uniform


class Nested(Bottleneck):
    """Passes the first numbers of a latent, in training of each clip a random number of them; the others are 0.

    The first number is used by all clips, the last by few, so they are ordered by what they explain; for a linear model under
    squared error they are the principal components (Rippel et al., theorem 1). Nothing but the length limits what passes.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        num_floats: Numbers that pass in evaluation and at most in training. Capacity knob: larger passes more, up to L A.
    """

    knob = "num_floats"
    has_prior = False
    order: Tensor

    def __init__(self, dim: int, num_latents: int, num_floats: int = 16) -> None:
        super().__init__(dim, num_latents)
        if not 1 <= num_floats <= num_latents * dim:
            raise ValueError(
                f"num_floats is {num_floats}, expected 1 to {num_latents * dim}, the numbers of a latent. For more raise "
                "model.latent_dim; for no latent at all use the none bottleneck."
            )
        self.num_floats = num_floats
        self.register_buffer("order", torch.arange(num_latents * dim).view(num_latents, dim), persistent=False)

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        if self.training:
            kept = draw_lengths(z, self.num_floats, noise_keys)[:, None, None, None]
            return self._cut(z, self.order < kept)
        return self._cut(z, self.order < self.num_floats)

    @override
    def truncations(self, z: Tensor) -> dict[int, BottleneckOutput]:
        return {length: self._cut(z, self.order < length) for length in octave_lengths(self.num_floats)}

    @override
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        # N(0, I) of the numbers that pass, for want of a learned prior
        drawn = draw_normal((n, self.num_latents, self.dim), self.order.device, generator)
        return drawn * (self.order < self.num_floats)

    def _cut(self, z: Tensor, passes: Tensor) -> BottleneckOutput:
        """Set the numbers of latents (B, T-1, L, A) that do not pass to 0."""
        return BottleneckOutput(z * passes, z.new_zeros((), dtype=torch.float32))


class NestedRVQ(RVQ):
    """Replaces each latent token by a sum of codes, in training of each clip by the first few of them.

    Codebooks learn from all clips, since what is left over for a quantizer does not depend on those after it; only the forward
    model sees fewer codes. Quantizer dropout of SoundStream (arXiv 2107.03312), with a length for each clip.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition; C = L * num_quantizers codes.
        num_quantizers: Quantizers in evaluation and at most in training. Capacity knob: larger passes more.
        num_codes: Codes K of each quantizer.
        commitment: Weight of the commitment term.
        reset_every: Longest time between resets of dead codes, in optimizer steps; the first come sooner.
    """

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        output = super().forward(z, sample, noise_keys)
        if not self.training:
            return output
        return self._cut(output, draw_lengths(z, self.num_quantizers, noise_keys)[:, None])

    @override
    def truncations(self, z: Tensor) -> dict[int, BottleneckOutput]:
        output = super().forward(z)
        assert output.codes is not None
        codes = output.codes.unflatten(-1, (self.num_latents, self.num_quantizers))
        found = {}
        for length in range(1, self.num_quantizers):
            cut = self._cut(output, torch.full((len(z), 1), length, device=z.device))
            found[length] = cut._replace(codes=codes[..., :length].flatten(2))
        return found

    def _cut(self, output: BottleneckOutput, kept: Tensor) -> BottleneckOutput:
        """Take away what all quantizers but the first few, (B, 1) of each clip, add to z and to its bits."""
        assert output.codes is not None
        codes = output.codes.unflatten(-1, (self.num_latents, self.num_quantizers))  # (B, T-1, L, num_quantizers)
        numbers = torch.arange(self.num_quantizers, device=codes.device)
        vectors = CODEBOOK_LR_SCALE * torch.cat([codebook.detach() for codebook in self.quantizer.parameters()])
        dropped = vectors[numbers, codes] * (numbers >= kept[:, :, None, None])[..., None]
        bits = (kept * self.num_latents).expand(codes.shape[:2]) * math.log2(self.num_codes)
        return output._replace(z=output.z - dropped.sum(dim=-2).to(output.z.dtype), rate_bits=bits)


def octave_lengths(most: int) -> list[int]:
    """List lengths below the longest, two an octave: 1, 2, 3, 4, 6, 8, 12, 16, 24 and so on."""
    doubled = [2**i for i in range(most.bit_length())]
    return sorted(length for length in {*doubled, *(3 * x for x in doubled)} if length < most)


def draw_lengths(z: Tensor, most: int, keys: Tensor | None) -> Tensor:
    """Draw a length from 1 to ``most`` for each clip of z (B, ...), (B,), with chances in proportion to 1 / length.

    Args:
        z: Latents, of which only the number of clips counts.
        most: Longest length.
        keys: One integer a clip, (B,), of which its length is a function; the global state decides where it is None.
    """
    uniform = torch.rand(len(z), device=z.device) if keys is None else keyed_uniform(keys, ())
    weights = 1 / torch.arange(1, most + 1, device=z.device)
    cumulative = weights.cumsum(0) / weights.sum()
    return 1 + torch.searchsorted(cumulative, uniform).clamp(max=most - 1)
