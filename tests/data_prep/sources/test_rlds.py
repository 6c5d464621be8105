import io
import json
import struct

import numpy as np
import pytest
from PIL import Image

from data_prep.sources.rlds.source import Rlds
from data_prep.sources.rlds.tfrecord import find_records, read_record
from lam.data.schema import ActionField


def crc32c(data):
    """CRC-32C bit by bit: Castagnoli's polynomial, reflected."""
    checksum = 0xFFFFFFFF
    for byte in data:
        checksum ^= byte
        for _ in range(8):
            checksum = checksum >> 1 ^ (0x82F63B78 if checksum & 1 else 0)
    return checksum ^ 0xFFFFFFFF


def masked(data):
    checksum = crc32c(data)
    turned = (checksum >> 15 | checksum << 17) & 0xFFFFFFFF
    return struct.pack("<I", (turned + 0xA282EAD8) % 2**32)


def framed(data):
    length = struct.pack("<Q", len(data))
    return length + masked(length) + data + masked(data)


def varint(value):
    value %= 2**64
    out = b""
    while value > 127:
        out, value = out + bytes([value & 127 | 128]), value >> 7
    return out + bytes([value])


def field(number, data):
    """A protobuf field with a length."""
    return varint(number << 3 | 2) + varint(len(data)) + data


def example(**features):
    """A tf.train.Example; keys have __ for /."""
    entries = b""
    for name, values in features.items():
        if isinstance(values[0], bytes):
            feature = field(1, b"".join(field(1, value) for value in values))
        elif np.asarray(values).dtype.kind == "f":
            feature = field(2, field(1, np.asarray(values, "<f4").tobytes()))
        else:
            feature = field(3, field(1, b"".join(varint(int(value)) for value in values)))
        entries += field(1, field(1, name.replace("__", "/").encode()) + field(2, feature))
    return field(1, entries)


def png(picture):
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "PNG")
    return file.getvalue()


def tensor(*shape, dtype="float32"):
    return {"tensor": {"shape": {"dimensions": [str(each) for each in shape]} if shape else {}, "dtype": dtype}}


def picture(channels=3, dtype="uint8"):
    return {"image": {"shape": {"dimensions": ["4", "6", str(channels)]}, "dtype": dtype, "encodingFormat": "png"}}


def group(**features):
    return {"featuresDict": {"features": features}}


STEP = group(
    action=tensor(3),
    action_dict=group(gripper=tensor(), grasp=tensor(dtype="bool"), name={"text": {}}, plan=tensor(-1)),
    observation=group(top=picture(), wrist=picture(), depth=picture(1, "uint16"), touch=picture(1), state=tensor(2)),
)


def write(src, episodes, name="set-train.tfrecord-00000-of-00001", step=STEP):
    """Writes a file of episodes, each the features of its steps, and features.json beside it."""
    src.mkdir(parents=True, exist_ok=True)
    (src / "features.json").write_text(json.dumps(group(steps={"sequence": {"feature": step, "length": "-1"}})))
    records = [framed(example(**{f"steps__{key}": value for key, value in episode.items()})) for episode in episodes]
    (src / name).write_bytes(b"".join(records))
    return [len(record) for record in records]


def episode(seed, steps=5, **changes):
    rng = np.random.default_rng(seed)
    pixels = {name: rng.integers(0, 256, (steps, 4, 6, 3), np.uint8) for name in ("top", "wrist")}
    features = {f"observation__{name}": [png(each) for each in pictures] for name, pictures in pixels.items()}
    features |= {"action": rng.standard_normal(3 * steps), "action_dict__gripper": rng.random(steps)}
    features |= {"action_dict__grasp": rng.integers(0, 2, steps)} | changes
    return pixels, features


def read(source, recording):
    stream = source.open(recording)
    times, pictures = zip(*((time, frame.to_ndarray(format="rgb24")) for time, frame in stream.pictures), strict=True)
    return np.array(times), np.stack(pictures), stream


