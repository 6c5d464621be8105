"""Probes of a state and a latent together: kernel ridge regression whose kernel is a product over the two.

What a latent means may depend on the state (the same code moves a body on the left one way, on the right another). A product of
kernels lets the answer depend on the latent anew at every place of the state, linearly or not, and needs few labels for it: a
network or a forest on both side by side needs many more.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from lam.metrics.mlp import LabelSplit

LENGTHS = (0.15, 0.3, 0.6, 1.2, torch.inf)
"""Length scales over the numbers of a state, as shares of the root mean square distance of two of them."""
SHARES = (0.0, 0.9)
"""Shares of the kernel that only states of the same class have in common."""
LATENT_LENGTHS = (0.3,)
PENALTIES = (1e-3, 1e-2, 0.1, 0.3, 1.0, 3.0, 10.0)
MAX_CHOOSING, MAX_LABELS, MAX_ROWS = 256, 1024, 4096
"""Labels, at most, that settings are chosen with and that the chosen ones are fitted to; rows predicted at a time."""


class KernelInputs(NamedTuple):
    """What a probe may know of n transitions.

    Attributes:
        state: Numbers that say what the state is, (n, s), on one scale; None where it knows no numbers.
        classes: Class of the state, (n,) int64; None where there are none.
        z: Latents, (n, d), about standardized; None where it knows the state alone.
    """

    state: Tensor | None = None
    classes: Tensor | None = None
    z: Tensor | None = None


class Prediction(NamedTuple):
    """Predictions of one probe.

    Attributes:
        predicted: Predictions of the test rows, (m, Q).
        loss: Mean square error of each factor on the labels held back, by which settings may be chosen, (G,).
    """

    predicted: Tensor
    loss: Tensor


class _Setting(NamedTuple):
    """Length scale of the state, share of its classes, and length scale of z, None for a linear kernel."""

    length: float
    share: float
    latent_length: float | None


def fit_kernels(inputs: KernelInputs, targets: Tensor, labels: LabelSplit, factor: Tensor, test: Tensor) -> Prediction:
    """Fit kernel ridge regression, its kernel and penalty chosen for each factor by the labels held back.

    The chosen ones are fitted again to all labels, those held back included.

    Args:
        inputs: What the probe knows.
        targets: Target columns, (n, Q), about standardized.
        labels: Labels that it may use.
        factor: Factor that each column belongs to, (Q,), each number from 0 to G-1 at least once.
        test: Indices of the rows to predict, (m,).
    """
    inputs = KernelInputs(*(x.double() if x is not None and x.is_floating_point() else x for x in inputs))
    columns, train, held = targets.double(), labels.train[:MAX_CHOOSING], labels.held_back
    scales = _spread(inputs.state, train), _spread(inputs.z, train)
    of_factor = F.one_hot(factor).double() / torch.bincount(factor)
    loss = torch.full((of_factor.shape[1],), torch.inf, dtype=torch.float64)
    chosen: list[tuple[_Setting, float]] = [(_Setting(torch.inf, 0.0, None), PENALTIES[-1])] * len(loss)
    for setting in _settings(inputs):
        values, vectors = torch.linalg.eigh(_kernel(inputs, setting, scales, train, train))
        turned, across = vectors.T @ columns[train], _kernel(inputs, setting, scales, held, train) @ vectors
        for penalty in PENALTIES:
            predicted = across @ (turned / (values.clamp(min=0)[:, None] + penalty))
            own = (predicted - columns[held]).square().mean(dim=0) @ of_factor
            for g in (own < loss).nonzero()[:, 0].tolist():
                loss[g], chosen[g] = own[g], (setting, penalty)
    everything = torch.cat([labels.train, held])[-MAX_LABELS:]
    predicted = torch.zeros(len(test), columns.shape[1], dtype=torch.float64)
    for setting, penalty in dict.fromkeys(chosen):
        of = torch.tensor([chosen[g] == (setting, penalty) for g in factor.tolist()])
        kernel = _kernel(inputs, setting, scales, everything, everything)
        kernel.diagonal().add_(penalty)
        weights = torch.cholesky_solve(columns[everything][:, of], torch.linalg.cholesky(kernel))
        for start in range(0, len(test), MAX_ROWS):
            rows = slice(start, start + MAX_ROWS)
            predicted[rows, of] = _kernel(inputs, setting, scales, test[rows], everything) @ weights
    return Prediction(predicted.to(targets.dtype), loss.to(targets.dtype))


def _settings(inputs: KernelInputs) -> Iterator[_Setting]:
    """Yield the settings that make a difference to what a probe knows."""
    for length in LENGTHS if inputs.state is not None else (torch.inf,):
        for share in SHARES if inputs.classes is not None else (0.0,):
            for latent_length in (None, *LATENT_LENGTHS) if inputs.z is not None else (None,):
                yield _Setting(length, share, latent_length)


def _kernel(inputs: KernelInputs, setting: _Setting, scales: tuple[float, float], rows: Tensor, columns: Tensor) -> Tensor:
    """Compute the kernel between rows (r,) and columns (c,), (r, c) float64."""
    kernel = torch.ones(len(rows), len(columns), dtype=torch.float64)
    if inputs.state is not None and setting.length < torch.inf:
        kernel *= _gaussian(inputs.state[rows], inputs.state[columns], setting.length * scales[0])
    if inputs.classes is not None and setting.share:
        same = inputs.classes[rows][:, None] == inputs.classes[columns]
        kernel *= 1 - setting.share + setting.share * same
    if inputs.z is not None and setting.latent_length is None:
        kernel *= 1 + inputs.z[rows] @ inputs.z[columns].T / inputs.z.shape[1]
    elif inputs.z is not None and setting.latent_length is not None:
        kernel *= _gaussian(inputs.z[rows], inputs.z[columns], setting.latent_length * scales[1])
    return kernel


def _gaussian(first: Tensor, second: Tensor, length: float) -> Tensor:
    """Compute exp(-distance² / (2 length²)) between rows of two kinds, (r, d) and (c, d)."""
    return torch.exp(-torch.cdist(first, second).square() / (2 * max(length, 1e-12) ** 2))


def _spread(x: Tensor | None, rows: Tensor) -> float:
    """Compute the root mean square distance of two of some rows of x (n, d)."""
    return 0.0 if x is None else (2 * x[rows].var(dim=0, correction=0).sum()).sqrt().item()
