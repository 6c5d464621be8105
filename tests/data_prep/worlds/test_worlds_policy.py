"""Generated worlds: policies, correlation and contact."""

from dataclasses import replace

import numpy as np
import pytest

from data_prep.worlds.clip import make_clip
from data_prep.worlds.settings import EMBODIMENTS, WorldSettings
from data_prep.worlds.streams import RandomStreams
from data_prep.worlds.trajectories import BLOCK_RADIUS, LEFT, NO_CONTACT, RIGHT, push, simulate
from tests.tiny import world_settings

SMALL = WorldSettings(size=8, flicker_grid=1, frames=6, step=0.1)


def gathered(settings, clips):
    """Positions before each step and commands, (clips * (F-1), 2) each."""
    all_trajectories = [simulate(settings, RandomStreams(0, 0, i)) for i in range(clips)]
    return (
        np.concatenate([trajectories.positions[:-1, 0] for trajectories in all_trajectories]),
        np.concatenate([trajectories.commands[:, 0] for trajectories in all_trajectories]),
    )


def scripted(position):
    """The policy written out: the next point at 50 degrees on a circle of radius 0.3 around the middle."""
    offset = position - 0.5
    complex_place = offset[:, 0] + 1j * offset[:, 1]
    goal = 0.3 * complex_place / np.abs(complex_place) * np.exp(1j * np.radians(50))
    wanted = goal - complex_place
    return np.stack([wanted.real, wanted.imag], axis=1).clip(-0.1, 0.1) / 0.1


def r2_from_state(settings):
    """Held-out R^2 of the command from where the agent is, by cubic polynomials."""
    state, command = gathered(replace(settings, frames=max(settings.frames, 6)), 240)
    x, y = (2 * state - 1).T
    features = np.stack([x**i * y**j for i in range(6) for j in range(6 - i)], axis=1)
    half = len(features) // 2
    weights = np.linalg.lstsq(features[:half], command[:half], rcond=None)[0]
    residual = command[half:] - features[half:] @ weights
    return 1 - residual.var(axis=0).sum() / command[half:].var(axis=0).sum()


def test_policy_entropy_0_is_a_function_of_the_state():
    state, command = gathered(replace(SMALL, policy_entropy=0.0), 100)
    np.testing.assert_allclose(command, scripted(state), atol=1e-9)
    assert r2_from_state(replace(SMALL, policy_entropy=0.0)) > 0.7


@pytest.mark.parametrize("settings", [SMALL, world_settings("demo")])
def test_policy_entropy_1_knows_nothing_of_the_state(settings):
    assert abs(r2_from_state(settings)) < 0.05


def test_policy_entropy_is_the_share_of_random_steps():
    state, command = gathered(replace(SMALL, frames=21, policy_entropy=0.3), 50)
    by_script = np.isclose(command, scripted(state), atol=1e-9).all(axis=1).mean()
    assert abs(by_script - 0.7) < 4 * np.sqrt(0.21 / 1000)


def test_discrete_moves_are_the_only_commands_away_from_walls():
    for policy_entropy in (0.0, 1.0):
        settings = replace(SMALL, num_moves=5, start=0.0, frames=4, policy_entropy=policy_entropy)
        _, command = gathered(settings, 60)
        found = np.unique(command.round(9), axis=0) + 0.0
        expected = {(0, 0), (1, 0), (-1, 0), (0, 1), (0, -1)}
        assert {tuple(row) for row in found.tolist()} <= expected
        assert policy_entropy == 0 or len(found) == 5


def test_a_body_moves_by_its_gain():
    settings = replace(SMALL, embodiments=4, start=0.0, frames=21, step=0.1)
    largest = np.zeros(4)
    for i in range(60):
        trajectories = simulate(settings, RandomStreams(0, 0, i))
        largest[trajectories.bodies[0]] = max(largest[trajectories.bodies[0]], np.abs(trajectories.displacements).max())
    gains = np.array([body.gain for body in EMBODIMENTS])
    assert (largest <= gains * 0.1 + 1e-12).all() and (largest > gains * 0.1 * 0.97).all()


