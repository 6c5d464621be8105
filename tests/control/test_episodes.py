"""Episodes: solved pairs are none and counted, all rows have the same ones, and two thresholds say what was reached."""

import json

import numpy as np
import pytest

from lam.control.episodes import (
    STRICT,
    WARMUP_ACTIONS,
    EpisodeRecipe,
    EpisodeRunner,
    SimulatorHandle,
    frozen_manifest,
    prepare_task,
)
from lam.data.schema import ActionField
from lam.simulators import Simulator, Step, record_episode

STEPS = 3


class Line(Simulator):
    """A place on a line that actions move, within 1 of the goal is reached; from every third start nothing moves."""

    fps = 1.0
    action_fields = [ActionField("move", 1, "sum")]  # noqa: RUF012
    action_low, action_high = -10 * np.ones(1), 10 * np.ones(1)
    breaks = False

    def reset(self, seed):
        self.place, self.stuck = 0.0, seed % 3 == 0

    def get_state(self):
        return np.array([self.place, float(self.stuck)])

    def set_state(self, state):
        self.place, self.stuck = float(state[0]), bool(state[1])

    def distance(self, goal):
        return abs(self.place - float(goal[0]))

    def render(self):
        return np.full((self.size, self.size, 3), round(self.place) % 256, dtype=np.uint8)

    def sample_action(self, generator):
        return generator.uniform(1, 10, 1)

    def expert_action(self):
        return np.ones(1)

    def step(self, action):
        if self.breaks:
            raise RuntimeError("it broke")
        self.place += float(action[0]) * (not self.stuck)
        return Step(action, {"moved": float(action[0])})


class Copied(Line):
    """Its states are objects, as those of environments that are copied whole."""

    def get_state(self):
        state = np.empty(2, dtype=object)
        state[:] = [super().get_state(), 0.0]
        return state

    def set_state(self, state):
        super().set_state(state[0])

    def distance(self, goal):
        return super().distance(goal[0])


def recipe(**changed):
    return EpisodeRecipe(**{"simulator": "line", "seed": 1, "horizon": STEPS, "policy": {"random": 1.0}, **changed})


def frozen(folder, count, cls=Line, **changed):
    return frozen_manifest(folder, SimulatorHandle(cls, 8), recipe(**changed), count)


def test_pairs_that_are_solved_at_the_start_are_no_episodes_and_are_counted():
    """By brute force: recordings of the same draws, of which those that start at the goal are left out."""
    expected = []
    for number in range(30):
        generator = np.random.default_rng([1, number, STEPS, WARMUP_ACTIONS])
        states = record_episode(Line(8), generator, WARMUP_ACTIONS + STEPS, {"random": 1.0}).states
        if abs(states[-1, 0] - states[WARMUP_ACTIONS, 0]) >= 1:
            expected.append((number, states[WARMUP_ACTIONS], states[-1]))
    found = frozen(None, 12)
    assert [each.number for each in found.episodes] == [number for number, _, _ in expected[:12]]
    for each, (_, start, goal) in zip(found.episodes, expected, strict=False):
        np.testing.assert_array_equal(each.start, start)
        np.testing.assert_array_equal(each.goal, goal)
    assert found.drawn == expected[11][0] + 1
    assert 0 < found.solved == found.drawn - 12


def test_a_simulator_in_which_nothing_has_to_be_done_is_refused():
    with pytest.raises(ValueError, match="Of 80 pairs of start and goal in line, 80 are solved at the start"):
        frozen(None, 4, policy={"random": 0.0, "expert": 1.0}, horizon=0)


def test_episodes_are_drawn_once_and_more_are_added_to_those_there_are(tmp_path, monkeypatch):
    few = frozen(tmp_path, 4)
    (path,) = tmp_path.iterdir()
    many = frozen(tmp_path, 9)
    assert list(tmp_path.iterdir()) == [path]
    assert many.sha256 == frozen(None, 9).sha256 != few.sha256 == many.first(4).sha256
    monkeypatch.setattr(Line, "breaks", True)  # nothing can be drawn any more
    again = frozen(tmp_path, 9)
    assert (again.sha256, again.drawn, again.solved) == (many.sha256, many.drawn, many.solved)
    assert frozen(tmp_path, 4).sha256 == few.sha256


def test_other_recipes_are_other_files_and_other_hashes(tmp_path):
    hashes = {
        frozen(tmp_path, 2, **changed).sha256
        for changed in ({}, {"seed": 2}, {"horizon": 2}, {"policy": {"expert": 1.0}}, {"policy": {"random": 1, "expert": 1}})
    }
    assert len(hashes) == len(list(tmp_path.iterdir())) == 5


def test_a_manifest_that_was_changed_is_refused(tmp_path):
    frozen(tmp_path, 3)
    (path,) = tmp_path.iterdir()
    content = json.loads(path.read_text())
    content["episodes"][1][2][0] += 1e-9
    path.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"says SHA-256 .* it was changed, or is of another recipe\. Remove it"):
        frozen(tmp_path, 3)
    path.write_text("{")
    with pytest.raises(ValueError, match=r"is no manifest of episodes .*Remove it"):
        frozen(tmp_path, 3)


def test_states_that_are_objects_are_drawn_by_everyone_and_written_nowhere(tmp_path):
    one, other = frozen(tmp_path, 3, Copied), frozen(tmp_path, 3, Copied)
    assert one.sha256 == other.sha256
    assert list(tmp_path.iterdir()) == []


def test_a_pair_in_which_the_simulator_fails_is_an_episode_that_crashed(tmp_path, monkeypatch):
    monkeypatch.setattr(Line, "breaks", True)
    found = frozen(tmp_path, 2)
    assert [each.start for each in found.episodes] == [None, None]
    assert frozen(tmp_path, 2).sha256 == found.sha256
    assert EpisodeRunner(SimulatorHandle(Line, 8), prepare_task(SimulatorHandle(Line, 8), None, None)).outcome.crashed


@pytest.mark.parametrize(("path", "moderate", "strict"), [([5], False, False), ([9.3], True, False), ([9.3, 0.3], True, True)])
def test_a_goal_is_reached_moderately_and_strictly(path, moderate, strict):
    """The episode goes on until the goal is reached strictly."""
    handle = SimulatorHandle(Line, 8)
    runner = EpisodeRunner(handle, prepare_task(handle, np.zeros(2), np.array([10.0, 0.0])))
    runner.act(np.array(path)[:, None])
    assert (runner.outcome.success, runner.outcome.strict_success, runner.running) == (moderate, strict, not strict)
    assert runner.outcome.steps == len(path)
    assert runner.outcome.distance == pytest.approx(10 - sum(path))
    assert STRICT == 0.5


def test_what_was_reached_before_the_simulator_failed_counts(monkeypatch):
    handle = SimulatorHandle(Line, 8)
    runner = EpisodeRunner(handle, prepare_task(handle, np.zeros(2), np.array([10.0, 0.0])))
    runner.act(np.array([[9.3]]))
    monkeypatch.setattr(Line, "breaks", True)
    runner.act(np.array([[0.3]]))
    assert runner.outcome.crashed and runner.outcome.success and not runner.outcome.strict_success
    assert not runner.running
