"""The linear latent action model in closed form, https://arxiv.org/abs/2506.15691.

With linear heads and squared error the best z of k numbers is the projection of the state's change on its k principal
directions, whatever caused the change: the controllable part as well as exogenous noise.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class LinearModel(NamedTuple):
    """A fitted linear latent action model.

    Attributes:
        mean: Mean change, (d,) float64.
        directions: Orthonormal directions, (d, k) float64, that of the largest variance first.
        variances: Variance of the change along each, (k,) float64.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def latents(self, changes: Tensor, k: int) -> Tensor:
        """The first k numbers of z, (m, k), of changes (m, d), each of unit variance where the model was fitted."""
        scale = self.variances[:k].clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        return (changes.double() - self.mean) @ self.directions[:, :k] / scale


def fit_linear_model(changes: Tensor, k: int) -> LinearModel:
    """The linear model of at most k numbers that leaves the least squared error of changes (n, d).

    There are fewer than k where the changes fill fewer directions.
    """
    changes = changes.double()
    mean = changes.mean(dim=0)
    centered = changes - mean
    n, d = centered.shape
    # eigenvectors of the smaller of the two products; the other's are their images
    if d <= n:
        variances, directions = torch.linalg.eigh(centered.T @ centered / n)
    else:
        variances, samples = torch.linalg.eigh(centered @ centered.T / n)
        directions = centered.T @ samples / (n * variances.clamp(min=torch.finfo(torch.float64).tiny)).sqrt()
    filled = variances > 1e-12 * variances[-1]
    return LinearModel(mean, directions[:, filled].flip(1)[:, :k], variances[filled].flip(0)[:k])
