"""Families trained to a level: what runs say, what is moved into the table, and real rows."""

import json
import sys
from pathlib import Path

import pytest

from lam.runs.errors import SettingsError
from lam.runs.provenance import read_provenance
from lam.runs.sweep.command import main
from lam.runs.sweep.knobs import Knob, knob_of
from lam.runs.sweep.matching import ERROR, Gap, MatchJob, adopt, match_family
from lam.runs.sweep.rows import MadeRow, RunSpec, RunStatus
from lam.runs.sweep.search import TOLERANCE
from tests.tiny import EXPERIMENTS, arguments, make_world

NONE, IDENTITY = 0.9, 0.1
HASHES = {"config_hash": "c", "shared_hash": "s", "evaluation_hash": "e", "data_hash": "d", "code_revision": "r"}
FLAG = {"key": "eval/usage/collapsed", "name": "collapsed", "value": 1.0, "explanation": "", "order": 1}


@pytest.fixture(autouse=True)
def _in_the_project(monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    monkeypatch.chdir(EXPERIMENTS.parent)


def write(folder: Path, row: str, seed: int, error: float, collapsed: bool = False, **hashes: str) -> Path:
    """A finished run, as far as the search reads it."""
    run = folder / row / f"seed{seed}"
    run.mkdir(parents=True, exist_ok=True)
    family, _, knob = Path(row).name.partition("@")
    setting = "/".join(["demo", *Path(row).parts[:-1]])
    about = {"setting": setting, "family": family, "knob": knob, "seed": seed, "hash_version": 3, **HASHES, **hashes}
    (run / "run.json").write_text(json.dumps(about))
    (run / "metrics.json").write_text(json.dumps({ERROR: error, FLAG["key"]: float(collapsed)}))
    (run / "columns.json").write_text(json.dumps({"columns": [], "flags": [FLAG]}))
    (run / "config.yaml").write_text(f"name: demo/{row}\n")
    return run


@pytest.fixture
def trained(tmp_path, monkeypatch) -> list[str]:
    """Rows that are asked for are written at once: noise closes 1 / (1 + beta / 0.01), and dies with seed 1 at 0.01."""
    made: list[str] = []

    def make(row: RunSpec, extra: tuple[str, ...] = ()) -> MadeRow:
        folder = tmp_path.joinpath(*row.name.split("/")[1:], f"seed{row.seed}")
        if folder.exists():
            return MadeRow(folder, RunStatus.FINISHED, "up to date")
        made.append(f"{row.name} {row.seed}")
        gap = {"none": 0.0, "identity": 1.0}.get(row.family) if not row.value else 1 / (1 + float(row.value) / 0.01)
        dead = row.seed == 1 and row.value == "0.01"
        write(tmp_path, "/".join(row.name.split("/")[1:]), row.seed, NONE - (NONE - IDENTITY) * gap, dead)
        return MadeRow(folder, RunStatus.TO_TRAIN, "trained")

    monkeypatch.setattr("lam.runs.sweep.matching.make_row", make)
    return made


@pytest.mark.parametrize(
    ("family", "knob", "start"),
    [("noisy", Knob("beta", False), "0.0001"), ("vq", Knob("num_codes", True), "16"), ("fsq", Knob("num_levels", True), "5")],
)
def test_a_knob_and_its_type_come_from_the_class(family, knob, start):
    assert knob_of(family) == (knob, start)


def test_a_family_without_a_knob_is_refused():
    with pytest.raises(SettingsError, match="identity has no knob"):
        knob_of("identity")
    with pytest.raises(SettingsError, match="Give families alone, not noisy:beta@1e-3"):
        main(["demo", "noisy:beta@1e-3", "--match", "0.5"])
    with pytest.raises(SettingsError, match="between 0 and 1"):
        main(["demo", "noisy", "--match", "50"])


def test_rows_are_searched_for_apart_and_the_one_that_matches_joins_the_table(tmp_path, trained, capsys):
    write(tmp_path, "noisy@1e-3", 0, NONE - (NONE - IDENTITY) / 1.1)
    write(tmp_path, "noisy@1", 0, NONE - (NONE - IDENTITY) / 101)
    said = match_family(MatchJob("demo", "noisy", (0.75,), (0, 2), 8)).splitlines()
    (row,) = (path.name for path in tmp_path.glob("noisy@*") if (path / "seed2").exists())
    closed = 1 / (1 + float(row.partition("@")[2]) / 0.01)
    assert abs(closed - 0.75) <= TOLERANCE
    assert said[1].startswith(f"noisy at 0.75: {row} closes {closed:.3f}; rows tried for it: ")
    assert (tmp_path / row / "seed0").exists() and not (tmp_path / "search" / row / "seed0").exists()
    about = read_provenance(tmp_path / row / "seed0" / "run.json")
    assert about.setting == "demo" and (tmp_path / row / "seed0" / "config.yaml").read_text() == f"name: demo/{row}\n"
    tried = [name for name in trained if "search" in name]
    assert capsys.readouterr().out.count("row ") >= len(tried) > 0

    trained.clear()  # a second time everything is there
    assert match_family(MatchJob("demo", "noisy", (0.75,), (0, 2), 8)).splitlines()[1].endswith("rows tried for it: 0")
    assert trained == []


def test_a_row_that_collapses_with_another_seed_is_no_match(tmp_path, trained):
    write(tmp_path, "noisy@0.01", 0, (NONE + IDENTITY) / 2)
    write(tmp_path, "noisy@1e-3", 0, NONE - (NONE - IDENTITY) / 1.1)
    write(tmp_path, "noisy@1", 0, NONE - (NONE - IDENTITY) / 101)
    said = match_family(MatchJob("demo", "noisy", (0.5,), (0, 1), 8)).splitlines()[1]
    assert "noisy@0.01 " not in said and (" closes 0.5" in said or " closes 0.4" in said)


def test_a_level_out_of_reach_is_one_line_with_the_nearest_row(tmp_path, trained):
    for text, gap in (("1", 0.1), ("2", 0.3), ("8", 0.31), ("32", 0.32)):
        write(tmp_path, f"residual@{text}", 0, NONE - (NONE - IDENTITY) * gap)
    said = match_family(MatchJob("demo", "residual", (0.9,), (0,), 8)).splitlines()
    assert len(said) == 2 and said[1].startswith("residual at 0.9: no row, ")
    assert said[1].endswith("nearest is residual@32 with 0.320") and "levels off" in said[1]


def test_runs_of_other_settings_are_left_out_and_those_without_the_error_are_named(tmp_path, trained, capsys):
    job = MatchJob("demo", "noisy", (0.5,), (0,), 8)
    gap = Gap.of(job, ())
    write(tmp_path, "noisy@1e-3", 0, 0.2, shared_hash="longer")
    assert gap.trials(job, Knob("beta", False)) == {}
    assert "other settings or data" in capsys.readouterr().out
    run = write(tmp_path, "noisy@1e-3", 0, 0.2)
    (run / "metrics.json").write_text('{"eval/capacity/error": 0.2}')
    with pytest.raises(SettingsError, match=r"noisy@1e-3/seed0 has no eval/capacity/error_drawn"):
        gap.trials(job, Knob("beta", False))


def test_a_gap_that_is_not_open_is_refused(tmp_path, trained):
    write(tmp_path, "none", 0, 0.5)
    write(tmp_path, "identity", 0, 0.6)
    with pytest.raises(SettingsError, match=r"identity does not predict better \(0.6\) than none \(0.5\)"):
        match_family(MatchJob("demo", "noisy", (0.5,), (0,), 8))


def test_a_row_of_the_table_is_not_replaced_by_one_of_a_search(tmp_path):
    write(tmp_path, "search/noisy@0.1", 0, 0.3)
    before = write(tmp_path, "noisy@0.1", 0, 0.4)
    adopt(tmp_path, "noisy@0.1/seed0", "demo")
    assert json.loads((before / "metrics.json").read_text())[ERROR] == 0.4


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_real_rows_are_trained_to_a_level(tmp_path, monkeypatch, capfd):
    def work(jobs, extra, _, make):  # in this process: others take longer to start than these rows to train
        for job in jobs:
            print(make(job, extra))
        return []

    monkeypatch.setattr("lam.runs.sweep.command.work", work)
    shards = make_world(tmp_path / "world")
    tiny = arguments(shards, tmp_path / "runs", steps=20)
    extra = [word for word in tiny if not word.startswith(("--config", "--name", "--trainer.enable"))]
    extra += ["--trainer.callbacks=[{class_path: Capacity}, {class_path: Usage}]", "--model.optimizer.adamw_lr=0.01"]
    command = ["demo", "residual", "--match", "0.5", "--max-runs", "2", "--seeds", "0", *extra]
    main(command)
    assert "residual at 0.5" in capfd.readouterr().out
    folder = tmp_path / "runs" / "demo"
    assert all((folder / name / "seed0" / "metrics.json").exists() for name in ("none", "identity"))
    rows = [path for path in folder.rglob("residual@*/seed0/run.json")]
    assert 1 <= len(rows) <= 2
    times = {path: path.stat().st_mtime_ns for path in rows}
    main(command)  # goes on from what is there
    assert all(path.stat().st_mtime_ns == time for path, time in times.items())
