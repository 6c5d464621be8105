"""Scores against scikit-learn, intervals against scipy and the report."""

import math

import pandas as pd
import pytest
import torch
from scipy import stats
from sklearn.metrics import balanced_accuracy_score, r2_score, roc_auc_score

from lam.metrics.scores import (
    balanced_accuracy_contributions,
    confidence_interval,
    cross_fitted_placements,
    placements,
    r2_contributions,
    recall_weights,
)
from lam.report.stats.estimates import crossed_mean, half_width
from lam.report.stats.jackknife import group_sources, leave_one_out, pseudo_values


def test_r2_matches_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(50, 3, generator=generator)
    predicted = target + 0.5 * torch.randn(50, 3, generator=generator)
    assert r2_contributions(predicted, target).sum().item() == pytest.approx(
        r2_score(target.numpy(), predicted.numpy()), abs=1e-6
    )


def test_balanced_accuracy_matches_scikit_learn():
    generator = torch.Generator().manual_seed(0)
    target = torch.randint(0, 4, (60,), generator=generator).clamp(min=1)
    predicted = torch.where(torch.rand(60, generator=generator) < 0.4, 1, target)
    expected = balanced_accuracy_score(target.numpy(), predicted.numpy())
    assert balanced_accuracy_contributions(predicted, target).sum().item() == pytest.approx(expected)


def test_recall_weights_add_up_to_one():
    assert recall_weights(torch.tensor([0, 0, 0, 1])).tolist() == pytest.approx([1 / 6, 1 / 6, 1 / 6, 1 / 2])


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


VALUES = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3


def test_with_every_clip_its_own_source_it_is_the_textbook_interval():
    expected = stats.t.interval(0.95, 29, loc=VALUES.mean().item(), scale=stats.sem(VALUES.numpy()))
    assert confidence_interval(VALUES, torch.arange(30)) == pytest.approx(expected)


def test_sources_of_uneven_size_are_treated_as_in_the_report():
    sources = torch.tensor([0] * 12 + [1] * 3 + [2] * 7 + [3] * 8)
    means = leave_one_out(pd.DataFrame({"value": VALUES.numpy()}), group_sources(pd.Series(sources.numpy())))
    half = half_width(crossed_mean(pseudo_values(means.values.to_numpy(), means.share["value"].to_numpy()))).item()
    low, high = confidence_interval(VALUES, sources)
    assert (low, high) == pytest.approx((VALUES.mean().item() - half, VALUES.mean().item() + half))


def test_clips_that_repeat_each_other_add_nothing():
    values, sources = VALUES.repeat_interleave(5), torch.arange(30).repeat_interleave(5)
    assert confidence_interval(values, sources) == pytest.approx(confidence_interval(VALUES, torch.arange(30)))


def test_one_source_tells_nothing_and_equal_values_everything():
    assert confidence_interval(VALUES, torch.zeros(30)) == (-math.inf, math.inf)
    assert confidence_interval(torch.zeros(5), torch.arange(5)) == (0, 0)
