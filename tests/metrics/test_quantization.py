"""Lossy coding of latents, against rate-distortion theory."""

import math

import pytest
import torch

from lam.metrics.entropy import plugin_entropy
from lam.metrics.quantization import Codebook, fit_codebooks, fit_transform, quantize_scalars
from tests.metrics.gaussian import gaussian_rate


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


def test_the_reference_matches_known_values():
    assert gaussian_rate(torch.tensor([1.0]), 0.25) == pytest.approx(1)
    assert gaussian_rate(torch.tensor([1.0, 0.1]), 0.2) == pytest.approx(0.5 * math.log2(10))  # the small one is left out
    assert gaussian_rate(torch.tensor([4.0, 1.0]), 0.5) == pytest.approx(0.5 * math.log2(16 * 4))


@pytest.mark.parametrize("step", [4.0, 2.0, 1.0, 0.5])
def test_gaussian_costs_at_most_about_a_quarter_of_a_bit_a_component_more_than_it_must(step):
    variances = torch.tensor([1.0, 1.0, 0.3, 0.05], dtype=torch.float64)
    values = normal(8000, 4) * variances.sqrt()
    bits, restored = quantize_scalars(values[:4000], values[4000:], step)
    rate = gaussian_rate(values[4000:].square().mean(dim=0), (restored - values[4000:]).square().sum(dim=1).mean().item())
    assert rate < bits.mean() < rate + 0.26 * 4


def test_high_rate_excess_is_that_of_the_theory():
    values = normal(40000, 1)
    bits, restored = quantize_scalars(values[:20000], values[20000:], 0.25)
    rate = gaussian_rate(values[20000:].square().mean(dim=0), (restored - values[20000:]).square().mean().item())
    assert bits.mean() - rate == pytest.approx(0.5 * math.log2(math.pi * math.e / 6), abs=0.02)


def test_values_are_restored_to_the_mean_of_their_cell_by_hand():
    fit = torch.tensor([[0.9], [1.2], [-0.1]], dtype=torch.float64)
    _, restored = quantize_scalars(fit, torch.tensor([[1.4], [0.4], [3.1]], dtype=torch.float64), 1.0)
    expected = [(0.9 + 1.2 + 1.0) / 3, (-0.1 + 0.0) / 2, 3.0]
    assert restored[:, 0].tolist() == pytest.approx(expected)


def test_components_that_never_leave_a_cell_are_free():
    fit, test = 0.1 * normal(300, 128), 0.1 * normal(300, 128, seed=1)
    bits, restored = quantize_scalars(fit, test, 2.0)
    assert bits.max() < 0.02
    assert restored.abs().max() < 0.05


def test_held_out_length_is_not_below_the_entropy_where_the_plug_in_is():
    fit, test = normal(40, 1), normal(20000, 1, seed=1)
    bits, _ = quantize_scalars(fit, test, 0.02)
    entropy = plugin_entropy((test[:, 0] / 0.02).round().long())
    assert plugin_entropy((fit[:, 0] / 0.02).round().long()) < entropy - 2
    assert bits.mean() > entropy


WEIGHTS = [2.0**-i for i in range(9, -2, -1)]


def drawn(p: torch.Tensor, width: int, count: int) -> torch.Tensor:
    """Codes of a random codebook; straight-through rounding makes equal ones differ a little."""
    generator = torch.Generator().manual_seed(0)
    codebook = torch.randn(len(p), width, generator=generator)
    codes = torch.multinomial(p, count, replacement=True, generator=generator)
    return codebook[codes] + 1e-7 * torch.randn(count, width, generator=generator)


@pytest.mark.parametrize("num_codes", [16, 64])
def test_a_random_codebook_costs_its_entropy_and_not_its_summed_marginals(num_codes):
    z = drawn(torch.full((num_codes,), 1 / num_codes), 128, 4096)
    transform = fit_transform(z[:2048], torch.randn(500, 128, generator=torch.Generator().manual_seed(1)))
    y = transform.components(z)
    finest = next(fit_codebooks(y[:2048].float(), [w * y.square().sum(dim=1).mean().item() for w in WEIGHTS], 512))
    assigned = finest.assign(y[2048:].float())
    assert finest.lengths[assigned].mean().item() == pytest.approx(math.log2(num_codes), rel=0.02)
    torch.testing.assert_close(finest.centers(z[:2048])[assigned], z[2048:], atol=1e-5, rtol=0)  # nothing is lost

    marginals, restored = quantize_scalars(y[:2048], y[2048:], 0.5 * y.std(dim=0).mean().item())
    assert (transform.latents(restored) - z[2048:]).square().mean() > 1e-3  # something is lost, and yet
    assert marginals.mean() > 5 * math.log2(num_codes)


def test_discrete_latents_of_known_entropy_within_five_percent():
    p = torch.tensor([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    z = drawn(p, 6, 4000)
    finest = next(fit_codebooks(z[:2000], [1e-3], 500))
    found = finest.lengths[finest.assign(z[2000:])].mean().item()
    assert found == pytest.approx(-(p * p.log2()).sum().item(), rel=0.05)
    assert len(finest.codes) == 8


def test_codes_are_assigned_by_squared_error_plus_price_of_bits():
    generator = torch.Generator().manual_seed(0)
    book = Codebook(torch.randn(7, 3, generator=generator), 5 * torch.rand(7, generator=generator), 0.3, torch.zeros(0))
    points = torch.randn(50, 3, generator=generator)
    costs = (points[:, None] - book.codes).square().sum(dim=2) + 0.3 * book.lengths
    assert torch.equal(book.assign(points), costs.argmin(dim=1))


def test_books_get_smaller_and_are_proper_codes():
    points = torch.randn(1000, 2, generator=torch.Generator().manual_seed(0))
    books = list(fit_codebooks(points, [2 * w for w in WEIGHTS], 250))
    sizes = [len(book.codes) for book in books]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 100
    assert sizes[-1] == 1
    assert all((2 ** -book.lengths.double()).sum().item() == pytest.approx(1, abs=1e-5) for book in books)
    torch.testing.assert_close(books[-1].codes[0], points.mean(dim=0))


def test_gaussian_of_two_dimensions_costs_about_as_much_as_component_by_component():
    points = torch.randn(16000, 2, generator=torch.Generator().manual_seed(0))
    fit, test = points[:8000], points[8000:]
    for book in fit_codebooks(fit, [0.2, 0.4], 1024):
        codes = book.assign(test)
        distortion = (book.codes[codes] - test).square().sum(dim=1).mean().item()
        rate = math.log2(2 / distortion)  # two unit variances
        assert rate < book.lengths[codes].mean().item() < rate + 2 * 0.27
