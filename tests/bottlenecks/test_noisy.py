"""Gaussian latents against torch.distributions."""

import math

import torch
from torch.distributions import Normal, kl_divergence

from lam.bottlenecks import Noisy
from lam.bottlenecks.noisy import kl_to_standard_normal


def test_kl_matches_torch_distributions():
    mean, log_var = torch.randn(2, 4, 3, 2, 5).unbind()
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(0.0, 1.0))
    torch.testing.assert_close(kl_to_standard_normal(mean, log_var), expected)


def test_loss_and_rate_are_the_kl_of_what_is_drawn():
    bottleneck = Noisy(3, 2, beta=0.5).eval()
    z = torch.randn(1, 1, 2, 3)
    draws = bottleneck(z.expand(20000, 1, 2, 3), sample=True).z
    mean, std = draws.mean(dim=0), draws.std(dim=0)
    torch.testing.assert_close(mean, bottleneck(z).z[0], rtol=0, atol=5 * 0.14 / 20000**0.5)
    torch.testing.assert_close(std, torch.full_like(std, math.exp(-2)), rtol=0.03, atol=0)
    kl = kl_divergence(Normal(mean, std), Normal(0.0, 1.0)).sum()
    out = bottleneck(z)
    torch.testing.assert_close(out.rate_bits.sum() * math.log(2), kl, rtol=0.03, atol=0)
    torch.testing.assert_close(out.loss, 0.5 * kl, rtol=0.03, atol=0)
    torch.testing.assert_close(out.rate_bits_each.sum(dim=(-2, -1)), out.rate_bits)


def test_the_kl_alone_leads_to_the_prior():
    torch.manual_seed(0)
    bottleneck = Noisy(4, 1, beta=1.0)
    optimizer = torch.optim.Adam(bottleneck.parameters(), lr=0.05)
    for _ in range(300):
        out = bottleneck(torch.randn(64, 1, 1, 4))
        optimizer.zero_grad()
        out.loss.backward()
        optimizer.step()
        bottleneck.on_optimizer_step(optimizer)
    assert out.rate_bits.mean() < 0.01
    torch.testing.assert_close(bottleneck.sample_prior(20000).std(), torch.tensor(1.0), rtol=0.02, atol=0)


def test_extreme_inputs_stay_finite():
    bottleneck = Noisy(4, 1)
    torch.nn.init.constant_(bottleneck.to_moments.bias, 1e4)
    out = bottleneck(torch.zeros(2, 1, 1, 4))
    assert out.z.isfinite().all()
    assert out.loss.isfinite()
