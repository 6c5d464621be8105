"""Projections against scikit-learn; the linear latent action model in worlds whose covariance is known."""

import math

import pytest
import torch
from sklearn.decomposition import PCA

from lam.metrics.dimensionality import (
    active_dimensions,
    count_sketch,
    effective_rank,
    fit_linear_model,
    participation_ratio,
    principal_components,
    singular_values,
)


def test_short_vectors_stay():
    x = torch.randn(3, 8)
    assert count_sketch(x, 8) is x


def test_sketch_is_linear_and_keeps_distances():
    generator = torch.Generator().manual_seed(0)
    x, y = torch.randn(2, 10, 5000, generator=generator)
    torch.testing.assert_close(count_sketch(x + y, 256), count_sketch(x, 256) + count_sketch(y, 256), atol=1e-3, rtol=1e-3)
    ratio = (count_sketch(x, 256) - count_sketch(y, 256)).norm(dim=1) / (x - y).norm(dim=1)
    assert (ratio - 1).abs().max() < 0.25  # the error is about 1 / sqrt(256)


def test_sketch_leaves_the_global_generator_alone():
    before = torch.get_rng_state()
    count_sketch(torch.ones(2, 600), 256)
    assert torch.equal(torch.get_rng_state(), before)


def test_components_match_scikit_learn_up_to_sign_and_scale():
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0)) * torch.tensor([5.0, 3.0, 2.0, 1.0, 0.5, 0.1])
    fit = torch.arange(0, 40, 2)
    found = principal_components(x, fit, 3)
    model = PCA(3).fit(x[fit].numpy())
    expected = torch.from_numpy(model.transform(x.numpy()))
    expected /= expected[fit, 0].std(correction=0)
    torch.testing.assert_close(found.abs(), expected.abs(), atol=1e-4, rtol=1e-4)


def test_more_components_than_coordinates_are_all_of_them():
    assert principal_components(torch.randn(10, 4), torch.arange(10), 32).shape == (10, 4)


GENERATOR = torch.Generator().manual_seed(0)


def samples(covariance, n):
    """Rows (n, d) whose mean is 1, 2, ... and whose covariance is exactly the one that is asked for."""
    x = torch.randn(n, len(covariance), generator=GENERATOR, dtype=torch.float64)
    x = x - x.mean(dim=0)
    own = torch.linalg.cholesky(x.T @ x / n)
    return torch.linalg.solve_triangular(own, x.T, upper=False).T @ torch.linalg.cholesky(covariance).T + torch.arange(
        1, len(covariance) + 1
    )


def test_directions_and_variances_are_the_eigen_decomposition_of_controllable_change_plus_noise():
    """The change is B a + C w: its covariance is B B' + C C' where a and w are independent."""
    controllable, exogenous = (torch.randn(6, 2, generator=GENERATOR, dtype=torch.float64) for _ in range(2))
    covariance = controllable @ controllable.T + exogenous @ exogenous.T + 0.1 * torch.eye(6, dtype=torch.float64)
    values, vectors = torch.linalg.eigh(covariance)
    model = fit_linear_model(samples(covariance, 50), 3)
    torch.testing.assert_close(model.mean, torch.arange(1.0, 7.0, dtype=torch.float64))
    torch.testing.assert_close(model.variances, values.flip(0)[:3])
    torch.testing.assert_close((model.directions.T @ vectors.flip(1)[:, :3]).abs(), torch.eye(3, dtype=torch.float64))


@pytest.mark.parametrize("shape", [(40, 12), (12, 40)])
def test_no_other_latents_of_so_many_numbers_leave_less_error(shape):
    changes = torch.randn(*shape, generator=GENERATOR, dtype=torch.float64) * torch.rand(shape[1], generator=GENERATOR)
    u, s, v = torch.linalg.svd(changes - changes.mean(dim=0), full_matrices=False)
    model = fit_linear_model(changes, 5)
    best = u[:, :5] * s[:5] @ v[:5]  # Eckart and Young
    latents = model.latents(changes, 5)
    torch.testing.assert_close(latents * model.variances.sqrt() @ model.directions.T, best)
    torch.testing.assert_close(latents.T @ latents / len(changes), torch.eye(5, dtype=torch.float64))


def test_directions_without_variance_are_left_out():
    line = torch.randn(30, 1, generator=GENERATOR) @ torch.ones(1, 4)
    model = fit_linear_model(line, 3)
    assert model.directions.shape == (4, 1) and model.latents(line, 3).shape == (30, 1)
    assert fit_linear_model(torch.ones(30, 4), 3).latents(line, 3).shape == (30, 0)


def cross(*lengths: float) -> torch.Tensor:
    """Points on the axes at plus and minus a length, whose covariance is diagonal."""
    axes = torch.diag(torch.tensor(lengths))
    return torch.cat([axes, -axes]) + 5


def test_singular_values_match_svd():
    x = torch.randn(20, 6, generator=torch.Generator().manual_seed(0))
    expected = torch.linalg.svdvals(x.double() - x.double().mean(dim=0))
    torch.testing.assert_close(singular_values(x), expected)


def test_equal_spread_fills_all_directions():
    assert effective_rank(cross(2.0, 2.0, 2.0)) == pytest.approx(3)
    assert participation_ratio(cross(2.0, 2.0, 2.0)) == pytest.approx(3)


def test_unequal_spread_in_closed_form():
    x = cross(3.0, 1.0)
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert effective_rank(x) == pytest.approx(math.exp(entropy))
    assert participation_ratio(x) == pytest.approx((9 + 1) ** 2 / (81 + 1))


def test_one_direction_and_no_direction():
    line = torch.linspace(-1, 1, 9)[:, None] * torch.tensor([[1.0, 2.0, -1.0]])
    assert effective_rank(line) == pytest.approx(1, abs=1e-5)
    assert participation_ratio(line) == pytest.approx(1, abs=1e-5)
    assert effective_rank(torch.ones(5, 3)) == participation_ratio(torch.ones(5, 3)) == 0


def test_active_dimensions_counts_what_moves():
    assert active_dimensions(cross(2.0, 0.1, 0.0), threshold=0.1) == 1  # standard deviations 2/sqrt(3), 0.1/sqrt(3), 0
