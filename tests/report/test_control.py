from __future__ import annotations

import json
import shutil
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from scipy import stats

from lam.report import report
from lam.report.figures.catalogue import FIGURES, head, save_figure
from lam.report.pictures import pick_control_pictures
from lam.report.stats.control import control_rows, main_label_budget
from lam.report.stats.jackknife import FIRST_EPISODE, group_positions, group_sources, leave_one_out, pseudo_values
from lam.report.stats.measures import CLOSED_LOOP, CONTROLLER, PLANNING
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.tables.control import control_grid, control_notes, control_text, write_control
from lam.report.tables.ladder import ladder_grid
from lam.report.tables.main import main_grid, write_csv, write_markdown
from lam.report.tables.matched import match_all
from lam.report.tables.ranks import rank_table
from tests.report import fake_control
from tests.report.fake import write_setting
from tests.report.fake_control import write_acting, write_bound
from tests.report.test_page import Page

FAMILIES = ("none", "identity", "noisy", "vq")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_acting(tmp_path_factory.mktemp("runs") / "pusht", FAMILIES, success=0.6)


@pytest.fixture(scope="module")
def found(root: Path) -> Comparison:
    return read(root)


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """One seed, recorded clips alone."""
    return write_acting(tmp_path / "arm", ("none", "identity", "vq"), seeds=(0,))


def read(root: Path) -> Comparison:
    return Comparison(*read_runs(root))


def row_of(found: Comparison, name: str):
    return next(row for row in found.unlabeled if row.name == name)


def line_of(found: Comparison, name: str, knob: str = "", budget: str = "256"):
    return next(line for line in control_rows(found, budget) if line.family.startswith(name) and line.knob == knob)


def logged(root: Path, row: str, seed: int, key: str, budget: str = "256") -> float:
    folder = root / row / f"seed{seed}" / "control" / f"clips{budget}"
    clips = pd.read_parquet(folder / "clips.parquet")
    return float(clips[clips["metric"] == f"eval/{key}@{budget}"]["value"].mean())


def test_what_controllers_gave_is_among_the_runs_numbers(root, found):
    run = row_of(found, "vq@16").runs[1]
    for budget in ("64", "256"):
        assert run.metrics[f"eval/planning/error@{budget}"] == pytest.approx(logged(root, "vq@16", 1, "planning/error", budget))
    own = json.loads((root / "vq@16" / "seed1" / "metrics.json").read_text())
    assert {key: run.metrics[key] for key in own} == own
    assert "val/prediction" not in run.metrics  # that of a controller's pass over the data; the run itself has none here
    assert run.clips["eval/planning/error@64"].notna().sum() == 30
    assert run.clips["eval/capacity/error"].notna().sum() == 60
    assert (run.sources.index >= FIRST_EPISODE).sum() == 200


def test_numbers_of_clips_stay_as_they_were_to_the_last_bit(root, found, tmp_path):
    before = read(write_setting(tmp_path / "pusht", FAMILIES, seeds=(0, 1)))
    old, new = (pd.read_csv(write_csv(tmp_path / "t.csv", one), dtype=str, keep_default_na=False) for one in (before, found))
    new = new[new["bottleneck"] != "actions"].reset_index(drop=True)
    pd.testing.assert_frame_equal(new[old.columns], old)
    assert len(found.sources) == len(before.sources)
    for one, other in zip(match_all(before), match_all(found), strict=True):
        for key, sample in one.replicates.items():
            np.testing.assert_array_equal(other.replicates[key].estimate(), sample.estimate())


