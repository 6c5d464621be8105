"""Adapter that turns a gymnasium environment into a simulator (https://arxiv.org/abs/2407.17032, package gymnasium).

``gym:CartPole-v1`` names the environment of that id wherever a simulator is named. A class of one's own derives from
``GymSimulator`` and is named by its import path, ``my_module.MySimulator``.
"""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, TypeAlias

import av
import gymnasium
import numpy as np
from gymnasium import spaces
from typing_extensions import override

from lam.data.resize import SquareResizer
from lam.data.schema import ActionField
from lam.simulators.base import Simulator, Step

os.environ.setdefault("PYGAME_HIDE_SUPPORT_PROMPT", "1")  # pygame draws classic control, and greets on stdout

Env: TypeAlias = "gymnasium.Env[Any, Any]"  # observations and actions are whatever its spaces say


class GymSimulator(Simulator):
    """Environment of gymnasium that renders images or observes them, with discrete or bounded continuous actions.

    A discrete action is recorded one-hot, a continuous one as it is, clipped to its bounds. The image is what the environment
    renders, else its observation, with black bars where it is not square. A state that ends the episode is absorbing: actions
    change nothing any more. Time limits do not end an episode. Ground-truth factors are the changes of the numbers of an
    observation, where it is no image.

    A state is a copy of the environment, its observation, and whether the episode has ended. Where copies do not continue
    exactly alike, which is checked at the first one, override ``get_env_state`` and ``set_env_state``; an environment that
    allows neither can still be recorded. ``distance`` and ``expert_action`` are made to be overridden, too.

    Args:
        size: Side of the square image, pixels.
        env: The environment, made with ``render_mode="rgb_array"`` unless its observations are images; or its id.
        hold: Steps of the environment that an action is held.
    """

    tolerance: ClassVar[float] = 0.25
    """Distance at which a goal is reached: see ``distance``."""

    def __init__(self, size: int, env: Env | str, hold: int = 1) -> None:
        super().__init__(size)
        if hold < 1:
            raise ValueError(f"hold is {hold}, expected at least 1.")
        self.env = make_env(env) if isinstance(env, str) else env
        self.hold, self.fps = hold, self.env.metadata.get("render_fps", 30) / hold
        self.name = str(self.env.unwrapped)
        self.observes_images = is_image(self.env.observation_space)
        if self.env.render_mode != "rgb_array" and not self.observes_images:
            raise ValueError(
                f"{self.name} shows no images: its observations are {self.env.observation_space} and its render_mode is "
                f'{self.env.render_mode}. Make it with render_mode="rgb_array".'
            )
        self.action_fields, self.action_low, self.action_high = describe_actions(self.env.action_space, self.name)
        self._resizer = SquareResizer(size, "pad")
        self._num_observed = spaces.flatdim(self.env.observation_space)
        self._returns_exactly = False
        self.reset(0)  # so that a state can be set at once

    @override
    def reset(self, seed: int) -> None:
        observation, _ = self.env.reset(seed=seed)
        self._observe(observation)
        self._ended = False

    @override
    def get_state(self) -> np.ndarray:
        if not self._returns_exactly:
            self._check_returns()
        return self._state()

    @override
    def set_state(self, state: np.ndarray) -> None:
        self.set_env_state(state[: -self._num_observed - 1])
        self._observed = state[-self._num_observed - 1 : -1].astype(np.float64)
        self._ended = bool(state[-1])

    def get_env_state(self) -> np.ndarray:
        """Return all that the environment's future depends on, one-dimensional: numbers, or objects such as a copy of it."""
        state = np.empty(1, dtype=object)
        state[0] = copy_env(self.env)
        return state

    def set_env_state(self, state: np.ndarray) -> None:
        """Return the environment to a state of ``get_env_state``, at any time and exactly."""
        self.env = copy_env(state[0])

    @override
    def distance(self, goal: np.ndarray) -> float:
        """Compare observations: root mean square of differences in standard deviations of random play, over ``tolerance``."""
        difference = self._observed - goal[-self._num_observed - 1 : -1].astype(np.float64)
        varies = self._std > 1e-6
        return float(np.sqrt(np.mean(np.square(difference[varies] / self._std[varies])))) / self.tolerance

    @override
    def render(self) -> np.ndarray:
        image: Any = self._observed.astype(np.uint8).reshape(self.env.observation_space.shape) if self.observes_images else None
        if self.env.render_mode == "rgb_array":
            try:
                image = self.env.render()
            except gymnasium.error.DependencyNotInstalled as error:
                raise ValueError(f"{self.name} cannot draw: {error}. Install it with pip install 'lam[sim]'.") from error
        if not isinstance(image, np.ndarray) or image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            found = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
            raise ValueError(f"{self.name} draws {found}, expected an array (H, W, 3) uint8.")
        if image.shape == (self.size, self.size, 3):
            return image.copy()
        return self._resizer.resize(av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24"))

    @override
    def sample_action(self, generator: np.random.Generator) -> np.ndarray:
        if isinstance(self.env.action_space, spaces.Discrete):
            return self._one_hot(int(generator.integers(len(self.action_low))))
        return generator.uniform(self.action_low, self.action_high)

    @override
    def expert_action(self) -> np.ndarray:
        """Return the middle of the bounds, or the first of discrete actions: an environment brings no expert."""
        if isinstance(self.env.action_space, spaces.Discrete):
            return self._one_hot(0)
        middle: np.ndarray = (self.action_low + self.action_high) / 2
        return middle

    @override
    def step(self, action: np.ndarray) -> Step:
        space, before = self.env.action_space, self._observed
        if isinstance(space, spaces.Discrete):
            index = int(np.argmax(action))
            executed, taken = self._one_hot(index), space.start + index
        else:
            executed = np.clip(action, self.action_low, self.action_high)
            taken = executed.reshape(space.shape).astype(space.dtype)
        for _ in range(self.hold):
            if self._ended:
                break
            observation, _, self._ended, _, _ = self.env.step(taken)
            self._observe(observation)
        changes = [] if self.observes_images else (self._observed - before).tolist()
        return Step(executed, {f"change_{number}": change for number, change in enumerate(changes)})

    def _one_hot(self, index: int) -> np.ndarray:
        one_hot: np.ndarray = np.eye(len(self.action_low))[index]
        return one_hot

    def _observe(self, observation: Any) -> None:
        self._observed = np.asarray(spaces.flatten(self.env.observation_space, observation), dtype=np.float64)

    def _state(self) -> np.ndarray:
        return np.concatenate([self.get_env_state(), self._observed, [self._ended]])

    def _check_returns(self) -> None:
        """Check, once, that the same actions lead to the same observations and images after a return.

        Raises:
            ValueError: They do not.
        """
        state = self._state()
        futures = []
        for _ in range(2):
            generator, seen = np.random.default_rng(0), [self.render().tobytes()]
            for _ in range(5):
                self.step(self.sample_action(generator))
                seen += [self._observed.tobytes(), self.render().tobytes()]
            futures.append(seen)
            self.set_state(state)
        if futures[0] != futures[1]:
            raise ValueError(
                f"{self.name} does not return exactly to a state. Override get_env_state and set_env_state of GymSimulator. "
                "Without them it can be recorded, not acted in."
            )
        self._returns_exactly = True

    @cached_property
    def _std(self) -> np.ndarray:
        """Standard deviation of each number of an observation in random play."""
        state, generator, seen = self._state(), np.random.default_rng(0), []
        for seed in range(8):
            self.reset(seed)
            for _ in range(20):
                self.step(self.sample_action(generator))
                seen.append(self._observed)
        self.set_state(state)
        std: np.ndarray = np.std(seen, axis=0)
        return std


@dataclass(frozen=True)
class GymFactory:
    """Makes the simulator of an environment.

    Attributes:
        env_id: Its id, CartPole-v1.
    """

    env_id: str

    def __call__(self, size: int) -> GymSimulator:
        """Make it with images of a size."""
        return GymSimulator(size, self.env_id)


def make_env(env_id: str) -> Env:
    """Make an environment that renders images.

    Raises:
        ValueError: gymnasium cannot make it.
    """
    try:
        env: Env = gymnasium.make(env_id, render_mode="rgb_array", disable_env_checker=True)
    except gymnasium.error.Error as error:
        raise ValueError(f"gymnasium cannot make {env_id}: {error}") from error
    return env


def describe_actions(space: Any, name: str) -> tuple[list[ActionField], np.ndarray, np.ndarray]:
    """Return what the numbers of a recorded action are, and their bounds, (U,) each.

    Raises:
        ValueError: Actions are neither discrete nor bounded numbers.
    """
    if isinstance(space, spaces.Discrete):
        count = int(space.n)
        return [ActionField("action", count, "sum")], np.zeros(count), np.ones(count)
    if isinstance(space, spaces.Box) and space.is_bounded():
        low, high = (bound.astype(np.float64).ravel() for bound in (space.low, space.high))
        return [ActionField("action", len(low), "mean")], low, high  # like a rate: held twice as long it is the same
    raise ValueError(f"{name} takes actions in {space}, expected Discrete or a bounded Box. Wrap it, as in RescaleAction.")


def is_image(space: Any) -> bool:
    """Return whether observations are images, (H, W, 3) uint8."""
    return isinstance(space, spaces.Box) and space.dtype == np.uint8 and len(space.shape) == 3 and space.shape[2] == 3


def copy_env(env: Env) -> Env:
    """Copy an environment; parts of it that cannot be copied, such as a window to draw into, are shared by both."""
    memo: dict[int, Any] = {}
    layer: Any = env
    while layer is not None:
        for part in vars(layer).values():
            if part is not vars(layer).get("env"):
                try:
                    copy.deepcopy(part, memo)
                except Exception:  # whatever a part raises; what sharing it spoils shows in the check of returns
                    memo[id(part)] = part
        layer = vars(layer).get("env")
    return copy.deepcopy(env, memo)
