"""The manifest of a benchmark: which worlds, clips and splits numbers are of, as one file with one hash.

Whoever made the same worlds has the same hash, so results can be compared without exchanging the data.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from lam.data.index import DataIndex
from lam.data.schema import INDEX_FILE, SPLITS, side_index_name


def make_manifest(root: Path) -> dict[str, Any]:
    """Describe every set in a folder of sets: settings of its generator, digest of its index, clips and pixels of each split.

    Args:
        root: A folder of folders of shards.

    Returns:
        The content of the file: ``worlds`` by the names of their folders, and the ``sha256`` of all that.

    Raises:
        FileNotFoundError: The folder holds no finished set.
    """
    folders = sorted(path.parent for path in root.glob(f"*/{INDEX_FILE}"))
    if not folders:
        raise FileNotFoundError(f"{root} has no folder of shards in it. Make worlds there with data_prep world.")
    worlds = {folder.name: _describe(DataIndex.load(folder)) for folder in folders}
    return {"worlds": worlds, "sha256": hash_lines([json.dumps(worlds, sort_keys=True)])}


def hash_clips(sources: Mapping[int, str]) -> str:
    """Hash which held-out clips a result is of, by position and source; pairs of clips are a function of these."""
    return hash_lines(f"{position}\t{sources[position]}" for position in sorted(sources))


def hash_lines(lines: Iterable[str]) -> str:
    """Return the SHA-256 of lines of text."""
    return hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest()


def _describe(index: DataIndex) -> dict[str, Any]:
    """Return what a set is made of."""
    import pyarrow.parquet as pq

    splits = {}
    for split in SPLITS:
        infos = index.splits[split]
        paths = [Path(index.path) / side_index_name(info.name) for info in infos]
        tables = [pq.ParquetFile(str(path)).read(["key", "source"], use_threads=False) for path in paths]
        clips = [(row["key"], row["source"]) for table in tables for row in table.to_pylist()]
        splits[split] = {
            "clips": len(clips),
            "sources": len({source for _, source in clips}),
            "keys_sha256": hash_lines(f"{key}\t{source}" for key, source in clips),
            "shards_sha256": hash_lines(info.sha256 for info in infos),
        }
    return {"settings": index.settings, "index": index.digest, "splits": splits}
