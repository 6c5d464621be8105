import math

import numpy as np
import pytest
from scipy.spatial import ConvexHull

from lam.metrics.operational import operational_bits


def test_a_point_that_is_good_enough_costs_its_bits_and_a_chord_its_mixture():
    bits, errors = np.array([0.0, 4.0]), np.array([1.0, 0.2])
    assert operational_bits(bits, errors, 1.0) == 0
    assert operational_bits(bits, errors, 0.2) == 4
    assert operational_bits(bits, errors, 0.4) == pytest.approx(3)  # three in four transitions coded
    assert operational_bits(bits, errors, 2.0) == 0


def test_nothing_is_extrapolated():
    assert math.isnan(operational_bits(np.array([0.0, 4.0]), np.array([1.0, 0.2]), 0.19))


def test_points_above_the_hull_change_nothing_and_order_does_not_matter():
    bits, errors = np.array([0.0, 2.0, 4.0, 3.0]), np.array([1.0, 0.3, 0.2, 0.9])
    expected = 2 * (1 - 0.5) / (1 - 0.3)
    for order in (np.arange(4), np.array([2, 0, 3, 1])):
        assert operational_bits(bits[order], errors[order], 0.5) == pytest.approx(expected)


def test_agrees_with_a_hull_by_scipy():
    generator = np.random.default_rng(0)
    bits = generator.uniform(0, 10, 30)
    errors = np.exp(-bits) + generator.uniform(0, 0.5, 30)
    corners = np.stack([bits, errors], axis=1)[ConvexHull(np.stack([bits, errors], axis=1)).vertices]
    lower = corners[np.argsort(corners[:, 0])]
    lower = lower[np.concatenate([[True], np.diff(np.minimum.accumulate(lower[:, 1])) < 0])]  # falling part
    for target in np.linspace(errors.min(), lower[0, 1], 20)[1:-1]:
        line = [
            a[0] + (b[0] - a[0]) * (a[1] - target) / (a[1] - b[1])
            for i, a in enumerate(lower)
            for b in lower[i + 1 :]
            if b[1] <= target <= a[1]
        ]
        assert operational_bits(bits, errors, target) == pytest.approx(min(line))
