"""Options of preparation, the same for every source."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from lam.data.schema import Storage


@dataclass(frozen=True)
class PreparationOptions:
    """Options of how recordings become samples.

    Args:
        size: Height and width of the frames, pixels.
        fps: Frames a second to keep, each with its exact time; every recorded frame if not given. A frame is never repeated,
            so a slower source keeps its own rate. Actions between kept frames are joined as their fields say: displacements
            add up, of absolute targets the last counts, rates are averaged.
        fit: How a frame becomes a square, its aspect kept: crop (shorter side to size, middle of the longer side) or pad
            (longer side to size, black bars).
        cuts: Whether to split at scene cuts; no sample crosses one.
        max_seconds: Longest sample; longer shots are cut into several.
        min_frames: Samples with fewer frames are left out.
        static_below: Samples are left out in which no cell of an 8 x 8 grid changes its brightness by this many of 255 levels
            from one frame to the next; 0 keeps all.
        duplicates_below: Of samples whose first, middle and last frame differ by less than this many levels in every cell,
            one is kept, over the whole set; 0 keeps all.
    """

    size: int = 64
    fps: float | None = None
    fit: Literal["crop", "pad"] = "crop"
    cuts: bool = False
    max_seconds: float = 10.0
    min_frames: int = 8
    static_below: float = 0.0
    duplicates_below: float = 0.0

    def __post_init__(self) -> None:
        """Check the values."""
        if self.size < 8 or self.min_frames < 2 or not 0 < self.max_seconds < math.inf:
            raise ValueError(
                f"--size is {self.size}, expected 8 or more; --min_frames is {self.min_frames}, expected 2 or more; "
                f"--max_seconds is {self.max_seconds}, expected above 0."
            )
        if self.fps is not None and not 0 < self.fps < math.inf:
            raise ValueError(f"--fps is {self.fps}, expected above 0.")
        if self.fps is not None and self.min_frames > max(round(self.max_seconds * self.fps), 1):
            raise ValueError(
                f"--min_frames {self.min_frames} is more than a sample can have: --max_seconds {self.max_seconds} x --fps "
                f"{self.fps}. Lower it or raise one of them."
            )


@dataclass(frozen=True)
class OutputOptions:
    """Options of how the set is split and stored.

    Args:
        val_share: Share of the sources that go to validation, by their size in bytes, at least one; a source or episode is
            never parted.
        seed: Chooses which sources.
        storage: How to store frames: jpeg (packed rows: a window of a few small frames decodes several times faster) or
            mp4 (key frame every 8 frames: several times smaller). If not given jpeg up to 128 pixels, else mp4.
        shard_megabytes: A shard is closed when it has become this large.
    """

    val_share: float = 0.1
    seed: int = 0
    storage: Storage | None = None
    shard_megabytes: float = 256.0
