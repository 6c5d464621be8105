"""A common scale for latents: shift and scale measured on the first training batch, and followed from there if need be."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lam.distributed import gather_rows

_SMALLEST_STD = 0.01  # a latent that hardly varies at the start is amplified a hundred times at most
_RATE = 0.1  # how far a step moves followed statistics toward those of its batch


class Standardize(nn.Module):
    """Moves latents to mean 0 and a chosen standard deviation, as they were at the first training step.

    Inverse models start at any scale, and every bottleneck has one: distances between codes, the unit variance of a prior,
    the radius below which sparse latents die. Data-dependent initialization (Salimans and Kingma, arXiv 1602.07868) with
    one mean an entry and one scale for all. ``measure`` leaves it there, so that training moves the scale if it pays: in a
    toy that made quantizers with codebooks learn faster than statistics that follow the batches. ``follow`` goes on.

    Args:
        dim: Width A of a latent token.
        num_latents: Latent tokens L of a transition.
        std: Standard deviation to start with.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, dim: int, num_latents: int, std: float = 1.0) -> None:
        super().__init__()
        self.std = std
        self.measured = False
        self.register_buffer("shift", torch.zeros(num_latents, dim))
        self.register_buffer("scale", torch.ones(()))

    def forward(self, z: Tensor) -> Tensor:
        """Standardized latents in float32, (B, T-1, L, A)."""
        return (z.float() - self.shift) * self.scale

    @torch.no_grad()
    def measure(self, z: Tensor) -> None:
        """Takes shift and scale from the latents of all processes, (B, T-1, L, A), the first time it is called."""
        if not self.measured:
            self._move(z, 1.0)

    @torch.no_grad()
    def follow(self, z: Tensor) -> None:
        """The same, and moves on toward the latents of each later step, for a bottleneck whose own parts cannot.

        The grid of FSQ stands still. Latents that drift together in the first steps end in one cell of it, where the
        inverse model no longer learns to tell them apart: with the scale of the first batch alone half of the small runs
        on the world ``arm`` collapsed (``experiments/LOG.md``).
        """
        self._move(z, _RATE if self.measured else 1.0)

    def _move(self, z: Tensor, rate: float) -> None:
        rows = gather_rows(z.float().flatten(0, 1))  # (B * (T-1), L, A)
        mean = rows.mean(dim=0)
        self.shift.lerp_(mean, rate)
        self.scale.lerp_(self.std / (rows - mean).square().mean().sqrt().clamp_min(_SMALLEST_STD), rate)
        self.measured = True

    def get_extra_state(self) -> Tensor:
        """Whether the measuring is done; not a buffer, since asking a GPU for it would stall every step."""
        return torch.tensor(self.measured)

    def set_extra_state(self, state: Tensor) -> None:
        """Restores it from a checkpoint."""
        self.measured = bool(state)
