"""Priors that fit and priors that do not, and the control between halves of inferred latents."""

import pytest
import torch

import lam.bottlenecks
from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.evals import Sampling
from lam.evals.sampling import draw_matched
from lam.noise import normal_like
from tests.evals.toy import ToyModel, evaluate, observed

COUNT = 800


class Believes(Bottleneck):
    """Draws N(center, 1) and lets everything through."""

    def __init__(self, dim: int, center: float):
        super().__init__(dim, 1)
        self.center = center

    def forward(self, z, sample=False, noise_keys=None):
        return BottleneckOutput(z, z.new_zeros(()))

    def sample_prior(self, n, generator=None):
        return self.center + torch.randn(n, 1, self.dim, generator=generator)


def sampled(center, z=None, has_prior=True):
    model = ToyModel()
    model.bottleneck = Believes(6, center)
    model.bottleneck.has_prior = has_prior
    z = torch.randn(COUNT, 2, 6, generator=torch.Generator().manual_seed(5)) if z is None else z
    return evaluate(Sampling(max_clips=COUNT), observed(z), model=model)


def test_a_prior_that_fits_cannot_be_told_from_latents():
    metrics = sampled(0.0).metrics
    assert metrics["auc"] == pytest.approx(0.5, abs=0.06)
    assert metrics["auc_halves"] == pytest.approx(0.5, abs=0.08)


def test_a_prior_elsewhere_is_found_and_the_control_is_not_moved():
    results = sampled(3.0)
    assert results.metrics["auc"] > 0.99
    assert results.metrics["auc_halves"] == pytest.approx(0.5, abs=0.08)
    positions, values = results.clips["auc"]
    assert len(positions) == COUNT
    assert values.mean().item() == pytest.approx(results.metrics["auc"])


def test_draws_come_from_the_posterior():
    """The toy adds noise of 0.5 to latents of size 0: with the mean alone nothing would match the prior."""

    class Noise(Believes):
        def forward(self, z, sample=False, noise_keys=None):
            return BottleneckOutput(z + normal_like(z, noise_keys) if sample else z, z.new_zeros(()))

    model = ToyModel()
    model.bottleneck = Noise(6, 0.0)
    results = evaluate(Sampling(max_clips=COUNT), observed(torch.zeros(COUNT, 2, 6)), model=model)
    assert results.metrics["auc"] == pytest.approx(0.5, abs=0.06)


def test_latents_without_a_prior_are_told_from_the_moment_matched_one_alone():
    """A correlated Gaussian far from N(0, I) is its moment-matched prior; two clusters are not."""
    mix = torch.randn(6, 6, generator=torch.Generator().manual_seed(1))
    gaussian = 5 + torch.randn(COUNT, 2, 6, generator=torch.Generator().manual_seed(2)) @ mix
    results = sampled(0.0, gaussian, has_prior=False)
    assert results.metrics.keys() == {"auc_moment_matched", "auc_halves"}
    assert results.metrics["auc_moment_matched"] == pytest.approx(0.5, abs=0.06)
    assert sampled(0.0, gaussian).metrics["auc"] > 0.99  # beside N(0, I)
    clusters = torch.randn(COUNT, 2, 6, generator=torch.Generator().manual_seed(3)).sign()
    assert sampled(0.0, clusters, has_prior=False).metrics["auc_moment_matched"] > 0.9


def test_moments_come_from_the_half_for_fitting():
    """Halves at different places: draws stay with the half they were fitted on, so the other half is told from them."""
    z = torch.randn(400, 3, generator=torch.Generator().manual_seed(0))
    drawn = draw_matched(z[:200] * torch.tensor([1.0, 3.0, 0.0]) + 2, 20000, torch.Generator().manual_seed(1))
    seen = z[:200] * torch.tensor([1.0, 3.0, 0.0]) + 2
    torch.testing.assert_close(drawn.mean(dim=0), seen.mean(dim=0), rtol=0, atol=0.08)
    torch.testing.assert_close(drawn.T.cov(), seen.T.cov(correction=0), rtol=0.05, atol=0.05)
    assert drawn[:, 2].std() < 1e-6


@pytest.mark.parametrize("name", ["Identity", "Residual", "Nested"])
def test_families_without_a_prior_say_so(name):
    assert not getattr(lam.bottlenecks, name)(8, 2).has_prior
    assert lam.bottlenecks.Noisy(8, 2).has_prior


def test_too_few_sources_give_no_keys():
    assert sampled(0.0, torch.randn(3, 2, 6)).metrics == {}
