"""Generated worlds: settings, determinism, and the way into shards and back."""

import io
import json
import re
from dataclasses import asdict, fields, replace
from itertools import pairwise
from typing import get_type_hints

import numpy as np
import pytest
import simplejpeg
import yaml
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_prep.cli import main
from data_prep.worlds.clip import make_clip
from data_prep.worlds.generate import world
from data_prep.worlds.settings import EMBODIMENTS, WorldParameters, WorldSettings
from lam.data.index import DataIndex
from tests.tiny import EXPERIMENTS, WORLDS, world_settings


def equal(a, b):
    return (
        np.array_equal(a.frames, b.frames)
        and np.array_equal(a.actions, b.actions)
        and a.factors.keys() == b.factors.keys()
        and all(np.array_equal(a.factors[name], b.factors[name]) for name in a.factors)
    )


def samples(folder, split):
    """Samples of a split's first shard as webdataset reads them, by key."""
    with (folder / f"{split}-000000-000.tar").open("rb") as stream:
        members = tar_file_expander([{"url": split, "stream": stream}])
        return {sample["__key__"]: sample for sample in group_by_keys(members)}


@pytest.mark.parametrize("name", ["demo", "arm", "nav", "scene", "contact"])
def test_a_clip_is_a_function_of_seed_split_and_number(name):
    settings = world_settings(name)
    clip = make_clip(settings, 3, 0, 7)
    assert equal(clip, make_clip(settings, 3, 0, 7))
    for other in ((4, 0, 7), (3, 1, 7), (3, 0, 8)):
        assert not np.array_equal(clip.frames, make_clip(settings, *other).frames)
    assert clip.frames.shape == (settings.frames, settings.size, settings.size, 3)
    assert clip.frames.dtype == np.uint8
    for value in clip.factors.values():
        assert len(value) == settings.frames - 1 and value.dtype in (np.float32, np.int64)


def test_one_dial_leaves_the_other_factors_alone():
    base = WorldSettings(frames=5)
    everything = replace(base, agents=1, pan=0.0, balls=2, entrances=1.0, flicker=0.1, distractors=2, texture_cells=5, frames=5)
    for i in range(3):
        assert np.array_equal(make_clip(base, 0, 0, i).actions, make_clip(everything, 0, 0, i).actions)


def test_a_second_agent_leaves_each_agent_its_way():
    one, two = (make_clip(WorldSettings(agents=n, start=0.9), 0, 0, 1) for n in (1, 2))
    ways = [two.factors[f"{name}_dx"].tolist() for name in ("agent", "agent2")]
    assert one.factors["agent_dx"].tolist() in ways


def test_shards_read_back_what_was_generated(tmp_path):
    settings = replace(world_settings("scene"), size=16, flicker_grid=4)
    world(tmp_path / "a", train=3, val=2, seed=5, jobs=1, **asdict(settings))
    for number, (split, count) in enumerate((("train", 3), ("val", 2))):
        found = samples(tmp_path / "a", split)
        assert sorted(found) == [f"{split}-{i:06d}" for i in range(count)]
        for i, (key, sample) in enumerate(sorted(found.items())):
            expected = make_clip(settings, 5, number, i)
            np.testing.assert_array_equal(np.load(io.BytesIO(sample["actions.npy"])), expected.actions)
            factors = np.load(io.BytesIO(sample["causes.npz"]))
            assert set(factors) == set(expected.factors)
            for name in factors:
                np.testing.assert_array_equal(factors[name], expected.factors[name])
            record = json.loads(sample["json"])
            assert record["source"] == record["episode"] == key
            assert record["times"] == [frame / 4 for frame in range(8)]
            row = sample["jpgs"]
            count, *lengths = np.frombuffer(row, "<i4", count=9)
            bounds = 68 + np.cumsum([0, *lengths])  # after the count, 8 lengths and 8 checksums
            frames = [simplejpeg.decode_jpeg(row[start:end]) for start, end in pairwise(bounds)]
            assert count == 8 and bounds[-1] == len(row)
            assert np.abs(np.stack(frames).astype(int) - expected.frames).mean() < 4


