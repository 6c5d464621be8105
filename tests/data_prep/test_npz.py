import io
import json
import re
import tarfile

import numpy as np
import pyarrow.parquet as pq
import pytest
import simplejpeg

from data_prep.__main__ import main
from data_prep.arrays import Layout, as_pictures, between_frames
from data_prep.npz import npz
from lam.data.schema import DataIndex, unpack_row

RNG = np.random.default_rng(0)


def pictures(*leading, height=16, width=16):
    return RNG.integers(0, 256, (*leading, height, width, 3)).astype(np.uint8)


def plain(*leading):
    """Pictures whose frame i of episode e has brightness 10 i + e, which JPEG keeps exactly."""
    shades = 10 * np.arange(leading[-1]) + np.arange(np.prod(leading[:-1], dtype=int)).reshape(*leading[:-1], 1)
    return np.broadcast_to(shades[..., None, None, None], (*leading, 16, 16, 3)).astype(np.uint8)


def counted(*leading):
    """Actions whose first number is the row and whose second is the episode."""
    episodes = np.arange(np.prod(leading[:-1], dtype=int)).reshape(*leading[:-1], 1)
    return np.stack(np.broadcast_arrays(np.arange(leading[-1]), episodes)[:2], axis=-1).reshape(*leading, 2).astype(float)


def samples(folder, split="train"):
    """Rows of the side indices with frames and actions by key."""
    found = {}
    for path in sorted(folder.glob(f"{split}-*.parquet")):
        with tarfile.open(path.with_suffix(".tar")) as tar:
            for row in pq.read_table(path).to_pylist():
                jpegs, record, actions = (
                    tar.extractfile(f"{row['key']}.{member}").read() if f"{row['key']}.{member}" in tar.getnames() else None
                    for member in ("jpgs", "json", "actions.npy")
                )
                row["pixels"] = np.stack(
                    [simplejpeg.decode_jpeg(bytes(jpeg)) for jpeg in unpack_row(memoryview(jpegs), range(row["frames"]))]
                )
                row["record"] = json.loads(record)
                row["actions"] = actions and np.load(io.BytesIO(actions), allow_pickle=False)
                found[row["key"]] = row
    return found


def test_layouts_are_told_apart_by_their_shape():
    episode = pictures(5)
    np.testing.assert_array_equal(as_pictures("a", episode), episode[None])
    np.testing.assert_array_equal(as_pictures("a", episode.astype(np.int64)), episode[None])
    np.testing.assert_array_equal(as_pictures("a", np.stack([episode, episode])), np.stack([episode, episode]))
    first = episode.transpose(0, 3, 1, 2)
    np.testing.assert_array_equal(as_pictures("a", first), episode[None])
    stacked = np.concatenate([first[:-2], first[1:-1], first[2:]], axis=1)  # frames t, t+1, t+2: the newest last
    assert stacked.shape == (3, 9, 16, 16)
    np.testing.assert_array_equal(as_pictures("a", stacked), episode[None, 2:])
    assert as_pictures("a", stacked).dtype == as_pictures("a", episode.astype(np.int32)).dtype == np.uint8
    tall = pictures(4, height=9, width=3)  # three wide, but colors last
    np.testing.assert_array_equal(as_pictures("a", tall), tall[None])


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (pictures(5) / 255, "'a' is float64, expected uint8 or integers 0 to 255"),
        (pictures(5) > 9, "'a' is bool"),
        (np.full((5, 16, 16, 3), 256), "goes from 256 to 256, expected 0 to 255"),
        (np.full((5, 16, 16, 3), -1, np.int8), "goes from -1 to -1"),
        (pictures(5)[..., 0], r"is \(5, 16, 16\), expected \(T, H, W, 3\), \(E, T, H, W, 3\) or \(T, 3k, H, W\)"),
        (np.zeros((5, 15, 16, 1), np.uint8), r"is \(5, 15, 16, 1\)"),
        (np.zeros((5, 48, 64, 4), np.uint8), r"is \(5, 48, 64, 4\)"),  # an alpha channel, not 16 stacked frames
        (np.zeros((5, 4, 16, 16), np.uint8), r"is \(5, 4, 16, 16\)"),
        (pictures(0), r"is \(0, 16, 16, 3\)"),
        (np.uint8(3), r"is \(\)"),
    ],
)
def test_other_pictures_are_refused(array, message):
    with pytest.raises(ValueError, match=message):
        as_pictures("a", np.asarray(array))


