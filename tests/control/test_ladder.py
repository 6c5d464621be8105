"""The ladder in a world where the broken rung is known: dynamics that are wrong, a cost that sees too little, or nothing."""

import numpy as np
import pandas as pd
import pytest
import torch

from lam.control import closed_loop
from lam.control.episodes import SimulatorHandle
from lam.control.ladder import command
from lam.control.ladder.command import OWN, SMALL, Ladder, difference, four_times, verdict, write_ladder
from lam.control.ladder.reading import find_numbers, fit_reader
from lam.control.planners import CEM
from tests.control.test_closed_loop import Lamp, Model, find, loop, recipe
from tests.evals.toy import ToyEncoder

EPISODES = 6


class FaintEncoder(ToyEncoder):
    """Shows red a hundred times fainter than it is."""

    def forward(self, frames):
        return super().forward(frames) * torch.tensor([0.01, 1, 1])


class FaintModel(Model):
    """Knows what actions do, but its cost hardly sees red."""

    def __init__(self):
        super().__init__()
        self.encoder = FaintEncoder()

    def run_controller(self, name, actions, states):
        return actions[:, None] * torch.tensor([0.01, 1, 1])


def climb(monkeypatch, model):
    """All rungs with the small search."""
    find(Lamp, monkeypatch)
    monkeypatch.setattr(command, "find_simulator", lambda name: Lamp)
    one = loop(num_episodes=EPISODES, batch_size=EPISODES)
    ladder = Ladder(one, model, CEM(num_samples=40, num_elites=6, num_iterations=6), num_read=30)
    with torch.no_grad():
        return [ladder.learned(OWN, "", one.search), *ladder.replaced()]


def shares(rungs):
    return {rung.name: float(rung.success.mean()) for rung in rungs}


def test_where_dynamics_are_wrong_true_dynamics_help_and_the_true_cost_does_not(monkeypatch):
    model = Model()
    model.fails = True
    rungs = climb(monkeypatch, model)
    found = shares(rungs)
    assert found["true dynamics"] == found["true dynamics and cost"] == 1
    assert max(found[OWN], found[SMALL], found["true cost"]) < 0.4
    assert verdict(rungs).startswith("What helps: true dynamics (+")
    assert "true cost" not in verdict(rungs)


def test_where_the_cost_sees_too_little_the_true_cost_helps_and_true_dynamics_do_not(monkeypatch):
    rungs = climb(monkeypatch, FaintModel())
    found = shares(rungs)
    assert found["true cost"] >= 0.9 and found["true dynamics and cost"] == 1
    assert max(found[OWN], found["true dynamics"]) <= 0.5
    (note,) = (rung.note for rung in rungs if rung.name == "true cost")
    assert note.startswith("R² of the numbers read from states: 0: 1.000")


def test_where_nothing_is_broken_nothing_helps(monkeypatch, tmp_path):
    rungs = climb(monkeypatch, Model())
    assert set(shares(rungs).values()) == {1.0}
    assert verdict(rungs).startswith("Nothing that was replaced helps")
    write_ladder(tmp_path / "ladder.csv", rungs)
    table = pd.read_csv(tmp_path / "ladder.csv", keep_default_na=False, na_values=[""])
    assert list(table["rung"]) == [OWN, SMALL, "true dynamics", "true cost", "true dynamics and cost"]
    assert (table["episodes"] == EPISODES).all()
    assert table["candidates"].tolist() == [321] + [241] * 4
    assert table["difference"].tolist()[1:] == [0.0] * 4
    assert table["success/low"].iloc[0] == pytest.approx(EPISODES / (EPISODES + 1.96**2), rel=1e-3)


def test_differences_are_paired_over_episodes():
    def rung(name, against, success):
        values = torch.tensor(success, dtype=torch.float64)
        return command.Rung(name, against, 1, values, values, values, 0.0)

    one, other = rung("a", "", [0, 0, 1, 1]), rung("b", "a", [1, 0, 1, 1])
    mean, half = difference(other, [one, other])
    assert mean == 0.25
    assert half == pytest.approx(3.182446 * 0.5 / 2, rel=1e-5)  # t at 3 degrees, differences 1 0 0 0
    assert np.isnan(difference(one, [one, other])[0])


def test_numbers_are_read_as_well_as_pictures_show_them():
    reader, scores = fit_reader(Model(), SimulatorHandle(Lamp, 8), recipe(), 30)
    assert reader.read == [0, 1, 2] and reader.angles == []
    assert min(scores) > 0.99
    state = np.array([0.2, -0.1, 0.3])
    lamp = Lamp(8)
    lamp.set_state(state)
    encoded = closed_loop.encode_images(Model(), [lamp.render()])
    np.testing.assert_allclose(reader(encoded)[0].numpy(), state, atol=0.03)


class Hand(Lamp):
    """The first number is an angle, the second turns nothing, the third is a place."""

    def distance(self, goal):
        apart = np.remainder(self.rgb[0] - goal[0] + np.pi, 2 * np.pi) - np.pi
        return float(max(abs(apart), abs(self.rgb[2] - goal[2])))


def test_angles_and_numbers_that_do_not_matter_are_found_by_what_makes_a_distance():
    states = np.random.default_rng(0).uniform(-3, 3, (20, 3))
    assert find_numbers(SimulatorHandle(Hand, 8), states) == ([0, 2], [0])


def test_angles_are_read_across_the_turn():
    from lam.control.ladder.reading import StateReader

    angles = torch.linspace(-3.1, 3.1, 200)[:, None].double()
    inputs = torch.cat([angles.cos(), angles.sin()], dim=1)[:, None]
    numbers = torch.cat([angles, 2 * angles.cos()], dim=1)
    reader = StateReader(inputs, numbers, [0, 1], [0])
    found = reader(inputs)
    assert (found[:, 0] - angles[:, 0]).abs().max() < 0.05
    assert (found[:, 1] - numbers[:, 1]).abs().max() < 0.05
    assert min(reader.r2(inputs, numbers)) > 0.999


def test_four_times_the_search_is_twice_the_candidates_in_twice_the_iterations():
    given = {"search": {"window": 1, "planner": {"class_path": "lam.control.planners.CEM", "init_args": {"num_samples": 32}}}}
    assert four_times(given)["search"]["planner"]["init_args"] == {"num_samples": 64}
    assert given["search"]["planner"]["init_args"] == {"num_samples": 32}
    papers = four_times({"search": None})["search"]["planner"]["init_args"]
    assert papers == {"num_samples": 600, "num_elites": 20, "num_iterations": 30, "min_std": 0.0}
