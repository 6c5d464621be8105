"""Dimensionality of vectors: projections that reduce it, and measures of how many directions vectors fill."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Generator, Tensor


def count_sketch(x: Tensor, size: int) -> Tensor:
    """Project vectors (n, d) to vectors (n, size): every coordinate is added to a random one with a random sign.

    The same linear map whenever d and size are the same; inner products are kept on average, with an error of about
    1 / sqrt(size) (Charikar, Chen and Farach-Colton, 2002). Vectors that are short enough are returned as they are.
    """
    if x.shape[1] <= size:
        return x
    generator = Generator().manual_seed(0)
    index = torch.randint(0, size, (x.shape[1],), generator=generator).to(x.device)
    sign = (2.0 * torch.randint(0, 2, (x.shape[1],), generator=generator) - 1).to(x)
    return x.new_zeros(len(x), size).index_add_(1, index, x * sign)


def principal_components(x: Tensor, fit: Tensor, size: int) -> Tensor:
    """Compute coordinates (n, size) of rows (n, d) along the principal directions of some of them, the first of unit variance.

    Args:
        x: Rows, (n, d).
        fit: Indices of the rows that the mean and the directions come from.
        size: Number of directions, at most d.
    """
    known = x[fit].double()
    mean = known.mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(known.T, correction=0).view(x.shape[1], -1))
    leading = variances[-1].clamp(min=1e-12).sqrt()
    components: Tensor = (x.double() - mean) @ directions[:, -size:].flip(1) / leading
    return components.to(x.dtype)


class LinearModel(NamedTuple):
    """The linear latent action model in closed form, https://arxiv.org/abs/2506.15691.

    With linear heads and squared error the best z of k numbers is the projection of the state's change on its k principal
    directions, whatever caused the change: the controllable part as well as exogenous noise.

    Attributes:
        mean: Mean change, (d,) float64.
        directions: Orthonormal directions, (d, k) float64, that of the largest variance first.
        variances: Variance of the change along each, (k,) float64.
    """

    mean: Tensor
    directions: Tensor
    variances: Tensor

    def latents(self, changes: Tensor, k: int) -> Tensor:
        """Return the first k numbers of z, (m, k), of changes (m, d), each of unit variance where the model was fitted."""
        scale = self.variances[:k].clamp(min=torch.finfo(torch.float64).tiny).sqrt()
        return (changes.double() - self.mean) @ self.directions[:, :k] / scale


def fit_linear_model(changes: Tensor, k: int) -> LinearModel:
    """Fit the linear model of at most k numbers that leaves the least squared error of changes (n, d).

    It has fewer than k numbers where the changes fill fewer directions.
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


def singular_values(x: Tensor) -> Tensor:
    """Compute the singular values of vectors (n, A) around their mean, (A,), largest first."""
    centered = x.double() - x.double().mean(dim=0)
    covariance = centered.T @ centered
    variances: Tensor = torch.linalg.eigvalsh(covariance)
    return variances.flip(0).clamp(min=0).sqrt()


def effective_rank(x: Tensor) -> float:
    """Compute exp(entropy of normalized singular values) (Roy and Vetterli, EUSIPCO 2007); 0 where all vectors are equal."""
    values = singular_values(x)
    if values[0] == 0:
        return 0.0
    p = values / values.sum()
    return torch.exp(-torch.special.xlogy(p, p).sum()).item()


def participation_ratio(x: Tensor) -> float:
    """Compute (sum of variances)^2 / sum of squared variances along principal directions; 0 where all vectors are equal."""
    variances = singular_values(x).square()
    if variances[0] == 0:
        return 0.0
    return (variances.sum().square() / variances.square().sum()).item()


def active_dimensions(x: Tensor, threshold: float) -> int:
    """Count the coordinates of vectors (n, A) whose standard deviation exceeds a threshold."""
    return int((x.double().std(dim=0, correction=0) > threshold).sum())
