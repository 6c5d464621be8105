"""The bank: a bounded sample of validation clips with their states and latents, shared by evaluations that need several."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lam.distributed import rank, world_size
from lam.evals.base import Observation
from lam.evals.sample import ClipSample, shuffled
from lam.evals.split import source_ids

LABEL = "label/"


@dataclass
class Banked:
    """Clips of the bank, n of them, on one device, in an arbitrary order that their positions fix.

    Attributes:
        position: Position of each clip, (n,) int64.
        source: Source of each clip as ``source_ids`` gives it, (n,) int64.
        frames: Pixels, (n, F, 3, H, W) uint8; of a feature cache its states, (n, F, N, D).
        states: Encoded states, (n, T, N, D).
        z: Limited latents, (n, T-1, L, A).
        labels: Known causes of each transition by name, (n, T-1, ...).
    """

    position: Tensor
    source: Tensor
    frames: Tensor
    states: Tensor
    z: Tensor
    labels: dict[str, Tensor]

    def __len__(self) -> int:
        """Number of clips n."""
        return len(self.position)

    def take(self, places: Tensor | slice, device: torch.device | str = "cpu") -> Banked:
        """Some of the clips, on a device."""
        tensors = {
            field.name: getattr(self, field.name)[places].to(device)
            for field in dataclasses.fields(self)
            if field.name != "labels"
        }
        return Banked(**tensors, labels={name: value[places].to(device) for name, value in self.labels.items()})

    def partners(self, steps: int = 1) -> Tensor:
        """For each clip the place of one of another source, (n,): the ``steps``-th such clip after it, in a ring.

        Raises:
            ValueError: All clips come from one source.
        """
        if len(torch.unique(self.source)) < 2:
            raise ValueError("Clips of a single source have no partners.")
        n = len(self)
        ahead = (torch.arange(n)[:, None] + torch.arange(1, n)) % n  # (n, n-1), nearest first
        other = self.source[ahead] != self.source[:, None]
        nth = (other.cumsum(dim=1) - 1) % other.sum(dim=1, keepdim=True) == (steps - 1) % other.sum(dim=1, keepdim=True)
        return ahead.gather(1, (other & nth).int().argmax(dim=1, keepdim=True))[:, 0]

    def share(self, batch: int) -> Iterator[Tensor]:
        """Places that this process deals with, so many at a time; the shares of all processes cover all clips once."""
        return iter(torch.arange(rank(), len(self), world_size()).split(batch))


class Bank:
    """Collects clips in a validation pass, as many as the most demanding evaluation asks for.

    Which clips is a function of their positions alone, and the first of them are those of a smaller bank, so all runs of a
    table, whatever their number of processes, compare the same ones. Held on the CPU of every process: n clips' frames,
    states and latents.
    """

    def __init__(self) -> None:
        self._max_clips = 0
        self.reset()

    def require(self, num_clips: int) -> None:
        """Makes room; called by evaluations before the first pass."""
        self._max_clips = max(self._max_clips, num_clips)
        self.reset()

    def reset(self) -> None:
        """Forgets what was collected; called when a validation pass starts."""
        self._sample = ClipSample(self._max_clips)
        self._clips: Banked | None = None

    def add(self, observation: Observation, labels: dict[str, Tensor]) -> None:
        """Takes in a validation batch with its known causes, each (B, T-1, ...)."""
        if not self._max_clips:
            return
        values = {
            "source": source_ids(observation.clip.source),
            "frames": observation.clip.frames,
            "states": observation.states,
            "z": observation.limited.z,
        }
        self._sample.add(observation.clip.position, values | {LABEL + name: value for name, value in labels.items()})

    def clips(self, num_clips: int) -> Banked | None:
        """The first so many clips of all processes, the same on each; None where there are none. Call it on all processes."""
        if self._clips is None:
            position, values = self._sample.gather()
            if not len(position):
                return None
            labels = {name.removeprefix(LABEL): values.pop(name) for name in list(values) if name.startswith(LABEL)}
            self._clips = Banked(position=position, **values, labels=labels).take(shuffled(position))
        return self._clips.take(slice(num_clips))
