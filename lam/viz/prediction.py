"""Prediction: the state before, the true next state, and the predicted one."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import CARD_CLIPS, Visualization
from lam.viz.canvas import caption, enlarge, hstack, pad, png, signed_difference, vstack

COLUMNS = ("before", "came (true)", "predicted", "predicted - true, x2", "true - before, x2")


class PredictionVisualization(Visualization):
    """Draw the last transition of a few clips, one a row, each with its error and that of predicting no change.

    Differences are signed: gray is none, brighter is more, darker is less. Pictures are what the encoder makes of its states.

    Args:
        num_clips: Rows.
    """

    name: ClassVar[str] = "boards/prediction"

    def __init__(self, num_clips: int = 6) -> None:
        super().__init__()
        self.num_clips = num_clips

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(max(self.num_clips, CARD_CLIPS))

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        found = self._predict(model, self.num_clips)
        if found is None:
            return None
        before, came, guess, scores = found
        columns = torch.stack([before, came, guess, signed_difference(guess, came), signed_difference(came, before)], dim=1)
        rows = [list(row) for row in enlarge(columns, 144)]
        width = rows[0][0].shape[1]
        head = hstack(*(caption(text, width, bold=True) for text in COLUMNS))
        lines = [
            hstack(*row, caption(f"error {error:.2f}\nno change {copy:.2f}", width))
            for row, (error, copy) in zip(rows, scores, strict=True)
        ]
        return png(pad(vstack(head, *lines)))

    @override
    def draw_card(self, model: WorldModel) -> bytes | None:
        found = self._predict(model, CARD_CLIPS)
        if found is None:
            return None
        *pictures, scores = found
        rows = [list(row) for row in enlarge(torch.stack(pictures, dim=1))]
        width = rows[0][0].shape[1]
        lines = [hstack(*(caption(text, width, bold=True) for text in ("before", "came", "predicted")))]
        for row, (error, copy) in zip(rows, scores, strict=True):
            lines += [hstack(*row), caption(f"error {error:.2f}, of no change {copy:.2f}", 3 * width)]
        return png(pad(vstack(*lines)))

    def _predict(self, model: WorldModel, num_clips: int) -> tuple[Tensor, Tensor, Tensor, list[tuple[float, float]]] | None:
        """Predict the last transition of clips.

        Returns:
            Pictures (n, 3, h, w) of the state before, of the one that came and of the predicted one; of each clip the error
            and that of predicting no change. None where there is no clip.
        """
        clips = model.clip_buffer.clips(num_clips)
        if clips is None:
            return None
        clips = clips.take(slice(None), model.device)
        with self.autocast():
            predicted = model.predict(clips.states[:, :-1], clips.z)
            errors, copies = (model.error(guess, clips.states[:, 1:])[:, -1] for guess in (predicted, clips.states[:, :-1]))
        last = torch.stack([clips.states[:, -2], clips.states[:, -1], predicted[:, -1].to(clips.states.dtype)], dim=1)
        before, came, guess = model.encoder.to_image(last).unbind(dim=1)
        return before, came, guess, list(zip(errors.tolist(), copies.tolist(), strict=True))
