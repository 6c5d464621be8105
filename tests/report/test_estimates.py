from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from lam.report.stats.estimates import crossed_mean, half_width, p_value


def coverage(values: np.ndarray, truth: float) -> float:
    mean = crossed_mean(values)
    return float((np.abs(mean.value - truth) <= half_width(mean)).mean())


def crossed(rng: np.random.Generator, shape: tuple[int, int, int], clip: float, seed: float, rest: float) -> np.ndarray:
    problems, clips, seeds = shape
    return (
        clip * (rng.gamma(4, size=(problems, clips, 1)) / 2 - 2)  # errors of clips are skewed; variance 1, mean 0
        + seed * rng.standard_normal((problems, 1, seeds))
        + rest * rng.standard_normal(shape)
    )


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("rest", [0.3, 2.0])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 0.8, 0.95])
def test_intervals_cover_the_truth_whatever_share_of_the_variance_seeds_have(seeds, rest, share):
    rng, clips = np.random.default_rng(0), 50
    of_clips = 1 / clips + rest**2 / (clips * seeds)
    seed = np.sqrt(seeds * of_clips * share / (1 - share))
    values = 0.7 + crossed(rng, (3000, clips, seeds), clip=1.0, seed=seed, rest=rest)
    assert 0.92 <= coverage(values, 0.7) <= 0.98


def test_taking_clips_and_seeds_as_independent_would_not_cover():
    values = crossed(np.random.default_rng(0), (2000, 50, 3), clip=1.0, seed=0.3, rest=0.3)
    flat = crossed_mean(values.reshape(2000, 150, 1))
    assert (np.abs(flat.value) <= half_width(flat)).mean() < 0.6


def test_one_seed_gives_the_interval_of_a_t_test_over_clips_and_one_clip_that_over_seeds():
    y = np.random.default_rng(0).gamma(4, size=12)
    expected = stats.ttest_1samp(y, 0).confidence_interval(0.95)
    for values in (y[:, None], y[None, :]):
        mean = crossed_mean(values)
        np.testing.assert_allclose(mean.value - half_width(mean), expected.low)
        np.testing.assert_allclose(mean.value + half_width(mean), expected.high)
        np.testing.assert_allclose(p_value(mean), stats.ttest_1samp(y, 0).pvalue)


def test_the_variance_is_unbiased_where_no_component_is_cut_off():
    values = crossed(np.random.default_rng(0), (20000, 20, 4), clip=1.0, seed=1.0, rest=0.5)
    truth = 1 / 20 + 1 / 4 + 0.25 / 80
    np.testing.assert_allclose(np.square(crossed_mean(values).standard_error).mean(), truth, rtol=0.03)


def test_one_clip_and_one_seed_have_no_interval():
    mean = crossed_mean([[0.5]])
    assert mean.value == 0.5
    assert np.isnan(half_width(mean))
    assert np.isnan(p_value(mean))


def test_equal_values_have_an_interval_of_no_width():
    mean = crossed_mean(np.full((4, 3), 0.25))
    assert half_width(mean) == 0
    assert p_value(mean) == 0
    assert p_value(crossed_mean(np.zeros((4, 3)))) == 1


def test_the_paired_test_rejects_true_hypotheses_in_one_case_of_twenty():
    rng = np.random.default_rng(0)
    clips = rng.gamma(4, size=(4000, 40, 1))
    a, b = (clips + crossed(rng, (4000, 40, 3), 0.0, 0.05, 0.3) for _ in range(2))
    assert 0.02 <= (p_value(crossed_mean(a - b)) < 0.05).mean() <= 0.08
    # the same clips make a difference visible that is far inside the interval of either
    assert (p_value(crossed_mean(a - b + 0.3)) < 0.05).mean() > 0.6
    assert np.median(half_width(crossed_mean(a))) > 0.6
