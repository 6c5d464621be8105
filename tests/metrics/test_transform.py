import torch

from lam.metrics.transform import fit_transform


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


Z = normal(2000, 6) @ normal(6, 6, seed=1) + 3
JACOBIAN = normal(10, 6, seed=2)
GRADIENTS = normal(100000, 10, seed=3) @ JACOBIAN


def test_components_are_uncorrelated_ordered_and_go_back():
    transform = fit_transform(Z, GRADIENTS)
    components = transform.components(Z)
    covariance = torch.cov(components.T, correction=0)
    torch.testing.assert_close(covariance, covariance.diagonal().diag(), atol=1e-8 * covariance.trace().item(), rtol=0)
    assert (covariance.diagonal().diff() < 0).all()
    torch.testing.assert_close(transform.latents(components), Z)


def test_squared_error_of_components_is_squared_error_of_the_prediction():
    transform = fit_transform(Z, GRADIENTS)
    change = Z.roll(1, 0) - Z
    predicted = (change @ JACOBIAN.T).square().sum(dim=1)
    found = (change @ transform.analysis).square().sum(dim=1)
    assert ((found / predicted - 1).abs() < 0.05).float().mean() > 0.95


def test_a_linear_map_of_the_latents_changes_only_signs():
    linear = normal(6, 6, seed=5)
    one = fit_transform(Z, GRADIENTS).components(Z)
    other = fit_transform(Z @ linear.T, GRADIENTS @ linear.inverse()).components(Z @ linear.T)
    torch.testing.assert_close(one.abs(), other.abs(), rtol=1e-5, atol=1e-6)


def test_what_does_not_move_has_no_component():
    z = torch.cat([Z[:, :2], torch.full((2000, 3), 5.0), Z[:, :1]], dim=1)
    transform = fit_transform(z, normal(50, 6))
    assert transform.components(z).shape == (2000, 2)
    torch.testing.assert_close(transform.latents(transform.components(z)), z)
    assert fit_transform(torch.full((9, 4), 0.3), torch.zeros(0, 4)).components(z[:, :4]).shape == (2000, 0)


def test_useless_directions_are_small_and_without_gradients_all_count_the_same():
    useless = fit_transform(Z, GRADIENTS[:, :1] * torch.eye(6, dtype=torch.float64)[:1]).components(Z)
    spread = useless.square().mean(dim=0)
    assert spread[1:].sum() < 2e-3 * spread[0]
    torch.testing.assert_close(
        fit_transform(Z, torch.zeros(5, 6)).components(Z).square().mean(dim=0), torch.ones(6, dtype=torch.float64)
    )
