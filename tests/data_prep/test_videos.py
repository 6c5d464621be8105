import re
from fractions import Fraction

import av
import numpy as np
import pyarrow.parquet as pq
import pytest

from data_prep.__main__ import main
from data_prep.segments import read_segments, resample
from data_prep.videos import videos
from lam.data.schema import DataIndex


def write_video(path, times=None, count=24, size=(32, 48), codec="libx264", shade=0):
    """A video whose frame i has brightness 8 i + shade, at these times (8 a second if not given)."""
    times = np.arange(count) / 8 if times is None else times
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=1000)
        stream.height, stream.width = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, 1000)
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 8 * i + shade, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(1000 * time), Fraction(1, 1000)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


def brightness(segment):
    return np.rint(segment.frames.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


def rows(folder, split="train"):
    return [row for path in sorted(folder.glob(f"{split}-*.parquet")) for row in pq.read_table(path).to_pylist()]


@pytest.mark.parametrize(
    ("times", "fps", "expected"),
    [
        (np.arange(8) / 8, 4, [0, 2, 4, 6]),
        (np.arange(8) / 8, 8, list(range(8))),
        (np.arange(4) / 2, 4, [0, 1, 2, 3]),  # slower than asked: no frame twice
        (np.arange(30) / 29.97, 10, [0, 2, 5, 8, 11, 14, 17, 20, 23, 26, 29]),  # the latest not after k/10
        ([0.0, 0.01, 0.02, 0.9, 1.3], 1, [0, 3]),  # at 0 and at 1
        ([0.0], 1, [0]),
        ([], 1, []),
    ],
)
def test_resample_takes_the_latest_frame_not_after_each_moment(times, fps, expected):
    assert [frame for _, frame in resample(iter(list(zip(times, range(len(times)), strict=True))), fps)] == expected


def test_times_are_those_of_the_frames_at_a_variable_rate(tmp_path):
    times = np.array([0, 0.1, 0.4, 0.45, 0.9, 1.6, 1.61, 2.0])
    (segment,) = read_segments(write_video(tmp_path / "a.mkv", times + 5), fps=4, size=16, length=99)
    # on show at 0, 0.25, 0.5, 0.75, 1.0 ...: frames 0, 1, 3, 3, 4, 4, 4, 6, 7
    assert brightness(segment) == [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(segment.times, times[[0, 1, 3, 4, 6, 7]], atol=1e-3)


def test_segments_follow_each_other(tmp_path):
    segments = list(read_segments(write_video(tmp_path / "a.mp4"), fps=4, size=16, length=5))
    assert [len(segment.times) for segment in segments] == [5, 5, 2]
    assert [shade for segment in segments for shade in brightness(segment)] == list(range(0, 24, 2))
    np.testing.assert_allclose(np.concatenate([segment.times for segment in segments]), np.arange(12) / 4, atol=1e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mov", "gif"])
def test_containers(tmp_path, ending):
    codec = {"avi": "mpeg4", "gif": "gif"}.get(ending, "libx264")
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb8" if ending == "gif" else "yuv420p"
        for i in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (segment,) = read_segments(path, fps=4, size=16, length=99)
    assert segment.frames.shape[1:] == (16, 16, 3)
    np.testing.assert_allclose(segment.times[:8], np.arange(8) / 4, atol=0.011)  # gif counts hundredths
    assert len(segment.times) == 8 or (ending == "gif" and len(segment.times) == 9)  # so its end may pass 2 s
    assert (np.diff(segment.frames.mean(axis=(1, 2, 3))) > 0).all() or ending == "gif"  # gif has 256 colors


def test_the_middle_square_is_kept_at_the_right_size(tmp_path):
    picture = np.zeros((40, 80, 3), np.uint8)
    picture[:, 20:60] = 255
    for path, pixels in ((tmp_path / "wide.mp4", picture), (tmp_path / "tall.mp4", picture.transpose(1, 0, 2))):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=4)
            stream.height, stream.width, stream.pix_fmt = *pixels.shape[:2], "yuv420p"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        (segment,) = read_segments(path, fps=4, size=20, length=9)
        assert segment.frames.shape == (1, 20, 20, 3)
        assert segment.frames[:, 1:-1, 1:-1].min() > 245


def test_rotated_recordings_stand_upright(tmp_path):
    picture = np.zeros((32, 48, 3), np.uint8)
    picture[:, :24] = 255  # stored: left half white
    path = tmp_path / "phone.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=4)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    data = bytearray(path.read_bytes())
    # track header of ISO 14496-12: the matrix follows 40 bytes of other fields; this one turns clockwise by 90 degrees
    place = data.index(b"tkhd") + 44
    matrix = [0, 1, 0, -1, 0, 0, 0, 0, 0x4000]
    data[place : place + 36] = b"".join((value * 0x10000).to_bytes(4, "big", signed=True) for value in matrix)
    path.write_bytes(data)
    (segment,) = read_segments(path, fps=4, size=16, length=9)
    top, bottom = segment.frames[0, :6].mean(), segment.frames[0, 10:].mean()
    assert top > 240 and bottom < 15  # the left side is up after the turn


def test_split_by_file_and_deterministic_in_the_seed(tmp_path):
    src = tmp_path / "clips"
    (src / "deep").mkdir(parents=True)
    for i in range(5):
        write_video(src / ("deep" if i % 2 else "") / f"{i}.mp4", shade=i)
    options = {"size": 16, "max_seconds": 1.0, "min_frames": 4, "val_share": 0.4}
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2)):
        assert videos(src, tmp_path / name, seed=seed, **options) == 0
    sources = {split: {row["source"] for row in rows(tmp_path / "a", split)} for split in ("train", "val")}
    assert len(sources["val"]) == 2 and len(sources["train"]) == 3 and not sources["val"] & sources["train"]
    assert sources["val"] | sources["train"] == {"0.mp4", "deep/1.mp4", "2.mp4", "deep/3.mp4", "4.mp4"}
    assert len(rows(tmp_path / "a")) == 9  # three clips of a second each
    assert DataIndex.load(tmp_path / "a").digest == DataIndex.load(tmp_path / "b").digest
    assert len({DataIndex.load(tmp_path / name).digest for name in "acd"}) == 3


