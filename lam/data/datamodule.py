"""The data module: training, validation and prediction windows of a folder of shards."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import lightning.pytorch as pl
from lightning.pytorch.utilities.rank_zero import rank_zero_warn

from lam.data.clip import Clip
from lam.data.loader import BatchList, BatchStream, TrainingBatches, WindowBatches
from lam.data.order import TrainingOrder, Windows, covering_windows, global_batches, spread_windows
from lam.data.schema import SPLITS, DataIndex, Split
from lam.data.shards import SplitReader


class ClipDataModule(pl.LightningDataModule):
    """Windows of video from a folder of shards, the same for any number of processes and workers.

    Attributes:
        index: Summary of the folder.

    Args:
        shards: Folder written by data_prep.
        frames: Frames of a window.
        batch_size: Windows a step, over all processes together; it must divide by their number.
        stride: Every how many recorded frames one is taken.
        num_workers: Processes that decode beside each training process; 0 decodes in the training process itself.
        seed: Seed of the order of training windows.
        val_windows: At most this many validation windows, evenly spread; all that do not overlap if not given.
        shuffle_buffer: Samples shuffled together; with fewer in the set the shuffle is complete.
        frames_per_state: Frames that the encoder makes a state of; prediction windows are cut at its states.
        predict_split: Which windows predict goes through.
    """

    def __init__(
        self,
        shards: Path,
        frames: int,
        batch_size: int,
        stride: int = 1,
        num_workers: int = 1,
        seed: int = 0,
        val_windows: int | None = None,
        shuffle_buffer: int = 4096,
        frames_per_state: int = 1,
        predict_split: Literal["train", "val", "both"] = "both",
    ) -> None:
        super().__init__()
        least = {"frames": 2, "batch_size": 1, "stride": 1, "num_workers": 0, "shuffle_buffer": 1, "frames_per_state": 1}
        given = (frames, batch_size, stride, num_workers, shuffle_buffer, frames_per_state)
        for (name, smallest), value in zip(least.items(), given, strict=True):
            if value < smallest:
                raise ValueError(f"data.{name} is {value}, it must be at least {smallest}.")
        self.index = DataIndex.load(shards)
        self.frames, self.batch_size, self.stride = frames, batch_size, stride
        self.num_workers, self.seed, self.val_windows = num_workers, seed, val_windows
        self.shuffle_buffer, self.frames_per_state, self.predict_split = shuffle_buffer, frames_per_state, predict_split

    def train_dataloader(self) -> BatchStream:
        """Endless random windows, continuing where the trainer stands; recorded labels are not read."""
        world, rank = self._processes
        if self.batch_size % world:
            raise ValueError(
                f"data.batch_size is {self.batch_size} for all processes together and does not divide by their number. "
                f"Set a multiple of {world}."
            )
        reader = self._reader("train")
        order = TrainingOrder(reader.shards, reader.lengths, self.frames, self.stride, self.seed, buffer=self.shuffle_buffer)
        batches = TrainingBatches(reader, order, self.stride, self.batch_size // world, rank)
        return BatchStream(batches, self.batch_size, self._batches_done, self.num_workers)

    def val_dataloader(self) -> BatchList:
        """Windows that do not overlap, each once, with recorded labels.

        Where their number does not divide by that of the processes, the last batch has some twice, with equal positions.
        """
        reader = self._reader("val")
        windows = spread_windows(reader.lengths, self.frames, self.stride, self.val_windows)
        world, rank = self._processes
        batches = [(reader, batch) for batch in global_batches(windows, self.batch_size, world)]
        return BatchList(WindowBatches(batches, self.stride, world, rank, labels=True), self.num_workers)

    def test_dataloader(self) -> BatchList:
        """The validation windows."""
        return self.val_dataloader()

    def predict_dataloader(self) -> BatchList:
        """Windows that overlap by one state, so that every transition occurs once.

        The rest of a sample is a shorter window; those of a batch are equally long. Positions follow time, sample by
        sample. Processes take whole batches in turn, so none is padded and their numbers may differ by one.
        """
        each = self.frames_per_state
        if self.frames % each or self.frames < 2 * each:
            raise ValueError(f"data.frames is {self.frames}, expected a multiple of {each} from {2 * each} on.")
        parts: list[tuple[SplitReader, Windows]] = []
        position = 0
        for split in SPLITS if self.predict_split == "both" else (self.predict_split,):
            if self.index.splits[split]:
                reader = SplitReader(self.index, split)
                groups = covering_windows(reader.lengths, self.frames, self.stride, each)
                parts += [(reader, dataclasses.replace(group, positions=group.positions + position)) for group in groups]
                position += sum(len(group) for group in groups)
        if not parts:
            raise ValueError(f"{self.index.path} has no sample of two states in {self.predict_split}. Prepare longer clips.")
        world, rank = self._processes
        size = max(1, self.batch_size // world)
        batches = [(reader, batch) for reader, windows in parts for batch in global_batches(windows, size, world=1)]
        return BatchList(WindowBatches(batches[rank::world], self.stride, world=1, rank=0, labels=False), self.num_workers)

    def training_sample(self, n: int) -> Iterator[Clip]:
        """Batches of at most n training windows, evenly spread, the same for every seed and on every process."""
        reader = self._reader("train")
        windows = spread_windows(reader.lengths, self.frames, self.stride, n)
        batches = [(reader, batch) for batch in global_batches(windows, self.batch_size, world=1)]
        yield from BatchList(WindowBatches(batches, self.stride, world=1, rank=0, labels=False), num_workers=0)

    @property
    def _processes(self) -> tuple[int, int]:
        """Number of processes, and which of them this is."""
        return (1, 0) if self.trainer is None else (self.trainer.world_size, self.trainer.global_rank)

    def _batches_done(self) -> int:
        """Training batches consumed so far; Lightning restores the step before it asks for the loader."""
        return 0 if self.trainer is None else self.trainer.global_step * self.trainer.accumulate_grad_batches

    def _reader(self, split: Split) -> SplitReader:
        """A split, of which some samples at least are long enough for a window."""
        reader = SplitReader(self.index, split)
        span = (self.frames - 1) * self.stride + 1
        short, longest = int((reader.lengths < span).sum()), reader.lengths.max()
        if longest < span:
            raise ValueError(
                f"{self.index.path}: data.frames {self.frames} at data.stride {self.stride} needs clips of {span} frames, "
                f"the longest {split} clip has {longest}. Lower them or re-run data_prep with longer clips."
            )
        if short:
            rank_zero_warn(
                f"{self.index.path}: {short} of {len(reader.lengths)} {split} clips are shorter than {span} frames and "
                f"left out."
            )
        return reader
