import pytest
import torch
from sklearn.metrics import balanced_accuracy_score, r2_score

from lam.metrics.scores import balanced_rows, r2_rows, recall_weights


def test_r2_matches_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(50, 3, generator=generator)
    predicted = target + 0.5 * torch.randn(50, 3, generator=generator)
    assert r2_rows(predicted, target).sum().item() == pytest.approx(r2_score(target.numpy(), predicted.numpy()), abs=1e-6)


def test_balanced_accuracy_matches_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (60,), generator=generator).clamp(min=1)
    predicted = torch.where(torch.rand(60, generator=generator) < 0.4, 1, target)
    expected = balanced_accuracy_score(target.numpy(), predicted.numpy())
    assert balanced_rows(predicted, target).sum().item() == pytest.approx(expected)


def test_recall_weights_add_up_to_one():
    assert recall_weights(torch.tensor([0, 0, 0, 1])).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])
