"""The plan board: what a world model imagines under a plan and under the recorded actions, as moving pictures."""

from __future__ import annotations

from typing import Any, ClassVar

import lightning.pytorch as pl
import torch
from torch import Tensor

from lam.control.imagine import Imagination
from lam.control.planning import Planning
from lam.control.policies import beginning, bounds, controller, searched
from lam.models.clip_buffer import BufferedClips
from lam.noise import splitmix64
from lam.viz.base import Visualization, callbacks_of
from lam.viz.canvas import caption, enlarge, gif, hstack, pad, vstack
from lam.viz.rollout import SECONDS

LABEL = 176
"""Pixels for the names of rows."""


class PlanVisualization(Visualization):
    """An animated picture of a few held-out episodes side by side: the goal, what was recorded, and what is imagined.

    Imagined from the first state alone, through the controller: the actions that the evaluation ``Planning`` of the same run
    finds, and the recorded ones. Under each picture stands how far it is from the goal, in units of the copy-last-state
    error, and in the last line how far the planned action of this step is from the recorded one.

    Args:
        num_episodes: Episodes side by side.
    """

    name: ClassVar[str] = "boards/plan"
    suffix = "gif"

    def __init__(self, num_episodes: int = 6) -> None:
        super().__init__()
        self.num_episodes = num_episodes
        self.plannings: list[Planning] = []

    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        """Finds the evaluation."""
        super().setup(trainer, pl_module, stage)
        self.plannings = callbacks_of(trainer, Planning)

    def prepare(self, module: Any) -> None:
        """Asks for room in the clip buffer."""
        module.clip_buffer.require(self.num_episodes)

    def draw(self, module: Any) -> bytes | None:
        """One image a state; None where nothing is planned."""
        episodes = module.clip_buffer.clips(self.num_episodes)
        if episodes is None or not self.plannings:
            return None
        episodes = episodes.take(slice(None), module.device)
        with self.autocast():
            rows, apart = self.imagine(module, episodes)
            goal = episodes.states[:, -1:]
            distances = {name: module.error(states, goal.expand_as(states)).tolist() for name, states in rows.items()}
        pictures = {name: enlarge(module.encoder.to_image(states), 144) for name, states in rows.items()}
        goals = enlarge(module.encoder.to_image(goal), 144)[:, 0]
        num_states, width = episodes.states.shape[1], goals.shape[2]
        images = []
        for t in range(num_states):
            lines = [hstack(caption("goal", LABEL, bold=True), *goals)]
            for name, row in pictures.items():
                away = [caption(f"to go {distance[t]:.2f}", width) for distance in distances[name]]
                lines += [hstack(caption(name, LABEL, bold=True), *row[:, t]), hstack(caption("", LABEL), *away)]
            off = [f"{each:.2f} sd" for each in apart[:, t - 1].tolist()] if t else ["start"] * len(episodes)
            lines.append(hstack(caption("planned action is off by", LABEL), *(caption(text, width) for text in off)))
            images.append(pad(vstack(caption(f"state {t + 1} of {num_states}", LABEL), *lines)))
        return gif(images, [SECONDS] * (num_states - 1) + [3 * SECONDS])

    def imagine(self, module: Any, episodes: BufferedClips) -> tuple[dict[str, Tensor], Tensor]:
        """States (E, T, N, D) of each row by its name, and how far planned and recorded actions are apart, (E, T-1).

        Apart in standard deviations of the recorded actions, root mean square over the numbers of an action.
        """
        search, states = self.plannings[0].search, episodes.states
        recorded = episodes.labels["action"].to(states.dtype)
        start = beginning(module.data.index, *recorded.shape[:2]).to(states.device)
        plan = searched(module, controller(module), search)(
            states[:, 0], states[:, -1], splitmix64(episodes.position), start
        ).actions
        first, none = states[:, :1], episodes.z[:, :0]
        both = torch.stack([plan.to(states.dtype), recorded], dim=1)
        imagined = Imagination(module, controller(module), search.window, search.at_once)(first, none, both)
        planned, told = (torch.cat([first, each], dim=1) for each in imagined.unbind(dim=1))
        std = bounds(module.data.index)[2].to(states.device)
        apart = ((plan - recorded)[..., std > 0] / std[std > 0]).square().mean(dim=-1).sqrt()
        return {"recorded": states, "imagined: planned actions": planned, "imagined: recorded actions": told}, apart
