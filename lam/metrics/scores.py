"""Scores of predictions, a two-sample test by classification, and the confidence interval of a mean over clips.

Scores of predictions are sums over rows, so that a score has an interval over clips and two can be compared in pairs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from lam.metrics.mlp import LabelSplit
from lam.metrics.probes import ProbeInputs, fit_probes


def r2_contributions(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute what each row adds to the coefficient of determination, (m,), of predictions (m, q).

    The sum is R², averaged over the q columns.
    """
    predicted, target = predicted.double(), target.double()
    total = (target - target.mean(dim=0)).square().sum(dim=0)
    return (1 / len(target) - (predicted - target).square() / total).mean(dim=1)


def balanced_accuracy_contributions(predicted: Tensor, target: Tensor) -> Tensor:
    """Compute what each row adds to the balanced accuracy, (m,), of predicted classes (m,); the sum is the mean recall."""
    return (predicted == target).double() * recall_weights(target)


def recall_weights(target: Tensor) -> Tensor:
    """Compute the weight of each row in the balanced accuracy, (m,); the weights add up to 1."""
    _, index, counts = torch.unique(target, return_inverse=True, return_counts=True)
    weights: Tensor = 1 / (len(counts) * counts[index].double())
    return weights


HOLD_BACK = 4
"""Every fourth row for fitting is held back to stop the network."""


def placements(first: Tensor, second: Tensor) -> Tensor:
    """Compute for each score in first (n,) the share of scores in second (m,) below it, ties counted half, (n,) float64.

    Their mean is the area under the ROC curve (Mann and Whitney).
    """
    ordered = second.double().sort().values.contiguous()
    query = first.double().contiguous()
    below = torch.searchsorted(ordered, query)
    return (below + torch.searchsorted(ordered, query, right=True)).double() / (2 * len(ordered))


def cross_fitted_placements(first: Tensor, second: Tensor, first_fold: Tensor, second_fold: Tensor) -> Tensor:
    """Compute placements (n,) of rows of first among rows of second of the same fold.

    The classifier is fitted on the other fold.

    Args:
        first: Draws of one distribution, (n, d).
        second: Draws of the other, (m, d).
        first_fold: Fold of each, (n,) bool.
        second_fold: Fold of each, (m,) bool.
    """
    placed = torch.zeros(len(first), dtype=torch.float64)
    for test in (True, False):
        placed[first_fold == test] = held_out_placements(first, second, first_fold == test, second_fold == test)
    return placed


def held_out_placements(first: Tensor, second: Tensor, first_test: Tensor, second_test: Tensor) -> Tensor:
    """Compute placements of test rows of first among test rows of second, by a classifier fitted on the others.

    Args:
        first: Draws of one distribution, (n, d).
        second: Draws of the other, (m, d).
        first_test: Which of them are for testing, (n,) bool.
        second_test: Which of them are for testing, (m,) bool.
    """
    rows, of_first = torch.cat([first, second]), torch.arange(len(first) + len(second)) < len(first)
    test = torch.cat([first_test, second_test])
    scores = _classifier_scores(rows, of_first, (~test).nonzero()[:, 0])
    return placements(scores[of_first & test], scores[~of_first & test])


def _classifier_scores(rows: Tensor, of_first: Tensor, fit: Tensor) -> Tensor:
    """Score how much each row (n, d) looks like one of the first distribution, (n,), by a classifier fitted on some rows."""
    mean, std = rows[fit].mean(dim=0), rows[fit].std(dim=0, correction=0)
    scaled = torch.where(std > 0, (rows - mean) / torch.where(std > 0, std, 1.0), 0.0).clamp(-10, 10)
    inputs = torch.cat([scaled, (scaled.square() - 1) / 2**0.5], dim=1)
    order = fit[torch.from_numpy(np.random.default_rng(0).permutation(len(fit)))]
    labels = LabelSplit(order[torch.arange(len(order)) % HOLD_BACK > 0], order[::HOLD_BACK])
    targets = torch.where(of_first, 1.0, -1.0)[:, None]
    everywhere = torch.arange(len(rows))
    return fit_probes([ProbeInputs(inputs, labels)], targets, torch.zeros(1, dtype=torch.int64), everywhere).predicted[0, :, 0]


def confidence_interval(values: Tensor, sources: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Compute the t interval around the mean of values (n,), whose clips belong to sources (n,).

    Clips of one video are not independent, so sums of deviations by source are what varies: the cluster-robust variance
    of a mean, with as many degrees of freedom as sources but one. With a source of its own for every clip it is the textbook
    interval, with a single source it is infinite.
    """
    from scipy.stats import t

    index, counts = torch.unique(sources, return_inverse=True, return_counts=True)[1:]
    num_sources, values = len(counts), values.double()
    mean = values.mean()
    if num_sources < 2:
        return -math.inf, math.inf
    sums = torch.zeros(num_sources, dtype=torch.float64).index_add(0, index, values - mean)
    error = sums.square().sum().mul(num_sources / (num_sources - 1)).sqrt() / len(values)
    half = t.ppf(0.5 + confidence / 2, num_sources - 1) * error.item()
    return mean.item() - half, mean.item() + half
