import pickle
import zipfile

import numpy as np
import pytest

from data_prep.sources.arrays import (
    ArrayHeader,
    as_images,
    between_frames,
    check_images,
    check_rows,
    find_corruption,
    read_array,
    read_headers,
)
from data_prep.sources.base import file_state
from data_prep.sources.npz import Npz
from lam.data.schema import ActionField

RNG = np.random.default_rng(0)


def pictures(*leading, height=16, width=16):
    return RNG.integers(0, 256, (*leading, height, width, 3)).astype(np.uint8)


def counted(*leading):
    """Actions whose first number is the row and whose second is the episode."""
    episodes = np.arange(np.prod(leading[:-1], dtype=int)).reshape(*leading[:-1], 1)
    return np.stack(np.broadcast_arrays(np.arange(leading[-1]), episodes)[:2], axis=-1).reshape(*leading, 2).astype(float)


def read(source, recording):
    """Times, pixels and actions of a recording."""
    stream = source.open(recording)
    times, frames = zip(*stream.pictures, strict=True)
    return list(times), np.stack([frame.to_ndarray(format="rgb24") for frame in frames]), stream.actions


def header(array):
    return ArrayHeader(array.shape, array.dtype)


def test_layouts_are_told_apart_by_their_shape():
    episode = pictures(5)
    for array in (episode, episode.astype(np.int64), np.stack([episode, episode])):
        assert check_images("a", header(array)) == array.shape[:-3]
        np.testing.assert_array_equal(as_images("a", array), array)
    first = episode.transpose(0, 3, 1, 2)
    assert check_images("a", header(first)) == (5,)
    np.testing.assert_array_equal(as_images("a", first), episode)
    stacked = np.concatenate([first[:-2], first[1:-1], first[2:]], axis=1)  # frames t, t+1, t+2: the newest last
    assert stacked.shape == (3, 9, 16, 16) and check_images("a", header(stacked)) == (3,)
    np.testing.assert_array_equal(as_images("a", stacked), episode[2:])
    assert as_images("a", stacked).dtype == as_images("a", episode.astype(np.int32)).dtype == np.uint8
    tall = pictures(4, height=9, width=3)  # three wide, but colors last
    np.testing.assert_array_equal(as_images("a", tall), tall)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pictures(5) / 255, "'a' is float64, expected uint8 or integers 0 to 255"),
        (pictures(5) > 9, "'a' is bool"),
        (pictures(5)[..., 0], r"is \(5, 16, 16\), expected \(T, H, W, 3\), \(E, T, H, W, 3\) or \(T, 3k, H, W\)"),
        (np.zeros((5, 15, 16, 1), np.uint8), r"is \(5, 15, 16, 1\)"),
        (np.zeros((5, 48, 64, 4), np.uint8), r"is \(5, 48, 64, 4\)"),  # an alpha channel, not 16 stacked frames
        (np.zeros((5, 4, 16, 16), np.uint8), r"is \(5, 4, 16, 16\)"),
        (pictures(0), r"is \(0, 16, 16, 3\)"),
        (np.uint8(3), r"is \(\)"),
        (np.array([{}], dtype=object), "'a' is object"),
    ],
)
def test_other_pictures_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        check_images("a", header(np.asarray(array)))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.full((5, 16, 16, 3), 256), "goes from 256 to 256, expected 0 to 255"),
        (np.full((5, 16, 16, 3), -1, np.int8), "goes from -1 to -1"),
    ],
)
def test_numbers_that_are_no_pixels_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        as_images("a", array)