def test_episodes_fall_into_groups_of_their_own():
    clips = pd.Series([f"video{i // 2}" for i in range(120)])
    episodes = pd.Series([f"episode-{i}" for i in range(200)], index=FIRST_EPISODE + np.arange(200))
    groups, alone = group_positions(pd.concat([clips, episodes])), group_sources(clips)
    assert (groups.num, alone.num, groups.episodes) == (100, 50, 50)
    pd.testing.assert_series_equal(groups.member.loc[clips.index], alone.member)
    assert groups.member.loc[episodes.index].min() == 50
    values = pd.DataFrame({"hit": np.random.default_rng(0).random(200) < 0.3}, index=episodes.index).astype(float)
    means = leave_one_out(values, groups)
    share = means.share["hit"].to_numpy()
    assert groups.unit_of(share) == "episodes"
    assert groups.unit_of(np.eye(100)[0]) == "sources"
    each = pseudo_values(means.values[["hit"]].to_numpy(), share)
    assert len(each) == 50  # clips have no say in it
    assert each.mean() == pytest.approx(values["hit"].mean())
    assert stats.sem(each[:, 0]) == pytest.approx(np.sqrt(0.3 * 0.7 / 200), rel=0.2)


def test_a_controller_of_another_run_is_an_error_that_says_what_to_remove(small):
    shutil.copytree(small / "vq@16" / "seed0" / "control" / "clips256", small / "vq@4" / "seed0" / "control" / "clips9")
    with pytest.raises(ValueError, match=r"clips9 was made for another run .*knob '16' instead of '4'\. Remove .*vq@4.*clips9"):
        read(small)


@pytest.mark.parametrize("field", ["data_hash", "family", "seed"])
def test_a_controller_with_another_provenance_is_an_error(small, field):
    path = small / "vq@4" / "seed0" / "control" / "clips64" / "run.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {field: 7}))
    with pytest.raises(ValueError, match=f"{field} 7 instead of"):
        read(small)


def test_two_controllers_of_one_budget_are_an_error(small):
    shutil.copytree(small / "vq@4" / "seed0" / "control" / "clips64", small / "vq@4" / "seed0" / "control" / "clips64b")
    with pytest.raises(ValueError, match=r"clips64b has eval/controller/blind@64, which"):
        read(small)


def test_a_controller_that_did_not_finish_is_mentioned_and_left_out(small):
    (small / "vq@4" / "seed0" / "control" / "clips256" / "run.json").unlink()
    found = read(small)
    assert found.unfinished == ["vq@4/seed0/control/clips256"]
    assert not found.estimate(row_of(found, "vq@4"), PLANNING + "error@256").defined
    assert found.estimate(row_of(found, "vq@4"), PLANNING + "error@64").defined


def test_the_table_is_at_the_largest_budget_that_most_rows_have(small):
    assert main_label_budget(read(small)) == "256"
    for row in ("vq@4", "vq@16", "none"):  # three of six rows are left
        shutil.rmtree(small / row / "seed0" / "control" / "clips256")
    assert main_label_budget(read(small)) == "64"
    assert main_label_budget(read(write_setting(small.parent / "other", ("none", "vq"), seeds=(0,)))) == ""


def test_labeled_bounds_are_no_bottlenecks(found, root):
    assert list(found.families) == ["noisy", "vq"]
    assert [row.name for row in found.rows][:4] == ["none", "identity", "actions", "noisy@1e-1"]
    table = main_grid(found)
    cells = {(line[0][0], line[1][0]): dict(zip(table.headings, line, strict=True)) for line in table.rows}
    actions = cells["actions (labeled)", "–"]
    assert {mark for _, mark in actions.values()} == {""}
    planned = {name: float(cell["planning error"][0].split()[0]) for name, cell in cells.items()}
    assert min(planned, key=lambda name: planned[name])[0] == "actions (labeled)"  # it is the best and still has no mark
    assert cells["noisy", "1e-4"]["planning error"][1] == "best"
    assert actions["gap closed"][0].startswith("0.8")
    assert actions["success"][0].startswith("0.77")
    assert not any(name.startswith("true simulator") for name, _ in cells)
    assert {one.family for one in match_all(found)} == {"noisy", "vq"}
    assert "actions" not in set(rank_table(found).table["row"])


