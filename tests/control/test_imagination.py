"""Imagination against a loop over single sequences."""

import pytest
import torch

from lam.control.imagination import Imagination, goal_cost


class World:
    """The next state depends on all that is in the window, so a wrong window shows."""

    states_seen = None

    def predict(self, states, z):
        weights = torch.arange(1, states.shape[1] + 1, dtype=states.dtype)[:, None, None]
        past = (states * weights).cumsum(dim=1) / weights.cumsum(dim=0)
        return 0.9 * past + z.mean(dim=-1, keepdim=True).cumsum(dim=1)


def act(actions, states):
    return (actions.sum(dim=-1, keepdim=True) * states.mean(dim=(1, 2))[:, None])[:, None]


def by_hand(states, z, actions, window):
    states, z, found = [*states], [*z], []
    for action in actions:
        z.append(act(action[None], states[-1][None])[0])
        recent = states[-window:], z[-min(window, len(states)) :]
        after = World().predict(torch.stack(recent[0])[None], torch.stack(recent[1])[None])[0, -1]
        states.append(after)
        found.append(after)
    return torch.stack(found)


@pytest.mark.parametrize("window", [1, 2, 5])
@pytest.mark.parametrize("chunk_size", [1, 4, 4096])
def test_all_candidates_of_all_episodes_as_if_each_were_alone(window, chunk_size):
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(2, 3, 4, 5, generator=generator, dtype=torch.float64)
    z = torch.randn(2, 2, 1, 1, generator=generator, dtype=torch.float64)
    actions = torch.randn(2, 3, 4, 2, generator=generator, dtype=torch.float64)
    imagined = Imagination(World(), act, window, chunk_size)(states, z, actions)
    assert imagined.shape == (2, 3, 4, 4, 5)
    for episode in range(2):
        for candidate in range(3):
            alone = by_hand(states[episode], z[episode], actions[episode, candidate], window)
            torch.testing.assert_close(imagined[episode, candidate], alone)


class Present(World):
    """The next state depends on the current one alone; notes how many sequences and states it is given."""

    states_seen = 1

    def __init__(self):
        self.given = []

    def predict(self, states, z):
        self.given.append((len(states), states.shape[1]))
        return 0.9 * states + z.mean(dim=-1, keepdim=True)


@pytest.mark.parametrize("window", [1, 3])
def test_states_that_are_not_seen_are_left_out(window):
    generator = torch.Generator().manual_seed(0)
    states, z = torch.randn(2, 3, 4, 5, generator=generator), torch.randn(2, 2, 1, 1, generator=generator)
    actions = torch.randn(2, 3, 4, 2, generator=generator)
    world = Present()
    imagined = Imagination(world, act, window)(states, z, actions)
    assert world.given == [(6, 1)] * 4
    current = states[:, -1:].expand(-1, 3, -1, -1)
    for step in range(4):
        latents = act(actions[:, :, step].flatten(0, 1), current.flatten(0, 1)).mean(dim=-1, keepdim=True)
        current = 0.9 * current + latents.unflatten(0, (2, 3))
        torch.testing.assert_close(imagined[:, :, step], current)


@pytest.mark.parametrize(("tokens", "sizes"), [(1, [800, 800]), (4, [229] * 6 + [226]), (2000, [1] * 1600)])
def test_on_a_cpu_even_chunks_are_as_large_as_stay_in_cache(tokens, sizes):
    world = Present()
    Imagination(world, act, window=2, chunk_size=10_000)(
        torch.zeros(2, 1, tokens, 1), torch.zeros(2, 0, 1, 1), torch.zeros(2, 800, 1, 2)
    )
    assert [count for count, _ in world.given] == sizes


def test_from_a_single_state():
    states, actions = torch.ones(2, 1, 4, 5), torch.ones(2, 3, 2, 2)
    assert Imagination(World(), act, 3)(states, torch.empty(2, 0, 1, 1), actions).shape == (2, 3, 2, 4, 5)


def test_cost_by_hand_and_with_a_mask():
    states, goal = torch.randn(2, 3, 4, 5), torch.randn(2, 4, 5)
    mask = torch.tensor([1.0, 0, 0, 1])
    for episode in range(2):
        for candidate in range(3):
            distance = (states[episode, candidate] - goal[episode]) ** 2
            assert goal_cost(states, goal)[episode, candidate].item() == pytest.approx(distance.mean().item(), rel=1e-5)
            kept = goal_cost(states, goal, mask)[episode, candidate].item()
            assert kept == pytest.approx(distance[[0, 3]].mean().item(), rel=1e-5)


def test_settings_that_cannot_work_are_refused():
    with pytest.raises(ValueError, match="window is 0"):
        Imagination(World(), act, 0)
