import json
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
from webdataset.tariterators import group_by_keys, tar_file_expander

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.codec import pack_jpegs, unpack_jpegs
from lam.data.index import DataIndex
from lam.data.schema import ActionField, FactorInfo, Storage
from tests.data.shards import write_set

RNG = np.random.default_rng(0)


def noise(frames=4):
    return RNG.integers(0, 256, (frames, 16, 16, 3)).astype(np.uint8)


def writer(out, **options):
    return ShardWriter(out, DatasetSpec(16, 16, Storage.jpeg, **options))


def sample(key, frames, **labels):
    return Sample(key, "s", "e", frames, np.arange(len(frames)), **labels)


def test_index_says_what_is_there(tmp_path):
    folder = write_set(tmp_path / "set", train=[5, 6, 7, 8], val=[9], per_shard=3)
    index = DataIndex.load(folder)
    assert (index.storage, index.height, index.width, index.fps) == (Storage.jpeg, 16, 16, 4.0)
    assert index.action_dim == 2
    assert index.factors == {"dx": FactorInfo((), "continuous", "sum"), "enters": FactorInfo((), "discrete", "max")}
    found = {split: [(s.name, s.samples, s.frames) for s in shards] for split, shards in index.splits.items()}
    assert found == {
        "train": [("train-000000-000.tar", 3, 18), ("train-000000-001.tar", 1, 8)],
        "val": [("val-000000-000.tar", 1, 9)],
    }
    assert all(shard.bytes == (folder / shard.name).stat().st_size for shard in index.splits["train"])
    assert not list(folder.glob(".*"))  # nothing temporary is left


def test_pixel_statistics_are_those_of_the_training_frames(tmp_path):
    videos = [noise(3), noise(5)]
    with writer(tmp_path / "set") as w:
        for i, frames in enumerate(videos):
            w.add("train", sample(f"t{i}", frames))
        w.add("val", sample("v", np.zeros((2, 16, 16, 3), np.uint8)))
    index = DataIndex.load(tmp_path / "set")
    pixels = np.concatenate(videos).reshape(-1, 3) / 255
    np.testing.assert_allclose(index.pixel_mean, pixels.mean(axis=0), rtol=1e-9)
    np.testing.assert_allclose(index.pixel_std, pixels.std(axis=0), rtol=1e-9)


@pytest.mark.parametrize("storage", [Storage.jpeg, Storage.mp4])
def test_plain_webdataset_reads_the_shards(tmp_path, storage):
    folder = write_set(tmp_path / "set", train=[5, 6], val=[7], storage=storage)
    with (folder / "train-000000-000.tar").open("rb") as stream:
        samples = list(group_by_keys(tar_file_expander([{"url": "train", "stream": stream}])))
    assert [sample["__key__"] for sample in samples] == ["clip/000", "clip/001"]
    assert set(samples[1]) >= {storage.value, "json", "actions.npy", "causes.npz"}
    record = json.loads(samples[1]["json"])
    assert record["times"] == [0.01 + i / 4 for i in range(6)]
    assert (record["source"], record["episode"], record["fps"]) == ("source 0", "episode 1", 4.0)


def test_side_index_points_at_the_members(tmp_path):
    folder = write_set(tmp_path / "set", train=[5, 6, 7], val=[8])
    data = (folder / "train-000000-000.tar").read_bytes()
    with tarfile.open(folder / "train-000000-000.tar") as tar:
        for row in pq.read_table(folder / "train-000000-000.parquet").to_pylist():
            for member, ending in (("video", "jpgs"), ("json", "json"), ("actions.npy", "actions.npy")):
                place = row[f"{member}_offset"]
                expected = tar.extractfile(f"{row['key']}.{ending}").read()
                assert data[place : place + row[f"{member}_bytes"]] == expected
            assert len(row["times"]) == row["frames"]


def test_same_samples_make_the_same_bytes(tmp_path):
    one, two = (write_set(tmp_path / name, train=[5, 6, 7, 8], val=[9]) for name in ("a", "b"))
    assert DataIndex.load(one).digest == DataIndex.load(two).digest
    assert (one / "train-000000-001.tar").read_bytes() == (two / "train-000000-001.tar").read_bytes()
    other = write_set(tmp_path / "c", train=[5, 6, 7, 8], val=[10])
    assert DataIndex.load(other).digest != DataIndex.load(one).digest


def test_rows_unpack_to_what_was_packed():
    jpegs = [bytes([i]) * (3 * i + 1) for i in range(6)]
    row = memoryview(pack_jpegs(jpegs))
    for frames in (range(6), range(2, 5), range(0, 6, 5), range(5, 6)):
        assert [bytes(jpeg) for jpeg in unpack_jpegs(row, frames)] == [jpegs[i] for i in frames]
    with pytest.raises(IndexError):
        unpack_jpegs(row, range(4, 7))