def test_actions_move_a_frame_to_the_next():
    rows = counted(6)
    done_after = between_frames(rows, shift=False)  # row t moves frame t to t+1
    np.testing.assert_array_equal(done_after[:, 0], [0, 1, 2, 3, 4])
    led_to = between_frames(rows, shift=True)  # row t+1 led to frame t+1
    np.testing.assert_array_equal(led_to[:, 0], [1, 2, 3, 4, 5])
    assert between_frames(np.arange(4), shift=False).tolist() == [[0], [1], [2]]


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((5, 2)), r"'a' is \(5, 2\), expected \(6, U\), a row of U numbers for each frame"),
        (np.zeros((6, 2, 2)), r"is \(6, 2, 2\)"),
        (np.zeros((6, 0)), r"is \(6, 0\)"),
        (np.array(["left"] * 6), "is <U4, expected numbers"),
    ],
)
def test_other_actions_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        check_rows("a", header(array), (6,))


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_an_episode_of_an_array(tmp_path, save):
    """What is read is what numpy reads, whether compressed, in Fortran order or with a header of version 2."""
    arrays = {"plain": pictures(4, 5), "fortran": np.asfortranarray(counted(4, 5)), "flat": np.arange(20.0).reshape(4, 5)}
    save(tmp_path / "a.npz", **arrays)
    with zipfile.ZipFile(tmp_path / "a.npz", "a") as file, file.open("new.npy", "w") as member:
        np.lib.format.write_array(member, arrays["plain"], version=(2, 0))
    headers = read_headers(tmp_path / "a.npz")
    assert headers["plain"] == ArrayHeader((4, 5, 16, 16, 3), np.dtype("uint8")) == headers["new"]
    assert headers["fortran"] == ArrayHeader((4, 5, 2), np.dtype("float64"), fortran=True)
    for name in headers:
        expected = arrays["plain" if name == "new" else name]
        np.testing.assert_array_equal(read_array(tmp_path / "a.npz", name, None), expected)
        for episode in (0, 2, 3):
            np.testing.assert_array_equal(read_array(tmp_path / "a.npz", name, episode), expected[episode])


