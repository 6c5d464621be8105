"""Which clips an evaluation fits on and which it tests on; no video or episode is on both sides."""

from __future__ import annotations

import torch
from torch import Tensor

from lam.metrics.mlp import LabelSplit
from lam.models.clip_buffer import hashed_order

HOLD_BACK = 4
"""Every fourth clip for fitting is held back to choose settings."""


def fit_half(sources: Tensor) -> Tensor:
    """Which clips, (n,) bool, are for fitting; the others are for testing, and no source is on both sides.

    The sources, sorted by the hash of their name, go to the two sides in turn.

    Args:
        sources: Source of each clip as ``source_ids`` gives it, (n,).
    """
    place: Tensor = torch.unique(sources, return_inverse=True)[1]
    return place % 2 == 0


def fit_values(domain: Tensor) -> Tensor:
    """Which clips, (n,) bool, show a body, camera or scene to fit on; the others show one to test transfer on.

    The values that occur go to the two sides in turn.

    Args:
        domain: Which body, camera or scene each clip shows, (n,) int64.
    """
    place: Tensor = torch.unique(domain, return_inverse=True)[1]
    return place % 2 == 0


class Split:
    """The transitions of n clips, for fitting and for testing; a place is clip * (T-1) + transition.

    Attributes:
        test_clips: Clips for testing, ascending.
        test: Places of their transitions, clip by clip.
        order: Places of the transitions for fitting, in the order in which they are labeled: one of every clip before a
            second one of any, clips in an arbitrary order that their positions fix.
        num_clips: Number of clips for fitting.

    Args:
        positions: Position of each clip, (n,).
        fit: Which clips are for fitting, (n,) bool.
        test: Which are for testing, (n,) bool.
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
        """The first labels, or all, those of every fourth clip held back."""
        order = self.order[:budget]
        held = torch.arange(len(order)) % self.num_clips % HOLD_BACK == HOLD_BACK - 1
        return LabelSplit(order[~held], order[held])
