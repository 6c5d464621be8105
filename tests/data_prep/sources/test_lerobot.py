import io
import itertools
import json

import av
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from data_prep.sources.lerobot.source import LeRobot
from lam.data.schema import ActionField

FPS, TOP, WRIST = 10, "observation.images.top", "observation.images.wrist"
LENGTHS = [7, 12, 9]


def feature(dtype, shape, names=None, **more):
    return {"dtype": dtype, "shape": shape, "names": names, **more}


def write_info(src, version, data_path, video_path, **features):
    info = {"codebase_version": version, "fps": FPS, "data_path": data_path, "video_path": video_path}
    info["features"] = {
        "action": feature("float32", [3], ["x", "y", "gripper"]),
        "observation.state": feature("float32", [2]),
        "episode_index": feature("int64", [1]),
        **features,
    }
    (src / "meta").mkdir(parents=True)
    (src / "meta/info.json").write_text(json.dumps(info))


def numbers(episode, rows):
    """Actions and states of an episode."""
    time = np.arange(rows)[:, None] + 100 * episode
    return np.hstack([time, time / 4, -time]).astype(np.float32), np.hstack([time, 2 * time]).astype(np.float32)


def table(episode, rows):
    actions, states = numbers(episode, rows)
    columns = {"action": list(actions), "observation.state": list(states), "episode_index": [episode] * rows}
    return pa.table({name: pa.array(values) for name, values in columns.items()})


def write_video(path, shades, size=(32, 48)):
    """H.264 with B-frames and a key frame at least every sixth frame, shown from time 0 on."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=FPS, options={"g": "6", "bf": "2"})
        stream.height, stream.width, stream.pix_fmt = *size, "yuv420p"
        for shade in shades:
            picture = np.full((*size, 3), shade, np.uint8)
            picture[:, : int(shade) % 40] = 255 - shade  # so that there is motion
            container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def join_videos(path, parts):
    """One video after the other without encoding again, as LeRobot's concatenate_video_files does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    ends = [0.0]
    with av.open(str(path), "w") as joined:
        stream = None
        for part in parts:
            with av.open(str(part)) as container:
                source = container.streams.video[0]
                stream = stream or joined.add_stream_from_template(source)
                shift = round(ends[-1] / source.time_base)
                for packet in container.demux(source):
                    if packet.dts is not None:
                        packet.pts, packet.dts, packet.stream = packet.pts + shift, packet.dts + shift, stream
                        joined.mux(packet)
                ends.append(ends[-1] + float(source.duration * source.time_base))
    return ends


def decode(path):
    """Pixels of all frames, read in one go."""
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def read(source, recording):
    """Times and pixels of all pictures, and the stream."""
    stream = source.open(recording)
    times, pictures = zip(*((time, frame.to_ndarray(format="rgb24")) for time, frame in stream.pictures), strict=True)
    return np.array(times), np.stack(pictures), stream


def write_v21(src, frames=LENGTHS, rows=LENGTHS, listed=LENGTHS, version="v2.1", **features):
    folder = "chunk-{episode_chunk:03d}"
    data, video = (
        f"data/{folder}/episode_{{episode_index:06d}}.parquet",
        f"videos/{folder}/{{video_key}}/episode_{{episode_index:06d}}.mp4",
    )
    write_info(src, version, data, video, **({TOP: feature("video", [32, 48, 3])} | features))
    lines = [json.dumps({"episode_index": i, "tasks": ["t"], "length": length}) for i, length in enumerate(listed)]
    (src / "meta/episodes.jsonl").write_text("\n".join(lines) + "\n")
    (src / "data/chunk-000").mkdir(parents=True)
    for i, (count, length) in enumerate(zip(rows, frames, strict=True)):
        pq.write_table(table(i, count), src / f"data/chunk-000/episode_{i:06d}.parquet")
        write_video(src / f"videos/chunk-000/{TOP}/episode_{i:06d}.mp4", 20 * i + 8 * np.arange(length))
    return src


