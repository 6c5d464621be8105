"""The real simulators, where their packages are: exact returns, honest distances, images that show something."""

import math

import numpy as np
import pytest

from lam.simulators import SIMULATORS, find_simulator, record_episode
from tests.simulators.counter import mixed

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # pygame imports pkg_resources
]
SIZE = 32
ALL = pytest.mark.parametrize("name", SIMULATORS)


@pytest.fixture
def make():
    """Makes a simulator, or skips: the packages are not among those for tests, since OpenCV alone is large."""

    def made(name):
        try:
            simulator = find_simulator(name)(SIZE)
            simulator.reset(0)
            simulator.render()
        except ValueError as error:
            pytest.skip(f"NO SIMULATOR {name}, this test did not run: {error}")
        return simulator

    return made


def free_actions(simulator, seed, count=10):
    generator = np.random.default_rng(seed)
    return [simulator.sample_action(generator) for _ in range(count)]


def future(simulator, actions):
    """States, images, recorded actions and factors that follow, as bytes."""
    steps = []
    for action in actions:
        recorded, factors = simulator.step(action)
        steps.append((simulator.get_state().tobytes(), simulator.render().tobytes(), recorded.tobytes(), factors))
    return steps


@ALL
def test_after_a_return_everything_is_the_same_bit_by_bit(make, name):
    simulator, stranger = make(name), make(name)
    for episode in range(8):
        played = record_episode(
            simulator, np.random.default_rng(episode), 12, mixed(0.3)
        )  # the expert touches blocks and walls
        middle, actions = played.states[6], free_actions(simulator, episode)
        for one in (simulator, stranger, find_simulator(name)(SIZE)):  # with a past, with another, with none
            one.set_state(middle)
            assert np.array_equal(one.get_state(), middle) and np.array_equal(one.render(), played.frames[6])
            assert np.array_equal(one.expert_action(), simulator.expert_action())
        simulator.set_state(middle)
        expected = future(simulator, actions)
        simulator.set_state(middle)
        stranger.set_state(middle)
        assert future(simulator, actions) == expected
        assert future(stranger, actions) == expected


@ALL
def test_playing_on_is_the_same_as_returning_first(make, name):
    """Nothing that the state lacks goes from one action to the next."""
    simulator, stranger = make(name), make(name)
    for episode in range(4):
        simulator.reset(episode)
        for action in free_actions(simulator, episode):
            stranger.set_state(simulator.get_state())
            assert future(simulator, [action]) == future(stranger, [action])


@ALL
def test_an_episode_is_a_function_of_its_seed(make, name):
    simulator = make(name)
    first, other, again = (record_episode(simulator, np.random.default_rng(seed), 6, mixed(0.5)) for seed in (0, 1, 0))
    for kind in ("frames", "actions", "states"):
        assert np.array_equal(getattr(first, kind), getattr(again, kind)), kind
        assert not np.array_equal(getattr(first, kind), getattr(other, kind)), kind


@ALL
def test_a_state_is_a_copy(make, name):
    simulator = make(name)
    state = simulator.get_state()
    simulator.set_state(state)
    before = state.copy()
    future(simulator, free_actions(simulator, 0, 3))
    assert np.array_equal(state, before)


@ALL
def test_distance_is_zero_here_and_the_same_from_both_sides(make, name):
    simulator = make(name)
    played = record_episode(simulator, np.random.default_rng(3), 10, mixed(0.5))
    first, last = played.states[0], played.states[-1]
    assert simulator.distance(last) == 0
    there = simulator.distance(first)
    simulator.set_state(first)
    assert simulator.distance(last) == pytest.approx(there) and there > 0


@ALL
def test_goals_are_not_reached_by_standing_still(make, name):
    simulator = make(name)
    reached = []
    for episode in range(30):
        played = record_episode(simulator, np.random.default_rng(episode), 5, mixed(0.3))
        simulator.set_state(played.states[0])
        reached.append(simulator.distance(played.states[-1]) < 1)
    assert np.mean(reached) < 0.1


