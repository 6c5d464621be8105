"""Near-duplicates: segments that look like another one at their start, middle and end are kept once.

Thumbnails of all samples are compared over the whole set, so a copy of a validation clip does not stay in training. What is
left out loses its row in the side index; its bytes stay in the tar, where this project's readers never look at them.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy.spatial import cKDTree

from data_prep.shards.tar_writer import write_side_index
from data_prep.shards.thumbnails import CELLS
from lam.data.schema import ShardInfo, Split, side_index_name


def leave_out_duplicates(
    out: Path, shards: dict[Split, list[ShardInfo]], below: float
) -> tuple[dict[Split, list[ShardInfo]], int]:
    """Take near-duplicates out of the side indices; validation samples are kept before training samples.

    Args:
        out: The folder.
        shards: Its shards.
        below: Two segments are near-duplicates if no cell of their thumbnails differs by this many levels of 255.

    Returns:
        The shards without them, and how many there were.
    """
    order: tuple[Split, ...] = ("val", "train")
    infos = [(split, info) for split in order for info in shards[split]]
    tables = [pq.read_table(out / side_index_name(info.name)) for _, info in infos]
    prints = [np.frombuffer(thumb.as_py(), np.uint8) for table in tables for thumb in table["thumbnail"]]
    extra = find_duplicates(np.stack(prints), below) if prints else np.zeros(0, dtype=bool)
    kept: dict[Split, list[ShardInfo]] = {split: [] for split in shards}
    start = found = 0
    for (split, info), table in zip(infos, tables, strict=True):
        keep = ~extra[start : start + len(table)]
        start += len(table)
        # a run that was stopped here may have taken some out already
        changed = info if keep.all() and len(table) == info.samples else _without(out, info, table.filter(pa.array(keep)))
        found += info.samples - changed.samples
        kept[split] += [changed] if changed.samples else []
    return kept, found


def find_duplicates(prints: np.ndarray, below: float) -> np.ndarray:
    """Return which rows are within ``below`` of an earlier row that is kept, everywhere.

    Args:
        prints: Thumbnails, (samples, 3 * 8 * 8) uint8.
        below: Largest difference that counts as equal, exclusive.

    Returns:
        (samples,) bool.
    """
    _, first = np.unique(prints, axis=0, return_index=True)
    first.sort()
    different = prints[first]
    quarters = different.reshape(len(different), -1, 2, CELLS // 2, 2, CELLS // 2).mean(axis=(3, 5)).reshape(len(different), -1)
    # where all cells are close their means are, so the tree over a few means finds every candidate
    pairs = cKDTree(quarters).query_pairs(below, p=np.inf, output_type="ndarray")
    differences = np.abs(different[pairs[:, 0]].astype(np.int16) - different[pairs[:, 1]]).max(axis=1, initial=0)
    pairs = np.sort(pairs[differences < below], axis=1)
    again = np.zeros(len(different), dtype=bool)
    for earlier, later in pairs[np.lexsort(pairs.T[::-1])]:
        again[later] |= not again[earlier]
    extra = np.ones(len(prints), dtype=bool)
    extra[first[~again]] = False
    return extra


def _without(out: Path, info: ShardInfo, table: pa.Table) -> ShardInfo:
    """Write a shard's new side index and bring what is known of the shard up to date."""
    digest = write_side_index(out / side_index_name(info.name), table)
    lengths, counts = np.unique(table["frames"].to_numpy(), return_counts=True)
    return dataclasses.replace(
        info,
        samples=len(table),
        frames=int(lengths @ counts) if len(table) else 0,
        index_sha256=digest,
        lengths=tuple(lengths.tolist()),
        counts=tuple(counts.tolist()),
    )
