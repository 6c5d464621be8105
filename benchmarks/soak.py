"""Memory of a long training's reading: 100,000 windows through the loader, and the memory of the process at ten points.

``python benchmarks/soak.py [--windows 100000] [--storage mp4]`` reads windows of small generated clips in one process, as a
worker does, a new video opened for each, and prints resident memory after each tenth and by how many bytes a window it grew
over the last nine, by least squares. A leak of PyAV or of ours that is worth a name shows as tens of bytes a window or more.
"""

from __future__ import annotations

import argparse
import gc
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.datamodule import ClipDataModule
from lam.data.schema import Storage

POINTS = 10
BATCH = 50


def resident() -> int:
    """Return the bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def write_clips(out: Path, storage: Storage, count: int = 200, frames: int = 12, size: int = 16) -> None:
    """Write a folder of small clips with recorded actions."""
    rng = np.random.default_rng(0)
    with ShardWriter(out, DatasetSpec(size, size, storage, samples_per_shard=20)) as writer:
        for i in range(count):
            pixels = rng.integers(0, 256, (frames, size, size, 3), dtype=np.uint8)
            writer.add("train", Sample(f"{i}", "synthetic", "0", pixels, np.arange(frames) / 4))


def soak(shards: Path, windows: int) -> tuple[list[int], float]:
    """Read windows and return resident memory at ten points, and the bytes a window it grew by after the first of them."""
    data = ClipDataModule(shards, frames=2, batch_size=BATCH, num_workers=0, shuffle_buffer=64)
    batches, every = iter(data.train_dataloader()), windows // POINTS // BATCH
    found: list[int] = []
    for _ in range(POINTS):
        for _ in range(every):
            next(batches)
        gc.collect()
        found.append(resident())
        print(f"{resident() / 2**20:.1f} MiB", flush=True)
    slope = np.polyfit(np.arange(1, POINTS) * every * BATCH, found[1:], 1)[0]
    return found, float(slope)


def main() -> None:
    """Read what is typed and print memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--windows", type=int, default=100_000)
    parser.add_argument("--storage", choices=[each.name for each in Storage if each is not Storage.states], default="mp4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        write_clips(Path(folder, "shards"), Storage[options.storage])
        began = time.perf_counter()
        points, slope = soak(Path(folder, "shards"), options.windows)
    seconds = time.perf_counter() - began
    grown = (points[-1] - points[0]) / 2**20
    print(f"{options.storage}, {options.windows:,} windows in {seconds:.0f} s: {grown:+.1f} MiB from first to last,", end=" ")
    print(f"{slope:+.1f} bytes a window over the last nine")


if __name__ == "__main__":
    main()
