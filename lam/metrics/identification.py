"""Which of several scenes does a prediction show? From the prediction alone, and what that is worth in bits.

A prediction that knows nothing of the scene is right one time in K however it looks, flat, mean or blurred, since the scene is
drawn evenly from the K candidates.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

TEMPERATURES = tuple(10 ** (exponent / 4) for exponent in range(-16, 9))
"""Temperatures tried, 1e-4 to 1e2; at the last one every candidate is about as likely, which costs nothing."""

DOUBT = 0.02
"""Probability shared out evenly among all candidates, so that one mistake costs few bits; certainty is worth 0.03 bits less."""


def resemblance(before: Tensor, predicted: Tensor, candidates: Tensor) -> Tensor:
    """Score how much of the way from a state to each candidate a prediction has gone, (b, K), 1 where it is the candidate.

    The score is sum w ((before - c)² - (predicted - c)²) / sum w (before - c)² with weights w = ``|predicted - before|``: what
    the prediction did not change does not count, and a candidate that is like the state before has no advantage. It is 0
    for all candidates where nothing is changed.

    Args:
        before: States before, (b, d).
        predicted: Predictions of the next ones, (b, d).
        candidates: What may come next, (b, K, d).
    """
    change = predicted - before
    weight, scores = change.abs(), []
    for candidate in candidates.unbind(dim=1):  # one at a time: all of them are K times the memory
        way = candidate - before
        gained = (weight * change * (2 * way - change)).double().sum(dim=1)
        whole = (weight * way.square()).double().sum(dim=1)
        scores.append(torch.where(whole > 0, gained / whole.clamp(min=1e-30), 0.0))
    return torch.stack(scores, dim=1)


def identified(scores: Tensor) -> Tensor:
    """Tell whether the first of K candidates has the highest score, (n,) float64; of m equally high ones it counts 1/m."""
    highest = scores >= scores.amax(dim=1, keepdim=True) - 1e-9
    return highest[:, 0].double() / highest.sum(dim=1)


def information(scores: Tensor, fold: Tensor) -> Tensor:
    """Bound the bits that a prediction has about which of K candidates is true, from below; (n,), the mean is the bound.

    The bound is log2 K + the mean log2 of what a forecast gives the first, true candidate (Barber and Agakov; with a softmax
    of scores it is InfoNCE, https://arxiv.org/abs/1807.03748, equation 5), at most log2 K. The forecast is a softmax of scores
    with a temperature, mixed with an even one (``DOUBT``); the temperature of each fold is the best one of the other.

    Args:
        scores: Scores (n, K), of the true candidate first.
        fold: Fold of each row, (n,) bool.
    """
    scaled = scores.double()[:, :, None] / scores.new_tensor(TEMPERATURES, dtype=torch.float64)
    forecast = (1 - DOUBT) * scaled.softmax(dim=1)[:, 0] + DOUBT / scores.shape[1]  # (n, temperatures)
    bits = math.log2(scores.shape[1]) + forecast.log2()
    result = torch.zeros(len(scores), dtype=torch.float64)
    for test in (True, False):
        fit = fold != test
        best = bits[fit].mean(dim=0).argmax() if fit.any() else len(TEMPERATURES) - 1
        result[~fit] = bits[~fit, best]
    return result
