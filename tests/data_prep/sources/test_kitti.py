import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from data_prep.sources.kitti import Kitti
from lam.data.schema import ActionField, aggregate_steps


def drive(frames, speed=10.0, turn=0.3, rate=10.0):
    """Poses (T, 4, 4) of a car that drives a circle at constant speed; camera: x right, y down, z forward."""
    poses, step = [np.eye(4)], np.eye(4)
    step[:3, :3] = Rotation.from_rotvec([0, turn / rate, 0]).as_matrix()
    step[:3, 3] = [0, 0, speed / rate]
    for _ in range(frames - 1):
        poses.append(poses[-1] @ step)
    return np.array(poses)


def write_kitti(folder, sequences, poses=None, camera="image_2"):
    """Sequences of so many frames; image i of sequence k has brightness i + 100 k. Poses are given by sequence."""
    for k, (name, frames) in enumerate(sequences.items()):
        (folder / "sequences" / name / camera).mkdir(parents=True)
        times = np.arange(frames) * 0.1037
        np.savetxt(folder / "sequences" / name / "times.txt", times, fmt="%.6e")
        for i in range(frames):
            picture = np.full((12, 20, 3), i + 100 * k, np.uint8)
            Image.fromarray(picture).save(folder / "sequences" / name / camera / f"{i:06d}.png")
    (folder / "poses").mkdir()
    for name, each in (poses or {}).items():
        np.savetxt(folder / "poses" / f"{name}.txt", each[:, :3].reshape(-1, 12), fmt="%.6e")


def read(source, recording):
    stream = source.open(recording)
    times, frames = zip(*stream.pictures, strict=True)
    return list(times), [frame.to_ndarray(format="rgb24")[0, 0, 0] for frame in frames], stream.actions


def motion(first, second):
    """Translation and rotation vector from one pose (4, 4) to another, by matrix inverse and logarithm."""
    relative = np.linalg.inv(first) @ second
    angle = np.arccos(np.clip((np.trace(relative[:3, :3]) - 1) / 2, -1, 1))
    r = relative[:3, :3]
    axis = np.array([r[2, 1] - r[1, 2], r[0, 2] - r[2, 0], r[1, 0] - r[0, 1]]) / (2 * np.sin(angle))
    return np.concatenate([relative[:3, 3], angle * axis])


def random_drive(frames):
    rng = np.random.default_rng(0)
    poses = np.tile(np.eye(4), (frames, 1, 1))
    poses[:, :3, :3] = Rotation.from_rotvec(np.cumsum(rng.normal(0, 0.2, (frames, 3)), axis=0)).as_matrix()
    poses[:, :3, 3] = np.cumsum(rng.normal(0, 1, (frames, 3)), axis=0)
    return poses


def test_sequences_with_their_motion(tmp_path):
    poses = {"00": random_drive(9), "02": random_drive(5)}
    write_kitti(tmp_path, {"00": 9, "02": 5, "11": 4}, poses)
    source = Kitti(tmp_path)
    listing = source.find()
    assert [(each.name, each.group) for each in listing.recordings] == [(f"sequences/{n}",) * 2 for n in ("00", "02")]
    assert listing.unreadable == [("sequences/11", "there is no poses/11.txt")]
    assert source.action_fields() == [ActionField("translation", 3, "sum"), ActionField("rotation", 3, "sum")]
    for k, (recording, name) in enumerate(zip(listing.recordings, poses, strict=True)):
        times, frames, actions = read(source, recording)
        assert frames == [i + 100 * k for i in range(len(poses[name]))]
        np.testing.assert_allclose(times, np.arange(len(frames)) * 0.1037, atol=1e-6)
        expected = [motion(a, b) for a, b in zip(poses[name][:-1], poses[name][1:], strict=True)]
        np.testing.assert_allclose(actions, expected, atol=2e-5)  # the file has seven digits
        assert actions.dtype == np.float32


