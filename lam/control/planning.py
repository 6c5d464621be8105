"""E11, planning on recorded episodes: which actions lead to the goal, as far as the world model knows."""

from __future__ import annotations

import time
from typing import Any, ClassVar

import torch
from torch import Tensor

from lam.control.policies import Policy, Search, alternatives, beginning, policies
from lam.data.schema import ActionField
from lam.distributed import gather
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation
from lam.models.clip_buffer import BufferedClips
from lam.noise import splitmix64
from lam.runs.columns import Column


class Planning(Evaluation):
    """Plans from the first state of held-out clips to their last, and compares with the actions that were recorded.

    Open loop, the protocol of arXiv 2601.05230 for DROID (table S1): the goal is a state, the cost the squared distance of the
    imagined last state to it. Keys: ``error``, the sum over the action's numbers of |sum of the plan - sum of the recorded
    actions| (their Delta xyz), ``ate``, root mean square distance between both paths along the steps, ``rpe``, the same between
    single steps. Each also for bounds: ``_stay``, the mean action at every step, ``_chance``, actions drawn as the recorded
    ones are spread, ``_clone``, behavior cloning on the same labels; and, if asked for, for other searches: ``_latent`` among
    latents of the prior, ``_blind`` through the controller that does not see the state, ``_shuffled`` with each candidate
    at the cost of another, so that it cannot do better than staying. ``normalized`` is error / error_stay. Units are those
    of the recorded actions. Curve ``trace``: cost of the best candidate over the turns of the search, mean of all episodes, as
    a share of its first; ``plans_per_second`` on this process.

    Args:
        search: How plans are looked for.
        numbers: Which numbers of an action add up to a displacement; all whose steps are joined by their sum if not given.
        max_clips: Episodes, at most.
        at_a_time: Episodes planned together.
        alternatives: Episodes, the first of those, that are searched in these other ways too; each costs as much as a plan.
    """

    name: ClassVar[str] = "planning"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "normalized@{labels}",
            "planning error",
            digits=2,
            better=-1,
            explanation="of planned displacements, as a share of the error of staying (the mean action at every step)",
            order=720,
            matched="too",
        ),
        Column(
            "error@{labels}",
            "planning error",
            better=-1,
            explanation="a plan is searched for toward the last state of a held-out clip; |sum of its actions - sum of the "
            "recorded ones|, added over the numbers of an action, in recorded units",
            order=200,
            table="control",
            brief=True,
        ),
        Column(
            "error_blind@{labels}",
            "planning, blind",
            explanation="through the controller that does not see the state; this and the next two are over fewer episodes",
            order=210,
            table="control",
        ),
        Column(
            "error_shuffled@{labels}",
            "planning, shuffled",
            explanation="with each candidate at the cost of another, so no better than staying",
            order=220,
            table="control",
        ),
        Column(
            "error_latent@{labels}",
            "planning, in latents",
            better=-1,
            explanation="planned over latents of the prior, without a controller, and read back as actions by the action "
            "decoder",
            order=230,
            table="control",
        ),
        Column(
            "ate@{labels}",
            "ATE",
            better=-1,
            explanation="root mean square distance between the planned and the recorded path",
            order=250,
            table="control",
        ),
        Column(
            "rpe@{labels}",
            "RPE",
            better=-1,
            explanation="the same between their single steps",
            order=260,
            table="control",
        ),
    )

    def __init__(
        self,
        search: Search | None = None,
        numbers: list[int] | None = None,
        max_clips: int = 256,
        at_a_time: int = 16,
        alternatives: int = 0,
    ) -> None:
        super().__init__()
        self.search = search or Search()
        self.numbers, self.max_clips, self.at_a_time, self.alternatives = numbers, max_clips, at_a_time, alternatives
        self.reset()

    def prepare(self, module: Any) -> None:
        """Asks for room in the clip buffer."""
        module.clip_buffer.require(self.max_clips)

    def reset(self) -> None:
        """Nothing is kept here: the model empties the clip buffer."""

    def observe(self, observation: Observation, module: Any) -> None:
        """Nothing is kept here: the model fills the clip buffer."""

    def compute(self, module: Any) -> Results:
        """Plans this process's share of the episodes and gathers what was found."""
        clips = module.clip_buffer.clips(self.max_clips)
        if clips is None:
            return Results()
        results, budget = Results(), f"@{module.labeled_clips}"
        self._plan(module, clips, policies(module, self.search), results)
        if self.alternatives:
            self._plan(module, clips.take(slice(self.alternatives)), alternatives(module, self.search), results)
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        if results.metrics["error_stay" + budget]:
            results.metrics["normalized" + budget] = results.metrics["error" + budget] / results.metrics["error_stay" + budget]
        return results

    def _plan(self, module: Any, clips: BufferedClips, ways: dict[str, Policy], results: Results) -> None:
        """Plans clips in some ways and adds what was found to the results."""
        numbers = self.numbers or additive(module.data.index.actions)
        values: dict[str, list[Tensor]] = {}
        traces, seconds, planned = [], 0.0, 0
        for places in clips.local_indices(self.at_a_time):
            episodes = clips.take(places, module.device)
            truth = episodes.labels["action"].to(episodes.states.dtype)[..., numbers]
            values.setdefault("position", []).append(episodes.position.cpu())
            start = beginning(module.data.index, len(episodes), truth.shape[1]).to(module.device)
            for suffix, way in ways.items():
                began = time.perf_counter()
                with self.autocast():
                    plan = way(episodes.states[:, 0], episodes.states[:, -1], splitmix64(episodes.position), start)
                if not suffix:
                    seconds, planned = seconds + time.perf_counter() - began, planned + len(places)
                    traces.append(plan.trace.double().cpu())
                for key, value in deviations(plan.actions[..., numbers], truth).items():
                    values.setdefault(key + suffix, []).append(value.double().cpu())
        columns = {key: torch.cat(value) for key, value in values.items()}
        own = columns.pop("position", torch.empty(0, dtype=torch.int64))
        names = sorted(f"{key}{suffix}" for key in ("error", "ate", "rpe") for suffix in ways)
        positions, *found = gather(own, *(columns.get(name, torch.empty(0, dtype=torch.float64)) for name in names))
        budget = f"@{module.labeled_clips}"
        results.clips |= {name + budget: (positions, value) for name, value in zip(names, found, strict=True)}
        if traces:
            trace = torch.cat(traces, dim=1)
            results.curves["trace"] = (trace / trace[:1].clamp_min(torch.finfo(trace.dtype).tiny)).mean(dim=1).tolist()
            results.curves["plans_per_second"] = planned / seconds


def additive(fields: list[ActionField]) -> list[int]:
    """The numbers of an action whose steps add up to a displacement.

    Raises:
        ValueError: There are none.
    """
    aggregations = [field.aggregation for field in fields for _ in range(field.dim)]
    numbers = [number for number, aggregation in enumerate(aggregations) if aggregation == "sum"]
    if not numbers:
        raise ValueError(
            f"None of the recorded numbers {[field.name for field in fields]} adds up over steps, so there is no displacement. "
            "Set the evaluation's numbers."
        )
    return numbers


def deviations(plan: Tensor, truth: Tensor) -> dict[str, Tensor]:
    """How far planned steps (E, H, n) are from those that were taken: error, ate and rpe of each episode, (E,)."""
    path = (plan - truth).cumsum(dim=1)
    return {
        "error": path[:, -1].abs().sum(dim=-1),
        "ate": path.square().sum(dim=-1).mean(dim=-1).sqrt(),
        "rpe": (plan - truth).square().sum(dim=-1).mean(dim=-1).sqrt(),
    }
