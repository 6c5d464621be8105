"""Published systems beside the bottleneck table: whole recipes between two pairs of anchors."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.report import report
from lam.report.stats.measures import GAP_CLOSED
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.stats.systems import OWN_GAP_CLOSED, Systems, read_systems
from lam.report.tables.systems import systems_grid, systems_notes, write_systems
from lam.runs.columns import PARAMETERS
from tests.report.fake import write_run, write_setting

SHIFTS = {"none": 0.0, "identity": 0.1, "vq": 0.05}
"""What lapa's heads add to the error of each row: they predict worse where there is much to use."""


def shift(folder: Path, by: float) -> None:
    """Add to a run's error."""
    clips = pd.read_parquet(folder / "clips.parquet")
    clips.loc[clips["metric"].str.startswith("eval/capacity/error"), "value"] += by
    clips.to_parquet(folder / "clips.parquet", index=False)
    metrics = json.loads((folder / "metrics.json").read_text())
    metrics |= {key: value + by for key, value in metrics.items() if key.startswith("eval/capacity/error")}
    (folder / "metrics.json").write_text(
        json.dumps(metrics | {PARAMETERS + "heads": 303104.0, PARAMETERS + "bottleneck": 512.0})
    )


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = write_setting(tmp_path / "wild", ("none", "identity", "noisy"))
    for seed in range(3):
        for family, knob in (("none", ""), ("identity", ""), ("vq", "16")):
            shift(write_run(root / "systems" / "lapa", family, knob, seed), SHIFTS[family])
        for family, knob in (("none", ""), ("identity", ""), ("noisy", "1e-2")):
            write_run(root / "systems" / "adaworld", family, knob, seed)
    return root


def read(root: Path) -> Systems:
    found = read_systems(root, Comparison(*read_runs(root)))
    assert found is not None
    return found


def column(systems: Systems, heading: str) -> dict[str, str]:
    grid = systems_grid(systems)
    place = grid.headings.index(heading)
    return {" ".join(text for text, _ in row[:3]): row[place][0] for row in grid.rows}


def test_systems_do_not_mix_with_the_rows_of_the_setting(root):
    assert {run.family for run in read_runs(root)[0]} == {"none", "identity", "noisy"}
    assert [(row.system, row.bottleneck) for row in read(root).rows] == [
        *(("adaworld", name) for name in ("none", "identity", "noisy")),
        *(("lapa", name) for name in ("none", "identity", "vq")),
    ]


def test_gaps_are_read_between_both_pairs_of_anchors(root):
    systems = read(root)
    row = next(row for row in systems.rows if (row.system, row.bottleneck) == ("lapa", "vq"))
    errors = {
        (system, family): np.array([json.loads(path.read_text())["eval/capacity/error_drawn"] for path in sorted(found)])
        for system, folder in (("", root), ("lapa", root / "systems" / "lapa"))
        for family in ("none", "identity", "vq@16")
        if (found := list(folder.glob(f"{family}/seed*/metrics.json")))
    }
    of = errors["lapa", "vq@16"]
    for key, system in ((OWN_GAP_CLOSED, "lapa"), (GAP_CLOSED, "")):
        none, identity = errors[system, "none"], errors[system, "identity"]
        np.testing.assert_allclose(systems.replicates(row, key).means, (none - of) / (none - identity), rtol=1e-4)
    # the same row: closer to what its own heads can do than to what those of the setting can
    assert systems.replicates(row, OWN_GAP_CLOSED).means.mean() > systems.replicates(row, GAP_CLOSED).means.mean() + 0.02


def test_anchors_of_a_system_say_what_its_heads_can_do_and_do_not_compete(root):
    systems = read(root)
    own, shared = column(systems, "own gap closed"), column(systems, "gap closed")
    assert (own["lapa none –"], own["lapa identity –"]) == ("0.000", "1.000")
    assert shared["the setting's heads identity –"] == "1.000" and own["the setting's heads identity –"] == "–"
    assert float(shared["lapa identity –"].split()[0]) == pytest.approx(1 - 0.1 / 0.54, abs=0.03)
    marked = [row for row in systems_grid(systems).rows if row[1][0] in ("none", "identity") and any(mark for _, mark in row)]
    assert marked == []
    assert (
        column(systems, "parameters")["lapa vq 16"] == "303104" and column(systems, "parameters")["adaworld noisy 1e-2"] == "–"
    )


def test_the_report_writes_the_table_in_all_forms(root):
    made = report(root)
    assert "Published systems" in made.text
    folder = root / "report"
    lines = pd.read_csv(folder / "systems.csv", keep_default_na=False)
    assert list(lines["system"]) == ["", "", *["adaworld"] * 3, *["lapa"] * 3]
    assert {"eval/leakage/ratio", "eval/transfer/ratio", OWN_GAP_CLOSED, GAP_CLOSED} <= set(lines.columns)
    text = (folder / "systems.md").read_text()
    assert "own gap closed" in text and "whose model" in text and "| lapa " in text
    assert 'id="published-systems"' in (folder / "report.html").read_text()
    assert "lapa" not in (folder / "table.md").read_text()


def test_a_setting_without_systems_has_no_such_table(tmp_path):
    root = write_setting(tmp_path / "wild", ("none", "identity"), seeds=(0,))
    assert read_systems(root, Comparison(*read_runs(root))) is None
    (root / "report").mkdir()
    (root / "report" / "systems.md").touch()
    assert write_systems(root / "report", None) == [] and not (root / "report" / "systems.md").exists()


def test_a_system_on_other_data_or_steps_is_refused(root):
    for path in (root / "systems" / "lapa").glob("*/seed*/run.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"shared_hash": "longer"}))
    with pytest.raises(ValueError, match=r"systems/lapa/.* differ in data, steps, encoder"):
        read(root)


def test_an_anchor_that_is_missing_is_said(root):
    for path in (root / "systems" / "lapa" / "identity").glob("*/run.json"):
        path.unlink()
    systems = read(root)
    assert any(note.startswith("lapa: its own gap is not open") for note in systems_notes(systems))
    assert column(systems, "own gap closed")["lapa vq 16"] == "–" and column(systems, "gap closed")["lapa vq 16"] != "–"
