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
MAX_CHOOSING, MAX_LABELS, MAX_ROWS = 256, 1024, 1024
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
    among, to_held = (_Kernels(inputs, scales, rows, train) for rows in (train, held))
    for setting in _settings(inputs):
        values, vectors = torch.linalg.eigh(among(setting))
        turned, across = vectors.T @ columns[train], to_held(setting) @ vectors
        for penalty in PENALTIES:
            predicted = across @ (turned / (values.clamp(min=0)[:, None] + penalty))
            own = (predicted - columns[held]).square().mean(dim=0) @ of_factor
            for g in (own < loss).nonzero()[:, 0].tolist():
                loss[g], chosen[g] = own[g], (setting, penalty)
    everything = torch.cat([labels.train, held])[-MAX_LABELS:]
    predicted = _predict(inputs, scales, columns, everything, test, [chosen[g] for g in factor.tolist()])
    return Prediction(predicted.to(targets.dtype), loss.to(targets.dtype))


def _predict(
    inputs: KernelInputs,
    scales: tuple[float, float],
    columns: Tensor,
    labels: Tensor,
    test: Tensor,
    chosen: list[tuple[_Setting, float]],
) -> Tensor:
    """Fit each column of targets (n, Q) to labels, with its setting and penalty, and predict rows (m, Q)."""
    among = _Kernels(inputs, scales, labels, labels)
    weights: dict[_Setting, Tensor] = {}  # zero in columns of other settings
    for setting, penalty in dict.fromkeys(chosen):
        of = torch.tensor([own == (setting, penalty) for own in chosen])
        kernel = among(setting).clone()
        kernel.diagonal().add_(penalty)
        own = weights.setdefault(setting, torch.zeros(len(labels), len(chosen), dtype=torch.float64))
        own[:, of] = torch.cholesky_solve(columns[labels][:, of], torch.linalg.cholesky(kernel))
    predicted = []
    for rows in test.split(MAX_ROWS):
        to_rows = _Kernels(inputs, scales, rows, labels)
        predicted.append(torch.stack([to_rows(setting) @ own for setting, own in weights.items()]).sum(dim=0))
    return torch.cat(predicted)


def _settings(inputs: KernelInputs) -> Iterator[_Setting]:
    """Yield the settings that make a difference to what a probe knows."""
    for length in LENGTHS if inputs.state is not None else (torch.inf,):
        for share in SHARES if inputs.classes is not None else (0.0,):
            for latent_length in (None, *LATENT_LENGTHS) if inputs.z is not None else (None,):
                yield _Setting(length, share, latent_length)


class _Kernels:
    """Kernels of all settings between rows (r,) and columns (c,), which share their factors and distances.

    Args:
        inputs: What the probe knows, float64.
        scales: Root mean square distances of states and of latents.
        rows: Indices of the rows.
        columns: Indices of the columns.
    """

    def __init__(self, inputs: KernelInputs, scales: tuple[float, float], rows: Tensor, columns: Tensor) -> None:
        self.scales = scales
        self.shape = len(rows), len(columns)
        self.state, self.classes, self.z = (None if x is None else (x[rows], x[columns]) for x in inputs)
        self.factors: dict[tuple[str, float | None], Tensor] = {}
        self.distances: dict[str, Tensor] = {}

    def __call__(self, setting: _Setting) -> Tensor:
        """Compute the kernel of a setting, (r, c) float64."""
        kernel = torch.ones(self.shape, dtype=torch.float64)
        if self.state is not None and setting.length < torch.inf:
            kernel = kernel * self._gaussian("state", self.state, setting.length, self.scales[0])
        if self.z is not None:
            kernel = kernel * self._of_latents(self.z, setting.latent_length)
        if self.classes is not None and setting.share:
            kernel = kernel * torch.where(self.classes[0][:, None] == self.classes[1], 1.0, 1.0 - setting.share)
        return kernel

    def _of_latents(self, z: tuple[Tensor, Tensor], length: float | None) -> Tensor:
        """Compute the factor of latents: linear, or of a length."""
        if length is not None:
            return self._gaussian("z", z, length, self.scales[1])
        if ("z", None) not in self.factors:
            self.factors["z", None] = 1 + z[0] @ z[1].T / z[1].shape[1]
        return self.factors["z", None]

    def _gaussian(self, name: str, x: tuple[Tensor, Tensor], length: float, scale: float) -> Tensor:
        """Compute exp(-distance² / (2 (length scale)²)), (r, c), of rows and columns (r, d) and (c, d)."""
        if (name, length) not in self.factors:
            if name not in self.distances:
                self.distances[name] = torch.cdist(*x).square()
            self.factors[name, length] = torch.exp(self.distances[name] / (-2 * max(length * scale, 1e-12) ** 2))
        return self.factors[name, length]


def _spread(x: Tensor | None, rows: Tensor) -> float:
    """Compute the root mean square distance of two of some rows of x (n, d)."""
    return 0.0 if x is None else (2 * x[rows].var(dim=0, correction=0).sum()).sqrt().item()
