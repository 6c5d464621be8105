"""Transfer: one clip's latents applied to another, after figure 7 of https://arxiv.org/abs/2601.05230."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import Visualization
from lam.viz.canvas import GAP, caption, enlarge, evenly_spaced, hstack, pad, png, vstack, wrap

CELL = 96  # six filmstrips of a pair take two lines, or one for clips of two states


@dataclass
class Filmstrip:
    """States of n pairs, (n, T, N, D), with a title and a text below those of each pair."""

    title: str
    states: Tensor
    scores: list[str]


class TransferVisualization(Visualization):
    """Draw pairs of a source clip A and a target clip B: B driven by A's latents, and A by those inferred again from that.

    Predictions start from the first true state and are rolled out with latents alone: B with those of A, with its own, with
    random ones, which are those of a third clip; and A with latents inferred again from B as A's drove it. Below each
    filmstrip are its errors, means over all transitions in units of the copy-last-state error; ``own`` is that of A's own
    latents.
    Where all clips come from one source there are no pairs.

    Args:
        num_pairs: Pairs shown, of different clips as far as there are enough.
        max_states: States shown of each clip, evenly spaced.
        num_clips: Clips from which pairs are taken.
    """

    name: ClassVar[str] = "boards/transfer"

    def __init__(self, num_pairs: int = 4, max_states: int = 5, num_clips: int = 32) -> None:
        super().__init__()
        self.num_pairs = num_pairs
        self.max_states = max_states
        self.num_clips = num_clips

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_clips)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        clips = model.clip_buffer.clips(self.num_clips)
        if clips is None or len(torch.unique(clips.source)) < 2:
            return None
        pairs = torch.arange(0, len(clips), 3)[: self.num_pairs]  # the next clip is the partner, the one after it the third
        a = clips.take(pairs, model.device)
        b = clips.take(clips.cross_source_pairs()[pairs], model.device)
        c = clips.take(clips.cross_source_pairs(2)[pairs], model.device)
        with self.autocast():
            found = filmstrips(model, (a.states, a.z), (b.states, b.z), c.z)
        shown = evenly_spaced(a.states.shape[1], self.max_states)
        few = "" if len(shown) == a.states.shape[1] else f", states {', '.join(str(t) for t in shown)} of each clip"
        legend = f"Time runs to the right{few}. Numbers: error over the whole clip, 1 = error of copying the last state."
        pictures = [enlarge(model.encoder.to_image(strip.states[:, shown]), CELL) for strip in found]
        blocks = []
        for pair in range(len(a)):
            title = caption(f"Pair {pair + 1}", 6 * CELL, bold=True)
            drawn = [
                _draw_filmstrip(strip, images[pair], strip.scores[pair]) for strip, images in zip(found, pictures, strict=True)
            ]
            blocks.append(vstack(title, wrap(drawn, gap=4 * GAP)))
        width = max(block.shape[1] for block in blocks)
        return png(pad(vstack(caption(legend, width), *blocks, gap=6 * GAP)))


def filmstrips(
    model: WorldModel, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], random: Tensor
) -> list[Filmstrip]:
    """Predict what is shown of pairs of states (n, T, N, D) and latents (n, T-1, L, A), with latents of third clips."""
    (a, z_a), (b, z_b) = source, target

    def rolled_out(states: Tensor, z: Tensor) -> Tensor:
        return torch.cat([states[:, :1], model.rollout(states[:, :1], z)], dim=1)

    def errors(states: Tensor, truth: Tensor) -> list[float]:
        found: list[float] = model.error(states[:, 1:], truth[:, 1:]).mean(dim=1).tolist()
        return found

    transferred = rolled_out(b, z_a)
    again = rolled_out(a, model.apply_bottleneck(model.infer(transferred)).z)
    own, others = rolled_out(b, z_b), rolled_out(b, random)
    to_b, to_a = errors(transferred, b), errors(transferred, a)
    cycle, original = errors(again, a), errors(rolled_out(a, z_a), a)
    still_a, still_b = (errors(x[:, :1].expand_as(x), x) for x in (a, b))
    return [
        Filmstrip("A, source (true)", a, [f"no change {x:.2f}" for x in still_a]),
        Filmstrip("B, target (true)", b, [f"no change {x:.2f}" for x in still_b]),
        Filmstrip("B, A's latents", transferred, [f"to B {x:.2f}, to A {y:.2f}" for x, y in zip(to_b, to_a, strict=True)]),
        Filmstrip("B, own latents", own, [f"to B {x:.2f}" for x in errors(own, b)]),
        Filmstrip("B, random latents", others, [f"to B {x:.2f}" for x in errors(others, b)]),
        Filmstrip(
            "A, re-inferred",
            again,
            [f"to A {x:.2f} (own {y:.2f})" for x, y in zip(cycle, original, strict=True)],
        ),
    ]


def _draw_filmstrip(strip: Filmstrip, images: np.ndarray, score: str) -> np.ndarray:
    """Lay images (t, H, W, 3) side by side, the title above, the score below."""
    row = hstack(*images, gap=1)
    return vstack(caption(strip.title, row.shape[1], bold=True), row, caption(score, row.shape[1]))
