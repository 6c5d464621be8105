"""Leakage: predictions across an artificial cut, after figure 6 of https://arxiv.org/abs/2601.05230."""

from __future__ import annotations

from typing import ClassVar

import torch
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import Visualization
from lam.viz.canvas import GAP, caption, enlarge, hstack, pad, png, vstack

COLUMNS = (
    "A before the cut",
    "A goes on (true)",
    "predicted without cut",
    "B comes instead (true)",
    "predicted across the cut",
)


class LeakageVisualization(Visualization):
    """Draw predictions of clips A that continue as clip B in mid-clip; latents that cannot copy the future fail there.

    Below each prediction are its error and that of predicting no change, both at the cut alone. Where all clips come from
    one source there is nothing to cut to.

    Args:
        num_pairs: Rows.
        num_clips: Clips from which pairs are taken.
    """

    name: ClassVar[str] = "boards/leakage"

    def __init__(self, num_pairs: int = 5, num_clips: int = 32) -> None:
        super().__init__()
        self.num_pairs = num_pairs
        self.num_clips = num_clips

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None or len(torch.unique(clips.source)) < 2:
            return None
        pairs = torch.arange(0, len(clips), 2)[: self.num_pairs]
        whole = clips.take(pairs, model.device).states
        other = clips.take(clips.cross_source_pairs()[pairs], model.device).states
        cut = whole.shape[1] // 2  # the first state that comes from the other clip
        pictures, scores = [whole[:, cut - 1]], []
        for states in (whole, torch.cat([whole[:, :cut], other[:, cut:]], dim=1)):
            with self.autocast():
                predicted = model.predict(states[:, :-1], model.apply_bottleneck(model.infer(states)).z)
                errors, copies = (model.error(x, states[:, 1:])[:, cut - 1] for x in (predicted, states[:, :-1]))
            pictures += [states[:, cut], predicted[:, cut - 1].to(states.dtype)]
            scores.append([f"error {e:.2f}\nno change {c:.2f}" for e, c in zip(errors.tolist(), copies.tolist(), strict=True)])
        images = enlarge(model.encoder.to_image(torch.stack(pictures, dim=1)), 144)
        width = images.shape[3]
        rows = [vstack(hstack(*(caption(text, width, bold=True) for text in COLUMNS), gap=2 * GAP))]
        for row, uncut, across in zip(images, *scores, strict=True):
            texts = ("", "", uncut, "", across)
            cells = [vstack(image, caption(text, width), gap=GAP // 2) for image, text in zip(row, texts, strict=True)]
            rows.append(hstack(*cells, gap=2 * GAP))
        return png(pad(vstack(*rows, gap=2 * GAP)))
