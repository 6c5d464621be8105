import pytest
import torch
from sklearn.metrics import roc_auc_score

from lam.metrics.two_sample import cross_fitted_placements, placements


def draws(n, d, seed):
    return torch.randn(n, d, generator=torch.Generator().manual_seed(seed))


def halves(n):
    return torch.arange(n) % 2 == 0


def test_mean_placement_is_the_area_under_the_curve():
    first, second = (draws(60, 1, 0)[:, 0] + 0.5).round(decimals=1), draws(45, 1, 1)[:, 0].round(decimals=1)  # with ties
    expected = roc_auc_score([1] * 60 + [0] * 45, torch.cat([first, second]).numpy())
    assert placements(first, second).mean().item() == pytest.approx(expected)


def test_equal_distributions_cannot_be_told_apart():
    placed = cross_fitted_placements(draws(600, 8, 0), draws(600, 8, 1), halves(600), halves(600))
    assert placed.mean().item() == pytest.approx(0.5, abs=0.05)


def test_a_shift_is_found_as_well_as_theory_allows():
    first, second = draws(1000, 4, 0), draws(1000, 4, 1)
    first[:, 0] += 1.0
    best = torch.distributions.Normal(0.0, 1.0).cdf(torch.tensor(1 / 2**0.5)).item()  # of N(1, 1) against N(0, 1)
    placed = cross_fitted_placements(first, second, halves(1000), halves(1000))
    assert placed.mean().item() == pytest.approx(best, abs=0.04)


def test_a_difference_in_scale_alone_is_found():
    placed = cross_fitted_placements(0.3 * draws(400, 6, 0), draws(400, 6, 1), halves(400), halves(400))
    assert placed.mean().item() > 0.98


def test_constants_are_half_way():
    placed = cross_fitted_placements(torch.zeros(40, 3), torch.zeros(40, 3), halves(40), halves(40))
    assert (placed == 0.5).all()
