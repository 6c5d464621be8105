"""Scenes that could be spliced into a clip, and changes no larger than the clip's own that show one of them."""

from __future__ import annotations

import torch
from torch import Tensor

from lam.models.clip_buffer import BufferedClips

MAX_SCENES = 64
"""Candidates K at most: chance is 1/64, and no more than 6 bits can be told."""


def candidate_scenes(clips: BufferedClips, most: int = MAX_SCENES) -> Tensor:
    """Choose for each clip one clip of each of K other sources, indices (n, K); the first of them is spliced in.

    The first one's source is as likely as any other's, however many clips each has, so chance is 1/K: sources stand in a
    ring, and the r-th clip of a source begins r sources further on. Where every clip has a source of its own these are the K
    clips after it, as in ``BufferedClips.cross_source_pairs``.

    Args:
        clips: Clips of two sources at least.
        most: K at most; less where there are fewer other sources.
    """
    number: dict[int, int] = {}
    place = torch.tensor([number.setdefault(source, len(number)) for source in clips.source.tolist()])
    members = [(place == source).nonzero()[:, 0] for source in range(len(number))]
    others = len(number) - 1
    chosen = torch.empty(len(clips), min(most, others), dtype=torch.int64)
    for source, own in enumerate(members):
        for rank, clip in enumerate(own.tolist()):
            for k in range(chosen.shape[1]):
                found = members[(source + 1 + (rank + k) % others) % len(members)]
                chosen[clip, k] = found[rank % len(found)]
    return chosen


def faint_scenes(before: Tensor, after: Tensor, scenes: Tensor) -> Tensor:
    """Fade each scene into the state before a transition by as much as the clip itself changes there, (b, K, N, D).

    The root mean square of the change is that of the clip's own, so whatever a model does with small changes it does here.

    Args:
        before: States before, (b, N, D).
        after: The clip's own states after, (b, N, D).
        scenes: Candidates, (b, K, N, D).
    """
    way = scenes - before[:, None]
    own, whole = (x.square().mean(dim=(-2, -1), keepdim=True).sqrt() for x in ((after - before)[:, None], way))
    return before[:, None] + way * (own / whole.clamp(min=1e-12)).clamp(max=1)


def imposed_scenes(before: Tensor, after: Tensor, scenes: Tensor) -> Tensor:
    """Impose each scene on the clip's own change, (b, K, N, D).

    Every number changes as much, up where the scene is above the mean of all candidates and down where it is below. No rule
    by the size or the place of a change tells these from the clip's own, and no movement explains them.

    Args:
        before: States before, (b, N, D).
        after: The clip's own states after, (b, N, D).
        scenes: Candidates, (b, K, N, D).
    """
    direction = torch.where(scenes >= scenes.mean(dim=1, keepdim=True), 1.0, -1.0)
    return before[:, None] + direction * (after - before).abs()[:, None]
