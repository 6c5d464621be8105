"""Validation clips that a model keeps, so that evaluations can compare several of them."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.data.clip import Clip
from lam.distributed import gather, gather_objects, rank, world_size
from lam.noise import splitmix64

_LABEL_PREFIX = "label/"


@dataclass
class BufferedClips:
    """The n clips of a clip buffer on one device, in an arbitrary order that their positions determine.

    Attributes:
        position: Position of each clip, (n,) int64.
        source: Source of each clip as ``source_ids`` gives it, (n,) int64.
        frames: Pixels, (n, F, 3, H, W) uint8; of a feature cache its states, (n, F, N, D).
        states: Encoded states, (n, T, N, D).
        z: Latents after the bottleneck, (n, T-1, L, A).
        z_drawn: Latents that pass the channel, (n, T-1, L, A): a draw from the posterior where there is one, elsewhere z.
        labels: Ground-truth factors of each transition by name, (n, T-1, ...).
    """

    position: Tensor
    source: Tensor
    frames: Tensor
    states: Tensor
    z: Tensor
    z_drawn: Tensor
    labels: dict[str, Tensor]

    def __len__(self) -> int:
        """Return the number of clips n."""
        return len(self.position)

    def take(self, indices: Tensor | slice, device: torch.device | str = "cpu") -> BufferedClips:
        """Copy the clips at some indices to a device."""
        tensors = {
            field.name: getattr(self, field.name)[indices].to(device)
            for field in dataclasses.fields(self)
            if field.name != "labels"
        }
        return BufferedClips(**tensors, labels={name: value[indices].to(device) for name, value in self.labels.items()})

    def cross_source_pairs(self, steps: int = 1) -> Tensor:
        """Pair each clip with one of another source: indices (n,) of the ``steps``-th such clip after it, in a ring.

        Raises:
            ValueError: All clips come from one source.
        """
        if len(torch.unique(self.source)) < 2:
            raise ValueError("Clips of a single source have no partners of another source.")
        n = len(self)
        ahead = (torch.arange(n)[:, None] + torch.arange(1, n)) % n  # (n, n-1), nearest first
        other = self.source[ahead] != self.source[:, None]
        nth = (other.cumsum(dim=1) - 1) % other.sum(dim=1, keepdim=True) == (steps - 1) % other.sum(dim=1, keepdim=True)
        return ahead.gather(1, (other & nth).int().argmax(dim=1, keepdim=True))[:, 0]

    def local_indices(self, batch_size: int) -> Iterator[Tensor]:
        """Yield the indices that this process deals with, in batches; all processes together cover all clips once."""
        yield from torch.arange(rank(), len(self), world_size()).split(batch_size)


class ClipBuffer:
    """Collects clips in a validation pass, as many as the most demanding evaluation asks for.

    The choice of clips is a function of their positions alone, and the first of them are those of a smaller buffer, so all
    runs of a table, whatever their number of processes, compare the same ones. Held on the CPU of every process: n clips'
    frames, states and latents.
    """

    def __init__(self) -> None:
        self._max_clips = 0
        self.reset()

    def require(self, num_clips: int) -> None:
        """Make room for a number of clips; evaluations call it before the first pass."""
        self._max_clips = max(self._max_clips, num_clips)
        self.reset()

    def reset(self) -> None:
        """Drop the collected clips, when a validation pass starts."""
        self._sample = ClipSample(self._max_clips)
        self._clips: BufferedClips | None = None

    def add(self, clip: Clip, states: Tensor, z: Tensor, z_drawn: Tensor, labels: dict[str, Tensor]) -> None:
        """Add a validation batch.

        Args:
            clip: The batch.
            states: Encoded states, (B, T, N, D).
            z: Latents after the bottleneck, (B, T-1, L, A).
            z_drawn: Latents that pass the channel, (B, T-1, L, A).
            labels: Ground-truth factors by name, (B, T-1, ...) each.
        """
        if not self._max_clips:
            return
        values = {"source": source_ids(clip.source), "frames": clip.frames, "states": states, "z": z, "z_drawn": z_drawn}
        self._sample.add(clip.position, values | {_LABEL_PREFIX + name: value for name, value in labels.items()})

    def clips(self, num_clips: int) -> BufferedClips | None:
        """Return the first ``num_clips`` clips of all processes, the same on each; None where there are none.

        Must be called on all processes.
        """
        if self._clips is None:
            position, values = self._sample.gather()
            if not len(position):
                return None
            labels = {
                name.removeprefix(_LABEL_PREFIX): values.pop(name) for name in list(values) if name.startswith(_LABEL_PREFIX)
            }
            self._clips = BufferedClips(position=position, **values, labels=labels).take(hashed_order(position))
        return self._clips.take(slice(num_clips))


class ClipSample:
    """Keeps small tensors of clips on the CPU; beyond a bound, those of the clips whose hashed position is smallest.

    The clips kept are a function of their positions alone, so neither the order in which they come nor the number of
    processes matters, and the runs of a table keep the same ones.

    Args:
        max_clips: Clips kept in all; None keeps every clip.
    """

    def __init__(self, max_clips: int | None = None) -> None:
        self.max_clips = max_clips
        self._rows: list[dict[str, Tensor]] = []

    def add(self, position: Tensor, values: dict[str, Tensor]) -> None:
        """Add clips at positions (B,) with values (B, ...), the same names every time."""
        row = {name: value.detach().cpu() for name, value in {**values, "position": position}.items()}
        self._rows.append(row)
        if self.max_clips is not None and sum(len(row["position"]) for row in self._rows) > 2 * self.max_clips:
            self._rows = [self._bound(self._join())]

    def gather(self) -> tuple[Tensor, dict[str, Tensor]]:
        """Gather the kept clips of all processes: positions (n,) in ascending order and values (n, ...); empty without any.

        Raises:
            ValueError: Clips of one process have other values than those of another.
        """
        own = self._bound(self._join()) if self._rows else {}
        names: list[str] = next((names for names in gather_objects(sorted(own)) if names), [])
        empty = torch.empty(0, dtype=torch.int64)
        if not names:
            return empty, {}
        if own and sorted(own) != names:
            raise ValueError(
                f"One process saw {sorted(own)}, another {names}. All validation clips must have the same factors."
            )
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
        """Concatenate all batches."""
        names = sorted(self._rows[0])
        for row in self._rows:
            if sorted(row) != names:
                raise ValueError(
                    f"One batch has {names}, another {sorted(row)}. All validation clips must have the same factors."
                )
        return {name: torch.cat([row[name] for row in self._rows]) for name in names}

    def _bound(self, row: dict[str, Tensor]) -> dict[str, Tensor]:
        """Select the clips that are kept, ordered by position."""
        if self.max_clips is None or len(row["position"]) <= self.max_clips:
            return row
        kept = hashed_order(row["position"])[: self.max_clips].sort().values
        return {name: value[kept] for name, value in row.items()}


def hashed_order(numbers: Tensor) -> Tensor:
    """Order distinct numbers (n,) by their hashes: indices (n,) in an arbitrary order that the numbers alone determine."""
    return splitmix64(numbers).argsort()


def source_ids(sources: list[str]) -> Tensor:
    """Hash the name of each source to an integer, (B,) int64, the same on every machine."""
    digests = (hashlib.blake2b(source.encode(), digest_size=8).digest() for source in sources)
    return torch.tensor([int.from_bytes(digest, "little", signed=True) for digest in digests], dtype=torch.int64)
