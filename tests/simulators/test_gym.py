"""The adapter of gymnasium on its classic control: exact returns, images, actions, and what cannot work."""

import sys

import numpy as np
import pytest

from data_prep.cli import main
from lam.control.closed_loop import ClosedLoop
from lam.control.ladder.oracle import solve
from lam.control.planners import CEM
from lam.control.policies import Search
from lam.data.index import DataIndex
from lam.data.schema import ActionStatistics
from lam.simulators import find_simulator, record_episode
from tests.simulators.counter import mixed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # pygame imports pkg_resources
]
SIZE = 32
IDS = ["CartPole-v1", "Pendulum-v1"]


@pytest.fixture(autouse=True)
def packages():
    """The packages, which are not among those for tests."""
    pytest.importorskip("gymnasium", reason="NO SIMULATOR gym, this test did not run: needs pip install 'lam[sim]'")
    pytest.importorskip("pygame", reason="NO SIMULATOR gym, this test did not run: needs pip install 'lam[sim]'")


def adapter():
    """The class, imported where gymnasium is there."""
    from lam.simulators.gym import GymSimulator

    return GymSimulator


def painted():
    """An environment that is seen in its observations: a bar whose length actions change."""
    import gymnasium
    from gymnasium import spaces

    class Painted(gymnasium.Env):
        observation_space = spaces.Box(0, 255, (SIZE, SIZE, 3), np.uint8)
        action_space = spaces.Box(-4.0, 4.0, (1,), np.float32)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            self.length = float(self.np_random.integers(8, 24))
            return self.observe(), {}

        def step(self, action):
            self.length = float(np.clip(self.length + action[0], 0, SIZE))
            return self.observe(), 0.0, self.length == SIZE, False, {}

        def observe(self):
            image = np.zeros((SIZE, SIZE, 3), np.uint8)
            image[:, : round(self.length)] = 255
            return image

    return Painted()


def future(simulator, seed, count=6):
    """Images and observations that follow, as bytes."""
    generator, seen = np.random.default_rng(seed), []
    for _ in range(count):
        recorded, factors = simulator.step(simulator.sample_action(generator))
        seen.append((simulator.render().tobytes(), recorded.tobytes(), tuple(factors.items())))
    return seen


@pytest.mark.parametrize("env", IDS)
def test_after_a_return_everything_is_the_same_bit_by_bit(env):
    simulator, stranger = (find_simulator(f"gym:{env}")(SIZE) for _ in range(2))
    for episode in range(3):
        played = record_episode(simulator, np.random.default_rng(episode), 8, mixed(0.7))
        middle = played.states[4]
        simulator.set_state(middle)
        assert np.array_equal(simulator.render(), played.frames[4])
        expected = future(simulator, episode)
        for one in (simulator, stranger):  # with a past, with another
            one.set_state(middle)
            assert future(one, episode) == expected
            assert one.distance(middle) > 0


@pytest.mark.parametrize("env", IDS)
def test_an_episode_is_a_function_of_its_seed_and_shows_what_moves(env):
    simulator = find_simulator(f"gym:{env}")(SIZE)
    first, other, again = (record_episode(simulator, np.random.default_rng(seed), 10, {"random": 1}) for seed in (0, 1, 0))
    assert np.array_equal(first.frames, again.frames) and np.array_equal(first.actions, again.actions)
    assert not np.array_equal(first.frames, other.frames)
    assert first.frames.shape == (11, SIZE, SIZE, 3) and first.frames.dtype == np.uint8
    assert (first.frames[:-1] != first.frames[1:]).any(axis=(1, 2, 3)).mean() > 0.3  # a cart moves by less than a pixel
    for number, changes in enumerate(first.factors.values()):
        observed = np.array([state[1 + number] for state in first.states], dtype=float)
        np.testing.assert_allclose(np.diff(observed), changes, atol=1e-6)


def test_actions_are_one_hot_or_lie_in_their_bounds():
    discrete, continuous = (find_simulator(f"gym:{env}")(SIZE) for env in IDS)
    played = record_episode(discrete, np.random.default_rng(0), 12, mixed(0.8))
    assert played.actions.shape == (12, 2) and (played.actions.sum(axis=1) == 1).all() and set(played.actions.ravel()) == {0, 1}
    assert (discrete.action_fields[0].dim, discrete.action_fields[0].aggregation) == (2, "sum")
    recorded, _ = continuous.step(np.array([9.0]))
    assert recorded == continuous.action_high == 2
    assert continuous.fps == 30 and adapter()(SIZE, "Pendulum-v1", hold=3).fps == 10


