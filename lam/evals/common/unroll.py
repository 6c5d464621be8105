"""Unrolling: predictions fed back, from the first state and latents alone."""

from __future__ import annotations

from torch import Tensor

from lam.models.base import Observation, WorldModel


def unrolled(model: WorldModel, observation: Observation) -> Tensor:
    """A batch unrolled with its own latents, (B, T-1, N, D): by the first evaluation that asks, kept for the others."""
    if observation.unrolled is None:
        observation.unrolled = model.rollout(observation.states[:, :1], observation.bottleneck_output.z)
    return observation.unrolled