def test_actions_move_a_frame_to_the_next():
    rows = counted(2, 6)
    done_after = between_frames("a", rows, (2, 6), shift=False)  # row t moves frame t to t+1
    np.testing.assert_array_equal(done_after[..., 0], [[0, 1, 2, 3, 4]] * 2)
    led_to = between_frames("a", rows, (2, 6), shift=True)  # row t+1 led to frame t+1
    np.testing.assert_array_equal(led_to[..., 0], [[1, 2, 3, 4, 5]] * 2)
    np.testing.assert_array_equal(led_to[..., 1], [[0] * 5, [1] * 5])
    assert done_after.dtype == np.float32
    assert between_frames("a", np.arange(4), (4,), shift=False).tolist() == [[[0], [1], [2]]]


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
        between_frames("a", array, (6,), shift=False)


def test_episodes_of_one_file_with_cameras(tmp_path):
    """The whole way: every camera of an episode is a sample of the same source, with frames, times and actions in step."""
    np.savez(tmp_path / "a.npz", left=plain(10, 6), right=255 - plain(10, 6), act=counted(10, 6), text=np.array(["x"]))
    options = {"frames": ["left", "right"], "actions": "act", "size": 16, "min_frames": 6, "val_share": 0.3, "fps": 4.0}
    assert npz(tmp_path / "a.npz", tmp_path / "out", **options) == 0
    train, val = (samples(tmp_path / "out", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (14, 6)
    sources = [{row["source"] for row in split.values()} for split in (train, val)]
    assert not sources[0] & sources[1] and sources[0] | sources[1] == {f"a.npz/{i:05d}" for i in range(10)}
    for key, row in {**train, **val}.items():
        episode = int(row["source"].split("/")[1])
        shades = 10 * np.arange(6) + episode
        shades = 255 - shades if key.endswith("-1") else shades
        np.testing.assert_array_equal(row["pixels"], np.broadcast_to(shades[:, None, None, None], (6, 16, 16, 3)))
        np.testing.assert_array_equal(row["actions"], counted(1, 6)[0, :-1] + [0, episode])
        assert row["times"] == [0, 0.25, 0.5, 0.75, 1.0, 1.25] == row["record"]["times"]
        assert row["episode"] == row["source"]
    index = DataIndex.load(tmp_path / "out")
    assert (index.action_dim, index.fps, index.height, index.width, index.quarantined) == (2, 4.0, 16, 16, [])


def test_split_is_deterministic_in_the_seed(tmp_path):
    src = tmp_path / "src"
    (src / "deep").mkdir(parents=True)
    for i in range(8):
        np.savez_compressed(src / ("deep" if i % 2 else "") / f"{i}.npz", image=pictures(8))
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2)):
        assert npz(src, tmp_path / name, size=16, seed=seed, val_share=0.25) == 0
    assert DataIndex.load(tmp_path / "a").digest == DataIndex.load(tmp_path / "b").digest
    chosen = [frozenset(row["source"] for row in samples(tmp_path / name, "val").values()) for name in "acd"]
    assert len(set(chosen)) > 1 and all(len(names) == 2 for names in chosen)
    assert DataIndex.load(tmp_path / "a").action_dim is None


def test_pictures_are_resized_and_cut_to_the_middle(tmp_path):
    wide = np.zeros((9, 32, 64, 3), np.uint8)
    wide[:, :, 16:48] = 255
    np.savez(tmp_path / "a.npz", wide=wide, tall=wide.transpose(0, 2, 1, 3))
    assert npz(tmp_path / "a.npz", tmp_path / "out", ["wide", "tall"], size=16, min_frames=4) == 0
    for row in samples(tmp_path / "out").values():
        assert row["pixels"].shape[1:] == (16, 16, 3)
        assert row["pixels"][:, 1:-1, 1:-1].min() > 250