def write_v3(src):
    """Episodes 0 and 1 in one file of each kind, 2 in another; the second camera has all in one."""
    data, video = (
        "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
        "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4",
    )
    write_info(src, "v3.0", data, video, **{TOP: feature("video", [32, 48, 3]), WRIST: feature("video", [32, 48, 3])})
    files, rows, parts = [0, 0, 1], [], {}
    for file in (0, 1):
        (src / "data/chunk-000").mkdir(parents=True, exist_ok=True)
        tables = [table(i, length) for i, length in enumerate(LENGTHS) if files[i] == file]
        pq.write_table(pa.concat_tables(tables), src / f"data/chunk-000/file-{file:03d}.parquet", row_group_size=5)
    for name, where in ((TOP, files), (WRIST, [0, 0, 0])):
        for i, length in enumerate(LENGTHS):
            shades = 20 * i + (8 if name == TOP else 5) * np.arange(length)
            parts[name, i] = write_video(src.parent / f"parts/{name}{i}.mp4", shades)
        for file in sorted(set(where)):
            mine = [i for i in range(3) if where[i] == file]
            ends = join_videos(src / f"videos/{name}/chunk-000/file-{file:03d}.mp4", [parts[name, i] for i in mine])
            for i, start, end in zip(mine, ends, ends[1:], strict=False):
                rows.append(
                    (
                        i,
                        {
                            f"videos/{name}/{key}": value
                            for key, value in zip(
                                ("chunk_index", "file_index", "from_timestamp", "to_timestamp"),
                                (0, file, start, end),
                                strict=True,
                            )
                        },
                    )
                )
    bounds = np.cumsum([0, *LENGTHS])
    for i in range(3):
        row = {"episode_index": i, "tasks": ["t"], "length": LENGTHS[i], "data/chunk_index": 0, "data/file_index": files[i]}
        rows.append((i, row | {"dataset_from_index": bounds[i], "dataset_to_index": bounds[i + 1], "stats/action/mean": [0.0]}))
    episodes = [dict(itertools.chain.from_iterable(row.items() for j, row in rows if j == i)) for i in range(3)]
    (src / "meta/episodes/chunk-000").mkdir(parents=True)
    pd.DataFrame(episodes).to_parquet(src / "meta/episodes/chunk-000/file-000.parquet")
    return parts


def test_v3_reads_each_episode_out_of_the_joined_files(tmp_path):
    parts = write_v3(tmp_path / "set")
    source = LeRobot(tmp_path / "set", state=True)
    listing = source.find()
    assert not listing.unreadable
    assert [each.name for each in listing.recordings] == [f"episode_{i:06d}/{name}" for i in range(3) for name in (TOP, WRIST)]
    assert [each.group for each in listing.recordings] == [f"episode_{i:06d}" for i in (0, 0, 1, 1, 2, 2)]
    for recording, (i, name) in zip(listing.recordings, itertools.product(range(3), (TOP, WRIST)), strict=True):
        times, pictures, stream = read(source, recording)
        np.testing.assert_array_equal(pictures, decode(parts[name, i]))
        np.testing.assert_allclose(times, np.arange(LENGTHS[i]) / FPS)
        actions, states = numbers(i, LENGTHS[i])
        np.testing.assert_array_equal(stream.actions, actions[:-1])
        np.testing.assert_array_equal(stream.factors["state"], states[1:])
    sizes = {name: sum(each.size for each in listing.recordings if name in each.name) for name in (TOP, WRIST)}
    for name, size in sizes.items():
        assert size == pytest.approx(
            sum(file.stat().st_size for file in (tmp_path / "set/videos" / name).rglob("*.mp4")), abs=3
        )


def test_v3_does_not_touch_other_episodes_of_the_file(tmp_path):
    parts = write_v3(tmp_path / "set")
    file = tmp_path / f"set/videos/{WRIST}/chunk-000/file-000.mp4"
    with av.open(str(file)) as container:
        packets = [
            (packet.pts * packet.time_base, packet.pos, packet.size) for packet in container.demux(video=0) if packet.size
        ]
    data = bytearray(file.read_bytes())
    for time, position, size in packets:
        if not LENGTHS[0] / FPS <= time < sum(LENGTHS[:2]) / FPS:
            data[position : position + size] = bytes(size)
    file.write_bytes(data)
    source = LeRobot(tmp_path / "set", cameras=[WRIST])
    first, second, third = source.find().recordings
    np.testing.assert_array_equal(read(source, second)[1], decode(parts[WRIST, 1]))
    for damaged in (first, third):
        with pytest.raises((av.error.FFmpegError, ValueError)):
            read(source, damaged)


