import json

import numpy as np
import pytest
from PIL import Image

from data_prep.sources.donkeycar import DonkeyCar
from lam.data.schema import ActionField


def write_tub(folder, milliseconds, per_catalog=10, deleted=(), **changes):
    """A tub whose image i has brightness i and whose record i has angle i/100 and throttle i/1000."""
    (folder / "images").mkdir(parents=True)
    records = [
        {
            "_index": i,
            "_session_id": "24-01-25_0",
            "_timestamp_ms": 1706111016186 + int(time),
            "cam/image_array": f"{i}_cam_image_array_.jpg",
            "user/angle": i / 100,
            "user/mode": "user",
            "user/throttle": i / 1000,
        }
        for i, time in enumerate(milliseconds)
    ]
    for i, change in changes.items():
        records[int(i[1:])].update(change)
    catalogs = [f"catalog_{k}.catalog" for k in range(-(-len(records) // per_catalog))]
    for k, name in enumerate(catalogs):
        part = records[k * per_catalog : (k + 1) * per_catalog]
        (folder / name).write_text("".join(json.dumps(record, sort_keys=True) + "\n" for record in part))
    for i in range(len(records)):
        Image.fromarray(np.full((12, 16, 3), i, np.uint8)).save(folder / "images" / f"{i}_cam_image_array_.jpg")
    lines = [
        ["cam/image_array", "user/angle", "user/throttle", "user/mode"],
        ["image_array", "float", "float", "str"],
        {},
        {"created_at": 1706111013.69},
        {"paths": catalogs, "current_index": len(records), "max_len": per_catalog, "deleted_indexes": list(deleted)},
    ]
    (folder / "manifest.json").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def read(source, recording):
    """Times, number of each image and actions."""
    stream = source.open(recording)
    times, frames = zip(*stream.pictures, strict=True)
    return list(times), [frame.to_ndarray(format="rgb24")[0, 0, 0] for frame in frames], stream.actions


def cut(source):
    """Numbers of the images of each recording."""
    return [read(source, recording)[1] for recording in source.find().recordings]


def test_a_tub_is_cut_at_gaps(tmp_path):
    times = np.cumsum([0, *[50] * 9, 1001, *[50] * 12, 1000, *[50] * 3, -20, *[50] * 2])
    write_tub(tmp_path / "tub", times)
    source = DonkeyCar(tmp_path)
    listing = source.find()
    assert [each.name for each in listing.recordings] == ["tub/000000", "tub/000010", "tub/000027"]
    assert all(each.group == each.name for each in listing.recordings) and listing.unreadable == listing.notes == []
    assert source.action_fields() == [ActionField("angle", 1, "mean"), ActionField("throttle", 1, "mean")]
    for recording, numbers in zip(listing.recordings, (range(10), range(10, 27), range(27, 30)), strict=True):
        seconds, images, actions = read(source, recording)
        assert images == list(numbers)
        np.testing.assert_allclose(seconds, (times[list(numbers)] - times[numbers[0]]) / 1000)
        np.testing.assert_allclose(actions, [[i / 100, i / 1000] for i in numbers], rtol=1e-6)
        assert recording.size == sum((tmp_path / f"tub/images/{i}_cam_image_array_.jpg").stat().st_size for i in numbers)
    assert cut(DonkeyCar(tmp_path, max_gap=0.9)) == [list(r) for r in (range(10), range(10, 23), range(23, 27), range(27, 30))]


def test_long_drives_are_cut_into_equal_parts(tmp_path):
    write_tub(tmp_path, np.arange(31) * 100)  # 3 s
    assert [each.name for each in DonkeyCar(tmp_path).find().recordings] == ["000000"]
    assert cut(DonkeyCar(tmp_path, episode_seconds=3.0)) == [list(range(31))]
    assert cut(DonkeyCar(tmp_path, episode_seconds=1.2)) == [list(range(10)), list(range(10, 20)), list(range(20, 31))]


def test_what_is_not_to_be_used_parts_recordings(tmp_path):
    write_tub(tmp_path / "tub", np.arange(40) * 50, deleted=[7, 8], r20={"user/mode": "local"})
    (tmp_path / "tub" / "images" / "3_cam_image_array_.jpg").unlink()
    (tmp_path / "tub" / "catalog_3.catalog").unlink()
    with (tmp_path / "tub" / "catalog_2.catalog").open("a") as file:
        file.write('{"_index": 30, "_sess')
    source = DonkeyCar(tmp_path)
    assert cut(source) == [[0, 1, 2], [4, 5, 6], list(range(9, 20)), list(range(21, 30))]
    listing = source.find()
    assert listing.unreadable == [
        ("tub/images", "1 pictures are not there, the first 3_cam_image_array_.jpg"),
        ("tub/manifest.json", "catalogs it lists are not there: catalog_3.catalog"),
    ]
    assert listing.notes == [
        "2 records of tub are marked as deleted.",
        "1 records of tub are not driven by a person.",
        "1 records of tub are not JSON.",
    ]


def test_lag_takes_earlier_actions_and_drops_the_frames_that_have_none(tmp_path):
    write_tub(tmp_path, np.cumsum([0, *[50] * 24, 5000, *[50] * 1]))
    source = DonkeyCar(tmp_path, lag=3, episode_seconds=0.6)
    recordings = source.find().recordings
    found = [read(source, recording) for recording in recordings]
    assert [images for _, images, _ in found] == [list(range(3, 14)), list(range(14, 25))]  # two frames after the gap: none
    assert [each.name for each in recordings] == ["000003", "000014"]
    for times, images, actions in found:
        np.testing.assert_allclose(actions[:, 0], [(i - 3) / 100 for i in images], rtol=1e-6)  # also across parts
        np.testing.assert_allclose(times, np.arange(11) * 0.05)
    assert recordings[1].place["catalogs"] == ["catalog_1.catalog", "catalog_2.catalog"]  # records 11 to 24


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"r4": {"user/angle": float("nan")}}, "1 of 8 actions have infinite numbers or none"),
        ({"r4": {"user/angle": 1e99}}, "1 of 8"),
    ],
)
def test_actions_must_be_numbers(tmp_path, change, message):
    write_tub(tmp_path, np.arange(8) * 50, **change)
    source = DonkeyCar(tmp_path)
    with pytest.raises(ValueError, match=message):
        source.open(source.find().recordings[0])


