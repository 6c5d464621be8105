import re
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter, map_coordinates

from data_prep.inspection.action_lag import ActionLag, LagVerdict, format_lag, lag_targets, suggest_options
from data_prep.inspection.action_stats import describe_dimensions, find_anomalies, starts_at_zero
from data_prep.inspection.preview import preview_recording, preview_recordings
from data_prep.inspection.report import inspect_source
from data_prep.sources.base import Listing, Recording, Source, Stream, array_frames
from lam.data.schema import ActionField


def panned(positions, seed=0, height=36, width=48):
    """Frames of a textured scene that moves by ``positions`` (F, 2) to the right and down."""
    smooth = gaussian_filter(np.random.default_rng(seed).random((96, 96)), 2, mode="wrap")
    scene = 255 * (smooth - smooth.min()) / np.ptp(smooth)
    rows, columns = np.mgrid[:height, :width]
    frames = [map_coordinates(scene, [rows - y, columns - x], order=1, mode="grid-wrap") for x, y in positions]
    return np.repeat(np.array(frames)[..., None], 3, axis=-1).astype(np.uint8)


@dataclass
class Panning(Source):
    """A camera that is panned by its actions, which show ``late`` frames after their row."""

    late: int = 0
    noise: bool = False
    fps: float = 10.0
    recordings: int = 5
    frames: int = 60
    lag: int = 0
    zeros_first: bool = False
    src: Path = Path("nowhere")

    def find(self):
        listed = [Recording(f"drive {i}", f"day {i}", 2**20, {"seed": i}) for i in range(self.recordings)]
        return Listing(listed, [(f"lost {i}", "half of it is gone") for i in range(12)], ["A note."])

    def action_fields(self):
        return [ActionField("pan", 2, "mean"), ActionField("button", 1, "last")]

    def open(self, recording):
        seed = recording.place["seed"]
        if seed == 99:
            raise ValueError("no drive has this number")
        rng = np.random.default_rng(seed)
        around = 2 * gaussian_filter(rng.standard_normal((self.frames + 20, 2)), (0.7, 0))
        positions = np.cumsum(around[10 - self.late :][: self.frames], axis=0)
        actions = np.zeros((self.frames, 3), np.float32)
        actions[:, :2] = rng.standard_normal((self.frames, 2)) if self.noise else around[11 : 11 + self.frames]
        if self.zeros_first:
            actions[0] = 0
        frames = zip(np.arange(self.frames) / self.fps, array_frames(panned(positions, seed)), strict=True)
        return Stream(frames, actions, {"wheel": actions[:, 0]})


@pytest.mark.parametrize("late", [-1, 0, 3])
def test_the_lag_of_a_panned_camera_is_found(late):
    text = inspect_source(Panning(late), "panning")
    assert f"Largest at lag {late}, 95 % interval {late} to {late}" in text
    advised = {0: "aligned.", 3: "prepare with --lag 3."}
    assert advised.get(late, "the rows come late") in text
    assert float(re.search(rf"pan\[0\] .* ([01]\.\d\d) +{late}\n", text)[1]) > 0.9


def test_actions_that_are_noise_have_no_relation():
    text = inspect_source(Panning(noise=True), "panning")
    assert "no relation found" in text and "! The lag is not known" in text
    assert "Largest at lag" not in text and "--lag" not in text


def test_what_was_found_and_read(tmp_path):
    text = inspect_source(Panning(), "panning", plots=tmp_path / "plots", recordings=3, frames=30)
    assert text.startswith("panning nowhere: 5 recordings of 5 sources, 5.0 MiB.\n! A note.\n! Cannot be used:\n!   lost 0: ")
    assert "!   ... and 2 more" in text and "lost 10" not in text
    assert "Read 3 of 5 recordings, 0 of them to the end: 90 frames." in text
    assert "frames each   30\n" in text and "seconds each  2.90\n" in text and "width x height  48 x 36\n" in text
    assert "frames a second 10; 98 % of intervals are 1.00 to 1.00" in text and "frame rate varies" not in text
    assert "! Never change: button." in text and "also recorded: wheel" in text
    with Image.open(tmp_path / "plots" / "panning.png") as picture:
        assert picture.width > 1000 and np.asarray(picture.convert("L")).std() > 10


def test_recordings_are_evenly_spread_and_as_many_frames_in_all():
    source = Panning()
    listed = [*source.find().recordings, Recording("broken", "broken", 1, {"seed": 99})]
    seen, failed = preview_recordings(source, listed, recordings=3, frames=20)
    assert [each.name for each in seen] == ["drive 0", "drive 2"] and failed == [("broken", "no drive has this number")]
    seen, _ = preview_recordings(source, listed[:2], recordings=6, frames=20)
    assert [len(each.times) for each in seen] == [60, 60]