def test_a_changed_frame_of_a_row_is_noticed():
    data = bytearray(pack_jpegs([bytes([i]) * 50 for i in range(3)]))
    data[-60] ^= 1  # in the second frame
    assert len(unpack_jpegs(memoryview(data), [0, 2])) == 2
    with pytest.raises(ValueError, match="frame 1 has changed since it was written"):
        unpack_jpegs(memoryview(data), [0, 1])


def test_a_failed_run_leaves_no_index_and_no_half_shard(tmp_path):
    with pytest.raises(RuntimeError), writer(tmp_path / "set", samples_per_shard=2) as w:
        for i in range(3):
            w.add("train", sample(f"t{i}", noise()))
        raise RuntimeError
    left = [".parts", "train-000000-000.parquet", "train-000000-000.tar"]
    assert sorted(path.name for path in (tmp_path / "set").iterdir()) == left
    with pytest.raises(ValueError, match=r"already holds \.parts"):
        writer(tmp_path / "set")


def test_shards_close_by_bytes(tmp_path):
    with writer(tmp_path / "set", bytes_per_shard=10_000) as w:
        for i in range(4):
            w.add("train", sample(f"t{i}", noise(8)))
    assert len(DataIndex.load(tmp_path / "set").splits["train"]) > 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"key": "a.b"}, "key 'a.b' is taken or not"),
        ({"key": "taken"}, "key 'taken' is taken"),
        ({"frames": noise().astype(float)}, "frames are float64"),
        ({"frames": noise()[:, :8]}, r"frames are uint8 \(4, 8, 16, 3\)"),
        ({"times": np.array([0, 1, 1, 2])}, "must be increasing"),
        ({"times": np.arange(3)}, "must be increasing, one for each of 4 frames"),
        ({"factors": {"dx": np.zeros(4)}}, "dx has 4 steps, expected 3"),
        ({"actions": np.zeros((3, 5))}, "actions have 5 numbers, those of the set 2"),
        ({"actions": None}, "actions have 0 numbers, those of the set 2"),
        ({"actions": np.full((3, 2), np.nan)}, "actions has numbers that are infinite or not a number"),
        ({"factors": {"dx": np.zeros(3, int)}}, "all samples of a set record the same"),
    ],
)
def test_samples_that_do_not_fit_are_refused(tmp_path, change, message):
    good = {
        "key": "b",
        "source": "s",
        "episode": "e",
        "frames": noise(),
        "times": np.arange(4),
        "actions": np.zeros((3, 2)),
        "factors": {"dx": np.zeros(3)},
    }
    with writer(tmp_path / "set", actions=[ActionField("push", 2, "sum")]) as w:
        w.add("train", Sample(**{**good, "key": "taken"}))
        with pytest.raises(ValueError, match=message):
            w.add("train", Sample(**{**good, **change}))
        w.add("train", Sample(**good))
    assert DataIndex.load(tmp_path / "set").splits["train"][0].samples == 2


def test_action_statistics_are_those_of_the_training_split(tmp_path):
    actions = [RNG.uniform(-2, 2, (7, 3)).clip(-1, 1).astype(np.float32) for _ in range(5)]
    fields = [ActionField("move", 2, "sum"), ActionField("gripper", 1, "last")]
    with writer(tmp_path / "set", actions=fields, samples_per_shard=2) as w:
        for i, each in enumerate(actions):
            w.add("train", sample(f"t{i}", noise(8), actions=each))
        w.add("val", sample("v", noise(8), actions=np.full((7, 3), 50.0)))
    index = DataIndex.load(tmp_path / "set")
    together = np.concatenate(actions).astype(float)
    found = index.action_statistics
    np.testing.assert_allclose(found.mean, together.mean(axis=0), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(found.std, together.std(axis=0), rtol=1e-12)
    assert (found.low, found.high) == ([-1, -1, -1], [1, 1, 1])
    np.testing.assert_allclose(found.at_high, (together == 1).mean(axis=0))
    np.testing.assert_allclose(found.at_low, (together == -1).mean(axis=0))
    assert (index.action_dim, index.action_aggregations) == (3, ["sum", "sum", "last"])


def test_odd_sizes_need_jpeg(tmp_path):
    with pytest.raises(ValueError, match="mp4 needs even sizes"), ShardWriter(tmp_path, DatasetSpec(15, 16, Storage.mp4)) as w:
        w.add("train", sample("a", np.zeros((2, 15, 16, 3), np.uint8)))
