"""Traversal: predictions as a continuous latent moves along the directions in which it varies most."""

from __future__ import annotations

from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import ClipSample
from lam.viz.base import Visualization
from lam.viz.canvas import CELL, GAP, caption, enlarge, hstack, pad, png, signed_difference, vstack

STEPS = (-2, -1, 0, 1, 2)
"""Standard deviations from the mean."""


class TraversalVisualization(Visualization):
    """Draw one step from the same start frames with z at -2 to 2 standard deviations along its principal directions.

    Of continuous latents that vary only. The L tokens of a transition are joined to one vector. To the right of each row
    is the effect of the direction: the signed difference of both ends of the row, gray where there is none.

    Args:
        num_directions: Directions shown, at most; largest variance first.
        num_starts: Start frames.
        max_clips: Clips the directions come from, at most.
    """

    name: ClassVar[str] = "boards/traversal"

    def __init__(self, num_directions: int = 6, num_starts: int = 2, max_clips: int = 2048) -> None:
        super().__init__()
        self.num_directions = num_directions
        self.num_starts = num_starts
        self.max_clips = max_clips
        self.reset()

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_starts)

    @override
    def reset(self) -> None:
        self.sample = ClipSample(self.max_clips)

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        if observation.bottleneck_output.codes is None:
            self.sample.add(observation.clip.position, {"z": observation.bottleneck_output.z.float()})

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        _, values = self.sample.gather()
        clips = model.clip_buffer.clips(self.num_starts)
        if not values or clips is None:
            return None
        z = values["z"].flatten(0, 1)  # (n, L, A)
        mean, scaled, shares = principal_directions(z.flatten(1), self.num_directions)
        if not len(scaled):
            return None
        path = mean + torch.tensor(STEPS, dtype=z.dtype)[:, None] * scaled[:, None]  # (k, 5, L * A)
        path = path.flatten(0, 1).unflatten(1, z.shape[1:]).to(model.device)
        starts = clips.states[:, :1].to(model.device)
        with self.autocast():
            predicted = model.predict(
                starts.repeat_interleave(len(path), dim=0), path.repeat(len(starts), 1, 1)[:, None].to(starts.dtype)
            )
        after = model.encoder.to_image(predicted.to(starts.dtype))[:, 0].unflatten(0, (len(starts), len(scaled), len(STEPS)))
        first = enlarge(model.encoder.to_image(starts)[:, 0])
        images, ends = enlarge(after), enlarge(signed_difference(after[:, :, -1], after[:, :, 0], gain=1.0))
        width = first.shape[2]
        heads = [hstack(*(caption(text, width) for text in _headings())) for _ in first]
        rows = [hstack(caption("", CELL), *heads, gap=6 * GAP)]
        for k, share in enumerate(shares):
            parts = [hstack(first[s], *images[s, k], ends[s, k]) for s in range(len(first))]
            rows.append(hstack(caption(f"direction {k + 1}\n{100 * share:.0f} % of the variance", CELL), *parts, gap=6 * GAP))
        return png(pad(vstack(*rows)))


def _headings() -> list[str]:
    """Return the headings of the columns."""
    return ["start frame", *(f"{step:+d} sd" if step else "mean z" for step in STEPS), "+2 sd minus\n-2 sd"]


def principal_directions(z: Tensor, most: int) -> tuple[Tensor, Tensor, list[float]]:
    """Compute the mean (A,), principal directions (k, A) times standard deviations, and their shares of the variance.

    Each points to where its largest entry is positive. Directions without variance are left out.

    Args:
        z: Latents (n, A).
        most: Number of directions, at most.
    """
    centered = z.double() - z.double().mean(dim=0)
    variances, vectors = torch.linalg.eigh(centered.T @ centered / len(z))
    variances, vectors = variances.flip(0).clamp(min=0), vectors.flip(1).T
    kept = variances > 1e-9 * variances.sum()
    kept[most:] = False
    vectors = vectors[kept]
    vectors = vectors * vectors.gather(1, vectors.abs().argmax(dim=1, keepdim=True)).sign()
    scaled = variances[kept].sqrt()[:, None] * vectors
    return z.mean(dim=0), scaled.to(z.dtype), (variances[kept] / variances.sum()).tolist()
