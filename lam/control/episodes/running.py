"""Episodes under way: a simulator that all share, the pictures of start and goal, and what was reached."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from lam.simulators import Simulator, SimulatorFactory

# Letters of this file: S numbers of a simulator state, U numbers of an action, H actions.

NUM_FILMED = 6
"""Episodes whose images are kept for the visualization."""
STRICT = 0.5
"""Distance below which a goal is reached strictly: half of what the simulator itself calls reached, which is moderate."""


@dataclass
class GoalTask:
    """Task: from one simulator state to another, and how both look.

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
        distance: Smallest distance to the goal on the way, in units of the simulator's threshold.
        crashed: Whether the simulator failed, which ends the episode; what was reached before stays.
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
        """Whether the goal was reached as the simulator defines it."""
        return self.distance < 1

    @property
    def strict_success(self) -> bool:
        """Whether it was reached within half of that distance."""
        return self.distance < STRICT


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


def prepare_task(handle: SimulatorHandle, start: np.ndarray | None, goal: np.ndarray | None) -> GoalTask | None:
    """Draw the pictures of start and goal, (S,) each; None where there is no pair or the simulator fails."""
    if start is None or goal is None:
        return None
    with handle.use(Outcome(float("nan")), goal) as simulator:
        goal_image = simulator.render()
        simulator.set_state(start)
        return GoalTask(start, goal, simulator.render(), goal_image)
    return None


class EpisodeRunner:
    """One episode under way.

    Args:
        handle: The simulator.
        task: What to reach; None where the simulator failed before the episode began.
        filmed: Whether images are kept.
    """

    def __init__(self, handle: SimulatorHandle, task: GoalTask | None, filmed: bool = False) -> None:
        self.handle, self.outcome = handle, Outcome(float("nan"), crashed=task is None)
        if task is None:
            return
        self.state, self.goal, self.image, self.goal_image = task.start, task.goal, task.start_image, task.goal_image
        with handle.use(self.outcome, self.state) as simulator:
            self.outcome.distance = simulator.distance(self.goal)
        if filmed:
            self.outcome.goal_image, self.outcome.frames = self.goal_image, [self.image]

    @property
    def running(self) -> bool:
        """Whether the goal is still to be reached strictly."""
        return not self.outcome.crashed and not self.outcome.strict_success

    def act(self, actions: np.ndarray) -> None:
        """Take actions (H, U) one after the other until the goal is reached strictly."""
        with self.handle.use(self.outcome, self.state) as simulator:
            for action in actions:
                simulator.step(action)
                self.outcome.steps += 1
                self.outcome.distance = min(self.outcome.distance, simulator.distance(self.goal))
                if self.outcome.frames:
                    self.outcome.frames.append(simulator.render())
                if self.outcome.strict_success:
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

    def imagine(self, actions: np.ndarray) -> np.ndarray | None:
        """Return the image after actions (H, U), which are not taken; None where the simulator fails."""
        with self.handle.use(Outcome(float("nan")), self.state) as simulator:
            for action in actions:
                simulator.step(action)
            return simulator.render()
        return None
