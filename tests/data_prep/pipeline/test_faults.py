"""Bad input, full disks, killed processes: nothing is lost, nothing is written twice, and every reason is told."""

import dataclasses
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import av
import numpy as np
import pytest

from data_prep.cli import main
from data_prep.options import PreparationOptions
from data_prep.pipeline.engine import Engine
from data_prep.pipeline.job import ShardJob
from data_prep.pipeline.plan import PlannedRecording, make_plan
from data_prep.pipeline.run import write_set
from data_prep.pipeline.segment import SegmentGenerator
from data_prep.shards.records import PARTS
from data_prep.shards.sample import DatasetSpec
from data_prep.shards.tar_writer import TarWriter
from data_prep.sources.base import Listing
from lam.data.index import DataIndex
from lam.data.schema import Storage
from tests.data_prep.sources.recordings import PUSH, Made, rows, write_frames, write_video
from tests.data_prep.sources.test_videos import prepare


def write_sound(path):
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=16000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 16000), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 16000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            container.mux(packet)


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    """What becomes of a folder of bad files with two good ones among them, and what is printed."""
    src = tmp_path_factory.mktemp("faults") / "clips"
    src.mkdir()
    rng = np.random.default_rng(0)
    for name in ("good a.mp4", "good b.mp4"):
        write_frames(src / name, rng.integers(0, 256, (24, 32, 48, 3)).astype(np.uint8), np.arange(24) / 8)
    whole = (src / "good a.mp4").read_bytes()
    (src / "truncated.mp4").write_bytes(whole[: len(whole) // 2])  # mp4 keeps its table at the end
    torn = write_frames(src / "torn.mkv", rng.integers(0, 256, (80, 32, 48, 3)).astype(np.uint8), np.arange(80) / 8)
    torn.write_bytes(torn.read_bytes()[: torn.stat().st_size // 2])
    (src / "zero.mp4").touch()
    (src / "text.mp4").write_text("not a video\n" * 200)
    (src / "wrong ending.avi").write_bytes(whole)
    write_video(src / "one frame.mp4", count=1)
    write_frames(src / "huge.mp4", [np.full((8192, 8192, 3), 9, np.uint8)], [0.0])
    write_sound(src / "sound.mp4")
    (src / "notes.txt").touch()
    out = src.parent / "out"
    command = [sys.executable, "-m", "data_prep", "videos", str(src), str(out), "--size", "16", "--min_frames", "4"]
    ran = subprocess.run(
        [*command, "--jobs", "2", "--static_below", "0", "--duplicates_below", "0"], capture_output=True, text=True
    )
    return ran, DataIndex.load(out), {row["source"] for split in ("train", "val") for row in rows(out, split)}


def test_bad_files_are_left_out_with_their_reasons(result):
    ran, index, sources = result
    assert ran.returncode == 3
    reasons = {item.source: item.reason for item in index.quarantined}
    assert set(reasons) == {"truncated.mp4", "zero.mp4", "text.mp4", "sound.mp4"}
    assert "Invalid data" in reasons["text.mp4"] and "Invalid data" in reasons["truncated.mp4"]
    assert reasons["sound.mp4"] == "it has no video stream, only sound"
    assert index.dropped == {"fewer than 4 frames": 2}  # one frame, and one of 8192 x 8192
    assert sources == {"good a.mp4", "good b.mp4", "wrong ending.avi", "torn.mkv"}
    for name, reason in reasons.items():
        assert f"Left out {name}: {reason}." in ran.stdout
    assert "Left out 2 segments: fewer than 4 frames." in ran.stdout
    assert "Not looked at: 1 x .txt." in ran.stdout
    assert Path(index.path, "quarantined.txt").read_text().count("\n") == index.num_quarantined == 4


def test_clips_before_the_damage_are_kept(tmp_path):
    source = Made([40, 40, -28])
    assert run(source, tmp_path / "out") == 3
    index = DataIndex.load(tmp_path / "out")
    assert [(item.source, item.reason) for item in index.quarantined] == [
        ("r002", "damaged after 3 clips, which are kept: the tape is torn")
    ]
    kept = [row["frames"] for split in ("train", "val") for row in rows(tmp_path / "out", split) if row["source"] == "r002"]
    assert kept == [8, 8, 8]  # the rest of four frames before the damage is not known to be whole


def test_a_file_that_may_not_be_read(tmp_path, monkeypatch):
    """As root every file may be read, so the refusal is the operating system's in name only."""
    (tmp_path / "clips").mkdir()
    for name in "abc":
        write_video(tmp_path / "clips" / f"{name}.mp4")
    opened = av.open

    def refuse(file, *args, **options):
        if "b.mp4" in str(file):
            raise PermissionError(errno.EACCES, "Permission denied", str(file))
        return opened(file, *args, **options)

    monkeypatch.setattr("data_prep.sources.videos.av.open", refuse)
    assert prepare(tmp_path / "clips", tmp_path / "out") == 3
    (left,) = DataIndex.load(tmp_path / "out").quarantined
    assert left.source == "b.mp4" and "PermissionError: [Errno 13] Permission denied" in left.reason


def run(source, out, engine=None, generator=None, per_shard=3, fields=()):
    generator = generator or SegmentGenerator(source, PreparationOptions(size=16, min_frames=4, max_seconds=1))
    listing = source.find()
    spec = DatasetSpec(16, 16, Storage.jpeg, fields, samples_per_shard=per_shard)
    return write_set(
        out, generator, spec, listing, lambda: make_plan(listing, generator, 0.2, 0, 4), {"test": 1}, engine or Engine(jobs=1)
    )


def test_labels_that_do_not_fit_are_left_out(tmp_path):
    def labels(steps):
        if steps == 30:
            return np.full((30, 1), np.nan, np.float32)
        return np.full((20 if steps == 31 else steps, 2 if steps == 32 else 1), np.inf if steps == 33 else 0, np.float32)

    assert run(Made([40, 40, 30, 31, 32, 33], fields=[PUSH], labels=labels), tmp_path / "out", fields=[PUSH]) == 3
    reasons = {item.source: item.reason for item in DataIndex.load(tmp_path / "out").quarantined}
    assert set(reasons) == {"r002", "r003", "r004", "r005"}
    assert "actions has numbers that are infinite or not a number (NaN)" in reasons["r002"]
    assert reasons["r003"] == "damaged after 2 clips, which are kept: 20 steps were recorded, frame 23 needs 23"
    assert reasons["r004"] == "steps have 2 numbers, expected 1"


def contents(folder):
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_a_full_disk_loses_nothing_that_is_done(tmp_path, monkeypatch):
    lengths = [40] * 12
    run(Made(lengths), tmp_path / "undisturbed")
    write, room = TarWriter.write, iter(range(7))

    def full(self, members):
        if next(room, None) is None:
            raise OSError(errno.ENOSPC, "No space left on device")
        return write(self, members)

    with monkeypatch.context() as disk:
        disk.setattr(TarWriter, "write", full)
        with pytest.raises(ValueError, match=r"cannot be written .*No space left.* make room and run the same command again"):
            run(Made(lengths), tmp_path / "out")
    finished = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}
    assert len(finished) == 2 and not list((tmp_path / "out").glob(".*.tmp"))
    source = Made(lengths)
    assert run(source, tmp_path / "out") == 0
    assert finished.items() <= {path.name: path.stat().st_mtime_ns for path in (tmp_path / "out").glob("*.tar")}.items()
    assert contents(tmp_path / "out") == contents(tmp_path / "undisturbed")


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_disk_that_really_is_full(tmp_path, jobs):
    """A limit on the size of files is the full disk that a test can have."""
    code = (
        "import resource, signal, sys; from data_prep.cli import main;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (40_000, 40_000));"
        f"sys.exit(main(['world', r'{tmp_path / 'out'}', '--train', '40', '--val', '3', '--jobs', '{jobs}']))"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ran.returncode == 1 and "cannot be written" in ran.stderr and "run the same command again" in ran.stderr
    assert main(["world", str(tmp_path / "out"), "--train", "40", "--val", "3", "--jobs", "1"]) == 0
    assert main(["world", str(tmp_path / "straight"), "--train", "40", "--val", "3", "--jobs", "1"]) == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


@pytest.mark.slow
def test_killed_twenty_times_at_random_moments(tmp_path):
    """Every kill is one of the whole group of processes with SIGKILL, after 0 to 3 seconds of work."""
    src = tmp_path / "clips"
    src.mkdir()
    rng = np.random.default_rng(0)
    for i in range(40):
        frames = rng.integers(0, 256, (160, 64, 64, 3)).astype(np.uint8)
        write_frames(src / f"{i}.mkv", frames, np.arange(160) / 8)
    command = [sys.executable, "-m", "data_prep", "videos", str(src), "--shard_megabytes", "0.3", "--jobs", "2", "--size", "64"]
    assert subprocess.run([*command, str(tmp_path / "straight")], capture_output=True).returncode == 0
    kills = 0
    while kills < 20:
        running = subprocess.Popen([*command, str(tmp_path / "out")], start_new_session=True, stderr=subprocess.DEVNULL)
        while not (tmp_path / "out" / PARTS / "plan.json").exists() and running.poll() is None:
            time.sleep(0.01)
        time.sleep(rng.uniform(0, 3))
        if running.poll() is not None:
            (tmp_path / "out" / "index.json").unlink(missing_ok=True)
            for path in (tmp_path / "out").iterdir():
                path.unlink()
            continue
        os.killpg(running.pid, signal.SIGKILL)
        running.wait()
        kills += 1
    assert subprocess.run([*command, str(tmp_path / "out")], capture_output=True).returncode == 0
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


class Killer(Made):
    """A recording that kills its reader, as a fault in a decoder does."""

    def open(self, recording):
        if recording.name == "r005":
            os.kill(os.getpid(), signal.SIGKILL)
        return super().open(recording)


def test_a_recording_that_kills_its_reader_is_left_out(tmp_path):
    source = Killer([24] * 8)
    listing = source.find()
    generator = SegmentGenerator(source, PreparationOptions(size=16, min_frames=4, max_seconds=1))
    out, spec = tmp_path / "out", DatasetSpec(16, 16, Storage.jpeg)
    jobs = [
        ShardJob(out, spec, generator, "train", i, [PlannedRecording(r) for r in listing.recordings[2 * i : 2 * i + 2]])
        for i in range(4)
    ]
    Engine(jobs=2).run(jobs, "out")
    assert all(job.is_done for job in jobs)
    records = [json.loads(path.read_text()) for path in sorted((out / PARTS).glob("*.json"))]
    assert sum(record["shard"]["samples"] for record in records if record["shard"]) == 7 * 3
    reasons = [reason for record in records for reason in record["tally"]["quarantined"]]
    assert reasons == [["r005", "reading it killed the process (out of memory, or a fault in a decoder)"]]


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_workers_and_parts_change_nothing(tmp_path, jobs):
    lengths = [40, 17, 3, 33] * 5
    run(Made(lengths), tmp_path / "one")
    for part in ("2/3", "3/3", "1/3"):
        assert run(Made(lengths), tmp_path / "parts", Engine(jobs=jobs, part=part)) == 0
    assert run(Made(lengths), tmp_path / "parts", Engine(jobs=jobs)) == 0
    assert contents(tmp_path / "one") == contents(tmp_path / "parts")


def test_parts_wait_for_each_other(tmp_path, capsys):
    big = Made([40] * 8)
    listing = Listing([dataclasses.replace(recording, size=2**18) for recording in big.find().recordings])
    big.find = lambda: listing  # two jobs of a megabyte each
    assert run(big, tmp_path / "out", Engine(jobs=1, part="1/2")) == 0
    assert "jobs of other parts are not done" in capsys.readouterr().out
    assert not (tmp_path / "out" / "index.json").exists()
    with pytest.raises(ValueError, match="--part is '3/2', expected 1/2 to 2/2"):
        Engine(part="3/2")


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("dear")
    with pytest.raises(ValueError, match=r"already holds letter.txt, which is not of an interrupted run"):
        run(Made([24] * 4), tmp_path)


def test_ray_that_is_not_installed_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(ValueError, match=r"pip install 'lam\[ray\]'"):
        run(Made([24] * 4), tmp_path / "out", Engine(engine="ray"))
