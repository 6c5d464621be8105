"""The tabletop: pushes, instructions and the expert that does them, goals, cameras, and the fork."""

import math

import numpy as np
import pytest

from lam.simulators import find_simulator, record_episode

pytestmark = pytest.mark.slow
SIZE, SIDE, REACH = 64, 512, 80
NAMES = ["tabletop", "tabletop-tilted", "tabletop-fork"]
ALL = pytest.mark.parametrize("name", NAMES)
EXTENTS = np.array([30, 38, 40, 38])


@pytest.fixture
def make():
    """Makes a simulator; the package is not among those for tests."""
    pytest.importorskip("pymunk", reason="NO SIMULATOR tabletop, this test did not run: needs pip install 'lam[sim]'")
    return lambda name="tabletop": find_simulator(name)(SIZE)


def state(agent, blocks, instruction=0):
    """A state with given poses (x, y, angle); blocks that are not given stand far from the others."""
    corners = [(100, 60, 0), (200, 60, 0), (300, 60, 0), (400, 60, 0)]
    return np.array([*agent, *(number for block in [*blocks, *corners[len(blocks) :]] for number in block), instruction], float)


def places(states):
    """Of agent and blocks, (..., 5, 2)."""
    return states[..., :-1].reshape(*states.shape[:-1], 5, 3)[..., :2]


def mixed():
    return {"random": 1, "near": 1, "expert": 1}


@ALL
def test_where_nothing_is_in_the_way_an_action_is_a_displacement(make, name):
    simulator = make(name)
    simulator.set_state(state((200, 300, 0), []))
    action = np.array([0.5, -0.75, 0.5][: len(simulator.action_low)])
    recorded, factors = simulator.step(action)
    np.testing.assert_allclose(places(simulator.get_state())[0], (200 + 40, 300 - 60), atol=0.01)
    assert np.array_equal(places(simulator.get_state())[1:], places(state((0, 0, 0), []))[1:])
    np.testing.assert_allclose(recorded, action)
    if name == "tabletop":
        assert (factors["agent_dx"], factors["agent_dy"]) == pytest.approx((40 / 8, -60 / 8), abs=0.01)
    if name == "tabletop-fork":
        assert factors["agent_turn"] == pytest.approx(0.3, abs=1e-3) and recorded[2] == 0.5


def test_a_block_is_pushed_ahead_and_others_stand_still(make):
    simulator = make()
    simulator.set_state(state((200, 300, 0), [(280, 300, 0)]))  # 80 apart, together at 46
    _, factors = simulator.step(np.array([1.0, 0.0]))
    moved = places(simulator.get_state())
    # the disc weighs 16 times as much as the block, which takes a share of its speed
    assert moved[0] == pytest.approx((234 + 46 * 16 / 17, 300), abs=1) and math.dist(*moved[:2]) == pytest.approx(46, abs=1)
    assert np.array_equal(moved[2:], places(state((0, 0, 0), []))[2:])
    assert factors["red_dx"] == pytest.approx((moved[1, 0] - 280) / 8) and factors["blue_dx"] == 0
    at_rest = simulator.get_state()
    simulator.step(np.zeros(2))
    np.testing.assert_allclose(simulator.get_state(), at_rest, atol=0.2)  # pymunk moves bodies apart that overlap a little


@ALL
def test_nothing_leaves_the_table_or_lies_in_another(make, name):
    simulator = make(name)
    agent = simulator.extent if name == "tabletop-fork" else 16
    inner = np.array([min(agent, 16), 30, 27, 20, 27])  # inscribed circles
    for seed in range(6):
        played = record_episode(simulator, np.random.default_rng(seed), 40, mixed())
        found = places(played.states)
        assert found.min() > 0 and found.max() < SIDE
        apart = np.linalg.norm(found[:, :, None] - found[:, None], axis=-1)
        some = ~np.eye(5, dtype=bool)
        if name == "tabletop-fork":
            some[0] = some[:, 0] = False  # its middle is hollow
        assert (apart - inner[:, None] - inner)[:, some].min() > -4


def test_a_block_that_is_jammed_stops_the_agent(make):
    simulator = make()
    simulator.set_state(state((400, 300, 0), [(466, 300, 0)]))
    for _ in range(6):
        simulator.step(np.array([1.0, 0.0]))
    agent, block = places(simulator.get_state())[:2]
    assert block[0] < SIDE - 8 - 30 + 6 and math.dist(agent, block) > 46 - 6


@pytest.mark.parametrize(("name", "least"), [("tabletop", 0.9), ("tabletop-fork", 0.85)])
def test_the_expert_does_what_the_instruction_says(make, name, least):
    simulator, done = make(name), []
    for seed in range(40):
        simulator.reset(seed)
        instruction, text = simulator.instruction, str(simulator.instruction)
        words = ["red circle", "blue square", "green triangle", "yellow square"]
        assert text == f"push the {words[instruction.block]} to the {words[instruction.to]}"
        assert instruction.block != instruction.to and simulator.instruction_distance(instruction) > 1
        for _ in range(20):
            simulator.step(simulator.expert_action())
            if simulator.instruction != instruction:
                break
        now = places(simulator.get_state())[1:]
        apart = math.dist(now[instruction.block], now[instruction.to])
        together = apart < EXTENTS[instruction.block] + EXTENTS[instruction.to] + 4
        assert (simulator.instruction_distance(instruction) < 1) == together == (simulator.instruction != instruction)
        done.append(together)
    assert np.mean(done) >= least