def test_the_only_episode_is_cut_in_time(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", image=plain(12), aux=plain(12), act=counted(12))
    options = {"frames": ["image", "aux"], "actions": "act", "size": 16, "fps": 2.0}
    with pytest.raises(ValueError, match="one usable clip of 12 frames, training and validation need 8 each"):
        npz(tmp_path / "a.npz", tmp_path / "none", **options)
    assert npz(tmp_path / "a.npz", tmp_path / "out", min_frames=4, **options) == 0
    assert "one usable source only" in capsys.readouterr().out
    assert "one usable source only" in DataIndex.load(tmp_path / "out").settings["note"]
    for split, frames in (("train", range(8)), ("val", range(8, 12))):
        rows = samples(tmp_path / "out", split).values()
        assert len(rows) == 2  # both cameras on the same side of the cut
        for row in rows:
            assert row["pixels"][:, 0, 0, 0].tolist() == [10 * i for i in frames]
            assert row["times"] == [i / 2 for i in frames]
            assert row["actions"][:, 0].tolist() == list(frames)[:-1]


def make_damaged(folder):
    """Three good files, and one for each way to be bad with what its reason must say."""
    good = {"image": pictures(8), "act": counted(8)}
    for name in "abc":
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
        "long": {**good, "act": counted(9)},
        "wide": {**good, "act": np.zeros((8, 3))},
        "nan": {**good, "act": np.full((8, 2), np.nan)},
        "short": {"image": pictures(7), "act": counted(7)},
    }
    for name, arrays in bad.items():
        np.savez(folder / f"{name}.npz", **arrays)
    np.savez(folder / "pickle.npz", image=np.array([{}], dtype=object), act=good["act"], allow_pickle=True)
    return {
        **{name: "damaged or not an npz file" for name in ("cut", "empty", "flipped", "noise", "npy")},
        "pickle": "allow_pickle=False",
        "missing": "no array 'image'; it has 'picture', 'act'",
        "float": "'image' is float64",
        "long": "'act' is (9, 2), expected (8, U)",
        "wide": "actions have 3 numbers, those before 2",
        "nan": "infinite numbers or none",
        "short": "7 frames, fewer than 8",
    }


def test_what_does_not_fit_is_left_out_with_a_reason(tmp_path, capsys):
    (tmp_path / "src").mkdir()
    expected = make_damaged(tmp_path / "src")
    assert main(["npz", str(tmp_path / "src"), str(tmp_path / "out"), "--actions", "act", "--size", "16"]) == 3
    text = capsys.readouterr().out
    assert "2 training and 1 validation episodes." in text
    reasons = {item.source.removesuffix(".npz"): item.reason for item in DataIndex.load(tmp_path / "out").quarantined}
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name]
        assert f"Left out {name}.npz: {reasons[name]}." in text
    assert all("\n" not in reason for reason in reasons.values())


def test_one_bad_episode_leaves_the_others(tmp_path):
    actions = counted(4, 8)
    actions[2, 5] = np.inf
    np.savez(tmp_path / "a.npz", image=plain(4, 8), act=actions)
    assert npz(tmp_path / "a.npz", tmp_path / "out", actions="act", size=16) == 3
    (left,) = DataIndex.load(tmp_path / "out").quarantined
    assert left.source == "a.npz/00002" and "infinite" in left.reason
    rows = [row for split in ("train", "val") for row in samples(tmp_path / "out", split).values()]
    assert {row["source"]: row["pixels"][0, 0, 0, 0] for row in rows} == {f"a.npz/{i:05d}": i for i in (0, 1, 3)}


def test_cameras_must_agree(tmp_path):
    np.savez(tmp_path / "a.npz", one=pictures(8), other=pictures(9), third=pictures(8, height=32))
    layout = Layout(["one", "other"], None, shift=False)
    with pytest.raises(ValueError, match=r"'other' is \(9, 16, 16, 3\) and 'one' is \(8, 16, 16, 3\), expected the same"):
        layout.read(tmp_path / "a.npz")
    recording = Layout(["one", "third"], None, shift=False).read(tmp_path / "a.npz")  # sizes may differ
    assert [view.shape[2:4] for view in recording.views] == [(16, 16), (32, 16)]


