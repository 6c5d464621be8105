import sys

import numpy as np
import pytest

from data_prep.shards.encoding import encode_jpegs, encode_mp4
from lam.data.codec import decode_frames, import_torchcodec
from lam.data.datamodule import ClipDataModule
from lam.data.schema import Storage
from tests.data.shards import write_set


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_set(tmp_path_factory.mktemp("set") / "shards", train=[9, 12, 7, 20], val=[10])


def moving_video(frames=30, size=32):
    rng = np.random.default_rng(0)
    scene = np.kron(rng.integers(0, 255, (size // 4, size // 4, 3)), np.ones((4, 4, 1))).astype(np.uint8)
    return np.stack([np.roll(scene, 2 * i, axis=1) for i in range(frames)])


@pytest.mark.parametrize(
    "window", [range(0, 2), range(5, 9), range(7, 10), range(8, 9), range(13, 29, 5), range(28, 30), [0, 1, 17, 18, 29]]
)
def test_mp4_windows_equal_the_full_decode(window):
    video = memoryview(encode_mp4(moving_video(), fps=29.97))
    whole = np.empty((30, 32, 32, 3), dtype=np.uint8)
    decode_frames(Storage.mp4, video, range(30), whole)
    part = np.empty((len(window), 32, 32, 3), dtype=np.uint8)
    decode_frames(Storage.mp4, video, window, part)
    np.testing.assert_array_equal(part, whole[list(window)])


def test_stored_pictures_are_close_to_what_was_written():
    video = moving_video()
    for storage, data, error in ((Storage.jpeg, encode_jpegs(video), 3), (Storage.mp4, encode_mp4(video, 4), 25)):
        out = np.empty_like(video)
        decode_frames(storage, memoryview(data), range(30), out)
        assert np.abs(out.astype(int) - video).mean() < error
        # nearer to itself than to its neighbors: no frame is off by one
        assert np.abs(out[1:].astype(int) - video[:-1]).mean() > 2 * np.abs(out.astype(int) - video).mean()


def test_the_same_frames_become_the_same_mp4():
    videos = [np.random.default_rng(size).integers(0, 255, (40, size, size, 3), dtype=np.uint8) for size in (16, 32, 48)]
    first = [encode_mp4(video, fps=10) for video in videos]
    for _ in range(20):
        assert [encode_mp4(video, fps=10) for video in videos] == first


def test_torchcodec_that_is_not_there(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchcodec", None)
    with pytest.raises(ValueError, match=r"install torchcodec 0\.12 or 0\.13 and FFmpeg's shared libraries"):
        ClipDataModule(folder, frames=3, batch_size=4, decoder="torchcodec")


@pytest.mark.parametrize("window", [range(5, 9), range(13, 29, 5), [0, 1, 17, 18, 29]])
def test_torchcodec_gives_the_same_pixels(window):
    try:
        import_torchcodec()
    except ValueError as error:
        pytest.skip(f"NO TORCHCODEC, this test did not run: {error}")
    video = memoryview(encode_mp4(moving_video(), fps=29.97))
    found = []
    for decoder in ("pyav", "torchcodec"):
        found.append(np.empty((len(window), 32, 32, 3), dtype=np.uint8))
        decode_frames(Storage.mp4, video, window, found[-1], decoder)
    np.testing.assert_array_equal(*found)
    with pytest.raises(ValueError, match="cannot be decoded"):
        decode_frames(Storage.mp4, video[:1000], window, found[-1], "torchcodec")


@pytest.mark.parametrize(("size", "said"), [(16, "too small"), (48, r"\(32, 32, 3\), expected \(48, 48, 3\)")])
def test_frames_of_another_size_are_an_error(size, said):
    out = np.empty((2, size, size, 3), dtype=np.uint8)
    with pytest.raises(ValueError, match=said):
        decode_frames(Storage.jpeg, memoryview(encode_jpegs(moving_video(size=32))), [3, 4], out)
