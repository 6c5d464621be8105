"""The episode board: what a simulator showed while plans were acted out in it, as moving pictures."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor

from lam.control.closed_loop import ClosedLoop, Outcome
from lam.viz.base import Visualization, callbacks_of
from lam.viz.canvas import caption, enlarge, gif, hstack, pad, vstack
from lam.viz.rollout import SECONDS

LABEL = 176
"""Pixels for the names of rows."""
ROWS = {"": "acted: plans", "_clone": "acted: cloning", "_stay": "acted: mean action"}
"""Policies that are shown, by the suffix of their keys."""


class EpisodeVisualization(Visualization):
    """An animated picture of the first episodes of the evaluation ``ClosedLoop`` of the same run, side by side.

    The goal, and what the simulator showed under plans through the controller, under behavior cloning and under the mean
    action. Under each picture stands whether the goal was reached in the end, else the smallest distance on the way, where
    below 1 counts as reached.
    """

    name: ClassVar[str] = "boards/episodes"
    suffix = "gif"

    def __init__(self) -> None:
        super().__init__()
        self.loops: list[ClosedLoop] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the evaluation."""
        super().setup(trainer, pl_module, stage)
        self.loops = callbacks_of(trainer, ClosedLoop)

    def draw(self, module: Any) -> bytes | None:
        """One image a step; None where nothing was acted out on this process."""
        films = {suffix: outcomes for loop in self.loops for suffix, outcomes in loop.films.items() if suffix in ROWS}
        if not films:
            return None
        longest = max(len(outcome.film) for outcomes in films.values() for outcome in outcomes)
        goals = enlarge(picture([outcome.wanted for outcome in films[""] if outcome.wanted is not None]), 144)
        images = []
        for t in range(longest):
            lines = [hstack(caption("goal", LABEL, bold=True), *goals)]
            for suffix, outcomes in films.items():
                shown = enlarge(picture([outcome.film[min(t, len(outcome.film) - 1)] for outcome in outcomes]), 144)
                lines.append(hstack(caption(ROWS[suffix], LABEL, bold=True), *shown))
                ends = [caption(_end(outcome, t), shown.shape[2]) for outcome in outcomes]
                lines.append(hstack(caption("", LABEL), *ends))
            images.append(pad(vstack(caption(f"action {t} of {longest - 1}", LABEL), *lines)))
        return gif(images, [SECONDS] * (longest - 1) + [3 * SECONDS])


def _end(outcome: Outcome, t: int) -> str:
    """What is said under a picture: nothing before the end."""
    if t < len(outcome.film) - 1:
        return ""
    return "reached" if outcome.success else f"nearest {outcome.distance:.1f}"


def picture(seen: list[np.ndarray]) -> Tensor:
    """Pictures (n, 3, H, W) in [0, 1] of what was seen, (H, W, 3) uint8 each."""
    return torch.from_numpy(np.stack(seen)).movedim(-1, -3) / 255
