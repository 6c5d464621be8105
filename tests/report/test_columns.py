"""Columns come from the evaluations of the runs, whoever wrote them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import ClassVar

import pytest

from lam.evals import Algebra, Capacity, Motion, Rollout
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation, WorldModel
from lam.report import report
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.columns import main_columns, matched_columns
from lam.report.tables.main import guide, main_grid
from lam.runs.columns import Column, Flag, declared
from lam.runs.results import write_evaluations
from tests.report.fake import write_setting


class Smoothness(Evaluation):
    """Stands for an evaluation in a module of a user's own."""

    name: ClassVar[str] = "smoothness"
    columns: ClassVar[tuple[Column, ...]] = (
        Column("jerk/*", "jerk *", digits=1, better=-1, explanation="third derivative of predicted paths", matched="too"),
    )
    flags: ClassVar[tuple[Flag, ...]] = (Flag("jumps", "jumps", explanation="predictions jump"),)

    def reset(self) -> None: ...

    def observe(self, observation: Observation, module: WorldModel) -> None: ...

    def compute(self, module: WorldModel) -> Results:
        return Results()


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_setting(tmp_path / "wild", ("none", "identity", "vq"), seeds=(0,))


def add(folder: Path, **numbers: float) -> None:
    metrics = json.loads((folder / "metrics.json").read_text())
    (folder / "metrics.json").write_text(json.dumps(metrics | {f"eval/{key}": value for key, value in numbers.items()}))


def read(root: Path) -> Comparison:
    return Comparison(*read_runs(root))


def headings(root: Path) -> list[str]:
    return [column.heading for column in main_columns(read(root))]


def test_an_evaluation_of_ones_own_has_a_column_a_flag_and_an_explanation(root):
    before = headings(root)
    for place, run in enumerate(sorted(root.glob("vq@*/seed0"))):
        add(run, **{"smoothness/jerk/agent_dx": 2.0 + place, "smoothness/jumps": float(place == 0)})
        write_evaluations(run, [Smoothness()], {})
    assert headings(root) == [*before, "jerk agent_dx"]  # other columns are those of the runs that say nothing
    found = read(root)
    table = main_grid(found)
    cells = {(line[0][0], line[1][0]): dict(zip(table.headings, line, strict=True)) for line in table.rows}
    assert [cells["vq", knob]["jerk agent_dx"][0] for knob in ("4", "256")] == [
        "4.0",
        "3.0",
    ]  # third and second by name
    assert cells["none", "–"]["jerk agent_dx"][0] == "–"
    assert [knob for (_, knob), line in cells.items() if line["flags"][0] == "jumps"] == ["16"]
    assert "- *jerk*: third derivative of predicted paths.\n" in guide(found)
    assert "`jumps` (predictions jump)" in guide(found)
    assert [one.better for one in matched_columns(found) if one.heading == "jerk agent_dx"] == [-1]
    assert "jerk agent_dx" in report(root).files[0].with_name("table.md").read_text()


def test_runs_that_declare_everything_show_nothing_else(root):
    for run in root.glob("*/seed0"):
        declared([Capacity()]).write(run)
    assert headings(root) == ["error", "error drawn", "gap closed", "gap closed, mean z", "bits @5%", "relative to none"]


@pytest.mark.parametrize("as_written", [True, False])
def test_motion_algebra_and_rollout_stand_in_the_table(root, as_written):
    numbers = {"motion/slope/pan": 0.9, "motion/slope/agent": 0.7, "motion/slope/agent2": 0.6, "motion/locality/agent": 0.1}
    numbers |= {"motion/direction_error/agent": 20.0, "algebra/additivity": 0.4, "algebra/reversibility": 0.6}
    numbers |= {"rollout/psnr": 21.5, "rollout/error@1": 0.3, "rollout/error@2": 0.5, "rollout/error@10": 0.8}
    for run in root.glob("vq@4/seed0"):
        add(run, **numbers)
        if as_written:
            declared([Motion(), Algebra(), Rollout()]).write(run)
    expected = ["additivity", "reversibility", "slope agent", "slope pan", "direction error agent", "locality agent"]
    assert [name for name in headings(root) if name not in ("codes used", "auc")][-8:] == [
        *expected,
        "unrolled error @10",
        "PSNR",
    ]


def test_a_column_whose_control_failed_is_marked(tmp_path):
    folder = write_setting(tmp_path, ("noisy",))
    for path in folder.glob("*/seed0/metrics.json"):
        values = json.loads(path.read_text())
        path.write_text(json.dumps(values | {"eval/probe/ceiling_low/agent_dx": 1.0, "eval/probe/ceiling_low/agent_dy": 0.0}))
    grid = main_grid(Comparison(*read_runs(folder)))
    assert "gain agent_dx (!)" in grid.headings
    assert "gain agent_dy" in grid.headings
    assert '<th scope="col" class="doubt">gain agent_dx (!)</th>' in grid.html("t")
    assert grid.text().count("(!)") == 1
