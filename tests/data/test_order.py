import numpy as np
import pytest

from lam.data.order import DRAWS_PER_BLOCK, TrainingOrder, apportion, list_covering_windows, list_disjoint_windows
from lam.data.schema import ShardInfo
from lam.data.windowing import LengthHistogram, RandomWindows

SIZES = [7, 1, 12, 3, 9]
SHARDS = np.repeat(np.arange(5), SIZES)
LENGTHS = np.full(32, 10)


def infos(lengths, shards=SHARDS):
    """What shards.parquet says of samples of these lengths."""
    found = []
    for shard in range(shards.max() + 1):
        different, counts = np.unique(np.asarray(lengths)[shards == shard], return_counts=True)
        size = int(counts.sum())
        found.append(ShardInfo(f"{shard}.tar", size, 0, 0, "", "", tuple(different.tolist()), tuple(counts.tolist())))
    return found


def order(seed=0, buffer=8, lengths=LENGTHS, frames=3, stride=2, windows_per_sample=1):
    windowing = RandomWindows(frames, stride, seed)
    return TrainingOrder([LengthHistogram(infos(lengths)).num_windows(windowing)], [1], windowing, buffer, windows_per_sample)


def placed(windows, lengths=LENGTHS, shards=SHARDS):
    """(samples, starts, positions), samples numbered through all shards, as reading the shards would find them."""
    found = np.empty((3, len(windows)), dtype=np.int64)
    for i, (shard, number, position) in enumerate(zip(windows.shards, windows.numbers, windows.positions, strict=True)):
        mine = np.flatnonzero(shards == shard)
        each = windows.windowing.locate(np.asarray(lengths)[mine], np.array([number]), np.array([position]))
        start = windows.windowing.starts(each.lengths, each.indices, np.array([position]))
        found[:, i] = mine[each.rows[0]], start[0], each.positions[0]
    return found


def everything(windows):
    return windows.take(np.arange(len(windows)))


@pytest.mark.parametrize("buffer", [1, 8, 1000])
def test_a_pass_draws_every_sample_once_and_every_window_fits(buffer):
    samples, starts, _ = placed(order(buffer=buffer).windows(np.arange(3 * 32)))
    for number in range(3):
        assert sorted(samples[32 * number : 32 * (number + 1)]) == list(range(32))
    assert starts.min() == 0 and starts.max() == 10 - 5  # span is 5


def test_order_is_a_function_of_position_however_it_is_asked():
    whole = placed(order().windows(np.arange(200)))
    backwards = order()
    for position in reversed(range(0, 200, 7)):
        one = placed(backwards.windows(np.array([position])))
        assert (one[:, 0] == whole[:, position]).all()


def test_passes_and_seeds_differ():
    first, second = np.split(placed(order().windows(np.arange(64)))[0], 2)
    assert (first != second).any()
    assert (placed(order(seed=1).windows(np.arange(32)))[0] != first).any()


def test_shards_are_read_one_after_another_up_to_the_buffer():
    shards = order(buffer=1).windows(np.arange(32)).shards
    assert (np.diff(shards) != 0).sum() == 4  # five runs, each shard one
    shards = order(buffer=8).windows(np.arange(32)).shards
    assert max(len(set(shards[i : i + 8])) for i in range(0, 32, 8)) <= 4


def test_samples_that_are_too_short_are_never_drawn():
    lengths = LENGTHS.copy()
    lengths[[0, 7, 31]] = 4  # number 7 is the only one of its shard
    short = order(lengths=lengths)
    assert len(short) == 29
    assert set(placed(short.windows(np.arange(29)), lengths)[0]) == set(range(32)) - {0, 7, 31}


def test_starts_are_uniform():
    starts = placed(order(frames=2, stride=1, buffer=1000).windows(np.arange(9000)))[1]
    counts = np.bincount(starts, minlength=9)
    assert ((counts - 1000) ** 2 / 1000).sum() < 26.1  # chi-square, 8 degrees of freedom, 0.1 %


def test_windows_of_a_sample_come_one_after_another():
    samples, starts, _ = placed(order(windows_per_sample=4).windows(np.arange(4 * 32)))
    assert (samples.reshape(32, 4) == samples[::4, None]).all()
    assert sorted(samples[::4]) == list(range(32))
    assert len({tuple(row) for row in starts.reshape(32, 4)}) > 20


def test_replacements_are_other_samples_of_the_same_block_and_a_function_of_position():
    positions = np.arange(32)
    whole = order(buffer=8)
    first = placed(whole.windows(positions))[0]
    for attempt in (1, 2):
        others = placed(whole.windows(positions, attempt))[0]
        assert [set(others[i : i + 8]) <= set(first[i : i + 8]) for i in range(0, 32, 8)] == [True] * 4
        assert (others != first).any()
        alone = [placed(order(buffer=8).windows(positions[i : i + 1], attempt))[0][0] for i in positions]
        assert alone == others.tolist()