def test_ratios_are_of_means_within_each_seed(root, found):
    row = row_of(found, "noisy@1e-3")
    for key, above, below in (
        ("controller/ratio", "controller/error", "controller/inferred"),
        ("controller/ratio_blind", "controller/blind", "controller/inferred"),
        ("planning/normalized", "planning/error", "planning/error_stay"),
    ):
        expected = np.mean([logged(root, row.name, s, above) / logged(root, row.name, s, below) for s in (0, 1)])
        cell = found.estimate(row, f"eval/{key}@256")
        assert cell.value == pytest.approx(expected)
        assert cell.over == "sources x seeds"
        assert 0 < cell.half < 0.2 * expected


def test_rows_are_read_beside_the_model_of_recorded_actions(root, found):
    line = line_of(found, "noisy", "1e-3")
    for key, of in ((PLANNING, "planning/error"), (CLOSED_LOOP, "closed_loop/success")):
        ratios = [logged(root, "noisy@1e-3", s, of) / logged(root, "actions", s, of) for s in (0, 1)]
        cell = line.replicates(key + "relative").estimate()
        assert cell.value == pytest.approx(np.mean(ratios))
        assert cell.half > 0
    assert line.replicates(CLOSED_LOOP + "success").estimate().over == "episodes x seeds"
    assert line_of(found, "actions").replicates(PLANNING + "relative").estimate().value == pytest.approx(1)


def test_bounds_that_every_run_logs_are_means_over_rows(root, found):
    rows = [row.name for row in found.unlabeled]
    for name, key in (("stay", "error_stay"), ("chance", "error_chance"), ("cloning", "error_clone")):
        cell = line_of(found, name).replicates(PLANNING + "error").estimate()
        assert cell.value == pytest.approx(np.mean([logged(root, row, s, f"planning/{key}") for row in rows for s in (0, 1)]))
        assert cell.over == "sources x seeds"
    small = line_of(found, "cloning", budget="64").replicates(PLANNING + "error").estimate().value
    assert small > line_of(found, "cloning").replicates(PLANNING + "error").estimate().value  # it has fewer labels


def test_bounds_come_first_and_only_families_compete(found):
    table = control_grid(found, "256")
    assert [line[0][0] for line in table.rows][:7] == [
        "stay (mean action)", "chance (random plan)", "cloning (behavior cloning)", "true simulator", "actions (labeled)",
        "none", "identity",
    ]  # fmt: skip
    marked = {line[0][0] for line in table.rows if any(mark for _, mark in line)}
    assert marked == {"noisy", "vq"}
    assert {"planning, in latents", "movement, blind", "success / actions", "crashed"} <= set(table.headings)


def test_rows_without_some_numbers_have_dashes_and_absent_rows_are_named(small):
    """An earlier format had neither cloning nor plans in latent space."""
    for path in small.glob("*/*/control"):
        if "none" in str(path):
            shutil.rmtree(path)
            continue
        for folder in path.iterdir():
            clips = pd.read_parquet(folder / "clips.parquet")
            kept = ~clips["metric"].str.contains("clone|latent")
            clips[kept].to_parquet(folder / "clips.parquet", index=False)
            metrics = json.loads((folder / "metrics.json").read_text())
            left = {key: value for key, value in metrics.items() if "clone" not in key and "latent" not in key}
            (folder / "metrics.json").write_text(json.dumps(left))
    shutil.rmtree(small / "actions")
    found = read(small)
    table = control_grid(found, "256")
    assert [line[0][0] for line in table.rows][:3] == ["stay (mean action)", "chance (random plan)", "identity"]
    assert not {"planning, in latents", "planning / actions", "success"} & set(table.headings)
    written = write_control(small, found)
    assert "No controllers with this budget: none." in written[1].read_text()


