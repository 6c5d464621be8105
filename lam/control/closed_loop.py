"""Closed loop: plans are acted out in a simulator and made anew from what it shows then."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from lam.control.base import ActionConditionedModel, as_action_conditioned
from lam.control.episodes import (
    NUM_FILMED,
    EpisodeRecipe,
    EpisodeRunner,
    GoalTask,
    Manifest,
    Outcome,
    SimulatorHandle,
    frozen_manifest,
    prepare_task,
)
from lam.control.planners import Plan
from lam.control.policies import Policy, Search, ablations, initial_actions, policies
from lam.data.schema import ActionStatistics
from lam.distributed import gather, rank, world_size
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation, WorldModel
from lam.noise import splitmix64
from lam.runs.columns import Column
from lam.simulators import Simulator, check_policy, find_simulator

# Letters of this file: E episodes, H steps, U numbers of an action.

FIRST_EPISODE = 1_000_000_000
"""Position of the first simulated episode among a run's clips; recorded clips come before."""

NUMBERS = ("success", "success_strict", "distance", "crashed")
"""What each episode gives, by the beginning of the key."""

MANIFESTS = "episodes"
"""Folder of the manifests in that of a setting's runs."""

EpisodePolicy = Callable[[list[EpisodeRunner], Tensor, Tensor], Plan]
"""Plans (E, H, U) for episodes as they are now, given their noise keys (E,) and what the search starts from (E, 1+K, H, U)."""


@dataclass(frozen=True)
class EpisodeSettings:
    """Settings of episodes that follow from a run.

    Attributes:
        horizon: Actions H between start and goal.
        image_size: Side of the image, pixels.
        statistics: Statistics of the recorded actions.
        units: Label budget, as keys of results carry it.
    """

    horizon: int
    image_size: int
    statistics: ActionStatistics
    units: str


