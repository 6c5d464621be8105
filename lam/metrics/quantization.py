"""Lossy coding of latents: a transform to components, a scalar quantizer of components, a vector quantizer of latents.

Scalar: every component is rounded by the same step and coded by itself. Vector: entropy-constrained vector quantization
(Chou, Lookabaugh and Gray, IEEE Transactions on ASSP 37, 1989).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.metrics.entropy import code_lengths, discrete_laplace_lengths

SENSITIVITY_FLOOR = 1e-3
"""Sensitivity, as a share of the mean one, that is added to that of every direction of a standardized latent: directions that
the linearized prediction ignores still count, all together less than any rise of the error that is reported."""

ROUNDING = 1e-6
"""Standard deviation below which a direction counts as constant, as a share of the size of the latent."""


@dataclass
class Transform:
    """Linear transform of latents z of d numbers to uncorrelated components y of r numbers, the most important first.

    Attributes:
        mean: Mean of z, (d,).
        analysis: y = (z - mean) analysis, (d, r).
        synthesis: z = mean + y synthesis, (r, d).
    """

    mean: Tensor
    analysis: Tensor
    synthesis: Tensor

    def components(self, z: Tensor) -> Tensor:
        """Transform latents (n, d) to components (n, r), float64."""
        return (z.double() - self.mean) @ self.analysis

    def latents(self, components: Tensor) -> Tensor:
        """Transform components (n, r) back to latents (n, d), float64."""
        return self.mean + components @ self.synthesis


def fit_transform(z: Tensor, gradients: Tensor) -> Transform:
    """Fit the transform of covariance times sensitivity, in which squared error is error of the prediction.

    With C the covariance of z and S = E[g g^T] the sensitivity, the standardized latent C^(-1/2) (z - mean) is rotated
    to the eigenvectors of C^(1/2) S C^(1/2) and each component is scaled by the root of its eigenvalue. Where S is E[J^T J]
    of the Jacobian J of a prediction, squared error of components is, to first order, squared error of the prediction, and a
    linear map of z changes nothing but signs. Where all gradients are 0 all directions count the same.

    Args:
        z: Latents, (n, d).
        gradients: Gradients g of random projections of the prediction, (m, d).
    """
    z, gradients = z.double(), gradients.double()
    mean = z.mean(dim=0)
    variances, directions = torch.linalg.eigh((z - mean).T @ (z - mean) / len(z))
    kept = variances > ROUNDING**2 * z.square().sum(dim=1).mean()
    directions, deviations = directions[:, kept], variances[kept].sqrt()
    standardized = gradients @ (directions * deviations)
    sensitivity = standardized.T @ standardized / max(len(gradients), 1)
    unit = sensitivity.diagonal().sum() / max(len(deviations), 1)
    ridge = torch.eye(len(deviations), dtype=z.dtype) * (SENSITIVITY_FLOOR * unit if unit > 0 else 1.0)
    importances, rotation = (part.flip(-1) for part in torch.linalg.eigh(sensitivity + ridge))
    scales = importances.sqrt()
    return Transform(mean, (directions / deviations) @ rotation * scales, ((directions * deviations) @ rotation / scales).T)


def quantize_scalars(fit: Tensor, test: Tensor, step: float) -> tuple[Tensor, Tensor]:
    """Round components to multiples of a step and count their bits, by a coder fitted on others.

    A value is restored to the mean of those fitted ones that fell into its cell, one value in the cell's center counted with
    them. At high rates the cost is 1/2 log2(pi e / 6) = 0.25 bit a component above the rate-distortion function (Gish
    and Pierce, 1968), at low rates less; a cell around 0 that is wider than the others did not help.

    Args:
        fit: Components the coder is fitted on, (n, r), around 0.
        test: Components that are coded, (m, r).
        step: Width of a cell.

    Returns:
        Bits (m,) and restored components (m, r).
    """
    bits = test.new_zeros(len(test))
    restored = torch.zeros_like(test)
    for i, (known, new) in enumerate(zip(fit.unbind(dim=1), test.unbind(dim=1), strict=True)):
        cells, cell = (known / step).round().long(), (new / step).round().long()
        bits += code_lengths(cells, cell, discrete_laplace_lengths(cells, cell))
        seen, inverse, counts = torch.unique(cells, return_inverse=True, return_counts=True)
        means = (torch.zeros(len(seen), dtype=known.dtype).index_add_(0, inverse, known) + seen * step) / (counts + 1)
        index = torch.searchsorted(seen, cell).clamp(max=len(seen) - 1)
        restored[:, i] = torch.where(seen[index] == cell, means[index], cell * step)
    return bits, restored


MERGE_DISTANCE = 1e-3
"""Points nearer than about this share of their standard deviation start as one code: equal latents differ by rounding."""

NUM_ITERATIONS = 8


@dataclass
class Codebook:
    """Vector quantizer: codes with the length of each, fitted on n points.

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
        """Find the code of each point (m, r) that is best in squared error plus ``weight`` times length, (m,)."""
        return _assign(points, self.codes, self.lengths, self.weight)

    def centers(self, values: Tensor) -> Tensor:
        """Compute the mean of the values (n, d) of the points of each code, (K, d)."""
        return _means(values, self.assigned, len(self.codes))


def fit_codebooks(points: Tensor, weights: list[float], max_codes: int) -> Iterator[Codebook]:
    """Fit codebooks from fine to coarse, each starting where the last one ended; stop at a single code.

    The first starts from the most frequent distinct points. Iterations alternate between the best code for each point and
    the mean and the length of each code; unused codes are removed, so books only get smaller.

    Args:
        points: Points that are coded, (n, r).
        weights: What a bit costs in squared error, rising.
        max_codes: Codes of the first book, at most.
    """
    codes, counts = _start(points, max_codes)
    for weight in weights:
        assigned = torch.zeros(0, dtype=torch.int64)
        for _ in range(NUM_ITERATIONS):
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
    """Find the best code of each point, (n,); the points' own squares do not matter for it."""
    return torch.addmm(codes.square().sum(dim=1) + weight * lengths, points, codes.T, alpha=-2).argmin(dim=1)


def _start(points: Tensor, max_codes: int) -> tuple[Tensor, Tensor]:
    """Find the most frequent distinct points (K, r), ties in an arbitrary order, with the number of each (K,)."""
    std = points.std(dim=0, correction=0).norm()
    cells, inverse, counts = torch.unique(
        (points / (MERGE_DISTANCE * std)).round(), dim=0, return_inverse=True, return_counts=True
    )
    order = torch.randperm(len(cells), generator=torch.Generator().manual_seed(0))
    chosen = order[counts[order].argsort(descending=True, stable=True)[:max_codes]]
    return _means(points, inverse, len(cells))[chosen], counts[chosen]


def _means(values: Tensor, assigned: Tensor, num_codes: int) -> Tensor:
    """Compute the mean (K, d) of the values (n, d) that are assigned to each code, at least one to each."""
    sums = values.new_zeros(num_codes, values.shape[1]).index_add_(0, assigned, values)
    return sums / torch.bincount(assigned, minlength=num_codes)[:, None]
