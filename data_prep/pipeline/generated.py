"""Sets that are made, not read: so many clips of each split, each a function of the seed and its number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from data_prep.pipeline.engine import Engine
from data_prep.pipeline.plan import make_plan
from data_prep.pipeline.run import write_set
from data_prep.shards.sample import DatasetSpec, SampleGenerator
from data_prep.sources.base import Listing, Recording
from lam.data.schema import SPLITS, Storage


def check_generated(seed: int, storage: Storage) -> None:
    """Refuse what no generator can do, before anything is made.

    Raises:
        ValueError: The seed is out of range, or frames cannot be stored this way.
    """
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}, expected 0 to 2^32 - 1. Change --seed.")
    if storage is Storage.states:
        raise ValueError("--storage states holds features of an encoder; make it with data_prep features.")


def write_generated(
    out: Path,
    generator: SampleGenerator,
    spec: DatasetSpec,
    clips: tuple[int, int],
    frames: int,
    settings: dict[str, Any],
    jobs: int | None,
) -> int:
    """Write a set whose recordings are numbers: ``place`` is {"split": 0 or 1, "clip": number in the split}.

    Args:
        out: Folder for the shards: new, or of the same command before, which then goes on.
        generator: Makes the clip of a recording.
        spec: What all clips have in common.
        clips: Clips to train and to validate on.
        frames: Frames of a clip.
        settings: What the set is made with, its seed among it.
        jobs: Processes; 1 works in this one. As many as there are cores if not given.

    Returns:
        Exit code.
    """
    size = frames * spec.height * spec.width * 3
    listing = Listing(
        [
            Recording(f"{split}-{index:06d}", f"{split}-{index:06d}", size, {"split": number, "clip": index}, split)
            for number, (split, count) in enumerate(zip(SPLITS, clips, strict=True))
            for index in range(count)
        ]
    )
    return write_set(
        out, generator, spec, listing, lambda: make_plan(listing, generator, 0.0, settings["seed"], 2), settings, Engine(jobs)
    )
