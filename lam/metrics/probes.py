"""Linear and nonlinear probes: ridge regression, and a small network on its residuals."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lam.metrics.mlp import FittedProbes, LabelSplit, fit_mlps

PENALTIES = np.logspace(-2, 5, 15)


class ProbeInputs(NamedTuple):
    """Inputs of one probe, and the labels that it may learn from.

    Attributes:
        inputs: Its inputs, (n, d), about standardized.
        labels: Labels that it may use.
    """

    inputs: Tensor
    labels: LabelSplit


def standardize(x: Tensor, fit: Tensor) -> Tensor:
    """Shift and scale rows (n, d) to mean 0 and variance 1 over some of them; what does not vary there becomes 0.

    Args:
        x: The rows.
        fit: Indices of those that fix location and scale.
    """
    mean, std = x[fit].mean(dim=0), x[fit].std(dim=0, correction=0)
    varies = std > 1e-6 * mean.abs().clamp(min=1e-6)
    return torch.where(varies, (x - mean) / torch.where(varies, std, 1.0), 0.0)


def ridge(inputs: Tensor, targets: Tensor, train: Tensor, test: Tensor) -> Tensor:
    """Predict columns (m, Q) of some rows by ridge regression, the penalty of each column chosen by leaving one out.

    Args:
        inputs: Inputs of the probe, (n, d).
        targets: Target columns, (n, Q).
        train: Indices of the labels.
        test: Indices of the rows to predict, (m,).
    """
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES, alpha_per_target=True)
    model.fit(inputs[train].double().numpy(), targets[train].double().numpy())
    predicted = torch.from_numpy(model.predict(inputs[test].double().numpy())).to(targets.dtype)
    return predicted.view(len(test), -1)


def fit_probes(probes: list[ProbeInputs], targets: Tensor, factor: Tensor, test: Tensor) -> FittedProbes:
    """Fit nonlinear probes, ridge regression plus a network fitted to its residuals, and predict rows (P, m, Q).

    So a nonlinear probe never misses what a linear one finds, as a network alone does with few labels and many correlated
    inputs. The network stops, for each factor, where it does best on the labels held back, possibly at once.

    Args:
        probes: Inputs and labels of each probe.
        targets: Target columns, (n, Q), about standardized.
        factor: Factor that each column belongs to, (Q,).
        test: Indices of the rows to predict, (m,).
    """
    everywhere = torch.arange(len(targets))
    linear = torch.stack([ridge(probe.inputs, targets, probe.labels.train, everywhere) for probe in probes])
    width = max(probe.inputs.shape[1] for probe in probes)
    inputs = torch.stack([F.pad(probe.inputs, (0, width - probe.inputs.shape[1])) for probe in probes])
    residual = fit_mlps(inputs, targets - linear, [probe.labels for probe in probes], factor, test)
    return FittedProbes(linear[:, test] + residual.predicted, residual.loss)
