from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from lam.report import report
from lam.report.cli import main
from lam.report.figures.catalogue import write_figures
from lam.report.stats.measures import ERROR_DRAWN
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.columns import main_columns
from lam.report.tables.hull import NOTHING
from lam.report.tables.layout import marks
from lam.report.tables.main import main_text, write_csv, write_markdown
from lam.runs.columns import Column

ERROR, GAIN, BITS = "eval/capacity/error", "eval/probe/gain/agent_dx", "eval/rate/bits_nominal"
LEVELS = {"none": 1.0, "identity": 0.2, "noisy@1e-2": 0.8, "noisy@1e-3": 0.4, "vq@4": 0.7, "vq@16": 0.6}
TABLES = {"table.csv", "results.csv", "table.md", "matched.csv", "matched.md", "report.html"}
CLIPS = 24
DIFFICULTY = np.random.default_rng(7).gamma(4, 0.25, CLIPS)


def errors(name: str, seed: int) -> np.ndarray:
    rng = np.random.default_rng([seed, list(LEVELS).index(name)])
    return LEVELS[name] * DIFFICULTY + 0.01 * rng.standard_normal(CLIPS) + 0.01 * rng.standard_normal()


def write_run(
    root: Path, name: str, seed: int, data_hash: str = "data1", shared_hash: str = "s", clips_a_source: int = 1, **more: float
) -> Path:
    folder = root / name / f"seed{seed}"
    folder.mkdir(parents=True)
    family, _, knob = name.partition("@")
    about = {
        "setting": root.name,
        "family": family,
        "knob": knob,
        "seed": seed,
        "config_hash": f"c-{name}",
        "shared_hash": shared_hash,
    }
    about |= {"evaluation_hash": "e", "data_hash": data_hash, "code_revision": "abc123"}
    value = errors(name, seed)
    metrics = dict.fromkeys((ERROR, ERROR_DRAWN), float(np.float32(value.mean())))
    metrics |= {GAIN: 1 - LEVELS[name] + 0.01 * seed, **more}
    if family == "vq":
        metrics |= {BITS: np.log2(float(knob)) - 0.1, "eval/usage/codes_used": 0.9}
    clips = pd.concat(
        pd.DataFrame({"position": np.arange(CLIPS, dtype=np.int64), "metric": key, "value": value})
        for key in (ERROR, ERROR_DRAWN)
    )
    clips["clip"] = [f"clip{i}" for i in clips["position"]]
    clips["source"] = [f"video{i // clips_a_source}" for i in clips["position"]]
    clips[["position", "clip", "source", "metric", "value"]].to_parquet(folder / "clips.parquet", index=False)
    (folder / "config.yaml").write_text("")
    (folder / "run.json").write_text(json.dumps(about))
    (folder / "metrics.json").write_text(json.dumps(metrics))
    return folder


def write_runs(root: Path, seeds: tuple[int, ...] = (0, 1, 2), **options: int) -> Path:
    for name in LEVELS:
        for seed in seeds:
            write_run(root, name, seed, **options)
    return root


def comparison(root: Path) -> Comparison:
    return Comparison(*read_runs(root))


def marked(found: Comparison, column: Column) -> dict[str, str]:
    rows = [row for row in found.rows if row.family not in found.references]
    return marks({row.name: found.replicates(row, column.key) for row in rows}, column.better)


def row_of(found: Comparison, name: str):
    return next(row for row in found.rows if row.name == name)


@pytest.fixture(scope="module")
def reported(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, bytes]]:
    root = write_runs(tmp_path_factory.mktemp("runs") / "wild")
    made = report(root)
    return root, {path.name: path.read_bytes() for path in made.files}


def test_a_second_call_changes_no_byte_and_prints_the_table_then_the_paths(reported, capsys):
    root, first = reported
    figures = {f"{name}.{kind}" for name in ("probe", "codes") for kind in ("png", "svg", "pdf")}
    assert set(first) == TABLES | figures
    main([str(root)])
    assert {path.name: path.read_bytes() for path in (root / "report").iterdir()} == first
    out = capsys.readouterr().out.splitlines()
    assert out[0] == NOTHING  # of bits
    assert out[2].startswith("bottleneck  knob  seeds  error")
    assert {Path(line).name for line in out[-8:]} == TABLES | {figure for figure in figures if figure.endswith("png")}


