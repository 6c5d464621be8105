"""Episodes in a simulator: tasks from one state to another, and what acts in them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from lam.simulators import Simulator, SimulatorFactory, record_episode

# Letters of this file: S numbers of a simulator state, U numbers of an action, H actions.

NUM_FILMED = 6
"""Episodes whose images are kept for the visualization."""
WARMUP_ACTIONS = 5
"""Actions of the recording policy before an episode begins, so that it begins as recordings go on, not as they start."""


@dataclass
class GoalTask:
    """Task: from one simulator state to another that the recording policy reached from there.

    Attributes:
        start: Simulator state to begin in, (S,).
        goal: Simulator state to reach, (S,).
        start_image: Image of the start, (H, W, 3) uint8.
        goal_image: Image of the goal.
    """

    start: np.ndarray
    goal: np.ndarray
    start_image: np.ndarray
    goal_image: np.ndarray


@dataclass
class Outcome:
    """Result of an episode.

    Attributes:
        distance: Smallest distance to the goal on the way; below 1 the goal was reached.
        crashed: Whether the simulator failed.
        steps: Actions taken.
        goal_image: Image of the goal, of the first episodes alone.
        frames: Images of the start and after each action, of the first episodes alone.
    """

    distance: float
    crashed: bool = False
    steps: int = 0
    goal_image: np.ndarray | None = None
    frames: list[np.ndarray] = field(default_factory=list)

    @property
    def success(self) -> bool:
        """Whether the goal was reached; an episode that crashed reached nothing."""
        return not self.crashed and self.distance < 1


def draw_task(simulator: Simulator, seed: int, number: int, horizon: int, policy: Mapping[str, float]) -> GoalTask:
    """Draw the task of an episode by its number, the same for every row; its goal is so many recorded actions ahead.

    Recorded sets are drawn with keys of three numbers (seed, split, clip), these with four, so no episode is a recorded one.
    """
    generator = np.random.default_rng([seed, number, horizon, WARMUP_ACTIONS])
    played = record_episode(simulator, generator, WARMUP_ACTIONS + horizon, policy)
    return GoalTask(played.states[WARMUP_ACTIONS], played.states[-1], played.frames[WARMUP_ACTIONS], played.frames[-1])


class SimulatorHandle:
    """The one simulator of a process, which all episodes share: it is put back into an episode's state before each turn.

    Args:
        make_simulator: Makes it, given the side of the image.
        size: Side of the image, pixels.
    """

    def __init__(self, make_simulator: SimulatorFactory, size: int) -> None:
        self.make_simulator, self.size = make_simulator, size
        self.simulator: Simulator | None = None

    @contextmanager
    def use(self, outcome: Outcome, state: np.ndarray | None = None) -> Iterator[Simulator]:
        """Yield the simulator, in a state if one is given; where it fails, note a crash and make a new one next time."""
        try:
            if self.simulator is None:
                self.simulator = self.make_simulator(self.size)
            if state is not None:
                self.simulator.set_state(state)
            yield self.simulator
        except Exception as error:  # whatever a simulator raises: the episode is counted and the others go on
            logging.getLogger(__name__).warning("The simulator failed and is started anew: %r", error)
            outcome.crashed = True
            self.simulator = None


class EpisodeRunner:
    """One episode under way.

    Args:
        handle: The simulator.
        number: Number of the episode.
        task: What to reach; None where the simulator failed before the episode began.
    """

    def __init__(self, handle: SimulatorHandle, number: int, task: GoalTask | None) -> None:
        self.handle, self.outcome = handle, Outcome(float("nan"), crashed=task is None)
        if task is None:
            return
        self.state, self.goal, self.image, self.goal_image = task.start, task.goal, task.start_image, task.goal_image
        with handle.use(self.outcome, self.state) as simulator:
            self.outcome.distance = simulator.distance(self.goal)
        if number < NUM_FILMED:
            self.outcome.goal_image, self.outcome.frames = self.goal_image, [self.image]

    @property
    def running(self) -> bool:
        """Whether the goal is still to be reached."""
        return not self.outcome.crashed and not self.outcome.success

    def act(self, actions: np.ndarray) -> None:
        """Take actions (H, U) one after the other until the goal is reached."""
        with self.handle.use(self.outcome, self.state) as simulator:
            for action in actions:
                simulator.step(action)
                self.outcome.steps += 1
                self.outcome.distance = min(self.outcome.distance, simulator.distance(self.goal))
                if self.outcome.frames:
                    self.outcome.frames.append(simulator.render())
                if self.outcome.success:
                    return
            self.state, self.image = simulator.get_state(), simulator.render()

    def simulate(self, actions: np.ndarray) -> float:
        """Return the distance to the goal after actions (H, U), which are not taken; infinite where the simulator fails."""
        distance = float("inf")
        with self.handle.use(Outcome(distance), self.state) as simulator:
            for action in actions:
                simulator.step(action)
            distance = simulator.distance(self.goal)
        return distance
