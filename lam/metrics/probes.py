"""Linear and nonlinear probes: ridge regression, and a small network on what ridge regression leaves over."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from lam.metrics.mlp import Fitted, Labels, fit_mlps

PENALTIES = np.logspace(-2, 5, 15)


class Probe(NamedTuple):
    """What one probe sees and may learn from.

    Attributes:
        inputs: Its inputs, (n, d), about standardized.
        labels: Which labels it may use.
    """

    inputs: Tensor
    labels: Labels


def ridge(inputs: Tensor, targets: Tensor, train: Tensor, places: Tensor) -> Tensor:
    """Predictions (m, Q) at some places by ridge regression, the penalty of each column chosen by leaving one out.

    Args:
        inputs: What the probe sees, (n, d).
        targets: Target columns, (n, Q).
        train: Places of the labels.
        places: Places to predict, (m,).
    """
    from sklearn.linear_model import RidgeCV

    model = RidgeCV(PENALTIES, alpha_per_target=True)
    model.fit(inputs[train].double().numpy(), targets[train].double().numpy())
    predicted = torch.from_numpy(model.predict(inputs[places].double().numpy())).to(targets.dtype)
    return predicted.view(len(places), -1)


def fit_probes(probes: list[Probe], targets: Tensor, factor: Tensor, test: Tensor) -> Fitted:
    """Predictions (P, m, Q) of nonlinear probes: ridge regression plus a network fitted to its residuals.

    So a nonlinear probe is never blind to what a linear one sees, which a network alone is with few labels and many
    correlated inputs. The network stops, for each factor, where it does best on the labels held back, possibly at once.

    Args:
        probes: What each probe sees and may learn from.
        targets: Target columns, (n, Q), about standardized.
        factor: Which factor each column belongs to, (Q,).
        test: Places of the rows to predict, (m,).
    """
    everywhere = torch.arange(len(targets))
    linear = torch.stack([ridge(probe.inputs, targets, probe.labels.train, everywhere) for probe in probes])
    width = max(probe.inputs.shape[1] for probe in probes)
    inputs = torch.stack([F.pad(probe.inputs, (0, width - probe.inputs.shape[1])) for probe in probes])
    residual = fit_mlps(inputs, targets - linear, [probe.labels for probe in probes], factor, test)
    return Fitted(linear[:, test] + residual.predicted, residual.loss)