def test_v21_names_of_actions_deltas_and_rates(tmp_path):
    source = LeRobot(write_v21(tmp_path / "set"), deltas=["x"], rates=["y"])
    recordings = source.find().recordings
    assert source.action_fields() == [
        ActionField("x", 1, "sum"),
        ActionField("y", 1, "mean"),
        ActionField("gripper", 1, "last"),
    ]
    assert {field.aggregation for field in LeRobot(tmp_path / "set", deltas=["action"]).action_fields()} == {"sum"}
    for i, recording in enumerate(recordings):
        times, pictures, stream = read(source, recording)
        np.testing.assert_array_equal(pictures, decode(tmp_path / f"set/videos/chunk-000/{TOP}/episode_{i:06d}.mp4"))
        np.testing.assert_array_equal(stream.actions, numbers(i, LENGTHS[i])[0][:-1])
        assert len(times) == LENGTHS[i] and stream.factors == {}
    with pytest.raises(ValueError, match="no actions 'z' to be deltas or rates, expected: action, x, y, gripper"):
        LeRobot(tmp_path / "set", deltas=["z"]).find()
    with pytest.raises(ValueError, match=r"no column 'actions' of numbers, expected one of: action, observation.state"):
        LeRobot(tmp_path / "set", actions="actions").find()
    with pytest.raises(ValueError, match=f"no camera 'front', expected one of: {TOP}"):
        LeRobot(tmp_path / "set", cameras=["front"]).find()


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([["a", "b", "c"]], ["a", "b", "c"]),
        ({"motors": ["a", "b", "c"]}, ["a", "b", "c"]),
        ({"delta_x": 0, "delta_y": 1, "grip": 2}, ["delta_x", "delta_y", "grip"]),
        (["actions"], ["action[0]", "action[1]", "action[2]"]),
        (None, ["action[0]", "action[1]", "action[2]"]),
    ],
)
def test_forms_of_names(tmp_path, names, expected):
    src = write_v21(tmp_path / "set", action=feature("float32", [3], names))
    assert [each.name for each in LeRobot(src).action_fields()] == expected


def test_groups_of_modality_json(tmp_path):
    src = write_v21(tmp_path / "set")
    groups = {"hand": {"start": 2, "end": 3, "original_key": "action"}, "arm": {"start": 0, "end": 2, "absolute": False}}
    groups["other"] = {"start": 0, "end": 2, "original_key": "observation.state"}
    (src / "meta/modality.json").write_text(json.dumps({"action": groups}))
    source = LeRobot(src, actions=["action", "observation.state"])
    assert source.action_fields() == [
        ActionField("hand", 1, "last"),
        ActionField("arm", 2, "sum"),
        ActionField("other", 2, "last"),
    ]
    actions, states = numbers(0, LENGTHS[0])
    expected = np.hstack([actions[:, 2:], actions[:, :2], states])[:-1]
    np.testing.assert_array_equal(source.open(source.find().recordings[0]).actions, expected)
    (src / "meta/modality.json").write_text(json.dumps({"action": {"arm": {"start": 0, "end": 4}}}))
    with pytest.raises(ValueError, match="'arm' at 0 to 4, expected a part of the 3 numbers of 'action'"):
        LeRobot(src).find()


