"""Imagination against a loop over single sequences."""

import pytest
import torch

from lam.control.imagination import Imagination, goal_cost


class World:
    """The next state depends on all that is in the window, so a wrong window shows."""

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