def test_figures_alone_leave_the_tables_as_they_are(tmp_path):
    root = write_runs(tmp_path / "wild", seeds=(0,))
    main(["--figures", str(root)])
    assert {path.suffix for path in (root / "report").iterdir()} == {".png", ".svg", ".pdf"}


def test_csv_has_one_line_a_row_and_the_fixed_columns(reported):
    root, _ = reported
    table = pd.read_csv(root / "report" / "table.csv", dtype={"knob": str}, keep_default_na=False, na_values=[""])
    keys = [ERROR, ERROR_DRAWN, GAIN, BITS, "eval/usage/codes_used", "gap_closed", "gap_closed_mean"]
    wanted = {"bottleneck", "knob", "seeds", "interval", *(key + end for key in keys for end in ("", "/low", "/high"))}
    assert set(table.columns) == wanted
    names = list(zip(table["bottleneck"], table["knob"].fillna(""), strict=True))
    # anchors first, families by name, knobs from the larger error to the smaller
    assert names == [("none", ""), ("identity", ""), ("noisy", "1e-2"), ("noisy", "1e-3"), ("vq", "4"), ("vq", "16")]
    assert (table["seeds"] == 3).all()
    assert (table["interval"] == "clips x seeds").all()
    line = table.set_index(["bottleneck", "knob"]).loc[("vq", "4")]
    per_seed = [errors("vq@4", seed).mean() for seed in range(3)]
    np.testing.assert_allclose(line[ERROR], np.mean(per_seed), rtol=1e-6)
    gains = [
        (errors("none", s) - errors("vq@4", s)).mean() / (errors("none", s) - errors("identity", s)).mean() for s in range(3)
    ]
    np.testing.assert_allclose(line["gap_closed"], np.mean(gains), rtol=1e-5)
    assert line["gap_closed/low"] < np.mean(gains) < line["gap_closed/high"]
    # no values of clips: a t interval over seeds
    low, high = stats.ttest_1samp([0.3, 0.31, 0.32], 0).confidence_interval(0.95)
    np.testing.assert_allclose([line[f"{GAIN}/low"], line[f"{GAIN}/high"]], [low, high], rtol=1e-6)
    assert np.isnan(table[BITS][0])


def test_markdown_has_provenance_and_no_date(reported):
    text = (reported[0] / "report" / "table.md").read_text()
    assert text.startswith("# wild\n\n18 runs, seeds 0, 1, 2; 24 held-out clips of 24 sources. Data `data1`, configs `")
    assert "code `abc123`" in text
    assert "| noisy      | 1e-3 | 3 " in text
    assert "clips and seeds, crossed" in text


def test_the_best_is_bold_where_a_test_separates_it(tmp_path):
    found = comparison(write_runs(tmp_path / "wild"))
    assert marked(found, Column(ERROR, "error", better=-1)) == {"noisy@1e-3": "best"}
    assert marked(found, Column("gap_closed", "gap", better=1)) == {"noisy@1e-3": "best"}
    assert marked(found, Column(ERROR, "error", better=0)) == {}
    assert "0.400 " not in main_text(found)  # what is shown is what was measured, not the level
    assert [line for line in main_text(found).splitlines() if "*" in line and line.startswith("noisy       1e-3")]


def test_rows_that_a_test_cannot_tell_apart_say_so(tmp_path, monkeypatch):
    monkeypatch.setitem(LEVELS, "vq@16", 0.401)
    found = comparison(write_runs(tmp_path / "wild"))
    assert marked(found, Column(ERROR, "error", better=-1)) == {"noisy@1e-3": "tied", "vq@16": "tied"}
    text = write_markdown(tmp_path / "table.md", found, []).read_text()
    assert [line.split("|")[1].split()[0] for line in text.splitlines() if line.startswith("|") and "≈" in line] == [
        "noisy",
        "vq",
    ]
    assert "**0." not in text.split("How to read it")[0].split("| gap closed")[0]


