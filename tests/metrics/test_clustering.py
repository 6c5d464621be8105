import math

import pytest
import torch

from lam.metrics.clustering import Codebook, anneal
from lam.metrics.quantize import quantize
from lam.metrics.transform import fit_transform

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
    finest = next(anneal(y[:2048].float(), [w * y.square().sum(dim=1).mean().item() for w in WEIGHTS], 512))
    assigned = finest.assign(y[2048:].float())
    assert finest.lengths[assigned].mean().item() == pytest.approx(math.log2(num_codes), rel=0.02)
    torch.testing.assert_close(finest.centers(z[:2048])[assigned], z[2048:], atol=1e-5, rtol=0)  # nothing is lost

    marginals, restored = quantize(y[:2048], y[2048:], 0.5 * y.std(dim=0).mean().item())
    assert (transform.latents(restored) - z[2048:]).square().mean() > 1e-3  # something is lost, and yet
    assert marginals.mean() > 5 * math.log2(num_codes)


def test_discrete_latents_of_known_entropy_within_five_percent():
    p = torch.tensor([0.4, 0.2, 0.1, 0.1, 0.05, 0.05, 0.05, 0.05])
    z = drawn(p, 6, 4000)
    finest = next(anneal(z[:2000], [1e-3], 500))
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
    books = list(anneal(points, [2 * w for w in WEIGHTS], 250))
    sizes = [len(book.codes) for book in books]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 100
    assert sizes[-1] == 1
    assert all((2 ** -book.lengths.double()).sum().item() == pytest.approx(1, abs=1e-5) for book in books)
    torch.testing.assert_close(books[-1].codes[0], points.mean(dim=0))


def test_gaussian_of_two_dimensions_costs_about_as_much_as_component_by_component():
    points = torch.randn(16000, 2, generator=torch.Generator().manual_seed(0))
    fit, test = points[:8000], points[8000:]
    for book in anneal(fit, [0.2, 0.4], 1024):
        codes = book.assign(test)
        distortion = (book.codes[codes] - test).square().sum(dim=1).mean().item()
        rate = math.log2(2 / distortion)  # two unit variances
        assert rate < book.lengths[codes].mean().item() < rate + 2 * 0.27
