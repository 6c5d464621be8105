"""Ground-truth factors as targets of probes, and the scores of their predictions."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from lam.metrics.scores import balanced_accuracy_contributions, r2_contributions, recall_weights

MAX_COMPONENTS = 16
"""A continuous factor with more components is a field (the brightness of every patch), scored as one."""


class GroundTruthFactor(ABC):
    """Ground-truth factor of n transitions.

    Attributes:
        name: Its name in keys.
        label: Name of the label that it is, or is a component of.
        score: Name of its score in keys: ``r2`` or ``accuracy``.
        targets: Targets of a probe at each transition, (n, q) float32, about standardized.
    """

    score: str

    def __init__(self, name: str, targets: Tensor) -> None:
        self.name, self.label = name, name
        self.targets = targets.float()

    @abstractmethod
    def contributions(self, predicted: Tensor, test: Tensor) -> Tensor:
        """Compute what each test row (m,) adds to the score, (m,), of predicted targets (m, q)."""

    @abstractmethod
    def constant_contributions(self, test: Tensor) -> Tensor:
        """Compute what each test row adds to the score of the best constant prediction, (m,)."""

    @abstractmethod
    def bins(self) -> Tensor:
        """Return the factor as few symbols, (n,) int64."""


class ContinuousFactor(GroundTruthFactor):
    """Factor of one number or a field of numbers, scored by R², of a field the mean R² of its numbers.

    Args:
        name: Its name in keys.
        values: The numbers at each transition, (n, q), each varying among those for fitting and among those for testing.
        fit: Indices of the transitions for fitting, which fix location and scale.
    """

    score = "r2"

    def __init__(self, name: str, values: Tensor, fit: Tensor) -> None:
        known = values[fit].double()
        super().__init__(name, (values.double() - known.mean(dim=0)) / known.std(dim=0, correction=0))

    @override
    def contributions(self, predicted: Tensor, test: Tensor) -> Tensor:
        return r2_contributions(predicted, self.targets[test])

    @override
    def constant_contributions(self, test: Tensor) -> Tensor:
        target = self.targets[test].double()  # whose mean has R² 0
        return r2_contributions(target.mean(dim=0).expand_as(target), target)

    @override
    def bins(self) -> Tensor:
        # eight of equal counts, fewer where values repeat; of a field by the mean of its numbers
        values = self.targets.mean(dim=1)
        return torch.bucketize(values, torch.quantile(values, torch.linspace(0, 1, 9)[1:-1]).unique())


class DiscreteFactor(GroundTruthFactor):
    """Factor of several classes, scored by balanced accuracy, the mean recall over the classes that occur.

    The targets are the classes seen in fitting, 1 / frequency - 1 where a transition is of the class, else -1: the least
    squares prediction is then largest for the class whose odds rose most, which is the best answer for this score.

    Args:
        name: Its name in keys.
        values: The class at each transition, (n,) int64.
        fit: Indices of the transitions for fitting.
    """

    score = "accuracy"

    def __init__(self, name: str, values: Tensor, fit: Tensor) -> None:
        self.values = values
        self.classes, counts = torch.unique(values[fit], return_counts=True)
        frequency = counts / counts.sum()
        columns = (values[:, None] == self.classes) / frequency - 1
        super().__init__(name, columns / columns[fit].std(correction=0))

    @override
    def contributions(self, predicted: Tensor, test: Tensor) -> Tensor:
        return balanced_accuracy_contributions(self.classes[predicted.argmax(dim=1)], self.values[test])

    @override
    def constant_contributions(self, test: Tensor) -> Tensor:
        target = self.values[test]  # any one of k classes has balanced accuracy 1/k
        return recall_weights(target) / len(torch.unique(target))

    @override
    def bins(self) -> Tensor:
        return self.values


def ground_truth_factors(labels: dict[str, Tensor], fit: Tensor, test: Tensor) -> list[GroundTruthFactor]:
    """Make factors of the labels that vary both in fitting and in testing, in the order of their names.

    Args:
        labels: Labels by name, (n, ...). Integers are discrete factors. Floating point is continuous; of up to
            ``MAX_COMPONENTS`` components each is a factor, ``<name>_<component>``.
        fit: Indices of the transitions for fitting.
        test: Indices of the transitions for testing.
    """
    factors: list[GroundTruthFactor] = []
    for name, values in sorted(labels.items()):
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        varies = (flat[fit] != flat[fit[0]]).any(dim=0) & (flat[test] != flat[test[0]]).any(dim=0)
        if values.is_floating_point() and flat.shape[1] > MAX_COMPONENTS:
            factors += [ContinuousFactor(name, flat[:, varies], fit)] if varies.any() else []
            continue
        for component in varies.nonzero()[:, 0].tolist():
            full = name if flat.shape[1] == 1 else f"{name}_{component}"
            column = flat[:, component]
            factors.append(
                ContinuousFactor(full, column[:, None], fit)
                if values.is_floating_point()
                else DiscreteFactor(full, column, fit)
            )
            factors[-1].label = name
    return factors
