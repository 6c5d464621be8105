"""Rate of training windows, against bare decoding of the same windows and against plain webdataset.

``python benchmarks/loader.py [--quick] [--sizes 64 224] [--frames 2 16]`` prints a Markdown table. Frames are a panning texture
with some noise, 40 a clip. Rates are windows a second, measured in turns, medians of three.

* bare: a loop over the decoder on windows already found in memory, one process, by processor time, which other programs
  disturb less; *share* is the part of it that the loader without workers reaches, by the same clock.
* bare x n, ours x n, plain x n: the same in n processes by wall time (run it on an idle machine); *plain* is webdataset on the
  same shards as its manual has it: shards split by worker, a shuffle buffer of 64, the member handed to the same decoder for
  a random window, batches made in the workers, ``resampled``.

``--per_shard 2`` makes many small shards. ``--first`` writes 10,000 shards and measures the time from the imports to the first
batch. ``--memory PICTURE`` streams 100,000 windows through two workers and plots the memory of all processes; ``--storage``
says of what.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import os
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sized
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import torch
import webdataset as wds
from torch.utils.data import DataLoader, IterableDataset

from data_prep.shards.sample import DatasetSpec, Sample
from data_prep.shards.writer import ShardWriter
from lam.data.codec import decode_frames
from lam.data.datamodule import ClipDataModule
from lam.data.index import DataIndex
from lam.data.schema import Storage, side_index_name

CLIP_FRAMES = 40


def write_clips(out: Path, storage: Storage, size: int, count: int, per_shard: int = 25, frames: int = CLIP_FRAMES) -> None:
    """Write a folder of synthetic clips."""
    rng = np.random.default_rng(0)
    with ShardWriter(out, DatasetSpec(size, size, storage, samples_per_shard=per_shard)) as writer:
        for i in range(count):
            texture = np.kron(rng.integers(0, 256, (size // 8, size // 8, 3)), np.ones((8, 8, 1)))
            pixels = np.stack([np.roll(texture, frame, axis=1) for frame in range(frames)])
            pixels = np.clip(pixels + rng.normal(0, 4, pixels.shape), 0, 255).astype(np.uint8)
            writer.add("train", Sample(f"{i}", "synthetic", "0", pixels, np.arange(frames) / 4))


def rate(step: Callable[[], int], seconds: float, clock: Callable[[], float]) -> float:
    """Return the windows a second, by a clock, of a function that reads some and returns how many."""
    step()
    done, start, end = 0, clock(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += step()
    return done / (clock() - start)


def stream_rate(batches: Iterable[Sized], seconds: float, clock: Callable[[], float] = time.perf_counter) -> float:
    """Return the windows a second that come out of a stream, by a clock, once it runs."""
    stream = iter(batches)
    for _ in range(3):
        next(stream)
    return rate(lambda: len(next(stream)), seconds, clock)


class BareDecoding(IterableDataset[np.ndarray]):
    """The decoder alone on windows already found in memory, one batch after another.

    Args:
        folder: The shards.
        frames: Frames of a window.
        batch_size: Windows of a batch.
    """

    def __init__(self, folder: Path, frames: int, batch_size: int) -> None:
        index = DataIndex.load(folder)
        self.storage, self.frames, self.batch_size = index.storage, frames, batch_size
        self.shape = (batch_size, frames, index.height, index.width, 3)
        rng = np.random.default_rng(0)
        self.found = []
        for info in index.splits["train"]:
            tar = (folder / info.name).read_bytes()
            for row in pq.read_table(folder / side_index_name(info.name)).to_pylist():
                start = int(rng.integers(row["frames"] - frames + 1))
                video = tar[row["video_offset"] : row["video_offset"] + row["video_bytes"]]
                self.found.append((video, range(start, start + frames)))
        rng.shuffle(self.found)

    def __iter__(self) -> Iterator[np.ndarray]:
        """Endless batches."""
        found = itertools.cycle(self.found)
        while True:
            out = np.empty(self.shape, np.uint8)
            for window in out:
                video, frames = next(found)
                decode_frames(self.storage, memoryview(video), frames, window)
            yield out


def plain_webdataset(folder: Path, frames: int, batch_size: int) -> IterableDataset[Any]:
    """Return the pipeline of webdataset's manual on the same shards."""
    index = DataIndex.load(folder)
    ending = index.storage.value

    def window(sample: dict[str, Any]) -> tuple[torch.Tensor]:
        start = random.randrange(CLIP_FRAMES - frames + 1)
        out = np.empty((frames, index.height, index.width, 3), np.uint8)
        decode_frames(index.storage, memoryview(sample[ending]), range(start, start + frames), out)
        return (torch.from_numpy(out),)

    urls = [str(path) for path in sorted(folder.glob("train-*.tar"))]
    pipeline: IterableDataset[Any] = (
        wds.WebDataset(urls, resampled=True, shardshuffle=False, nodesplitter=wds.split_by_node)
        .shuffle(64)
        .map(window)
        .batched(batch_size)
    )
    return pipeline


class FirstMembers:
    """The first members of the batches of a stream of tuples.

    Args:
        loader: The stream.
    """

    def __init__(self, loader: DataLoader[Any]) -> None:
        self.loader = loader

    def __iter__(self) -> Iterator[torch.Tensor]:
        """The first member of each batch."""
        for batch in self.loader:
            yield batch[0] if isinstance(batch, list | tuple) else batch