@pytest.mark.parametrize("correlation", [-0.8, 0.0, 0.5, 1.0])
@pytest.mark.parametrize("num_moves", [0, 5])
def test_distractors_correlate_as_asked(correlation, num_moves):
    settings = replace(
        SMALL, frames=21, step=0.02, start=0.2, num_moves=num_moves, distractors=1, distractor_correlation=correlation
    )
    clips = [make_clip(settings, 0, 0, i) for i in range(50)]
    for axis in ("dx", "dy"):
        agent = np.concatenate([clip.factors[f"agent_{axis}"] for clip in clips])
        distractor = np.concatenate([clip.factors[f"distractor_{axis}"] for clip in clips])
        assert abs(np.corrcoef(agent, distractor)[0, 1] - correlation) < 4 * (1 - correlation**2) / np.sqrt(1000) + 0.01
        # full steps of the parameter, whatever the correlation
        assert abs(distractor.std() / (0.1 * 8 * np.sqrt(0.4 if num_moves else 1 / 3)) - 1) < 0.1


def test_the_camera_follows_the_agent_by_script():
    settings = replace(SMALL, frames=12, pan=0.03, policy_entropy=0.0)
    for i in range(10):
        trajectories = simulate(settings, RandomStreams(0, 0, i))
        expected = ((trajectories.positions[:-1, 0] - 0.5) / 0.03).clip(-1, 1) * 0.03
        np.testing.assert_allclose(trajectories.pan, expected, atol=1e-12)
    without_agent = simulate(replace(settings, agents=0), RandomStreams(0, 0, 0))
    np.testing.assert_allclose(without_agent.pan, [[0.03, 0.0]] * 11)


def test_pushed_blocks_end_outside_the_agent_along_the_line_of_contact():
    agent, radius = np.array([[0.5, 0.5]]), np.array([[0.1]])
    blocks = np.array([[0.6, 0.5], [0.5, 0.42], [0.9, 0.9]])
    sides = np.array([LEFT, RIGHT, LEFT])
    straight, touched = push(blocks, agent, radius, sides, deflection=0.0)
    np.testing.assert_allclose(straight, [[0.6 + BLOCK_RADIUS, 0.5], [0.5, 0.5 - 0.1 - BLOCK_RADIUS], [0.9, 0.9]])
    assert touched.tolist() == [LEFT, RIGHT, NO_CONTACT]
    # to the right of someone who looks along +x with y pointing down is +y
    deflected, _ = push(blocks, agent, radius, np.array([RIGHT, RIGHT, LEFT]), deflection=45.0)
    np.testing.assert_allclose(deflected[0], [0.6 + BLOCK_RADIUS, 0.5 + BLOCK_RADIUS])
    assert (np.sqrt(np.square(deflected - agent).sum(axis=1)) >= 0.1 + BLOCK_RADIUS - 1e-12).all()


def test_contact_is_frequent_and_goes_to_both_sides():
    all_trajectories = [simulate(world_settings("contact"), RandomStreams(0, 0, i)) for i in range(80)]
    contacts = np.concatenate([trajectories.contacts for trajectories in all_trajectories]).ravel()
    moved = (
        np.abs(np.concatenate([trajectories.block_displacements for trajectories in all_trajectories])).max(axis=2).ravel()
        > 1e-12
    )
    assert not moved[contacts == NO_CONTACT].any()
    assert (contacts != NO_CONTACT).mean() > 0.1
    sides = contacts[contacts != NO_CONTACT]
    assert abs((sides == LEFT).mean() - 0.5) < 4 * 0.5 / np.sqrt(len(sides))
    first = np.concatenate([trajectories.blocks[0] - trajectories.positions[0] for trajectories in all_trajectories])
    inside = np.sqrt(np.square(first).sum(axis=1)) < EMBODIMENTS[0].radius + BLOCK_RADIUS - 1e-9
    assert inside.mean() < 0.05  # walls may squeeze a few
