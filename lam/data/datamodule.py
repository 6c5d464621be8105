"""The data module: training, validation and prediction windows of folders of shards."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities import rank_zero_warn

from lam.data.clip import Clip
from lam.data.codec import Decoder, import_torchcodec
from lam.data.corruption import CorruptionCounter
from lam.data.loader import BatchList, BatchStream, Cuts, Partition, TrainingBatches, TrainingStream, WindowBatches
from lam.data.mixture import open_mixture
from lam.data.order import TrainingOrder, WindowList, list_covering_windows, list_disjoint_windows
from lam.data.plain import PlainBatches, PlainStream
from lam.data.schema import SPLITS, Split
from lam.data.split_reader import SplitReader
from lam.data.watchdog import Watchdog
from lam.data.windowing import RandomWindows


class ClipDataModule(pl.LightningDataModule):
    """Windows of video from folders of shards, the same for any number of processes and workers.

    Attributes:
        index: Index of the folder, or of the mixture of several.
        mixture: The folders and their weights.

    Args:
        shards: Folder written by data_prep, its URL (http, s3 and what else fsspec knows, or "pipe:command {name}"), or several
            with their weights: '{shards/wild: 3, shards/robot: 1}'.
        frames: Frames of a window.
        batch_size: Windows a step, over all processes together; it must divide by their number.
        stride: Every how many recorded frames one is taken.
        num_workers: Processes that decode beside each training process; 0 decodes in the training process itself.
        seed: Seed of the order of training windows.
        val_windows: At most this many validation windows, evenly spread; all that do not overlap if not given.
        shuffle_buffer: Samples shuffled together; with fewer in the set the shuffle is complete.
        windows_per_sample: Training windows drawn from a sample at a time, which come one after another.
        frames_per_state: Frames that the encoder makes a state of; prediction windows begin and end with whole states.
        predict_split: Which windows predict goes through.
        damaged_share: Share of the training samples that may be corrupt; another window takes the place of each.
        decoder: What decodes mp4; both give the same pixels.
        cache: Folder on a local disk for copies of shards behind a URL; needed for URLs.
        cache_gib: How much it may hold, GiB; shards used longest ago make room.
        labels: Read recorded actions in training too; for the labeled bound alone, whose rows say so.
        cuts: Share of the training windows that go on, from the middle, as another window; for the positive control of leakage
            alone (experiments/bottlenecks/cuts.yaml).
        plain_stream: Train on windows from these ordinary WebDataset tars instead, for example 'http://host/{000..099}.tar';
            they have no exact order and cannot be resumed exactly. Frames must have the size of those in shards.
    """

    def __init__(
        self,
        shards: dict[str, float] | Path | str,
        frames: int,
        batch_size: int,
        stride: int = 1,
        num_workers: int = 1,
        seed: int = 0,
        val_windows: int | None = None,
        shuffle_buffer: int = 4096,
        windows_per_sample: int = 1,
        frames_per_state: int = 1,
        predict_split: Literal["train", "val", "both"] = "both",
        damaged_share: float = 0.001,
        decoder: Decoder = "pyav",
        cache: Path | None = None,
        cache_gib: float = 100.0,
        labels: bool = False,
        cuts: float = 0.0,
        plain_stream: str | None = None,
    ) -> None:
        super().__init__()
        least = {"frames": 2, "batch_size": 1, "stride": 1, "num_workers": 0, "shuffle_buffer": 1}
        least |= {"windows_per_sample": 1, "frames_per_state": 1}
        given = (frames, batch_size, stride, num_workers, shuffle_buffer, windows_per_sample, frames_per_state)
        for (name, smallest), value in zip(least.items(), given, strict=True):
            if value < smallest:
                raise ValueError(f"data.{name} is {value}, it must be at least {smallest}.")
        self.mixture = open_mixture(shards, cache, cache_gib)
        self.index = self.mixture.index
        self.frames, self.batch_size, self.stride = frames, batch_size, stride
        self.num_workers, self.seed, self.val_windows = num_workers, seed, val_windows
        self.shuffle_buffer, self.windows_per_sample = shuffle_buffer, windows_per_sample
        self.frames_per_state, self.predict_split = frames_per_state, predict_split
        self.damaged_share, self.decoder, self.plain_stream = damaged_share, decoder, plain_stream
        self.labels = labels
        if not 0 <= cuts <= 1 or (cuts and plain_stream is not None):
            raise ValueError(f"data.cuts is {cuts}, expected a share of the windows, 0 to 1, and 0 with data.plain_stream.")
        self.cuts = Cuts(cuts, frames // frames_per_state // 2 * frames_per_state)
        if decoder == "torchcodec":
            import_torchcodec()

    def train_dataloader(self) -> TrainingStream:
        """Return endless random windows, continuing where the trainer stands."""
        num_processes, rank = self._processes
        if self.batch_size % num_processes:
            raise ValueError(
                f"data.batch_size is {self.batch_size} for all processes together and does not divide by their number. "
                f"Set a multiple of {num_processes}."
            )
        if self.plain_stream is not None:
            plain = PlainBatches(self.plain_stream, self.index, self.frames, self.stride, self.batch_size // num_processes)
            counter = CorruptionCounter(0, self.damaged_share)
            return PlainStream(plain, self.batch_size, rank, self._batches_done, self.num_workers, self._watchdog, counter)
        reader = self._reader("train")
        batches = TrainingBatches(
            reader, self.training_order(reader), self.batch_size // num_processes, rank, self.labels, self.cuts
        )
        counter = self._corruption_counter(reader)
        return BatchStream(batches, self.batch_size, self._batches_done, self.num_workers, self._watchdog, counter)

    def training_order(self, reader: SplitReader) -> TrainingOrder:
        """Return the order of training windows."""
        windowing = RandomWindows(self.frames, self.stride, self.seed)
        samples = reader.split_by_set(reader.histogram.num_windows(windowing))
        for each, found in zip(self.mixture.sets, samples, strict=True):
            if not found.any():
                raise ValueError(
                    f"{each.index.path} has no training clip of {windowing.span} frames. Leave it out of data.shards."
                )
        weights = [each.weight for each in self.mixture.sets]
        return TrainingOrder(samples, weights, windowing, self.shuffle_buffer, self.windows_per_sample)

    def val_dataloader(self) -> BatchList:
        """Return windows that do not overlap, each once, with recorded labels.

        Where their number does not divide by that of the processes, the last batch has some twice, with equal positions.
        """
        reader = self._reader("val")
        lists = [(reader, list_disjoint_windows(reader.histogram, self.frames, self.stride, self.val_windows))]
        batches = WindowBatches(lists, self.batch_size, within_batches=Partition(*self._processes), labels=True)
        return BatchList(batches, self.num_workers, self._watchdog)

    def test_dataloader(self) -> BatchList:
        """Return the validation windows."""
        return self.val_dataloader()

    def predict_dataloader(self) -> BatchList:
        """Return windows that overlap by one state, so that every transition occurs once.

        The rest of a sample is a shorter window; those of a batch are equally long. Positions follow time, sample by
        sample. Processes take whole batches in turn, so none is padded and their numbers may differ by one.
        """
        each = self.frames_per_state
        if self.frames % each or self.frames < 2 * each:
            raise ValueError(f"data.frames is {self.frames}, expected a multiple of {each} from {2 * each} on.")
        lists: list[tuple[SplitReader, WindowList]] = []
        for split in SPLITS if self.predict_split == "both" else (self.predict_split,):
            if self.index.splits[split]:
                reader = SplitReader(self.mixture, split, self.decoder)
                position = sum(len(windows) for _, windows in lists)
                found = list_covering_windows(reader.histogram, self.frames, self.stride, each, position)
                lists += [(reader, windows) for windows in found]
        if not lists:
            raise ValueError(f"{self.index.path} has no sample of two states in {self.predict_split}. Prepare longer clips.")
        turns = Partition(*self._processes)
        batches = WindowBatches(lists, max(1, self.batch_size // turns.num_parts), among_batches=turns)
        return BatchList(batches, self.num_workers, self._watchdog)

    def training_sample(self, n: int, labels: bool = False) -> Iterator[Clip]:
        """Yield batches of at most n training windows, evenly spread, the same for every seed and on every process.

        Args:
            n: How many.
            labels: Whether to read recorded actions and factors.
        """
        reader = self._reader("train")
        lists = [(reader, list_disjoint_windows(reader.histogram, self.frames, self.stride, n))]
        batches = WindowBatches(lists, self.batch_size, labels=labels, replace=True)
        yield from BatchList(batches, 0, self._watchdog, self._corruption_counter(reader))

    def validation_sample(self, n: int) -> Iterator[Clip]:
        """Yield batches of at most n validation windows with recorded labels, evenly spread, the same on every process."""
        reader = self._reader("val")
        lists = [(reader, list_disjoint_windows(reader.histogram, self.frames, self.stride, n))]
        yield from BatchList(WindowBatches(lists, self.batch_size, labels=True), 0, self._watchdog)

    def teardown(self, stage: str) -> None:
        """End the watch over batches and steps; Lightning keeps the loaders."""
        self._watchdog.pause()

    @property
    def _processes(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    @functools.cached_property
    def _watchdog(self) -> Watchdog:
        """The one of training and validation, which is watched within training."""
        return Watchdog(*self._processes)

    def _batches_done(self) -> int:
        """Training batches consumed so far; Lightning restores the step before it asks for the loader."""
        if self.trainer is None:
            return 0
        limit: int | float = self.trainer.limit_train_batches
        repeated: bool = self.trainer.overfit_batches > 0  # type: ignore[attr-defined]  # Lightning sets it undeclared
        epoch = limit if isinstance(limit, int) else None
        return batches_done(self.trainer.global_step, self.trainer.accumulate_grad_batches, epoch, repeated)

    def _corruption_counter(self, reader: SplitReader) -> CorruptionCounter:
        return CorruptionCounter(reader.histogram.num_samples, self.damaged_share)

    def _reader(self, split: Split) -> SplitReader:
        """Return the reader of a split of which some samples at least are long enough for a window."""
        reader = SplitReader(self.mixture, split, self.decoder)
        span, histogram = (self.frames - 1) * self.stride + 1, reader.histogram
        if histogram.longest < span:
            raise ValueError(
                f"{self.index.path}: data.frames {self.frames} at data.stride {self.stride} needs clips of {span} frames, "
                f"the longest {split} clip has {histogram.longest}. Lower them or re-run data_prep with longer clips."
            )
        if short := histogram.num_shorter(span):
            rank_zero_warn(
                f"{self.index.path}: {short} of {histogram.num_samples} {split} clips are shorter than {span} frames "
                "and left out."
            )
        return reader


def batches_done(steps: int, accumulated: int, epoch: int | None = None, repeated: bool = False) -> int:
    """Compute how many batches some optimizer steps have consumed.

    Args:
        steps: Optimizer steps.
        accumulated: Batches of a step; the last step of an epoch takes what is left.
        epoch: Batches of an epoch; None where no epoch ends.
        repeated: Whether all epochs have the same batches, so that those of the current one count alone.
    """
    if not epoch:
        return steps * accumulated
    epochs, rest = divmod(steps, -(-epoch // accumulated))
    return (0 if repeated else epochs * epoch) + rest * accumulated