def test_a_hundred_million_samples_cost_memory_for_their_shards_only():
    sizes = np.full(50_000, 2000)
    big = TrainingOrder([sizes], [1], RandomWindows(3, 1, 0), buffer=4096)
    assert len(big) == 10**8
    windows = big.windows(np.arange(10**8 - 64, 10**8 + 64))  # over the end of a pass
    assert len(set(zip(windows.shards[:64], windows.numbers[:64], strict=True))) == 64
    held = [array for block in big._orders[0]._blocks.values() for array in block]
    assert held and all(array.size <= 4096 for array in held)


@pytest.mark.parametrize("weights", [[1, 1], [3, 1], [0.2, 0.5, 0.3], [1, 1000]])
def test_every_set_has_its_exact_share_and_makes_its_own_passes(weights):
    sizes = [np.array([3, 4]), np.array([11]), np.array([2, 2, 5])][: len(weights)]
    mixed = TrainingOrder(sizes, weights, RandomWindows(3, 2, 0), buffer=4)
    whole = mixed.windows(np.arange(4 * DRAWS_PER_BLOCK))
    sets = np.repeat(np.arange(len(sizes)), [len(each) for each in sizes])[whole.shards]
    for block in sets.reshape(4, DRAWS_PER_BLOCK):
        counts = np.bincount(block, minlength=len(weights))
        assert (counts == apportion(weights)).all()
        assert (np.abs(counts - DRAWS_PER_BLOCK * np.array(weights) / sum(weights)) <= 1).all()
    for number, size in enumerate(sizes):
        drawn = list(zip(whole.shards[sets == number], whole.numbers[sets == number], strict=True))
        for start in range(0, len(drawn) - size.sum() + 1, size.sum()):
            assert len(set(drawn[start : start + size.sum()])) == size.sum()
    again = [mixed.windows(np.array([position])) for position in (0, 1023, 1024, 3000)]
    assert [(w.shards[0], w.numbers[0]) for w in again] == [(whole.shards[p], whole.numbers[p]) for p in (0, 1023, 1024, 3000)]


def test_mixed_sets_are_interleaved():
    sets = (
        TrainingOrder([np.array([5]), np.array([5])], [1, 1], RandomWindows(2, 1, 0), buffer=4)
        .windows(np.arange(DRAWS_PER_BLOCK))
        .shards
    )
    halves = sets.reshape(-1, 128).mean(axis=1)
    assert ((halves > 0.3) & (halves < 0.7)).all()


def test_a_share_too_small_to_be_drawn():
    with pytest.raises(ValueError, match="less than 1 of 1024 draws"):
        apportion([1, 5000])


def test_spread_windows_by_brute_force():
    lengths, shards = np.array([10, 2, 5, 16]), np.array([0, 0, 1, 1])
    expected = [(sample, start) for sample, length in enumerate(lengths) for start in range(0, length - 4, 5)]
    histograms = LengthHistogram(infos(lengths, shards))
    samples, starts, positions = placed(everything(list_disjoint_windows(histograms, 3, 2, None)), lengths, shards)
    assert list(zip(samples, starts, strict=True)) == expected
    assert positions.tolist() == list(range(len(expected)))
    samples, starts, positions = placed(everything(list_disjoint_windows(histograms, 3, 2, 3)), lengths, shards)
    assert [expected[i] for i in positions] == list(zip(samples, starts, strict=True))
    assert positions.tolist() == [1, 3, 5]  # the middles of three thirds of six


@pytest.mark.parametrize(("frames", "stride", "per_state"), [(2, 1, 1), (5, 1, 1), (4, 3, 1), (4, 1, 2), (8, 2, 2)])
def test_covering_windows_hold_every_transition_once(frames, stride, per_state):
    lengths = np.array([1, 2, 3, 4, 9, 30, 31, 32, 33])
    shards = np.array([0, 0, 0, 1, 1, 1, 2, 2, 2])
    found, positions = [], []
    for windows in list_covering_windows(LengthHistogram(infos(lengths, shards)), frames, stride, per_state, first=5):
        held = windows.windowing.frames
        assert held <= frames and held % per_state == 0
        for sample, start, position in placed(everything(windows), lengths, shards).T.tolist():
            states = [start + stride * i for i in range(0, held, per_state)]
            assert states[-1] + (per_state - 1) * stride < lengths[sample]
            found += [(sample, before) for before in states[:-1]]
            positions.append((position, sample, start))
    states = [((int(length) - 1) // stride + 1) // per_state for length in lengths]
    expected = [(s, stride * per_state * t) for s, count in enumerate(states) for t in range(count - 1)]
    assert sorted(found) == expected
    assert [p for p, _, _ in sorted(positions)] == list(range(5, 5 + len(positions)))
    assert sorted(positions) == sorted(positions, key=lambda place: place[1:])  # positions follow sample and time


@pytest.mark.parametrize(("count", "world"), [(1, 1), (1, 4), (3, 4), (10, 2), (12, 4), (13, 4)])
def test_batches_share_evenly_and_lose_nothing(count, world):
    windows = list_disjoint_windows(LengthHistogram(infos(np.full(count, 2), np.zeros(count, dtype=int))), 2, 1, None)
    batches = [windows.batch(number, 8, world) for number in range(-(-count // 8))]
    assert all(len(batch) % world == 0 and len(batch) <= 8 for batch in batches)
    seen = np.concatenate([batch.positions for batch in batches])
    assert set(seen) == set(range(count))
    assert len(seen) < count + world
