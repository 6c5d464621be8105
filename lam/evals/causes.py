"""A known cause, as something that probes predict and are scored on."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from lam.metrics.scores import balanced_rows, r2_rows, recall_weights


class Cause(ABC):
    """One known cause of n transitions.

    Attributes:
        name: Its name in keys.
        score: What its probes are scored by, in keys: ``r2`` or ``accuracy``.
        columns: What a probe should say about each transition, (n, q) float32, about standardized.
    """

    score: str

    def __init__(self, name: str, columns: Tensor) -> None:
        self.name = name
        self.columns = columns.float()

    @abstractmethod
    def rows(self, predicted: Tensor, test: Tensor) -> Tensor:
        """What each test row (m,) adds to the score, (m,), of predicted columns (m, q)."""

    @abstractmethod
    def constant_rows(self, test: Tensor) -> Tensor:
        """What each test row adds to the score of the best answer that is always the same, (m,)."""

    @abstractmethod
    def bins(self) -> Tensor:
        """The cause as few symbols, (n,) int64."""


class Continuous(Cause):
    """A number, scored by R².

    Args:
        name: Its name in keys.
        values: The number at each transition, (n,).
        fit: Places of the transitions for fitting, which fix location and scale.
    """

    score = "r2"

    def __init__(self, name: str, values: Tensor, fit: Tensor) -> None:
        known = values[fit].double()
        super().__init__(name, ((values.double() - known.mean()) / known.std(correction=0))[:, None])

    def rows(self, predicted: Tensor, test: Tensor) -> Tensor:
        """Adds up to R²."""
        return r2_rows(predicted[:, 0], self.columns[test, 0])

    def constant_rows(self, test: Tensor) -> Tensor:
        """The mean of the test rows has R² 0."""
        target = self.columns[test, 0].double()
        return r2_rows(target.mean().expand_as(target), target)

    def bins(self) -> Tensor:
        """Eight bins of equal counts, fewer where values repeat."""
        values = self.columns[:, 0].contiguous()
        return torch.bucketize(values, torch.quantile(values, torch.linspace(0, 1, 9)[1:-1]).unique())


class Discrete(Cause):
    """One of several classes, scored by balanced accuracy, the mean recall over the classes that occur.

    The columns are the classes seen in fitting, 1 / frequency - 1 where a transition is of the class, else -1: what least
    squares says is then largest for the class whose odds rose most, which is the best answer for this score.

    Args:
        name: Its name in keys.
        values: The class at each transition, (n,) int64.
        fit: Places of the transitions for fitting.
    """

    score = "accuracy"

    def __init__(self, name: str, values: Tensor, fit: Tensor) -> None:
        self.values = values
        self.classes, counts = torch.unique(values[fit], return_counts=True)
        frequency = counts / counts.sum()
        columns = (values[:, None] == self.classes) / frequency - 1
        super().__init__(name, columns / columns[fit].std(correction=0))

    def rows(self, predicted: Tensor, test: Tensor) -> Tensor:
        """Adds up to the balanced accuracy."""
        return balanced_rows(self.classes[predicted.argmax(dim=1)], self.values[test])

    def constant_rows(self, test: Tensor) -> Tensor:
        """Any one class is right for one of the k classes: 1/k."""
        target = self.values[test]
        return recall_weights(target) / len(torch.unique(target))

    def bins(self) -> Tensor:
        """The classes themselves."""
        return self.values


def known_causes(labels: dict[str, Tensor], fit: Tensor, test: Tensor) -> list[Cause]:
    """The causes that vary both in fitting and in testing, in the order of their names.

    Args:
        labels: Labels by name, (n, ...): floating point is continuous, one cause for each component, named
            ``<name>_<component>`` where there are several; integers are discrete.
        fit: Places of the transitions for fitting.
        test: Places of the transitions for testing.
    """
    causes: list[Cause] = []
    for name, values in sorted(labels.items()):
        flat = values.flatten(1) if values.ndim > 1 else values[:, None]
        for component, column in enumerate(flat.unbind(dim=1)):
            if (column[fit] == column[fit[0]]).all() or (column[test] == column[test[0]]).all():
                continue
            full = name if flat.shape[1] == 1 else f"{name}_{component}"
            kind = Continuous if values.is_floating_point() else Discrete
            causes.append(kind(full, column, fit))
    return causes
