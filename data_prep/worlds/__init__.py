"""Generated worlds: video whose causes are known, because no real video says what an action was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from typing_extensions import Unpack

from data_prep.engine import Engine
from data_prep.plan import make_plan
from data_prep.run import write_set
from data_prep.sample import Maker, Sample
from data_prep.source import Listing, Recording
from data_prep.worlds.scene import make_clip
from data_prep.worlds.settings import Dials, WorldSettings
from data_prep.writer import SetSpec
from lam.data.schema import SPLITS, ActionField, Storage


def world(
    out: Path,
    train: int = 4096,
    val: int = 512,
    seed: int = 0,
    storage: Storage = Storage.jpeg,
    jobs: int | None = None,
    **dials: Unpack[Dials],
) -> int:
    """Generates a world with recorded causes; experiments/worlds/ holds those of the benchmark, for --config.

    Args:
        out: Folder for the shards: new, or of the same command before, which then goes on.
        train: Clips to train on.
        val: Clips to validate on.
        seed: Seed of the world; clip i of a split is a function of seed and i, whatever the number of clips.
        storage: How to store frames.
        jobs: Processes; 1 works in this one. As many as there are cores if not given.

    Returns:
        Exit code.
    """
    settings = WorldSettings(**dials)
    if not 0 <= seed < 2**32:
        raise ValueError(f"seed is {seed}, expected 0 to 2^32 - 1. Change --seed.")
    if storage is Storage.states:
        raise ValueError("--storage states holds features of an encoder; make it with python -m data_prep features.")
    record = {
        "generator": "world",
        "train": train,
        "val": val,
        "seed": seed,
        "storage": storage.name,
        **dataclasses.asdict(settings),
    }
    actions = make_clip(settings, seed, 0, 0).actions
    spec = SetSpec(
        height=settings.size,
        width=settings.size,
        storage=storage,
        actions=[] if actions is None else [ActionField("command", actions.shape[1], "sum")],
    )
    maker = _Clips(settings, seed)
    size = settings.frames * settings.size**2 * 3
    listing = Listing(
        [
            Recording(f"{split}-{index:06d}", f"{split}-{index:06d}", size, {"split": number, "clip": index}, split)
            for number, (split, clips) in enumerate(zip(SPLITS, (train, val), strict=True))
            for index in range(clips)
        ]
    )
    return write_set(out, maker, spec, listing, lambda: make_plan(listing, maker, 0.0, seed, 2), record, Engine(jobs))


class _Clips(Maker):
    """Makes one clip a recording."""

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed

    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        """The clip."""
        made = make_clip(self.settings, self.seed, recording.place["split"], recording.place["clip"])
        times = np.arange(self.settings.frames) / self.settings.fps
        name = recording.name
        yield Sample(name, name, name, made.frames, times, made.actions, made.causes)
