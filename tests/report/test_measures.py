from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.metrics.operational import operational_bits
from lam.report.stats.measures import GAP_CLOSED, GAP_CLOSED_MEAN, MEASURES
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.columns import flags, main_columns, text_columns
from tests.report import fake
from tests.report.fake import POINTS, write_setting


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_setting(tmp_path_factory.mktemp("runs") / "wild", ("none", "identity", "noisy", "vq"))


@pytest.fixture(scope="module")
def found(root: Path) -> Comparison:
    return Comparison(*read_runs(root))


def row_of(found: Comparison, name: str):
    return next(row for row in found.rows if row.name == name)


def mean(found: Comparison, name: str, seed: int, key: str) -> float:
    return float(row_of(found, name).runs[seed].clips[f"eval/{key}"].mean())


def test_ratios_are_of_means_within_each_seed_then_averaged(found):
    def over_seeds(formula):
        return np.mean([formula(lambda key, name="noisy@1e-3", seed=seed: mean(found, name, seed, key)) for seed in range(3)])

    expected = {
        "eval/leakage/ratio": over_seeds(lambda m: m("leakage/cut") / m("leakage/uncut")),
        "eval/leakage/share": over_seeds(lambda m: 1 - m("leakage/cut") / m("leakage/copy_cut")),
        "eval/leakage/relative": over_seeds(lambda m: m("leakage/cut") / m("leakage/cut", "none")),
        "eval/transfer/ratio": over_seeds(lambda m: m("transfer/cycle") / m("transfer/original")),
        "eval/transfer/ratio_floor": over_seeds(lambda m: m("transfer/floor") / m("transfer/original")),
        "eval/transfer/ratio_random": over_seeds(lambda m: m("transfer/random") / m("transfer/original")),
        "eval/transfer/normalized": over_seeds(
            lambda m: (m("transfer/cycle") - m("transfer/floor")) / (m("transfer/random") - m("transfer/floor"))
        ),
        **{
            key: over_seeds(lambda m, error=error: (m(error, "none") - m(error)) / (m(error, "none") - m(error, "identity")))
            for key, error in ((GAP_CLOSED, "capacity/error_drawn"), (GAP_CLOSED_MEAN, "capacity/error"))
        },
    }
    others = {f"eval/rate/bits_operational@{percent}" for percent in (1, 5, 10)} | {"eval/transfer/heading"}
    assert {key for key in MEASURES if not key.endswith("_drawn")} == set(expected) | others
    for key, value in expected.items():
        cell = found.estimate(row_of(found, "noisy@1e-3"), key)
        np.testing.assert_allclose(cell.value, value, rtol=1e-9)
        assert cell.over == "sources x seeds"
        assert 0 < cell.half < 0.2 * value


def test_a_ratio_is_known_better_than_its_parts_when_clips_differ_in_difficulty(found):
    row = row_of(found, "noisy@1e-3")
    cut, ratio = (found.estimate(row, f"eval/leakage/{key}") for key in ("cut", "ratio"))
    assert ratio.half / ratio.value < 0.3 * cut.half / cut.value


@pytest.mark.parametrize("percent", [1, 5, 10])
def test_operational_bits_are_where_the_hull_of_means_has_risen_by_a_part_of_the_gap(found, percent):
    each = []
    for seed in range(3):
        gap = mean(found, "none", seed, "capacity/error") - mean(found, "identity", seed, "capacity/error")
        points = [
            np.array([mean(found, "noisy@1e-3", seed, f"rate/point/{i:02d}/{of}") for i in range(POINTS)])
            for of in ("bits", "error")
        ]
        each.append(operational_bits(*points, mean(found, "noisy@1e-3", seed, "rate/unquantized") + percent / 100 * gap))
    cell = found.estimate(row_of(found, "noisy@1e-3"), f"eval/rate/bits_operational@{percent}")
    np.testing.assert_allclose(cell.value, np.mean(each))
    assert cell.half > 0


def test_none_costs_no_bits_and_looser_rows_cost_more(found):
    bits = [found.estimate(row, "eval/rate/bits_operational@5").value for row in found.rows if row.family != "vq"]
    assert bits[0] == 0
    assert (np.diff(bits[2:]) > 0).all()


def test_an_error_that_quantization_never_reaches_has_no_bits(found, root, tmp_path):
    for name in ("none", "identity", "noisy@1e-3"):
        for seed in range(3):
            folder = tmp_path / "wild" / name / f"seed{seed}"
            folder.mkdir(parents=True)
            for file in (root / name / f"seed{seed}").iterdir():
                (folder / file.name).write_bytes(file.read_bytes())
    path = tmp_path / "wild" / "noisy@1e-3" / "seed1" / "clips.parquet"
    lines = pd.read_parquet(path)
    lines = lines[
        ~lines["metric"].isin([f"eval/rate/point/{i:02d}/{of}" for i in range(1, POINTS) for of in ("bits", "error")])
    ]
    lines.to_parquet(path, index=False)
    short = Comparison(*read_runs(tmp_path / "wild"))
    assert not short.estimate(row_of(short, "noisy@1e-3"), "eval/rate/bits_operational@5").defined


