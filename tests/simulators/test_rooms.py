"""Two rooms: exact returns, walls that hold, a door that lets through, what is drawn, and policies that use the door."""

import math

import numpy as np
import pytest

from lam.simulators import find_simulator, record_episode
from lam.simulators.rooms import Rooms, RoomsFixed
from tests.simulators.counter import mixed

SIZE = 32
SIDE, RADIUS, CLEARANCE, REACH = 65, 2.5, 4, 10
BOTH = pytest.mark.parametrize("name", ["rooms", "rooms-fixed"])


def state(place, wall=32.0, door=20.0, heading=0.0, target=(0.5, 0.5)):
    return np.array([*place, heading, *target, wall, door])


def future(simulator, generator, count=10):
    seen = []
    for number in range(count):
        action = simulator.policy_action(("random", "expert")[number % 2], generator.uniform(-1, 1, 2))
        recorded, factors = simulator.step(action)
        seen.append((simulator.get_state().tobytes(), simulator.render().tobytes(), recorded.tobytes(), factors))
    return seen


@BOTH
def test_after_a_return_everything_is_the_same_bit_by_bit(name):
    simulator, stranger = (find_simulator(name)(SIZE) for _ in range(2))
    for episode in range(8):
        played = record_episode(simulator, np.random.default_rng(episode), 8, mixed(0.5))
        middle, before = played.states[4], played.states[4].copy()
        stranger.set_state(middle)
        assert np.array_equal(stranger.render(), played.frames[4]) and np.array_equal(stranger.get_state(), middle)
        expected = future(stranger, np.random.default_rng(episode))
        simulator.set_state(middle)
        assert future(simulator, np.random.default_rng(episode)) == expected
        assert np.array_equal(middle, before)  # it was copied


@BOTH
def test_an_episode_is_a_function_of_its_seed(name):
    simulator = find_simulator(name)(SIZE)
    first, other, again = (record_episode(simulator, np.random.default_rng(seed), 6, mixed(0.5)) for seed in (0, 1, 0))
    for kind in ("frames", "actions", "states"):
        assert np.array_equal(getattr(first, kind), getattr(again, kind)), kind
        assert not np.array_equal(getattr(first, kind), getattr(other, kind)), kind
    assert (first.states[0, 5:] == other.states[0, 5:]).all() == (name == "rooms-fixed")


def outside_walls(states):
    """Whether the disc overlaps neither border nor wall, which is a rectangle above the door and one below it."""
    x, y, wall, door = states[:, 0], states[:, 1], states[:, 5], states[:, 6]
    inside = (np.minimum(x, y) > 6.5 - 1e-9) & (np.maximum(x, y) < SIDE - 6.5 + 1e-9)
    beside = np.abs(x - wall) > 1.5 + RADIUS - 1e-9
    return inside & (beside | (np.abs(y - door) < CLEARANCE + 1e-9))


@pytest.mark.parametrize("share", [0.0, 0.5, 1.0])
def test_walls_are_never_entered(share):
    states = [record_episode(Rooms(SIZE), np.random.default_rng(seed), 40, mixed(share)).states for seed in range(20)]
    assert outside_walls(np.concatenate(states)).all()


def test_the_wall_holds_and_the_door_lets_through():
    simulator = Rooms(SIZE)
    for seed in range(200):
        generator = np.random.default_rng(seed)
        wall, door = generator.uniform(20, 45), generator.uniform(10.5, 54.5)
        aside = generator.uniform(-CLEARANCE, CLEARANCE)
        simulator.set_state(state((wall - 4, door + aside), wall, door))
        simulator.step(np.array([1.0, 0.0]))
        assert simulator.get_state()[0] == pytest.approx(min(wall + 6, 58.5))
        height = generator.uniform(6.5, 58.5)
        if abs(height - door) > CLEARANCE:
            for direction in (1, -1):
                simulator.set_state(state((wall - direction * generator.uniform(4, 9), height), wall, door))
                for _ in range(5):
                    simulator.step(np.array([direction, 0.0]))
                assert simulator.get_state()[:2] == pytest.approx((wall - direction * 4, height))


def test_no_step_takes_the_disc_across_but_through_the_door():
    """A step is straight where nothing stops it; one that ends in the other room was in the door on its way."""
    simulator, crossed = Rooms(SIZE), 0
    for seed in range(20):
        generator = np.random.default_rng(seed)
        simulator.reset(seed)
        for _ in range(100):
            before = simulator.get_state()
            simulator.step(simulator.policy_action("random", simulator.sample_action(generator)))
            after = simulator.get_state()
            if (before[0] - before[5]) * (after[0] - after[5]) < 0:
                crossed += 1
                (above, below), door = sorted((before[1], after[1])), before[6]
                assert above <= door + CLEARANCE + 1e-9 and below >= door - CLEARANCE - 1e-9
    assert crossed > 10


def test_in_the_open_an_action_is_a_displacement_and_along_a_wall_the_disc_slides():
    simulator = Rooms(64)
    simulator.set_state(state((15, 40)))
    recorded, factors = simulator.step(np.array([0.4, -3.0]))
    assert recorded.tolist() == [0.4, -1] and simulator.get_state()[:2] == pytest.approx((19, 30))
    assert (factors["agent_dx"], factors["agent_dy"]) == pytest.approx((4 * 64 / 65, -10 * 64 / 65))
    simulator.set_state(state((27, 40)))
    simulator.step(np.array([1.0, 1.0]))
    assert simulator.get_state()[:2] == pytest.approx((28, 50))


