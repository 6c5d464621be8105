"""The bottleneck: the only part that differs between the rows of a table."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

from torch import Generator, Tensor, nn
from torch.optim import Optimizer


class BottleneckOutput(NamedTuple):
    """What the forward model may see, and what it cost.

    Attributes:
        z: The latent after the bottleneck, (B, T-1, L, A), same shape as what went in.
        loss: Scalar, already weighted, in units of the prediction loss; the same formula in train and eval mode.
        codes: Integers (B, T-1, C) where the latent is discrete.
        rate_bits: Bits of each transition, (B, T-1), where a finite rate exists: log2 K a code (capacity), KL / ln 2 for a
            Gaussian.
        stats: Scalars worth logging, by short name.
        rate_bits_each: What each number of z contributes to ``rate_bits``, (B, T-1, L, A), where the rate is such a sum.
    """

    z: Tensor
    loss: Tensor
    codes: Tensor | None = None
    rate_bits: Tensor | None = None
    stats: Mapping[str, Tensor] = {}
    rate_bits_each: Tensor | None = None


class Bottleneck(nn.Module, ABC):
    """Limits what a latent action can say.

    Subclasses are built as ``X(dim, num_latents, knob=the paper's value)``, keep the shape of what they are given, own
    everything they need (heads, projections, codebooks, resets, loss weights), are deterministic in eval mode and have
    exactly one capacity knob, named by ``knob``.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
    """

    knob: ClassVar[str | None] = None
    """Name of the constructor argument that sets the capacity; None for the anchors, which have nothing to turn."""

    def __init__(self, dim: int, num_latents: int) -> None:
        super().__init__()
        self.dim = dim
        self.num_latents = num_latents

    @abstractmethod
    def forward(self, z: Tensor, sample: bool = False, noise_keys: Tensor | None = None) -> BottleneckOutput:
        """Limits z, (B, T-1, L, A).

        Args:
            z: What the inverse model says, (B, T-1, L, A).
            sample: Draw from the posterior in eval mode too, where there is one; training always draws.
            noise_keys: One integer a clip, (B,) int64: noise is a function of it alone, whatever the batch or the rank. Noise
                comes from the global generator where it is None.
        """

    @abstractmethod
    def sample_prior(self, n: int, generator: Generator | None = None) -> Tensor:
        """Draws n latents (n, L, A) from what the bottleneck believes before seeing anything, on its own device."""

    def on_optimizer_step(self, optimizer: Optimizer) -> None:
        """Housekeeping after each optimizer step (dead codes); called on all ranks, ends with equal state on all."""
