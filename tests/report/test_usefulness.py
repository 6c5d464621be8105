from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from lam.report.cli import main
from lam.report.stats.correlation import Correlation
from lam.report.stats.measures import CONTROLLER, PLANNING
from lam.report.stats.rows import Comparison
from lam.report.stats.runs import read_runs
from lam.report.stats.usefulness import pool
from lam.report.tables.control import write_control
from lam.report.tables.usefulness import usefulness, usefulness_grid
from lam.runs.columns import Column, Flag
from tests.report.fake_control import write_acting

FOLLOWS, AGAINST, BLIND = "eval/made/follows", "eval/made/against", "eval/made/blind"
COLUMNS = (
    Column(FOLLOWS, "follows", better=1),
    Column(AGAINST, "against", better=1, matched="only"),
    Column(BLIND, "blind"),
    Column("eval/made/*", "made *"),
    Column(PLANNING + "error@{labels}", "planning error", better=-1, table="control"),
    Column(CONTROLLER + "inferred@{labels}", "inferred", better=-1, table="control"),
)
FLAG = Flag("eval/usage/collapsed", "collapsed")
ROWS, CLIPS = 12, 20


def write_setting(root: Path, seed: int, noise: float = 0.02) -> Path:
    """Rows whose planning error falls with one metric, rises with another, and knows nothing of a third."""
    rng = np.random.default_rng(seed)
    difficulty = rng.gamma(16, 1 / 16, CLIPS)
    truth, blind = rng.permutation(ROWS) / ROWS, rng.permutation(ROWS) / ROWS
    for row in range(ROWS + 1):
        dead = row == ROWS  # a collapsed row, far from where the others are
        good, other = (9.0, 9.0) if dead else (truth[row], blind[row])
        for run in range(2):
            folder = root / f"vq@{row + 2}" / f"seed{run}"
            folder.mkdir(parents=True)
            keys = {"eval/capacity/error": 1.0, FOLLOWS: good, AGAINST: 1.5 - good, BLIND: other}
            keys |= {PLANNING + "error@64": 2.0 + (9 if dead else -good), CONTROLLER + "inferred@64": 2.0 - good}
            lines, metrics = [], {"eval/usage/collapsed": float(dead)}
            for key, mean in keys.items():
                values = mean + 0.1 * (difficulty - difficulty.mean()) + noise * rng.standard_normal(CLIPS)
                lines.append(pd.DataFrame({"position": np.arange(CLIPS), "metric": key, "value": values}))
                metrics[key] = float(values.mean())
            table = pd.concat(lines)
            table["clip"] = table["source"] = [f"video{i:02d}" for i in table["position"]]
            table.to_parquet(folder / "clips.parquet", index=False)
            about = {"setting": root.name, "family": "vq", "knob": str(row + 2), "seed": run, "config_hash": "c"}
            about |= {"shared_hash": "s", "data_hash": f"d{seed}", "code_revision": "abc"}
            (folder / "run.json").write_text(json.dumps(about))
            (folder / "metrics.json").write_text(json.dumps(metrics))
            declared = {"columns": [vars(one) for one in COLUMNS], "flags": [vars(FLAG)]}
            (folder / "columns.json").write_text(json.dumps(declared))
    return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("runs")
    return [write_setting(folder / name, seed) for seed, name in enumerate(("arm", "nav"))]


@pytest.fixture(scope="module")
def found(roots):
    comparisons = [Comparison(*read_runs(root)) for root in roots]
    return {one.metric.key: one for one in usefulness(comparisons) if one.target.heading == "planning error"}


def test_metrics_foretell_what_they_were_made_to(found):
    assert found[FOLLOWS].pooled.value > 0.95
    assert found[FOLLOWS].pooled.low > 0.8
    assert found[FOLLOWS].verdict == "planning error"
    assert found[AGAINST].pooled.value < -0.95
    assert found[AGAINST].verdict == "planning error, against its arrow"  # an arrow that the wide table does not show
    assert found[BLIND].verdict == "nothing"
    assert found[BLIND].pooled.low < 0 < found[BLIND].pooled.high
    assert found[CONTROLLER + "inferred@{labels}"].pooled.value < -0.95  # fewer errors, better plans
    assert PLANNING + "error@{labels}" not in found


