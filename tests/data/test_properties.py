"""Properties of the order of data for any mixture of segments, windows, processes and workers."""

import itertools
import math
from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lam.data.corruption import CorruptionCounter
from lam.data.datamodule import ClipDataModule
from lam.data.loader import BatchStream, Partition, TrainingBatches, WindowBatches
from lam.data.order import TrainingOrder, list_covering_windows, list_disjoint_windows
from lam.data.schema import ShardInfo
from lam.data.watchdog import Watchdog
from lam.data.windowing import LengthHistogram, RandomWindows
from tests.data.shards import frame_of, write_set

lengths_of_shards = st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=8), min_size=1, max_size=6)
small = st.integers(1, 4)
examples = settings(deadline=None, derandomize=True, max_examples=50)


def histograms(shards):
    infos = []
    for lengths in shards:
        different, counts = np.unique(lengths, return_counts=True)
        infos.append(ShardInfo("", len(lengths), sum(lengths), 0, "", "", tuple(different.tolist()), tuple(counts.tolist())))
    return LengthHistogram(infos)


@dataclass
class Reader:
    """Finds windows as a reader of shards does: (position, shard, sample, start, frames) of each, without pixels."""

    shards: list[list[int]]

    def read(self, windows, labels, replace=None, corruptions=None, factors=True):
        found = np.empty((len(windows), 5), dtype=np.int64)
        for shard in set(windows.shards.tolist()):
            here, lengths = windows.shards == shard, np.array(self.shards[shard])
            rows, own, indices, positions = windows.windowing.locate(lengths, windows.numbers[here], windows.positions[here])
            starts = windows.windowing.starts(own, indices, windows.positions[here])
            assert starts.min() >= 0 and (starts + windows.windowing.span <= lengths[rows]).all()
            found[here] = np.stack(np.broadcast_arrays(positions, shard, rows, starts, windows.windowing.frames), axis=1)
        return [tuple(row) for row in found.tolist()]


def batches_of(batches):
    return [batches[number][0] for number in range(len(batches))]


