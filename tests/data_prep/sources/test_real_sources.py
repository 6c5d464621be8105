"""Real data through the whole command, checked against the raw files read in another way."""

import io
import json
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_prep.cli import main
from lam.data.index import DataIndex
from tests.data_prep.sources.recordings import rows

pytestmark = pytest.mark.shared_data


def samples(folder):
    """All samples as plain webdataset reads them, by source and camera."""
    found = {}
    for path in sorted(folder.glob("*-*.tar")):
        with path.open("rb") as stream:
            for sample in group_by_keys(tar_file_expander([{"url": str(path), "stream": stream}])):
                record = json.loads(sample["json"])
                found.setdefault(record["episode"], []).append((record, sample))
    return found


def actions(sample):
    return np.load(io.BytesIO(sample["actions.npy"]))


def prepare(source, src, out, *options):
    return main([source, str(src), str(out), "--size", "16", "--jobs", "1", "--min_frames", "2", *options])


def test_donkey_car(shared_data, tmp_path):
    src = shared_data / "actions" / "donkeycar_indoor_track"
    assert prepare("donkeycar", src, tmp_path / "out", "--max_seconds", "60") == 3  # the manifest lists absent catalogs
    index = DataIndex.load(tmp_path / "out")
    lines = [json.loads(line) for path in sorted(src.glob("*.catalog")) for line in path.read_text().splitlines()]
    at = np.array([line["_timestamp_ms"] for line in sorted(lines, key=lambda line: line["_index"])]) / 1000
    drives = np.split(np.arange(len(at)), np.flatnonzero(np.diff(at) > 1.0) + 1)
    kept = sum(len(drive) for drive in drives if len(drive) > 1)
    assert (
        sum(info.frames for infos in index.splits.values() for info in infos) + index.dropped.get("fewer than 2 frames", 0)
        >= kept
    )
    steering = np.concatenate([actions(sample)[:, 0] for found in samples(tmp_path / "out").values() for _, sample in found])
    recorded = np.array([line["user/angle"] for line in lines])
    assert abs(steering.mean() - recorded.mean()) < 0.02 and len(steering) > 2900
    assert [field.name for field in index.actions] == ["angle", "throttle"] and index.actions[0].aggregation == "mean"


def test_metaworld_with_its_shift(shared_data, tmp_path):
    src = shared_data / "actions" / "metaworld"
    options = ("--frames", "observation", "--actions", "action", "--shift", "true", "--recorded_fps", "10")
    assert prepare("npz", src, tmp_path / "out", *options, "--max_seconds", "100", "--size", "64") == 0
    found = samples(tmp_path / "out")
    assert len(found) == 20
    for episode, [(record, sample)] in found.items():
        with np.load(src / episode) as raw:
            np.testing.assert_array_equal(actions(sample), raw["action"][1:])
            assert len(record["times"]) == len(raw["observation"])
            jpegs = sample["jpgs"]
            count = int.from_bytes(jpegs[:4], "little")
            length = int.from_bytes(jpegs[4:8], "little")
            first = np.asarray(Image.open(io.BytesIO(jpegs[4 + 8 * count : 4 + 8 * count + length])))
            assert np.abs(first.astype(int) - raw["observation"][0, -3:].transpose(1, 2, 0)).mean() < 2
    train = np.concatenate([np.load(src / row["source"])["action"][1:] for row in rows(tmp_path / "out")])
    statistics = DataIndex.load(tmp_path / "out").action_statistics
    np.testing.assert_array_equal([statistics.low, statistics.high], [train.min(axis=0), train.max(axis=0)])  # not clipped


def test_bridge_at_half_the_rate(shared_data, tmp_path):
    src = shared_data / "actions" / "bridge_toysink"
    assert prepare("rlds", src, tmp_path / "out", "--absolute", "[6]", "--fps", "2.5") == 0
    found = samples(tmp_path / "out")
    with np.load(src / "bridge_subset.npz") as raw:
        recorded = raw["action"]
    assert len(found) == 19 * 3
    expected = [np.concatenate([a[0:8:2, :6] + a[1:9:2, :6], a[1:9:2, 6:]], axis=1) for a in recorded]
    seen = sorted((tuple(actions(sample)[0].round(4)), len(record["times"])) for [(record, sample)] in found.values())
    assert [length for _, length in seen] == [5] * 57
    want = sorted(tuple(each[0].astype(np.float32).round(4)) for each in expected for _ in range(3))
    np.testing.assert_allclose([first for first, _ in seen], want, atol=2e-4)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "fps"), [("unitree_g1_pick_bottle", 30), ("gr1_sim_picknplace", 20)])
def test_lerobot(shared_data, tmp_path, name, fps):
    src = shared_data / "actions" / name
    code = prepare("lerobot", src, tmp_path / "out", "--fps", str(fps / 5), "--max_seconds", "1000", "--state", "true")
    assert code == 3  # episodes or a camera that the metadata list are not there
    found = samples(tmp_path / "out")
    tables = {int(path.stem.split("_")[-1]): pq.read_table(path) for path in Path(src, "data").rglob("*.parquet")}
    assert len(found) == len(tables)
    kept = {row["episode"]: row["frames"] for split in ("train", "val") for row in rows(tmp_path / "out", split)}
    index = DataIndex.load(tmp_path / "out")
    ends = []
    for episode, [(record, sample)] in found.items():
        assert len(record["times"]) == kept[episode] and len(actions(sample)) == kept[episode] - 1
        ends.append((kept[episode], tuple(actions(sample)[-1][:3].tolist())))
    want = []
    for table in tables.values():
        length = -(-len(table) // 5)
        row = np.array(table["action"][5 * (length - 1) - 1].as_py(), dtype=np.float32)  # of targets the last counts
        want.append((length, len(row)))
    assert sorted(length for length, _ in ends) == sorted(length for length, _ in want)
    assert index.action_dim <= want[0][1] and index.factors["state"].aggregation == "last"
