import math

import pytest
import torch

from lam.metrics.spread import active_dimensions, effective_rank, participation_ratio, singular_values


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