def test_a_longer_set_begins_with_the_shorter_one(tmp_path):
    world(tmp_path / "short", train=2, val=1, jobs=1)
    world(tmp_path / "long", train=4, val=1, jobs=1)
    world(tmp_path / "again", train=4, val=1, jobs=1)
    short, long = samples(tmp_path / "short", "train"), samples(tmp_path / "long", "train")
    for key, sample in short.items():
        assert sample == long[key]
    assert (tmp_path / "long" / "index.json").read_bytes() == (tmp_path / "again" / "index.json").read_bytes()
    assert (tmp_path / "long" / "train-000000-000.tar").read_bytes() == (
        tmp_path / "again" / "train-000000-000.tar"
    ).read_bytes()


def test_flags_replace_values_of_the_file_and_the_index_records_all(tmp_path):
    out, file = tmp_path / "w", EXPERIMENTS / "worlds" / "nav.yaml"
    flags = ["--train", "2", "--val", "1", "--size", "16", "--frames", "3", "--balls", "1"]
    assert main(["world", str(out), "--config", str(file), *flags]) == 0
    index = DataIndex.load(out)
    expected = replace(world_settings("nav"), size=16, frames=3, balls=1)
    assert {name: index.settings[name] for name in asdict(expected)} == asdict(expected)
    assert index.settings["train"] == 2 and index.settings["seed"] == 0
    assert set(index.factors) == {"pan_dx", "pan_dy", "ball_dx", "ball_dy"}
    assert index.action_dim == 2


@pytest.mark.parametrize("name", WORLDS)
def test_a_world_of_the_benchmark_renders_and_its_file_says_how_many_of_what(tmp_path, name):
    file = EXPERIMENTS / "worlds" / f"{name}.yaml"
    assert main(["world", str(tmp_path / "w"), "--config", str(file), "--train", "1", "--val", "1", "--jobs", "1"]) == 0
    values = yaml.safe_load(file.read_text())
    assert {"train", "val", "seed", "size", "frames"} <= set(values)
    settings = DataIndex.load(tmp_path / "w").settings
    assert {key: settings[key] for key in values if key not in ("train", "val")} == {
        key: value for key, value in values.items() if key not in ("train", "val")
    }


@pytest.mark.parametrize(
    ("text", "message"), [("sizes: 24", "'sizes' is not accepted"), ("size: big", "--size is big, expected int")]
)
def test_a_file_with_a_mistake_is_one_line(tmp_path, capsys, text, message):
    (tmp_path / "w.yaml").write_text(text)
    assert main(["world", str(tmp_path / "w"), "--config", str(tmp_path / "w.yaml")]) == 2
    found = capsys.readouterr().err.strip()
    assert "\n" not in found and re.search(f"^data_prep world: .*{message}", found)


@pytest.mark.parametrize(
    "wrong",
    [
        ["--agents", "-1"],
        ["--embodiments", "9"],
        ["--flicker_grid", "5", "--flicker", "0.1"],
        ["--seed", "-3"],
        ["--blocks", "1", "--agents", "0"],
    ],
)
def test_a_parameter_out_of_range_is_one_line(tmp_path, capsys, wrong):
    assert main(["world", str(tmp_path / "w"), "--train", "1", "--val", "1", *wrong]) == 1
    message = capsys.readouterr().err.strip()
    assert "\n" not in message and wrong[0].lstrip("-") in message
    assert not (tmp_path / "w").exists()


def test_every_setting_is_a_parameter_with_an_explanation(capsys):
    assert get_type_hints(WorldParameters) == get_type_hints(WorldSettings)
    assert main(["world", "--help"]) == 0
    assert {f"{field.name}:" in (WorldParameters.__doc__ or "") for field in fields(WorldSettings)} == {True}
    assert "Share of steps whose command ignores the state" in " ".join(capsys.readouterr().out.split())
    assert len(EMBODIMENTS) == 4  # as the help says


def test_places_of_joined_steps_are_those_before_and_movements_add_up(tmp_path):
    world(tmp_path / "set", train=2, val=1, size=16, locations=True, jobs=1)
    factors = json.loads((tmp_path / "set" / "index.json").read_text())["causes"]
    assert {name: about["join"] for name, about in factors.items()} == {
        "agent_dx": "sum",
        "agent_dy": "sum",
        "agent_x": "first",
        "agent_y": "first",
    }
