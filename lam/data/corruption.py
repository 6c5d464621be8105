"""Damage: data that are not what was written, and how much of it training may replace."""

from __future__ import annotations

import warnings
from collections.abc import Iterable
from dataclasses import dataclass

from lam.distributed import gather_objects

ATTEMPTS = 20
"""How many other windows are tried in place of a damaged one."""


@dataclass(frozen=True)
class Damage:
    """Something that is not what was written.

    Attributes:
        shard: Path of the shard.
        sample: Key of the sample; empty where the whole shard is meant.
        samples: How many samples are lost.
        reason: What was found.
    """

    shard: str
    sample: str
    samples: int
    reason: str

    def __str__(self) -> str:
        """All of it in a line."""
        return f"{self.shard}{self.sample and f', sample {self.sample}'}: {self.reason}. Copy it again or re-run data_prep."


class DamagedError(ValueError):
    """Some data cannot be used.

    Args:
        damage: What; a text where the error comes from another process.
    """

    def __init__(self, damage: Damage | str) -> None:
        super().__init__(str(damage))
        self.damage = damage


class DamageCount:
    """Counts damaged training samples, warns of each once, and stops when there are too many.

    Args:
        samples: Samples of a pass over the training data, or as many as have been seen where that is not known.
        share: Share of them that may be damaged.
    """

    def __init__(self, samples: int, share: float) -> None:
        self.samples, self._share = samples, share
        self._seen: dict[tuple[str, str], Damage] = {}

    @property
    def count(self) -> int:
        """Damaged samples so far, each counted once."""
        return sum(damage.samples for damage in self._seen.values())

    def add(self, damages: Iterable[Damage]) -> None:
        """Counts what this process has come across.

        Raises:
            DamagedError: There are too many.
        """
        for damage in damages:
            if (damage.shard, damage.sample) not in self._seen:
                warnings.warn(f"{damage} Another window takes its place.", stacklevel=2)
            self._add(damage)

    def join(self) -> None:
        """Counts what the other processes have come across too; all have to call it at the same batch.

        Raises:
            DamagedError: There are too many.
        """
        for damages in gather_objects(list(self._seen.values())):
            for damage in damages:
                self._add(damage)

    def _add(self, damage: Damage) -> None:
        self._seen.setdefault((damage.shard, damage.sample), damage)
        allowed = int(self._share * self.samples)
        if self.count > allowed:
            raise DamagedError(
                f"{self.count} of {self.samples} training samples are damaged, data.damaged_share {self._share} allows "
                f"{allowed}. The last one: {damage}"
            )
