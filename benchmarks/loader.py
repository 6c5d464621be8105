"""How fast training windows come, per format, size, window and number of workers, against bare decoding of the same windows.

``python benchmarks/loader.py [--quick]`` prints a Markdown table. Frames are a panning texture with some noise, 40 a clip.
Rates are windows a second of wall time with 0, 1 and 2 workers (run it on an idle machine). Bare is a loop over
``decode_window`` on windows already found, and share what the loader without workers reaches of it, both by CPU time, which
other programs disturb less. The last column is what one worker leaves for the training process to do, CPU time a window.
"""

from __future__ import annotations

import argparse
import functools
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from data_prep.writer import ShardWriter
from lam.data.datamodule import ClipDataModule
from lam.data.decode import decode_window
from lam.data.order import TrainingOrder
from lam.data.schema import Storage
from lam.data.shards import SplitReader

CLIP_FRAMES = 40


def write_clips(out: Path, storage: Storage, size: int, count: int) -> None:
    """A folder of synthetic clips."""
    rng = np.random.default_rng(0)
    with ShardWriter(out, size, size, 4.0, storage) as writer:
        for i in range(count):
            texture = np.kron(rng.integers(0, 256, (size // 8, size // 8, 3)), np.ones((8, 8, 1)))
            frames = np.stack([np.roll(texture, frame, axis=1) for frame in range(CLIP_FRAMES)])
            frames = np.clip(frames + rng.normal(0, 4, frames.shape), 0, 255).astype(np.uint8)
            writer.add("train", f"{i}", "synthetic", "0", frames, np.arange(CLIP_FRAMES) / 4)


def rate(step: Callable[[], int], seconds: float, clock: Callable[[], float]) -> float:
    """Windows a second, by a clock, of a function that does some and says how many."""
    step()
    done, start, end = 0, clock(), time.perf_counter() + seconds
    while time.perf_counter() < end:
        done += step()
    return done / (clock() - start)


def loader_rate(folder: Path, frames: int, batch_size: int, workers: int, seconds: float, clock: Callable[[], float]) -> float:
    """Windows that come out of the training loader a second, by a clock."""
    stream = iter(ClipDataModule(folder, frames, batch_size, num_workers=workers).train_dataloader())
    return rate(lambda: len(next(stream)), seconds, clock)


def bare_rate(folder: Path, frames: int, batch_size: int, seconds: float) -> float:
    """Windows a second of CPU time of the decoder alone, on windows already found in memory."""
    data = ClipDataModule(folder, frames, batch_size)
    reader = SplitReader(data.index, "train")
    windows = TrainingOrder(reader.shards, reader.lengths, frames, 1, seed=0).windows(np.arange(4 * batch_size))
    found = [
        (reader.video(sample), range(start, start + frames))
        for sample, start in zip(windows.samples.tolist(), windows.starts.tolist(), strict=True)
    ]
    out = np.empty((frames, data.index.height, data.index.width, 3), dtype=np.uint8)

    def step() -> int:
        for video, window in found:
            decode_window(data.index.storage, video, window, out)
        return len(found)

    return rate(step, seconds, time.process_time)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="Only 32 and 64 pixels, fewer clips, shorter measurements.")
    parser.add_argument("--batch_size", type=int, default=64, help="Windows a batch.")
    options = parser.parse_args()
    torch.set_num_threads(1)
    sizes, count, seconds = ((32, 64), 60, 0.5) if options.quick else ((32, 64, 128, 224), 200, 2.0)
    print(
        "| format | size | KiB/clip | window | bare/cpu-s | share | 0 workers/s | 1 worker/s | 2 workers/s | main us/window |"
    )
    print("| --- " * 10 + "|")
    with tempfile.TemporaryDirectory() as temporary:
        for storage in (Storage.jpeg, Storage.mp4):
            for size in sizes:
                folder = Path(temporary, f"{storage.name}-{size}")
                write_clips(folder, storage, size, count)
                kib = sum(path.stat().st_size for path in folder.glob("*.tar")) / count / 1024
                for frames in (2, 3, 16):
                    bare = bare_rate(folder, frames, options.batch_size, seconds)
                    measure = functools.partial(loader_rate, folder, frames, options.batch_size, seconds=seconds)
                    share = measure(workers=0, clock=time.process_time) / bare
                    walls = [measure(workers=n, clock=time.perf_counter) for n in (0, 1, 2)]
                    main_cost = 1e6 / measure(workers=1, clock=time.process_time)
                    row = [storage.name, size, f"{kib:.0f}", frames, f"{bare:.0f}", f"{share:.0%}"]
                    print(
                        "| " + " | ".join(map(str, [*row, *(f"{w:.0f}" for w in walls), f"{main_cost:.0f}"])) + " |", flush=True
                    )


if __name__ == "__main__":
    main()
