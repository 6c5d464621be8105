"""Forward models: the next state from the past and a latent action."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor, nn

from lam.encoders.base import StateShape


class ForwardModel(nn.Module, ABC):
    """Predicts the next state; prediction t depends on states up to t and latents up to t.

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
    def forward(self, states: Tensor, z: Tensor) -> Tensor:
        """Predictions of states 1..T-1, (B, T-1, N, D), from states 0..T-2, (B, T-1, N, D), and z, (B, T-1, L, A)."""
