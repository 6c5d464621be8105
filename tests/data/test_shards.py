import dataclasses
import json
import pickle
import shutil
import sys

import numpy as np
import pytest
import torch

from data_prep.shards.encoding import encode_jpegs, encode_mp4
from lam.data.codec import decode_frames, import_torchcodec
from lam.data.datamodule import ClipDataModule
from lam.data.index import DataIndex
from lam.data.mixture import open_mixture
from lam.data.order import Windows
from lam.data.schema import Storage
from lam.data.split_reader import SplitReader
from lam.data.windowing import DisjointWindows
from tests.data.shards import frame_of, write_set, write_states


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20], val=[10])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


@dataclasses.dataclass(frozen=True)
class At(DisjointWindows):
    """The window at a given frame of each sample, for tests."""

    first: tuple[int, ...] = ()

    def count(self, lengths):
        return np.ones(len(lengths), dtype=np.int64)

    def starts(self, lengths, indices, positions):
        return np.array(self.first)[positions - 100]


def windows(samples, starts, frames, stride=1, per_shard=3):
    """Windows of samples numbered through all shards, at positions from 100 on."""
    shards, numbers = np.divmod(np.array(samples), per_shard)
    return Windows(shards, numbers, np.arange(len(samples)) + 100, At(frames, stride, tuple(starts)))


def reader(folder, split="train"):
    return SplitReader(open_mixture(folder), split)


def moving_video(frames=30, size=32):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    return np.stack([np.roll(scene, 2 * i, axis=1) for i in range(frames)])


@pytest.mark.parametrize("storage", [Storage.jpeg, Storage.mp4])
def test_windows_hold_the_frames_times_and_names_asked_for(storage, tmp_path):
    folder = write_set(tmp_path / "shards", train=[9, 12, 7, 20], val=[10], storage=storage)
    clip = reader(folder).read(windows([3, 1], [11, 2], frames=3, stride=4), labels=False)
    assert clip.frames.shape == (2, 3, 3, 16, 16) and clip.frames.dtype == torch.uint8
    np.testing.assert_array_equal(frame_of(clip.frames.numpy()), [[(3, 11), (3, 15), (3, 19)], [(1, 2), (1, 6), (1, 10)]])
    torch.testing.assert_close(clip.times, torch.tensor([[2.78, 3.78, 4.78], [0.51, 1.51, 2.51]], dtype=torch.float64))
    assert clip.key == ["clip/003", "clip/001"] and clip.source == ["source 1", "source 0"]
    assert clip.position.tolist() == [100, 101]
    assert clip.actions is None and clip.factors == {}


@pytest.mark.parametrize("storage", [Storage.jpeg, Storage.mp4])
def test_windows_of_one_sample_in_any_order(storage, tmp_path):
    folder = write_set(tmp_path / "shards", train=[30, 9], val=[10], storage=storage)
    clip = reader(folder).read(windows([0, 1, 0, 0, 0], [20, 3, 2, 4, 20], frames=3, stride=2), labels=True)
    starts = [20, 3, 2, 4, 20]
    expected = [[(s, start + 2 * i) for i in range(3)] for s, start in zip([0, 1, 0, 0, 0], starts, strict=True)]
    np.testing.assert_array_equal(frame_of(clip.frames.numpy()), expected)
    torch.testing.assert_close(clip.factors["dx"][:, 0], torch.tensor([2.0 * start + 2 for start in starts]))


def test_states_of_a_feature_cache(tmp_path):
    folder, states = write_states(tmp_path / "states", train=[9, 12, 7, 20], val=[10])
    clip = reader(folder).read(windows([3, 1], [11, 2], frames=3, stride=4), labels=False)
    assert clip.frames.dtype == torch.bfloat16 and clip.frames.shape == (2, 3, 6, 5)
    assert torch.equal(clip.frames[0], states[3][[11, 15, 19]]) and torch.equal(clip.frames[1], states[1][[2, 6, 10]])
    assert clip.key == ["clip/003", "clip/001"]


def test_labels_between_frames(folder):
    clip = reader(folder).read(windows([1, 3], [2, 0], 3), labels=True)
    torch.testing.assert_close(clip.actions, torch.tensor([[[2, 20], [3, 30]], [[0, 0], [1, 10]]]).float())
    torch.testing.assert_close(clip.factors["dx"], torch.tensor([[2.5, 3.5], [0.5, 1.5]]))
    assert clip.factors["enters"].tolist() == [[2, 0], [0, 1]] and clip.factors["enters"].dtype == torch.int64


def test_labels_join_like_those_between_states(folder):
    dense = reader(folder).read(windows([3], [3], 13), labels=True)
    strided = reader(folder).read(windows([3], [3], 5, stride=3), labels=True)
    # steps from frame 3 on in groups of three: the first number adds up, of the second the last counts
    groups = dense.actions.unflatten(1, (4, 3))
    torch.testing.assert_close(strided.actions, torch.stack([groups[..., 0].sum(dim=2), groups[..., -1, 1]], dim=-1))
    assert torch.equal(strided.factors["enters"], dense.factors["enters"].unflatten(1, (4, 3)).amax(dim=2))


