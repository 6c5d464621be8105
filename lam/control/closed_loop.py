"""Closed loop: plans are acted out in a simulator and made anew from what it shows then."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm
from typing_extensions import override

from lam.control.base import ActionConditionedModel, as_action_conditioned
from lam.control.episodes import NUM_FILMED, EpisodeRunner, GoalTask, Outcome, SimulatorHandle, draw_task
from lam.control.planners import Plan
from lam.control.policies import Policy, Search, initial_actions, policies
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

EpisodePolicy = Callable[[list[EpisodeRunner], Tensor, Tensor], Plan]
"""Plans (E, H, U) for episodes as they are now, given their noise keys (E,) and initial actions (E, H, U)."""


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
    reached), ``distance``, the smallest distance to the goal on the way in units of what counts as reached, ``crashed``, the
    share in which the simulator failed, which reached nothing. Success and distance also for the references ``_stay``,
    ``_chance`` and ``_clone`` (see ``lam.control.planning``). All rows have the same episodes, and none is in a recorded set.

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
            "crashed@{labels}",
            "crashed",
            explanation="share in which the simulator failed, which count as not reached",
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
    ) -> None:
        super().__init__()
        factory = find_simulator(simulator)  # reports what is missing before anything is trained
        if num_episodes < 1 or budget < 1:
            raise ValueError(f"num_episodes is {num_episodes} and budget {budget}, expected at least 1 of both.")
        self.simulator, self.search, self.num_episodes, self.budget = simulator, search or Search(), num_episodes, budget
        self.replan_every, self.seed, self.batch_size = replan_every, seed, batch_size
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
        act = {suffix: partial(self.plan, model, policy) for suffix, policy in policies(model, self.search).items()}
        units = str(model.labeled_clips)
        settings = EpisodeSettings(model.horizon, model.encoder.image_size, model.action_statistics, units)
        results, sources = self.evaluate(act, settings, model.device)
        model.val_clip_sources |= sources
        return results

    def evaluate(
        self, act: Mapping[str, EpisodePolicy], settings: EpisodeSettings, device: torch.device
    ) -> tuple[Results, dict[int, tuple[str, str]]]:
        """Act in this process's share of the episodes and gather.

        Args:
            act: Policies by the suffix of their keys.
            settings: Settings of the episodes.
            device: Where plans are made.

        Returns:
            Results, and name and source of the episode at each position.
        """
        handle = SimulatorHandle(find_simulator(self.simulator), settings.image_size)
        mine = range(rank(), self.num_episodes, world_size())
        columns: dict[str, list[float]] = {}
        bar = tqdm(total=len(mine) * len(act), unit="episode", desc=self.simulator, leave=False, disable=rank() > 0)
        for first in range(0, len(mine), self.batch_size):
            numbers = mine[first : first + self.batch_size]
            tasks = {number: self.draw(handle, number, settings.horizon) for number in numbers}
            for suffix, policy in act.items():
                outcomes = self.run_episodes(policy, handle, tasks, settings, device)
                for number, outcome in zip(numbers, outcomes, strict=True):
                    if number < NUM_FILMED and not outcome.crashed:
                        self.filmed.setdefault(suffix, []).append(outcome)
                    columns.setdefault("success" + suffix, []).append(float(outcome.success))
                    columns.setdefault("distance" + suffix, []).append(outcome.distance)
                    columns.setdefault("crashed" + suffix, []).append(float(outcome.crashed))
                bar.update(len(numbers))
        bar.close()
        names = sorted(f"{key}{suffix}" for key in ("success", "distance", "crashed") for suffix in act)
        own = (torch.tensor(columns.get(name, []), dtype=torch.float64) for name in names)
        positions, *found = gather(torch.tensor([FIRST_EPISODE + number for number in mine], dtype=torch.int64), *own)
        results = Results()
        for name, value in zip(names, found, strict=True):
            known = ~value.isnan()  # an episode that crashed at once is at no distance
            if known.any() and not name.startswith("crashed_"):
                results.clips[f"{name}@{settings.units}"] = (positions[known], value[known])
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        return results, {int(place): (f"episode-{place - FIRST_EPISODE}",) * 2 for place in positions.tolist()}

    def draw(self, handle: SimulatorHandle, number: int, horizon: int) -> GoalTask | None:
        """Draw the task of an episode by its number; None where the simulator fails."""
        with handle.use(Outcome(float("nan"))) as simulator:
            return draw_task(simulator, self.seed, number, horizon, self.policy)
        return None

    def run_episodes(
        self,
        policy: EpisodePolicy,
        handle: SimulatorHandle,
        tasks: dict[int, GoalTask | None],
        settings: EpisodeSettings,
        device: torch.device,
    ) -> list[Outcome]:
        """Run episodes by their numbers: planned together, acted out in the simulator one after the other."""
        horizon, numbers = settings.horizon, list(tasks)
        runners = [EpisodeRunner(handle, number, task) for number, task in tasks.items()]
        initial = initial_actions(settings.statistics, len(runners), horizon).to(device)
        noise_keys = splitmix64(torch.tensor(numbers)) + self.seed
        every = min(self.replan_every or horizon, horizon)
        for turn in range(-(-self.budget // every)):
            running = [place for place, runner in enumerate(runners) if runner.running]
            if not running:
                break
            plan = policy([runners[place] for place in running], splitmix64(noise_keys[running]) + turn, initial[running])
            remaining = initial.clone()
            remaining[running] = torch.cat([plan.actions[:, every:], initial[running][:, horizon - every :]], dim=1)
            initial = remaining  # the search goes on where the plan has not been used up
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


def encode_images(model: WorldModel, images: list[np.ndarray]) -> Tensor:
    """Encode images as states (E, N, D); an encoder that makes a state of several frames sees the same one several times."""
    frames = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)[:, None].to(model.device)
    states: Tensor = model.encoder(frames.expand(-1, model.encoder.frames_per_state, -1, -1, -1))
    return states[:, 0]
