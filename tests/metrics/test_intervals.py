import math

import pandas as pd
import pytest
import torch
from scipy import stats

from lam.metrics.intervals import interval
from lam.report.stats.estimates import crossed_mean, half_width
from lam.report.stats.jackknife import group_sources, leave_one_out, pseudo_values

VALUES = torch.randn(30, generator=torch.Generator().manual_seed(0), dtype=torch.float64) + 0.3


def test_with_every_clip_its_own_source_it_is_the_textbook_interval():
    expected = stats.t.interval(0.95, 29, loc=VALUES.mean().item(), scale=stats.sem(VALUES.numpy()))
    assert interval(VALUES, torch.arange(30)) == pytest.approx(expected)


def test_sources_of_uneven_size_are_treated_as_in_the_report():
    sources = torch.tensor([0] * 12 + [1] * 3 + [2] * 7 + [3] * 8)
    means = leave_one_out(pd.DataFrame({"value": VALUES.numpy()}), group_sources(pd.Series(sources.numpy())))
    half = half_width(crossed_mean(pseudo_values(means.values.to_numpy(), means.share["value"].to_numpy()))).item()
    low, high = interval(VALUES, sources)
    assert (low, high) == pytest.approx((VALUES.mean().item() - half, VALUES.mean().item() + half))


def test_clips_that_repeat_each_other_add_nothing():
    values, sources = VALUES.repeat_interleave(5), torch.arange(30).repeat_interleave(5)
    assert interval(values, sources) == pytest.approx(interval(VALUES, torch.arange(30)))


def test_one_source_tells_nothing_and_equal_values_everything():
    assert interval(VALUES, torch.zeros(30)) == (-math.inf, math.inf)
    assert interval(torch.zeros(5), torch.arange(5)) == (0, 0)
