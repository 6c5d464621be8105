import itertools
import tracemalloc

import av
import numpy as np
import pytest

from data_prep.options import PreparationOptions
from data_prep.pipeline.plan import ONE_SOURCE, PlannedRecording, make_plan
from data_prep.pipeline.segment import SegmentGenerator
from data_prep.shards.duplicates import find_duplicates
from data_prep.shards.thumbnails import largest_change, sample_thumbnail, thumbnails
from data_prep.sources.base import Listing, Recording
from lam.data.schema import ActionField, aggregate_steps
from tests.data_prep.sources.recordings import Made

RNG = np.random.default_rng(0)
STEPS = {"sum": np.sum, "mean": np.mean, "max": np.max}
STEPS |= {"first": lambda values, axis: values[0], "last": lambda values, axis: values[-1]}


@pytest.mark.parametrize("aggregation", list(STEPS))
def test_steps_aggregate_as_by_hand(aggregation):
    steps = RNG.normal(size=(20, 3)).astype(np.float32)
    bounds = np.array([2, 3, 7, 8, 19])
    expected = [STEPS[aggregation](steps[a:b], axis=0) for a, b in itertools.pairwise(bounds)]
    np.testing.assert_allclose(aggregate_steps(steps, bounds, aggregation), expected, rtol=1e-6)
    assert aggregate_steps(steps, bounds, aggregation).dtype == np.float32


def test_each_number_of_an_action_aggregates_in_its_own_way():
    steps = np.arange(10.0).reshape(5, 2)
    np.testing.assert_array_equal(aggregate_steps(steps, np.array([0, 2, 5]), ["sum", "last"]), [[2, 3], [18, 9]])
    with pytest.raises(ValueError, match="5 steps were recorded, frame 6 needs 6"):
        aggregate_steps(steps, np.array([0, 6]), "sum")


def test_actions_follow_the_frames_that_are_kept():
    """At 8 frames a second and 3 kept, by hand: the frames on show at k/3 s, and what was done between them."""
    fields = [ActionField("move", 1, "sum"), ActionField("target", 1, "last"), ActionField("rate", 1, "mean")]
    rows = RNG.normal(size=(40, 3)).astype(np.float32)
    source = Made([40], fields=fields, labels=lambda steps: rows, factors=lambda n: {"hit": np.arange(n) % 5})
    options = PreparationOptions(size=16, fps=3, max_seconds=2, min_frames=4)
    samples = list(SegmentGenerator(source, options).samples(source.find().recordings[0], print))
    kept = [int(np.floor(k / 3 * 8 + 1e-9)) for k in range(15)]
    assert [round(t * 8) for sample in samples for t in sample.times] == kept[:12]  # the rest is too short
    for sample, frames in zip(samples, (kept[:6], kept[6:12]), strict=True):
        pairs = list(itertools.pairwise(frames))
        np.testing.assert_allclose(sample.actions[:, 0], [rows[a:b, 0].sum() for a, b in pairs], rtol=1e-5)
        np.testing.assert_array_equal(sample.actions[:, 1], [rows[b - 1, 1] for _, b in pairs])
        np.testing.assert_allclose(sample.actions[:, 2], [rows[a:b, 2].mean() for a, b in pairs], rtol=1e-5)
        np.testing.assert_array_equal(sample.factors["hit"], [(np.arange(a, b) % 5).max() for a, b in pairs])


def test_pieces_are_dropped_with_a_reason():
    reasons = []
    still = PreparationOptions(size=16, min_frames=4, max_seconds=1, static_below=250.0)
    source = Made([20])
    assert list(SegmentGenerator(source, still).samples(source.find().recordings[0], reasons.append)) == []
    assert reasons == ["static"] * 3 and len(list(source.open(source.find().recordings[0]).pictures)) == 20
    reasons.clear()
    kept = SegmentGenerator(source, PreparationOptions(size=16, min_frames=5, max_seconds=1)).samples(
        source.find().recordings[0], reasons.append
    )
    assert [len(sample.times) for sample in kept] == [8, 8] and reasons == ["fewer than 5 frames"]


@pytest.mark.parametrize(
    "wrong", [{"size": 4}, {"fps": 0.0}, {"fps": 4.0, "max_seconds": 1.0}, {"min_frames": 1}, {"max_seconds": 0.0}]
)
def test_options_out_of_range(wrong):
    with pytest.raises(ValueError, match="--" + next(iter(wrong)).replace("fps", "fps|min_frames")):
        PreparationOptions(**wrong)


def test_a_longer_recording_needs_no_more_memory():
    class Long(Made):
        def _pictures(self, recording):
            frame = np.zeros((64, 64, 3), np.uint8)
            return ((i / 8, av.VideoFrame.from_ndarray(frame + 100 + i % 2, format="rgb24")) for i in range(self.lengths[0]))

    def peak(frames):
        tracemalloc.start()
        source = Long([frames])
        options = PreparationOptions(size=64, max_seconds=2, cuts=True)
        count = sum(1 for _ in SegmentGenerator(source, options).samples(source.find().recordings[0], print))
        found = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return count, found

    (few, small), (many, large) = peak(64), peak(3200)
    assert (few, many) == (4, 200) and large < 1.5 * small