@pytest.mark.parametrize("size", [64, 224])
def test_disc_walls_and_door_are_drawn_where_they_are(size):
    simulator, scale = Rooms(size), size / SIDE
    for seed in range(10):
        simulator.reset(seed)
        x, y, _, _, _, wall, door = simulator.get_state()
        picture = simulator.render().astype(float)
        red = np.clip(picture[..., 0] - picture[..., 2] - 10, 0, None)
        rows, columns = np.indices(red.shape) + 0.5
        assert (red * columns).sum() / red.sum() == pytest.approx(x * scale, abs=0.2)
        assert (red * rows).sum() / red.sum() == pytest.approx(y * scale, abs=0.2)
        assert red.sum() / red.max() == pytest.approx(math.pi * (RADIUS * scale) ** 2, rel=0.1)
        dark = (picture.max(axis=2) < 160)[:, int(wall * scale)]
        assert dark.sum() / scale == pytest.approx(65 - 2 * (CLEARANCE + RADIUS), abs=2)
        opening = np.flatnonzero(~dark)
        assert opening.mean() + 0.5 == pytest.approx(door * scale, abs=1)


def test_the_last_action_and_the_target_are_not_drawn():
    simulator = Rooms(SIZE)
    simulator.set_state(state((15, 40)))
    before = simulator.render()
    simulator.set_state(state((15, 40), heading=1.0, target=(0.9, 0.1)))
    assert np.array_equal(simulator.render(), before)


def test_the_expert_goes_to_its_targets_through_the_door_by_short_ways():
    simulator, across = Rooms(SIZE), 0
    for seed in range(60):
        simulator.reset(seed)
        first = simulator.get_state()
        wall, door, share = first[5], first[6], first[3:5]
        x = 6.5 + share[0] * 44
        target = np.array([x if x < wall - 4 else x + 8, 6.5 + share[1] * 52])
        middle, way, actions = np.array([wall, door]), math.dist(first[:2], target), 0
        if other := (first[0] - wall) * (target[0] - wall) < 0:
            way = math.dist(first[:2], middle) + math.dist(middle, target)
            across += other
        while np.array_equal(simulator.get_state()[3:5], share):
            simulator.step(simulator.expert_action())
            actions += 1
            assert actions <= way / REACH + 4
        assert math.dist(simulator.get_state()[:2], target) < RADIUS
    assert across > 20


def test_the_next_target_is_another_one():
    simulator = Rooms(SIZE)
    simulator.set_state(state((17.5, 32.5), target=(0.25, 0.5)))  # 17.5 = 6.5 + 0.25 * 44
    assert not simulator.expert_action().any()
    simulator.step(simulator.expert_action())
    assert simulator.get_state()[3:5] == pytest.approx(((0.25 + 0.7548777) % 1, (0.5 + 0.5698403) % 1), abs=1e-6)
    assert simulator.expert_action().any()


def test_random_actions_keep_their_direction_and_walls_reflect_it():
    simulator = Rooms(SIZE)
    simulator.set_state(state((15, 40), heading=0.5))
    sampled = np.array([0.3, 0.4])
    action = simulator.policy_action("random", sampled)
    assert math.hypot(*action) == pytest.approx(0.5)
    assert math.atan2(action[1], action[0]) == pytest.approx(0.5 + math.atan2(0.4, 0.3) / 2)
    simulator.set_state(state((26, 40)))
    simulator.step(np.array([0.8, 0.6]))
    assert simulator.get_state()[2] == pytest.approx(math.atan2(0.6, -0.8))
    kept = []
    for seed in range(20):
        moves = np.diff(record_episode(simulator, np.random.default_rng(seed), 20, {"random": 1}).states[:, :2], axis=0)
        moves = moves[np.linalg.norm(moves, axis=1) > 1]
        moves /= np.linalg.norm(moves, axis=1, keepdims=True)
        kept.append((moves[:-1] * moves[1:]).sum(axis=1))
    assert np.concatenate(kept).mean() > 0.2


def test_distance_is_in_units_of_the_public_threshold():
    simulator = Rooms(SIZE)
    simulator.set_state(state((15, 40)))
    assert simulator.distance(state((15, 40), heading=1.0, target=(0, 0))) == 0
    assert simulator.distance(state((15 + 2.7, 40 - 3.6))) == pytest.approx(1)
    assert simulator.distance(state((15, 49))) == pytest.approx(2)


@pytest.mark.parametrize(("make", "low", "high"), [(Rooms, 0.25, 0.45), (RoomsFixed, 0.2, 0.45)])
def test_a_good_share_of_goals_lies_beyond_the_door(make, low, high):
    """Of goals five actions ahead as the recording has them; hardly any is reached already."""
    simulator, beyond, there = make(SIZE), [], []
    for seed in range(100):
        played = record_episode(simulator, np.random.default_rng(seed), 10, {"random": 1, "expert": 1})
        start, goal = played.states[5], played.states[10]
        beyond.append((start[0] - start[5]) * (goal[0] - goal[5]) < 0)
        simulator.set_state(start)
        there.append(simulator.distance(goal) < 1)
    assert low < np.mean(beyond) < high and np.mean(there) < 0.1


def test_recordings_hold_where_the_disc_and_the_door_are():
    for make, places in ((Rooms, ("agent_x", "agent_y", "wall_x", "door_y")), (RoomsFixed, ("agent_x", "agent_y"))):
        played = record_episode(make(SIZE), np.random.default_rng(0), 12, mixed(0.5))
        assert set(played.factors) == {"agent_dx", "agent_dy", *places}
        for name, column in zip(places, (0, 1, 5, 6), strict=False):
            np.testing.assert_allclose(played.factors[name], played.states[:-1, column] * SIZE / SIDE, rtol=1e-5)
        np.testing.assert_allclose(np.diff(played.factors["agent_x"]), played.factors["agent_dx"][:-1], atol=1e-4)
