"""Scores of predictions as sums over rows, so that a score has an interval over clips and two can be compared in pairs."""

from __future__ import annotations

import torch
from torch import Tensor


def r2_rows(predicted: Tensor, target: Tensor) -> Tensor:
    """What each row adds to the coefficient of determination, (m,), of predictions (m, q).

    The sum is R², averaged over the q columns.
    """
    predicted, target = predicted.double(), target.double()
    total = (target - target.mean(dim=0)).square().sum(dim=0)
    return (1 / len(target) - (predicted - target).square() / total).mean(dim=1)


def balanced_rows(predicted: Tensor, target: Tensor) -> Tensor:
    """What each row adds to the balanced accuracy, (m,), of predicted classes (m,); the sum is the mean recall."""
    return (predicted == target).double() * recall_weights(target)


def recall_weights(target: Tensor) -> Tensor:
    """What a right prediction of each row is worth in the balanced accuracy, (m,); they add up to 1."""
    _, place, counts = torch.unique(target, return_inverse=True, return_counts=True)
    return 1 / (len(counts) * counts[place].double())
