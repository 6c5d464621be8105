"""Evaluations of pairs of clips: the effect of one clip's latents on another."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor
from typing_extensions import override

from lam.distributed import gather, gather_objects
from lam.evals.base import Evaluation
from lam.evals.common.split import few_sources
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import BufferedClips


class PairEvaluation(Evaluation):
    """Compare clips of the clip buffer with others of the clip buffer; each process computes a part.

    Args:
        num_clips: Clips compared, at most.
        batch: Clips at a time.
    """

    def __init__(self, num_clips: int = 128, batch: int = 32) -> None:
        super().__init__()
        self.num_clips = num_clips
        self.batch = batch

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def reset(self) -> None:
        pass  # the model empties the clip buffer itself

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        pass  # the model fills the clip buffer itself

    @abstractmethod
    def compare(self, model: WorldModel, clips: BufferedClips, indices: Tensor) -> dict[str, Tensor]:
        """Compute values (b, ...) of the clips at some indices (b,) of the clip buffer, by name, the same names every time."""

    def values(self, model: WorldModel) -> tuple[Tensor, dict[str, Tensor]]:
        """Return positions (n,) in ascending order and values (n, ...) of all clips; empty where ``too_few`` says why."""
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None or self.too_few(model):
            return torch.empty(0, dtype=torch.int64), {}
        rows: list[dict[str, Tensor]] = []
        with self.autocast():
            for indices in clips.local_indices(self.batch):
                found = self.compare(model, clips, indices)
                rows.append(
                    {"position": clips.position[indices], **{name: value.double().cpu() for name, value in found.items()}}
                )
        own = {name: torch.cat([row[name] for row in rows]) for name in rows[0]} if rows else {}
        position, *columns = gather(own.pop("position", torch.empty(0, dtype=torch.int64)), *own.values())
        return position, dict(zip(self.names(own), columns, strict=True))

    def too_few(self, model: WorldModel) -> str:
        """Say why there are no pairs; empty where there are."""
        clips = model.clip_buffer.clips(self.num_clips)
        return few_sources(None if clips is None else clips.source)

    @staticmethod
    def names(own: dict[str, Tensor]) -> list[str]:
        """Return the names of the values; a process without clips learns them from the others."""
        return next(names for names in gather_objects(list(own)) if names)
