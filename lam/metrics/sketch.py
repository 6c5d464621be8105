"""Short summaries of long vectors that keep their geometry."""

from __future__ import annotations

import torch
from torch import Generator, Tensor


def count_sketch(x: Tensor, size: int) -> Tensor:
    """Vectors (n, d) as vectors (n, size): every coordinate is added to a random place with a random sign.

    The same linear map whenever d and size are the same; inner products are kept on average, with an error of about
    1 / sqrt(size) (Charikar, Chen and Farach-Colton, 2002). Vectors that are short enough stay as they are.
    """
    if x.shape[1] <= size:
        return x
    generator = Generator().manual_seed(0)
    place = torch.randint(0, size, (x.shape[1],), generator=generator).to(x.device)
    sign = (2.0 * torch.randint(0, 2, (x.shape[1],), generator=generator) - 1).to(x)
    return x.new_zeros(len(x), size).index_add_(1, place, x * sign)


def principal_components(x: Tensor, fit: Tensor, size: int) -> Tensor:
    """Coordinates (n, size) of rows (n, d) along the principal directions of some of them, the first of unit variance.

    Args:
        x: Rows, (n, d).
        fit: Places of the rows that the mean and the directions come from.
        size: Number of directions, at most d.
    """
    known = x[fit].double()
    mean = known.mean(dim=0)
    variances, directions = torch.linalg.eigh(torch.cov(known.T, correction=0).view(x.shape[1], -1))
    leading = variances[-1].clamp(min=1e-12).sqrt()
    return ((x.double() - mean) @ directions[:, -size:].flip(1) / leading).to(x.dtype)