@ALL
def test_recorded_actions_lie_in_the_bounds_and_have_the_declared_width(make, name):
    simulator = make(name)
    played = [record_episode(simulator, np.random.default_rng(episode), 12, mixed(0.7)).actions for episode in range(8)]
    actions = np.concatenate(played)
    low, high = simulator.action_low, simulator.action_high
    assert actions.shape[1] == sum(field.dim for field in simulator.action_fields) == len(low) == len(high)
    assert (actions >= low - 1e-6).all() and (actions <= high + 1e-6).all()
    assert (actions.max(axis=0) - actions.min(axis=0) > 0.8 * (high - low)).all()


@ALL
def test_images_show_something_and_it_moves(make, name):
    simulator = make(name)
    played = record_episode(simulator, np.random.default_rng(0), 12, mixed(0.5))
    assert played.frames.shape == (13, SIZE, SIZE, 3) and played.frames.dtype == np.uint8
    assert played.frames.std(axis=(1, 2)).max() > 10 and (played.frames.max(axis=(1, 2, 3)) > 60).all()
    changes = (played.frames[:-1] != played.frames[1:]).any(axis=(1, 2, 3))
    assert changes.mean() > 0.5  # not where a wall is in the way


@ALL
def test_the_expert_takes_its_share_of_the_steps(make, name):
    simulator = make(name)
    shares = []
    for share in (0.0, 0.3):
        played = record_episode(simulator, np.random.default_rng(7), 60, mixed(share))
        follows = []
        for state, action in zip(played.states[:-1], played.actions, strict=True):
            simulator.set_state(state)
            recorded, _ = simulator.step(simulator.expert_action())
            follows.append(np.array_equal(recorded.astype(np.float32), action))
        shares.append(np.mean(follows))
    assert shares[0] == 1
    # a random turn of an arrow may be the expert's by chance
    assert shares[1] == pytest.approx(0.7, abs=0.18) if name != "minigrid" else 0.6 < shares[1] < 1


def test_pusht_succeeds_as_the_public_protocol_says(make):
    simulator = make("pusht")
    generator = np.random.default_rng(0)
    simulator.reset(0)
    verdicts = []
    for _ in range(200):
        goal = simulator.get_state()
        goal[:4] += generator.normal(0, 6, 4) * generator.uniform(0, 2)
        goal[4] += generator.normal(0, 0.3) + 2 * math.pi * generator.integers(-1, 2)
        now = simulator.get_state()
        near = np.linalg.norm(goal[:4] - now[:4]) < 20
        turned = abs(goal[4] - now[4]) % (2 * np.pi)
        verdicts.append((simulator.distance(goal) < 1, bool(near and min(turned, 2 * np.pi - turned) < np.pi / 9)))
    assert all(one == other for one, other in verdicts) and {one for one, _ in verdicts} == {True, False}


def test_pusht_agent_arrives_where_the_action_says(make):
    simulator = make("pusht")
    missed = []
    for episode in range(10):
        played = record_episode(simulator, np.random.default_rng(episode), 10, {"random": 1})
        missed.append(np.diff(played.states[:, :2], axis=0) - 100 * played.actions)
    assert np.abs(np.concatenate(missed)).mean() < 4  # of targets 50 away in the mean
    assert simulator.fps == 2 and find_simulator("pusht")(SIZE, hold=1).fps == 10


def test_pusht_moves_as_the_package_itself(make):
    simulator = make("pusht")
    pushed = []
    for episode in range(10):
        simulator.reset(episode)
        state, target = simulator.get_state(), np.clip(simulator.get_state()[:2] + 100 * simulator.expert_action(), 0, 512)
        package = type(simulator._env)()
        package.build(state)
        for _ in range(5):
            package.step(target)
        simulator.step(simulator.expert_action())
        got = simulator.get_state()[:5]
        assert np.array_equal(got, [*package.agent.position, *package.block.position, package.block.angle])
        pushed.append(np.abs(got - state[:5])[2:4].max() > 1)
    assert any(pushed)


def test_reacher_goals_are_poses_of_both_links(make):
    simulator = make("reacher")
    data = simulator._data
    where = lambda: np.stack([data.body("hand").xpos[:2], data.body("finger").xpos[:2]])  # noqa: E731
    for seed in range(10):
        simulator.reset(seed)
        goal, there = simulator.get_state(), where().copy()
        simulator.reset(seed + 100)
        apart = np.linalg.norm(where() - there, axis=1).max() / 0.03
        assert simulator.distance(goal) == pytest.approx(apart)
        full_turn = simulator.get_state() + 2 * np.pi * np.eye(6)[0]
        assert simulator.distance(full_turn) == pytest.approx(0, abs=1e-9)