def test_normalized_transfer_is_undefined_where_random_latents_do_no_harm(found):
    assert not found.estimate(row_of(found, "none"), "eval/transfer/normalized").defined
    assert found.estimate(row_of(found, "none"), "eval/transfer/ratio").defined


def test_a_logged_ratio_stands_where_its_parts_have_no_clips(root, tmp_path):
    folder = tmp_path / "wild" / "vq@4" / "seed0"
    folder.mkdir(parents=True)
    for file in ("run.json", "config.yaml"):
        (folder / file).write_bytes((root / "vq@4" / "seed0" / file).read_bytes())
    (folder / "metrics.json").write_text(json.dumps({"eval/leakage/ratio": 1.7, "eval/capacity/error": 0.5}))
    alone = Comparison(*read_runs(tmp_path / "wild"))
    assert alone.estimate(alone.rows[0], "eval/leakage/ratio").value == 1.7
    assert np.isnan(alone.estimate(alone.rows[0], "eval/leakage/ratio").half)


def test_paired_tests_of_ratios_see_what_intervals_of_errors_hide(found):
    tight, loose = row_of(found, "vq@4"), row_of(found, "vq@256")
    assert found.p_value(tight, loose, "eval/transfer/ratio") < 0.05
    assert found.p_value(tight, tight, "eval/transfer/ratio") == 1


def test_flags_name_what_evaluations_warn_of(found):
    assert flags(found, row_of(found, "none")) == "ignored, collapsed"
    assert flags(found, row_of(found, "noisy@1e-3")) == ""
    row = row_of(found, "vq@256")
    row.runs[1].metrics["eval/future/passed"] = 0.0
    row.runs[2].metrics["eval/leakage/copies"] = 1.0
    assert flags(found, row) == "copies (1 of 3), peeks (1 of 3)"
    row.runs[1].metrics["eval/future/passed"] = 1.0
    row.runs[2].metrics["eval/leakage/copies"] = 0.0


def test_published_ratios_stand_beside_the_ends_of_a_sweep(found):
    leakage = next(column for column in text_columns(found) if column.heading == "published leakage")
    said = {row.name: leakage.text(found, row) for row in found.rows}
    assert said == dict.fromkeys(said, "") | {
        "noisy@1e-1": "2.10 (low)",
        "noisy@1e-4": "2.50 (high)",
        "vq@4": "2.00 (low)",
        "vq@256": "2.30 (high)",
    }


def test_columns_that_no_row_has_are_left_out(found):
    titles = [column.heading for column in main_columns(found)]
    assert titles[:6] == ["error", "error drawn", "gap closed", "gap closed, mean z", "bits @5%", "nominal bits"]
    assert "transfer normalized" in titles
    for key in [key for key in found.keys if key.startswith("eval/sampling")]:
        found.keys.remove(key)
    assert "auc" not in [column.heading for column in main_columns(found)]


def test_an_error_near_nothing_is_no_denominator(tmp_path):
    """An exact copy has an error of 1e-7 on its own clip: its ratios are noise, however sure their intervals are."""
    root = fake.write_setting(tmp_path / "world", ("none", "identity"))
    for clips in root.glob("identity/seed*/clips.parquet"):
        frame = pd.read_parquet(clips)
        small = frame["metric"].isin(["eval/leakage/uncut", "eval/transfer/original"])
        frame.loc[small, "value"] = 1e-7
        frame.to_parquet(clips)
        path = clips.parent / "metrics.json"
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps(metrics | {"eval/leakage/uncut": 1e-7, "eval/transfer/original": 1e-7}))
    found = Comparison(*read_runs(root))
    for key in ("eval/leakage/ratio", "eval/transfer/ratio"):
        assert np.isfinite(found.estimate(found.references["none"], key).value)
        assert not np.isfinite(found.estimate(found.references["identity"], key).value)


def test_the_positive_control_is_shown_and_does_not_compete(tmp_path, monkeypatch):
    monkeypatch.setitem(fake.SWEEPS, "cuts", {"": 1.05})
    found = Comparison(*read_runs(fake.write_setting(tmp_path / "world", ("none", "identity", "cuts", "noisy"))))
    assert [row.name for row in found.rows][:3] == ["none", "identity", "cuts"]
    assert list(found.families) == ["noisy"] and "cuts" not in found.references
    assert "cuts" not in {row.name for row in found.unlabeled}  # those that compete, and over which ranks are correlated


def test_measures_of_what_passed_the_channel_are_the_same_of_its_own_terms():
    drawn = {key.removesuffix("_drawn") for key in MEASURES if key.endswith("_drawn")}
    assert {"eval/leakage/ratio", "eval/leakage/share", "eval/transfer/ratio", "eval/transfer/heading"} <= drawn
    for key in drawn - {GAP_CLOSED}:
        plain, other = MEASURES[key], MEASURES[f"{key}_drawn"]
        values = [np.array([2.0 + n]) for n in range(len(plain.terms))]
        assert plain.formula(*values) == other.formula(*values)
        for one, two in zip(plain.terms, other.terms, strict=True):
            shared = one.key.endswith(("copy_cut", "moved"))  # what no latent has a part in
            assert two.key == one.key + ("" if shared else "_drawn")
