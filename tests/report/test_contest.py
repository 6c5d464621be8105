from __future__ import annotations

import numpy as np
import pytest
from scipy.special import polygamma

from lam.report.stats.contest import adjust, compare_with_best, inverse_trigamma, moderate
from lam.report.stats.estimates import Replicates, paired_p_value
from lam.report.tables.layout import BEST, marks

CLIPS = 20


def made(rng: np.random.Generator, means: np.ndarray, seeds: int, spread: np.ndarray | float = 0.1) -> dict[str, Replicates]:
    """Rows of these means, which share their clips; ``spread`` is each row's standard deviation over seeds."""
    rows, share = {}, np.full(CLIPS, 1 / CLIPS)
    clips = rng.standard_normal((CLIPS, 1))
    for place, (mean, own) in enumerate(zip(means, np.broadcast_to(spread, means.shape), strict=True)):
        values = mean + clips + own * rng.standard_normal(seeds) + 0.3 * rng.standard_normal((CLIPS, seeds))
        left = np.concatenate([values.mean(0, keepdims=True), (values.sum(0) - values) / (CLIPS - 1)])
        rows[f"row{place}"] = Replicates(tuple(range(seeds)), left, share)
    return rows


@pytest.mark.parametrize("rows", [8, 16, 30])
def test_marks_of_equal_rows_are_wrong_in_one_case_of_twenty(rows):
    rng, wrong, bold = np.random.default_rng(0), 0, 0
    spread = 0.1 * np.exp(0.3 * rng.standard_normal(rows))
    for _ in range(80):
        found = marks(made(rng, np.zeros(rows), 3, spread), better=1)
        bold += BEST in found.values()
        wrong += BEST not in found.values() and len(found) < rows  # a row that is as good is called worse
    assert wrong / 80 <= 0.1  # without correction 0.39, 0.79, 0.94
    assert bold / 80 <= 0.05


def test_two_equal_rows_before_many_worse_ones_are_told_apart_in_one_case_of_twenty():
    rng = np.random.default_rng(0)
    means = np.array([0.0, 0.0, *[-3.0] * 8])
    found = [marks(made(rng, means, 3), better=1) for _ in range(150)]
    assert 0.01 <= np.mean([BEST in one.values() for one in found]) <= 0.1
    # rows far behind carry no mark, which a t quantile of 30 (2 degrees of freedom, 45 pairs) would give them
    assert np.mean([set(one) <= {"row0", "row1"} for one in found]) > 0.97


def test_a_better_row_of_many_is_found():
    rng = np.random.default_rng(0)
    means = np.array([0.6, *[0.0] * 11])
    found = [marks(made(rng, means, 3), better=1) for _ in range(60)]
    assert np.mean([one == {"row0": BEST} for one in found]) > 0.8


def test_with_one_seed_the_comparison_is_a_paired_t_test_over_clips():
    rows = list(made(np.random.default_rng(0), np.zeros(5), 1).values())
    p = compare_with_best(rows, 2)
    assert np.isnan(p[2])
    for place in (0, 1, 3, 4):
        assert p[place] == pytest.approx(paired_p_value(rows[2], rows[place]))
    np.testing.assert_allclose(adjust(np.array([np.nan, 0.001, 0.5])), [np.nan, 0.003, 1.0])


def test_variances_are_drawn_together_as_far_as_they_agree():
    rng = np.random.default_rng(0)
    found = moderate(rng.chisquare(2, 4000) / 2, 2)
    assert found.freedom > 20
    np.testing.assert_allclose(found.variance, 1.0, atol=0.35)
    truth = 1 / (rng.chisquare(4, 4000) / 4)  # a prior worth 4 degrees of freedom
    assert moderate(truth * rng.chisquare(2, 4000) / 2, 2).freedom == pytest.approx(6, rel=0.2)
    few = moderate(np.array([1.0, 4.0]), 2)
    assert (few.variance.tolist(), few.freedom) == ([1.0, 4.0], 2.0)


@pytest.mark.parametrize("x", [0.05, 1.0, 30.0])
def test_trigamma_is_inverted(x):
    assert inverse_trigamma(float(polygamma(1, x))) == pytest.approx(x)