def test_checksums_and_wire_format(tmp_path):
    assert crc32c(b"123456789") == 0xE3069283  # the check value of CRC-32C
    numbers = np.array([0.5, -1e30, np.pi], np.float32)
    first = example(f=numbers, i=[0, -1, 300, 2**62], b=[b"", b"\x00\xff" * 99])
    unpacked = field(1, b"".join(varint(1 << 3 | 5) + struct.pack("<f", value) for value in numbers))  # older writers
    second = field(1, field(1, field(1, b"f") + field(2, varint(2 << 3 | 2) + varint(15) + unpacked[2:])))
    (tmp_path / "a.tfrecord").write_bytes(framed(first) + framed(second) + framed(b""))
    records = list(find_records(tmp_path / "a.tfrecord"))
    assert records == [(0, len(first)), (len(first) + 16, len(second)), (len(first) + len(second) + 32, 0)]
    found = [read_record(tmp_path / "a.tfrecord", offset) for offset, _ in records]
    np.testing.assert_array_equal(np.float32(found[0]["f"].float_list.value), numbers)
    np.testing.assert_array_equal(np.float32(found[1]["f"].float_list.value), numbers)
    assert list(found[0]["i"].int64_list.value) == [0, -1, 300, 2**62]
    assert list(found[0]["b"].bytes_list.value) == [b"", b"\x00\xff" * 99]
    assert found[2] == {}
    (tmp_path / "a.tfrecord").write_bytes(framed(b"no protobuf"))
    with pytest.raises(ValueError, match=r"byte 0 is not a tf.train.Example"):
        read_record(tmp_path / "a.tfrecord", 0)


def test_episodes_cameras_times_and_actions(tmp_path):
    episodes = [episode(seed, steps) for seed, steps in enumerate((5, 3))]
    write(tmp_path, [features for _, features in episodes])
    source = Rlds(tmp_path, actions=["action_dict/grasp", "action"], absolute=[0, 3], rates=[2], recorded_fps=4)
    listing = source.find()
    file = "set-train.tfrecord-00000-of-00001"
    assert not listing.unreadable and not listing.notes
    assert [each.name for each in listing.recordings] == [f"{file}/{i:05d}/{name}" for i in (0, 1) for name in ("top", "wrist")]
    assert [each.group for each in listing.recordings] == [f"{file}/{i:05d}" for i in (0, 0, 1, 1)]
    expected = [("action_dict/grasp", 1, "last"), ("action[0]", 1, "sum"), ("action[1]", 1, "mean"), ("action[2]", 1, "last")]
    assert source.action_fields() == [ActionField(*each) for each in expected]
    for recording in listing.recordings:
        pixels, features = episodes[int(recording.group[-5:])]
        times, pictures, stream = read(source, recording)
        np.testing.assert_array_equal(pictures, pixels[recording.name.split("/")[-1]])
        np.testing.assert_array_equal(times, np.arange(len(pictures)) / 4)
        actions = np.float32(features["action"]).reshape(-1, 3)
        np.testing.assert_array_equal(stream.actions, np.column_stack([features["action_dict__grasp"], actions])[:-1])
    alone = Rlds(tmp_path / file).find().recordings
    assert [each.name for each in alone] == [each.name for each in listing.recordings]
    np.testing.assert_array_equal(read(Rlds(tmp_path / file), alone[0])[1], episodes[0][0]["top"])