def test_without_poses(tmp_path):
    write_kitti(tmp_path, {"00": 3, "11": 4}, {"00": random_drive(3)}, camera="image_0")
    source = Kitti(tmp_path, camera="image_0", poses=False)
    listing = source.find()
    assert [each.name for each in listing.recordings] == ["sequences/00", "sequences/11"] and listing.unreadable == []
    assert source.action_fields() == [] and read(source, listing.recordings[1])[2] is None


def test_leaving_frames_out_here_is_exact(tmp_path):
    poses = random_drive(10)
    write_kitti(tmp_path, {"00": 10}, {"00": poses})
    source = Kitti(tmp_path, every=3)
    times, frames, actions = read(source, source.find().recordings[0])
    assert frames == [0, 3, 6, 9]
    np.testing.assert_allclose(times, np.arange(4) * 3 * 0.1037, atol=1e-6)
    np.testing.assert_allclose(actions, [motion(poses[i], poses[i + 3]) for i in (0, 3, 6)], atol=2e-5)


def test_leaving_frames_out_later_is_right_to_first_order(tmp_path):
    """A car at 10 m/s that turns at 0.3 rad/s, every fifth of 10 frames a second kept: rotation exact, translation 6 % off."""
    poses = drive(21)
    write_kitti(tmp_path, {"00": 21}, {"00": poses})
    source = Kitti(tmp_path)
    actions = read(source, source.find().recordings[0])[2]
    aggregations = [field.aggregation for field in source.action_fields() for _ in range(field.dim)]
    joined = aggregate_steps(actions, np.arange(0, 21, 5), aggregations)
    exact = np.array([motion(poses[i], poses[i + 5]) for i in (0, 5, 10, 15)])
    np.testing.assert_allclose(joined[:, 3:], exact[:, 3:], atol=1e-4)
    error = np.linalg.norm(joined[:, :3] - exact[:, :3], axis=1) / np.linalg.norm(exact[:, :3], axis=1)
    np.testing.assert_allclose(error, 0.06, atol=0.002)
    assert (error < 5 * 0.03 / 2).all()  # half the turn, as the help says
    straight = drive(6, turn=1e-9)[[0, 5]]
    np.testing.assert_allclose(
        np.linalg.inv(straight[0]) @ straight[1], [[1, 0, 0, 0], [0, 1, 0, 0], [0, 0, 1, 5], [0, 0, 0, 1]], atol=1e-6
    )


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("sequences/00/times.txt", "0.0\n0.1\n", r"times\.txt has 2 numbers, expected 3 x 1, a row for each image"),
        ("sequences/00/times.txt", "0.0\n0.2\n0.1\n", r"times\.txt does not increase after 0\.2 s"),
        ("sequences/00/times.txt", "0.0\nnan\n0.1\n", r"times\.txt does not increase after 0\.0 s"),
        ("poses/00.txt", "1 0 0 0 0 1 0 0 0 0 1 0\n" * 2, r"00\.txt has 24 numbers, expected 3 x 12"),
        ("poses/00.txt", "1 0 0 nan 0 1 0 0 0 0 1 0\n" * 3, "3 of 3 poses have infinite numbers or none"),
        ("poses/00.txt", "one two\n", "could not convert string to float"),
    ],
)
def test_files_that_do_not_fit(tmp_path, file, text, message):
    write_kitti(tmp_path, {"00": 3}, {"00": random_drive(3)})
    (tmp_path / file).write_text(text)
    source = Kitti(tmp_path)
    with pytest.raises(ValueError, match=message):
        source.open(source.find().recordings[0])


def test_what_is_missing(tmp_path):
    with pytest.raises(FileNotFoundError, match="has no folder sequences"):
        Kitti(tmp_path).find()
    write_kitti(tmp_path, {"00": 3}, {"00": random_drive(3)}, camera="image_3")
    assert Kitti(tmp_path).find().unreadable == [("sequences/00", "there is no sequences/00/image_2")]
    with pytest.raises(ValueError, match="--every is 0, expected 1 or more"):
        Kitti(tmp_path, every=0)
