"""Generated worlds: video whose factors are known, because no real video says what an action was."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from typing_extensions import Unpack, override

from data_prep.pipeline.generated import check_generated, write_generated
from data_prep.shards.sample import DatasetSpec, Sample, SampleGenerator
from data_prep.sources.base import Recording
from data_prep.worlds.clip import make_clip
from data_prep.worlds.settings import WorldParameters, WorldSettings
from lam.data.schema import ActionField, Storage


def world(
    out: Path,
    train: int = 4096,
    val: int = 512,
    seed: int = 0,
    storage: Storage = Storage.jpeg,
    jobs: int | None = None,
    **parameters: Unpack[WorldParameters],
) -> int:
    """Generate a world with recorded factors; experiments/worlds/ holds those of the benchmark, for --config.

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
    settings = WorldSettings(**parameters)
    check_generated(seed, storage)
    record = {
        "generator": "world",
        "train": train,
        "val": val,
        "seed": seed,
        "storage": storage.name,
        **dataclasses.asdict(settings),
    }
    first = make_clip(settings, seed, 0, 0)
    spec = DatasetSpec(
        height=settings.size,
        width=settings.size,
        storage=storage,
        actions=[] if first.actions is None else [ActionField("command", first.actions.shape[1], "sum")],
        factor_aggregations={name: "first" for name in first.factors if name.endswith(("_x", "_y"))},
    )
    return write_generated(out, _ClipGenerator(settings, seed), spec, (train, val), settings.frames, record, jobs)


class _ClipGenerator(SampleGenerator):
    """Generator of one clip a recording."""

    def __init__(self, settings: WorldSettings, seed: int) -> None:
        self.settings, self.seed = settings, seed

    @override
    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        made = make_clip(self.settings, self.seed, recording.place["split"], recording.place["clip"])
        times = np.arange(self.settings.frames) / self.settings.fps
        name = recording.name
        yield Sample(name, name, name, made.frames, times, made.actions, made.factors)
