"""Change files at random and read them: python benchmarks/mutations.py [--cases 300] [FORMAT ...].

A file of each format is changed in some bytes, cut off, filled with zeros or repeated in part, or gets huge numbers, and is
read as training or preparation reads it, in a process of its own with limited memory. Each case ends as one of

* same: what is read is what was written, as the change is in bytes that mean nothing;
* refused: an error of the kind that commands tell in one line;
* other: something else is read, in formats whose bytes nothing vouches for;

or as one of the faults *silent* (something else is read although there is a checksum), *crash* (any other error, or the
process is gone) and *hang* (longer than 30 s).
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import io
import multiprocessing
import multiprocessing.connection
import resource
import signal
import sys
import tempfile
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import av
import numpy as np
import torch
from PIL import Image

from data_prep.shards.encoding import encode_npy, encode_npz
from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from data_prep.sources.arrays import read_array, read_headers
from data_prep.sources.base import image_frame
from data_prep.sources.hdf5 import Hdf5
from data_prep.sources.videos import video_frames
from lam.data.index import DataIndex
from lam.data.mixture import open_mixture
from lam.data.order import list_disjoint_windows
from lam.data.schema import ActionField, Storage
from lam.data.split_reader import SplitReader
from lam.io.arrays import read_npy, read_npz
from lam.runs.configs import read_yaml
from lam.runs.recovery.checkpoints import WholeCheckpointIO, read_tensors
from lam.runs.upgrade import upgrade

SECONDS = 30
MEMORY = 16 * 2**30
REFUSALS = (ValueError, OSError, av.error.FFmpegError)
"""Errors that commands tell in one line, and for which preparation leaves a recording out."""
FAULTS = ("silent", "crash", "hang")


class Format(NamedTuple):
    """A format.

    Attributes:
        write: Writes files into a folder and returns the one that is changed.
        read: Reads it and returns a digest of what it says.
        vouched: Whether checksums cover all of it.
    """

    write: Callable[[Path], Path]
    read: Callable[[Path], str]
    vouched: bool = False


def frames(count: int = 12, size: int = 16) -> np.ndarray:
    """Return noisy pictures (F, H, W, 3) uint8."""
    return np.random.default_rng(0).integers(0, 256, (count, size, size, 3), dtype=np.uint8)


def digest(*parts: bytes) -> str:
    """Return a short hash."""
    return hashlib.sha256(b"".join(parts)).hexdigest()[:16]


# ---------------------------------------------------------------------- files


def _write_set(folder: Path, storage: Storage) -> Path:
    with ShardWriter(folder / "set", DatasetSpec(16, 16, storage, [ActionField("a", 2, "sum")], samples_per_shard=3)) as writer:
        for i in range(4):
            steps = np.arange(22, dtype=np.float32).reshape(11, 2)
            made = Sample(f"{i}", "s", "e", frames(), np.arange(12) / 4, steps, {"dx": steps[:, 0]})
            writer.add("train" if i < 3 else "val", made)
    return folder / "set"


def _read_set(path: Path) -> str:
    reader = SplitReader(open_mixture(path.parent), "train")
    windows = list_disjoint_windows(reader.histogram, 4, 1, None).batch(0, 6, 1)
    clip = reader.read(windows, labels=True)
    assert clip.actions is not None
    labels = [clip.actions.numpy().tobytes(), clip.times.numpy().tobytes(), clip.factors["dx"].numpy().tobytes()]
    return digest(clip.frames.contiguous().numpy().tobytes(), *labels, "".join(clip.key + clip.source).encode())


def _read_index(path: Path) -> str:
    return digest(repr(DataIndex.load(path.parent)).encode(), _read_set(path).encode())


def _set_file(storage: Storage, name: str) -> Callable[[Path], Path]:
    return lambda folder: _write_set(folder, storage) / name


def _write_video(ending: str, codec: str, pixels: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        with av.open(str(folder / f"video.{ending}"), "w") as container:
            stream = container.add_stream(codec, rate=4)
            assert isinstance(stream, av.VideoStream)
            stream.width, stream.height, stream.pix_fmt = 32, 32, pixels
            for each in frames(12, 32):
                container.mux(stream.encode(av.VideoFrame.from_ndarray(each, format="rgb24").reformat(format=pixels)))
            container.mux(stream.encode())
        return folder / f"video.{ending}"

    return write


def _read_video(path: Path) -> str:
    return digest(*(frame.to_ndarray(format="rgb24").tobytes() for _, frame in video_frames(path)))


def _write_picture(kind: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        Image.fromarray(frames(1, 32)[0]).save(folder / f"picture.{kind}")
        return folder / f"picture.{kind}"

    return write


def _write_bytes(name: str, data: Callable[[], bytes]) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        (folder / name).write_bytes(data())
        return folder / name

    return write


def _npz() -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, image=frames(), action=np.zeros((12, 2), np.float32))
    return buffer.getvalue()


def _read_npz_source(path: Path) -> str:
    return digest(*(read_array(path, name, None).tobytes() for name in read_headers(path)))


def _write_hdf5(folder: Path) -> Path:
    import h5py

    with h5py.File(folder / "demo.hdf5", "w") as file:
        demo = file.create_group("data/demo_0")
        demo.create_dataset("obs/agentview_image", data=frames())
        demo.create_dataset("actions", data=np.zeros((12, 7)))
    return folder / "demo.hdf5"


def _read_hdf5(path: Path) -> str:
    source = Hdf5(path.parent)
    listing = source.find()
    if listing.unreadable:
        raise ValueError(listing.unreadable[0][1])
    found = [frame.to_ndarray(format="rgb24").tobytes() for one in listing.recordings for _, frame in source.open(one).pictures]
    return digest(*found)


def _write_checkpoint(folder: Path) -> Path:
    WholeCheckpointIO().save_checkpoint({"state_dict": {"w": torch.arange(200.0)}, "epoch": 1}, folder / "last.ckpt")
    return folder / "last.ckpt"


def _write_config(folder: Path) -> Path:
    path = folder / "config.yaml"
    source = Path(__file__).resolve().parents[1] / "experiments" / "base.yaml"
    path.write_text(source.read_text())
    return path


FORMATS = {
    "tar": Format(_set_file(Storage.jpeg, "train-000000-000.tar"), _read_set, vouched=True),
    "tar of mp4": Format(_set_file(Storage.mp4, "train-000000-000.tar"), _read_set, vouched=True),
    "side index": Format(_set_file(Storage.jpeg, "train-000000-000.parquet"), _read_set, vouched=True),
    "shards.parquet": Format(_set_file(Storage.jpeg, "shards.parquet"), _read_set, vouched=True),
    "index.json": Format(_set_file(Storage.jpeg, "index.json"), _read_index),
    "mp4": Format(_write_video("mp4", "libx264", "yuv420p"), _read_video),
    "avi": Format(_write_video("avi", "mpeg4", "yuv420p"), _read_video),
    "gif": Format(_write_video("gif", "gif", "rgb8"), _read_video),
    "png": Format(_write_picture("png"), lambda path: digest(image_frame(path.read_bytes()).to_ndarray().tobytes())),
    "jpeg": Format(_write_picture("jpeg"), lambda path: digest(image_frame(path.read_bytes()).to_ndarray().tobytes())),
    "zip of factors": Format(
        _write_bytes("causes.npz", lambda: encode_npz({"dx": np.arange(50.0)})),
        lambda path: digest(*(value.tobytes() for value in read_npz(path.read_bytes()).values())),
    ),
    "npy": Format(
        _write_bytes("a.npy", lambda: encode_npy(np.arange(50.0))), lambda path: digest(read_npy(path.read_bytes()).tobytes())
    ),
    "npz": Format(_write_bytes("episode.npz", _npz), _read_npz_source),
    "hdf5": Format(_write_hdf5, _read_hdf5),
    "config": Format(_write_config, lambda path: repr(upgrade(read_yaml(path)))),
    "checkpoint": Format(_write_checkpoint, lambda path: repr(read_tensors(path)), vouched=True),
}


# ---------------------------------------------------------------------- cases


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes that are changed in one of several ways."""
    changed = bytearray(data)
    # headers matter most and are short
    place = int(rng.integers(len(data)) if rng.random() < 0.5 else rng.integers(min(len(data), 512)))
    span = int(rng.integers(1, max(2, len(data) // 8)))
    way = int(rng.integers(8))
    if way == 0:
        changed[place] ^= 1 << int(rng.integers(8))
    elif way == 1:
        for _ in range(int(rng.integers(2, 30))):
            changed[int(rng.integers(len(data)))] = int(rng.integers(256))
    elif way == 2:
        del changed[place:]
    elif way == 3:
        changed[place : place + span] = bytes(len(changed[place : place + span]))
    elif way == 4:
        changed[place:place] = changed[place : place + span]
    elif way == 5:
        huge = [b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\xff\xff\xff\x7f", b"\x00\x00\x00\x80"]
        changed[place : place + 4] = huge[int(rng.integers(len(huge)))]
    elif way == 6:
        changed[place : place + span] = rng.bytes(len(changed[place : place + span]))
    else:
        del changed[place : place + span]
    return bytes(changed)


def examine(form: Format, path: Path, expected: str) -> tuple[str, str]:
    """Read a changed file and return how it ended, and what was said."""
    try:
        found = form.read(path)
    except TimeoutError as error:
        return "hang", str(error)
    except REFUSALS as error:
        return "refused", f"{type(error).__name__}: {error}"
    except BaseException as error:
        return "crash", "".join(traceback.format_exception(error)[-3:])
    return ("same", "") if found == expected else ("silent" if form.vouched else "other", "")


def _work(name: str, first: int, cases: int, results: multiprocessing.connection.Connection) -> None:
    """Examine cases in a process of its own and send how each ended."""

    def too_long(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"longer than {SECONDS} s")

    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    signal.signal(signal.SIGALRM, too_long)
    warnings.simplefilter("ignore")
    av.logging.set_level(av.logging.PANIC)
    torch.set_num_threads(1)
    form = FORMATS[name]
    with tempfile.TemporaryDirectory() as folder:
        path = form.write(Path(folder))
        data = path.read_bytes()
        expected = form.read(path)
        for case in range(first, cases):
            path.write_bytes(mutate(data, np.random.default_rng([case, len(name)])))
            signal.alarm(SECONDS)
            ended = examine(form, path, expected)
            signal.alarm(0)
            results.send((case, *ended))


def run_format(name: str, cases: int) -> tuple[Counter[str], list[str]]:
    """Examine a format and return how often its cases ended in each way, and what faults said."""
    context = multiprocessing.get_context("fork")
    counts: Counter[str] = Counter()
    faults: list[str] = []
    first = 0
    while first < cases:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(name, first, cases, theirs))
        process.start()
        theirs.close()
        ended = "crash"
        with contextlib.suppress(EOFError):
            while first < cases:
                if not ours.poll(SECONDS + 60):  # deaf to its alarm, within a library
                    ended = "hang"
                    break
                case, what, said = ours.recv()
                first = case + 1
                counts[what] += 1
                if what in FAULTS:
                    faults.append(f"{name} {case}: {what}: {said}")
        if first < cases:
            counts[ended] += 1
            faults.append(f"{name} {first}: {ended}: the process is gone or does not answer")
            first += 1
        process.kill()
        process.join()
    return counts, faults


def main() -> None:
    """Read what is typed, examine and print a table; exit status 1 where there is a fault."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("formats", nargs="*", metavar="FORMAT", help=f"of {', '.join(FORMATS)}; all if none is given")
    parser.add_argument("--cases", type=int, default=300, help="changed files of each format")
    options = parser.parse_args()
    columns = ("same", "refused", "other", *FAULTS)
    print("| format | " + " | ".join(columns) + " |\n| --- |" + " --- |" * len(columns), flush=True)
    found: list[str] = []
    for name in options.formats or FORMATS:
        counts, faults = run_format(name, options.cases)
        print(f"| {name} | " + " | ".join(str(counts[each]) for each in columns) + " |", flush=True)
        found += faults
    print("\n".join(found), file=sys.stderr)
    sys.exit(bool(found))


if __name__ == "__main__":
    main()