class ClosedLoop(Evaluation):
    """Act in a simulator toward goals that its recording policy reached, planning anew when the plan is used up.

    Keys: ``success``, the share of the episodes whose goal was reached within the budget (the simulator defines what counts as
    reached), ``success_strict``, within half of the simulator's threshold, ``distance``, the smallest distance to the goal on
    the way in units of the threshold, ``crashed``, the share in which the simulator failed; what was reached before counts. An
    episode ends when the goal is reached strictly. Success and distance also for the references ``_stay``, ``_chance``,
    ``_clone`` and ``_latent_clone`` (see ``lam.control.planning``) and, of the first episodes, for ``_shuffled``. All rows
    have the same episodes, which a manifest freezes (``lam.control.episodes``), and none is in a recorded set; ``drawn``
    counts the pairs of start and goal that were drawn for them, ``solved_at_start`` those among them that are no episodes as
    they were solved already.

    Args:
        simulator: Name of the simulator.
        search: How plans are searched for.
        num_episodes: Episodes.
        budget: Actions that may be taken in an episode.
        replan_every: Actions of a plan that are taken before the next is made; all of them if not given.
        policy: Shares of the policies whose states are goals, as in the recording; half random, half expert if not
            given.
        seed: Seed of the episodes.
        batch_size: Episodes planned together.
        shuffled_episodes: Episodes, the first of those, that are acted in with each candidate at the cost of another too, which
            should fail; each costs as much as a plan.

    Attributes:
        manifests: Folder of the manifests, set by the command; without one episodes are drawn anew and kept nowhere.
    """

    name: ClassVar[str] = "closed_loop"
    columns: ClassVar[tuple[Column, ...]] = (
        Column(
            "success@{labels}",
            "success",
            digits=2,
            better=1,
            explanation="share of simulator episodes that reached their goal",
            order=730,
        ),
        Column(
            "success@{labels}",
            "success",
            better=1,
            explanation="share of simulator episodes that reached their goal, replanning on the way",
            order=300,
            table="control",
            brief=True,
        ),
        Column(
            "success_strict@{labels}",
            "success, strict",
            better=1,
            explanation="the same within half of what the simulator counts as reached",
            order=305,
            table="control",
        ),
        Column(
            "success_shuffled@{labels}",
            "success, shuffled",
            explanation="planned with each candidate at the cost of another, in the first of the episodes",
            order=315,
            table="control",
        ),
        Column(
            "crashed@{labels}",
            "crashed",
            explanation="share in which the simulator failed; what was reached before counts",
            order=320,
            table="control",
        ),
    )

    def __init__(
        self,
        simulator: str,
        search: Search | None = None,
        num_episodes: int = 200,
        budget: int = 10,
        replan_every: int | None = None,
        policy: dict[str, float] | None = None,
        seed: int = 1,
        batch_size: int = 16,
        shuffled_episodes: int = 0,
    ) -> None:
        super().__init__()
        factory = find_simulator(simulator)  # reports what is missing before anything is trained
        if num_episodes < 1 or budget < 1:
            raise ValueError(f"num_episodes is {num_episodes} and budget {budget}, expected at least 1 of both.")
        self.simulator, self.search, self.num_episodes, self.budget = simulator, search or Search(), num_episodes, budget
        self.replan_every, self.seed, self.batch_size = replan_every, seed, batch_size
        self.shuffled_episodes = shuffled_episodes
        self.manifests: Path | None = None
        self.policy = policy or {"random": 0.5, "expert": 0.5}
        check_policy(getattr(factory, "policies", Simulator.policies), self.policy)  # a function that makes one names none
        self.reset()

    @override
    def reset(self) -> None:
        self.filmed: dict[str, list[Outcome]] = {}

    @override
    def observe(self, observation: Observation, model: WorldModel) -> None:
        """Ignore recorded clips."""

    @override
    def compute(self, model: WorldModel) -> Results:
        model = as_action_conditioned(model)
        acting = policies(model, self.search)
        if self.shuffled_episodes:
            acting["_shuffled"] = ablations(model, self.search)["_shuffled"]
        act = {suffix: partial(self.plan, model, policy) for suffix, policy in acting.items()}
        units = str(model.labeled_clips)
        settings = EpisodeSettings(model.horizon, model.encoder.image_size, model.action_statistics, units)
        results, sources = self.evaluate(act, settings, model.device, {"_shuffled": self.shuffled_episodes})
        model.val_clip_sources |= sources
        return results

    def evaluate(
        self,
        act: Mapping[str, EpisodePolicy],
        settings: EpisodeSettings,
        device: torch.device,
        limits: Mapping[str, int] = MappingProxyType({}),
    ) -> tuple[Results, dict[int, tuple[str, str]]]:
        """Act in this process's share of the episodes and gather.

        Args:
            act: Policies by the suffix of their keys.
            settings: Settings of the episodes.
            device: Where plans are made.
            limits: How many of the episodes, the first ones, some policies act in, by suffix; the others act in all.

        Returns:
            Results, and name and source of the episode at each position.
        """
        handle = SimulatorHandle(find_simulator(self.simulator), settings.image_size)
        manifest = self.manifest(handle, settings.horizon)
        mine = range(rank(), self.num_episodes, world_size())
        columns: dict[str, list[float]] = {}
        bar = tqdm(total=len(mine) * len(act), unit="episode", desc=self.simulator, leave=False, disable=rank() > 0)
        for first in range(0, len(mine), self.batch_size):
            places = mine[first : first + self.batch_size]
            pairs = {place: manifest.episodes[place] for place in places}
            tasks = {pair.number: prepare_task(handle, pair.start, pair.goal) for pair in pairs.values()}
            for suffix, policy in act.items():
                acted = [place for place in places if place < limits.get(suffix, self.num_episodes)]
                those = {pairs[place].number: tasks[pairs[place].number] for place in acted}
                filmed = {pairs[place].number for place in acted if place < NUM_FILMED}
                outcomes = self.run_episodes(policy, handle, those, settings, device, filmed)
                self.filmed.setdefault(suffix, []).extend(one for one in outcomes if one.frames and not one.crashed)
                for name, values in _columns(outcomes, len(places)).items():
                    columns.setdefault(name + suffix, []).extend(values)
                bar.update(len(places))
        bar.close()
        names = sorted(f"{key}{suffix}" for key in NUMBERS for suffix in act)
        own = (torch.tensor(columns.get(name, []), dtype=torch.float64) for name in names)
        numbers = [manifest.episodes[place].number for place in mine]
        positions, *found = gather(torch.tensor(numbers, dtype=torch.int64) + FIRST_EPISODE, *own)
        results = Results()
        for name, value in zip(names, found, strict=True):
            known = ~value.isnan()  # an episode that crashed at once is at no distance
            if known.any() and not name.startswith("crashed_"):
                results.clips[f"{name}@{settings.units}"] = (positions[known], value[known])
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        counts = {"drawn": manifest.drawn, "solved_at_start": manifest.solved}
        results.metrics |= {f"{name}@{settings.units}": float(count) for name, count in counts.items()}
        results.curves[f"episodes@{settings.units}"] = {"sha256": manifest.sha256, "num": self.num_episodes, **counts}
        return results, {int(place): (f"episode-{place - FIRST_EPISODE}",) * 2 for place in positions.tolist()}

    def manifest(self, handle: SimulatorHandle, horizon: int) -> Manifest:
        """Return the episodes, drawn by whoever comes first."""
        recipe = EpisodeRecipe(self.simulator, self.seed, horizon, self.policy)
        return frozen_manifest(self.manifests, handle, recipe, self.num_episodes)

    def run_episodes(
        self,
        policy: EpisodePolicy,
        handle: SimulatorHandle,
        tasks: dict[int, GoalTask | None],
        settings: EpisodeSettings,
        device: torch.device,
        filmed: Container[int] = (),
    ) -> list[Outcome]:
        """Run episodes by their numbers: planned together, acted out in the simulator one after the other.

        Args:
            policy: Plans for those that are running.
            handle: The simulator.
            tasks: Tasks by their numbers; None where the simulator failed before.
            settings: Settings of the episodes.
            device: Where plans are made.
            filmed: Numbers of those whose images are kept.
        """
        horizon, numbers = settings.horizon, list(tasks)
        runners = [EpisodeRunner(handle, task, number in filmed) for number, task in tasks.items()]
        mean = initial = initial_actions(settings.statistics, len(runners), horizon).to(device)
        noise_keys = splitmix64(torch.tensor(numbers, dtype=torch.int64)) + self.seed
        every = min(self.replan_every or horizon, horizon)
        for turn in range(-(-self.budget // every)):
            running = [place for place, runner in enumerate(runners) if runner.running]
            if not running:
                break
            plan = policy([runners[place] for place in running], splitmix64(noise_keys[running]) + turn, initial[running])
            remaining = plan.continuation(every, mean[running])  # the search goes on where the plan has not been used up
            initial = mean.repeat(1, remaining.shape[1], 1, 1)
            initial[running] = remaining
            for place, actions in zip(running, plan.actions.float().cpu().numpy(), strict=True):
                runners[place].act(actions[: min(every, self.budget - turn * every)])
        return [runner.outcome for runner in runners]

    def plan(
        self, model: ActionConditionedModel, policy: Policy, runners: list[EpisodeRunner], noise_keys: Tensor, initial: Tensor
    ) -> Plan:
        """Plan for episodes as they are now, from their images."""
        with self.autocast():
            states = encode_images(model, [runner.image for runner in runners])
            goals = encode_images(model, [runner.goal_image for runner in runners])
            return policy(states, goals, noise_keys, initial)


def _columns(outcomes: Sequence[Outcome], count: int) -> dict[str, list[float]]:
    """Return the numbers of some episodes, the first of so many, by the beginnings of their keys; NaN for the others."""
    columns: dict[str, list[float]] = {
        "success": [float(each.success) for each in outcomes],
        "success_strict": [float(each.strict_success) for each in outcomes],
        "distance": [each.distance for each in outcomes],
        "crashed": [float(each.crashed) for each in outcomes],
    }
    return {name: values + [float("nan")] * (count - len(values)) for name, values in columns.items()}


def encode_images(model: WorldModel, images: list[np.ndarray]) -> Tensor:
    """Encode images as states (E, N, D); an encoder that makes a state of several frames sees the same one several times."""
    frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[:, None].to(model.device)
    states: Tensor = model.encoder(frames.expand(-1, model.encoder.frames_per_state, -1, -1, -1))
    return states[:, 0]
