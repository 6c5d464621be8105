"""The transfer board: one clip's latents at work on another, after figure 7 of https://arxiv.org/abs/2601.05230."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.models.base import WorldModel
from lam.viz.base import Visualization
from lam.viz.canvas import GAP, caption, enlarge, flow, hstack, pad, png, spread, vstack

CELL = 96  # six strips of a pair take two lines, or one for clips of two states


@dataclass
class Strip:
    """States of n pairs, (n, T, N, D), what they are, and what is written below those of each pair."""

    title: str
    states: Tensor
    scores: list[str]


class TransferVisualization(Visualization):
    """Pairs of a source clip A and a target clip B: what A's latents do to B, and whether they can be read off again.

    Predictions start from the first true state and are unrolled with latents alone: B with those of A, with its own, with
    random ones, which are those of a third clip; and A with latents re-inferred from what A's made of B. Below each strip
    stand its errors, means over all transitions in units of the copy-last-state error; ``own`` is that of A's own latents.
    Where all clips come from one source there are no pairs.

    Args:
        num_pairs: Pairs shown, of different clips as far as there are enough.
        max_states: States shown of each clip, evenly spread.
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
            found = strips(model, (a.states, a.z), (b.states, b.z), c.z)
        shown = spread(a.states.shape[1], self.max_states)
        few = "" if len(shown) == a.states.shape[1] else f", states {', '.join(str(t) for t in shown)} of each clip"
        legend = f"Time runs to the right{few}. Numbers: error over the whole clip, 1 = error of copying the last state."
        pictures = [enlarge(model.encoder.to_image(strip.states[:, shown]), CELL) for strip in found]
        blocks = []
        for pair in range(len(a)):
            title = caption(f"Pair {pair + 1}", 6 * CELL, bold=True)
            strips_ = [_strip(strip, images[pair], strip.scores[pair]) for strip, images in zip(found, pictures, strict=True)]
            blocks.append(vstack(title, flow(strips_, gap=4 * GAP)))
        width = max(block.shape[1] for block in blocks)
        return png(pad(vstack(caption(legend, width), *blocks, gap=6 * GAP)))


def strips(model: WorldModel, source: tuple[Tensor, Tensor], target: tuple[Tensor, Tensor], random: Tensor) -> list[Strip]:
    """What is shown of pairs of states (n, T, N, D) and latents (n, T-1, L, A), with latents of third clips."""
    (a, z_a), (b, z_b) = source, target

    def unrolled(states: Tensor, z: Tensor) -> Tensor:
        return torch.cat([states[:, :1], model.rollout(states[:, :1], z)], dim=1)

    def errors(states: Tensor, truth: Tensor) -> list[float]:
        return model.error(states[:, 1:], truth[:, 1:]).mean(dim=1).tolist()

    transferred = unrolled(b, z_a)
    again = unrolled(a, model.apply_bottleneck(model.infer(transferred)).z)
    own, others = unrolled(b, z_b), unrolled(b, random)
    to_b, to_a = errors(transferred, b), errors(transferred, a)
    cycle, original = errors(again, a), errors(unrolled(a, z_a), a)
    still_a, still_b = (errors(x[:, :1].expand_as(x), x) for x in (a, b))
    return [
        Strip("A, source (true)", a, [f"no change {x:.2f}" for x in still_a]),
        Strip("B, target (true)", b, [f"no change {x:.2f}" for x in still_b]),
        Strip("B, A's latents", transferred, [f"to B {x:.2f}, to A {y:.2f}" for x, y in zip(to_b, to_a, strict=True)]),
        Strip("B, own latents", own, [f"to B {x:.2f}" for x in errors(own, b)]),
        Strip("B, random latents", others, [f"to B {x:.2f}" for x in errors(others, b)]),
        Strip(
            "A, re-inferred",
            again,
            [f"to A {x:.2f} (own {y:.2f})" for x, y in zip(cycle, original, strict=True)],
        ),
    ]


def _strip(strip: Strip, images: np.ndarray, score: str) -> np.ndarray:
    """Images (t, H, W, 3) side by side, what they are above, their score below."""
    row = hstack(*images, gap=1)
    return vstack(caption(strip.title, row.shape[1], bold=True), row, caption(score, row.shape[1]))
