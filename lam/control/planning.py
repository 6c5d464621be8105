"""Planning on recorded episodes (open loop): which actions lead to the goal according to the world model."""

from __future__ import annotations

import time
from typing import ClassVar

import torch
from torch import Tensor
from typing_extensions import override

from lam.control.base import ActionConditionedModel, as_action_conditioned
from lam.control.policies import Policy, Search, ablations, initial_actions, policies
from lam.data.schema import ActionField
from lam.distributed import gather
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation, WorldModel
from lam.models.clip_buffer import BufferedClips
from lam.noise import splitmix64
from lam.runs.columns import Column


class Planning(Evaluation):
    """Plan from the first state of held-out clips to their last, and compare with the actions that were recorded.

    Open loop, the protocol of arXiv 2601.05230 for DROID (table S1): the goal is a state, the cost the squared distance of the
    imagined last state to it. Keys: ``error``, the sum over the action's numbers of |sum of the plan - sum of the recorded
    actions| (their Delta xyz), ``ate``, root mean square distance between both paths along the steps, ``rpe``, the same
    between single steps. Of absolute actions, which say where to be and not how far to go, the changes add up: from a common
    start their sums differ by as much as the last targets do. Each also for references: ``_stay``, the mean action at every
    step, ``_chance``, actions with the spread of the recorded ones, ``_clone``, behavior cloning on the same labels,
    ``_latent_clone``, the same in latents from clips without labels, where the heads' ``unlabeled_clips`` are set; and, if
    asked for, for ablations: ``_latent`` among latents of the prior, ``_blind`` through the controller that does not see the
    state, ``_shuffled`` with each candidate at the cost of another, so that it cannot do better than staying. ``normalized`` is
    error / error_stay. Units are those of the recorded actions. Curve ``trace``: cost of the best candidate after each
    iteration of the search, mean of all episodes, as a share of the first; ``plans_per_second`` on this process.

    Args:
        search: How plans are searched for.
        displacement_dims: Numbers of an action that add up to a displacement, or whose changes do; if not given all that
            are aggregated by their sum, or, where there are none, all that are targets or positions.
        max_clips: Episodes, at most.
        batch_size: Episodes planned together.
        ablation_clips: Episodes, the first of those, that are planned by the ablations too; each costs as much as a plan.
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
        displacement_dims: list[int] | None = None,
        max_clips: int = 256,
        batch_size: int = 16,
        ablation_clips: int = 0,
    ) -> None:
        super().__init__()
        self.search = search or Search()
        self.displacement_dims, self.max_clips = displacement_dims, max_clips
        self.batch_size, self.ablation_clips = batch_size, ablation_clips
        self.reset()

    @override
    def prepare(self, model: WorldModel) -> None:
        # before the heads are trained: these numbers of an action must have a path
        if self.ablation_clips and self.search.latent is not None:
            self.search.latent.check(model)
        self.dims = self.displacement_dims or displacement_dims(as_action_conditioned(model).action_fields)
        model.clip_buffer.require(self.max_clips)

    @override
    def reset(self) -> None:
        """Keep nothing here: the model empties the clip buffer."""

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        """Keep nothing here: the model fills the clip buffer."""

    @override
    def compute(self, model: WorldModel) -> Results:
        model = as_action_conditioned(model)
        clips = model.clip_buffer.clips(self.max_clips)
        if clips is None:
            return Results()
        results, budget = Results(), f"@{model.labeled_clips}"
        self._plan(model, clips, policies(model, self.search), results)
        if self.ablation_clips:
            self._plan(model, clips.take(slice(self.ablation_clips)), ablations(model, self.search), results)
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        if results.metrics["error_stay" + budget]:
            results.metrics["normalized" + budget] = results.metrics["error" + budget] / results.metrics["error_stay" + budget]
        return results

    def _plan(self, model: ActionConditionedModel, clips: BufferedClips, policies: dict[str, Policy], results: Results) -> None:
        """Plan this process's share of the clips by some policies, gather, and add to the results."""
        dims, absolute = self.dims, torch.tensor(is_absolute(model.action_fields))[self.dims]
        values: dict[str, list[Tensor]] = {}
        traces, seconds, planned = [], 0.0, 0
        for places in clips.local_indices(self.batch_size):
            episodes = clips.take(places, model.device)
            recorded = episodes.labels["action"].to(episodes.states.dtype)[..., dims]
            values.setdefault("position", []).append(episodes.position.cpu())
            initial = initial_actions(model.action_statistics, len(episodes), recorded.shape[1]).to(model.device)
            for suffix, policy in policies.items():
                began = time.perf_counter()
                with self.autocast():
                    plan = policy(episodes.states[:, 0], episodes.states[:, -1], splitmix64(episodes.position), initial)
                if not suffix:
                    seconds, planned = seconds + time.perf_counter() - began, planned + len(places)
                    traces.append(plan.trace.double().cpu())
                for key, value in deviations(plan.actions[..., dims], recorded, absolute.to(recorded.device)).items():
                    values.setdefault(key + suffix, []).append(value.double().cpu())
        columns = {key: torch.cat(value) for key, value in values.items()}
        own = columns.pop("position", torch.empty(0, dtype=torch.int64))
        names = sorted(f"{key}{suffix}" for key in ("error", "ate", "rpe") for suffix in policies)
        positions, *found = gather(own, *(columns.get(name, torch.empty(0, dtype=torch.float64)) for name in names))
        budget = f"@{model.labeled_clips}"
        results.clips |= {name + budget: (positions, value) for name, value in zip(names, found, strict=True)}
        if traces:
            trace = torch.cat(traces, dim=1)
            results.curves["trace"] = (trace / trace[:1].clamp_min(torch.finfo(trace.dtype).tiny)).mean(dim=1).tolist()
            results.curves["plans_per_second"] = planned / seconds