def test_one_seed_is_over_clips_and_what_cannot_be_tested_has_no_mark(tmp_path):
    found = comparison(write_runs(tmp_path / "wild", seeds=(0,)))
    cell = found.estimate(row_of(found, "vq@4"), ERROR)
    assert cell.over == "clips"
    np.testing.assert_allclose(cell.half, stats.t.ppf(0.975, CLIPS - 1) * stats.sem(errors("vq@4", 0)), rtol=1e-6)
    assert np.isnan(found.estimate(row_of(found, "vq@4"), GAIN).half)
    assert marked(found, Column(GAIN, "gain", better=1)) == {}


def test_runs_without_values_of_clips_still_have_gap_closed_over_seeds(tmp_path):
    root = write_runs(tmp_path / "wild")
    for path in root.glob("*/*/clips.parquet"):
        path.unlink()
    found = comparison(root)
    row = row_of(found, "vq@4")
    assert (found.estimate(row, ERROR).over, found.estimate(row, "gap_closed").over) == ("seeds", "seeds")
    gaps = [
        (errors("none", s) - errors("vq@4", s)).mean() / (errors("none", s) - errors("identity", s)).mean() for s in range(3)
    ]
    np.testing.assert_allclose(found.estimate(row, "gap_closed").half, stats.t.ppf(0.975, 2) * stats.sem(gaps), rtol=1e-4)
    assert marked(found, Column(ERROR, "error", better=-1)) == {"noisy@1e-3": "best"}


