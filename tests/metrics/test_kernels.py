"""Kernel ridge regression on state and latent against scikit-learn's, and what its product is for."""

import pytest
import torch
from sklearn.kernel_ridge import KernelRidge

from lam.metrics import kernels
from lam.metrics.kernels import KernelInputs, fit_kernels
from lam.metrics.mlp import LabelSplit

N = 240
FIT, TEST = torch.arange(160), torch.arange(160, N)
LABELS = LabelSplit(FIT[FIT % 4 != 3], FIT[FIT % 4 == 3])
GENERATOR = torch.Generator().manual_seed(0)


def normal(*shape):
    return torch.randn(*shape, generator=GENERATOR)


def r2(predicted, target):
    return (1 - (predicted - target).square().sum() / (target - target.mean()).square().sum()).item()


def test_it_is_ridge_regression_with_a_product_of_kernels(monkeypatch):
    monkeypatch.setattr(kernels, "LENGTHS", (0.6,))
    monkeypatch.setattr(kernels, "LATENT_LENGTHS", ())
    monkeypatch.setattr(kernels, "PENALTIES", (0.1,))
    state, z, y = normal(N, 2).double(), normal(N, 3).double(), normal(N, 2)
    found = fit_kernels(KernelInputs(state, z=z), y, LABELS, torch.tensor([0, 1]), TEST)
    spread = 2 * state[LABELS.train].var(dim=0, correction=0).sum()
    kernel = torch.exp(-torch.cdist(state, state).square() / (2 * 0.6**2 * spread)) * (1 + z @ z.T / 3)
    for rows, test in ((torch.cat(LABELS), TEST), (LABELS.train, LABELS.held_back)):
        model = KernelRidge(alpha=0.1, kernel="precomputed").fit(kernel[rows][:, rows].numpy(), y[rows].numpy())
        expected = torch.from_numpy(model.predict(kernel[test][:, rows].numpy())).float()
        if test is TEST:
            torch.testing.assert_close(found.predicted, expected, atol=1e-4, rtol=1e-4)
        else:
            torch.testing.assert_close(found.loss, (expected - y[test]).square().mean(dim=0), atol=1e-4, rtol=1e-4)


def test_what_a_latent_means_may_depend_on_the_class_of_the_state():
    kind, z, noise = torch.arange(N) // 4 % 4, normal(N, 2), normal(N, 3)
    angle = kind * torch.pi / 2 + 0.3
    y = (angle.cos() * z[:, 0] + angle.sin() * z[:, 1])[:, None]
    both, alone = (
        fit_kernels(inputs, y, LABELS, torch.tensor([0]), TEST).predicted
        for inputs in (KernelInputs(noise, kind, z), KernelInputs(noise, None, z))
    )
    assert r2(both, y[TEST]) > 0.95
    assert r2(alone, y[TEST]) < 0.2


def test_noise_scores_about_zero():
    y = normal(N, 1)
    predicted = fit_kernels(KernelInputs(normal(N, 4), z=normal(N, 8)), y, LABELS, torch.tensor([0]), TEST).predicted
    assert r2(predicted, y[TEST]) == pytest.approx(0, abs=0.1)
