"""Corruption: data that are not what was written, and how much of it training may replace."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from lam.distributed import gather_objects

MAX_ATTEMPTS = 20
"""How many other windows are tried in place of a corrupt one."""


@dataclass(frozen=True)
class Corruption:
    """A sample or shard that is not what was written.

    Attributes:
        shard: Path of the shard.
        sample: Key of the sample; empty where the whole shard is meant.
        num_samples: Number of samples that are lost.
        reason: What is wrong with it.
    """

    shard: str
    sample: str
    num_samples: int
    reason: str

    def __str__(self) -> str:
        """All of it in a line."""
        return f"{self.shard}{self.sample and f', sample {self.sample}'}: {self.reason}. Copy it again or re-run data_prep."


class CorruptionError(ValueError):
    """Raised where corrupt data cannot be replaced.

    Args:
        corruption: What is corrupt; a text where the error comes from another process.
    """

    def __init__(self, corruption: Corruption | str) -> None:
        super().__init__(str(corruption))
        self.corruption = corruption


class CorruptionCounter:
    """Counts corrupt training samples, warns of each once, and stops when there are too many.

    Args:
        num_samples: Samples of a pass over the training data, or as many as have been seen where that is not known.
        share: Share of them that may be corrupt.
    """

    def __init__(self, num_samples: int, share: float) -> None:
        self.num_samples, self._share = num_samples, share
        self._seen: dict[tuple[str, str], Corruption] = {}

    @property
    def count(self) -> int:
        """Corrupt samples so far, each counted once."""
        return sum(each.num_samples for each in self._seen.values())

    def add(self, corruptions: Iterable[Corruption]) -> None:
        """Count what this process has come across.

        Raises:
            CorruptionError: There are too many.
        """
        for each in corruptions:
            if (each.shard, each.sample) not in self._seen:
                warnings.warn(f"{each} Another window takes its place.", stacklevel=2)
            self._add(each)

    def synchronize(self) -> None:
        """Count what the other processes have come across too; all have to call it at the same batch.

        Raises:
            CorruptionError: There are too many.
        """
        for corruptions in gather_objects(list(self._seen.values())):
            for each in corruptions:
                self._add(each)

    def _add(self, corruption: Corruption) -> None:
        self._seen.setdefault((corruption.shard, corruption.sample), corruption)
        allowed = int(self._share * self.num_samples)
        if self.count > allowed:
            raise CorruptionError(
                f"{self.count} of {self.num_samples} training samples are damaged, data.damaged_share {self._share} allows "
                f"{allowed}. The last one: {corruption}"
            )