def test_clips_of_one_source_are_taken_together(tmp_path):
    found = comparison(write_runs(tmp_path / "wild", seeds=(0,), clips_a_source=4))
    cell = found.estimate(row_of(found, "vq@4"), ERROR)
    assert cell.over == "sources"
    means = errors("vq@4", 0).reshape(-1, 4).mean(axis=1)
    np.testing.assert_allclose(cell.half, stats.t.ppf(0.975, CLIPS // 4 - 1) * stats.sem(means), rtol=1e-6)


def test_clips_of_one_source_alone_have_no_interval_no_mark_and_a_note(tmp_path):
    found = comparison(write_runs(tmp_path / "wild", clips_a_source=CLIPS))
    cells = [found.estimate(row, key) for row in found.rows for key in (ERROR, GAIN, "gap_closed")]
    assert all(cell.defined and np.isnan(cell.half) for cell in cells)
    assert all(
        marked(found, Column(key, "", better=better)) == {} for key, better in ((ERROR, -1), (GAIN, 1), ("gap_closed", 1))
    )
    assert "All held-out clips are of one source" in write_markdown(tmp_path / "table.md", found, []).read_text()


def test_what_was_not_measured_is_said_with_its_reason_and_rows(tmp_path):
    root = write_runs(tmp_path / "wild")
    assert "Not measured" not in main_text(comparison(root))  # runs of earlier releases did not record it
    for folder in root.glob("*/seed*"):
        skipped = {"leakage": "needs two sources", "transfer": "needs two sources"}
        skipped |= {"probe": "needs labels"} if folder.parent.name.startswith("vq") else {}
        (folder / "skipped.json").write_text(json.dumps(skipped))
    for text in (main_text(comparison(root)), write_markdown(tmp_path / "table.md", comparison(root), []).read_text()):
        assert "Not measured by leakage, transfer: needs two sources." in text
        assert "Not measured by probe: needs labels (vq@16, vq@4)." in text


def test_missing_and_failed_seeds_are_counted_and_named(tmp_path):
    root = write_runs(tmp_path / "wild")
    shutil.rmtree(root / "vq@4" / "seed1")
    (root / "noisy@1e-2" / "seed2" / "metrics.json").unlink()
    (root / "autoencoder" / "checkpoints").mkdir(parents=True)
    found = comparison(root)
    assert {row.name: len(row.runs) for row in found.rows} == {
        "none": 3, "identity": 3, "noisy@1e-2": 2, "noisy@1e-3": 3, "vq@4": 2, "vq@16": 3,
    }  # fmt: skip
    assert found.unfinished == ["noisy@1e-2/seed2"]
    expected = [
        (errors("none", s) - errors("vq@4", s)).mean() / (errors("none", s) - errors("identity", s)).mean() for s in (0, 2)
    ]
    np.testing.assert_allclose(found.estimate(row_of(found, "vq@4"), "gap_closed").value, np.mean(expected), rtol=1e-5)
    text = write_markdown(tmp_path / "table.md", found, []).read_text()
    assert "Not finished, left out: noisy@1e-2/seed2." in text
    assert "Fewer seeds than other rows: noisy@1e-2, vq@4." in text


def test_without_a_reference_row_gap_closed_is_a_dash(tmp_path):
    root = write_runs(tmp_path / "wild", seeds=(0, 1))
    shutil.rmtree(root / "identity")
    found = comparison(root)
    assert "identity has no finished run" in write_markdown(tmp_path / "table.md", found, []).read_text()
    assert pd.read_csv(write_csv(tmp_path / "table.csv", found))["gap_closed"].isna().all()
    line = next(line for line in main_text(found).splitlines() if line.startswith("vq          4"))
    assert line.split()[6] == "–"


def test_reference_rows_that_are_not_apart_leave_gap_closed_undefined(tmp_path, monkeypatch):
    monkeypatch.setitem(LEVELS, "identity", 1.0)
    found = comparison(write_runs(tmp_path / "wild"))
    assert np.isnan(found.estimate(row_of(found, "vq@4"), "gap_closed").value)


def test_a_number_that_is_not_finite_is_missing(tmp_path):
    root = tmp_path / "wild"
    write_run(root, "vq@4", 0, extra=float("nan"))
    write_run(root, "vq@4", 1, extra=2.0)
    found = comparison(root)
    assert found.estimate(found.rows[0], "extra").value == 2.0


def test_rows_from_different_data_are_an_error_that_says_which(tmp_path):
    root = write_runs(tmp_path / "wild", seeds=(0,))
    write_run(root, "vq@16", 1, data_hash="data2")
    with pytest.raises(ValueError, match=r".*vq@16/seed1 was made from data data2, .*identity/seed0 from data data1"):
        main([str(root)])


def test_rows_that_differ_in_more_than_the_bottleneck_are_an_error(tmp_path):
    root = write_runs(tmp_path / "wild", seeds=(0,))
    write_run(root, "vq@16", 1, shared_hash="longer")
    with pytest.raises(ValueError, match=r"differ in more than the bottleneck"):
        main([str(root)])


def test_a_folder_without_runs_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no finished run"):
        report(tmp_path)


def test_clips_that_do_not_average_to_the_metric_are_an_error(tmp_path):
    folder = write_run(tmp_path / "wild", "none", 0)
    (folder / "metrics.json").write_text(json.dumps({ERROR: 0.123}))
    with pytest.raises(ValueError, match=r"error is 0\.123 in metrics\.json but its clips"):
        report(tmp_path / "wild")


def test_the_readable_table_shows_the_agent_first_and_six_causes_at_most(tmp_path):
    root = tmp_path / "wild"
    names = ["ball_dx", *(f"flicker_{i}" for i in range(4)), "pan_dx", "agent_x"]
    write_run(root, "none", 0, **{f"eval/probe/gain/{name}": 0.1 for name in names})
    write_run(root, "identity", 0, **{"eval/probe/r2_linear/agent_dx": 0.6})
    titles = [column.heading for column in main_columns(comparison(root))]
    gains = ["agent_dx", "pan_dx", "agent_x", "ball_dx", "flicker_0", "flicker_1"]
    assert titles == [
        "error",
        "error drawn",
        "gap closed",
        "gap closed, mean z",
        *(f"gain {name}" for name in gains),
        "R² of z agent_dx",
    ]


def test_figures_draw_only_what_there_is_and_remove_what_is_gone(tmp_path):
    root = tmp_path / "wild"
    write_run(root, "none", 0)
    (tmp_path / "codes.png").write_bytes(b"from an earlier call")
    assert write_figures(tmp_path, comparison(root)) == []
    assert not (tmp_path / "codes.png").exists()


def test_importing_the_report_is_cheap():
    code = "import lam.report, sys; assert not {'pandas', 'matplotlib', 'scipy', 'torch'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_no_part_of_the_report_needs_a_model():
    code = """
import importlib, pkgutil, sys
import lam.report
for module in pkgutil.walk_packages(lam.report.__path__, "lam.report."):
    importlib.import_module(module.name)
found = {"torch", "lightning", "lam.models", "lam.evals", "lam.control"} & set(sys.modules)
assert "lam.report.page" in sys.modules and not found, found
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