def test_a_preview_reads_what_is_there():
    source = Panning()
    recording = source.find().recordings[1]
    part, whole = preview_recording(source, recording, 30), preview_recording(source, recording, 60)
    assert (part.whole, len(part.actions), len(part.motion)) == (False, 60, 29)  # rows cost nothing, pictures do
    assert (whole.whole, len(whole.actions), len(whole.motion)) == (True, 59, 59)
    np.testing.assert_array_equal(part.motion, whole.motion[:29])
    # the shift between frames is the action; frames are 48 pixels wide, so nothing is rescaled
    assert np.corrcoef(whole.motion[:, 0], whole.actions[:, 0])[0, 1] > 0.95
    np.testing.assert_allclose(np.median(np.abs(whole.motion[:, 2:4] - whole.actions[:, :2])), 0, atol=0.15)
    assert [picture.shape for picture in whole.pictures] == [(96, 128, 3)] * 7


def test_numbers_by_hand():
    rows = np.array([[-1.0, 5, 0.5], [-1, 5, -3], [1, 5, np.nan], [0, 5, 0.25]])
    left, right, third = describe_dimensions([ActionField("grip", 2, "sum"), ActionField("turn", 1, "mean")], rows)
    assert (left.name, left.low, left.high, left.mean, left.at_low, left.at_high) == ("grip[0]", -1, 1, -0.25, 0.5, 0.25)
    assert left.std == pytest.approx(np.sqrt(np.mean((rows[:, 0] + 0.25) ** 2))) and left.outside == 0
    assert right.constant and right.outside == 1 and not left.constant
    assert (third.name, third.bad, third.distinct, third.outside) == ("turn", 1, 3, 1 / 3)


def saying(values, aggregation="sum"):
    return " ".join(find_anomalies(describe_dimensions([ActionField("arm", 1, aggregation)], np.array(values)[:, None]), []))


def test_mistakes_are_remarked_on_and_nothing_else_is():
    even = np.linspace(-0.9, 0.9, 1000)
    assert saying(even) == "" and saying(90 * even) == ""
    clipped = "arm is saturated or was clipped: 10% of the rows are at exactly its largest value 0.72."
    assert saying(even.clip(-2, 0.72)) == saying(even.clip(-0.85, 0.72)) == clipped  # 3 % at -0.85 are none too many
    assert "20% of the rows are at exactly its smallest value -0.54 and 10% of" in saying(even.clip(-0.54, 0.72))
    assert "Rows outside -1 to 1: arm (9.2%), arm from -1.1 to 1.1." in saying(1.1 * even / 0.9)
    assert "Rows outside -1 to 1: arm (87.6%)" in saying(9 * even)  # a policy's outputs before the environment clips them
    assert saying(9 * np.abs(even)) == ""  # a speed
    assert saying(1.1 * even / 0.9, "last") == ""  # an angle may be larger
    assert saying(even > 0) == "A few values only, a switch or a class: arm."
    assert "Infinite or not a number (NaN): arm (2 rows)" in saying([*even, np.nan, np.inf])
    assert "Never change: arm." in saying([3.0] * 50)


def test_remarks_name_whole_fields():
    rows = np.zeros((20, 6))
    rows[:, 2], rows[:, 3:5] = np.arange(20) / 20, (np.arange(20) % 2)[:, None]
    fields = [ActionField("legs", 2, "last"), ActionField("arm", 2, "last"), ActionField("hand", 2, "last")]
    assert find_anomalies(describe_dimensions(fields, rows), []) == [
        "Never change: legs, hand[1].",
        "A few values only, a switch or a class: arm[1], hand[0].",
    ]


def test_a_first_row_of_zeros_in_all_recordings():
    moving = np.ones((5, 2))
    begun = moving.copy()
    begun[0] = 0
    assert starts_at_zero([begun, begun])
    assert not starts_at_zero([begun]) and not starts_at_zero([begun, moving]) and not starts_at_zero([])
    resting = np.zeros((5, 2))
    assert not starts_at_zero([resting, resting, begun])  # it is only that nothing happens yet


def test_targets_are_compared_by_their_changes():
    rows = np.array([[1.0, 1], [3, 3], [np.nan, 4]])
    changes = lag_targets(rows, [ActionField("target", 1, "last"), ActionField("move", 1, "sum")])
    np.testing.assert_array_equal(changes, [[0, 1], [2, 3], [-3, 4]])


def lag_of(best, low=None, high=None, verdict=LagVerdict.clear):
    lags = np.arange(-8, 9)
    low, high = best if low is None else low, best if high is None else high
    return ActionLag(verdict, lags, np.zeros((17, 1)), np.ones(1, bool), np.zeros(17), best, low, high, 1000)


