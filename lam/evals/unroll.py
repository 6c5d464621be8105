"""Unrolling: predictions fed back, from the first state and latents alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lam.evals.base import Observation


def unroll(module: Any, first: Tensor, z: Tensor) -> Tensor:
    """Predictions of states 1..T-1, (B, T-1, N, D), from the first state (B, 1, N, D) and latents (B, T-1, L, A)."""
    states = first
    for h in range(1, z.shape[1] + 1):
        states = torch.cat([states, module.predict(states, z[:, :h])[:, -1:].to(first.dtype)], dim=1)
    return states[:, 1:]


def unrolled(module: Any, observation: Observation) -> Tensor:
    """A batch unrolled with its own latents, (B, T-1, N, D): by the first evaluation that asks, kept for the others."""
    if observation.unrolled is None:
        observation.unrolled = unroll(module, observation.states[:, :1], observation.limited.z)
    return observation.unrolled
