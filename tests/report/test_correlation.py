from __future__ import annotations

import numpy as np
import pytest

from lam.report.stats.correlation import (
    Correlation,
    difference,
    draw_errors,
    rank_correlation,
    uncertain_correlation,
)
from lam.report.stats.estimates import Replicates, crossed_mean
from lam.report.stats.jackknife import ONE_SOURCE, pseudo_values


def ranks(values: np.ndarray) -> np.ndarray:
    """Rank by counting: one more than the smaller ones, ties in the middle of theirs."""
    return np.array([(values < value).sum() + ((values == value).sum() + 1) / 2 for value in values])


@pytest.mark.parametrize("decimals", [6, 0])
def test_the_coefficient_is_pearsons_of_ranks_with_ties_in_the_middle(decimals):
    rng = np.random.default_rng(0)
    x = rng.normal(0, 2, 15).round(decimals)
    y = (x + rng.normal(0, 2, 15)).round(decimals)
    a, b = ranks(x) - ranks(x).mean(), ranks(y) - ranks(y).mean()
    found = rank_correlation(x, y)
    assert found.value == pytest.approx((a * b).sum() / np.sqrt((a**2).sum() * (b**2).sum()))
    assert found.n == 15


def test_the_interval_is_bonett_and_wrights():
    x, y = [1, 2, 3, 4, 5, 6, 7], [2, 1, 4, 3, 7, 5, 6]
    r = 1 - 6 * (1 + 1 + 1 + 1 + 4 + 1 + 1) / (7 * 48)  # squared differences of ranks, no ties
    z, error = 0.5 * np.log((1 + r) / (1 - r)), np.sqrt((1 + r * r / 2) / 4)
    ends = [(np.exp(2 * end) - 1) / (np.exp(2 * end) + 1) for end in (z - 1.96 * error, z + 1.96 * error)]
    np.testing.assert_allclose(rank_correlation(x, y)[:4], [r, 7, *ends], atol=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [([1, 2, 3], [1, 3, 2], 0.5), ([1, 2, 3, 4, 5], [1, 4, 9, 16, 25], 1.0), ([1, 1, 1, 1], [1, 2, 3, 4], np.nan)],
)
def test_nothing_certain_is_said_of_three_rows_perfect_agreement_or_no_spread(x, y, value):
    found = rank_correlation(x, y)
    np.testing.assert_allclose(found.value, value)
    assert np.isnan([found.low, found.high]).all()


def draws(correlations: tuple[float, float, float], n: int, times: int) -> np.ndarray:
    """Samples (times, n, 3) of normal variables 0, 1, 2 with correlations 01, 02, 12."""
    a, b, c = correlations
    root = np.linalg.cholesky(np.array([[1, a, b], [a, 1, c], [b, c, 1]]))
    return np.random.default_rng(0).standard_normal((times, n, 3)) @ root.T


@pytest.mark.parametrize("correlations", [(0.8, 0.5, 0.6), (0.3, 0.3, 0.9), (0.6, 0.1, 0.0)])
def test_intervals_of_coefficients_and_of_their_difference_cover_the_truth(correlations):
    truth = 6 / np.pi * np.arcsin(np.array(correlations) / 2)  # Spearman's of a normal pair
    one, apart = 0, 0
    samples = draws(correlations, 19, 500)
    for sample in samples:
        first, second = (rank_correlation(sample[:, 0], sample[:, k]) for k in (1, 2))
        low, high = difference(first, second, rank_correlation(sample[:, 1], sample[:, 2]).value)
        one += first.low <= truth[0] <= first.high
        apart += low <= truth[0] - truth[1] <= high
    assert 0.92 <= one / len(samples) <= 0.98
    assert 0.92 <= apart / len(samples) <= 0.985


def test_a_difference_turned_around_is_its_mirror():
    first, second = (
        rank_correlation(range(9), [1, 0, 2, 4, 3, 5, 7, 6, 8]),
        rank_correlation(range(9), [3, 0, 6, 1, 4, 8, 2, 7, 5]),
    )
    low, high = difference(first, second, 0.3)
    assert difference(second, first, 0.3) == pytest.approx((-high, -low))


