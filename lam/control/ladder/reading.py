"""Reading a simulator's own numbers from encoded states, so that what a world model imagines can be judged by the simulator."""

from __future__ import annotations

import math
import warnings

import numpy as np
import torch
from torch import Tensor

from lam.control.closed_loop import encode_images
from lam.control.episodes import WARMUP_ACTIONS, EpisodeRecipe, Outcome, SimulatorHandle
from lam.metrics.probes import PENALTIES
from lam.models.base import WorldModel
from lam.simulators import record_episode

# Letters of this file: S numbers of a simulator state, R numbers of it that are read, n states.

HIDDEN, MOST_PASSES = (256, 256), 200
HELD_OUT = 5
"""Every fifth episode is held out to measure how well numbers are read."""
CHUNK = 256
"""Pictures that are encoded together."""


class StateReader:
    """Ridge regression plus an MLP on its residuals, from an encoded state to numbers of a simulator's state.

    Args:
        inputs: Encoded states, (n, N, D).
        numbers: Simulator states, (n, S).
        read: Which of their numbers are read.
        angles: Which of these are angles in radians, read by cosine and sine.
    """

    def __init__(self, inputs: Tensor, numbers: Tensor, read: list[int], angles: list[int]) -> None:
        from sklearn.exceptions import ConvergenceWarning
        from sklearn.linear_model import RidgeCV
        from sklearn.neural_network import MLPRegressor
        from sklearn.preprocessing import StandardScaler

        self.read, self.angles = read, angles
        flat, targets = inputs.flatten(1).double().numpy(), self._targets(numbers).numpy()
        self.inputs, self.outputs = StandardScaler().fit(flat), StandardScaler().fit(targets)
        x, y = self.inputs.transform(flat), self.outputs.transform(targets)
        self.linear = RidgeCV(PENALTIES).fit(x, y)
        network = MLPRegressor(hidden_layer_sizes=HIDDEN, early_stopping=True, max_iter=MOST_PASSES, random_state=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", ConvergenceWarning)  # R² on held-out episodes says how good it is
            self.network = network.fit(x, y - self.linear.predict(x).reshape(y.shape))

    def __call__(self, states: Tensor) -> Tensor:
        """Return the numbers that are read (n, R) from states (n, N, D), in the simulator's units."""
        x = self.inputs.transform(states.detach().cpu().flatten(1).double().numpy())
        residuals = self.network.predict(x).reshape(len(x), -1)
        values = torch.from_numpy(self.outputs.inverse_transform(self.linear.predict(x).reshape(len(x), -1) + residuals))
        plain, places = [], {place: 2 * order for order, place in enumerate(self.angles)}
        first = len(self.read) - len(self.angles)
        others = iter(range(first))
        for place in self.read:
            if place in places:
                cosine, sine = values[:, first + places[place]], values[:, first + places[place] + 1]
                plain.append(torch.atan2(sine, cosine))
            else:
                plain.append(values[:, next(others)])
        return torch.stack(plain, dim=1)

    def r2(self, states: Tensor, numbers: Tensor) -> list[float]:
        """Return the share of the variance of each number that is read from states of known numbers; of cosine and sine."""
        found = torch.full_like(numbers, 0.0)
        found[:, self.read] = self(states).to(numbers.dtype)
        truth, predicted = self._targets(numbers), self._targets(found)
        wrong = (truth - predicted).square().sum(dim=0)
        spread = (truth - truth.mean(dim=0)).square().sum(dim=0)
        first = len(self.read) - len(self.angles)
        groups = [[place] for place in range(first)]
        groups += [[first + 2 * order, first + 2 * order + 1] for order in range(len(self.angles))]
        scores = [1 - float(wrong[group].sum() / spread[group].sum().clamp_min(1e-12)) for group in groups]
        order = [place for place in self.read if place not in self.angles] + self.angles
        return [scores[order.index(place)] for place in self.read]

    def _targets(self, numbers: Tensor) -> Tensor:
        """Return what is regressed: numbers that are no angles, then cosine and sine of each angle."""
        plain = numbers[:, [place for place in self.read if place not in self.angles]].double()
        turned = [part(numbers[:, [place]].double()) for place in self.angles for part in (torch.cos, torch.sin)]
        return torch.cat([plain, *turned], dim=1)


def fit_reader(
    model: WorldModel, handle: SimulatorHandle, recipe: EpisodeRecipe, num_episodes: int
) -> tuple[StateReader, list[float]]:
    """Play episodes, encode their pictures, and learn to read the numbers that the simulator's distance depends on.

    Args:
        model: Encodes pictures.
        handle: The simulator.
        recipe: Of the episodes that are acted in, none of which is played here.
        num_episodes: Episodes to play.

    Returns:
        The reader, and R² of each number on every fifth episode, which it did not learn from.

    Raises:
        ValueError: The simulator's states are objects, or its distance depends on none of their numbers.
    """
    states, images = [], []
    for number in range(num_episodes):
        with handle.use(Outcome(float("nan"))) as simulator:
            # keys of five numbers: neither recorded episodes nor those that are acted in
            generator = np.random.default_rng([recipe.seed, number, recipe.horizon, recipe.warmup, 1])
            played = record_episode(simulator, generator, WARMUP_ACTIONS + recipe.horizon, recipe.policy)
            states.append(played.states)
            images.append(played.frames)
    if not states or states[0].dtype == object:
        raise ValueError(f"States of {recipe.simulator} are no numbers that could be read.")
    numbers = torch.from_numpy(np.stack(states)).double()  # (episodes, frames, S)
    read, angles = find_numbers(handle, numbers.flatten(0, 1).numpy())
    if not read:
        raise ValueError(f"The distance of {recipe.simulator} depends on no number of its states that varies.")
    pictures = list(np.concatenate(images))
    with torch.no_grad():
        parts = [encode_images(model, pictures[first : first + CHUNK]) for first in range(0, len(pictures), CHUNK)]
    encoded = torch.cat([part.float().cpu() for part in parts]).unflatten(0, numbers.shape[:2])
    held = torch.arange(len(numbers)) % HELD_OUT == 0
    reader = StateReader(encoded[~held].flatten(0, 1), numbers[~held].flatten(0, 1), read, angles)
    return reader, reader.r2(encoded[held].flatten(0, 1), numbers[held].flatten(0, 1))


def find_numbers(handle: SimulatorHandle, states: np.ndarray) -> tuple[list[int], list[int]]:
    """Return the numbers of states (n, S) that the simulator's distance depends on, and which of them are angles.

    A number matters where a standard deviation of it makes a distance, and is an angle where a whole turn makes none.
    """
    read, angles = [], []
    for place, std in enumerate(states.std(axis=0)):
        if std > 1e-9 and _makes_distance(handle, states[0], place, std):
            read.append(place)
            if not _makes_distance(handle, states[0], place, 2 * math.pi):
                angles.append(place)
    return read, angles


def _makes_distance(handle: SimulatorHandle, state: np.ndarray, place: int, change: float) -> bool:
    """Tell whether a change of one number makes a distance."""
    changed = state.copy()
    changed[place] += change
    with handle.use(Outcome(float("nan")), changed) as simulator:
        return simulator.distance(state) > 1e-6
    return True  # it cannot even be set
