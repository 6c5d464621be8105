"""Showing a finished folder of shards: one page on which a person sees in a minute what a model will see."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch

from data_prep.page.html import make_page
from data_prep.page.images import contact_sheet
from data_prep.pipeline.reader import read_samples
from data_prep.shards.sample import Sample
from data_prep.sources.base import Recording
from lam.data.datamodule import ClipDataModule
from lam.data.index import DataIndex
from lam.data.schema import SPLITS, Split, Storage
from lam.io import atomic_file, write_text

_PAIRS = 8  # training windows that are shown


def show(shards: Path, out: Path | None = None, clips: int = 12) -> int:
    """Make a page of a folder of shards: clips that play, their actions, counts, statistics, what was left out.

    The page is a single file, index.html, for any browser; beside it lies contact_sheet.png.

    Args:
        shards: Folder of shards.
        out: Folder for the page. The folder "show" in that of the shards if not given.
        clips: Clips to show, evenly spread over the set.

    Returns:
        Exit code.
    """
    print(write_page(shards, shards / "show" if out is None else out, clips))
    return 0


def write_page(shards: Path, out: Path, clips: int) -> Path:
    """Write the page and return where it is.

    Raises:
        FileNotFoundError: There are no shards.
        ValueError: What is to be shown is damaged.
    """
    if clips < 1:
        raise ValueError(f"--clips is {clips}, expected 1 or more.")
    index = DataIndex.load(shards)
    out.mkdir(parents=True, exist_ok=True)
    samples: list[tuple[Split, Sample]] = []
    pairs = None
    if index.storage is not Storage.states:
        samples = list(choose_samples(index, clips))
        with atomic_file(out / "contact_sheet.png") as file:
            contact_sheet(samples).save(file, "PNG")
        pairs = training_pairs(index)
    page = out / "index.html"
    write_text(page, make_page(index, samples, pairs))
    return page


def choose_samples(index: DataIndex, count: int) -> Iterator[tuple[Split, Sample]]:
    """Yield some samples, evenly spread over each split; a quarter of them is for validation."""
    val = max(1, count // 4) if index.splits["val"] else 0
    for split, wanted in zip(SPLITS, (count - val, val), strict=True):
        infos = index.splits[split]
        ends = np.cumsum([info.samples for info in infos])
        for number in _spread(ends[-1] if len(ends) else 0, wanted):
            shard = int(np.searchsorted(ends, number, side="right"))
            row = number - int(ends[shard] - infos[shard].samples)
            place = {"shard": infos[shard], "rows": [row]}
            for sample in read_samples(index, Recording(infos[shard].name, infos[shard].name, 0, place)):
                yield split, sample


def _spread(total: int, count: int) -> list[int]:
    """Return at most so many whole numbers below a total, evenly spread."""
    numbers: list[int] = np.linspace(0, total - 1, min(count, total)).round().astype(int).tolist()
    return numbers


def training_pairs(index: DataIndex) -> tuple[np.ndarray, list[str]] | None:
    """Return frames (B, 2, H, W, 3) uint8 of the first training windows of two frames, as training reads them, and keys."""
    if not index.splits["train"]:
        return None
    clip = next(iter(ClipDataModule(index.path, frames=2, batch_size=_PAIRS, num_workers=0).train_dataloader()))
    times = torch.diff(clip.times, dim=1)[:, 0].tolist()
    named = [f"{key}, {time:.3g} s" for key, time in zip(clip.key, times, strict=True)]
    return clip.frames.permute(0, 1, 3, 4, 2).numpy(), named