@pytest.mark.parametrize("between", [0.0, 0.5, 0.9])
def test_coefficients_of_zero_differ_by_less_the_more_the_two_others_agree(between):
    zero = Correlation(0.0, 20, -0.4, 0.4)
    half = 0.4 * np.sqrt(2 * (1 - between))  # of a difference of two estimates with this correlation
    np.testing.assert_allclose(difference(zero, zero, between), [-half, half])


def observed(rng: np.random.Generator, n: int, truth: float, error: float) -> tuple[np.ndarray, ...]:
    """Normal pairs of this coefficient of Spearman's, seen with errors of this standard deviation, and draws of such errors."""
    pearson = 2 * np.sin(np.pi * truth / 6)
    x = rng.standard_normal(n)
    y = pearson * x + np.sqrt(1 - pearson**2) * rng.standard_normal(n)
    return tuple(one + error * rng.standard_normal(n) for one in (x, y)) + tuple(error * rng.standard_normal((2, 200, n)))


@pytest.mark.parametrize(("truth", "error"), [(0.0, 0.3), (0.8, 0.1), (0.8, 0.6), (0.95, 0.3)])
@pytest.mark.parametrize("n", [6, 10, 20])
def test_intervals_of_uncertain_rows_cover_the_coefficient_of_the_true_ones(n, truth, error):
    rng, new, old = np.random.default_rng(0), 0, 0
    for _ in range(100):
        x, y, errors_x, errors_y = observed(rng, n, truth, error)
        found, naive = uncertain_correlation(x, y, errors_x, errors_y), rank_correlation(x, y)
        new += found.low <= truth <= found.high
        old += naive.low <= truth <= naive.high
    assert new / 100 >= 0.93
    if (n, truth, error) in ((20, 0.8, 0.6), (20, 0.95, 0.3)):
        assert old / 100 < 0.8  # what an interval over rows alone makes of them


def test_rows_that_change_places_when_drawn_again_have_a_smaller_coefficient():
    x = np.array([0.0, 0.1, 0.2, 0.3, 1.0, 1.1])
    y = np.array([0.0, 0.1, 0.2, 0.3, 1.1, 1.0])
    errors = 0.15 * np.random.default_rng(0).standard_normal((2, 1000, 6))
    found = uncertain_correlation(x, y, *errors)
    assert rank_correlation(x, y).value == pytest.approx(0.94, abs=0.005)
    assert 0.6 < found.value < 0.85
    assert found.low < rank_correlation(x, y).low
    assert found.high > 0.99
    exact = uncertain_correlation(x, y, *np.zeros((2, 10, 6)))
    assert exact.value == pytest.approx(rank_correlation(x, y).value)


def test_unknown_errors_leave_no_interval():
    x, unknown = np.arange(6.0), np.full((10, 6), np.nan)
    found = uncertain_correlation(x, x[::-1] ** 2, np.zeros((10, 6)), unknown)
    assert (found.value, found.holds_zero, np.isnan(found.low)) == (-1.0, True, True)


def test_drawn_errors_have_the_standard_errors_of_the_means_and_share_clips():
    rng, n = np.random.default_rng(0), 30
    share, clips = np.full(n, 1 / n), rng.standard_normal((n, 1))
    rows = []
    for _ in range(5):
        values = clips + 0.3 * rng.standard_normal((n, 3)) + 0.1 * rng.standard_normal(3)
        left = np.concatenate([values.mean(0, keepdims=True), (values.sum(0) - values) / (n - 1)])
        rows.append([Replicates((0, 1, 2), left, share), Replicates((0, 1, 2), 2 * left, share)])
    first, second = draw_errors(rows)
    for place, (one, _) in enumerate(rows):
        expected = crossed_mean(pseudo_values(one.values, share)).standard_error
        assert first[:, place].std() == pytest.approx(float(expected), rel=0.12)
    np.testing.assert_allclose(second, 2 * first)  # both numbers of a row come from the same clips and seeds
    assert np.corrcoef(first.T)[0, 1] > 0.8  # of two rows from the same clips
    alone = [[Replicates((0,), np.ones((1, 1)))], [Replicates((0, 1), np.ones((1, 2)), unit=ONE_SOURCE)]]
    assert np.isnan(draw_errors(alone)[0]).all()