@pytest.mark.parametrize("version", ["v2.1", "v3.0"])
def test_pictures_in_the_rows(tmp_path, version):
    rng = np.random.default_rng(0)
    pictures = [rng.integers(0, 256, (length, 8, 10, 3), np.uint8) for length in (40, 5)]  # more than a batch of rows
    src, tables = tmp_path / "set", []
    for i, episode in enumerate(pictures):
        files = [io.BytesIO() for _ in episode]
        for picture, file in zip(episode, files, strict=True):
            Image.fromarray(picture).save(file, "PNG")
        cells = [{"bytes": file.getvalue(), "path": f"frame-{j}.png"} for j, file in enumerate(files)]
        tables.append(table(i, len(episode)).append_column(TOP, pa.array(cells)))
    if version == "v3.0":
        write_info(
            src,
            version,
            "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet",
            None,
            **{TOP: feature("image", [8, 10, 3])},
        )
        (src / "data/chunk-000").mkdir(parents=True)
        pq.write_table(pa.concat_tables(tables), src / "data/chunk-000/file-000.parquet")
        rows = [
            {
                "episode_index": i,
                "dataset_from_index": 40 * i,
                "dataset_to_index": 40 + 5 * i,
                "data/chunk_index": 0,
                "data/file_index": 0,
            }
            for i in range(2)
        ]
        (src / "meta/episodes/chunk-000").mkdir(parents=True)
        pd.DataFrame(rows).to_parquet(src / "meta/episodes/chunk-000/file-000.parquet")
    else:
        write_v21(src, frames=[2, 2], rows=[2, 2], listed=[40, 5], **{TOP: feature("image", [8, 10, 3])})
        for i, each in enumerate(tables):
            pq.write_table(each, src / f"data/chunk-000/episode_{i:06d}.parquet")
    source = LeRobot(src)
    for i, recording in enumerate(source.find().recordings):
        times, found, stream = read(source, recording)
        np.testing.assert_array_equal(found, pictures[i])
        np.testing.assert_allclose(times, np.arange(len(pictures[i])) / FPS)
        np.testing.assert_array_equal(stream.actions, numbers(i, len(pictures[i]))[0][:-1])


def test_numbers_of_rows_frames_and_metadata_must_agree(tmp_path):
    source = LeRobot(write_v21(tmp_path / "set", frames=[7, 11, 9], rows=[7, 12, 8]))
    good, fewer_frames, fewer_rows = source.find().recordings
    assert len(source.open(good).actions) == 6
    with pytest.raises(ValueError, match=r"episode_000001.mp4 has 11 frames of the episode, which has 12 rows"):
        source.open(fewer_frames)
    with pytest.raises(ValueError, match=r"episode_000002.parquet has 8 rows, the metadata list 9"):
        source.open(fewer_rows)


@pytest.mark.parametrize(("column", "state"), [("action", False), ("observation.state", True)])
def test_numbers_must_be_finite(tmp_path, column, state):
    source = LeRobot(write_v21(tmp_path / "set"), state=state)
    frame = table(1, 12).to_pandas()
    frame.at[3, column] = np.array([0, np.nan, 1][: len(frame[column][0])], np.float32)
    frame.to_parquet(tmp_path / "set/data/chunk-000/episode_000001.parquet")
    with pytest.raises(ValueError, match=f"number 1 of '{column}' is nan in row 3"):
        source.open(source.find().recordings[1])


