"""Manifest of episodes: from where to where each goes, drawn once, frozen and hashed, so that all rows act in the same ones.

Pairs of start and goal that are already solved are no episodes: whoever does nothing would be right
(https://github.com/DavidSunok/CLEAR-LeWM counts them in public benchmarks). They are skipped, and the next number is drawn.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from lam.control.episodes.running import Outcome, SimulatorHandle
from lam.data.manifest import hash_lines
from lam.distributed import rank
from lam.io import write_json
from lam.simulators import Simulator, draw_action

# Letters of this file: S numbers of a simulator state.

WARMUP_ACTIONS = 5
"""Actions of the recording policy before an episode begins, so that it begins as recordings go on, not as they start."""

MOST_DRAWS = 20
"""Pairs drawn for each episode, at most: where more are solved already the task is none."""


@dataclass(frozen=True)
class EpisodeRecipe:
    """What episodes are a function of, beside the simulator's own code.

    Attributes:
        simulator: Name of the simulator.
        seed: Seed of the draws.
        horizon: Actions between start and goal.
        policy: Share of the actions of each of the simulator's policies on the way to the goal.
        warmup: Actions before the start.
    """

    simulator: str
    seed: int
    horizon: int
    policy: Mapping[str, float]
    warmup: int = WARMUP_ACTIONS

    @property
    def content(self) -> dict[str, Any]:
        """What JSON holds of it; policies as pairs, since their order matters to the draws."""
        return asdict(self) | {"policy": [[name, float(share)] for name, share in self.policy.items()]}

    @property
    def file_name(self) -> str:
        """Name of the manifest's file."""
        digest = hash_lines([json.dumps(self.content, sort_keys=True)])
        return f"{re.sub(r'[^A-Za-z0-9]+', '-', self.simulator)}-{digest[:12]}.json"


@dataclass(frozen=True)
class StartGoal:
    """An episode: from one simulator state to another that the recording policy reached from there.

    Attributes:
        number: Number of the draw, which keys everything random in the episode.
        start: Simulator state to begin in, (S,); None where the simulator failed while the pair was drawn.
        goal: Simulator state to reach, (S,); None likewise.
    """

    number: int
    start: np.ndarray | None
    goal: np.ndarray | None

    @property
    def content(self) -> list[Any]:
        """What JSON holds of it."""
        return [self.number, *(None if state is None else _numbers(state) for state in (self.start, self.goal))]