def test_rows_that_say_nothing_are_left_out_and_settings_are_ranked_apart(found):
    assert {setting: r.n for setting, r in found[FOLLOWS].settings.items()} == {"arm": ROWS, "nav": ROWS}
    assert found[FOLLOWS].pooled.n == 2 * ROWS
    alone = found[FOLLOWS].settings["arm"]
    assert found[FOLLOWS].pooled.low > alone.low


def test_the_command_writes_the_table_that_it_computes(roots, found, tmp_path, capsys):
    main(["usefulness", str(tmp_path / "out" / "useful"), *map(str, roots)])
    assert [Path(line).name for line in capsys.readouterr().out.splitlines()] == [
        f"useful.{kind}" for kind in ("csv", "md", "png", "svg", "pdf")
    ]
    table = pd.read_csv(tmp_path / "out" / "useful.csv")
    line = table[(table["metric"] == FOLLOWS) & (table["setting"] == "all")].iloc[0]
    assert line["r"] == pytest.approx(found[FOLLOWS].pooled.value, abs=1e-5)
    text = (tmp_path / "out" / "useful.md").read_text()
    assert "| blind " in text and "0.83 and 0.73" in text
    assert next(line for line in text.splitlines() if line.startswith("| blind")).rstrip(" |").endswith("nothing")


def test_what_rows_are_for_foretells_nothing_of_itself(tmp_path):
    root = write_acting(tmp_path / "pusht", ("none", "identity", "vq", "fsq"), seeds=(0,), success=0.6)
    every = usefulness([Comparison(*read_runs(root))])
    assert {one.target.heading for one in every} == {"planning error", "controller error", "success"}
    keys: dict[str, set[str]] = {}
    for one in every:
        keys.setdefault(one.target.heading, set()).add(one.metric.key)
    assert not any(key.startswith((PLANNING, "eval/closed_loop/")) for key in set().union(*keys.values()))
    assert {CONTROLLER + "error@{labels}", CONTROLLER + "inferred@{labels}"} <= keys["success"]
    assert {key for key in keys["controller error"] if key.startswith(CONTROLLER)} == {CONTROLLER + "inferred@{labels}"}


def test_a_settings_own_report_has_the_same_table(roots, tmp_path):
    comparison = Comparison(*read_runs(roots[0]))
    text = write_control(tmp_path, comparison)[1].read_text()
    assert usefulness_grid(usefulness([comparison])).markdown() in text


def test_without_rows_that_act_there_is_an_error(tmp_path):
    root = write_setting(tmp_path / "arm", 0)
    for path in root.glob("*/*/metrics.json"):
        metrics = json.loads(path.read_text())
        path.write_text(json.dumps({key: value for key, value in metrics.items() if "@64" not in key}))
        clips = pd.read_parquet(path.parent / "clips.parquet")
        clips[~clips["metric"].str.contains("@64")].to_parquet(path.parent / "clips.parquet", index=False)
    with pytest.raises(ValueError, match="No row acts"):
        main(["usefulness", str(tmp_path / "useful"), str(root)])


@pytest.mark.parametrize("between", [0.0, 0.3])
def test_pooled_intervals_cover_the_mean_of_settings(between):
    rng, hits = np.random.default_rng(0), 0
    for _ in range(400):
        error = rng.uniform(0.2, 0.5, 8)
        z = 0.6 + between * rng.standard_normal(8) + error * rng.standard_normal(8)
        each = [Correlation(np.tanh(a), 12, -1.0, 1.0, a, b) for a, b in zip(z, error, strict=True)]
        pooled = pool(each)
        hits += pooled.low <= np.tanh(0.6) <= pooled.high
    assert 0.9 <= hits / 400 <= 0.99


def test_settings_without_an_interval_are_not_pooled():
    known = Correlation(0.5, 10, 0.1, 0.8, 0.55, 0.2)
    assert pool([known, Correlation(1.0, 3)]) == known
    assert np.isnan(pool([Correlation(1.0, 3)]).value)