def compare(sizes: list[int], lengths: list[int], count: int, seconds: float, batch_size: int, per_shard: int) -> None:
    """Print the table."""
    workers = 2
    print(
        f"| format | size | KiB/clip | window | bare/cpu-s | share | bare x {workers} | ours x {workers} | plain x {workers} |"
    )
    print("| --- " * 9 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        for storage, size in itertools.product((Storage.jpeg, Storage.mp4), sizes):
            folder = Path(temporary, f"{storage.name}-{size}")
            write_clips(folder, storage, size, count, per_shard)
            kib = sum(path.stat().st_size for path in folder.glob("*.tar")) / count / 1024
            for frames in lengths:
                ours = functools.partial(ClipDataModule, folder, frames, batch_size)
                bare = BareDecoding(folder, frames, batch_size)
                found: dict[str, list[float]] = {name: [] for name in ("bare", "share", "bares", "ours", "plain")}
                for _ in range(3):
                    found["bare"].append(stream_rate(bare, seconds, time.process_time))
                    alone = stream_rate(ours(num_workers=0).train_dataloader(), seconds, time.process_time)
                    found["share"].append(alone / found["bare"][-1])
                    aside = DataLoader(bare, batch_size=None, num_workers=workers)
                    found["bares"].append(stream_rate(FirstMembers(aside), seconds))
                    found["ours"].append(stream_rate(ours(num_workers=workers).train_dataloader(), seconds))
                    plain = DataLoader(plain_webdataset(folder, frames, batch_size), batch_size=None, num_workers=workers)
                    found["plain"].append(stream_rate(FirstMembers(plain), seconds))
                middle = {name: statistics.median(values) for name, values in found.items()}
                cells = [storage.name, size, f"{kib:.0f}", frames, f"{middle['bare']:.0f}", f"{middle['share']:.0%}"]
                cells += [f"{middle[name]:.0f}" for name in ("bares", "ours", "plain")]
                print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def total_memory() -> float:
    """Return the memory of this process and those it started, MiB; pages that several share count once."""
    family = [
        os.getpid(),
        *(int(child) for child in Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split()),
    ]
    pages = (Path(f"/proc/{member}/smaps_rollup").read_text().split("\nPss:")[1].split()[0] for member in family)
    return sum(int(kib) for kib in pages) / 1024


def first_batch(shards: int) -> None:
    """Print how long the first batch takes with many shards."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "many")
        write_clips(folder, Storage.jpeg, 16, 2 * shards, per_shard=2, frames=6)
        for workers in (0, 2):
            start = time.perf_counter()
            next(iter(ClipDataModule(folder, 2, 64, num_workers=workers).train_dataloader()))
            print(f"{shards} shards, {workers} workers: first batch after {time.perf_counter() - start:.2f} s")


def plot_memory(picture: Path, storage: Storage, windows: int, batch_size: int) -> None:
    """Stream windows through two workers and plot the memory of all processes."""
    from matplotlib.figure import Figure

    seen: list[int] = []
    used: list[float] = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary, "clips")
        write_clips(folder, storage, 64, 2000, per_shard=50)
        for number, _ in enumerate(ClipDataModule(folder, 2, batch_size, num_workers=2).train_dataloader()):
            if number * batch_size >= windows:
                break
            if number % 16 == 0:
                seen.append(number * batch_size)
                used.append(total_memory())
    tenth = len(used) // 10
    early, late = statistics.median(used[tenth : 2 * tenth]), statistics.median(used[-tenth:])
    print(f"{seen[-1]} windows: {early:.0f} MiB in the second tenth, {late:.0f} MiB in the last, largest {max(used):.0f} MiB")
    figure = Figure(figsize=(6, 3), layout="constrained")
    axis = figure.subplots()
    axis.plot(seen, used)
    axis.set(xlabel="windows", ylabel="MiB of all processes", ylim=(0, None), title=f"two workers, {storage.name}, 64 pixels")
    figure.savefig(picture, dpi=100)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Fewer clips, shorter measurements.")
    parser.add_argument("--sizes", type=int, nargs="+", default=[32, 64, 128, 224], help="Heights and widths, pixels.")
    parser.add_argument("--frames", type=int, nargs="+", default=[2, 3, 16], help="Frames of a window.")
    parser.add_argument("--batch_size", type=int, default=64, help="Windows a batch.")
    parser.add_argument("--first", action="store_true", help="Measure the first batch of 10,000 shards instead.")
    parser.add_argument("--memory", type=Path, help="Plot the memory over 100,000 windows instead, to this picture.")
    parser.add_argument("--per_shard", type=int, default=25, help="Clips of a shard.")
    parser.add_argument("--storage", choices=["jpeg", "mp4"], default="mp4", help="What --memory reads.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.first:
        first_batch(10_000)
    elif options.memory:
        plot_memory(options.memory, Storage[options.storage], 100_000, options.batch_size)
    else:
        compare(
            options.sizes, options.frames, *((60, 0.5) if options.quick else (200, 2.0)), options.batch_size, options.per_shard
        )


if __name__ == "__main__":
    main()
