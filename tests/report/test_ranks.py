from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lam.report.tables.published import PUBLISHED_CONTROL
from lam.report.tables.ranks import Correlation, difference, rank_correlation, rank_grid, rank_sentence


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
    np.testing.assert_allclose(rank_correlation(x, y), [r, 7, *ends], atol=1e-4)


@pytest.mark.parametrize(
    ("x", "y", "value"),
    [([1, 2, 3], [1, 3, 2], 0.5), ([1, 2, 3, 4, 5], [1, 4, 9, 16, 25], 1.0), ([1, 1, 1, 1], [1, 2, 3, 4], np.nan)],
)
def test_nothing_certain_is_said_of_three_rows_perfect_agreement_or_no_spread(x, y, value):
    found = rank_correlation(x, y)
    np.testing.assert_allclose(found.value, value)
    assert np.isnan([found.low, found.high]).all()


@pytest.mark.parametrize(("data", "inferred", "controller"), [("DROID", 0.82, 0.52), ("RECON", 0.87, 0.54)])
def test_published_tables_give_the_coefficients_that_are_quoted(data, inferred, controller):
    rows = [one for one in PUBLISHED_CONTROL if one.data == data]
    planning = [one.planning for one in rows]
    assert len(rows) == 8
    assert rank_correlation([one.inferred for one in rows], planning).value == pytest.approx(inferred, abs=0.005)
    assert rank_correlation([one.controller for one in rows], planning).value == pytest.approx(controller, abs=0.005)


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


def made(follows: str) -> pd.DataFrame:
    """Twenty rows of two seeds whose planning error has the order of one error but for neighbors."""
    rng = np.random.default_rng(0)
    errors = {name: rng.permutation(20) / 20 for name in ("inferred", "controller", "capacity")}
    swapped = np.arange(20) + np.where(np.arange(20) % 2, -1, 1)
    planning = np.empty(20)
    planning[np.argsort(errors[follows])[swapped]] = np.arange(20)
    once = pd.DataFrame({"row": [f"r{i}" for i in range(20)], "planning": planning, **errors})
    # the second seed says the opposite more quietly, so that means keep the order of the first
    return pd.concat([once.assign(seed=0), once.assign(seed=1, planning=-0.5 * planning)])


@pytest.mark.parametrize("follows", ["inferred", "controller"])
def test_the_sentence_names_what_can_be_told_apart(follows):
    said = rank_sentence(made(follows))
    assert said.startswith("Told apart: error with inferred latents and controller error")
    sign = "+" if follows == "inferred" else "-"
    assert f"error with inferred latents less controller error {sign}" in said


def test_few_rows_are_not_told_apart():
    assert rank_sentence(made("inferred").groupby("seed").head(6)).startswith("6 rows do not tell them apart")
    assert rank_sentence(made("inferred").groupby("seed").head(3)).startswith("3 rows leave no intervals")


def test_rows_are_averaged_over_seeds_before_they_are_ranked():
    grid = rank_grid(made("inferred"))
    line = dict(zip(grid.headings, (text for text, _ in grid.rows[0]), strict=True))
    assert line["n rows"] == "20"
    assert line["over rows"].startswith("0.98")
    assert line["seed 0"].startswith("0.98")
    assert line["seed 1"].startswith("-0.98")
    assert (line["DROID, published"][:4], line["RECON, published"][:4]) == ("0.82", "0.87")