@pytest.mark.parametrize(
    ("lag", "options", "said"),
    [
        (lag_of(0), {}, "aligned."),
        (lag_of(1, 0, 1), {}, "aligned to within 1 frame."),
        (lag_of(3), {"lag": 0}, "Actions show 3 frames after their row: prepare with --lag 3."),
        (lag_of(-1), {"lag": 3}, "Actions show 1 frame before their row: prepare with --lag 2."),
        (lag_of(2, 1, 2), {}, "Actions show 1 to 2 frames after their row: servo, robot and camera take time."),
        (lag_of(1), {"shift": True}, "servo, robot and camera take time, or --shift is wrong."),
        (lag_of(-1), {"shift": False}, "Row i of the actions led to frame i: prepare with --shift true."),
        (lag_of(-2), {"shift": False, "lag": 0}, "Actions show 2 frames before their row: the rows come late"),
    ],
)
def test_advice_names_options_that_the_source_has(lag, options, said):
    assert said in suggest_options(lag, options)


def test_zeros_first_suggest_a_shift_where_there_is_one_to_set():
    text = "\n".join(format_lag(lag_of(0, 0, 1), {"shift": False}, zeros_first=True))
    assert "prepare with --shift true. Actions then show 1 to 2 frames after their row" in text
    unknown = "\n".join(format_lag(lag_of(0, verdict=LagVerdict.none), {"shift": False}, zeros_first=True))
    assert "prepare with --shift true.\n" in unknown + "\n" and "Actions then" not in unknown
    for options in ({}, {"shift": True}):
        assert "--shift" not in "\n".join(format_lag(lag_of(0), options, zeros_first=True))


def test_a_varying_frame_rate_and_repeated_frames_are_remarked_on():
    @dataclass
    class Stuttering(Panning):
        def open(self, recording):
            stream = super().open(recording)
            frames = [picture for _, picture in stream.pictures]
            times = np.arange(60) / 10 + np.repeat([0, 1.4], 30)
            return Stream(zip(times, [frame for frame in frames[:30] for _ in range(2)], strict=True))

        def action_fields(self):
            return []

    text = inspect_source(Stuttering(), "stuttering")
    assert "! The frame rate varies; the longest interval is 1.5 s." in text
    assert "! 51% of the frames repeat the one before" in text  # 30 of 59
    assert text.endswith("Actions: none.")


def test_too_small_numbers_are_refused():
    with pytest.raises(ValueError, match="--recordings is 0, expected 1 or more"):
        inspect_source(Panning(), "panning", recordings=0)


@pytest.mark.shared_data
def test_steering_of_a_real_car_shows_three_frames_later(shared_data):
    from data_prep.sources.donkeycar import DonkeyCar

    tub = shared_data / "actions" / "donkeycar_indoor_track"
    text, aligned = (inspect_source(DonkeyCar(tub, lag=lag), "donkeycar", frames=100) for lag in (0, 3))
    assert "Largest at lag 3, 95 % interval 3 to 3" in text and "prepare with --lag 3" in text
    assert float(re.search(r"angle .* (0\.\d\d) +3\n", text)[1]) > 0.36  # the README of the data: correlation 0.5 to 0.6
    assert re.search(r"throttle .* -\n", text)
    assert "Row i of the actions shows between frames i and i + 1: aligned." in aligned


@pytest.mark.shared_data
def test_a_real_replay_buffer(shared_data):
    from data_prep.sources.npz import Npz

    folder = shared_data / "actions" / "metaworld"
    options = {"frames": "observation", "actions": "action"}
    text, shifted = (inspect_source(Npz(folder, **options, shift=shift), "npz", recordings=10) for shift in (False, True))
    rows = []
    for path in sorted(folder.rglob("*.npz")):
        with np.load(path) as file:
            rows.append(file["action"])
    second = np.concatenate([rows[i][:-1] for i in np.linspace(0, 19, 10).round().astype(int)])[:, 1]
    assert f"action[1] ({np.mean(np.abs(second) > 1):.1%})" in text and f"to {second.max():g}. If the robot" in text
    assert not any(each[0].any() for each in rows)
    assert "The first row is all zeros in all 10 recordings" in text and "prepare with --shift true" in text
    assert "all zeros" not in shifted
    # the simulated arm takes a frame or so to follow, so motion does not betray the order of the rows: the zeros do
    for lag, found in enumerate((text, shifted)):
        best, low, high = map(int, re.search(r"at lag (-?\d+), 95 % interval (-?\d+) to (-?\d+)", found).groups())
        assert best == lag and lag <= low <= high <= lag + 1
