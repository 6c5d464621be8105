"""The Makefile: what is typed is plain before a shell sees it, settings inherit, and make -n trains nothing."""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MINE = "extends: {base}.yaml\ndata:\n  shards: shards/mine\n"

pytestmark = pytest.mark.skipif(shutil.which("make") is None, reason="no make on this machine")


@pytest.fixture
def project(tmp_path) -> Path:
    """A checkout whose commands only note that they were called."""
    shutil.copyfile(ROOT / "Makefile", tmp_path / "Makefile")
    shutil.copytree(ROOT / "experiments", tmp_path / "experiments", ignore=shutil.ignore_patterns("*.png", "*.md"))
    for name in ("pyproject.toml", "constraints.txt"):
        (tmp_path / name).touch()
    commands = tmp_path / ".venv" / "bin"
    commands.mkdir(parents=True)
    for name in ("lam", "data_prep", "python", "pip"):
        (commands / name).write_text(f'#!/bin/sh\necho {name} "$@" >> "{tmp_path}/called.txt"\nexit ${{STATUS:-0}}\n')
        (commands / name).chmod(0o755)
    (tmp_path / "shards" / "demo").mkdir(parents=True)
    for name in (".venv/.installed", "shards/demo/index.json"):
        (tmp_path / name).touch()
    return tmp_path


