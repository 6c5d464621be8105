from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.report.stats.hull import GAP_LEVELS, family_hulls
from lam.report.stats.matched import HULL_BITS, NARROW, NEAR, interpolate
from lam.report.stats.measures import GAP_CLOSED
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.matched import match_all, matched_grid, matched_text, write_matched_csv, write_matched_markdown
from tests.report import fake
from tests.report.fake import write_setting

RATIO = "eval/leakage/ratio_drawn"
TRAINED = {"4": 0.24, "16": 0.46, "32": 0.53, "64": 0.73, "256": 0.96}


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A code with rows at a quarter and three quarters, two close rows around a half, none at 0.9; noise with wide brackets."""
    monkeypatch.setitem(fake.SWEEPS, "vq", TRAINED)
    return write_setting(tmp_path / "wild", ("none", "identity", "noisy", "vq"))


def read(root: Path):
    found = Comparison(*read_runs(root))
    return found, match_all(found)


def at(matched, family: str, level: float):
    return next(one for one in matched if (one.family, one.level) == (family, level))


def test_a_trained_row_stands_for_its_family_as_it_is(root):
    found, matched = read(root)
    one = at(matched, "vq", 0.75)
    assert [row.name for row in one.rows] == ["vq@64"]
    closed = found.estimate(one.rows[0], GAP_CLOSED).value
    assert one.distance == closed - 0.75
    assert abs(one.distance) <= NEAR
    for key, replicates in one.replicates.items():
        if key != HULL_BITS:
            assert replicates.estimate() == found.estimate(one.rows[0], key)
    assert one.replicates[HULL_BITS].estimate() == family_hulls(found).bits_at("vq", 0.75).estimate()


def test_nothing_is_interpolated_over_a_wide_bracket(root, tmp_path):
    """On the code before, noise from 0.31 to 0.77 of the gap was interpolated to a half, and so on."""
    found, matched = read(root)
    closed = sorted(found.estimate(row, GAP_CLOSED).value for row in found.families["noisy"])
    assert closed[1] < 0.5 < closed[2]  # bracketed
    for family, level in (("noisy", 0.5), ("vq", 0.9)):
        one = at(matched, family, level)
        assert one.rows == ()
        assert one.name == ""
        assert not any(sample.seeds for key, sample in one.replicates.items() if key != HULL_BITS)
    text = write_matched_markdown(tmp_path / "matched.md", found, matched).read_text()
    line = next(line for line in text.splitlines() if line.startswith("| 50%") and "noisy" in line)
    assert [cell.strip() for cell in line.split("|")[3:5]] == ["–", "–"]
    assert {cell.strip() for cell in line.split("|")[6:-1]} == {"–"}
    table = pd.read_csv(write_matched_csv(tmp_path / "matched.csv", matched))
    lost = table[(table["bottleneck"] == "noisy") & (table["level"] == 0.5)]
    assert len(lost) == 1
    assert lost.filter(like="eval/").isna().all(axis=None)
    assert lost[HULL_BITS].notna().all()


def test_two_close_rows_around_a_level_are_interpolated_and_named(root, monkeypatch):
    monkeypatch.setattr("lam.report.stats.matched.NEAR", 0.01)
    found, matched = read(root)
    one = at(matched, "vq", 0.5)
    assert one.name == "16 … 32"
    below, above = one.rows
    gaps, ratios = ([found.estimate(row, key).value for row in (below, above)] for key in (GAP_CLOSED, RATIO))
    assert gaps[1] - gaps[0] < NARROW
    cell = one.replicates[RATIO].estimate()
    assert cell.value == pytest.approx(np.interp(0.5, gaps, ratios))
    assert cell.half > 0
    assert cell.over == "sources x seeds"


def test_interpolation_is_linear_in_the_means_and_exact_where_capacity_is_known():
    rng = np.random.default_rng(0)
    x = np.array([0.4, 0.6])[:, None, None] + 0.02 * rng.standard_normal((2, 5, 3))
    found = interpolate(0.5, tuple(x), tuple(3 - 2 * x))  # type: ignore[arg-type]
    np.testing.assert_allclose(found, 2.0)  # a function of capacity alone has no spread
    y = rng.random((2, 5, 3))
    low, high = x.mean(axis=2)
    expected = [np.interp(0.5, pair, each) for *pair, each in zip(low, high, y.mean(axis=2).T, strict=True)]
    np.testing.assert_allclose(interpolate(0.5, tuple(x), tuple(y)).mean(axis=1), expected)  # type: ignore[arg-type]


def test_collapsed_rows_stand_at_no_level(root):
    path = root / "vq@64" / "seed1" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"eval/usage/collapsed": 1.0}))
    _, matched = read(root)
    assert at(matched, "vq", 0.75).rows == ()
    assert at(matched, "vq", 0.25).name == "4"


def test_a_row_that_lacks_a_seed_stands_at_no_level(root):
    shutil.rmtree(root / "vq@64" / "seed2")
    _, matched = read(root)
    assert at(matched, "vq", 0.75).rows == ()
    assert at(matched, "vq", 0.25).replicates[RATIO].seeds == (0, 1, 2)


def test_a_seed_without_a_reference_row_is_left_out_and_the_others_stay(root):
    shutil.rmtree(root / "none" / "seed2")
    _, matched = read(root)
    assert at(matched, "vq", 0.75).replicates[HULL_BITS].seeds == (0, 1)
    assert at(matched, "vq", 0.75).name == "64"


def test_a_metric_that_one_seed_lacks_is_a_dash_alone(root):
    for path in (root).glob("vq@64/seed0/clips.parquet"):
        lines = pd.read_parquet(path)
        lines[~lines["metric"].str.startswith("eval/leakage")].to_parquet(path, index=False)
        metrics = path.parent / "metrics.json"
        metrics.write_text(metrics.read_text().replace("eval/leakage", "other/leakage"))
    _, matched = read(root)
    assert not at(matched, "vq", 0.75).replicates[RATIO].seeds
    assert at(matched, "vq", 0.75).replicates["eval/transfer/ratio_drawn"].seeds == (0, 1, 2)


def test_without_reference_rows_there_is_no_matched_table(root, tmp_path):
    shutil.rmtree(root / "identity")
    found, matched = read(root)
    assert matched_grid(found, matched) is None
    assert matched_text(found, matched) == ""
    text = write_matched_markdown(tmp_path / "matched.md", found, matched).read_text()
    assert "No family has a row within 0.03 of a level" in text
    assert "lam sweep --match" in text


def test_the_terminal_shows_the_level_at_which_most_families_stand(root):
    found, matched = read(root)
    lines = matched_text(found, matched).splitlines()
    level = max(GAP_LEVELS, key=[one.level for one in matched if one.rows].count)
    assert lines[0] == f"At equal gap closed, families with rows at {level:.0%}"
    assert [line.split()[0] for line in lines[1:3]] == ["gap", "closed"]
