"""The reader of states finds a spot in noise by its movements alone."""

import torch

from lam.metrics.mlp import LabelSplit
from lam.metrics.state_reader import read_states

COUNT, SIZE = 160, 16


def spots():
    """Pictures (n, 2, 3, 16, 16) of a bright spot on noise, its places, and how it moves."""
    generator = torch.Generator().manual_seed(0)
    places = 4 + 8 * torch.rand(COUNT, 2, 2, generator=generator)
    grid = torch.stack(torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij"), dim=-1)
    spot = torch.exp(-(grid - places[:, :, None, None]).square().sum(dim=-1) / 4)
    return (torch.randn(COUNT, 2, 3, SIZE, SIZE, generator=generator) * 0.3 + spot[:, :, None]).half(), places


def test_places_are_learned_from_movements_and_nothing_is_learned_by_heart():
    pictures, places = spots()
    moves = (places[:, 1] - places[:, 0]) / 3
    noise = torch.randn(COUNT, 1, generator=torch.Generator().manual_seed(1))
    fit, test = torch.arange(80), torch.arange(80, COUNT)
    before = torch.get_rng_state()
    with torch.inference_mode():
        labels = LabelSplit(fit[fit % 4 != 3], fit[fit % 4 == 3])
        features = read_states(pictures, torch.cat([moves, noise], dim=1), labels, torch.arange(3))
    assert torch.equal(torch.get_rng_state(), before)
    for state in (0, 1):
        x = torch.cat([features[:, state], torch.ones(COUNT, 1)], dim=1)
        weights = torch.linalg.lstsq(x[fit], places[fit, state]).solution
        error = (x[test] @ weights - places[test, state]).square().sum(dim=0)
        assert (error / (places[test, state] - places[test, state].mean(dim=0)).square().sum(dim=0) < 0.1).all()