def test_a_video_that_ends_early_or_is_damaged_is_an_error(tmp_path):
    src = write_v21(tmp_path / "set")
    files = [src / f"videos/chunk-000/{TOP}/episode_{i:06d}.mp4" for i in range(2)]
    data = files[0].read_bytes()
    files[0].write_bytes(data[: len(data) // 2])
    with av.open(str(files[1])) as container:
        middle = [packet for packet in container.demux(video=0) if packet.size][6]
    data = bytearray(files[1].read_bytes())
    data[middle.pos : middle.pos + middle.size] = bytes(middle.size)
    files[1].write_bytes(data)
    source = LeRobot(src)
    for recording in source.find().recordings[:2]:
        with pytest.raises((av.error.FFmpegError, ValueError)):
            read(source, recording)


def test_what_is_not_there_is_said_once(tmp_path):
    src = write_v21(
        tmp_path / "set",
        **{WRIST: feature("video", [8, 8, 3]), "depth": feature("video", [8, 8, 3], info={"video.is_depth_map": True})},
    )
    (src / "data/chunk-000/episode_000000.parquet").unlink()
    (src / f"videos/chunk-000/{TOP}/episode_000002.mp4").unlink()
    listing = LeRobot(src).find()
    assert [each.name for each in listing.recordings] == [f"episode_000001/{TOP}"]
    assert listing.unreadable == [
        ("meta", "1 of 3 listed episodes is not there: 0"),
        (TOP, "1 of 2 videos of episodes is not there: 2"),
        (WRIST, "2 of 2 videos of episodes are not there: 1, 2"),
    ]
    for file in (src / "data/chunk-000").iterdir():
        file.unlink()
    with pytest.raises(FileNotFoundError, match="lists 3 episodes, of none of them rows and pictures are there"):
        LeRobot(src).find()


def test_other_layouts_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"has no meta/info.json"):
        LeRobot(tmp_path).find()
    with pytest.raises(ValueError, match=r"has LeRobot layout v1.6, expected one of v2.0 v2.1 v3.0"):
        LeRobot(write_v21(tmp_path / "set", version="v1.6")).find()


@pytest.mark.shared_data
@pytest.mark.parametrize(
    ("name", "camera", "frames", "dim"),
    [("unitree_g1_pick_bottle", "cam_high", 2762, 26), ("gr1_sim_picknplace", "ego_view", 2096, 44)],
)
def test_real_sets(shared_data, name, camera, frames, dim):
    src = shared_data / "actions" / name
    source = LeRobot(src, state=True)
    listing = source.find()
    files = sorted((src / f"videos/chunk-000/observation.images.{camera}").iterdir())
    assert [each.group for each in listing.recordings] == [file.stem for file in files]
    assert [each.size for each in listing.recordings] == [file.stat().st_size for file in files]
    assert sum(each.dim for each in source.action_fields()) == dim and {
        each.aggregation for each in source.action_fields()
    } == {"last"}
    total = 0
    for recording, file in zip(listing.recordings, files, strict=True):
        stream = source.open(recording)
        frame = pd.read_parquet(src / f"data/chunk-000/{file.stem}.parquet")
        np.testing.assert_array_equal(stream.actions, np.stack(frame["action"]).astype(np.float32)[:-1])
        np.testing.assert_array_equal(stream.factors["state"], np.stack(frame["observation.state"]).astype(np.float32)[1:])
        total += len(frame)
        with av.open(str(file)) as container:
            for (time, picture), other, stamp in zip(
                itertools.islice(stream.pictures, 8), container.decode(video=0), frame["timestamp"], strict=False
            ):
                assert time == pytest.approx(stamp - frame["timestamp"][0], abs=1e-4)
                assert time == pytest.approx(other.time, abs=1e-4)
                np.testing.assert_array_equal(picture.to_ndarray(format="rgb24"), other.to_ndarray(format="rgb24"))
    assert total == frames
    *_, (last, _) = source.open(listing.recordings[-1]).pictures
    assert last == pytest.approx(frame["timestamp"].iloc[-1] - frame["timestamp"][0], abs=1e-4)


@pytest.mark.shared_data
def test_quirks_of_the_real_sets(shared_data):
    """See the notes in the README of these files: most episodes were left out, and GR1 lists a camera it has not."""
    listing = LeRobot(shared_data / "actions/unitree_g1_pick_bottle").find()
    assert listing.unreadable == [("meta", "90 of 100 listed episodes are not there: 0, 1, 2, 3, 4 ...")]
    source = LeRobot(shared_data / "actions/gr1_sim_picknplace")
    assert source.find().unreadable == [
        ("observation.images.egoview", "5 of 5 videos of episodes are not there: 0, 1, 2, 3, 4")
    ]
    groups = {
        "left_arm": 7,
        "left_hand": 6,
        "left_leg": 6,
        "neck": 3,
        "right_arm": 7,
        "right_hand": 6,
        "right_leg": 6,
        "waist": 3,
    }
    assert source.action_fields() == [ActionField(name, dim, "last") for name, dim in groups.items()]
