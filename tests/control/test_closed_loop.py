"""Acting in a simulator: what counts as reached, the same episodes for all, crashes, and the true simulator as bound."""

import io
import json
from functools import partial

import numpy as np
import pytest
import torch
from PIL import Image

import lam.control.viz
import lam.simulators
from lam.control import closed_loop, episodes
from lam.control.closed_loop import FIRST_EPISODE, ClosedLoop, EpisodeSettings
from lam.control.episodes import EpisodeRecipe, SimulatorHandle, prepare_task
from lam.control.episodes.manifest import draw_pair
from lam.control.ladder.oracle import solve
from lam.control.planners import CEM
from lam.control.policies import Search, policies
from lam.control.viz import EpisodeVisualization
from lam.data.schema import ActionField
from lam.simulators import Simulator, Step, record_episode
from tests.control.test_evaluations import Acting
from tests.processes import run_processes
from tests.simulators.counter import mixed
from tests.viz.toy import read_captions

STEPS, COUNT = 3, 9


class Lamp(Simulator):
    """Three brightnesses that an action adds to; a goal is reached when all are within 0.05 of it."""

    fps = 1.0
    action_fields = [ActionField("rgb", 3, "sum")]  # noqa: RUF012
    action_low, action_high = -0.2 * np.ones(3), 0.2 * np.ones(3)
    breaks_at = None  # brightness of red above which it fails

    def reset(self, seed):
        self.rgb = np.random.default_rng(seed).uniform(-0.3, 0.3, 3)

    def get_state(self):
        return self.rgb.copy()

    def set_state(self, state):
        self.rgb = np.array(state)

    def distance(self, goal):
        return float(np.abs(self.rgb - goal).max() / 0.05)

    def render(self):
        return np.broadcast_to((127.5 * (1 + self.rgb)).round(), (self.size, self.size, 3)).astype(np.uint8)

    def sample_action(self, generator):
        return generator.uniform(-0.2, 0.2, 3)

    def expert_action(self):
        return np.full(3, 0.1)

    def step(self, action):
        self.rgb = np.clip(self.rgb + np.clip(action, self.action_low, self.action_high), -1, 1)
        if self.breaks_at is not None and self.rgb[0] > self.breaks_at:
            raise RuntimeError("the bulb is broken")
        return Step(action, {"red": float(action[0])})


class Breaking(Lamp):
    breaks_at = 0.45


class Model(Acting):
    """The toy that knows what actions do, for pictures of a lamp."""

    fails = False

    def run_controller(self, name, actions, states):
        return actions[:, None] * (1 - 2 * self.fails)  # a controller that fails takes everything for its opposite


def find(cls, monkeypatch):
    for module in (closed_loop, lam.simulators):
        monkeypatch.setattr(module, "find_simulator", lambda name: cls)


def loop(**options):
    search = Search(CEM(num_samples=40, num_elites=6, num_iterations=8), window=1)
    return ClosedLoop("lamp", search, **{"num_episodes": COUNT, "budget": 2 * STEPS, "batch_size": 4, **options})


def recipe(**changed):
    return EpisodeRecipe(**{"simulator": "lamp", "seed": 1, "horizon": STEPS, "policy": mixed(0.5), **changed})


def metrics(monkeypatch, cls=Lamp, model=None, **options):
    find(cls, monkeypatch)
    return loop(**options).compute(model or Model())


def test_a_model_that_knows_reaches_all_goals_and_bounds_do_not(monkeypatch):
    found = metrics(monkeypatch).metrics
    assert found["success@5"] == 1
    assert found["distance@5"] < 1
    assert found["crashed@5"] == 0
    assert found["success_clone@5"] == 1
    assert max(found["success_stay@5"], found["success_chance@5"]) < 0.4
    assert found["success_strict@5"] <= 1
    assert found["success_strict_clone@5"] > found["success_strict_stay@5"]


def test_a_controller_that_is_wrong_reaches_none(monkeypatch):
    model = Model()
    model.fails = True
    assert metrics(monkeypatch, model=model).metrics["success@5"] < 0.4


def test_replanning_after_every_action_reaches_them_too(monkeypatch):
    """Slower, as the goal stays three actions away: each time a third of what is left is covered."""
    assert metrics(monkeypatch, replan_every=1, num_episodes=4, budget=12).metrics["success@5"] == 1


def test_the_budget_is_kept(monkeypatch):
    taken = []
    step = Lamp.step
    monkeypatch.setattr(Lamp, "step", lambda self, action: (taken.append(1), step(self, action))[1])
    find(Lamp, monkeypatch)
    model, one = Model(), loop(num_episodes=1, budget=4, replan_every=3)
    model.fails = True
    handle, settings = SimulatorHandle(Lamp, 8), EpisodeSettings(STEPS, 8, model.action_statistics, "5")
    act = partial(one.plan, model, policies(model, one.search)[""])
    (pair,) = one.manifest(handle, STEPS).episodes
    outcome = one.run_episodes(act, handle, {0: prepare_task(handle, pair.start, pair.goal)}, settings, model.device)[0]
    assert outcome.steps == 4
    assert len(taken) == 4 + (pair.number + 1) * (episodes.WARMUP_ACTIONS + STEPS)  # drawing the episode, then acting