def test_running_again_does_nothing_or_refuses(tmp_path, capsys):
    np.savez(tmp_path / "a.npz", image=plain(3, 8), act=counted(3, 8))
    command = ["npz", str(tmp_path / "a.npz"), str(tmp_path / "out"), "--actions", "act", "--size", "16"]
    assert main(command) == 0
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert main([*command, "--shift", "true"]) == 1
    assert "made with other settings (shift)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--frames", "picture"], r"has no usable episode; a\.npz: no array 'picture'; it has 'image'"),
        (["--frames", "[image,image]"], "expected different names"),
        (["--min_frames", "1"], "--min_frames is 1, expected 2 or more"),
        (["--fps", "0"], "--fps is 0.0, expected above 0"),
    ],
)
def test_nothing_to_prepare_is_one_line_and_an_error(tmp_path, capsys, options, message):
    np.savez(tmp_path / "a.npz", image=plain(3, 8))
    assert main(["npz", str(tmp_path), str(tmp_path / "out"), *options]) == 1
    assert re.search(f"^data_prep npz: .*{message}", capsys.readouterr().err.splitlines()[-1])
    assert not (tmp_path / "out").exists()


@pytest.mark.shared_data
def test_bridge(tmp_path, shared_data):
    """Actions move a frame to the next: they agree with the change of state, as the description of the files says."""
    path = shared_data / "actions" / "bridge_toysink" / "bridge_subset.npz"
    cameras = ["image_0", "image_1", "image_2"]
    assert npz(path, tmp_path / "out", cameras, actions="action", val_share=0.3) == 0
    train, val = (samples(tmp_path / "out", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (3 * 13, 3 * 6)
    with np.load(path, allow_pickle=False) as file:
        state, views = file["state"], {camera: file[camera] for camera in cameras}
    moves, actions = [], []
    for key, row in {**train, **val}.items():
        episode = int(row["source"][-5:])
        camera = int(key[-1]) if key[-2] == "-" else 0
        difference = np.abs(row["pixels"].astype(int) - views[f"image_{camera}"][episode])
        assert difference.mean() < 1.5  # JPEG of quality 95
        moves.append(np.diff(state[episode, :, :3], axis=0))
        actions.append(row["actions"][:, :3])
    moves, actions = np.concatenate(moves), np.concatenate(actions)
    assert min(np.corrcoef(moves[:, i], actions[:, i])[0, 1] for i in range(3)) > 0.7


@pytest.mark.shared_data
def test_metaworld(tmp_path, shared_data):
    """Row 0 of a replay buffer led to nothing and is all zeros: the shift drops it."""
    src = shared_data / "actions" / "metaworld"
    assert npz(src, tmp_path / "out", "observation", "action", shift=True, fps=10.0) == 0
    train, val = (samples(tmp_path / "out", split) for split in ("train", "val"))
    assert (len(train), len(val)) == (18, 2)
    for row in val.values():
        with np.load(src / row["source"], allow_pickle=False) as file:
            action, observation = file["action"], file["observation"]
        assert not action[0].any()
        np.testing.assert_array_equal(row["actions"], action[1:])
        newest = observation[:, 6:].transpose(0, 2, 3, 1)
        assert np.abs(row["pixels"].astype(int) - newest).mean() < 2


@pytest.mark.shared_data
def test_bair_pushing(tmp_path, shared_data):
    src = shared_data / "actions" / "bair_pushing"
    assert npz(src, tmp_path / "out", ["image", "aux1_image"], "action") == 0
    frames = {split: [row["frames"] for row in samples(tmp_path / "out", split).values()] for split in ("train", "val")}
    assert frames == {"train": [22, 22], "val": [8, 8]}
    assert DataIndex.load(tmp_path / "out").action_dim == 4
