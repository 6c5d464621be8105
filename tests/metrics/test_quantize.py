import math

import pytest
import torch

from lam.metrics.entropy import plugin_entropy
from lam.metrics.quantize import quantize
from tests.metrics.gaussian import gaussian_rate


def normal(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def test_the_reference_matches_known_values():
    assert gaussian_rate(torch.tensor([1.0]), 0.25) == pytest.approx(1)
    assert gaussian_rate(torch.tensor([1.0, 0.1]), 0.2) == pytest.approx(0.5 * math.log2(10))  # the small one is left out
    assert gaussian_rate(torch.tensor([4.0, 1.0]), 0.5) == pytest.approx(0.5 * math.log2(16 * 4))


@pytest.mark.parametrize("step", [4.0, 2.0, 1.0, 0.5])
def test_gaussian_costs_at_most_about_a_quarter_of_a_bit_a_component_more_than_it_must(step):
    variances = torch.tensor([1.0, 1.0, 0.3, 0.05], dtype=torch.float64)
    values = normal(8000, 4) * variances.sqrt()
    bits, restored = quantize(values[:4000], values[4000:], step)
    rate = gaussian_rate(values[4000:].square().mean(dim=0), (restored - values[4000:]).square().sum(dim=1).mean().item())
    assert rate < bits.mean() < rate + 0.26 * 4


def test_high_rate_excess_is_that_of_the_theory():
    values = normal(40000, 1)
    bits, restored = quantize(values[:20000], values[20000:], 0.25)
    rate = gaussian_rate(values[20000:].square().mean(dim=0), (restored - values[20000:]).square().mean().item())
    assert bits.mean() - rate == pytest.approx(0.5 * math.log2(math.pi * math.e / 6), abs=0.02)


def test_values_are_restored_to_the_mean_of_their_cell_by_hand():
    fit = torch.tensor([[0.9], [1.2], [-0.1]], dtype=torch.float64)
    _, restored = quantize(fit, torch.tensor([[1.4], [0.4], [3.1]], dtype=torch.float64), 1.0)
    expected = [(0.9 + 1.2 + 1.0) / 3, (-0.1 + 0.0) / 2, 3.0]
    assert restored[:, 0].tolist() == pytest.approx(expected)


def test_components_that_never_leave_a_cell_are_free():
    fit, test = 0.1 * normal(300, 128), 0.1 * normal(300, 128, seed=1)
    bits, restored = quantize(fit, test, 2.0)
    assert bits.max() < 0.02
    assert restored.abs().max() < 0.05


def test_held_out_length_is_not_below_the_entropy_where_the_plug_in_is():
    fit, test = normal(40, 1), normal(20000, 1, seed=1)
    bits, _ = quantize(fit, test, 0.02)
    entropy = plugin_entropy((test[:, 0] / 0.02).round().long())
    assert plugin_entropy((fit[:, 0] / 0.02).round().long()) < entropy - 2
    assert bits.mean() > entropy
