"""Vector quantization: the latent action is one of K codes, arXiv 1711.00937, as UniVLA and Garrido et al. use it."""

from __future__ import annotations

from torch import Tensor
from typing_extensions import override

from lam.bottlenecks.base import BottleneckOutput
from lam.bottlenecks.codebook import Quantizer, capacity_bits, straight_through, vq_loss


class VQ(Quantizer):
    """Replaces each latent token by the nearest code; gradients pass straight through.

    The loss is UniVLA's, ||sg(e) - c||^2 + 0.25 ||e - sg(c)||^2 with means over the width, a codebook learned by gradient, no
    moving averages (Garrido et al., arXiv 2601.05230, section 4, coefficients beside a prediction loss in units of
    the encoder's features; here the prediction loss is in units of the copy-last-state error and latents start at variance 1).

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition, one code each out of one codebook.
        num_codes: Codes K. Capacity knob: larger passes more. Garrido et al. sweep 16, 1024, 4096 and 32768.
        commitment: Weight of the commitment term, 0.25 in all papers named here.
        reset_every: Longest time between resets of dead codes, in optimizer steps; Garrido et al. reset every 300 thousand
            videos, 293 steps of theirs. The first resets come sooner.
    """

    knob = "num_codes"

    def __init__(
        self, dim: int, num_latents: int, num_codes: int = 16, commitment: float = 0.25, reset_every: int = 300
    ) -> None:
        super().__init__(dim, num_latents, num_codes, reset_every, reset_until=None)
        if commitment < 0:
            raise ValueError(f"commitment is {commitment}, expected 0 or more; 0.25 is the papers' value.")
        self.commitment = commitment

    @override
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        latent, codes, vectors = self.assign(z)
        loss = vq_loss(latent, vectors, self.commitment)
        stats = {"distance": (vectors - latent).detach().square().mean(), **self.usage.stats()}
        quantized = straight_through(latent, vectors).to(z.dtype)
        return BottleneckOutput(quantized, loss, codes, capacity_bits(codes, self.num_codes), stats)