def test_the_table_says_which_episodes_rows_acted_in_and_whether_they_were_the_same(tmp_path):
    root = write_acting(tmp_path / "rooms", ("none", "identity", "vq"), seeds=(0,), success=0.6)
    same = (
        "Closed loops: all acted in the same 200 episodes (3 of 203 drawn pairs were solved at the start and replaced; SHA-256"
    )
    assert any(note.startswith(same) for note in control_notes(read(root)))
    path = root / "vq@4" / "seed0" / "control" / "clips256" / "curves.json"
    path.write_text(path.read_text().replace("abab", "cdcd"))
    (root / "simulator" / "seed0" / "curves.json").unlink()
    (note,) = (note for note in control_notes(read(root)) if note.startswith("Closed loops"))
    assert "not all acted in the same episodes" in note
    assert "SHA-256 cdcdcdcdcdcd): vq@4 seed 0" in note
    assert "unknown episodes (acted before episodes had manifests): simulator seed 0" in note
    assert "Most in 200 episodes" in note


def test_ladders_of_rows_are_one_table(tmp_path):
    root = write_acting(tmp_path / "rooms", ("none", "identity", "vq"), seeds=(0,), success=0.6)
    assert ladder_grid(read(root)) is None
    numbers = "candidates,episodes,success,success/low,success/high,success_strict,distance"
    differences = "against,difference,difference/low,difference/high,seconds,note"
    (root / "vq@4" / "seed0" / "control" / "clips256" / "ladder.csv").write_text(
        f"rung,{numbers},{differences}\nas it is,129,50,0.2,0.112,0.33,0.1,1.5,,,,,9.1,\n"
        "true dynamics,385,50,0.6,0.462,0.724,0.5,0.8,as it is,0.4,0.26,0.54,99,a note\n"
    )
    table = ladder_grid(read(root))
    assert [[text for text, _ in line] for line in table.rows] == [
        ["vq@4", "256", "0", "as it is", "129", "50", "0.20 (0.11–0.33)", "0.10", "–", "–"],
        ["vq@4", "256", "0", "true dynamics", "385", "50", "0.60 (0.46–0.72)", "0.50", "+0.40 (+0.26–+0.54)", "as it is"],
    ]
    assert "What success is lost to" in write_control(tmp_path, read(root))[1].read_text()


def test_success_has_the_ends_of_a_wilson_interval(root, found, tmp_path):
    line = line_of(found, "vq", "64")
    cell = line.replicates(CLOSED_LOOP + "success").estimate()
    assert cell.ends is not None and 0 <= cell.low < cell.value < cell.high <= 1
    assert f"({cell.low:.3f}–{cell.high:.3f})" in control_grid(found, "256").text()
    table = pd.read_csv(write_control(tmp_path, found)[0], dtype={"knob": str})
    written = table[(table["labels"] == 256) & (table["acting with"] == "vq") & (table["knob"] == "64")].iloc[0]
    assert written[CLOSED_LOOP + "success/low"] == pytest.approx(cell.low)
    assert line.replicates(PLANNING + "error").estimate().ends is None


def test_every_budget_is_in_the_csv(root, found, tmp_path):
    table = pd.read_csv(write_control(tmp_path, found)[0], dtype={"knob": str}, keep_default_na=False, na_values=[""])
    assert sorted(set(table["labels"])) == [64, 256]
    line = table[(table["labels"] == 64) & (table["acting with"] == "vq") & (table["knob"] == "4")].iloc[0]
    assert line[PLANNING + "error"] == pytest.approx(np.mean([logged(root, "vq@4", s, "planning/error", "64") for s in (0, 1)]))
    assert line[PLANNING + "error/low"] < line[PLANNING + "error"] < line[PLANNING + "error/high"]


def test_planning_error_is_ranked_over_rows_without_none_and_bounds(root, found):
    ranked = rank_table(found)
    assert ranked is not None
    table = ranked.table
    assert set(table["row"]) == {row.name for row in found.unlabeled} - {"none", "noisy@1e-1"}  # whose latent is ignored
    assert len(table) == 16
    interval = ranked.correlation("inferred")
    assert 0 < interval.low < interval.value <= interval.high <= 1
    line = table[(table["row"] == "vq@64") & (table["seed"] == 1)].iloc[0]
    assert line["inferred"] == pytest.approx(logged(root, "vq@64", 1, "controller/inferred"))
    assert line["planning"] == pytest.approx(logged(root, "vq@64", 1, "planning/error"))


