"""A linear transform of latents in which squared error is the error of what is predicted from them."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

RIDGE = 1e-3
"""Sensitivity, as a share of the mean one, that every direction of a standardized latent is given besides its own: directions
to which the linearized prediction is blind still count, all together less than any rise of the error that is reported."""

PRECISION = 1e-6
"""Spread below which a direction is held for constant, as a share of the size of the latent: rounding, not information."""


@dataclass
class Transform:
    """Latents z of d numbers as uncorrelated components y of r numbers, the most important first, and back.

    Attributes:
        mean: Mean of z, (d,).
        analysis: y = (z - mean) analysis, (d, r).
        synthesis: z = mean + y synthesis, (r, d).
    """

    mean: Tensor
    analysis: Tensor
    synthesis: Tensor

    def components(self, z: Tensor) -> Tensor:
        """Components (n, r) of latents (n, d), float64."""
        return (z.double() - self.mean) @ self.analysis

    def latents(self, components: Tensor) -> Tensor:
        """Latents (n, d) of components (n, r), float64."""
        return self.mean + components @ self.synthesis


def fit_transform(z: Tensor, gradients: Tensor) -> Transform:
    """The transform of covariance times sensitivity.

    With C the covariance of z and S = E[g g^T] the sensitivity, the standardized latent C^(-1/2) (z - mean) is rotated
    to the eigenvectors of C^(1/2) S C^(1/2) and each component is scaled by the root of its eigenvalue. Where S is E[J^T J]
    of the Jacobian J of a prediction, squared error of components is, to first order, squared error of the prediction, and a
    linear map of z changes nothing but signs. Where no gradient says anything all directions count the same.

    Args:
        z: Latents, (n, d).
        gradients: Gradients g of random projections of the prediction, (m, d).
    """
    z, gradients = z.double(), gradients.double()
    mean = z.mean(dim=0)
    variances, directions = torch.linalg.eigh((z - mean).T @ (z - mean) / len(z))
    kept = variances > PRECISION**2 * z.square().sum(dim=1).mean()
    directions, deviations = directions[:, kept], variances[kept].sqrt()
    standardized = gradients @ (directions * deviations)
    sensitivity = standardized.T @ standardized / max(len(gradients), 1)
    unit = sensitivity.diagonal().sum() / max(len(deviations), 1)
    ridge = torch.eye(len(deviations), dtype=z.dtype) * (RIDGE * unit if unit > 0 else 1.0)
    importances, rotation = (part.flip(-1) for part in torch.linalg.eigh(sensitivity + ridge))
    scales = importances.sqrt()
    return Transform(mean, (directions / deviations) @ rotation * scales, ((directions * deviations) @ rotation / scales).T)