def test_damaged_and_empty_files_are_left_out_with_a_reason(tmp_path, capsys):
    src = tmp_path / "clips"
    src.mkdir()
    for i in range(2):
        write_video(src / f"good{i}.mp4")
    (src / "noise.mp4").write_bytes(b"not a video" * 99)
    (src / "empty.mkv").touch()
    write_video(src / "short.mp4", count=3)
    half = write_video(src / "half.mp4").read_bytes()
    (src / "half.mp4").write_bytes(half[: len(half) // 2])
    assert main(["videos", str(src), str(tmp_path / "out"), "--size", "16", "--min_frames", "4"]) == 3
    index = DataIndex.load(tmp_path / "out")
    reasons = {item.source: item.reason for item in index.quarantined}
    assert set(reasons) == {"noise.mp4", "empty.mkv", "short.mp4", "half.mp4"}
    assert reasons["short.mp4"] == "fewer than 4 frames at this rate"
    assert "Invalid data" in reasons["noise.mp4"]
    assert index.splits["train"] and index.splits["val"]
    assert "Left out noise.mp4: " in capsys.readouterr().out


def test_one_video_is_split_in_time(tmp_path, capsys):
    path = write_video(tmp_path / "only.mp4")
    assert videos(path, tmp_path / "many", size=16, max_seconds=1.0, min_frames=4) == 0
    assert "one usable source only" in capsys.readouterr().out
    assert "one usable source only" in DataIndex.load(tmp_path / "many").settings["note"]
    train, val = rows(tmp_path / "many"), rows(tmp_path / "many", "val")
    assert max(row["times"][-1] for row in train) < min(row["times"][0] for row in val)
    videos(path, tmp_path / "one", size=16, min_frames=4)
    assert [row["frames"] for row in rows(tmp_path / "one") + rows(tmp_path / "one", "val")] == [8, 4]
    assert videos(path, tmp_path / "one", size=16, min_frames=4) == 0  # a second run has nothing to do
    with pytest.raises(ValueError, match="one usable clip of 12 frames, training and validation need 8 each"):
        videos(path, tmp_path / "none", size=16, min_frames=8)


def test_running_again_does_nothing_or_refuses(tmp_path, capsys):
    src = tmp_path / "clips"
    src.mkdir()
    write_video(src / "a.mp4")
    write_video(src / "b.mp4")
    command = ["videos", str(src), str(tmp_path / "out"), "--size", "16", "--min_frames", "4"]
    assert main(command) == 0
    before = (tmp_path / "out" / "index.json").stat().st_mtime_ns
    assert main(command) == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "index.json").stat().st_mtime_ns == before
    assert main([*command, "--fps", "2"]) == 1
    assert "made with other settings (fps)" in capsys.readouterr().err
    write_video(src / "c.mp4")
    assert main(command) == 1
    assert "other settings (files, files_sha256)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda src: None, "No folder or file at"),
        (lambda src: src.mkdir(), "has no videos"),
        (lambda src: (src.mkdir(), (src / "a.mp4").touch()), r"has no usable video; a\.mp4: "),
    ],
)
def test_nothing_to_prepare_is_one_line_and_an_error(tmp_path, capsys, make, message):
    make(tmp_path / "clips")
    assert main(["videos", str(tmp_path / "clips"), str(tmp_path / "out")]) == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"^data_prep videos: .*{message}", error)
    assert not (tmp_path / "out" / "index.json").exists()


def test_command_line_explains_itself(capsys):
    with pytest.raises(SystemExit) as stop:
        main(["videos", "--help"])
    assert stop.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--max_seconds" in text and "Packed JPEG if not given" in text


@pytest.mark.shared_data
def test_real_containers_keep_their_times(shared_data):
    for name, length in (("intel_store_aisle.gif", 4.0), ("pysot_bag.avi", 7.8), ("intel_asl_again.mkv", 2.6)):
        (segment,) = read_segments(shared_data / "natural" / name, fps=4, size=32, length=999)
        assert abs(segment.times[-1] - length) < 0.3
        assert abs(len(segment.times) - 4 * length) <= 2
        assert np.abs(np.diff(segment.times) - 0.25).max() < 0.07  # within a frame of the source
