import io
import pickle

import h5py
import numpy as np
import pytest
from PIL import Image

from data_prep.sources.hdf5 import Hdf5
from data_prep.sources.hdf5_layout import planar_motion
from lam.data.schema import ActionField

RNG = np.random.default_rng(0)


def pictures(frames, size=(16, 16)):
    return RNG.integers(0, 256, (frames, *size, 3), np.uint8)


def jpeg(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "jpeg", quality=95)
    return file.getvalue()


def write_robomimic(path, frames=(5, 7, 6, 4), dim=7, masks=False, **storage):
    """A file as robomimic describes it; returns pixels and actions by demonstration."""
    written = {}
    with h5py.File(path, "w") as file:
        file.create_group("data").attrs["total"] = sum(frames)
        for i, count in zip((0, 1, 2, 10), frames, strict=False):
            demo = file.create_group(f"data/demo_{i}")
            demo.attrs["num_samples"] = count
            views = {name: pictures(count) for name in ("agentview_image", "robot0_eye_in_hand_image")}
            for name, view in views.items():
                demo.create_dataset(f"obs/{name}", data=view, **storage)
                demo.create_dataset(f"next_obs/{name}", data=view)
            demo.create_dataset("obs/robot0_eef_pos", data=RNG.normal(size=(count, 3)))
            actions = RNG.normal(size=(count, dim))
            demo.create_dataset("actions", data=actions)
            written[f"demo_{i}"] = {**views, "actions": actions}
        if masks:
            file["mask/train"] = np.array([b"demo_0", b"demo_2", b"demo_10"])
            file["mask/valid"] = np.array([b"demo_1"])
    return written


def write_recon(path, frames=6, kind="vlen", command_shape=(1,)):
    """A file as RECON has it: JPEGs of different lengths, commands, position and heading."""
    images = [jpeg(picture) for picture in pictures(frames, (24, 32))]
    with h5py.File(path, "w") as file:
        if kind == "vlen":
            dataset = file.create_dataset("images/rgb_left", (frames,), h5py.vlen_dtype(np.uint8))
            for i, image in enumerate(images):
                dataset[i] = np.frombuffer(image, np.uint8)
        else:
            longest = max(map(len, images))
            file["images/rgb_left"] = np.array([image.ljust(longest, b"\0") for image in images], f"{kind}{longest}")
        for name in ("linear_velocity", "angular_velocity"):
            file[f"commands/{name}"] = RNG.normal(size=(frames, *command_shape))
        file["jackal/position"] = RNG.normal(size=(frames, 3))
        file["jackal/yaw"] = RNG.uniform(-np.pi, np.pi, (frames, 1))
        file["images/thermal"] = np.zeros((frames, 32, 32))
    return images


def read(source, recording):
    stream = source.open(recording)
    times, frames = zip(*stream.pictures, strict=True)
    return list(times), [frame.to_ndarray(format="rgb24") for frame in frames], stream.actions


@pytest.mark.parametrize("storage", [{}, {"compression": "gzip", "chunks": (3, 16, 16, 3)}])
def test_robomimic(tmp_path, storage):
    (tmp_path / "lift").mkdir()
    written = write_robomimic(tmp_path / "lift" / "image.hdf5", **storage)
    source = Hdf5(tmp_path)
    listing = source.find()
    names = ["lift/image.hdf5/demo_0", "lift/image.hdf5/demo_1", "lift/image.hdf5/demo_2", "lift/image.hdf5/demo_10"]
    assert [(each.name, each.group, each.split) for each in listing.recordings] == [(name, name, None) for name in names]
    assert listing.unreadable == []
    assert source.action_fields() == [ActionField("action 0 to 5", 6, "sum"), ActionField("action 6", 1, "last")]
    for recording in listing.recordings:
        demo = written[recording.name.split("/")[-1]]
        times, frames, actions = read(source, recording)
        np.testing.assert_array_equal(frames, demo["agentview_image"])
        np.testing.assert_array_equal(actions, demo["actions"].astype(np.float32))
        np.testing.assert_allclose(times, np.arange(len(frames)) / 20)


