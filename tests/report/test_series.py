from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml

from data_prep.worlds.generate import world
from lam.data.index import DataIndex
from lam.report.cli import main
from lam.report.figures.series import WorldRuns, differing_parameters, draw_series, read_world, series_table, with_shares
from tests.report.fake import write_setting

GAIN = "eval/probe/gain/agent_dx"


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Three worlds of two parameters, in which the gain is 1 - 0.5 strength x (1 - correlation)."""
    root = tmp_path_factory.mktemp("series")
    made = []
    for strength, correlation in ((0.0, 0.0), (0.5, 0.0), (0.5, 0.8)):
        name = f"distractors-{strength:g}-{correlation:g}"
        parameters = {"distractors": 1, "distractor_strength": strength, "distractor_correlation": correlation}
        world(root / "shards" / name, train=2, val=2, size=16, frames=2, jobs=1, **parameters)
        folder = write_setting(root / "runs" / name, ("none", "identity", "fsq"), seeds=(0, 1))
        digest = DataIndex.load(root / "shards" / name).digest
        for run in folder.glob("*/seed*"):
            (run / "config.yaml").write_text(yaml.safe_dump({"data": {"shards": str(root / "shards" / name)}}))
            (run / "run.json").write_text(json.dumps(json.loads((run / "run.json").read_text()) | {"data_hash": digest}))
            lines = pd.read_parquet(run / "clips.parquet")
            lines = lines[lines["metric"] != GAIN]
            lines.to_parquet(run / "clips.parquet", index=False)
            metrics = json.loads((run / "metrics.json").read_text())
            metrics |= {GAIN: 1 - 0.5 * strength * (1 - correlation), "eval/distractors/linear_r2@2/agent_dx": 0.3}
            (run / "metrics.json").write_text(json.dumps(metrics))
        made.append(folder)
    return made


def test_parameters_are_read_from_the_shards_and_the_numbers_from_the_runs(folders):
    worlds = [read_world(folder) for folder in folders]
    assert differing_parameters(worlds) == ["distractor_strength", "distractor_correlation"]
    table = series_table(worlds)
    gains = table[(table["key"] == GAIN) & (table["row"] == "fsq@8")]
    assert gains[["distractor_strength", "distractor_correlation"]].to_numpy().tolist() == [[0, 0], [0.5, 0], [0.5, 0.8]]
    np.testing.assert_allclose(gains["value"], [1, 0.75, 0.95])


def test_one_panel_a_value_of_the_second_parameter_and_strength_zero_in_all(folders):
    worlds = [read_world(folder) for folder in folders]
    figure = draw_series(worlds, series_table(worlds))
    titles = [axis.get_title() for axis in figure.axes]
    assert titles == ["distractor correlation 0", "distractor correlation 0.8", "", ""]  # gain, then leakage ratio
    for axis, expected in zip(figure.axes, ([1, 0.75], [1, 0.95]), strict=False):
        curve = next(one for one in axis.containers if one.get_label() == "fsq@8")
        np.testing.assert_allclose(curve.lines[0].get_xydata(), np.stack([[0, 0.5], expected], axis=1))
    assert "linear, 2 numbers (R²)" in figure.axes[0].get_legend_handles_labels()[1]


def test_the_command_writes_the_same_bytes_again(folders, tmp_path, capsys):
    arguments = ["series", str(tmp_path / "out" / "worlds"), *map(str, folders), "--keys", GAIN]
    main(arguments)
    first = {path: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    assert {path.name for path in first} == {"worlds.csv", "worlds.png", "worlds.svg", "worlds.pdf"}
    assert [Path(line) in first for line in capsys.readouterr().out.split()] == [True] * 4
    main(arguments)
    assert {path: path.read_bytes() for path in (tmp_path / "out").iterdir()} == first


def mixtures(*policies):
    return [WorldRuns(None, with_shares({"env": "pusht", "frames": 12, "policy": policy})) for policy in policies]


def test_recordings_differ_in_shares_of_policies_and_what_follows_from_them_is_left_out():
    shares = (0, 0.3, 0.7, 1)
    halves = mixtures(*({"random": one, "near": (1 - one) / 2, "expert": (1 - one) / 2} for one in shares))
    assert differing_parameters(halves) == ["policy random"]
    assert [world.settings["policy random"] for world in halves] == list(shares)
    weights = mixtures(
        {"random": 1, "near": 1, "expert": 2}, {"random": 3, "near": 1, "expert": 0}, {"random": 2, "near": 2, "expert": 0}
    )
    assert differing_parameters(weights) == ["policy random", "policy near"]
    assert weights[0].settings["policy expert"] == 0.5
    with pytest.raises(ValueError, match="differ in policy random, policy near; expected"):
        differing_parameters(mixtures({"random": 1, "near": 0}, {"near": 1}))


def test_recordings_are_known_by_what_their_stored_states_were_made_of(folders, tmp_path, monkeypatch):
    index = DataIndex.load
    monkeypatch.setattr(
        "lam.report.figures.series.DataIndex.load",
        lambda path: dataclasses.replace(
            found := index(path), settings={"source": "features", "made_with": found.settings}, digest=found.digest
        ),
    )
    assert differing_parameters([read_world(folder) for folder in folders]) == ["distractor_strength", "distractor_correlation"]


def test_worlds_that_do_not_differ_and_data_made_anew_are_errors(folders):
    with pytest.raises(ValueError, match=r"differ in nothing; expected one or two parameters"):
        main(["series", "out", str(folders[0]), str(folders[0])])
    run = next(iter(sorted(folders[0].glob("*/seed*")))) / "run.json"
    said = run.read_text()
    try:
        for path in folders[0].glob("*/seed*/run.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": "older"}))
        with pytest.raises(ValueError, match="was made from other data than"):
            read_world(folders[0])
    finally:
        for path in folders[0].glob("*/seed*/run.json"):
            path.write_text(json.dumps(json.loads(path.read_text()) | {"data_hash": json.loads(said)["data_hash"]}))
