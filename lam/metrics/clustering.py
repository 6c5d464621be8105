"""Entropy-constrained vector quantization (Chou, Lookabaugh and Gray, IEEE Transactions on ASSP 37, 1989)."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.metrics.entropy import code_lengths

GRID = 1e-3
"""Points nearer than about this share of their spread start as one code: a discrete latent differs by rounding."""

ITERATIONS = 8


@dataclass
class Codebook:
    """Codes with the length of each, fitted on n points.

    Attributes:
        codes: Centers, (K, r).
        lengths: Bits of each code, (K,), of a proper code that is smoothed for points it was not fitted on.
        weight: What a bit costs in squared error.
        assigned: Code of each point it was fitted on, (n,).
    """

    codes: Tensor
    lengths: Tensor
    weight: float
    assigned: Tensor

    def assign(self, points: Tensor) -> Tensor:
        """Code of each point (m, r) that is best in squared error plus ``weight`` times length, (m,)."""
        return _assign(points, self.codes, self.lengths, self.weight)

    def centers(self, values: Tensor) -> Tensor:
        """Mean of the values (n, d) of the points of each code, (K, d)."""
        return _means(values, self.assigned, len(self.codes))


def anneal(points: Tensor, weights: list[float], max_codes: int) -> Iterator[Codebook]:
    """Codebooks from fine to coarse, each starting where the last one ended; ends with a single code.

    The first starts from the most frequent distinct points. Iterations go between the best code for each point and the
    mean and the length of each code; codes that nobody uses vanish, which only makes books smaller.

    Args:
        points: What is coded, (n, r).
        weights: What a bit costs in squared error, rising.
        max_codes: Codes of the first book, at most.
    """
    codes, counts = _start(points, max_codes)
    for weight in weights:
        assigned = torch.zeros(0, dtype=torch.int64)
        for _ in range(ITERATIONS):
            before = assigned
            assigned = _assign(points, codes, math.log2(len(points)) - counts.log2(), weight)
            used, assigned, counts = torch.unique(assigned, return_inverse=True, return_counts=True)
            if len(used) == len(codes) and torch.equal(assigned, before):
                break
            codes = _means(points, assigned, len(used))
        lengths = code_lengths(assigned, torch.arange(len(codes)), math.log2(len(codes)))
        yield Codebook(codes, lengths.to(points.dtype), weight, assigned)
        if len(codes) == 1:
            return


def _assign(points: Tensor, codes: Tensor, lengths: Tensor, weight: float) -> Tensor:
    """Best code of each point, (n,); the points' own squares do not matter for it."""
    return torch.addmm(codes.square().sum(dim=1) + weight * lengths, points, codes.T, alpha=-2).argmin(dim=1)


def _start(points: Tensor, max_codes: int) -> tuple[Tensor, Tensor]:
    """The most frequent distinct points (K, r), ties in an arbitrary order, with the number of each (K,)."""
    spread = points.std(dim=0, correction=0).norm()
    cells, inverse, counts = torch.unique((points / (GRID * spread)).round(), dim=0, return_inverse=True, return_counts=True)
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))
    chosen = order[counts[order].argsort(descending=True, stable=True)[:max_codes]]
    return _means(points, inverse, len(cells))[chosen], counts[chosen]


def _means(values: Tensor, assigned: Tensor, num_codes: int) -> Tensor:
    """Mean (K, d) of the values (n, d) that are assigned to each code, at least one to each."""
    sums = values.new_zeros(num_codes, values.shape[1]).index_add_(0, assigned, values)
    return sums / torch.bincount(assigned, minlength=num_codes)[:, None]