def test_every_instruction_has_its_turn(make):
    simulator = make()
    seen = set()
    for _ in range(12):
        instruction = simulator.instruction
        seen.add(instruction)
        blocks = [(100 + 110 * number, 100 + 200 * (number % 2), 0.0) for number in range(4)]
        x, y, _ = blocks[instruction.to]
        blocks[instruction.block] = (x, y + 90, 0.0)  # pushed up to the other, so that they touch
        number = simulator.get_state()[-1]
        simulator.set_state(state((x, y + 90 + 60, 0), blocks, number))
        for _ in range(12):
            if simulator.instruction == instruction:
                simulator.step(np.array([0.0, -0.3]))
        assert simulator.instruction != instruction
    assert len(seen) == 12


def test_the_goal_of_an_instruction_is_a_state_in_which_it_is_done(make):
    simulator = make()
    for seed in range(30):
        simulator.reset(seed)
        instruction, before = simulator.instruction, simulator.get_state()
        goal = simulator.instruction_goal(instruction)
        assert simulator.distance(goal) > 1 and np.array_equal(simulator.get_state(), before)
        simulator.set_state(goal)
        assert simulator.instruction_distance(instruction) == pytest.approx(1)
        changed = np.flatnonzero((places(goal) != places(before)).any(axis=-1))
        assert changed.tolist() == [0, 1 + instruction.block]


def test_distance_is_that_of_what_is_farthest_from_its_place(make):
    simulator = make()
    start = state((200, 300, 0), [])
    simulator.set_state(start)
    for number in range(5):
        goal = start.copy()
        goal[3 * number : 3 * number + 3] += (12, 16, 2.0)
        assert simulator.distance(goal) == pytest.approx(1)
    assert simulator.distance(state((200, 300, 1), [(100, 100, 0)])) == pytest.approx(2)


def test_near_goes_close_to_the_block_of_the_instruction(make):
    for name in NAMES:
        simulator = make(name)
        for seed in range(5):
            simulator.reset(seed)
            agent, block = places(simulator.get_state())[[0, 1 + simulator.instruction.block]]
            for sampled in (np.zeros(3), np.array([0.5, -1.0, 0.2])):
                action = simulator.policy_action("near", sampled[: len(simulator.action_low)])
                assert np.allclose(action[:2], np.clip((block + REACH * sampled[:2] - agent) / REACH, -1, 1))
                assert np.array_equal(action[2:], sampled[2 : len(action)])


@pytest.mark.parametrize("name", ["tabletop", "tabletop-tilted"])
def test_blocks_are_drawn_where_factors_say(make, name):
    simulator = make(name)
    tests = {
        "red": lambda r, g, b: (r > 150) & (g < 90) & (b < 90),
        "blue": lambda r, g, b: (b > 150) & (r < 100),
        "green": lambda r, g, b: (g > 120) & (r < 90) & (b < 110),
        "yellow": lambda r, g, b: (r > 200) & (b < 90) & (g > 150),
    }
    for seed in range(8):
        simulator.reset(seed)
        picture, factors = simulator.render().astype(int), simulator.state_factors()
        for color, is_color in tests.items():
            rows, columns = np.nonzero(is_color(*np.moveaxis(picture, 2, 0)))
            assert len(rows) >= 8
            foot = np.array([factors[f"{color}_x"], factors[f"{color}_y"]])
            number = 1 + list(tests).index(color)
            up = np.append(places(simulator.get_state())[number], 24)
            (ground,), (top,) = (SIZE * simulator.camera.project(up[None] * scale) for scale in ([1, 1, 0], [1, 1, 1]))
            assert np.allclose(foot, ground, atol=1e-3) and (top == ground).all() == (name == "tabletop")
            assert abs(columns.mean() + 0.5 - top[0]) < 1 and abs(rows.mean() + 0.5 - top[1]) < 1.2


def test_cameras_differ_by_what_they_see_alone(make):
    above, aslant = (record_episode(make(name), np.random.default_rng(2), 8, mixed()) for name in NAMES[:2])
    assert np.array_equal(above.states, aslant.states) and np.array_equal(above.actions, aslant.actions)
    assert (above.frames != aslant.frames).any(axis=(1, 2, 3)).all()


def test_the_camera_aslant_is_a_pinhole():
    """Straight lines stay straight, what is farther is smaller, and the horizon's vanishing point is that of the camera."""
    from lam.simulators.tabletop_view import Aslant

    camera = Aslant(SIDE)
    near, far = (camera.project(np.array([[0.0, y, 0], [SIDE, y, 0]])) for y in (SIDE, 0))
    widths = np.ptp(near[:, 0]), np.ptp(far[:, 0])
    assert 0.9 < widths[0] <= 1 and widths[1] < 0.8 * widths[0]
    distances = [(camera.eye - np.array([SIDE / 2, y, 0])) @ -camera.axes[2] for y in (SIDE, 0)]
    assert widths[0] / widths[1] == pytest.approx(distances[1] / distances[0])
    assert np.allclose(camera.axes @ camera.axes.T, np.eye(3))
    line = camera.project(np.linspace([30, 40, 5], [400, 300, 90], 5))
    assert np.linalg.matrix_rank(line - line[0], tol=1e-9) == 1
    for x, y in camera.project(np.array([[0, 0, 0], [SIDE, 0, 0], [SIDE, SIDE, 0], [0, SIDE, 0.0]])):
        assert 0 <= x <= 1 and 0 <= y <= 1
