"""How many directions a set of vectors fills."""

from __future__ import annotations

import torch
from torch import Tensor


def singular_values(x: Tensor) -> Tensor:
    """Singular values of vectors (n, A) around their mean, (A,), largest first."""
    centered = x.double() - x.double().mean(dim=0)
    covariance = centered.T @ centered
    return torch.linalg.eigvalsh(covariance).flip(0).clamp(min=0).sqrt()


def effective_rank(x: Tensor) -> float:
    """Exponential of the entropy of the normalized singular values (Roy and Vetterli, EUSIPCO 2007); 0 without spread."""
    values = singular_values(x)
    if values[0] == 0:
        return 0.0
    p = values / values.sum()
    return torch.exp(-torch.special.xlogy(p, p).sum()).item()


def participation_ratio(x: Tensor) -> float:
    """(sum of variances)^2 / sum of squared variances along the principal directions; 0 without spread."""
    variances = singular_values(x).square()
    if variances[0] == 0:
        return 0.0
    return (variances.sum().square() / variances.square().sum()).item()


def active_dimensions(x: Tensor, threshold: float) -> int:
    """Number of coordinates of vectors (n, A) whose standard deviation exceeds a threshold."""
    return int((x.double().std(dim=0, correction=0) > threshold).sum())
