import json

import numpy as np
import pytest
from PIL import Image

from data_prep.sources.frames import Frames
from data_prep.sources.image_files import ImageFolder, natural_order

RNG = np.random.default_rng(0)


def write_images(folder, names, size=(12, 20), mode="RGB"):
    """Images of noise; returns their pixels by name as Pillow reads them back."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        Image.fromarray(RNG.integers(0, 256, (*size, 3), np.uint8)).convert(mode).save(folder / name)
    return {name: np.asarray(Image.open(folder / name).convert("RGB")) for name in names}


def read(source, recording):
    times, frames = zip(*source.open(recording).pictures, strict=True)
    return list(times), [frame.to_ndarray(format="rgb24") for frame in frames]


def test_each_folder_is_a_recording_in_natural_order(tmp_path):
    names = [f"{i}.jpg" for i in (1, 2, 9, 10, 11, 100)]
    pixels = write_images(tmp_path / "P01" / "rgb" / "P01_10", names)
    write_images(tmp_path / "P01" / "rgb" / "P01_9", ["frame_0001.png"])
    write_images(tmp_path, ["cover.webp"])
    write_images(tmp_path / ".cache", ["a.png"])
    (tmp_path / "P01" / "rgb" / "P01_10" / "notes.txt").write_text("not a picture")
    (tmp_path / "P01" / "rgb" / "P01_10" / ".hidden.jpg").write_bytes(b"not a picture")
    source = Frames(tmp_path, recorded_fps=12.0)
    listing = source.find()
    assert [each.name for each in listing.recordings] == [".", "P01/rgb/P01_9", "P01/rgb/P01_10"]
    assert all(each.group == each.name and each.split is None for each in listing.recordings)
    assert listing.unreadable == [] and source.action_fields() == []
    files = [tmp_path / "P01" / "rgb" / "P01_10" / name for name in names]
    assert listing.recordings[2].size == sum(file.stat().st_size for file in files)
    times, frames = read(source, listing.recordings[2])
    np.testing.assert_allclose(times, [0, 1 / 12, 2 / 12, 3 / 12, 4 / 12, 5 / 12])
    np.testing.assert_array_equal(frames, [pixels[name] for name in names])


@pytest.mark.parametrize(
    ("ending", "mode"), [("png", "L"), ("png", "RGBA"), ("png", "P"), ("bmp", "RGB"), ("webp", "RGB"), ("JPG", "L")]
)
def test_kinds_of_images(tmp_path, ending, mode):
    pixels = write_images(tmp_path, [f"{i}.{ending}" for i in range(3)], mode=mode)
    source = Frames(tmp_path)
    _, frames = read(source, source.find().recordings[0])
    np.testing.assert_array_equal(frames, list(pixels.values()))


def test_natural_order():
    names = ["b1", "a10", "a9", "a", "a01", "a1", "2", "10", "a1b2", "a1b10"]
    assert sorted(names, key=natural_order) == ["2", "10", "a", "a01", "a1", "a1b2", "a1b10", "a9", "a10", "b1"]


def test_reading_is_lazy_and_says_which_image_is_bad(tmp_path):
    write_images(tmp_path, ["1.png", "2.png"])
    (tmp_path / "3.png").write_bytes((tmp_path / "1.png").read_bytes()[:100])
    source = Frames(tmp_path)
    pictures = source.open(source.find().recordings[0]).pictures
    next(pictures), next(pictures)  # those before can be read
    with pytest.raises(ValueError, match=r"3\.png: not a picture, or damaged"):
        next(pictures)


def test_sizes_must_not_change(tmp_path):
    write_images(tmp_path, ["1.png"])
    write_images(tmp_path, ["2.png"], size=(20, 12))
    source = Frames(tmp_path)
    with pytest.raises(ValueError, match=r"2\.png is 12 x 20, those before 20 x 12; a recording has one size"):
        list(source.open(source.find().recordings[0]).pictures)


def test_state_changes_with_the_files(tmp_path):
    write_images(tmp_path, ["1.png", "2.png"])
    states = [ImageFolder.scan(tmp_path).state]
    write_images(tmp_path, ["3.png"])
    states.append(ImageFolder.scan(tmp_path).state)
    (tmp_path / "3.png").unlink()
    states.append(ImageFolder.scan(tmp_path).state)
    write_images(tmp_path, ["1.png"])
    states.append(ImageFolder.scan(tmp_path).state)
    assert states[0] == states[2] and len(set(states)) == 3


def test_nothing_there(tmp_path):
    with pytest.raises(FileNotFoundError, match="No folder at"):
        Frames(tmp_path / "none").find()
    with pytest.raises(FileNotFoundError, match=r"has no images\. Names must end in one of \.bmp \.jpeg"):
        Frames(tmp_path).find()
    with pytest.raises(ValueError, match=r"--recorded_fps is 0\.0, expected above 0"):
        Frames(tmp_path, recorded_fps=0.0)


@pytest.mark.shared_data
def test_real_images(shared_data):
    """3000 images numbered without leading zeros come in the order of the catalogs that list them."""
    folder = shared_data / "actions" / "donkeycar_indoor_track"
    lines = [line for k in range(3) for line in (folder / f"catalog_{k}.catalog").read_text().splitlines()]
    names = [json.loads(line)["cam/image_array"] for line in lines]
    source = Frames(folder, recorded_fps=20.0)
    (recording,) = source.find().recordings
    assert recording.name == "images"
    assert [file.name for file in ImageFolder.scan(folder / "images").files] == names
    for i, (time, frame) in zip(range(12), source.open(recording).pictures, strict=False):
        assert time == i / 20
        np.testing.assert_array_equal(frame.to_ndarray(format="rgb24"), np.asarray(Image.open(folder / "images" / names[i])))