def displacement_dims(fields: list[ActionField]) -> list[int]:
    """Return the numbers of an action whose steps, or the changes from step to step, add up to a displacement.

    Raises:
        ValueError: There are none.
    """
    aggregations = [field.aggregation for field in fields for _ in range(field.dim)]
    added = [dim for dim, aggregation in enumerate(aggregations) if aggregation == "sum"]
    dims = added or [dim for dim, absolute in enumerate(is_absolute(fields)) if absolute]
    if not dims:
        names = ", ".join(f"{field.name} ({field.aggregation})" for field in fields)
        raise ValueError(
            f"Planning is judged by displacements, and no recorded number is one or a target: {names}. Prepare the shards with "
            "--deltas or --absolute if some are, name them by displacement_dims of Planning in settings of your own, or train "
            "without planning: --trainer.callbacks '[ControllerError]'."
        )
    return dims


def is_absolute(fields: list[ActionField]) -> list[bool]:
    """Return for each number of an action whether it says where to be, as targets and positions do, and not how far to go."""
    return [field.aggregation in ("first", "last") for field in fields for _ in range(field.dim)]


def deviations(plan: Tensor, recorded: Tensor, absolute: Tensor | None = None) -> dict[str, Tensor]:
    """Return how far planned steps are from those that were taken: error, ate and rpe of each episode, (E,).

    Args:
        plan: Planned steps, (E, H, n).
        recorded: Those that were taken, (E, H, n).
        absolute: Which of the n numbers say where to be and not how far to go, (n,) bool; none if not given.
    """
    apart = plan - recorded
    path = apart.cumsum(dim=1)
    if absolute is not None:
        path = torch.where(absolute, apart, path)
        apart = torch.where(absolute, apart.diff(dim=1, prepend=torch.zeros_like(apart[:, :1])), apart)
    return {
        "error": path[:, -1].abs().sum(dim=-1),
        "ate": path.square().sum(dim=-1).mean(dim=-1).sqrt(),
        "rpe": apart.square().sum(dim=-1).mean(dim=-1).sqrt(),
    }