def test_other_folders_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no manifest\.json in it, expected a Donkey Car tub, version 2"):
        DonkeyCar(tmp_path).find()
    write_tub(tmp_path / "good", np.arange(8) * 50)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "manifest.json").write_text('{"name": "an app"}\n')
    write_tub(tmp_path / "third", np.arange(8) * 50)
    (tmp_path / "third" / "catalog_0.catalog").write_text('{"_index": 0, "pilot/angle": 0.5}\n')
    listing = DonkeyCar(tmp_path).find()
    assert [each.name for each in listing.recordings] == ["good/000000"]
    (_, other), (_, third) = listing.unreadable
    assert "manifest.json is not that of a Donkey Car tub, version 2" in other
    assert third == (
        "catalog_0.catalog has a record without _timestamp_ms, cam/image_array, user/angle, user/throttle; "
        "it has _index, pilot/angle"
    )
    with pytest.raises(ValueError, match="--lag is -1, expected 0 or more"):
        DonkeyCar(tmp_path, lag=-1)


@pytest.mark.shared_data
def test_indoor_track(shared_data):
    """All 3000 records, in ten drives; and the steering goes with the motion of the picture, best at a lag of about three."""
    src = shared_data / "actions" / "donkeycar_indoor_track"
    lines = [line for k in range(3) for line in (src / f"catalog_{k}.catalog").read_text().splitlines()]
    raw = [json.loads(line) for line in lines]
    source = DonkeyCar(src)
    listing = source.find()
    lengths = [each.place["last"] - each.place["first"] + 1 for each in listing.recordings]
    gaps = np.flatnonzero(np.diff([each["_timestamp_ms"] for each in raw]) > 1000) + 1
    assert lengths == np.diff([0, *gaps, 3000]).tolist() and len(lengths) == 10
    absent = ", ".join(f"catalog_{k}.catalog" for k in (3, 4, 5))
    assert listing.unreadable == [("./manifest.json", f"catalogs it lists are not there: {absent}")]
    recording = listing.recordings[3]
    stream = source.open(recording)
    for i, (time, frame) in enumerate(stream.pictures, start=recording.place["first"]):
        image = np.asarray(Image.open(src / "images" / raw[i]["cam/image_array"]))
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), image)
        assert time == pytest.approx((raw[i]["_timestamp_ms"] - raw[recording.place["first"]]["_timestamp_ms"]) / 1000)
        np.testing.assert_allclose(
            stream.actions[i - recording.place["first"]], [raw[i]["user/angle"], raw[i]["user/throttle"]], rtol=1e-6
        )


def sideways_motion(pictures):
    """Motion of the columns' brightness from frame to frame, in pixels: least squares on gradients (Lucas and Kanade)."""
    columns = np.array([frame.to_ndarray(format="rgb24")[30:90].mean(axis=(0, 2)) for _, frame in pictures])
    columns = np.array([np.convolve(column, np.ones(9) / 9, "valid") for column in columns])
    slope = np.gradient(columns, axis=1)
    slope = (slope[1:] + slope[:-1]) / 2
    change = np.diff(columns - columns.mean(axis=1, keepdims=True), axis=0)
    return -(slope * change).sum(axis=1) / (slope * slope).sum(axis=1)


@pytest.mark.shared_data
def test_steering_shows_three_frames_later(shared_data):
    angles, motions = {}, []
    for lag in (0, 3, 7):
        source = DonkeyCar(shared_data / "actions" / "donkeycar_indoor_track", lag=lag)
        streams = [source.open(each) for each in source.find().recordings if each.place["last"] - each.place["first"] > 400]
        angles[lag] = np.concatenate([stream.actions[:-1, 0] for stream in streams])
        motions = motions or [sideways_motion(stream.pictures) for stream in streams]
    # steering to the right moves the picture to the left; with a lag the first frames are left out
    goes_with = {lag: -np.corrcoef(np.concatenate([motion[lag:] for motion in motions]), angles[lag])[0, 1] for lag in angles}
    assert goes_with[3] > 0.3 and goes_with[3] > goes_with[0] + 0.1 and goes_with[3] > goes_with[7] + 0.05
