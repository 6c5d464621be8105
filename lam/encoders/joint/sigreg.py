"""Sketched isotropic Gaussian regularization (SIGReg) of LeJEPA: embeddings look Gaussian from every direction.

https://arxiv.org/abs/2511.08544, algorithm 1 and section 4.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lam.noise import keyed_normal

KNOTS, REACH = 17, 5.0
"""Points of the quadrature, evenly spaced from -REACH to REACH."""


def sigreg(embeddings: Tensor, directions: Tensor) -> Tensor:
    """Compute the Epps-Pulley statistic of embeddings (n, ..., D) seen along directions (D, M), averaged over directions.

    The statistic of n numbers x is how far their empirical characteristic function is from that of N(0, 1),

        T = n * integral of |1/n sum_j exp(i t x_j) - exp(-t^2 / 2)|^2 exp(-t^2 / 2) dt  from -5 to 5,

    by the trapezoid rule on 17 points. Of n draws of N(0, 1) its mean is sqrt(2 pi) (1 - 1 / sqrt(3)) = 1.06 whatever n; of
    n equal embeddings it is 0.41 n at zero and more elsewhere. Samples are along the first axis alone, as frames of one clip
    are not independent: of clips (B, F, D) it is the mean over the F frames.

    Args:
        embeddings: Embeddings, those of all processes: see ``lam.distributed.gather_rows``.
        directions: Unit vectors.
    """
    with torch.autocast(embeddings.device.type, enabled=False):
        # the integrand is even, so that points from zero on suffice
        t = torch.linspace(0, REACH, (KNOTS + 1) // 2, device=embeddings.device)
        gaussian = (-t.square() / 2).exp()
        weights = 2 * (t[1] - t[0]) * gaussian
        weights[0], weights[-1] = weights[0] / 2, weights[-1] / 2
        angles = (embeddings.float() @ directions)[..., None] * t  # (n, ..., M, knots)
        distance = (angles.cos().mean(dim=0) - gaussian).square() + angles.sin().mean(dim=0).square()
        statistic: Tensor = len(embeddings) * (distance @ weights)
        mean: Tensor = statistic.mean()
        return mean


def draw_directions(key: Tensor, dim: int, num: int) -> Tensor:
    """Draw unit vectors (dim, num), evenly distributed, as a function of a key, (1,) int64."""
    directions = keyed_normal(key, (dim, num))[0]
    return directions / directions.square().sum(dim=0).sqrt()