def test_episodes_are_the_same_for_every_row_and_none_is_recorded(monkeypatch):
    first, again, other = (draw_pair(SimulatorHandle(Lamp, 8), recipe(), number) for number in (3, 3, 4))
    for name in ("start", "goal"):
        assert np.array_equal(getattr(first, name), getattr(again, name))
    assert not np.array_equal(first.start, other.start)
    for split, clip in ((0, 3), (1, 3), (3, STEPS)):  # keys of recorded episodes, of the same seed
        recorded = record_episode(Lamp(8), np.random.default_rng([1, split, clip]), episodes.WARMUP_ACTIONS + STEPS, mixed(0.5))
        assert not np.isclose(recorded.states[:, None], np.stack([first.start, first.goal])).all(axis=-1).any()
    one, two = metrics(monkeypatch), metrics(monkeypatch, batch_size=9)
    for key, (positions, values) in one.clips.items():
        assert torch.equal(positions, two.clips[key][0]) and torch.equal(values, two.clips[key][1]), key
    assert one.clips["success@5"][0].tolist() == [FIRST_EPISODE + number for number in range(COUNT)]


def test_costs_of_other_candidates_lead_nowhere_in_the_same_episodes(monkeypatch):
    found = metrics(monkeypatch, shuffled_episodes=6)
    positions, reached = found.clips["success_shuffled@5"]
    assert torch.equal(positions, found.clips["success@5"][0][:6])
    assert reached.mean() < 0.4


def test_a_crash_is_counted_and_said_and_loses_no_other_episode(monkeypatch, caplog):
    found = metrics(monkeypatch, Breaking)
    assert "the bulb is broken" in caplog.text
    crashed, success = found.clips["crashed@5"][1], found.clips["success@5"][1]
    assert 0 < crashed.sum() < COUNT
    assert len(success) == COUNT
    assert torch.equal(success, 1 - crashed)  # who did not crash arrived
    assert found.metrics["crashed@5"] == pytest.approx(crashed.mean().item())


def test_the_true_simulator_reaches_all_goals(monkeypatch):
    find(Lamp, monkeypatch)
    search = Search(CEM(num_samples=40, num_elites=6, num_iterations=8))
    loop = ClosedLoop("lamp", search, num_episodes=COUNT, budget=2 * STEPS)
    found, sources = solve(loop, Model.action_statistics, STEPS)
    rows = metrics(monkeypatch)
    assert found.metrics.keys() == {f"{name}@all" for name in (*closed_loop.NUMBERS, "drawn", "solved_at_start")}
    assert (found.metrics["success@all"], found.metrics["crashed@all"]) == (1, 0)
    assert found.curves["episodes@all"] == rows.curves["episodes@5"]  # the same ones, by their hash
    assert len(sources) == COUNT


def act_everywhere(manifests):
    with pytest.MonkeyPatch.context() as patch:
        find(Lamp, patch)
        one = loop()
        one.manifests = manifests
        return one.compute(Model())


def test_two_processes_find_what_one_finds(tmp_path):
    """Their episodes together are those of one process, and a file that they wrote is the file that it reads."""
    one, found = act_everywhere(None), run_processes(act_everywhere, tmp_path / "episodes", folder=tmp_path, timeout=150)
    (path,) = (tmp_path / "episodes").iterdir()
    assert act_everywhere(path.parent).curves == one.curves
    assert json.loads(path.read_text())["sha256"] == one.curves["episodes@5"]["sha256"]
    for other in found:
        assert other.curves == one.curves
        assert other.metrics == pytest.approx(one.metrics)
        for key, pair in one.clips.items():
            torch.testing.assert_close(other.clips[key], pair)


def test_a_simulator_that_does_not_exist_is_said_before_anything_is_done():
    with pytest.raises(ValueError, match="No simulator"):
        ClosedLoop("nowhere")


def test_the_visualization_shows_what_was_acted_and_how_it_ended(monkeypatch):
    find(Lamp, monkeypatch)
    one, board = loop(), EpisodeVisualization()
    one.compute(Model())
    board.loops = [one]
    said = read_captions(monkeypatch, lam.control.viz)
    drawn = Image.open(io.BytesIO(board.draw(Model())))
    films = one.filmed[""]
    assert len(films) == episodes.NUM_FILMED
    assert all(len(outcome.frames) == outcome.steps + 1 for outcome in films)
    assert all(np.array_equal(film.frames[0], other.frames[0]) for film, other in zip(films, one.filmed["_stay"], strict=True))
    longest = max(len(outcome.frames) for outcomes in one.filmed.values() for outcome in outcomes)
    assert drawn.n_frames == longest
    last = [text for text in said if text == "reached" or text.startswith("nearest")]
    assert last.count("reached") >= episodes.NUM_FILMED
    board.loops = []
    assert board.draw(Model()) is None


def test_an_unknown_policy_is_refused_before_anything_is_trained(monkeypatch):
    find(Lamp, monkeypatch)
    with pytest.raises(ValueError, match=r"policy is \{.nobody.: 1\}, expected shares of random, expert"):
        loop(policy={"nobody": 1})