def test_reacher_expert_brings_the_finger_to_the_ball(make):
    simulator = make("reacher")
    left = []
    for seed in range(20):
        simulator.reset(seed)
        for _ in range(15):
            simulator.step(simulator.expert_action())
        left.append(np.linalg.norm(simulator._data.body("finger").xpos[:2] - simulator.get_state()[4:]))
    assert np.mean(np.array(left) < 0.015) > 0.8


def test_reachers_differ_by_what_the_camera_sees_alone(make):
    above, aslant = (
        record_episode(make(name), np.random.default_rng(2), 6, mixed(0.5)) for name in ("reacher", "reacher-tilted")
    )
    assert np.array_equal(above.states, aslant.states) and np.array_equal(above.actions, aslant.actions)
    assert (above.frames != aslant.frames).any(axis=(1, 2, 3)).all()


def test_rover_stays_out_of_walls_and_boxes(make):
    simulator = make("rover")
    blocked = []
    for episode in range(20):
        played = record_episode(simulator, np.random.default_rng(episode), 30, mixed(0.4))
        places, boxes = played.states[:, :2], played.states[0, 3:].reshape(-1, 2)
        assert np.abs(places).max() < 2 - 0.12 + 0.01
        beyond = np.maximum(np.abs(places[:, None] - boxes) - 0.2, 0)  # from the boxes' sides
        assert np.linalg.norm(beyond, axis=-1).min() > 0.12 - 0.015
        blocked += list(played.factors["way_ahead"] < 0.3 * played.actions[:, 0] - 0.1)
    assert 0.01 < np.mean(blocked) < 0.5


def test_rover_drives_an_arc_where_nothing_is_in_its_way(make):
    simulator = make("rover")
    simulator.set_state(np.array([-1.5, 0, 0.3, -1.5, -1.5, 1.5, 1.5, 1.5, -1.5, -1.5, 1.5]))
    _, factors = simulator.step(np.array([1.0, 0.6]))
    turn = 0.6 * 0.5
    expected = (0.3 * math.sin(turn) / turn, 0.3 * (1 - math.cos(turn)) / turn, turn)
    assert tuple(factors.values()) == pytest.approx(expected, abs=0.003)
    assert simulator.distance(simulator.get_state() + np.eye(11)[0] * 0.15) == pytest.approx(1)
    assert simulator.distance(simulator.get_state() + np.eye(11)[2] * (2 * math.pi + math.radians(30))) == pytest.approx(2)


def test_a_simulator_that_goes_leaves_another_ones_images_alone(make):
    gone, stays = make("reacher"), make("reacher")
    before = stays.render()
    stays.reset(1)
    expected = stays.render()
    del gone
    stays.reset(0)
    assert np.array_equal(stays.render(), before)
    stays.reset(1)
    assert np.array_equal(stays.render(), expected) and not np.array_equal(before, expected)


def test_pusht_is_drawn_as_the_package_draws_it(make):
    """Within a level of the mean over the pixels of the package's own picture of 512 x 512."""
    pygame = pytest.importorskip("pygame")
    simulator = make("pusht")
    for episode in range(4):
        played = record_episode(simulator, np.random.default_rng(episode), 4, mixed(0.3))
        surface = pygame.surfarray.pixels3d(simulator._env._draw()).transpose(1, 0, 2)
        expected = surface.reshape(SIZE, 512 // SIZE, SIZE, 512 // SIZE, 3).mean(axis=(1, 3))
        shown = played.frames[-1].astype(float)
        assert np.abs(shown - expected).mean() < 1.5
        assert np.abs(played.frames[0].astype(float) - expected).mean() > 1.5  # of another state


def test_pusht_near_goes_close_to_the_t(make):
    simulator = make("pusht")
    for episode in range(5):
        simulator.reset(episode)
        state = simulator.get_state()
        for sampled in (np.zeros(2), np.array([0.5, -1.0])):
            target = state[:2] + 100 * simulator.policy_action("near", sampled)
            wanted = state[2:4] + 100 * sampled
            assert np.allclose(target, np.clip(wanted, state[:2] - 100, state[:2] + 100))
