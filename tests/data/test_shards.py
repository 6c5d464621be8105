import json
import shutil

import numpy as np
import pytest
import torch

from data_prep.encoding import encode_jpegs, encode_mp4
from lam.data.decode import decode_window
from lam.data.order import Windows
from lam.data.schema import DataIndex, Storage
from lam.data.shards import SplitReader
from tests.data.shards import frame_of, write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20], val=[10])


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def windows(samples, starts, frames):
    return Windows(np.array(samples), np.array(starts), np.arange(len(samples)) + 100, frames)


def moving_video(frames=30, size=32):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    return np.stack([np.roll(scene, 2 * i, axis=1) for i in range(frames)])


@pytest.mark.parametrize("storage", Storage)
def test_windows_hold_the_frames_times_and_names_asked_for(storage, tmp_path):
    index = DataIndex.load(write_set(tmp_path / "shards", train=[9, 12, 7, 20], val=[10], storage=storage))
    clip = SplitReader(index, "train").read(windows([3, 1], [11, 2], frames=3), stride=4, labels=False)
    assert clip.frames.shape == (2, 3, 3, 16, 16) and clip.frames.dtype == torch.uint8
    np.testing.assert_array_equal(frame_of(clip.frames.numpy()), [[(3, 11), (3, 15), (3, 19)], [(1, 2), (1, 6), (1, 10)]])
    torch.testing.assert_close(clip.times, torch.tensor([[2.78, 3.78, 4.78], [0.51, 1.51, 2.51]], dtype=torch.float64))
    assert clip.key == ["clip/003", "clip/001"] and clip.source == ["source 1", "source 0"]
    assert clip.position.tolist() == [100, 101]
    assert clip.actions is None and clip.causes == {}


def test_labels_between_frames(folder):
    clip = SplitReader(DataIndex.load(folder), "train").read(windows([1, 3], [2, 0], 3), stride=1, labels=True)
    torch.testing.assert_close(clip.actions, torch.tensor([[[2, 20], [3, 30]], [[0, 0], [1, 10]]]).float())
    torch.testing.assert_close(clip.causes["dx"], torch.tensor([[2.5, 3.5], [0.5, 1.5]]))
    assert clip.causes["enters"].tolist() == [[2, 0], [0, 1]] and clip.causes["enters"].dtype == torch.int64


def test_labels_join_like_those_between_states(folder):
    reader = SplitReader(DataIndex.load(folder), "train")
    dense = reader.read(windows([3], [3], 13), stride=1, labels=True)
    strided = reader.read(windows([3], [3], 5), stride=3, labels=True)
    # steps from frame 3 on in groups of three
    torch.testing.assert_close(strided.actions, dense.actions.unflatten(1, (4, 3)).sum(dim=2))
    assert torch.equal(strided.causes["enters"], dense.causes["enters"].unflatten(1, (4, 3)).amax(dim=2))


@pytest.mark.parametrize("window", [range(0, 2), range(5, 9), range(7, 10), range(8, 9), range(13, 29, 5), range(28, 30)])
def test_mp4_windows_equal_the_full_decode(window):
    video = memoryview(encode_mp4(moving_video(), fps=29.97))
    whole = np.empty((30, 32, 32, 3), dtype=np.uint8)
    decode_window(Storage.mp4, video, range(30), whole)
    part = np.empty((len(window), 32, 32, 3), dtype=np.uint8)
    decode_window(Storage.mp4, video, window, part)
    np.testing.assert_array_equal(part, whole[window.start : window.stop : window.step])


def test_stored_pictures_are_close_to_what_was_written():
    video = moving_video()
    for storage, data, error in ((Storage.jpeg, encode_jpegs(video), 3), (Storage.mp4, encode_mp4(video, 4), 25)):
        out = np.empty_like(video)
        decode_window(storage, memoryview(data), range(30), out)
        assert np.abs(out.astype(int) - video).mean() < error
        # nearer to itself than to its neighbors: no frame is off by one
        assert np.abs(out[1:].astype(int) - video[:-1]).mean() > 2 * np.abs(out.astype(int) - video).mean()


def test_reader_travels_to_other_processes_with_open_files(folder):
    import pickle

    reader = SplitReader(DataIndex.load(folder), "train")
    before = reader.read(windows([0], [0], 2), 1, labels=True)
    after = pickle.loads(pickle.dumps(reader)).read(windows([0], [0], 2), 1, labels=True)
    assert torch.equal(before.frames, after.frames)


def test_missing_folder_and_index(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"No folder of shards at .*data_prep"):
        DataIndex.load(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match=r"no index\.json.*Run data_prep again"):
        DataIndex.load(tmp_path)


def test_other_schema_version(copy):
    record = json.loads((copy / "index.json").read_text())
    (copy / "index.json").write_text(json.dumps({**record, "schema_version": 7}))
    with pytest.raises(ValueError, match=r"schema version 7, this code reads version 1\. Re-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("text", ["", "[]", '{"schema_version": 1}'])
def test_damaged_index(copy, text):
    (copy / "index.json").write_text(text)
    with pytest.raises(ValueError, match="Re-run data_prep"):
        DataIndex.load(copy)


@pytest.mark.parametrize("name", ["train-000001.tar", "val-000000.parquet"])
def test_missing_shard(copy, name):
    (copy / name).unlink()
    with pytest.raises(FileNotFoundError, match=f"lacks {name}"):
        DataIndex.load(copy)


def test_truncated_shard(copy):
    shard = copy / "train-000000.tar"
    shard.chmod(0o644)
    shard.write_bytes(shard.read_bytes()[:5000])
    with pytest.raises(ValueError, match=r"train-000000\.tar has 5000 bytes, index\.json says"):
        SplitReader(DataIndex.load(copy), "train")


@pytest.mark.parametrize("storage", Storage)
def test_damaged_sample_is_named(storage, tmp_path):
    folder = write_set(tmp_path / "shards", train=[9, 9], val=[9], storage=storage)
    shard = folder / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    place = data.index(b"clip/001." + storage.value.encode()) + 512
    data[place : place + 400] = bytes(400)
    shard.write_bytes(data)
    reader = SplitReader(DataIndex.load(folder), "train")
    reader.read(windows([0], [0], 2), 1, labels=False)
    with pytest.raises(ValueError, match=r"train-000000\.tar, sample clip/001: .*re-run data_prep"):
        reader.read(windows([1], [0], 2), 1, labels=False)


def test_pickled_labels_are_refused(tmp_path):
    folder = write_set(tmp_path / "shards", train=[9], val=[9])
    shard = folder / "train-000000.tar"
    data = bytearray(shard.read_bytes())
    place = data.index(b"clip/000.actions.npy") + 512
    header = bytes(data[place : place + 128])
    data[place : place + 128] = header.replace(b"'<f4'", b"'|O' ")
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="allow_pickle=False"):
        SplitReader(DataIndex.load(folder), "train").read(windows([0], [0], 2), 1, labels=True)
