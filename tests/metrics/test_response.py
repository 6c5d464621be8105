import numpy as np
import pytest
import torch

from lam.metrics.response import direction_error, slope

TRUE = torch.randn(50, 2, generator=torch.Generator().manual_seed(0))
NOISE = torch.randn(50, 2, generator=torch.Generator().manual_seed(1))


def test_slope_is_that_of_least_squares_through_the_origin():
    induced = 0.6 * TRUE + 0.1 * NOISE
    expected = np.linalg.lstsq(TRUE.reshape(-1, 1).numpy(), induced.flatten().numpy(), rcond=None)[0][0]
    assert slope(induced, TRUE) == pytest.approx(float(expected), rel=1e-5)
    assert slope(0 * TRUE, TRUE) == 0
    assert slope(TRUE, 0 * TRUE) is None


@pytest.mark.parametrize("degrees", [0, 30, 90, 135, 180])
def test_a_turned_movement_is_off_by_its_angle(degrees):
    angle = torch.tensor(float(degrees)).deg2rad()
    turned = TRUE @ torch.tensor([[angle.cos(), angle.sin()], [-angle.sin(), angle.cos()]])
    assert direction_error(turned * 0.2, TRUE, threshold=0.5) == pytest.approx(degrees, abs=0.1)


def test_no_movement_counts_as_chance_and_short_ones_not_at_all():
    true = torch.tensor([[2.0, 0.0], [0.0, 3.0], [0.1, 0.0]])
    induced = torch.tensor([[1.0, 0.0], [0.0, 0.0], [-5.0, 0.0]])
    assert direction_error(induced, true, threshold=1) == pytest.approx(45)
    assert direction_error(induced, true, threshold=10) is None
