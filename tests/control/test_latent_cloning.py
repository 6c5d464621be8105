"""Cloning of latents in a world where the latents on the way to a goal are known."""

import pytest
import torch

from lam.control.latent_cloning import LatentCloning
from lam.encoders.base import StateShape

STEPS = 3


def straight_clips(count, seed):
    """Walks of unit steps in one direction each: on the way to any goal the latents are its direction."""
    generator = torch.Generator().manual_seed(seed)
    angle = 2 * torch.pi * torch.rand(count, 1, generator=generator)
    direction = torch.cat([angle.cos(), angle.sin()], dim=1)
    start = torch.randn(count, 1, 2, generator=generator)
    states = start + torch.arange(STEPS + 1)[None, :, None] * direction[:, None]
    return states[:, :, None], direction[:, None].expand(-1, STEPS, -1)


@pytest.fixture(scope="module")
def learned():
    torch.manual_seed(0)
    head = LatentCloning(StateShape(1, 1, 2), 2, STEPS, width=32)
    states, latents = straight_clips(256, seed=0)
    head.measure(latents.flatten(0, 1))
    optimizer = torch.optim.Adam(head.parameters(), lr=3e-3)
    for _ in range(150):
        loss = head.goals_loss(states, latents)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return head.requires_grad_(False)


@pytest.mark.parametrize("away", range(1, STEPS + 1))
def test_the_latents_on_the_way_to_goals_at_any_distance_are_found(learned, away):
    states, latents = straight_clips(128, seed=1)
    found = learned(states[:, 0], states[:, away])[:, :away]
    assert (found - latents[:, :away]).norm(dim=-1).mean() < 0.15  # of steps of length 1
    other = learned(states[:, 0], states[:, away].roll(1, dims=0))[:, :away]  # toward another's goal
    assert (other - latents[:, :away]).norm(dim=-1).mean() > 0.8


def test_a_goal_says_nothing_of_the_latents_after_it():
    torch.manual_seed(0)
    head = LatentCloning(StateShape(1, 1, 2), 2, STEPS, width=8)
    states, latents = straight_clips(4, seed=2)
    head.measure(latents.flatten(0, 1))
    by_hand = [
        ((head(states[:, 0], states[:, away]) - latents)[:, step] / head.std).square().mean()
        for away in range(1, STEPS + 1)
        for step in range(away)
    ]
    torch.testing.assert_close(head.goals_loss(states, latents), torch.stack(by_hand).mean())


def test_numbers_of_a_latent_have_one_scale():
    head = LatentCloning(StateShape(1, 1, 2), 3, STEPS, width=8)
    latents = torch.randn(1000, 3) * torch.tensor([1.0, 0.0, 7.0]) + 2
    head.measure(latents)
    torch.testing.assert_close(head.std, latents.var(dim=0, correction=0).mean().sqrt().expand(3))
    torch.testing.assert_close(head.mean, latents.mean(dim=0))
