import numpy as np
import pytest

from lam.data.order import TrainingOrder, covering_windows, global_batches, spread_windows

SHARDS = np.repeat(np.arange(5), [7, 1, 12, 3, 9])
LENGTHS = np.full(32, 10)


def order(seed=0, buffer=8, lengths=LENGTHS, frames=3, stride=2):
    return TrainingOrder(SHARDS, lengths, frames, stride, seed, buffer)


@pytest.mark.parametrize("buffer", [1, 8, 1000])
def test_a_pass_draws_every_sample_once_and_every_window_fits(buffer):
    windows = order(buffer=buffer).windows(np.arange(3 * 32))
    for number in range(3):
        assert sorted(windows.samples[32 * number : 32 * (number + 1)]) == list(range(32))
    assert windows.starts.min() == 0 and windows.starts.max() == 10 - 5  # span is 5


def test_order_is_a_function_of_position_however_it_is_asked():
    whole = order().windows(np.arange(200))
    backwards = order()
    for position in reversed(range(0, 200, 7)):
        one = backwards.windows(np.array([position]))
        assert (one.samples[0], one.starts[0]) == (whole.samples[position], whole.starts[position])


def test_passes_and_seeds_differ():
    first, second = np.split(order().windows(np.arange(64)).samples, 2)
    assert (first != second).any()
    assert (order(seed=1).windows(np.arange(32)).samples != first).any()


def test_shards_are_read_one_after_another_up_to_the_buffer():
    shards = SHARDS[order(buffer=1).windows(np.arange(32)).samples]
    assert (np.diff(shards) != 0).sum() == 4  # five runs, each shard one
    shards = SHARDS[order(buffer=8).windows(np.arange(32)).samples]
    assert max(len(set(shards[i : i + 8])) for i in range(0, 32, 8)) <= 4


def test_samples_that_are_too_short_are_never_drawn():
    lengths = LENGTHS.copy()
    lengths[[0, 7, 31]] = 4
    short = order(lengths=lengths)
    assert len(short) == 29
    assert set(short.windows(np.arange(29)).samples) == set(range(32)) - {0, 7, 31}


def test_starts_are_uniform():
    starts = order(frames=2, stride=1, buffer=1000).windows(np.arange(9000)).starts
    counts = np.bincount(starts, minlength=9)
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # chi-square, 8 degrees of freedom, 0.1 %


def test_a_million_samples_cost_little():
    shards = np.repeat(np.arange(500), 2000)
    big = TrainingOrder(shards, np.full(10**6, 40), 3, 1, seed=0)
    windows = big.windows(np.arange(10**6 - 64, 10**6 + 64))  # over the end of a pass
    assert len(set(windows.samples[:64])) == 64
    assert all(len(block) <= 4096 for block in big._blocks.values())  # nothing of the size of the set is shuffled


def test_spread_windows_by_brute_force():
    lengths = np.array([10, 2, 5, 16])
    everything = [(sample, start) for sample, length in enumerate(lengths) for start in range(0, length - 4, 5)]
    windows = spread_windows(lengths, frames=3, stride=2, limit=None)
    assert list(zip(windows.samples, windows.starts, strict=True)) == everything
    assert windows.positions.tolist() == list(range(len(everything)))
    some = spread_windows(lengths, frames=3, stride=2, limit=3)
    assert [everything[i] for i in some.positions] == list(zip(some.samples, some.starts, strict=True))
    assert some.positions.tolist() == [1, 3, 5]  # the middles of three thirds of six


@pytest.mark.parametrize(("frames", "stride", "per_state"), [(2, 1, 1), (5, 1, 1), (4, 3, 1), (4, 1, 2), (8, 2, 2)])
def test_covering_windows_hold_every_transition_once(frames, stride, per_state):
    lengths = np.array([1, 2, 3, 4, 9, 30, 31, 32, 33])
    found, positions = [], []
    for windows in covering_windows(lengths, frames, stride, per_state):
        assert windows.frames <= frames and windows.frames % per_state == 0
        for sample, start in zip(windows.samples.tolist(), windows.starts.tolist(), strict=True):
            states = [start + stride * i for i in range(0, windows.frames, per_state)]
            assert states[-1] + (per_state - 1) * stride < lengths[sample]
            found += [(sample, before) for before in states[:-1]]
        positions += list(zip(windows.positions, windows.samples, windows.starts, strict=True))
    states = [((int(length) - 1) // stride + 1) // per_state for length in lengths]
    expected = [(s, stride * per_state * t) for s, count in enumerate(states) for t in range(count - 1)]
    assert sorted(found) == expected
    assert [p for p, _, _ in sorted(positions)] == list(range(len(positions)))
    assert sorted(positions) == sorted(positions, key=lambda place: place[1:])  # positions follow sample and time


@pytest.mark.parametrize(("count", "world"), [(1, 1), (1, 4), (3, 4), (10, 2), (12, 4), (13, 4)])
def test_global_batches_share_evenly_and_lose_nothing(count, world):
    windows = spread_windows(np.full(count, 2), 2, 1, None)
    batches = global_batches(windows, 8, world)
    assert all(len(batch) % world == 0 and len(batch) <= 8 for batch in batches)
    seen = np.concatenate([batch.positions for batch in batches])
    assert set(seen) == set(range(count))
    assert len(seen) < count + world
