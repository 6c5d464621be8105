from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.report.stats.matched import LEVELS, interpolate
from lam.report.stats.measures import BITS, GAP_CLOSED
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.matched import match_all, matched_grids, matched_text, write_matched_csv, write_matched_markdown
from tests.report.fake import write_setting

RATIO = "eval/leakage/ratio"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_setting(tmp_path / "wild", ("none", "identity", "noisy", "vq"))


def read(root: Path):
    found = Comparison(*read_runs(root))
    return found, match_all(found)


def at(matched, family: str, level: float, along: str = GAP_CLOSED):
    return next(one for one in matched[along] if (one.family, one.level) == (family, level))


def test_interpolation_is_linear_between_the_knobs_around_a_level():
    levels = np.array([0.1, 0.2, 0.3, 0.8, 0.9])
    found = interpolate(np.array([0.2, 0.4, 0.8]), np.array([1.0, 3.0, 7.0]), levels)
    np.testing.assert_allclose(found, [np.nan, 1, 2, 7, np.nan])


def test_knobs_out_of_order_are_pooled_as_isotonic_regression_pools_them():
    # 0.5 and 0.3 become 0.4, and their metrics 4
    capacity, metric = np.array([0.1, 0.5, 0.3, 0.8]), np.array([1.0, 3.0, 5.0, 8.0])
    np.testing.assert_allclose(interpolate(capacity, metric, np.array([0.25, 0.4, 0.6])), [2.5, 4, 6])


def test_one_known_knob_brackets_nothing_and_an_unknown_metric_stays_unknown():
    assert np.isnan(interpolate(np.array([0.5, np.nan]), np.array([1.0, 2.0]), np.array([0.5]))).all()
    found = interpolate(np.array([0.1, 0.5, 0.9]), np.array([np.nan, 2.0, 3.0]), np.array([0.3, 0.7]))
    np.testing.assert_allclose(found, [np.nan, 2.5])


def test_matched_numbers_are_interpolated_within_each_seed(root):
    found, matched = read(root)
    rows = found.families["noisy"]
    gaps, ratios = (np.stack([found.replicates(row, key).means for row in rows]) for key in (GAP_CLOSED, RATIO))
    for level in LEVELS[GAP_CLOSED]:
        expected = np.mean([np.interp(level, gap, ratio) for gap, ratio in zip(gaps.T, ratios.T, strict=True)])
        cell = at(matched, "noisy", level).replicates[RATIO].estimate()
        np.testing.assert_allclose(cell.value, expected)
        assert cell.half > 0
        assert cell.over == "sources x seeds"
    assert at(matched, "noisy", 0.5).between == "1e-2 … 1e-3"


def test_a_level_that_a_family_never_reaches_is_a_dash_not_an_extrapolation(root, tmp_path):
    found, matched = read(root)
    assert at(matched, "vq", 0.25).replicates[RATIO].seeds == (0, 1, 2)
    for level in (0.5, 0.75, 0.9):
        assert at(matched, "vq", level).between == ""
        assert not any(sample.seeds for sample in at(matched, "vq", level).replicates.values())
    text = write_matched_markdown(tmp_path / "matched.md", found, matched).read_text()
    line = next(line for line in text.splitlines() if line.startswith("| 75%") and "vq" in line)
    assert set(line.split("|")[3:-1]) - {""} and all(cell.strip() == "–" for cell in line.split("|")[3:-1])
    table = pd.read_csv(write_matched_csv(tmp_path / "matched.csv", matched))
    lost = table[(table["bottleneck"] == "vq") & (table["along"] == GAP_CLOSED) & (table["level"] > 0.4)]
    assert len(lost) == 3
    assert lost.filter(like="eval/").isna().all(axis=None)


def test_a_dash_wherever_one_seed_fails_to_bracket(root):
    shutil.rmtree(root / "noisy@1e-3" / "seed1")
    shutil.rmtree(root / "noisy@1e-4" / "seed1")
    _, matched = read(root)
    assert at(matched, "noisy", 0.25).replicates[RATIO].seeds == (0, 1, 2)
    assert at(matched, "noisy", 0.5).replicates[RATIO].seeds == ()


def test_a_seed_that_lacks_one_knob_is_interpolated_between_its_others(root):
    shutil.rmtree(root / "noisy@1e-3" / "seed1")
    (root / "vq@64" / "seed2" / "metrics.json").unlink()
    found, matched = read(root)
    assert found.unfinished == ["vq@64/seed2"]
    one = at(matched, "noisy", 0.5)
    assert one.replicates[RATIO].seeds == (0, 1, 2)
    assert one.between == "1e-2 … 1e-4"
    assert at(matched, "vq", 0.25).replicates[RATIO].seeds == (0, 1, 2)


def test_a_seed_without_a_reference_row_is_left_out_and_the_others_stay(root):
    shutil.rmtree(root / "none" / "seed2")
    _, matched = read(root)
    assert at(matched, "noisy", 0.5).replicates[RATIO].seeds == (0, 1)
    assert at(matched, "noisy", 4.0, BITS).replicates[RATIO].seeds == (0, 1)


def test_a_metric_that_one_seed_lacks_is_a_dash_alone(root):
    for path in (root).glob("noisy@*/seed0/clips.parquet"):
        lines = pd.read_parquet(path)
        lines[~lines["metric"].str.startswith("eval/leakage")].to_parquet(path, index=False)
        metrics = path.parent / "metrics.json"
        metrics.write_text(metrics.read_text().replace("eval/leakage", "other/leakage"))
    _, matched = read(root)
    assert not at(matched, "noisy", 0.5).replicates[RATIO].seeds
    assert at(matched, "noisy", 0.5).replicates["eval/transfer/ratio"].seeds == (0, 1, 2)


def test_without_reference_rows_there_is_no_matched_table(root, tmp_path):
    shutil.rmtree(root / "identity")
    found, matched = read(root)
    assert matched_grids(found, matched) == {}
    assert matched_text(found, matched) == ""
    assert "No family brackets any level" in write_matched_markdown(tmp_path / "matched.md", found, matched).read_text()


def test_the_terminal_shows_the_level_that_most_families_reach(root):
    lines = matched_text(*read(root)).splitlines()
    assert lines[0] == "At equal gap closed, families that bracket 25%"
    assert [line.split()[1] for line in lines[3:5]] == ["noisy", "vq"]
