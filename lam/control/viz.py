"""Visualizations of control: what a world model imagines under a plan, and what a simulator shows where plans are acted out."""

from __future__ import annotations

from functools import partial
from typing import ClassVar

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor
from typing_extensions import override

from lam.control.base import ActionConditionedModel, as_action_conditioned
from lam.control.closed_loop import ClosedLoop
from lam.control.episodes import Outcome
from lam.control.imagination import Imagination
from lam.control.planning import Planning
from lam.control.policies import action_bounds, initial_actions, planner_policy
from lam.models.base import WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.noise import splitmix64
from lam.viz.base import Visualization, callbacks_of
from lam.viz.canvas import GAP, caption, enlarge, gif, hstack, pad, vstack
from lam.viz.rollout import SECONDS

LABEL = 176
"""Pixels for the names of rows."""
CELL = 144
"""Pixels of an image's side."""
SHOWN = {"": "acted: plans", "_clone": "acted: cloning", "_stay": "acted: mean action"}
"""Policies whose episodes are shown, by the suffix of their keys."""


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
        self._pages: list[np.ndarray] = []

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.plannings = callbacks_of(trainer, Planning)

    @override
    def prepare(self, model: WorldModel) -> None:
        model.clip_buffer.require(self.num_episodes)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        """Draw one image a state; None where nothing is planned."""
        episodes = model.clip_buffer.clips(self.num_episodes)
        if episodes is None or not self.plannings:
            return None
        episodes = episodes.take(slice(None), model.device)
        with self.autocast():
            rows, action_errors = self.imagine(as_action_conditioned(model), episodes)
            goal = episodes.states[:, -1:]
            distances = {name: model.error(states, goal.expand_as(states)).tolist() for name, states in rows.items()}
        images = {name: enlarge(model.encoder.to_image(states), CELL) for name, states in rows.items()}
        goals = enlarge(model.encoder.to_image(goal), CELL)[:, 0]
        num_states, width = episodes.states.shape[1], goals.shape[2]
        pages = []
        for t in range(num_states):
            lines = [hstack(caption("goal", LABEL, bold=True), *goals)]
            for name, row in images.items():
                away = [caption(f"to go {distance[t]:.2f}", width) for distance in distances[name]]
                lines += [hstack(caption(name, LABEL, bold=True), *row[:, t]), hstack(caption("", LABEL), *away)]
            off = [f"{error:.2f} sd" for error in action_errors[:, t - 1].tolist()] if t else ["start"] * len(episodes)
            lines.append(hstack(caption("planned action is off by", LABEL), *(caption(text, width) for text in off)))
            pages.append(pad(vstack(caption(f"state {t + 1} of {num_states}", LABEL), *lines)))
        self._pages = pages
        return _animate(pages)

    @override
    def draw_card(self, model: WorldModel) -> bytes | None:
        return _animate([_left_part(page) for page in self._pages])

    def imagine(self, model: ActionConditionedModel, episodes: BufferedClips) -> tuple[dict[str, Tensor], Tensor]:
        """Imagine planned and recorded actions.

        Returns:
            States (E, T, N, D) of each row by its name, and how far planned actions are from recorded ones, (E, T-1), root mean
            square over the numbers of an action in standard deviations of the recorded ones.
        """
        search, states, statistics = self.plannings[0].search, episodes.states, model.action_statistics
        controller = partial(model.run_controller, "controller")
        recorded = episodes.labels["action"].to(states.dtype)
        initial = initial_actions(statistics, *recorded.shape[:2]).to(states.device)
        policy = planner_policy(model, statistics, controller, search)
        plan = policy(states[:, 0], states[:, -1], splitmix64(episodes.position), initial).actions
        first, none = states[:, :1], episodes.z[:, :0]
        both = torch.stack([plan.to(states.dtype), recorded], dim=1)
        imagined = Imagination(model, controller, search.window, search.chunk_size)(first, none, both)
        under_plan, under_recorded = (torch.cat([first, each], dim=1) for each in imagined.unbind(dim=1))
        std = action_bounds(statistics)[2].to(states.device)
        errors = ((plan - recorded)[..., std > 0] / std[std > 0]).square().mean(dim=-1).sqrt()
        rows = {"recorded": states, "imagined: planned actions": under_plan, "imagined: recorded actions": under_recorded}
        return rows, errors


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
        self._pages: list[np.ndarray] = []

    @override
    def setup(self, trainer: pl.Trainer, pl_module: pl.LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.loops = callbacks_of(trainer, ClosedLoop)

    @override
    def draw(self, model: WorldModel) -> bytes | None:
        """Draw one image an action; None where nothing was acted out on this process."""
        filmed = {suffix: outcomes for loop in self.loops for suffix, outcomes in loop.filmed.items() if suffix in SHOWN}
        if not filmed:
            return None
        longest = max(len(outcome.frames) for outcomes in filmed.values() for outcome in outcomes)
        goals = enlarge(to_tensor([outcome.goal_image for outcome in filmed[""] if outcome.goal_image is not None]), CELL)
        pages = []
        for t in range(longest):
            lines = [hstack(caption("goal", LABEL, bold=True), *goals)]
            for suffix, outcomes in filmed.items():
                images = enlarge(to_tensor([outcome.frames[min(t, len(outcome.frames) - 1)] for outcome in outcomes]), CELL)
                lines.append(hstack(caption(SHOWN[suffix], LABEL, bold=True), *images))
                ends = [caption(_verdict(outcome, t), images.shape[2]) for outcome in outcomes]
                lines.append(hstack(caption("", LABEL), *ends))
            pages.append(pad(vstack(caption(f"action {t} of {longest - 1}", LABEL), *lines)))
        self._pages = pages
        return _animate(pages)

    @override
    def draw_card(self, model: WorldModel) -> bytes | None:
        return _animate([_left_part(page) for page in self._pages])


def _animate(pages: list[np.ndarray]) -> bytes:
    """Show one image a state, the last one three times as long."""
    return gif(pages, [SECONDS] * (len(pages) - 1) + [3 * SECONDS])


def _left_part(page: np.ndarray) -> np.ndarray:
    """Cut an image off after its first two episodes, which are as much as a card of TensorBoard can show."""
    return page[:, : 2 * GAP + LABEL + 2 * (GAP + CELL) + 2 * GAP]


def _verdict(outcome: Outcome, t: int) -> str:
    """Return the caption of an episode after t actions: empty before its end."""
    if t < len(outcome.frames) - 1:
        return ""
    return "reached" if outcome.success else f"nearest {outcome.distance:.1f}"


def to_tensor(images: list[np.ndarray]) -> Tensor:
    """Turn images (H, W, 3) uint8 into a tensor (n, 3, H, W) in [0, 1]."""
    return torch.from_numpy(np.stack(images)).movedim(-1, -3) / 255