def make(project: Path, *words: str, **environment: str) -> tuple[int, str]:
    """Run make; return its status and all that it said."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "SLURM"))}
    done = subprocess.run(
        ["make", *words], cwd=project, env={**clean, **environment}, capture_output=True, text=True, timeout=60, check=False
    )
    return done.returncode, done.stdout + done.stderr


def called(project: Path) -> list[str]:
    note = project / "called.txt"
    return note.read_text().splitlines() if note.exists() else []


@pytest.mark.parametrize(
    "target", ["table", "demo", "matched", "systems", "texture", "data-quality", "mixing", "report", "results"]
)
def test_make_n_calls_nothing(project, target):
    (project / "shards" / "arm").mkdir()
    (project / "shards" / "arm" / "index.json").touch()
    status, said = make(project, "-n", target)
    assert status == 0, said
    assert called(project) == [] and "lam " in said
    if target != "report" and target != "results":
        assert "lam sweep" in said or "lam series" in said or "table" in said


HOSTILE = ["demo; touch X", "$(shell touch X)", "`touch X`", "demo\ntouch X", "1\t2", "demo' X", 'demo" X', "a|b", "a&b", "a>X"]
HOSTILE += ["a\\b", "é"]


@pytest.mark.parametrize(
    ("name", "value"),
    [("ROWS", value) for value in HOSTILE]
    + [(name, value) for name in ("SETTING", "SEEDS", "STEPS", "LABELS_demo", "PYTHON", "ANYTHING") for value in HOSTILE[:2]],
)
def test_values_that_are_not_plain_are_refused(project, name, value):
    status, said = make(project, "table", f"{name}={value}")
    assert status != 0 and f"{name} is not plain" in said
    assert not (project / "X").exists() and called(project) == []
    if name != "ANYTHING":  # a variable of the environment that nothing here reads may be what it likes
        status, said = make(project, "table", **{name: value})
        assert status != 0 and f"{name} is not plain" in said
        assert not (project / "X").exists() and called(project) == []


def test_the_check_itself_cannot_be_changed_from_outside(project):
    status, said = make(project, "table", "PLAIN=;", "check=", "SETTING=demo;touch X")
    assert status != 0 and not (project / "X").exists(), said


def test_values_that_are_plain_reach_the_command(project):
    rows = "none lapa/nsvq:num_codes@8 noisy:beta@1e-4"
    status, said = make(project, "table", "SEEDS=0 1 2", f"ROWS={rows}", "JOBS=3", "STEPS=20")
    assert status == 0, said
    assert called(project)[0] == f"lam sweep demo {rows} --seeds 0 1 2 --jobs 3 --trainer.max_steps=20"


def rows(project: Path, setting: str) -> list[str]:
    status, said = make(project, "-n", "table", f"SETTING={setting}", "JOBS=1")
    assert status == 0, said
    line = next(line for line in said.splitlines() if "lam sweep" in line)
    return line.partition(f"lam sweep {setting} ")[2].partition(" --seeds")[0].split()


@pytest.mark.parametrize("base", ["arm", "demo", "bridge", "pusht", "wild"])
def test_a_setting_of_ones_own_has_the_rows_of_the_one_that_it_extends(project, base):
    (project / "experiments" / "mine.yaml").write_text(MINE.format(base=base))
    (project / "experiments" / "again.yaml").write_text(MINE.format(base="mine"))
    expected = [row for row in rows(project, base) if row != "actions"]  # whose label budgets are those of its own data
    assert rows(project, "mine") == rows(project, "again") == expected
    sweeps = project / "experiments" / "sweeps.mk"
    sweeps.write_text(sweeps.read_text() + "SWEEP_vq_mine := 5 7\n")
    assert [row for row in rows(project, "mine") if row.startswith("vq")] == ["vq:num_codes@5", "vq:num_codes@7"]
    assert [row for row in rows(project, "again") if row.startswith("vq")] == ["vq:num_codes@5", "vq:num_codes@7"]


def test_a_copy_of_a_setting_has_a_table_of_an_evening_and_no_large_codebooks(project):
    shutil.copyfile(project / "experiments" / "wild.yaml", project / "experiments" / "mine.yaml")
    assert rows(project, "mine") == rows(project, "wild")
    assert len(rows(project, "mine")) == 22
    assert max(int(row.partition("@")[2]) for row in rows(project, "mine") if "num_codes" in row) == 64


def test_settings_that_extend_each_other_in_a_circle_end(project):
    (project / "experiments" / "one.yaml").write_text(MINE.format(base="two"))
    (project / "experiments" / "two.yaml").write_text(MINE.format(base="one"))
    assert len(rows(project, "one")) == 22


def test_an_unknown_setting_fails_at_once_and_names_those_that_there_are(project):
    status, said = make(project, "table", "SETTING=dmeo")
    assert status != 0 and "No setting dmeo" in said and " demo " in said and " base" not in said.partition("There are:")[2]
    assert called(project) == []
    (project / "runs" / "elsewhere").mkdir(parents=True)  # rows of models that were trained elsewhere
    assert make(project, "report", "SETTING=elsewhere")[0] == 0


@pytest.mark.parametrize(("status", "calls"), [("143", 1), ("130", 1), ("2", 1), ("1", 3)])
def test_a_sweep_that_was_stopped_or_refused_ends_the_table(project, status, calls):
    assert make(project, "table", "LABELS=64", STATUS=status)[0] != 0
    assert len(called(project)) == calls


def test_clean_leaves_runs_and_shards(project):
    (project / "runs" / "demo").mkdir(parents=True)
    (project / ".ruff_cache").mkdir()
    assert make(project, "clean")[0] == 0
    assert (project / "runs" / "demo").exists() and (project / "shards" / "demo" / "index.json").exists()
    assert not (project / ".ruff_cache").exists()


def test_states_of_a_setting_are_made_of_its_own_video_first(project):
    (project / "shards" / "mine").mkdir()
    (project / "shards" / "mine" / "index.json").touch()
    (project / "experiments" / "own.yaml").write_text("extends: pusht.yaml\ndata:\n  shards: shards/mine-keypoints\n")
    status, said = make(project, "-n", "table", "SETTING=own", "ROWS=none")
    assert status == 0, said
    commands = [line.removeprefix(".venv/bin/") for line in said.splitlines() if line.startswith(".venv/bin/")]
    assert commands[0].startswith(
        "lam encoder fit --config experiments/keypoints.yaml --data.shards shards/mine --name encoder/mine-keypoints"
    )
    assert commands[1] == (
        "data_prep features shards/mine shards/mine-keypoints --encoder experiments/encoders/keypoints.yaml "
        "--encoder.path runs/encoder/mine-keypoints/seed0"
    )
    assert commands[2].startswith("lam sweep own none")
    assert "rm " not in said  # what is in between is kept


def test_the_rooms_are_one_command_without_packages_of_simulators(project):
    status, said = make(project, "-n", "table", "SETTING=rooms", "JOBS=1")
    assert status == 0, said
    commands = [line.removeprefix(".venv/bin/") for line in said.splitlines() if line.startswith(".venv/bin/")]
    assert commands[0] == "data_prep sim rooms shards/rooms --config experiments/simulators/rooms.yaml"
    steps = ["lam encoder fit", "data_prep features", "lam sweep rooms", "lam control sweep rooms", "lam control oracle"]
    assert [one for one, step in zip(commands[1:], steps, strict=True) if not one.startswith(step)] == []
    found = rows(project, "rooms")
    assert found[:2] == ["none", "identity"] and found[-1] == "actions" and not any(row.startswith("fsq") for row in found)
    assert "pip install" not in said
    said = make(project, "-n", "table", "SETTING=pusht")[1]
    assert "[dev,sim]" in said
    assert "cuts" not in make(project, "-n", "table", "SETTING=rooms", "FAMILIES=vq")[1]


def test_recordings_of_better_and_worse_policies_are_tables_of_the_same_simulator(project):
    status, said = make(project, "-n", "data-quality", "JOBS=1")
    assert status == 0, said
    assert {"quality-0", "quality-0.3", "quality-0.7", "quality-1"} <= set(
        said.partition("for recording in ")[2].split(";")[0].split()
    )
    assert "lam report series runs/series/quality runs/quality-* --keys eval/closed_loop/success@1024" in said
    status, said = make(project, "-n", "table", "SETTING=quality-0.3", "JOBS=1", "ROWS=none")
    assert status == 0, said
    shards = "shards/quality-0.3"
    assert f"data_prep sim pusht {shards} --config experiments/simulators/quality-0.3.yaml" in said
    assert f"--data.shards {shards} --name encoder/quality-0.3-keypoints --trainer.max_steps" in said
    assert "lam control sweep quality-0.3 none --labels 1024" in said
    assert "lam control oracle runs/quality-0.3 experiments/control/pusht.yaml" in said
