from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lam.metrics.operational import operational_bits
from lam.report.stats.estimates import Replicates, combine, crossed_mean, half_width, paired_p_value, stack
from lam.report.stats.jackknife import MAX_GROUPS, ONE_SOURCE, Groups, group_sources, leave_one_out, pseudo_values
from lam.report.stats.matched import interpolate
from lam.report.stats.measures import GAP_CLOSED, MEASURES, OPERATIONAL


def coverage(values: np.ndarray, truth: float) -> float:
    mean = crossed_mean(values)
    return float((np.abs(mean.value - truth) <= half_width(mean)).mean())


def resampled(values: np.ndarray, groups: int) -> np.ndarray:
    """(P, n, S) to (P, 1 + G, S): the formula of leave_one_out for groups of equal size, all problems at once."""
    problems, n, seeds = values.shape
    sums = values.reshape(problems, groups, n // groups, seeds).sum(2)
    whole = sums.sum(1, keepdims=True)
    return np.concatenate([whole / n, (whole - sums) / (n - n // groups)], axis=1)


def means_of(values: np.ndarray, sources: list[str]) -> tuple[np.ndarray, np.ndarray]:
    groups = group_sources(pd.Series(sources))
    found = [leave_one_out(pd.DataFrame({"key": column}), groups) for column in values.T]
    return np.stack([one.values["key"] for one in found], axis=1), found[0].share["key"].to_numpy()


def test_the_simulation_resamples_as_the_report_does():
    values = np.random.default_rng(0).random((12, 2))
    found, _ = means_of(values, list("aaabbbcccddd"))
    np.testing.assert_allclose(found, resampled(values[None], 4)[0])


def test_lines_of_a_mean_are_its_sources_however_uneven():
    values = np.random.default_rng(0).standard_normal((7, 3))
    np.testing.assert_allclose(pseudo_values(*means_of(values, list("abcdefg"))), values)
    mean, counts = values.mean(axis=0), np.array([2, 1, 4])
    sums = np.stack([values[:2].sum(0), values[2], values[3:].sum(0)])
    expected = mean + (sums - counts[:, None] * mean) / (7 / 3)  # a cluster-robust variance is made of these
    np.testing.assert_allclose(pseudo_values(*means_of(values, list("aabcccc"))), expected)


def test_lines_of_gap_closed_agree_with_the_delta_method():
    none, row, identity = np.random.default_rng(0).random((3, 400, 2)) + np.array([2.0, 1.0, 0.0])[:, None, None]
    measure = MEASURES[GAP_CLOSED]
    groups = Groups(pd.Series(range(400)), "clips")
    parts = [
        np.stack([leave_one_out(pd.DataFrame({"k": column}), groups).values["k"] for column in values.T], axis=1)
        for values in (none, row, identity)
    ]
    found = pseudo_values(measure.formula(*parts), np.full(400, 1 / 400))
    gap = (none - identity).mean(axis=0)
    ratio = (none - row).mean(axis=0) / gap
    np.testing.assert_allclose(found.mean(axis=0), ratio)
    np.testing.assert_allclose(found, ratio + ((none - row) - ratio * (none - identity)) / gap, atol=2e-2)
    np.testing.assert_allclose(found.std(axis=0), (((none - row) - ratio * (none - identity)) / gap).std(axis=0), rtol=2e-2)


def test_groups_are_whole_sources_about_equal_and_fixed_by_name():
    rng = np.random.default_rng(0)
    names = np.repeat([f"video{i:04d}" for i in range(500)], rng.integers(1, 5, 500))
    groups = group_sources(pd.Series(names))
    assert (groups.unit, groups.num) == ("sources", MAX_GROUPS)
    assert groups.member.groupby(names).nunique().max() == 1
    sizes = groups.member.value_counts()
    assert sizes.min() > 0.7 * sizes.mean()
    assert sizes.max() < 1.3 * sizes.mean()
    shuffled = rng.permutation(len(names))
    assert (group_sources(pd.Series(names[shuffled], shuffled)).member.sort_index() == groups.member).all()
    one = group_sources(pd.Series(["one"] * 120))  # parts of a single video would pass for independent ones
    assert (one.unit, one.num) == (ONE_SOURCE, 1)


def test_a_clip_without_a_value_is_in_no_mean():
    clips = pd.DataFrame({"a": [1.0, np.nan, 3.0], "b": [1.0, 2.0, 6.0]})
    found = leave_one_out(clips, group_sources(pd.Series(["x", "y", "z"])))
    np.testing.assert_allclose(found.values["a"], [2.0, 3.0, 2.0, 1.0])
    np.testing.assert_allclose(found.share["a"], [0.5, 0, 0.5])
    assert len(pseudo_values(found.values[["a"]].to_numpy(), found.share["a"].to_numpy())) == 2


def test_clips_of_one_video_count_as_one_however_uneven():
    rng = np.random.default_rng(0)
    counts = np.tile([1, 2, 3, 6], 10)
    sources = [f"{i:02d}" for i in np.repeat(np.arange(40), counts)]
    clips = rng.standard_normal((300, 40, 1))[:, np.repeat(np.arange(40), counts)] + 0.5 * rng.standard_normal((300, 120, 3))
    found = np.stack([pseudo_values(*means_of(one, sources)) for one in clips])
    assert coverage(clips, 0.0) < 0.9
    assert 0.92 <= coverage(found, 0.0) <= 0.98


@pytest.mark.parametrize("seeds", [1, 3, 5])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.9])
def test_intervals_of_a_ratio_cover_the_truth(seeds, share):
    rng, problems, n, groups = np.random.default_rng(0), 2000, 120, 40
    difficulty = rng.gamma(4, 0.25, (problems, n, 1))
    clips = 0.3 / np.sqrt(n)
    seed = clips * np.sqrt(seeds * share / (1 - share)) if seeds > 1 else 0.0  # one seed speaks of that seed alone
    uncut = difficulty * (1 + 0.2 * rng.standard_normal((problems, n, seeds)))
    cut = 2.2 * difficulty * (1 + 0.3 * rng.standard_normal((problems, n, 1)) + 0.1 * rng.standard_normal((problems, n, seeds)))
    cut *= 1 + seed * rng.standard_normal((problems, 1, seeds))
    found = pseudo_values(resampled(cut, groups) / resampled(uncut, groups), np.full(groups, 1 / groups))
    assert 0.92 <= coverage(found, 2.2) <= 0.98


@pytest.mark.parametrize("seeds", [3, 5])
@pytest.mark.parametrize("wobble", [0.0, 0.03])
def test_intervals_at_matched_capacity_cover_the_truth(seeds, wobble):
    """Capacity and metric of two rows have noise of clips and seeds; the metric is 2 + gap, so that at 0.5 it is 2.5."""
    rng, problems, n, groups = np.random.default_rng(0), 2000, 60, 12
    truth = np.array([0.46, 0.55])
    difficulty = rng.gamma(4, 0.25, (problems, n, 1))
    none = difficulty + 0.05 * rng.standard_normal((problems, n, seeds))
    closed = truth[:, None, None, None] + wobble * rng.standard_normal((2, problems, 1, seeds))
    row = none - closed * difficulty + 0.2 * rng.standard_normal((2, problems, n, seeds))
    metric = 2 + closed + wobble * rng.standard_normal(closed.shape) + 0.3 * rng.standard_normal((2, problems, n, seeds))
    metric += 0.3 * rng.standard_normal((problems, n, 1))
    whole = resampled(difficulty, groups)
    x = np.stack([(resampled(none, groups) - resampled(one, groups)) / whole for one in row])
    y = np.stack([resampled(one, groups) for one in metric])
    found = interpolate(0.5, (x[0], x[1]), (y[0], y[1]))
    assert np.isfinite(found).all()
    assert 0.92 <= coverage(pseudo_values(found, np.full(groups, 1 / groups)), 2.5) <= 0.98


def test_combining_takes_shared_seeds_and_the_whole_only_where_a_part_has_no_clips():
    share = np.full(2, 0.5)
    first = Replicates((0, 1, 2), np.arange(9.0).reshape(3, 3), share)
    second = Replicates((1, 2), np.ones((3, 2)), share)
    both = combine([first, second], np.subtract)
    assert both.seeds == (1, 2)
    np.testing.assert_array_equal(both.values, first.values[:, 1:] - 1)
    logged = combine([first, Replicates((2,), np.array([[2.0]]))], np.divide)
    np.testing.assert_array_equal(logged.values, [[1.0]])
    assert logged.estimate().over == ""
    assert not combine([first, Replicates((0,), np.zeros((3, 1)), share)], np.divide).seeds  # 0 / 0 is no number
    np.testing.assert_array_equal(stack([second, first]).values[:, 0], [[np.nan, 1, 1], [0, 1, 2]])


@pytest.mark.parametrize("seeds", [3, 5])
def test_intervals_of_operational_bits_cover_the_truth(seeds):
    """They are cautious: 96 to 99 % in simulation, as the hull's corners move with every resample."""
    rng, problems, n, groups, percent = np.random.default_rng(0), 200, 60, 12, 5
    shares = np.linspace(0, 1, 7)
    bits, errors = 12 * shares, 0.3 + 0.4 * np.exp(-4 * shares)
    truth = operational_bits(bits, errors, errors[-1] + percent / 100 * 0.5)
    difficulty = rng.gamma(16, 1 / 16, (problems, n, 1))
    seed = 1 + 0.02 * rng.standard_normal((problems, 1, seeds))

    def measured(mean: float, clips: np.ndarray, noise: float) -> np.ndarray:
        return resampled(mean * clips + noise * rng.standard_normal((problems, n, seeds)), groups)

    none, identity = (measured(mean, difficulty, 0.05) for mean in (0.8, 0.3))
    x = np.stack([measured(mean, np.ones_like(difficulty) * seed, 0.1 * mean) for mean in bits])
    y = np.stack([measured(mean, difficulty * seed, 0.02) for mean in errors])
    found = MEASURES[f"{OPERATIONAL}{percent}"].formula(none, identity, y[-1], x, y)
    assert np.isfinite(found).all()
    assert coverage(pseudo_values(found, np.full(groups, 1 / groups)), truth) >= 0.92


def test_a_number_of_one_source_has_neither_interval_nor_test():
    first, second = (
        Replicates((0, 1, 2), np.array([values]), unit=ONE_SOURCE) for values in ([1.0, 1.1, 1.2], [2.0, 2.1, 2.2])
    )
    cell = combine([first, second], np.subtract).estimate()
    assert cell.value == pytest.approx(-1.0)
    assert (np.isnan(cell.half), cell.over) == (True, "")
    assert np.isnan(paired_p_value(first, second))