@pytest.mark.parametrize(
    "window", [range(0, 2), range(5, 9), range(7, 10), range(8, 9), range(13, 29, 5), range(28, 30), [0, 1, 17, 18, 29]]
)
def test_mp4_windows_equal_the_full_decode(window):
    video = memoryview(encode_mp4(moving_video(), fps=29.97))
    whole = np.empty((30, 32, 32, 3), dtype=np.uint8)
    decode_frames(Storage.mp4, video, range(30), whole)
    part = np.empty((len(window), 32, 32, 3), dtype=np.uint8)
    decode_frames(Storage.mp4, video, window, part)
    np.testing.assert_array_equal(part, whole[list(window)])


def test_stored_pictures_are_close_to_what_was_written():
    video = moving_video()
    for storage, data, error in ((Storage.jpeg, encode_jpegs(video), 3), (Storage.mp4, encode_mp4(video, 4), 25)):
        out = np.empty_like(video)
        decode_frames(storage, memoryview(data), range(30), out)
        assert np.abs(out.astype(int) - video).mean() < error
        # nearer to itself than to its neighbors: no frame is off by one
        assert np.abs(out[1:].astype(int) - video[:-1]).mean() > 2 * np.abs(out.astype(int) - video).mean()


def test_the_same_frames_become_the_same_mp4():
    videos = [np.random.default_rng(size).integers(0, 255, (40, size, size, 3), dtype=np.uint8) for size in (16, 32, 48)]
    first = [encode_mp4(video, fps=10) for video in videos]
    for _ in range(20):
        assert [encode_mp4(video, fps=10) for video in videos] == first


def test_torchcodec_that_is_not_there(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ValueError, match=r"install torchcodec 0\.12 or 0\.13 and FFmpeg's shared libraries"):
        ClipDataModule(folder, frames=3, batch_size=4, decoder="torchcodec")


@pytest.mark.parametrize("window", [range(5, 9), range(13, 29, 5), [0, 1, 17, 18, 29]])
def test_torchcodec_gives_the_same_pixels(window):
    try:
        import_torchcodec()
    except ValueError as error:
        pytest.skip(f"NO TORCHCODEC, this test did not run: {error}")
    video = memoryview(encode_mp4(moving_video(), fps=29.97))
    found = []
    for decoder in ("pyav", "torchcodec"):
        found.append(np.empty((len(window), 32, 32, 3), dtype=np.uint8))
        decode_frames(Storage.mp4, video, window, found[-1], decoder)
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_frames(Storage.mp4, video[:1000], window, found[-1], "torchcodec")


def test_reader_travels_to_other_processes_with_open_files(folder):
    mine = reader(folder)
    before = mine.read(windows([0], [0], 2), labels=True)
    after = pickle.loads(pickle.dumps(mine)).read(windows([0], [0], 2), labels=True)
    assert torch.equal(before.frames, after.frames)


def test_starting_opens_no_shard(copy):
    for file in [*copy.glob("*.tar"), *copy.glob("*-*.parquet")]:
        file.write_bytes(b"not what was written")
    assert reader(copy).histogram.num_samples == 4


def test_missing_folder_and_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder of shards at .*data_prep"):
        DataIndex.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no index\.json.*Run data_prep again"):
        DataIndex.load(tmp_path)


def test_other_schema_version(copy):
    record = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**record, "schema_version": 7}))
    with pytest.raises(ValueError, match=r"schema version 7, this code reads version 2\. Re-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 2}'])
def test_damaged_index(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(ValueError, match=r"[Rr]e-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("name", ["index.json", "shards.parquet"])
def test_missing_summary(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=rf"has no {name}.*Run data_prep again"):
        open_mixture(copy)


@pytest.mark.parametrize("name", ["train-000000-001.tar", "val-000000-000.parquet"])
def test_listed_but_absent(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}, which shards.parquet names"):
        open_mixture(copy)


@pytest.mark.parametrize(("size", "said"), [(16, "too small"), (48, r"\(32, 32, 3\), expected \(48, 48, 3\)")])
def test_frames_of_another_size_are_an_error(size, said):
    out = np.empty((2, size, size, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=said):
        decode_frames(Storage.jpeg, memoryview(encode_jpegs(moving_video(size=32))), [3, 4], out)


@pytest.mark.parametrize("limit", ["_OPEN_SHARDS", "_OPEN_SAMPLES"])
def test_only_so_many_shards_are_open(limit, tmp_path, monkeypatch):
    monkeypatch.setattr(f"lam.data.split_reader.{limit}", 6 if limit == "_OPEN_SAMPLES" else 2)
    folder = write_set(tmp_path / "shards", train=[9] * 15, val=[9])  # three samples a shard
    which = [0, 14, 3, 6, 1, 9, 13, 0]
    read = reader(folder)
    for _ in range(2):
        clip = read.read(windows(which, [0] * len(which), frames=2), labels=False)
        np.testing.assert_array_equal(frame_of(clip.frames.numpy()), [[(i, 0), (i, 1)] for i in which])
        assert len(read._open) == 2
