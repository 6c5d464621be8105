"""Plain streams: training windows from ordinary WebDataset tars of videos, without side indices, read by WebDataset itself.

Shards are drawn at random with replacement. Nothing says which sample is where, so the order is not a function of the position:
no two runs see the same, and a resumed one goes on with other windows.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import av
import numpy as np
import torch
import webdataset as wds
from lightning.pytorch.utilities import rank_zero_warn
from torch.utils.data import IterableDataset
from typing_extensions import override

from lam.data.clip import Clip
from lam.data.corruption import MAX_ATTEMPTS, Corruption, CorruptionCounter, CorruptionError
from lam.data.index import DataIndex
from lam.data.loader import Batch, TrainingStream, packed_batches, unpack_batch
from lam.data.watchdog import Watchdog
from lam.io.trust import check_pipe

_VIDEOS = ("mp4", "mkv", "webm", "mov", "avi")
_SHUFFLED = 256  # samples in memory, as bytes of video
_TARS = 1000  # that may be read in a row without finding anything
_AT_LEAST = 1000  # samples of which a share is taken before more have been seen


class PlainWindow(NamedTuple):
    """One window of a video.

    Attributes:
        frames: Pixels, (F, H, W, 3) uint8.
        times: When each frame is shown, (F,), seconds from the start of the video.
        key: Key of the sample.
        source: Tar that it is in.
    """

    frames: np.ndarray
    times: np.ndarray
    key: str
    source: str


class PlainBatches(IterableDataset[Batch]):
    """Endless batches of one worker.

    Args:
        urls: Tars, with braces expanded.
        index: The set whose frames are of the same size.
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        windows_per_process: Windows of a batch for each process.
    """

    def __init__(self, urls: str, index: DataIndex, frames: int, stride: int, windows_per_process: int) -> None:
        if "pipe:" in urls:
            check_pipe(urls)
        self._urls, self._index, self._frames, self._stride = urls, index, frames, stride
        self._windows_per_process = windows_per_process

    def __iter__(self) -> Iterator[Batch]:
        """Batches, and what was corrupt and left out."""
        corruptions: list[Corruption] = []
        windows = self._windows(corruptions)
        while True:
            batch = list(itertools.islice(windows, self._windows_per_process))
            frames, times, keys, sources = zip(*batch, strict=True)
            clip = Clip(
                frames=torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3),
                times=torch.from_numpy(np.stack(times)),
                position=torch.zeros(len(batch), dtype=torch.int64),  # known in the main process
                key=list(keys),
                source=list(sources),
            )
            yield clip, corruptions.copy()
            corruptions.clear()

    def _windows(self, corruptions: list[Corruption]) -> Iterator[PlainWindow]:
        """Yield one window of each sample.

        Raises:
            CorruptionError: Many in a row cannot be read.
        """
        rng, failed, opened = np.random.default_rng(), 0, 0

        def record_failure(error: Exception, url: str = "", key: str = "") -> bool:
            nonlocal failed
            failed += 1
            corruptions.append(Corruption(url or str(getattr(error, "args", self._urls)[-1]), key, 1, str(error)))
            if failed >= MAX_ATTEMPTS:
                raise CorruptionError(corruptions[-1]) from error
            return True  # go on

        def split_by_process(urls: Iterator[Any]) -> Iterator[Any]:
            """Yield the tars of this process; those without samples must not be read for ever."""
            nonlocal opened
            for url in wds.split_by_node(urls):
                opened += 1
                if opened > _TARS:
                    raise CorruptionError(Corruption(self._urls, "", 0, f"{_TARS} tars in a row hold nothing"))
                yield url

        stream = wds.WebDataset(
            self._urls, resampled=True, shardshuffle=False, nodesplitter=split_by_process, handler=record_failure
        )
        for sample in stream.shuffle(_SHUFFLED, initial=_SHUFFLED // 8):
            opened = 0
            try:
                window = self._read_window(sample, rng)
            except (av.error.FFmpegError, IndexError) as error:
                record_failure(error, sample["__url__"], sample["__key__"])
                continue
            failed = 0
            yield window

    def _read_window(self, sample: dict[str, Any], rng: np.random.Generator) -> PlainWindow:
        """Read a random window of a sample.

        Raises:
            FFmpegError: It is corrupt.
            IndexError: It is no video, or too short.
            ValueError: Its frames have another size.
        """
        videos = [sample[ending] for ending in _VIDEOS if ending in sample]
        if not videos:
            raise IndexError(f"has no member that ends in {', '.join(_VIDEOS)}, but {', '.join(sample)}")
        with av.open(io.BytesIO(videos[0]), "r") as container:
            stream = container.streams.video[0]
            if stream.codec_context is None:
                raise IndexError("its video is of a kind that cannot be decoded")
            stream.codec_context.thread_count = 1
            stamps = sorted(packet.pts for packet in container.demux(stream) if packet.pts is not None)
            span = (self._frames - 1) * self._stride + 1
            if len(stamps) < span:
                raise IndexError(f"has {len(stamps)} frames, a window needs {span}")
            start = int(rng.integers(len(stamps) - span + 1))
            wanted = stamps[start : start + span : self._stride]
            container.seek(wanted[0], stream=stream)
            found = {p.pts: p for p in itertools.takewhile(lambda p: (p.pts or 0) <= wanted[-1], container.decode(stream))}
            if missing := set(wanted) - set(found):
                raise IndexError(f"lacks the frame at {float(min(missing) * (stream.time_base or 0)):.3f} s")
            pictures = np.stack([found[stamp].to_ndarray(format="rgb24") for stamp in wanted])
            times = np.array([float((stamp - stamps[0]) * (stream.time_base or 0)) for stamp in wanted])
        if pictures.shape[1:3] != (self._index.height, self._index.width):
            raise ValueError(
                f"{sample['__url__']}, {sample['__key__']} has frames of {pictures.shape[1]} x {pictures.shape[2]} pixels, "
                f"{self._index.path} has {self._index.height} x {self._index.width}. Prepare them with data_prep."
            )
        return PlainWindow(pictures, times, sample["__key__"], sample["__url__"])


class PlainStream(TrainingStream):
    """Endless training batches of a plain stream; only positions go on where a resumed run had stopped.

    Args:
        batches: This process's batches.
        batch_size: Windows in a batch of all processes together.
        rank: Which process this is.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        counter: Counts what was corrupt and left out.
    """

    def __init__(
        self,
        batches: PlainBatches,
        batch_size: int,
        rank: int,
        batches_done: Callable[[], int],
        num_workers: int,
        watchdog: Watchdog,
        counter: CorruptionCounter,
    ) -> None:
        super().__init__(batch_size, batches_done, num_workers, watchdog, counter)
        self._batches, self._rank = batches, rank
        rank_zero_warn(
            "data.plain_stream has no exact order: a resumed run goes on with other windows than it would have seen."
        )

    @override
    def __iter__(self) -> Iterator[Clip]:
        first, packed = self.position(), iter(packed_batches(self._batches, self._num_workers))
        with self._watchdog.watch():
            for number in itertools.count():
                self._watchdog.begin_wait(lambda: "a plain stream")
                clip, corruptions = unpack_batch(next(packed))
                self._watchdog.begin_step(lambda: "a plain stream")
                self._counter.num_samples = max(_AT_LEAST, (number + 1) * self._batch_size)
                self._count(number + 1, corruptions)
                start = first + number * self._batch_size + self._rank * len(clip)
                clip.position = torch.arange(start, start + len(clip))
                yield clip
