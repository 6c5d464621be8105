"""E11, planning on recorded episodes: which actions lead to the goal, as far as the world model knows."""

from __future__ import annotations

import time
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from lam.control.imagine import Imagination, goal_cost
from lam.control.planners import CEM, Chance, Planner, Problem, Stay
from lam.data.schema import ActionField
from lam.distributed import gather
from lam.evals.bank import Banked
from lam.evals.base import Evaluation, Observation, Results
from lam.noise import mix


class Planning(Evaluation):
    """Plans from the first state of held-out clips to their last, and compares with the actions that were recorded.

    Open loop, the protocol of arXiv 2601.05230 for DROID (table S1): the goal is a state, the cost the squared distance of the
    imagined last state to it. Keys: ``error``, the sum over the action's numbers of |sum of the plan - sum of the recorded
    actions| (their Delta xyz), ``ate``, root mean square distance between both paths along the steps, ``rpe``, the same between
    single steps; each also ``_stay`` (the mean action at every step), ``_chance`` (actions drawn as the recorded ones are
    spread) and ``_blind`` (planned through the controller that does not see the state). ``normalized`` is
    error / error_stay. Units are those of the recorded actions. Curve ``trace``: cost of the best candidate over the turns of
    the search, mean of all episodes, as a share of its first; ``plans_per_second`` on this process.

    Args:
        planner: The search.
        numbers: Which numbers of an action add up to a displacement; all whose steps are joined by their sum if not given.
        max_clips: Episodes, at most.
        at_once: Sequences that go through the model together.
    """

    name: ClassVar[str] = "planning"

    def __init__(
        self,
        planner: Planner | None = None,
        numbers: list[int] | None = None,
        max_clips: int = 256,
        at_once: int = 1024,
    ) -> None:
        super().__init__()
        self.planner = planner or CEM()
        self.numbers, self.max_clips, self.at_once = numbers, max_clips, at_once
        self.reset()

    def prepare(self, module: Any) -> None:
        """Asks for room in the bank."""
        module.bank.require(self.max_clips)

    def reset(self) -> None:
        """Nothing is kept here: the model empties the bank."""

    def observe(self, observation: Observation, module: Any) -> None:
        """Nothing is kept here: the model fills the bank."""

    def compute(self, module: Any) -> Results:
        """Plans this process's share of the episodes and gathers what was found."""
        clips = module.bank.clips(self.max_clips)
        if clips is None:
            return Results()
        numbers = self.numbers or additive(module.data.index.actions)
        planners = {"": self.planner, "_stay": Stay(), "_chance": Chance(), "_blind": self.planner}
        values: dict[str, list[Tensor]] = {}
        traces, seconds, planned = [], 0.0, 0
        for places in clips.share(max(1, self.at_once // 64)):
            episodes = clips.take(places, module.device)
            truth = episodes.labels["action"].to(episodes.states.dtype)[..., numbers]
            values.setdefault("position", []).append(episodes.position.cpu())
            for suffix, planner in planners.items():
                start = time.perf_counter()
                with self.autocast():
                    plan = planner.plan(
                        problem(module, episodes, "blind" if suffix == "_blind" else "controller", self.at_once)
                    )
                if not suffix:
                    seconds, planned = seconds + time.perf_counter() - start, planned + len(places)
                    traces.append(plan.trace.double().cpu())
                for key, value in deviations(plan.actions[..., numbers], truth).items():
                    values.setdefault(key + suffix, []).append(value.double().cpu())
        columns = {key: torch.cat(value) for key, value in values.items()}
        own = columns.pop("position", torch.empty(0, dtype=torch.int64))
        names = sorted(f"{key}{suffix}" for key in ("error", "ate", "rpe") for suffix in planners)
        positions, *found = gather(own, *(columns.get(name, torch.empty(0, dtype=torch.float64)) for name in names))
        budget = f"@{module.labeled_clips}"
        results = Results(clips={name + budget: (positions, value) for name, value in zip(names, found, strict=True)})
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        if results.metrics["error_stay" + budget]:
            results.metrics["normalized" + budget] = results.metrics["error" + budget] / results.metrics["error_stay" + budget]
        if traces:
            trace = torch.cat(traces, dim=1)
            results.curves["trace"] = (trace / trace[:1].clamp_min(torch.finfo(trace.dtype).tiny)).mean(dim=1).tolist()
            results.curves["plans_per_second"] = planned / seconds
        return results


def problem(module: Any, episodes: Banked, controller: str, at_once: int) -> Problem:
    """From the first state of each episode to its last, through a controller by its name; bounds are those of the recording."""
    index, steps = module.data.index, episodes.z.shape[1]
    imagination = Imagination(module, partial(module.act, controller), steps, at_once)
    with torch.inference_mode(False):  # clones outside of it can take part in the gradients that a planner may need
        first, goal, past = episodes.states[:, :1].clone(), episodes.states[:, -1].clone(), episodes.z[:, :0].clone()
    low, high, mean, std = (
        torch.tensor(getattr(index.action_statistics, name), device=first.device) for name in ("low", "high", "mean", "std")
    )

    def cost(actions: Tensor) -> Tensor:
        return goal_cost(imagination(first, past, actions)[:, :, -1], goal)

    return Problem(cost, mix(episodes.position), steps, low, high, mean, std)


def additive(fields: list[ActionField]) -> list[int]:
    """The numbers of an action whose steps add up to a displacement.

    Raises:
        ValueError: There are none.
    """
    joins = [field.join for field in fields for _ in range(field.dim)]
    numbers = [number for number, join in enumerate(joins) if join == "sum"]
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
