import dataclasses
import pickle
import shutil

import numpy as np
import pytest
import torch

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


def test_training_reads_recorded_actions_without_factors(folder):
    every = reader(folder).read(windows([0, 1], [1, 2], 3), labels=True)
    actions = reader(folder).read(windows([0, 1], [1, 2], 3), labels=True, factors=False)
    assert every.factors and not actions.factors
    assert actions.actions is not None and torch.equal(actions.actions, every.actions)


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


def test_labels_aggregate_like_those_between_states(folder):
    dense = reader(folder).read(windows([3], [3], 13), labels=True)
    strided = reader(folder).read(windows([3], [3], 5, stride=3), labels=True)
    # steps from frame 3 on in groups of three: the first number adds up, of the second the last counts
    groups = dense.actions.unflatten(1, (4, 3))
    torch.testing.assert_close(strided.actions, torch.stack([groups[..., 0].sum(dim=2), groups[..., -1, 1]], dim=-1))
    assert torch.equal(strided.factors["enters"], dense.factors["enters"].unflatten(1, (4, 3)).amax(dim=2))


def test_reader_travels_to_other_processes_with_open_files(folder):
    mine = reader(folder)
    before = mine.read(windows([0], [0], 2), labels=True)
    after = pickle.loads(pickle.dumps(mine)).read(windows([0], [0], 2), labels=True)
    assert torch.equal(before.frames, after.frames)


def test_starting_opens_no_shard(copy):
    for file in [*copy.glob("*.tar"), *copy.glob("*-*.parquet")]:
        file.write_bytes(b"not what was written")
    assert reader(copy).histogram.num_samples == 4


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
