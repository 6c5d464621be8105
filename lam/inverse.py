"""Inverse dynamics models: what happened between two states."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lam.encoders.base import StateShape


class InverseModel(nn.Module, ABC):
    """Infers the latent action of a transition from its two states and nothing else.

    Args:
        shape: Layout of a state.
        num_latents: Latent tokens L of a transition.
        latent_dim: Width A of a latent token.
    """

    def __init__(self, shape: StateShape, num_latents: int, latent_dim: int) -> None:
        super().__init__()
        self.shape = shape
        self.num_latents = num_latents
        self.latent_dim = latent_dim

    @abstractmethod
    def forward(self, before: Tensor, after: Tensor) -> Tensor:
        """Latents (B, T-1, L, A) of transitions from states before to states after, each (B, T-1, N, D)."""
