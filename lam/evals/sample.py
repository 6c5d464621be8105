"""A sample of validation clips that is bounded and does not depend on the number of processes."""

from __future__ import annotations

import torch
from torch import Tensor

from lam.distributed import gather, gather_objects
from lam.noise import mix


class ClipSample:
    """Keeps small tensors of clips on the CPU; beyond a bound, of the clips whose scrambled position is smallest.

    Which clips are kept is a function of their positions alone, so neither the order in which they come nor the number of
    processes matters, and the runs of a table keep the same ones.

    Args:
        max_clips: Clips kept in all; None keeps every clip.
    """

    def __init__(self, max_clips: int | None = None) -> None:
        self.max_clips = max_clips
        self._rows: list[dict[str, Tensor]] = []

    def add(self, position: Tensor, values: dict[str, Tensor]) -> None:
        """Takes in clips at positions (B,) with values (B, ...), the same names every time."""
        row = {name: value.detach().cpu() for name, value in {**values, "position": position}.items()}
        self._rows.append(row)
        if self.max_clips is not None and sum(len(row["position"]) for row in self._rows) > 2 * self.max_clips:
            self._rows = [self._bound(self._join())]

    def gather(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Positions (n,) in ascending order and values (n, ...) of the kept clips of all processes; empty without any."""
        own = self._bound(self._join()) if self._rows else {}
        names: list[str] = next((names for names in gather_objects(sorted(own)) if names), [])
        empty = torch.empty(0, dtype=torch.int64)
        if not names:
            return empty, {}
        if own and sorted(own) != names:
            raise ValueError(f"One process saw {sorted(own)}, another {names}. All validation clips must have the same causes.")
        # positions first, so that no process sends clips that are not kept
        kept = self._bound({"position": gather(own.get("position", empty))[0]})["position"]
        if own:
            chosen = torch.isin(own["position"], kept)
            own = {name: value[chosen] for name, value in own.items()}
        position, *columns = gather(own.get("position", empty), *(own[name] for name in names if own))
        joined = dict(zip(names, columns, strict=True))
        del joined["position"]
        return position, joined

    def _join(self) -> dict[str, Tensor]:
        """All batches as one."""
        names = sorted(self._rows[0])
        for row in self._rows:
            if sorted(row) != names:
                raise ValueError(
                    f"One batch has {names}, another {sorted(row)}. All validation clips must have the same causes."
                )
        return {name: torch.cat([row[name] for row in self._rows]) for name in names}

    def _bound(self, row: dict[str, Tensor]) -> dict[str, Tensor]:
        """The clips that are kept, ordered by position."""
        if self.max_clips is None or len(row["position"]) <= self.max_clips:
            return row
        kept = shuffled(row["position"])[: self.max_clips].sort().values
        return {name: value[kept] for name, value in row.items()}


def shuffled(numbers: Tensor) -> Tensor:
    """Places (n,) of distinct numbers (n,) in an arbitrary order that is a function of the numbers alone."""
    return mix(numbers).argsort()
