"""How well a mean over clips is known from one run, clips of a source counted together."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def interval(values: Tensor, sources: Tensor, confidence: float = 0.95) -> tuple[float, float]:
    """Ends of the t interval around the mean of values (n,), whose clips belong to sources (n,); infinite with one source.

    Clips of one video are not independent, so sums of deviations by source are what varies: the cluster-robust variance
    of a mean, with as many degrees of freedom as sources but one. Every clip a source of its own gives the textbook interval.
    """
    from scipy.stats import t

    index, counts = torch.unique(sources, return_inverse=True, return_counts=True)[1:]
    num_sources, values = len(counts), values.double()
    mean = values.mean()
    if num_sources < 2:
        return -math.inf, math.inf
    sums = torch.zeros(num_sources, dtype=torch.float64).index_add(0, index, values - mean)
    error = sums.square().sum().mul(num_sources / (num_sources - 1)).sqrt() / len(values)
    half = t.ppf(0.5 + confidence / 2, num_sources - 1) * error.item()
    return mean.item() - half, mean.item() + half