def test_at_equal_information_controllers_of_rows_at_the_level_are_compared(found):
    key = CONTROLLER + "ratio_drawn@256"
    matched = next(one for one in match_all(found) if one.rows and key in one.replicates)
    assert matched.replicates[key].estimate() == found.estimate(matched.rows[0], key)
    assert matched.replicates[PLANNING + "normalized@256"].estimate().half > 0


def drawn(folder: Path, found: Comparison) -> dict[str, bytes]:
    """The files that only acting has, by name."""
    folder.mkdir(exist_ok=True)
    files = write_control(folder, found)
    for name in ("controller", "planning", "labels"):
        files += save_figure(folder / name, partial(FIGURES[name].draw, found), head(FIGURES[name], found))
    return {path.name: path.read_bytes() for path in files}


def test_the_report_has_it_all_and_again_bit_for_bit(tmp_path):
    root = write_acting(tmp_path / "pusht", ("none", "identity", "vq"), seeds=(0, 1), success=0.6)
    for name, suffix in (("vq@4", "png"), ("vq@256", "png"), ("vq@256", "gif"), ("identity", "gif")):
        path = root / name / "seed1" / "control" / "clips256" / "boards" / f"plan.{suffix}"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.zeros((4, 8, 3), np.uint8)).save(path)
    made = report(root)
    files, again = {path.name: path.read_bytes() for path in made.files}, read(root)
    own = drawn(tmp_path / "again", again)
    assert set(own) == {"control.csv", "control.md"} | {
        f"{name}.{kind}" for name in ("controller", "planning", "labels") for kind in ("png", "svg", "pdf")
    }
    assert {name: files[name] for name in own} == own
    assert "Acting, 256 labeled clips" in made.text
    text = files["control.md"].decode()
    assert "29.4 ± 3.6 %" in text
    assert "from 64 (6 rows)" in text
    page = Page()
    page.feed(files["report.html"].decode())
    page.close()
    assert page.open == []
    assert ("section", {"id": "acting"}) in page.tags
    sources = [attributes["src"][:14] for tag, attributes in page.tags if tag == "img"]
    assert sources.count("data:image/gif") == 2
    assert [one.row.name for one in pick_control_pictures(again)] == ["vq@256", "vq@256", "identity"]


def test_without_controllers_nothing_is_said_of_acting(small, tmp_path):
    target = tmp_path / "report"
    assert "29.4" not in drawn(target, read(small))["control.md"].decode()  # that number is Push-T's
    for path in small.glob("*/*/control"):
        shutil.rmtree(path)
    shutil.rmtree(small / "actions")
    found = read(small)
    assert drawn(target, found) == {}
    assert list(target.iterdir()) == []  # those of the earlier call are gone
    assert control_text(found) == ""
    assert "labeled" not in write_markdown(tmp_path / "table.md", found, []).read_text()


def test_one_budget_has_no_curve_over_labels(tmp_path):
    root = write_acting(tmp_path / "arm", ("none", "identity", "vq"), seeds=(0,), labels=(64,))
    assert FIGURES["labels"].draw(read(root)) is None
    assert FIGURES["planning"].draw(read(root)) is not None


def test_without_recorded_clips_in_common_success_still_has_its_episodes(tmp_path):
    write_setting(tmp_path / "arm", ("none", "identity"), seeds=(0,))
    write_bound(tmp_path / "arm", "simulator", 0, success=0.9)
    found = read(tmp_path / "arm")
    assert [row.name for row in found.rows] == ["none", "identity"]
    assert found.estimate(found.bounds["simulator"], CLOSED_LOOP + "success@all").over == "episodes"
    assert CLOSED_LOOP + "success@all" not in found.keys
    assert fake_control.EPISODES == FIRST_EPISODE
