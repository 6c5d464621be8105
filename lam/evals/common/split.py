"""Split of clips into those that an evaluation fits on and those that it tests on, by video or episode."""

from __future__ import annotations

import torch
from torch import Tensor

from lam.metrics.mlp import LabelSplit
from lam.models.clip_buffer import hashed_order

HOLD_BACK = 4
"""Every fourth clip for fitting is held back to choose settings."""


def fit_half(sources: Tensor) -> Tensor:
    """Choose the clips for fitting, (n,) bool; the others are for testing, and no source is on both sides.

    The sources, sorted by the hash of their name, go to the two sides in turn.

    Args:
        sources: Source of each clip as ``source_ids`` gives it, (n,).
    """
    index: Tensor = torch.unique(sources, return_inverse=True)[1]
    return index % 2 == 0


def fit_values(domain: Tensor) -> Tensor:
    """Choose the clips, (n,) bool, of bodies, cameras or scenes to fit on; the others are for testing transfer.

    The values that occur go to the two sides in turn.

    Args:
        domain: Body, camera or scene that each clip shows, (n,) int64.
    """
    index: Tensor = torch.unique(domain, return_inverse=True)[1]
    return index % 2 == 0


class Split:
    """Transitions of n clips for fitting and for testing; the index of one is clip * (T-1) + transition.

    Attributes:
        test_clips: Clips for testing, ascending.
        test: Indices of their transitions, clip by clip.
        order: Indices of the transitions for fitting, in the order in which they are labeled: one of every clip before a
            second one of any, clips in an arbitrary order that their positions fix.
        num_clips: Number of clips for fitting.

    Args:
        positions: Position of each clip, (n,).
        fit: Clips for fitting, (n,) bool.
        test: Clips for testing, (n,) bool.
        transitions: Transitions of a clip, T-1.
    """

    def __init__(self, positions: Tensor, fit: Tensor, test: Tensor, transitions: int) -> None:
        clips = fit.nonzero()[:, 0]
        clips = clips[hashed_order(positions[clips])]
        turn = torch.arange(len(clips))
        passes = [clips * transitions + (turn + p) % transitions for p in range(transitions)]
        self.order = torch.cat(passes)
        self.num_clips = len(clips)
        self.test_clips = test.nonzero()[:, 0]
        self.test = (self.test_clips[:, None] * transitions + torch.arange(transitions)).flatten()

    def labels(self, budget: int | None = None) -> LabelSplit:
        """Return the first labels, or all, those of every fourth clip held back."""
        order = self.order[:budget]
        held = torch.arange(len(order)) % self.num_clips % HOLD_BACK == HOLD_BACK - 1
        return LabelSplit(order[~held], order[held])


def few_sources(sources: Tensor | None, needed: int = 2) -> str:
    """Say that clips are of too few sources; empty where they are of enough.

    Args:
        sources: Source of each clip, (n,); None where there is no clip.
        needed: Sources that a measurement needs.
    """
    found = 0 if sources is None else len(torch.unique(sources))
    return "" if found >= needed else f"needs held-out clips of {needed} sources, has {found}"


def too_few_to_fit(sources: Tensor, split: Split) -> str:
    """Say that nothing can be fitted on one half of the sources and tested on the other; empty where it can.

    Args:
        sources: Source of each clip, (n,).
        split: How the clips are split.
    """
    if split.num_clips >= HOLD_BACK and len(split.test):
        return ""
    return few_sources(sources) or f"needs {HOLD_BACK} held-out clips to fit on, has {split.num_clips}"
