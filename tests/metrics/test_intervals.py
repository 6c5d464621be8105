import math

import pytest
import torch
from scipy import stats

from lam.metrics.intervals import interval
from lam.report.intervals import by_source, crossed_mean, half_width

VALUES = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3


def test_with_every_clip_its_own_source_it_is_the_textbook_interval():
    expected = stats.t.interval(0.95, 29, loc=VALUES.mean().item(), scale=stats.sem(VALUES.numpy()))
    assert interval(VALUES, torch.arange(30)) == pytest.approx(expected)


def test_sources_of_uneven_size_are_treated_as_in_the_report():
    sources = torch.tensor([0] * 12 + [1] * 3 + [2] * 7 + [3] * 8)
    mean = crossed_mean(by_source(VALUES[:, None].numpy(), sources.numpy()))
    half = half_width(mean).item()
    low, high = interval(VALUES, sources)
    assert (low, high) == pytest.approx((VALUES.mean().item() - half, VALUES.mean().item() + half))


def test_clips_that_repeat_each_other_add_nothing():
    values, sources = VALUES.repeat_interleave(5), torch.arange(30).repeat_interleave(5)
    assert interval(values, sources) == pytest.approx(interval(VALUES, torch.arange(30)))


def test_one_source_tells_nothing_and_equal_values_everything():
    assert interval(VALUES, torch.zeros(30)) == (-math.inf, math.inf)
    assert interval(torch.zeros(5), torch.arange(5)) == (0, 0)
