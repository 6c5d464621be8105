"""Priors that fit and priors that do not, and the control between halves of inferred latents."""

import pytest
import torch

from lam.bottlenecks.base import Bottleneck, BottleneckOutput
from lam.evals import Sampling
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


def sampled(center, z=None):
    model = ToyModel()
    model.bottleneck = Believes(6, center)
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


def test_too_few_sources_give_no_keys():
    assert sampled(0.0, torch.randn(3, 2, 6)).metrics == {}
