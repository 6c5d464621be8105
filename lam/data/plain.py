"""Plain streams: training windows from ordinary WebDataset tars of videos, without side indices, by WebDataset itself.

Shards are drawn at random with replacement. Nothing says which sample is where, so the order is not a function of the position:
no two runs see the same, and a resumed one goes on with other windows.
"""

from __future__ import annotations

import io
import itertools
from collections.abc import Callable, Iterator
from typing import Any

import av
import numpy as np
import torch
import webdataset as wds
from lightning.pytorch.utilities.rank_zero import rank_zero_warn
from torch.utils.data import IterableDataset

from lam.data.batches import Batch, unpack
from lam.data.clip import Clip
from lam.data.corruption import ATTEMPTS, Damage, DamageCount, DamagedError
from lam.data.index import DataIndex
from lam.data.loader import JOIN_EVERY, BatchStream, parcels_of
from lam.data.watchdog import Watchdog

_VIDEOS = ("mp4", "mkv", "webm", "mov", "avi")
_SHUFFLED = 256  # samples in memory, as bytes of video
_TARS = 1000  # that may be read in a row without finding anything
_AT_LEAST = 1000  # samples of which a share is taken before more have been seen

Window = tuple[np.ndarray, np.ndarray, str, str]
"""Frames (F, H, W, 3), times (F,), key and source of a window."""


class PlainBatches(IterableDataset[Batch]):
    """Endless batches of one worker.

    Args:
        urls: Tars, with braces expanded.
        index: The set whose frames are of the same size.
        frames: Frames of a window.
        stride: Every how many recorded frames one is taken.
        each: Windows of a batch.
    """

    def __init__(self, urls: str, index: DataIndex, frames: int, stride: int, each: int) -> None:
        self._urls, self._index, self._frames, self._stride, self._each = urls, index, frames, stride, each

    def __iter__(self) -> Iterator[Batch]:
        """Batches, and what was damaged and left out."""
        damages: list[Damage] = []
        windows = self._windows(damages)
        while True:
            batch = list(itertools.islice(windows, self._each))
            frames, times, keys, sources = zip(*batch, strict=True)
            clip = Clip(
                frames=torch.from_numpy(np.stack(frames)).permute(0, 1, 4, 2, 3),
                times=torch.from_numpy(np.stack(times)),
                position=torch.zeros(len(batch), dtype=torch.int64),  # known in the main process
                key=list(keys),
                source=list(sources),
            )
            yield clip, damages.copy()
            damages.clear()

    def _windows(self, damages: list[Damage]) -> Iterator[Window]:
        """One window of each sample.

        Raises:
            DamagedError: Many in a row can not be read.
        """
        rng, failed, opened = np.random.default_rng(), 0, 0

        def note(error: Exception, url: str = "", key: str = "") -> bool:
            nonlocal failed
            failed += 1
            damages.append(Damage(url or str(getattr(error, "args", self._urls)[-1]), key, 1, str(error)))
            if failed >= ATTEMPTS:
                raise DamagedError(damages[-1]) from error
            return True  # go on

        def split(urls: Iterator[Any]) -> Iterator[Any]:
            """Tars of this process; those without samples must not be read for ever."""
            nonlocal opened
            for url in wds.split_by_node(urls):
                opened += 1
                if opened > _TARS:
                    raise DamagedError(Damage(self._urls, "", 0, f"{_TARS} tars in a row hold nothing"))
                yield url

        stream = wds.WebDataset(self._urls, resampled=True, shardshuffle=False, nodesplitter=split, handler=note)
        for sample in stream.shuffle(_SHUFFLED, initial=_SHUFFLED // 8):
            opened = 0
            try:
                window = self._cut(sample, rng)
            except (av.error.FFmpegError, IndexError) as error:
                note(error, sample["__url__"], sample["__key__"])
                continue
            failed = 0
            yield window

    def _cut(self, sample: dict[str, Any], rng: np.random.Generator) -> Window:
        """A random window of a sample.

        Raises:
            FFmpegError: It is damaged.
            IndexError: It is no video, or too short.
            ValueError: Its frames have another size.
        """
        videos = [sample[ending] for ending in _VIDEOS if ending in sample]
        if not videos:
            raise IndexError(f"has no member that ends in {', '.join(_VIDEOS)}, but {', '.join(sample)}")
        with av.open(io.BytesIO(videos[0]), "r") as container:
            stream = container.streams.video[0]
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
                f"{self._index.path} has {self._index.height} x {self._index.width}. Prepare them with python -m data_prep."
            )
        return pictures, times, sample["__key__"], sample["__url__"]


class PlainStream(BatchStream):
    """Endless training batches of a plain stream; only positions go on where a resumed run had stopped.

    Args:
        batches: This process's batches.
        batch_size: Windows in a batch of all processes together.
        rank: Which process this is.
        batches_done: Batches that the trainer has consumed since its first step.
        num_workers: Processes that decode beside this one; 0 decodes in this one.
        watchdog: Watches how long batches and steps take.
        damage: Counts what was damaged and left out.
    """

    def __init__(
        self,
        batches: PlainBatches,
        batch_size: int,
        rank: int,
        batches_done: Callable[[], int],
        num_workers: int,
        watchdog: Watchdog,
        damage: DamageCount,
    ) -> None:
        super().__init__(batches, batch_size, batches_done, num_workers, watchdog, damage)  # type: ignore[arg-type]  # it takes batches by number too
        self._rank = rank
        rank_zero_warn(
            "data.plain_stream has no exact order: a resumed run goes on with other windows than it would have seen."
        )

    def __iter__(self) -> Iterator[Clip]:
        """Batches, numbered from the current position on."""
        first, parcels = self.position(), iter(parcels_of(self._batches, self._num_workers))
        with self._watchdog.watching():
            for number in itertools.count():
                self._watchdog.waits(lambda: "a plain stream")
                clip, damages = unpack(next(parcels))
                self._watchdog.has(lambda: "a plain stream")
                self._damage.samples = max(_AT_LEAST, (number + 1) * self._batch_size)
                self._damage.add(damages)
                if (number + 1) % JOIN_EVERY == 0:
                    self._damage.join()
                start = first + number * self._batch_size + self._rank * len(clip)
                clip.position = torch.arange(start, start + len(clip))
                yield clip