@pytest.mark.parametrize("absolute", [None, [1]])
def test_episodes_of_one_file_with_cameras(tmp_path, absolute):
    left, right, act = pictures(10, 6), pictures(10, 6, height=24), counted(10, 6)
    np.savez(tmp_path / "a.npz", left=left, right=right, act=act, text=np.array(["x"]))
    source = Npz(tmp_path / "a.npz", ["left", "right"], "act", recorded_fps=4.0, absolute=absolute)
    listing = source.find()
    assert listing.unreadable == []
    names = [(each.name, each.group) for each in listing.recordings]
    assert names == [(f"a.npz/{i:05d}/{camera}", f"a.npz/{i:05d}") for i in range(10) for camera in ("left", "right")]
    assert [each.size for each in listing.recordings[:2]] == [left[0].nbytes, right[0].nbytes]
    for i, recording in enumerate(listing.recordings):
        times, frames, actions = read(source, recording)
        np.testing.assert_array_equal(frames, (left, right)[i % 2][i // 2])
        np.testing.assert_array_equal(actions, act[i // 2, :-1])
        assert times == [0, 0.25, 0.5, 0.75, 1.0, 1.25] and actions.dtype == np.float32
    if absolute is None:
        assert source.action_fields() == [ActionField("action", 2, "sum")]
    else:
        assert source.action_fields() == [ActionField("action 0", 1, "sum"), ActionField("action 1", 1, "last")]


def test_a_source_survives_being_sent_to_another_process(tmp_path):
    np.savez(tmp_path / "a.npz", image=pictures(8), act=counted(8))
    source = Npz(tmp_path, actions="act")
    (recording,) = source.find().recordings
    sent = pickle.loads(pickle.dumps(source))
    assert sent.action_fields() == source.action_fields() == [ActionField("action", 2, "sum")]
    np.testing.assert_array_equal(read(sent, recording)[1], read(source, recording)[1])


def make_damaged(folder):
    """Two good files, and one for each way to be bad with what its reason must say."""
    good = {"image": pictures(8), "act": counted(8)}
    for name in "ab":
        np.savez(folder / f"{name}.npz", **good)
    data = (folder / "a.npz").read_bytes()
    (folder / "cut.npz").write_bytes(data[: len(data) // 2])
    (folder / "empty.npz").touch()
    (folder / "flipped.npz").write_bytes(data[:999] + bytes(99) + data[1098:])
    (folder / "noise.npz").write_bytes(RNG.bytes(999))
    with (folder / "npy.npz").open("wb") as file:
        np.save(file, good["image"])
    bad = {
        "missing": {"picture": good["image"], "act": good["act"]},
        "float": {**good, "image": good["image"] / 255},
        "bright": {**good, "image": good["image"].astype(int) + 1},
        "long": {**good, "act": counted(9)},
        "wide": {**good, "act": np.zeros((8, 3))},
        "nan": {**good, "act": np.where(np.arange(16).reshape(8, 2) == 5, np.nan, 0)},
        "huge": {**good, "act": np.full((8, 2), 1e300)},
    }
    for name, arrays in bad.items():
        np.savez(folder / f"{name}.npz", **arrays)
    np.savez(folder / "object.npz", image=np.array([{}], dtype=object), act=good["act"], allow_pickle=True)
    return {
        **{name: "damaged or not an npz file" for name in ("cut", "empty", "flipped", "noise", "npy")},
        "object": "'image' is object",
        "missing": "no array 'image'; it has 'picture', 'act'",
        "float": "'image' is float64",
        "bright": "goes from 1 to 256, expected 0 to 255",
        "long": "'act' is (9, 2), expected (8, U)",
        "wide": "actions have 3 numbers, those before 2",
        "nan": "1 of 7 actions have infinite numbers or none (NaN), first row 2",
        "huge": "7 of 7 actions have infinite numbers or none (NaN), first row 0",
    }


def test_what_does_not_fit_is_left_out_with_a_reason(tmp_path):
    expected = make_damaged(tmp_path)
    source = Npz(tmp_path, actions="act")
    listing = source.find()
    reasons = dict(listing.unreadable)
    good = []
    for recording in listing.recordings:
        try:
            read(source, recording)
            good.append(recording.name)
        except ValueError as error:
            reasons[recording.name] = str(error)
    assert good == ["a.npz", "b.npz"]
    assert reasons.keys() == {f"{name}.npz" for name in expected}
    for name, reason in expected.items():
        assert reason in reasons[f"{name}.npz"]
    # what headers tell is known before anything is split
    early = {"cut", "empty", "noise", "npy", "object", "missing", "float", "long", "wide"}
    assert {name for name, _ in listing.unreadable} == {f"{name}.npz" for name in early}


def test_one_bad_episode_leaves_the_others(tmp_path):
    actions = counted(4, 8)
    actions[2, 5] = np.inf
    np.savez(tmp_path / "a.npz", image=pictures(4, 8), act=actions)
    source = Npz(tmp_path, actions="act")
    recordings = source.find().recordings
    for i in (0, 1, 3):
        read(source, recordings[i])
    with pytest.raises(ValueError, match="infinite numbers"):
        source.open(recordings[2])


def test_damage_within_a_file_of_many_episodes(tmp_path):
    """Reading one episode compares no checksum, so the file is checked once a process: no episode of it is used."""
    np.savez(tmp_path / "a.npz", image=pictures(4, 8))
    data = bytearray((tmp_path / "a.npz").read_bytes())
    data[len(data) // 2] ^= 255
    (tmp_path / "a.npz").write_bytes(data)
    source = Npz(tmp_path)
    recordings = source.find().recordings
    assert len(recordings) == 4
    for recording in recordings:
        with pytest.raises(ValueError, match=r"damaged or not an npz file \(Bad CRC-32"):
            source.open(recording)
    assert find_corruption(tmp_path / "a.npz", "image", "other state") == find_corruption(
        tmp_path / "a.npz", "image", recordings[0].state
    )


def test_state_is_that_of_the_file(tmp_path):
    np.savez(tmp_path / "a.npz", image=pictures(8))
    (recording,) = Npz(tmp_path).find().recordings
    assert recording.state == file_state(tmp_path / "a.npz")


def test_cameras_must_agree(tmp_path):
    np.savez(tmp_path / "a.npz", one=pictures(8), other=pictures(9))
    ((name, reason),) = Npz(tmp_path, ["one", "other"]).find().unreadable
    assert name == "a.npz"
    assert reason == "array 'other' is (9, 16, 16, 3) and 'one' is (8, 16, 16, 3), expected the same episodes and frames"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"frames": ["image", "image"]}, "expected different names"),
        ({"frames": []}, "expected different names"),
        ({"recorded_fps": 0.0}, r"--recorded_fps is 0\.0, expected above 0"),
        ({"absolute": [0]}, r"--absolute is \[0\], but --actions names no array"),
        ({"actions": "act", "absolute": [1, 2]}, r"--absolute names \[2\], expected numbers of an action, which are 0 to 1"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    np.savez(tmp_path / "a.npz", image=pictures(3, 8), act=counted(3, 8))
    with pytest.raises(ValueError, match=message):
        Npz(tmp_path, **options).find()


@pytest.mark.shared_data
def test_bridge(shared_data):
    """Actions move a frame to the next: they agree with the change of state, as the description of the files says."""
    path = shared_data / "actions" / "bridge_toysink" / "bridge_subset.npz"
    cameras = ["image_0", "image_1", "image_2"]
    source = Npz(path, cameras, actions="action", absolute=[6])
    recordings = source.find().recordings
    assert len(recordings) == 19 * 3 and len({each.group for each in recordings}) == 19
    assert source.action_fields() == [ActionField("action 0 to 5", 6, "sum"), ActionField("action 6", 1, "last")]
    with np.load(path, allow_pickle=False) as file:
        state, views = file["state"], [file[camera] for camera in cameras]
    moves, actions = [], []
    for i, recording in enumerate(recordings):
        times, frames, rows = read(source, recording)
        np.testing.assert_array_equal(frames, views[i % 3][i // 3])
        assert times == [k / 5 for k in range(10)]
        moves.append(np.diff(state[i // 3, :, :3], axis=0))
        actions.append(rows[:, :3])
    moves, actions = np.concatenate(moves), np.concatenate(actions)
    assert min(np.corrcoef(moves[:, i], actions[:, i])[0, 1] for i in range(3)) > 0.7


@pytest.mark.shared_data
def test_metaworld(shared_data):
    """Row 0 of a replay buffer led to nothing and is all zeros: the shift drops it."""
    src = shared_data / "actions" / "metaworld"
    source = Npz(src, "observation", "action", shift=True, recorded_fps=10.0)
    listing = source.find()
    assert len(listing.recordings) == 20 and listing.unreadable == []
    steps = 0
    for recording in listing.recordings:
        _, frames, actions = read(source, recording)
        with np.load(src / recording.name, allow_pickle=False) as file:
            action, observation = file["action"], file["observation"]
        assert not action[0].any()
        np.testing.assert_array_equal(actions, action[1:])
        np.testing.assert_array_equal(frames, observation[:, 6:].transpose(0, 2, 3, 1))
        steps += len(frames)
    assert steps == 2020


@pytest.mark.shared_data
def test_bair_pushing(shared_data):
    src = shared_data / "actions" / "bair_pushing"
    source = Npz(src, ["image", "aux1_image"], "action")
    recordings = source.find().recordings
    assert [each.name for each in recordings] == ["bair_sample.npz/image", "bair_sample.npz/aux1_image"]
    with np.load(src / "bair_sample.npz", allow_pickle=False) as file:
        for recording, camera in zip(recordings, ("image", "aux1_image"), strict=True):
            _, frames, actions = read(source, recording)
            assert file[camera].dtype == np.int64 and frames.shape == (30, 64, 64, 3)
            np.testing.assert_array_equal(frames, file[camera])
            np.testing.assert_array_equal(actions, file["action"][:-1].astype(np.float32))
