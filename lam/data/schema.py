"""What a folder of shards looks like: the one thing that data preparation and training share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class DataIndex:
    """The summary ``index.json`` of a folder of shards (to be completed by the data part).

    Attributes:
        path: The folder.
        height: Height of the frames, pixels.
        width: Width of the frames, pixels.
        pixel_mean: Mean of the training frames' red, green and blue, in [0, 1].
        pixel_std: Their standard deviations.
        digest: Hash of index.json; a run records it and is stale when it changes.
    """

    path: Path
    height: int
    width: int
    pixel_mean: tuple[float, float, float]
    pixel_std: tuple[float, float, float]
    digest: str
