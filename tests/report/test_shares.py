"""Intervals of shares: Wilson's closed form of one seed, what they cover of several, and what tables show of them."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lam.metrics.wilson import wilson
from lam.report.stats.estimates import Replicates, combine, crossed_mean, half_width, stack
from lam.report.stats.shares import share_ends
from lam.report.tables.layout import format_estimate


@pytest.mark.parametrize(("hits", "trials"), [(0, 200), (1, 200), (7, 50), (36, 200), (100, 200), (200, 200)])
def test_one_seed_has_the_closed_form(hits, trials):
    expected = stats.binomtest(hits, trials).proportion_ci(0.95, method="wilson")
    np.testing.assert_allclose(wilson(hits / trials, trials), expected, rtol=1e-12, atol=1e-15)
    ends = share_ends(np.array([hits / trials]), trials, float("nan"), float("nan"))
    np.testing.assert_allclose(ends, expected, rtol=1e-12, atol=1e-15)


def ends_of(values: np.ndarray) -> tuple[float, float]:
    """Of episodes x seeds of 0 and 1, as the report computes them."""
    mean = crossed_mean(values)
    quantile = float(half_width(mean._replace(standard_error=np.array(1.0))))
    return share_ends(values.mean(0), len(values), float(mean.standard_error), quantile)


@pytest.mark.parametrize("rate", [0.04, 0.15, 0.5])
@pytest.mark.parametrize("of_seeds", [0.0, 0.3])
def test_several_seeds_in_the_same_episodes_are_covered(rate, of_seeds):
    """Episodes differ in how hard they are, seeds in how good they are; the truth is the mean over both."""
    rng, covered = np.random.default_rng(0), []
    logit = np.log(rate / (1 - rate))
    hard, good = rng.standard_normal(4000), of_seeds * rng.standard_normal(2000)
    truth = float((1 / (1 + np.exp(-(logit + hard[:, None] + good)))).mean())
    for _ in range(300):
        chance = 1 / (1 + np.exp(-(logit + rng.standard_normal((200, 1)) + of_seeds * rng.standard_normal((1, 3)))))
        low, high = ends_of((rng.random(chance.shape) < chance).astype(float))
        covered.append(low <= truth <= high)
    assert 0.91 <= np.mean(covered) <= 0.995


def test_taking_every_episode_of_every_seed_as_a_trial_would_not_cover():
    rng, covered = np.random.default_rng(0), []
    for _ in range(300):
        chance = rng.beta(2, 2, (1, 3))  # all is a matter of the seed
        low, high = wilson(float((rng.random((200, 3)) < chance).mean()), 600)
        covered.append(low <= 0.5 <= high)
    assert np.mean(covered) < 0.5


def test_where_all_ended_alike_more_seeds_tell_no_more_than_one():
    for share in (0.0, 1.0):
        assert ends_of(np.full((200, 3), share)) == wilson(share, 200)
    assert wilson(0.0, 200)[1] == pytest.approx(1.96**2 / (200 + 1.96**2), rel=1e-3)  # near 3.8 / n


def replicates(hits: int, trials: int = 40) -> Replicates:
    values = np.arange(trials) < hits
    left = (values.sum() - values) / (trials - 1)
    return Replicates((0,), np.append(values.mean(), left)[:, None], np.full(trials, 1 / trials), "episodes", trials)


def test_a_cell_of_a_share_has_both_ends():
    cell = replicates(4).estimate()
    assert cell.ends == wilson(0.1, 40)
    assert (cell.low, cell.high) == cell.ends
    assert format_estimate(cell, 2) == "0.10 (0.04–0.23)"
    assert format_estimate(replicates(0).estimate(), 2) == "0.00 (0.00–0.09)"


def test_differences_and_ratios_of_shares_are_no_shares():
    one, other = replicates(4), replicates(8)
    assert combine([other, one], np.subtract).estimate().ends is None
    assert stack([one, other]).trials == 40