@dataclass(frozen=True)
class Manifest:
    """Episodes in the order of their draws; those of fewer are the first of those of more.

    Attributes:
        recipe: What they are a function of.
        episodes: Pairs of start and goal that were not solved when they were drawn.
    """

    recipe: EpisodeRecipe
    episodes: tuple[StartGoal, ...]

    @property
    def drawn(self) -> int:
        """Pairs that were drawn."""
        return self.episodes[-1].number + 1 if self.episodes else 0

    @property
    def solved(self) -> int:
        """Pairs among them that were solved at the start, which are no episodes."""
        return self.drawn - len(self.episodes)

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of recipe and episodes: equal where all numbers of all states are."""
        contents = (self.recipe.content, *(episode.content for episode in self.episodes))
        return hash_lines(json.dumps(each, sort_keys=True) for each in contents)

    @property
    def has_numbers_alone(self) -> bool:
        """Whether a file can hold all states; those of a simulator that is copied whole are objects."""
        states = [state for each in self.episodes for state in (each.start, each.goal) if state is not None]
        return all(state.dtype != object for state in states)

    def first(self, count: int) -> Manifest:
        """Return the manifest of the first episodes."""
        return Manifest(self.recipe, self.episodes[:count])

    def extended(self, handle: SimulatorHandle, count: int) -> Manifest:
        """Draw further episodes until there are so many.

        Raises:
            ValueError: Nearly all pairs are solved at the start.
        """
        episodes, number = list(self.episodes), self.drawn
        while len(episodes) < count:
            if number >= MOST_DRAWS * count:
                raise ValueError(
                    f"Of {number} pairs of start and goal in {self.recipe.simulator}, {number - len(episodes)} are solved at "
                    f"the start, so there are not {count} episodes. Give a longer horizon or a policy that moves things."
                )
            episode = draw_pair(handle, self.recipe, number)
            if episode is not None:
                episodes.append(episode)
            number += 1
        return Manifest(self.recipe, tuple(episodes))

    def write(self, path: Path) -> None:
        """Write it whole or not at all."""
        content = {"recipe": self.recipe.content, "episodes": [each.content for each in self.episodes], "sha256": self.sha256}
        write_json(path, content, indent=None)


def read_manifest(path: Path, recipe: EpisodeRecipe) -> Manifest:
    """Read the manifest of a recipe.

    Raises:
        ValueError: The file was changed or is of another recipe.
    """
    try:
        content = json.loads(path.read_text())
        episodes = tuple(
            StartGoal(number, *(None if state is None else np.array(state, dtype=np.float64) for state in states))
            for number, *states in content["episodes"]
        )
        manifest, recorded = Manifest(recipe, episodes), content["sha256"]
    except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is no manifest of episodes ({error}). Remove it; it is drawn again.") from error
    if manifest.sha256 != recorded:
        raise ValueError(
            f"{path} says SHA-256 {recorded}, its episodes have {manifest.sha256}: it was changed, or is of another recipe. "
            "Remove it; it is drawn again, and rows that acted in others must act anew."
        )
    return manifest


def frozen_manifest(folder: Path | None, handle: SimulatorHandle, recipe: EpisodeRecipe, count: int) -> Manifest:
    """Return the first episodes of a recipe: those on the disk, drawn and written there by whoever comes first.

    Whoever needs more than there are draws the rest and writes all. Processes that come at the same time draw the same ones.

    Args:
        folder: Where manifests lie, one file a recipe; they are drawn and kept nowhere if not given.
        handle: The simulator.
        recipe: What episodes are a function of.
        count: Episodes.

    Raises:
        ValueError: The file was changed, or nearly all pairs are solved at the start.
    """
    path = folder / recipe.file_name if folder else None
    known = read_manifest(path, recipe) if path and path.exists() else Manifest(recipe, ())
    manifest = known.extended(handle, count)
    if path and len(manifest.episodes) > len(known.episodes) and manifest.has_numbers_alone and rank() == 0:
        manifest.write(path)
    return manifest.first(count)


def draw_pair(handle: SimulatorHandle, recipe: EpisodeRecipe, number: int) -> StartGoal | None:
    """Draw start and goal by their number, so many actions of the policy apart; None where the start solves the goal.

    Recorded sets are drawn with keys of three numbers (seed, split, clip), these with four, so no episode is a recorded one.
    """
    with handle.use(Outcome(float("nan"))) as simulator:
        start, goal = _play(simulator, recipe, number)
        simulator.set_state(start)
        return None if simulator.distance(goal) < 1 else StartGoal(number, start, goal)
    return StartGoal(number, None, None)


def _play(simulator: Simulator, recipe: EpisodeRecipe, number: int) -> tuple[np.ndarray, np.ndarray]:
    """Play an episode as ``record_episode`` does, without pictures, and return two of its states, (S,) each."""
    generator = np.random.default_rng([recipe.seed, number, recipe.horizon, recipe.warmup])
    simulator.reset(int(generator.integers(2**31)))
    states = []
    for actions in (recipe.warmup, recipe.horizon):
        for _ in range(actions):
            simulator.step(draw_action(simulator, generator, recipe.policy))
        states.append(simulator.get_state())
    return states[0], states[1]


def _numbers(state: np.ndarray) -> list[float | None]:
    """Return the numbers of a state, nothing in the place of objects."""
    return [float(each) if isinstance(each, int | float | np.number | np.bool_) else None for each in state]
