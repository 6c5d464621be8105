"""Converting: a finished set, its frames stored otherwise."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

from typing_extensions import override

from data_prep.pipeline.engine import Engine
from data_prep.pipeline.reader import list_stored_samples, load_image_index, read_samples, repeat_plan, repeat_spec
from data_prep.pipeline.run import default_storage, write_set
from data_prep.shards.sample import Sample, SampleGenerator
from data_prep.sources.base import Recording
from lam.data.index import DataIndex
from lam.data.schema import Storage


class StoredSampleGenerator(SampleGenerator):
    """Generator of the samples that a set holds.

    Args:
        index: The set.
    """

    def __init__(self, index: DataIndex) -> None:
        self.index = dataclasses.replace(index, splits={})  # the list of shards is long, and sent to workers with every job

    @override
    def samples(self, recording: Recording, drop: Callable[[str], None]) -> Iterator[Sample]:
        return read_samples(self.index, recording)


def convert(
    shards: Path,
    out: Path,
    storage: Storage | None = None,
    jobs: int | None = None,
    engine: Literal["local", "ray"] = "local",
    part: str | None = None,
) -> int:
    """Store a finished set in another way: keys, splits, order, times and labels stay, pixels are encoded once more.

    Both ways of storing lose a little, so keep the first set where quality counts.

    Args:
        shards: Folder of the set.
        out: Folder for the new one: new, or of the same command before, which then goes on.
        storage: How to store frames: jpeg (packed rows) or mp4. If not given jpeg up to 128 pixels, else mp4.
        jobs: Shards read side by side on this machine. As many as there are cores if not given.
        engine: local, or ray: the cluster that RAY_ADDRESS names, which must see the same folders.
        part: Which of how many parts to do, for example 3/16; when all are done the same command without it ends the work.

    Returns:
        Exit code: 3 if something could not be read and was left out, else 0.
    """
    index = load_image_index(shards)
    storage = storage or default_storage(max(index.height, index.width))
    if storage is Storage.states:
        raise ValueError("--storage states holds features of an encoder; make it with data_prep features.")
    if storage is Storage.mp4 and (index.height % 2 or index.width % 2):
        raise ValueError(f"mp4 needs even sizes, {shards} has {index.height} x {index.width} pixels. Choose --storage jpeg.")
    listing, generator = list_stored_samples(index), StoredSampleGenerator(index)
    settings = {"source": "shards", "shards": index.digest, "storage": storage.name, "made_with": index.settings}
    return write_set(
        out,
        generator,
        dataclasses.replace(repeat_spec(index), storage=storage),
        listing,
        lambda: repeat_plan(index, listing, generator),
        settings,
        Engine(jobs, engine, part),
    )
