"""The record that travels from shards to models and evaluations."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lam.data.schema import Aggregation, aggregate_steps


@dataclass
class Clip:
    """A batch of windows of video, with what was recorded beside them. Models read frames only.

    Attributes:
        frames: Pixels, (B, F, 3, H, W) uint8; of a feature cache states instead, (B, F, N, D) bfloat16.
        times: When each frame was taken, (B, F) float64, seconds from the start of the source.
        position: Place of each window in the order of its stream, (B,) int64. In training no two draws share one, so it
            keys all noise of a step; in validation it identifies the window, so gathered results can be made unique.
        key: Name of the sample that each window was cut from, unique in the data set, length B.
        source: The video or episode each sample came from, length B; splits and probes keep it together.
        actions: Recorded actions between frames, (B, F-1, U) float32, or None where none were recorded or asked for.
        factors: Ground-truth factors between frames by name, each (B, F-1, ...): float32 for continuous factors, int64 for
            discrete ones.
        aggregations: How several steps of each factor, and of each number of an ``action``, become one.
    """

    frames: Tensor
    times: Tensor
    position: Tensor
    key: list[str]
    source: list[str]
    actions: Tensor | None = None
    factors: dict[str, Tensor] = field(default_factory=dict)
    aggregations: dict[str, Aggregation | list[Aggregation]] = field(default_factory=dict)

    def __len__(self) -> int:
        """Number of windows B."""
        return len(self.frames)

    def to(self, device: torch.device | str) -> Clip:
        """Return the clip with its tensors on a device; times stay float64 unless the device has none (MPS)."""
        return dataclasses.replace(
            self,
            frames=self.frames.to(device, non_blocking=True),
            times=self.times.to(device, non_blocking=True),
            position=self.position.to(device, non_blocking=True),
            actions=None if self.actions is None else self.actions.to(device, non_blocking=True),
            factors={name: value.to(device, non_blocking=True) for name, value in self.factors.items()},
        )

    def pin_memory(self) -> Clip:
        """Return the clip in page-locked memory; the data loader calls this."""
        return dataclasses.replace(
            self, frames=self.frames.pin_memory(), times=self.times.pin_memory(), position=self.position.pin_memory()
        )

    def labels(self, frames_per_state: int) -> dict[str, Tensor]:
        """Return factors and actions between states instead of frames, each (B, T-1, ...).

        Several frames make one state in video encoders, so several recorded steps lie between two states; they become one as
        ``aggregations`` says. Step i leads from frame i to frame i + 1; the steps from the last frame of state t to the last
        frame of state t + 1 belong to transition t. Recorded actions appear under the name ``action``.
        """
        recorded = dict(self.factors) if self.actions is None else {**self.factors, "action": self.actions}
        if frames_per_state == 1:
            return recorded
        bounds = np.arange(frames_per_state - 1, self.times.shape[1], frames_per_state)
        return {name: _aggregate(value, bounds, self.aggregations[name]) for name, value in recorded.items()}


def _aggregate(steps: Tensor, bounds: np.ndarray, aggregation: Aggregation | list[Aggregation]) -> Tensor:
    """Aggregate the steps of each clip, (B, F-1, ...), to steps between frames at the bounds."""
    found = np.stack([aggregate_steps(each, bounds, aggregation) for each in steps.cpu().numpy()])
    return torch.from_numpy(found).to(steps.device)
