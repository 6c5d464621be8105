from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from lam.report.stats.correlation import rank_correlation
from lam.report.tables.published import PUBLISHED_CONTROL
from lam.report.tables.ranks import Ranked, rank_grid, rank_sentence


@pytest.mark.parametrize(("data", "inferred", "controller"), [("DROID", 0.82, 0.52), ("RECON", 0.87, 0.54)])
def test_published_tables_give_the_coefficients_that_are_quoted(data, inferred, controller):
    rows = [one for one in PUBLISHED_CONTROL if one.data == data]
    planning = [one.planning for one in rows]
    assert len(rows) == 8
    assert rank_correlation([one.inferred for one in rows], planning).value == pytest.approx(inferred, abs=0.005)
    assert rank_correlation([one.controller for one in rows], planning).value == pytest.approx(controller, abs=0.005)


def made(follows: str, rows: int = 20) -> Ranked:
    """Twenty rows of two seeds whose planning error has the order of one error but for neighbors."""
    rng = np.random.default_rng(0)
    errors = {name: rng.permutation(20) / 20 for name in ("inferred", "controller", "capacity")}
    swapped = np.arange(20) + np.where(np.arange(20) % 2, -1, 1)
    planning = np.empty(20)
    planning[np.argsort(errors[follows])[swapped]] = np.arange(20)
    once = pd.DataFrame({"row": [f"r{i}" for i in range(20)], "planning": planning, **errors})
    # the second seed says the opposite more quietly, so that means keep the order of the first
    table = pd.concat([each.head(rows) for each in (once.assign(seed=0), once.assign(seed=1, planning=-0.5 * planning))])
    means = table.groupby("row", sort=False)[["planning", *errors]].mean()
    return Ranked(table, means, {name: np.zeros((10, len(means))) for name in means})


@pytest.mark.parametrize("follows", ["inferred", "controller"])
def test_the_sentence_names_what_can_be_told_apart(follows):
    said = rank_sentence(made(follows))
    assert said.startswith("Told apart: error with inferred latents and controller error")
    sign = "+" if follows == "inferred" else "-"
    assert f"error with inferred latents less controller error {sign}" in said


def test_few_rows_are_not_told_apart():
    assert rank_sentence(made("inferred", rows=6)).startswith("6 rows do not tell them apart")
    assert rank_sentence(made("inferred", rows=3)).startswith("3 rows leave no intervals")


def test_rows_are_averaged_over_seeds_before_they_are_ranked():
    grid = rank_grid(made("inferred"))
    line = dict(zip(grid.headings, (text for text, _ in grid.rows[0]), strict=True))
    assert line["n rows"] == "20"
    assert line["over rows"].startswith("0.98")
    assert line["seed 0"].startswith("0.98")
    assert line["seed 1"].startswith("-0.98")
    assert (line["DROID, published"][:4], line["RECON, published"][:4]) == ("0.82", "0.87")