def test_thumbnails_are_means_of_cells():
    frames = RNG.integers(0, 256, (3, 40, 24, 3)).astype(np.uint8)
    expected = frames[..., 1].reshape(3, 8, 5, 8, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(thumbnails(frames), expected, rtol=1e-5)
    assert thumbnails(frames[:, :19, :21]).shape == (3, 8, 8)
    np.testing.assert_allclose(largest_change(frames), np.abs(np.diff(expected, axis=0)).max(), rtol=1e-5)


def test_near_duplicates_by_brute_force():
    originals = RNG.integers(0, 256, (40, 192))
    copies = originals[[3, 3, 17, 39]] + RNG.integers(-3, 4, (4, 192))  # re-encoded
    prints = np.concatenate([originals, copies, originals[:1]]).clip(0, 255).astype(np.uint8)
    found = find_duplicates(prints, below=8.0)
    kept, expected = [], []
    for row in prints.astype(int):
        expected.append(any(np.abs(row - other).max() < 8 for other in kept))
        if not expected[-1]:
            kept.append(row)
    assert found.tolist() == expected and found.sum() == 5


def test_small_movements_before_a_fixed_camera_are_no_duplicates():
    room = np.full((9, 64, 64, 3), 120, np.uint8)
    one, two = room.copy(), room.copy()
    for i in range(9):
        one[i, 20:28, 4 * i : 4 * i + 8] = 200
        two[i, 36:44, 4 * i : 4 * i + 8] = 200
    prints = np.stack([np.frombuffer(sample_thumbnail(frames), np.uint8) for frames in (one, two, one)])
    assert find_duplicates(prints, below=4.0).tolist() == [False, False, True]


def plan(source, val_share=0.3, seed=0, min_frames=2):
    generator = SegmentGenerator(source, PreparationOptions(size=16, min_frames=min_frames, max_seconds=1))
    return make_plan(source.find(), generator, val_share, seed, min_frames)


def names(jobs):
    return [entry.recording.name for job in jobs for entry in job]


def test_splits_are_a_function_of_names_and_seed():
    made = plan(Made([9] * 10))
    train, val = names(made.jobs["train"]), names(made.jobs["val"])
    assert len(val) == 3 and sorted(train + val) == [f"r{i:03d}" for i in range(10)]
    assert plan(Made([9] * 10)) == made
    assert {tuple(names(plan(Made([9] * 10), seed=seed).jobs["val"])) for seed in range(8)} != {tuple(val)}


def test_both_splits_get_a_source_that_can_be_read():
    for seed in range(6):
        made = plan(Made([1, 9, 1, 1, 9, 1]), val_share=0.5, seed=seed)
        assert {"r001", "r004"} & set(names(made.jobs["train"])) and {"r001", "r004"} & set(names(made.jobs["val"]))
        assert sorted(names(made.jobs["train"]) + names(made.jobs["val"])) == [f"r{i:03d}" for i in range(6)]


def test_cameras_of_an_episode_stay_together():
    recordings = [Recording(f"e{i}/camera{c}", f"e{i}", 10, {"n": 9}) for i in range(6) for c in range(3)]
    source = Made([9])
    source.find = lambda: Listing(recordings)
    source.open = lambda recording: Made([9]).open(Recording("r000", "r000", 9, {"n": 9}))
    made = plan(source)
    assert {name[:2] for name in names(made.jobs["val"])}.isdisjoint(name[:2] for name in names(made.jobs["train"]))
    assert len(names(made.jobs["val"])) == 6


def test_the_only_source_is_split_in_time():
    made = plan(Made([80, 1]))
    recording = Made([80]).find().recordings[0]
    assert made.note == ONE_SOURCE and made.jobs["val"] == [[PlannedRecording(recording, 9)]]
    assert PlannedRecording(recording, 0, 9) in made.jobs["train"][0] and "r001" in names(made.jobs["train"])
    short = plan(Made([8]), min_frames=2)
    assert [[e.cut for e in job] for job in [*short.jobs["train"], *short.jobs["val"]]] == [[6], [6]]
    with pytest.raises(ValueError, match="r000 is the only usable source and gives one clip of 8 frames"):
        plan(Made([8]), min_frames=5)


def test_nothing_usable_says_why():
    with pytest.raises(ValueError, match=r"Nothing usable was found. r00\d: fewer than 2 frames"):
        plan(Made([1, 1]))
    with pytest.raises(ValueError, match="Nothing can be read: a: torn"):
        make_plan(Listing([], [("a", "torn")]), SegmentGenerator(Made([]), PreparationOptions()), 0.1, 0, 2)
    with pytest.raises(ValueError, match="--val_share is 1"):
        plan(Made([9, 9]), val_share=1)


def test_jobs_hold_about_equal_work():
    source = Made([8] * 60)
    source.find = lambda: Listing([Recording(f"r{i:03d}", f"r{i:03d}", 2**22, {"n": 8}) for i in range(60)])
    made = plan(source, val_share=0.2)
    assert [len(job) for job in made.jobs["train"]] == [2] * 24 and [len(job) for job in made.jobs["val"]] == [2] * 6