def test_an_action_is_held_and_an_end_is_absorbing():
    once, held = adapter()(SIZE, "CartPole-v1"), adapter()(SIZE, "CartPole-v1", hold=3)
    right = np.array([0.0, 1.0])
    for simulator in (once, held):
        simulator.reset(5)
    for _ in range(3):
        once.step(right)
    held.step(right)
    assert np.array_equal(once.render(), held.render())
    for _ in range(20):
        held.step(right)  # the pole falls
    end, image = held.get_state(), held.render()
    assert end[-1] and not any(held.step(right).factors.values())
    held.reset(6)
    held.set_state(end)
    assert not any(held.step(right).factors.values()) and np.array_equal(held.render(), image)


def test_distance_is_zero_here_and_larger_farther_away():
    simulator = find_simulator("gym:Pendulum-v1")(SIZE)
    simulator.reset(0)
    states = [simulator.get_state()]
    for _ in range(6):
        simulator.step(np.array([2.0]))
        states.append(simulator.get_state())
    distances = [simulator.distance(state) for state in reversed(states)]
    assert distances[0] == 0 and all(np.diff(distances) > 0) and distances[-1] > 2


def test_images_may_be_observations():
    simulator = adapter()(SIZE, painted())
    played = record_episode(simulator, np.random.default_rng(0), 8, {"random": 1})
    lengths = (played.frames[:, 0, :, 0] == 255).sum(axis=1)
    np.testing.assert_allclose(np.diff(lengths), played.actions[:, 0], atol=1)
    assert played.factors == {}
    simulator.set_state(played.states[2])
    assert np.array_equal(simulator.render(), played.frames[2]) and simulator.distance(played.states[2]) == 0


def test_functions_of_ones_own_replace_the_copy():
    from gymnasium.envs.classic_control import CartPoleEnv

    class Own(adapter()):
        def get_env_state(self):
            return np.array(self.env.unwrapped.state)

        def set_env_state(self, state):
            self.env.unwrapped.state = tuple(state)
            self.env.unwrapped.steps_beyond_terminated = None

    simulator = Own(SIZE, CartPoleEnv(render_mode="rgb_array"))
    played = record_episode(simulator, np.random.default_rng(0), 6, {"random": 1})
    assert played.states.dtype == np.float64 and played.states.shape == (7, 9)
    copied = record_episode(find_simulator("gym:CartPole-v1")(SIZE), np.random.default_rng(0), 6, {"random": 1})
    assert np.array_equal(played.frames, copied.frames)
    simulator.set_state(played.states[3])
    assert np.array_equal(simulator.render(), played.frames[3])


def test_a_return_that_is_not_exact_is_refused_and_recorded_all_the_same():
    class Forgetful(adapter()):
        def get_env_state(self):
            return np.zeros(1)

        def set_env_state(self, state):
            pass

    simulator = Forgetful(SIZE, "Pendulum-v1")
    assert len(record_episode(simulator, np.random.default_rng(0), 4, {"random": 1}, keep_states=False).frames) == 5
    with pytest.raises(ValueError, match=r"does not return exactly to a state. Override get_env_state"):
        simulator.get_state()


def test_what_cannot_work_is_refused():
    import gymnasium

    with pytest.raises(ValueError, match="gymnasium cannot make Nowhere-v0"):
        find_simulator("gym:Nowhere-v0")(SIZE)
    with pytest.raises(ValueError, match=r'shows no images.*render_mode="rgb_array"'):
        adapter()(SIZE, gymnasium.make("CartPole-v1"))
    unbounded = painted()
    unbounded.action_space = gymnasium.spaces.Box(-np.inf, np.inf, (1,))
    with pytest.raises(ValueError, match="expected Discrete or a bounded Box"):
        adapter()(SIZE, unbounded)


@pytest.mark.parametrize("env", IDS)
def test_shards_are_recorded_by_name(tmp_path, env, monkeypatch):
    monkeypatch.setattr(sys, "argv", sys.argv[:1])
    options = ["--train=3", "--val=2", "--size=16", "--frames=4", "--jobs=1"]
    assert main(["sim", f"gym:{env}", str(tmp_path / "out"), *options]) == 0
    index = DataIndex.load(tmp_path / "out")
    assert index.settings["env"] == f"gym:{env}" and index.action_dim == {"CartPole-v1": 2, "Pendulum-v1": 1}[env]
    assert {"change_0", "change_1", "change_2"} <= set(index.factors)


def test_the_planner_reaches_goals_in_it():
    statistics = ActionStatistics([0.0], [1.15], [-2.0], [2.0], [0.0], [0.0])
    search = Search(CEM(num_samples=32, num_elites=6, num_iterations=5))
    loop = ClosedLoop("gym:Pendulum-v1", search, num_episodes=4, budget=8, policy={"random": 1})
    results, sources = solve(loop, statistics, 5)
    assert results.metrics["crashed@all"] == 0 and len(sources) == 4
    assert results.metrics["success@all"] >= 0.75