def test_a_truncated_file_gives_the_episodes_before(tmp_path):
    sizes = write(tmp_path, [episode(seed)[1] for seed in range(3)])
    (file,) = tmp_path.glob("*.tfrecord*")
    data = file.read_bytes()
    for end in (sum(sizes) - 1, sizes[0] + sizes[1] + 3, sizes[0] + sizes[1] + 12):
        file.write_bytes(data[:end])
        source = Rlds(tmp_path, images=["top"])
        listing = source.find()
        assert len(listing.recordings) == 2 and len(read(source, listing.recordings[1])[0]) == 5
        ((name, reason),) = listing.unreadable
        assert name == file.name and reason.startswith(f"it ends within record 2, after {end} of at least")
        assert reason.endswith("episodes before it that are kept: 2")
    file.write_bytes(data[: sizes[0] - 1])
    listing = Rlds(tmp_path).find()
    assert not listing.recordings and len(listing.unreadable) == 1


def test_a_changed_bit_is_noticed(tmp_path):
    sizes = write(tmp_path, [episode(seed)[1] for seed in range(3)])
    (file,) = tmp_path.glob("*.tfrecord*")
    data = bytearray(file.read_bytes())
    data[sizes[0] + 700] ^= 4
    file.write_bytes(data)
    source = Rlds(tmp_path)
    listing = source.find()
    assert len(listing.recordings) == 6 and not listing.unreadable
    for recording in listing.recordings[2:4]:
        with pytest.raises(ValueError, match=f"record at byte {sizes[0]} has changed since it was written"):
            source.open(recording)
    assert len(read(source, listing.recordings[4])[0]) == 5
    data[sizes[0] + 1] ^= 4  # a length
    file.write_bytes(data)
    listing = Rlds(tmp_path).find()
    assert len(listing.recordings) == 2
    assert (
        "a length is damaged" in listing.unreadable[0][1] and "episodes before it that are kept: 1" in listing.unreadable[0][1]
    )


def test_cameras_that_were_not_there(tmp_path):
    dummy = [png(np.zeros((4, 6, 3), np.uint8))] * 5
    write(tmp_path, [episode(seed, observation__wrist=dummy)[1] for seed in range(3)])
    listing = Rlds(tmp_path).find()
    assert [each.name.split("/")[-1] for each in listing.recordings] == ["top"] * 3
    assert listing.notes == ["Left out wrist: the same picture in all steps of the episodes looked at."]
    write(tmp_path, [episode(0, observation__wrist=dummy)[1], episode(1)[1]])
    source = Rlds(tmp_path)
    recordings = source.find().recordings
    assert len(recordings) == 4
    with pytest.raises(ValueError, match="'wrist' is the same picture in all 5 steps"):
        source.open(recordings[1])
    assert len(read(source, recordings[3])[0]) == 5
    write(tmp_path, [episode(0, observation__wrist=dummy, observation__top=dummy)[1]])
    with pytest.raises(ValueError, match="top, wrist are the same picture in all steps"):
        Rlds(tmp_path).find()


def test_names_and_numbers_that_are_not_there_are_refused_with_what_is(tmp_path):
    write(tmp_path, [episode(0)[1]])
    known = r"action \(float32\[3\]\), action_dict/gripper \(float32\), action_dict/grasp \(bool\), "
    known += r"observation/state \(float32\[2\]\)"
    with pytest.raises(ValueError, match=rf"has no actions action_dict/name, moves, expected some of: {known}\."):
        Rlds(tmp_path, actions=["action_dict/name", "action", "moves"]).find()
    with pytest.raises(ValueError, match="has no images front, depth, expected some of: top, wrist, touch"):
        Rlds(tmp_path, images=["front", "depth", "touch"]).find()
    with pytest.raises(ValueError, match=r"--absolute and --rates name \[3, -1\], the actions have numbers 0 to 2"):
        Rlds(tmp_path, absolute=[3], rates=[-1]).find()
    source = Rlds(tmp_path, images=["touch"])
    with pytest.raises(
        ValueError, match="the record has no feature steps/observation/touch, it has: steps/action, steps/action_dict"
    ):
        source.open(source.find().recordings[0])


