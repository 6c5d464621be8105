"""Bombs: a few bytes that ask for all memory or all time are refused by limits that have names."""

import io
import re
import struct
import zlib
from pathlib import Path

import av
import numpy as np
import pytest
import yaml
from PIL import Image

from data_prep.shards.encoding import encode_npy, encode_npz
from data_prep.sources.arrays import read_array
from data_prep.sources.base import image_frame
from data_prep.sources.videos import video_frames
from lam.data.codec import decode_frames, pack_jpegs
from lam.data.schema import Storage
from lam.io.arrays import read_npy, read_npz
from lam.io.limits import LimitError, check_limit, check_values, open_file
from lam.runs.configs import read_yaml
from lam.runs.errors import SettingsError


def picture(kind: str, side: int = 8) -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (side, side), (9, 99, 199)).save(buffer, kind)
    return buffer.getvalue()


def png(width: int, height: int) -> bytes:
    """A PNG whose header says that it is of any size."""
    data = picture("png")
    header = b"IHDR" + struct.pack(">II", width, height) + data[24:29]
    return data[:12] + header + struct.pack(">I", zlib.crc32(header)) + data[33:]


def jpeg(width: int, height: int) -> bytes:
    data = picture("jpeg")
    place = data.index(b"\xff\xc0") + 5
    return data[:place] + struct.pack(">HH", height, width) + data[place + 4 :]


def gif(width: int, height: int) -> bytes:
    data = picture("gif")
    return data[:6] + struct.pack("<HH", width, height) + data[10:]


@pytest.mark.parametrize("data", [png(100_000, 100_000), png(16_000, 16_000), jpeg(65_500, 65_500), gif(65_535, 65_535)])
def test_pictures_that_say_they_are_huge(data):
    with pytest.raises(ValueError, match=r"MAX_SIDE|MAX_PIXELS|exceeds limit"):
        image_frame(data)


def test_a_picture_of_an_ordinary_size_passes():
    assert image_frame(png(8, 8)).width == 8


def test_a_gif_as_video_that_says_it_is_huge(tmp_path):
    (tmp_path / "bomb.gif").write_bytes(gif(65_535, 65_535))
    with pytest.raises((ValueError, av.error.FFmpegError)):
        list(video_frames(tmp_path / "bomb.gif"))


@pytest.mark.parametrize("size", [(65_500, 65_500), (16, 8), (8, 16)])
def test_frames_of_another_size_than_the_index_says(size):
    with pytest.raises(ValueError, match=r"."):
        decode_frames(Storage.jpeg, memoryview(pack_jpegs([jpeg(*size)])), [0], np.empty((1, 8, 8, 3), np.uint8))


def test_packed_jpegs_that_say_they_are_many():
    member = memoryview(struct.pack("<i", 2**31 - 1) + bytes(100))
    with pytest.raises(ValueError, match=r"says that it holds 2147483647 frames in 104 bytes"):
        decode_frames(Storage.jpeg, member, [0], np.empty((1, 8, 8, 3), np.uint8))


def test_a_video_of_another_size_is_refused_before_it_is_decoded(monkeypatch):
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 32, "yuv420p"
        container.mux(stream.encode(av.VideoFrame(64, 32, "yuv420p")))
        container.mux(stream.encode())
    with pytest.raises(ValueError, match=r"frames of shape \(32, 64, 3\), expected \(16, 16, 3\)"):
        decode_frames(Storage.mp4, memoryview(buffer.getvalue()), [0], np.empty((1, 16, 16, 3), np.uint8))


def test_arrays_whose_header_says_more_than_follows():
    whole = encode_npy(np.arange(6.0))
    assert read_npy(whole).tolist() == [0, 1, 2, 3, 4, 5]
    for shape in ("(999999999999,)", "(-6,)", "(5,)", "(6, 2)"):
        text = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}, }}\n".encode()
        with pytest.raises(ValueError, match=r"its header says"):
            read_npy(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + bytes(48))
    with pytest.raises(ValueError, match=r"objects"):
        buffer = io.BytesIO()
        np.save(buffer, np.array([{}], dtype=object), allow_pickle=True)
        read_npy(buffer.getvalue())


def test_a_zip_that_unpacks_to_far_more(monkeypatch, tmp_path):
    small = encode_npz({"a": np.arange(3), "b": np.zeros((2, 2))})
    assert {name: value.shape for name, value in read_npz(small).items()} == {"a": (3,), "b": (2, 2)}
    (tmp_path / "bomb.npz").write_bytes(buffer := _compressed(np.zeros(10**7, np.uint8)))
    assert len(buffer) < 20_000
    monkeypatch.setattr("lam.io.limits.MAX_ARRAY_BYTES", 10**6)
    monkeypatch.setattr("lam.io.limits.MAX_EPISODE_BYTES", 10**6)
    with pytest.raises(LimitError, match=r"10,000,128, more than lam\.io\.limits\.MAX_ARRAY_BYTES"):
        read_npz(buffer)
    with pytest.raises(ValueError, match=r"MAX_EPISODE_BYTES"):
        read_array(tmp_path / "bomb.npz", "a", None)


def _compressed(array: np.ndarray) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, a=array)
    return buffer.getvalue()


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 60))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (LAUGHS, "MAX_SETTINGS_VALUES"),
        ("a: " + "[" * 100_000, "too deep"),
        ("a: " + "[" * 150 + "]" * 150, "MAX_SETTINGS_DEPTH"),
        ("a: " + "x" * 2_000_000, "MAX_SETTINGS_BYTES"),
        ("a: &b [*b]", "MAX_SETTINGS_(DEPTH|VALUES)"),
        ("a: !!python/object/apply:os.system [true]", "is not YAML"),
        ("a: " + "9" * 5000, "is not YAML"),
        ("\x00", "is not YAML"),
    ],
    ids=["laughs", "open", "deep", "long", "loop", "object", "digits", "zero"],
)
def test_settings_that_are_no_settings(tmp_path, text, said):
    (tmp_path / "x.yaml").write_text(text)
    with pytest.raises(SettingsError, match=said):
        read_yaml(tmp_path / "x.yaml")


def test_ordinary_aliases_are_fine(tmp_path):
    (tmp_path / "x.yaml").write_text("a: &a {b: 1}\nc: *a\n")
    assert read_yaml(tmp_path / "x.yaml") == {"a": {"b": 1}, "c": {"b": 1}}
    check_values("it", yaml.safe_load("a: [1, {b: 2}]"))


def test_limits_refuse_what_is_no_number():
    with pytest.raises(LimitError, match="fps is nan"):
        check_limit("fps", float("nan"), "MAX_FPS")


def test_only_ordinary_files_are_opened(tmp_path):
    for path in (tmp_path, "/dev/zero"):
        with pytest.raises(OSError, match="no ordinary file"):
            open_file(path)


def test_files_of_settings_are_read_in_one_place():
    """``read_yaml`` holds the limits; whoever loads the text of a file itself has none."""
    root = Path(__file__).resolve().parents[1]
    sources = [path for package in ("lam", "data_prep") for path in (root / package).rglob("*.py")]
    assert sources
    assert [
        str(path) for path in sources if re.search(r"safe_load\([^\n]*(read_text|open|read_bytes)\(", path.read_text())
    ] == []
