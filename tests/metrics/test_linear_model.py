"""The closed form of the linear latent action model, in worlds whose covariance is known."""

import pytest
import torch

from lam.metrics.linear_model import fit_linear_model

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
