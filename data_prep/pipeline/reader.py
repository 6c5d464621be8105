"""Reading sets again: a finished folder of shards as recordings and samples, to make another set of it."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq

from data_prep.pipeline.plan import JobPlan, make_plan
from data_prep.shards.sample import DatasetSpec, Sample, SampleGenerator
from data_prep.sources.base import Listing, Recording
from lam.data.index import DataIndex
from lam.data.schema import SPLITS, Storage, side_index_name
from lam.data.shard_reader import ACTIONS, ShardReader
from lam.data.storage import LocalFiles

_SAMPLES = 64  # of a recording: what is read again where an interrupted run goes on, and lost where a shard is damaged


def load_image_index(shards: Path) -> DataIndex:
    """Return the index of a folder that holds pictures.

    Raises:
        ValueError: It holds states.
    """
    index = DataIndex.load(shards)
    if index.storage is Storage.states:
        raise ValueError(f"{shards} holds states of an encoder, no pictures. Give the shards they were made of.")
    return index


def list_stored_samples(index: DataIndex) -> Listing:
    """List what a folder holds: some consecutive samples of a shard are a recording, and keep their split."""
    recordings = []
    for split in SPLITS:
        for info in index.splits[split]:
            for first in range(0, info.samples, _SAMPLES):
                stop = min(first + _SAMPLES, info.samples)
                recordings.append(
                    Recording(
                        name=f"{info.name}[{first}:{stop}]",
                        group=info.name,
                        size=info.bytes * (stop - first) // info.samples,
                        place={"shard": info, "rows": range(first, stop)},
                        split=split,
                        state=f"{info.sha256} {info.index_sha256}",
                    )
                )
    return Listing(recordings)


def repeat_plan(index: DataIndex, listing: Listing, generator: SampleGenerator) -> JobPlan:
    """Return the plan that keeps splits and order, and what was noted of them."""
    plan = make_plan(listing, generator, val_share=0.0, seed=0, min_frames=2)
    return dataclasses.replace(plan, note=index.settings.get("note", ""))


def repeat_spec(index: DataIndex) -> DatasetSpec:
    """Return what all samples of a set have in common."""
    aggregations = {name: factor.aggregation for name, factor in index.factors.items()}
    return DatasetSpec(index.height, index.width, index.storage, actions=index.actions, factor_aggregations=aggregations)


def read_samples(index: DataIndex, recording: Recording) -> Iterator[Sample]:
    """Yield the samples of a recording, in order, all frames decoded.

    Raises:
        ValueError: One is damaged.
    """
    folder, info = Path(index.path), recording.place["shard"]
    shard = ShardReader(LocalFiles(folder), index, info)
    more = pq.read_table(folder / side_index_name(info.name), columns=["episode", "first"], use_threads=False).to_pylist()
    for row in recording.place["rows"]:
        frames = np.empty((shard.lengths[row], index.height, index.width, 3), dtype=np.uint8)
        shard.decode(row, list(range(len(frames))), frames, "pyav")
        labels = dict(shard.labels(row))
        yield Sample(
            key=shard.keys[row],
            source=shard.sources[row],
            frames=frames,
            times=shard.times(row),
            actions=labels.pop(ACTIONS, None),
            factors=labels,
            **more[row],
        )