@examples
@given(lengths_of_shards, st.integers(2, 8), small, small, st.integers(1, 9), st.integers(0, 30))
def test_each_validation_window_once(shards, frames, stride, world, batch_size, limit):
    span = (frames - 1) * stride + 1
    expected = [
        (shard, row, start)
        for shard, lengths in enumerate(shards)
        for row, length in enumerate(lengths)
        for start in range(0, length - span + 1, span)
    ]
    parts = [(Reader(shards), list_disjoint_windows(histograms(shards), frames, stride, limit or None))]
    shares = [batches_of(WindowBatches(parts, batch_size, within_batches=Partition(world, rank))) for rank in range(world)]
    assert len({tuple(map(len, share)) for share in shares}) == 1  # in step
    chosen = min(limit or math.inf, len(expected))
    for number, batch in enumerate(zip(*shares, strict=True)):
        rows = [row for part in batch for row in part]
        size = min(batch_size, chosen - number * batch_size)
        assert len(set(rows)) == size and len(rows) == -(-size // world) * world  # repeats only fill up
    rows = {row for share in shares for batch in share for row in batch}
    assert len(rows) == len({row[0] for row in rows}) == chosen
    assert all(expected[position] == (shard, row, start) for position, shard, row, start, _ in rows)


@examples
@given(lengths_of_shards, small, st.integers(1, 3), small, small, st.integers(1, 9))
def test_each_transition_once_in_prediction(shards, full, per_state, stride, world, batch_size):
    parts = [(Reader(shards), w) for w in list_covering_windows(histograms(shards), (full + 1) * per_state, stride, per_state)]
    expected = [
        (shard, row, stride * per_state * t)
        for shard, lengths in enumerate(shards)
        for row, length in enumerate(lengths)
        for t in range(((length - 1) // stride + 1) // per_state - 1)
    ]
    if not expected:
        assert not parts
        return
    shares = [batches_of(WindowBatches(parts, batch_size, among_batches=Partition(world, rank))) for rank in range(world)]
    assert max(map(len, shares)) - min(map(len, shares)) <= 1
    rows = sorted(row for share in shares for batch in share for row in batch)
    assert [row[0] for row in rows] == list(range(len(rows)))
    assert [  # in the order of their positions they follow time
        (shard, row, start + stride * per_state * t)
        for _, shard, row, start, frames in rows
        for t in range(frames // per_state - 1)
    ] == expected


sets_of_shards = st.lists(st.tuples(lengths_of_shards, st.floats(0.1, 10)), min_size=1, max_size=3)


def training(sets, frames, stride, seed, buffer, per_sample):
    """A reader and an order of several sets, each with one sample at least that is long enough."""
    windowing = RandomWindows(frames, stride, seed)
    shards = [[*each, [windowing.span]] for each, _ in sets]
    sizes = [histograms(each).num_windows(windowing) for each in shards]
    order = TrainingOrder(sizes, [weight for _, weight in sets], windowing, buffer, per_sample)
    return Reader([lengths for each in shards for lengths in each]), order, sizes


@examples
@given(sets_of_shards, st.integers(2, 8), small, st.integers(0, 99), st.integers(1, 50), small, small, st.data())
def test_resuming_after_any_number_of_batches_on_any_number_of_processes(
    sets, frames, stride, seed, buffer, per_sample, world, data
):
    reader, order, _ = training(sets, frames, stride, seed, buffer, per_sample)
    whole = reader.read(order.windows(np.arange(120)), labels=False)
    done, other = data.draw(st.integers(0, 4), "batches before"), data.draw(small, "processes after")
    before = [TrainingBatches(reader, order, windows_per_process=12 // world, rank=rank) for rank in range(world)]
    state = BatchStream(
        before[0], 12 // world * world, lambda: done, 0, Watchdog(world, 0), CorruptionCounter(1, 0)
    ).state_dict()
    seen = [row for batch in range(done) for each in before for row in each[batch * (12 // world * world)][0]]
    fresh = training(sets, frames, stride, seed, buffer, per_sample)[1]  # of another process
    after = [TrainingBatches(reader, fresh, windows_per_process=2, rank=rank) for rank in range(other)]
    stream = BatchStream(after[0], 2 * other, lambda: 0, 0, Watchdog(other, 0), CorruptionCounter(1, 0))
    stream.load_state_dict(state)
    seen += [row for batch in range(3) for each in after for row in each[stream.position() + batch * 2 * other][0]]
    assert seen == whole[: len(seen)]


@settings(examples, max_examples=25)
@given(sets_of_shards, st.integers(2, 5), st.integers(0, 99), st.integers(10, 50), small)
def test_training_shares(sets, frames, seed, buffer, per_sample):
    reader, order, sizes = training(sets, frames, 1, seed, buffer, per_sample)
    count = 2048 * per_sample
    windows = order.windows(np.arange(count))
    owner = np.repeat(np.arange(len(sets)), [len(each) for each in sizes])[windows.shards]
    weights = np.array([weight for _, weight in sets])
    # every set its share
    assert np.abs(np.bincount(owner, minlength=len(sets)) - count * weights / weights.sum()).max() <= 2 * per_sample
    for number in range(len(sets)):  # every sample of it equally often, but for a pass that has begun
        mine = owner == number
        drawn = np.unique(np.stack([windows.shards[mine], windows.numbers[mine]]), axis=1, return_counts=True)[1]
        passes = mine.sum() / per_sample / sizes[number].sum()
        if passes >= 1:
            assert len(drawn) == sizes[number].sum()
            assert (np.abs(drawn / per_sample - passes) < 1 + 1e-9).all()
    # places within a sample are uniform: each lies in the first half of what is possible as often as in the second
    found = reader.read(windows, labels=False)
    room = np.array([reader.shards[shard][row] - frames for _, shard, row, _, _ in found])
    starts = np.array([start for _, _, _, start, _ in found])
    mean = (starts[room > 0] / room[room > 0]).mean() if (room > 0).sum() > 500 else 0.5
    assert abs(mean - 0.5) < 5 * 0.5 / math.sqrt(max((room > 0).sum(), 500))  # five standard deviations of the coarsest case


@pytest.mark.filterwarnings("ignore:This DataLoader will create")  # more than there are cores
@pytest.mark.parametrize("num_workers", range(5))
def test_real_workers(tmp_path, num_workers):
    folder = write_set(tmp_path / "shards", train=[9, 12, 7, 20], val=[10, 13, 4], per_shard=2)
    rows = []
    for workers in (0, num_workers):
        data = ClipDataModule(folder, frames=3, batch_size=3, num_workers=workers, windows_per_sample=2)
        clips = [*itertools.islice(data.train_dataloader(), 7), *data.val_dataloader(), *data.predict_dataloader()]
        rows.append([(clip.position.tolist(), frame_of(clip.frames.numpy()).tolist()) for clip in clips])
    assert rows[0] == rows[1]
