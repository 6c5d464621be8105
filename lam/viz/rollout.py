"""Rollout: clips, and predictions from their first state alone, animated."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import CARD_CLIPS, Visualization
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
        model.clip_buffer.require(max(self.num_clips, CARD_CLIPS))

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        found = self._unroll(model, self.num_clips)
        if found is None:
            return None
        true, predicted, errors = found
        rows = {
            "true": enlarge(true, 144),
            "predicted": enlarge(predicted, 144),
            "predicted - true, x2": enlarge(signed_difference(predicted, true), 144),
        }
        num_states, width = true.shape[1], rows["true"].shape[3]
        images = []
        for t in range(num_states):
            lines = [hstack(caption(text, 112), *row[:, t]) for text, row in rows.items()]
            scores = [caption(text, width) for text in _scores(errors, t)]
            lines.append(hstack(caption(f"state {t + 1} of {num_states}", 112), *scores))
            images.append(pad(vstack(*lines)))
        return _animate(images)

    @override
    def draw_card(self, model: WorldModel) -> bytes | None:
        found = self._unroll(model, CARD_CLIPS)
        if found is None:
            return None
        true, predicted, errors = enlarge(found[0]), enlarge(found[1]), found[2]
        num_states, width = true.shape[1], true.shape[3]
        images = []
        for t in range(num_states):
            head = caption(f"true, state {t + 1} of {num_states}", 3 * width, bold=True)
            scores = hstack(*(caption(text, width) for text in _scores(errors, t)))
            lines = (hstack(*true[:, t]), caption("predicted", width, bold=True), hstack(*predicted[:, t]), scores)
            images.append(pad(vstack(head, *lines)))
        return _animate(images)

    def _unroll(self, model: WorldModel, num_clips: int) -> tuple[Tensor, Tensor, Tensor] | None:
        """Roll clips out from their first states.

        Returns:
            Pictures (n, T, 3, h, w) of true and predicted states, and the errors (n, T-1); None where there is no clip.
        """
        clips = model.clip_buffer.clips(num_clips)
        if clips is None:
            return None
        clips = clips.take(slice(None), model.device)
        states, first = clips.states, clips.states[:, :1]
        with self.autocast():
            unrolled = torch.cat([first, model.rollout(first, clips.z)], dim=1)
            errors = model.error(unrolled[:, 1:], states[:, 1:])
        return model.encoder.to_image(states), model.encoder.to_image(unrolled), errors


def _scores(errors: Tensor, t: int) -> list[str]:
    """Return what is said of each clip at state t, of errors (n, T-1)."""
    return [f"error {error:.2f}" for error in errors[:, t - 1].tolist()] if t else ["given"] * len(errors)


def _animate(images: list[np.ndarray]) -> bytes:
    """Show one image a state, the last one twice as long."""
    return gif(images, [SECONDS] * (len(images) - 1) + [2 * SECONDS])