@pytest.mark.parametrize(
    ("action", "reason"),
    [
        (np.where(np.arange(15) == 7, np.nan, 0.5), "number 1 of 'action' is nan in step 2"),
        (np.where(np.arange(15) == 3, -np.inf, 0.5), "number 0 of 'action' is -inf in step 1"),
        (np.full(12, 0.5), "'action' has 12 numbers, expected 3 for each of 5 pictures"),
        ([b"text"], "'action' has 0 numbers, expected 3 for each of 5 pictures"),
    ],
)
def test_actions_must_be_finite_and_as_many(tmp_path, action, reason):
    write(tmp_path, [episode(0, action=action)[1]])
    source = Rlds(tmp_path)
    with pytest.raises(ValueError, match=reason):
        source.open(source.find().recordings[0])


def test_a_damaged_picture_is_an_error_when_its_turn_comes(tmp_path):
    _, features = episode(0)
    features["observation__top"][2] = b"no picture"
    write(tmp_path, [features])
    source = Rlds(tmp_path)
    pictures = source.open(source.find().recordings[0]).pictures
    assert [next(pictures)[0] for _ in range(2)] == [0, 0.2]
    with pytest.raises(ValueError, match="not a picture, or damaged"):
        next(pictures)


def test_splits_of_the_set_are_kept(tmp_path):
    for number, name in enumerate(("a-train.tfrecord-00000-of-00002", "a-train.tfrecord-00001-of-00002")):
        write(tmp_path, [episode(number)[1]], name)
    assert {each.split for each in Rlds(tmp_path).find().recordings} == {None}
    write(tmp_path, [episode(7)[1]], "a-test.tfrecord-00000-of-00001")
    assert [each.split for each in Rlds(tmp_path, images=["top"]).find().recordings] == ["val", "train", "train"]


def test_folders(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder or file at"):
        Rlds(tmp_path / "none").find()
    with pytest.raises(FileNotFoundError, match="has no TFRecord files"):
        Rlds(tmp_path).find()
    write(tmp_path / "a/1.0.0", [episode(0)[1]])
    assert Rlds(tmp_path / "a").find().recordings[0].group.startswith("1.0.0/set-train.tfrecord")
    write(tmp_path / "b", [episode(0)[1]])
    with pytest.raises(ValueError, match=r"has TFRecord files in .*a/1\.0\.0 and .*b\. Give one of them"):
        Rlds(tmp_path).find()
    (tmp_path / "b/features.json").write_text("{}")
    with pytest.raises(ValueError, match=r"features\.json has no steps as RLDS data sets have"):
        Rlds(tmp_path / "b").find()
    (tmp_path / "b/features.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"No .*features\.json, which says what the records hold"):
        Rlds(tmp_path / "b").find()


@pytest.mark.shared_data
def test_bridge_agrees_with_its_decoded_copy(shared_data):
    """bridge_subset.npz holds the same records, decoded elsewhere."""
    src = shared_data / "actions/bridge_toysink"
    source = Rlds(src, absolute=[6])
    listing = source.find()
    assert listing.notes == ["Left out image_3: the same picture in all steps of the episodes looked at."]
    assert len(listing.recordings) == 19 * 3 and not listing.unreadable
    assert source.action_fields() == [ActionField("action[0:6]", 6, "sum"), ActionField("action[6]", 1, "last")]
    with np.load(src / "bridge_subset.npz") as file:
        decoded = {name: file[name] for name in ("action", "image_0", "image_1", "image_2")}
    for number, recording in enumerate(listing.recordings):
        assert recording.group == f"bridge_subset.tfrecord/{number // 3:05d}"
        times, pictures, stream = read(source, recording)
        np.testing.assert_array_equal(pictures, decoded[recording.place["image"]][number // 3])
        np.testing.assert_array_equal(stream.actions, decoded["action"][number // 3, :-1])
        np.testing.assert_allclose(times, np.arange(10) / 5)
    assert {each.place["image"] for each in listing.recordings} == {"image_0", "image_1", "image_2"}
