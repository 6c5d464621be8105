"""Rollout: clips, and predictions from their first state alone, animated."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import Visualization
from lam.viz.canvas import caption, enlarge, gif, hstack, pad, signed_difference, vstack

SECONDS = 0.4
"""Time for which each state is shown; the last one twice as long."""


class RolloutVisualization(Visualization):
    """Animate a few clips side by side: true, rolled out with inferred latents, and their difference.

    The prediction starts from the first true state and never sees another one. Below each clip is its error at the state
    that is shown.

    Args:
        num_clips: Clips side by side.
    """

    name: ClassVar[str] = "boards/rollout"
    suffix = "gif"

    def __init__(self, num_clips: int = 6) -> None:
        super().__init__()
        self.num_clips = num_clips

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None:
            return None
        clips = clips.take(slice(None), model.device)
        states, first = clips.states, clips.states[:, :1]
        with self.autocast():
            unrolled = torch.cat([first, model.rollout(first, clips.z)], dim=1)
            errors = model.error(unrolled[:, 1:], states[:, 1:])
        true, predicted = model.encoder.to_image(states), model.encoder.to_image(unrolled)
        rows = {
            "true": enlarge(true, 144),
            "predicted": enlarge(predicted, 144),
            "predicted - true, x2": enlarge(signed_difference(predicted, true), 144),
        }
        num_states, width = states.shape[1], rows["true"].shape[3]
        images = []
        for t in range(num_states):
            lines = [hstack(caption(text, 112), *row[:, t]) for text, row in rows.items()]
            texts = [f"error {error:.2f}" for error in errors[:, t - 1].tolist()] if t else ["given"] * len(clips)
            scores = [caption(text, width) for text in texts]
            lines.append(hstack(caption(f"state {t + 1} of {num_states}", 112), *scores))
            images.append(pad(vstack(*lines)))
        return gif(images, [SECONDS] * (num_states - 1) + [2 * SECONDS])