def test_cameras_are_recordings_of_one_group(tmp_path):
    written = write_robomimic(tmp_path / "a.h5")
    cameras = ["obs/agentview_image", "obs/robot0_eye_in_hand_image"]
    source = Hdf5(tmp_path / "a.h5", images=cameras, actions=[], recorded_fps=10.0)
    listing = source.find()
    assert len(listing.recordings) == 8 and source.action_fields() == []
    for i, recording in enumerate(listing.recordings):
        demo = list(written)[i // 2]
        assert (recording.name, recording.group) == (f"a.h5/{demo}/{cameras[i % 2]}", f"a.h5/{demo}")
        times, frames, actions = read(source, recording)
        np.testing.assert_array_equal(frames, written[demo][cameras[i % 2].removeprefix("obs/")])
        assert actions is None and times[:3] == [0, 0.1, 0.2]


def test_filter_keys_are_the_splits(tmp_path):
    write_robomimic(tmp_path / "a.hdf5", masks=True)
    splits = {each.name: each.split for each in Hdf5(tmp_path).find().recordings}
    assert splits == {
        "a.hdf5/demo_0": "train", "a.hdf5/demo_1": "val", "a.hdf5/demo_2": "train", "a.hdf5/demo_10": "train"
    }  # fmt: skip


@pytest.mark.parametrize(
    ("dim", "absolute", "aggregations"),
    [
        (14, None, ["sum"] * 6 + ["last"] + ["sum"] * 6 + ["last"]),  # two arms
        (10, None, ["sum"] * 10),
        (7, [], ["sum"] * 7),
        (4, [0, 3], ["last", "sum", "sum", "last"]),
    ],
)
def test_aggregations(tmp_path, dim, absolute, aggregations):
    write_robomimic(tmp_path / "a.hdf5", dim=dim)
    source = Hdf5(tmp_path, absolute=absolute)
    source.find()
    assert [field.aggregation for field in source.action_fields() for _ in range(field.dim)] == aggregations


@pytest.mark.parametrize("kind", ["vlen", "S", "V"])
@pytest.mark.parametrize("command_shape", [(), (1,)])
def test_recon(tmp_path, kind, command_shape):
    images = write_recon(tmp_path / "jackal_2019-08-02.hdf5", 6, kind, command_shape)
    source = Hdf5(tmp_path, layout="recon")
    (recording,) = source.find().recordings
    assert (recording.name, recording.group) == ("jackal_2019-08-02.hdf5",) * 2
    times, frames, actions = read(source, recording)
    np.testing.assert_array_equal(frames, [np.asarray(Image.open(io.BytesIO(image))) for image in images])
    assert times == [0, 0.25, 0.5, 0.75, 1.0, 1.25]
    with h5py.File(tmp_path / "jackal_2019-08-02.hdf5") as file:
        for i, name in enumerate(("linear_velocity", "angular_velocity")):
            np.testing.assert_array_equal(actions[:, i], file[f"commands/{name}"][()].ravel().astype(np.float32))
    names = ["commands/linear_velocity", "commands/angular_velocity"]
    assert source.action_fields() == [ActionField(name, 1, "mean") for name in names]


def test_recon_motion(tmp_path):
    """As visualnav-transformer computes waypoints: (position - current) @ [[cos, -sin], [sin, cos]] of the current yaw."""
    write_recon(tmp_path / "a.hdf5", 9)
    source = Hdf5(tmp_path, layout="recon_motion")
    (recording,) = source.find().recordings
    _, frames, actions = read(source, recording)
    assert actions.shape == (8, 3) and len(frames) == 9 and actions.dtype == np.float32
    with h5py.File(tmp_path / "a.hdf5") as file:
        position, yaw = file["jackal/position"][:, :2], file["jackal/yaw"][:, 0]
    for i in range(8):
        rotation = np.array([[np.cos(yaw[i]), -np.sin(yaw[i])], [np.sin(yaw[i]), np.cos(yaw[i])]])
        np.testing.assert_allclose(actions[i, :2], (position[i + 1] - position[i]) @ rotation, rtol=1e-5, atol=1e-6)
        turn = np.angle(np.exp(1j * (yaw[i + 1] - yaw[i])))
        np.testing.assert_allclose(actions[i, 2], turn, rtol=1e-5)
    assert [(field.name, field.aggregation) for field in source.action_fields()] == [
        ("forward", "sum"), ("left", "sum"), ("turn", "sum")
    ]  # fmt: skip


@pytest.mark.parametrize("layout", ["recon", "recon_motion"])
def test_a_source_survives_being_sent_to_another_process(tmp_path, layout):
    write_recon(tmp_path / "a.hdf5")
    source = Hdf5(tmp_path, layout=layout)
    (recording,) = source.find().recordings
    sent = pickle.loads(pickle.dumps(source))
    assert sent.action_fields() == source.action_fields() != []
    np.testing.assert_array_equal(read(sent, recording)[2], read(source, recording)[2])


def test_planar_motion_of_a_robot_that_drives_a_circle():
    heading = np.linspace(0, 4 * np.pi, 41)
    position = np.stack([np.sin(heading), 1 - np.cos(heading)], axis=1)  # to the left, radius 1
    motion = planar_motion([position, (heading + np.pi) % (2 * np.pi) - np.pi])
    turn = np.pi / 10
    np.testing.assert_allclose(motion, np.broadcast_to([np.sin(turn), 1 - np.cos(turn), turn], (40, 3)), atol=1e-12)


def make_damaged(folder):
    """A good file, and one for each way to be bad with what its reason must say."""
    write_robomimic(folder / "a.hdf5", frames=(5,))
    (folder / "cut.hdf5").write_bytes((folder / "a.hdf5").read_bytes()[:3000])
    (folder / "noise.hdf5").write_bytes(RNG.bytes(999))
    write_recon(folder / "recon.hdf5")
    changes = {
        "missing": ("obs/agentview_image", None, "no data set 'obs/agentview_image'; it has actions, next_obs/agentview_image"),
        "float": ("obs/agentview_image", pictures(5) / 255, "(5, 16, 16, 3) float64, expected pictures (T, H, W, 3) uint8"),
        "gray": ("obs/agentview_image", pictures(5)[..., 0], "obs/agentview_image is (5, 16, 16) uint8"),
        "long": ("actions", np.zeros((6, 7)), "actions is (6, 7) float64, expected (5, U), a row of numbers for each frame"),
        "wide": ("actions", np.zeros((5, 8)), "actions have [8] numbers, those before [7]"),
        "text": ("actions", np.array([b"left"] * 5), "actions is (5,) |S4"),
        "nan": ("actions", np.where(np.arange(35).reshape(5, 7) == 30, np.nan, 0), "1 of 5 actions have infinite numbers"),
    }
    for name, (path, value, _) in changes.items():
        write_robomimic(folder / f"{name}.hdf5", frames=(5,))
        with h5py.File(folder / f"{name}.hdf5", "a") as file:
            del file[f"data/demo_0/{path}"]
            if value is not None:
                file[f"data/demo_0/{path}"] = value
    return {
        "cut.hdf5": "damaged or not of this layout",
        "noise.hdf5": "damaged or not of this layout",
        "recon.hdf5": "no group 'data'; it has commands, images, jackal",
        **{f"{name}.hdf5/demo_0": reason for name, (_, _, reason) in changes.items()},
    }


def test_what_does_not_fit_is_left_out_with_a_reason(tmp_path):
    expected = make_damaged(tmp_path)
    source = Hdf5(tmp_path)
    listing = source.find()
    reasons = dict(listing.unreadable)
    assert [each.name for each in listing.recordings] == ["a.hdf5/demo_0", "nan.hdf5/demo_0"]
    read(source, listing.recordings[0])
    with pytest.raises(ValueError) as error:
        source.open(listing.recordings[1])
    reasons["nan.hdf5/demo_0"] = str(error.value)
    assert reasons.keys() == expected.keys()
    for name, reason in expected.items():
        assert reason in reasons[name]


def test_a_damaged_jpeg_is_named(tmp_path):
    write_recon(tmp_path / "a.hdf5")
    with h5py.File(tmp_path / "a.hdf5", "a") as file:
        file["images/rgb_left"][3] = np.zeros(9, np.uint8)
    source = Hdf5(tmp_path, layout="recon")
    with pytest.raises(ValueError, match="picture 3: not a picture"):
        list(source.open(source.find().recordings[0]).pictures)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"layout": "recon", "absolute": [0]}, r"--absolute is \[0\], but the actions of --layout recon are velocities"),
        ({"layout": "recon_motion", "actions": ["jackal/yaw"]}, "--layout recon_motion makes its actions of"),
        ({"recorded_fps": -1.0}, r"--recorded_fps is -1\.0, expected above 0"),
        ({"absolute": [7]}, r"--absolute names \[7\], expected numbers of an action, which are 0 to 6"),
        ({"images": []}, r"--images is \[\], expected different names"),
        ({"images": ["a", "a"]}, "expected different names"),
    ],
)
def test_options_are_checked(tmp_path, options, message):
    write_robomimic(tmp_path / "a.hdf5")
    with pytest.raises(ValueError, match=message):
        Hdf5(tmp_path, **options).find()
