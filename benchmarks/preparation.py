"""Time in which raw video becomes shards, against that of decoding every frame and encoding every kept one alone.

``python benchmarks/preparation.py VIDEOS [--size 64] [--jobs 2]`` prepares a folder of videos with the defaults (scene cuts,
4 frames a second) and, interleaved with it, decodes the same files and encodes the same frames and does nothing else: once in
this process, by processor time, which other programs disturb less, and once in ``--jobs`` processes, by wall time.
"""

from __future__ import annotations

import argparse
import multiprocessing
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np

from data_prep.options import OutputOptions
from data_prep.pipeline.engine import Engine
from data_prep.pipeline.run import default_storage, prepare_source
from data_prep.pipeline.segment import SegmentGenerator
from data_prep.shards.encoding import encode_jpegs, encode_mp4
from data_prep.sources.videos import Videos, video_frames
from lam.data.schema import Storage


def decode(file: str) -> int:
    """Decode a video and return its number of frames."""
    return sum(1 for _ in video_frames(Path(file)))


def encode(frames: np.ndarray, storage: Storage) -> int:
    """Encode frames and return their number of bytes."""
    return len(encode_jpegs(frames) if storage is Storage.jpeg else encode_mp4(frames, 4.0))


def seconds(work: Callable[[], None], clock: Callable[[], float]) -> float:
    """Return how long some work takes, by a clock."""
    start = clock()
    work()
    return clock() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", type=Path, help="Folder of videos.")
    parser.add_argument("--size", type=int, default=64, help="Height and width of the frames.")
    parser.add_argument("--jobs", type=int, default=2, help="Processes.")
    parser.add_argument("--repeats", type=int, default=3, help="How often to measure both, in turns.")
    options = parser.parse_args()
    source = Videos(options.videos)
    recordings = sorted(source.find().recordings, key=lambda recording: -recording.size)
    preparation = type(source.preparation)(**{**vars(source.preparation), "size": options.size})
    storage = default_storage(options.size)
    kept = [
        sample.frames
        for recording in recordings
        for sample in SegmentGenerator(source, preparation).samples(recording, lambda reason: None)
    ]
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["data_prep.pipeline.job", "data_prep.pipeline.segment"])

    files = [recording.place["file"] for recording in recordings]

    def limit_here() -> None:
        for file in files:
            decode(file)
        for frames in kept:
            encode(frames, storage)

    def limit_aside() -> None:
        with ProcessPoolExecutor(options.jobs, context) as pool:
            list(pool.map(decode, files))
            list(pool.map(encode, kept, [storage] * len(kept), chunksize=4))

    def prepare(jobs: int) -> None:
        with tempfile.TemporaryDirectory() as out:
            prepare_source(source, {}, Path(out, "set"), preparation, OutputOptions(), Engine(jobs=jobs))

    limit_aside()  # starts the server that processes are forked from
    here, aside = [], []
    for _ in range(options.repeats):
        bare = seconds(limit_here, time.process_time)
        here.append(bare / seconds(lambda: prepare(1), time.process_time))
        bare = seconds(limit_aside, time.perf_counter)
        whole = seconds(lambda: prepare(options.jobs), time.perf_counter)
        aside.append(bare / whole)
        print(f"{options.jobs} processes: limit {bare:.1f} s, preparation {whole:.1f} s of wall time")
    print(f"{len(files)} videos, {sum(len(frames) for frames in kept)} frames kept at {options.size} pixels as {storage.name}")
    print(f"one process: {np.median(here):.0%} of the limit by processor time ({min(here):.0%} to {max(here):.0%})")
    print(f"{options.jobs} processes: {np.median(aside):.0%} of the limit by wall time ({min(aside):.0%} to {max(aside):.0%})")


if __name__ == "__main__":
    main()
