"""E11, closed loop: a simulator answers what was planned, and the plan is made anew from what is seen then."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from lam.control.planners import Plan
from lam.control.policies import Policy, Search, beginning, policies
from lam.distributed import gather, rank, world_size
from lam.evals.base import Evaluation, Results
from lam.models.base import Observation
from lam.noise import splitmix64
from lam.runs.columns import Column
from lam.simulators import Simulator, SimulatorFactory, find_simulator, record_episode

EPISODES = 1_000_000_000
"""Position of the first simulated episode among a run's clips; recorded clips come before."""
FILMED = 6
"""So many episodes are kept to look at."""
LEAD = 5
"""Actions of the recording policy before an episode begins, so that it begins as recordings go on, not as they start."""


@dataclass
class Episode:
    """A task: from one simulator state to another that the recording policy reached from there.

    Attributes:
        start: Simulator state to begin in, (S,).
        goal: Simulator state to reach, (S,).
        seen: What is seen at the start, (H, W, 3) uint8.
        wanted: What would be seen at the goal.
    """

    start: np.ndarray
    goal: np.ndarray
    seen: np.ndarray
    wanted: np.ndarray


@dataclass
class Outcome:
    """How an episode went.

    Attributes:
        distance: Smallest distance to the goal on the way; below 1 the goal was reached.
        crashed: Whether the simulator failed.
        steps: Actions taken.
        wanted: What would be seen at the goal, of the first episodes alone.
        film: What was seen at the start and after each action, of the first episodes alone.
    """

    distance: float
    crashed: bool = False
    steps: int = 0
    wanted: np.ndarray | None = None
    film: list[np.ndarray] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the goal was reached; an episode that crashed reached nothing."""
        return not self.crashed and self.distance < 1


def draw_episode(simulator: Simulator, seed: int, number: int, steps: int, policy_entropy: float) -> Episode:
    """Episode by its number, the same for every row: its goal is so many actions of the recording policy ahead.

    Recorded sets are drawn with keys of three numbers (seed, split, clip), these with four, so no episode is a recorded one.
    """
    generator = np.random.default_rng([seed, number, steps, LEAD])
    played = record_episode(simulator, generator, LEAD + steps, policy_entropy)
    return Episode(played.states[LEAD], played.states[-1], played.frames[LEAD], played.frames[-1])


class ClosedLoop(Evaluation):
    """Acts in a simulator toward goals that its recording policy reached, planning anew when the plan is used up.

    Keys: ``success``, the share of the episodes whose goal was reached within the budget (what counts as reached is the
    simulator's to say), ``distance``, the smallest distance to the goal on the way in units of what counts as reached,
    ``crashed``, the share in which the simulator failed, which reached nothing. Success and distance also for the bounds
    ``_stay``, ``_chance`` and ``_clone`` (see ``lam.control.planning``). All rows have the same episodes, and none of them is
    in a recorded set.

    Args:
        simulator: Which one, by its name.
        search: How plans are looked for.
        episodes: How many.
        budget: Actions that may be taken.
        every: Actions of a plan that are taken before the next is made; all of them if not given.
        policy_entropy: Of the policy whose states are goals; as in the recording.
        seed: Seed of the episodes.
        at_a_time: Episodes planned together.
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
        episodes: int = 200,
        budget: int = 10,
        every: int | None = None,
        policy_entropy: float = 0.5,
        seed: int = 1,
        at_a_time: int = 16,
    ) -> None:
        super().__init__()
        find_simulator(simulator)  # says what is missing before anything is trained
        if episodes < 1 or budget < 1:
            raise ValueError(f"episodes is {episodes} and budget {budget}, both must be at least 1.")
        self.simulator, self.search, self.episodes, self.budget = simulator, search or Search(), episodes, budget
        self.every, self.policy_entropy, self.seed, self.at_a_time = every, policy_entropy, seed, at_a_time
        self.reset()

    def reset(self) -> None:
        """Forgets what was filmed."""
        self.films: dict[str, list[Outcome]] = {}

    def observe(self, observation: Observation, module: Any) -> None:
        """Recorded clips play no part."""

    def compute(self, module: Any) -> Results:
        """Acts in this process's share of the episodes and gathers what was found."""
        ways = self.ways(module)
        stage = Stage(find_simulator(self.simulator), module.encoder.image_size)
        mine = range(rank(), self.episodes, world_size())
        columns: dict[str, list[float]] = {}
        bar = tqdm(total=len(mine) * len(ways), unit="episode", desc=self.simulator, leave=False, disable=rank() > 0)
        for first in range(0, len(mine), self.at_a_time):
            numbers = mine[first : first + self.at_a_time]
            episodes = {number: self.draw(stage, number, module.steps) for number in numbers}
            for suffix, way in ways.items():
                for number, outcome in zip(numbers, self.act(module, way, stage, episodes), strict=True):
                    if number < FILMED and not outcome.crashed:
                        self.films.setdefault(suffix, []).append(outcome)
                    columns.setdefault("success" + suffix, []).append(float(outcome.success))
                    columns.setdefault("distance" + suffix, []).append(outcome.distance)
                    columns.setdefault("crashed" + suffix, []).append(float(outcome.crashed))
                bar.update(len(numbers))
        bar.close()
        names = sorted(f"{key}{suffix}" for key in ("success", "distance", "crashed") for suffix in ways)
        own = (torch.tensor(columns.get(name, []), dtype=torch.float64) for name in names)
        positions, *found = gather(torch.tensor([EPISODES + number for number in mine], dtype=torch.int64), *own)
        module.val_clip_sources |= {int(place): (f"episode-{place - EPISODES}",) * 2 for place in positions.tolist()}
        results = Results()
        for name, value in zip(names, found, strict=True):
            known = ~value.isnan()  # an episode that crashed at once is at no distance
            if known.any() and not name.startswith("crashed_"):
                results.clips[f"{name}@{module.labeled_clips}"] = (positions[known], value[known])
        results.metrics = {name: value.mean().item() for name, (_, value) in results.clips.items()}
        return results

    def ways(self, module: Any) -> dict[str, Policy]:
        """What acts, by the suffix of its keys."""
        return policies(module, self.search)

    def draw(self, stage: Stage, number: int, steps: int) -> Episode | None:
        """An episode by its number; None where the simulator fails."""
        with stage.at(Outcome(float("nan"))) as simulator:
            return draw_episode(simulator, self.seed, number, steps, self.policy_entropy)
        return None

    def act(self, module: Any, way: Policy, stage: Stage, episodes: dict[int, Episode | None]) -> list[Outcome]:
        """Episodes by their numbers, planned side by side; the simulator itself goes through one after the other."""
        steps, numbers = module.steps, list(episodes)
        worlds = [Run(stage, number, episode) for number, episode in episodes.items()]
        start = beginning(module.data.index, len(worlds), steps).to(module.device)
        keys = splitmix64(torch.tensor(numbers)) + self.seed
        every = min(self.every or steps, steps)
        for turn in range(-(-self.budget // every)):
            going = [place for place, world in enumerate(worlds) if world.going]
            if not going:
                break
            plan = self.plan(module, way, [worlds[place] for place in going], splitmix64(keys[going]) + turn, start[going])
            rest = start.clone()
            rest[going] = torch.cat([plan.actions[:, every:], start[going][:, steps - every :]], dim=1)
            start = rest  # the search goes on where the plan has not been used up
            for place, actions in zip(going, plan.actions.float().cpu().numpy(), strict=True):
                worlds[place].follow(actions[: min(every, self.budget - turn * every)])
        return [world.outcome for world in worlds]

    def plan(self, module: Any, way: Policy, worlds: list[Run], keys: Tensor, start: Tensor) -> Plan:
        """Plans for episodes as they are now, from what is seen of them."""
        with self.autocast():
            seen, wanted = (see(module, [getattr(world, name) for world in worlds]) for name in ("seen", "wanted"))
            return way(seen, wanted, keys, start)


class Stage:
    """The one simulator of a process, which all episodes share: they are put back where they were before each turn.

    Args:
        simulator_class: Which one.
        size: Side of the picture, pixels.
    """

    def __init__(self, simulator_class: SimulatorFactory, size: int) -> None:
        self.simulator_class, self.size = simulator_class, size
        self.simulator: Simulator | None = None

    @contextmanager
    def at(self, outcome: Outcome, state: np.ndarray | None = None) -> Iterator[Simulator]:
        """The simulator, in a state if one is given; where it fails the outcome says so and the next gets a new one."""
        try:
            if self.simulator is None:
                self.simulator = self.simulator_class(self.size)
            if state is not None:
                self.simulator.set_state(state)
            yield self.simulator
        except Exception as error:  # whatever a simulator raises: the episode is counted and the others go on
            logging.getLogger(__name__).warning("The simulator failed and is started anew: %r", error)
            outcome.crashed = True
            self.simulator = None


class Run:
    """One episode on its way.

    Args:
        stage: Where it is played.
        number: Which episode.
        episode: The task; None where the simulator failed before it began.
    """

    def __init__(self, stage: Stage, number: int, episode: Episode | None) -> None:
        self.stage, self.outcome = stage, Outcome(float("nan"), crashed=episode is None)
        if episode is None:
            return
        self.state, self.goal, self.seen, self.wanted = episode.start, episode.goal, episode.seen, episode.wanted
        with stage.at(self.outcome, self.state) as simulator:
            self.outcome.distance = simulator.distance(self.goal)
        if number < FILMED:
            self.outcome.wanted, self.outcome.film = self.wanted, [self.seen]

    @property
    def going(self) -> bool:
        """Whether there is anything left to do."""
        return not self.outcome.crashed and not self.outcome.success

    def follow(self, actions: np.ndarray) -> None:
        """Takes actions (k, U) one after the other until the goal is reached."""
        with self.stage.at(self.outcome, self.state) as simulator:
            for action in actions:
                simulator.step(action)
                self.outcome.steps += 1
                self.outcome.distance = min(self.outcome.distance, simulator.distance(self.goal))
                if self.outcome.film:
                    self.outcome.film.append(simulator.render())
                if self.outcome.success:
                    return
            self.state, self.seen = simulator.get_state(), simulator.render()

    def tried(self, actions: np.ndarray) -> float:
        """Distance to the goal after actions (H, U), which are not taken; infinite where the simulator fails."""
        distance = float("inf")
        with self.stage.at(Outcome(distance), self.state) as simulator:
            for action in actions:
                simulator.step(action)
            distance = simulator.distance(self.goal)
        return distance


def see(module: Any, pictures: list[np.ndarray]) -> Tensor:
    """States (E, N, D) of pictures; an encoder that makes a state of several frames sees the same one several times."""
    frames = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2)[:, None].to(module.device)
    return module.encoder(frames.expand(-1, module.encoder.frames_per_state, -1, -1, -1))[:, 0]
