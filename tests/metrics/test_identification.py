"""Identification against what is known: chance whatever a picture looks like, certainty of copies, bits of known channels."""

import math

import pytest
import torch

from lam.metrics.identification import DOUBT, identified, information, resemblance

GENERATOR = torch.Generator().manual_seed(0)
CLIPS, SCENES, SIZE = 400, 8, 60
BEFORE = torch.randn(CLIPS, SIZE, generator=GENERATOR) + 1
CANDIDATES = 0.5 * torch.randn(CLIPS, SCENES, SIZE, generator=GENERATOR) - 1
FOLD = torch.arange(CLIPS) % 2 == 0
IGNORANT = {
    "flat": torch.full((CLIPS, SIZE), -1.0),  # which predicts most of the way to every scene
    "mean": CANDIDATES.mean(dim=(0, 1)).expand(CLIPS, SIZE),
    "pale": 0.3 * BEFORE,
    "noise": BEFORE + 0.1 * torch.randn(CLIPS, SIZE, generator=GENERATOR),
}


def test_scores_match_the_formula_written_out():
    predicted = BEFORE + torch.randn(CLIPS, SIZE, generator=GENERATOR)
    scores = resemblance(BEFORE, predicted, CANDIDATES)
    for n in (0, 7):
        for k in (0, 3):
            before, after, scene = BEFORE[n], predicted[n], CANDIDATES[n, k]
            weight = (after - before).abs()
            gained = (weight * ((before - scene) ** 2 - (after - scene) ** 2)).sum()
            assert scores[n, k].item() == pytest.approx((gained / (weight * (before - scene) ** 2).sum()).item(), abs=1e-5)


@pytest.mark.parametrize("name", IGNORANT)
def test_a_picture_that_knows_nothing_is_right_one_time_in_k(name):
    scores = resemblance(BEFORE, IGNORANT[name], CANDIDATES)
    deviation = math.sqrt(1 / SCENES * (1 - 1 / SCENES) / CLIPS)
    assert identified(scores).mean().item() == pytest.approx(1 / SCENES, abs=3.5 * deviation)
    assert -0.1 < information(scores, FOLD).mean().item() < 0.05
    if name in ("flat", "mean"):  # though it predicts much of what comes, as a share of the error tells
        error, copy = ((x - CANDIDATES[:, 0]).square().mean() for x in (IGNORANT[name], BEFORE))
        assert 1 - error / copy > 0.5


def test_nothing_that_changes_is_a_tie():
    scores = resemblance(BEFORE, BEFORE.clone(), CANDIDATES)
    assert (scores == 0).all()
    assert identified(scores).tolist() == [1 / SCENES] * CLIPS
    assert information(scores, FOLD).abs().max() < 1e-9


@pytest.mark.parametrize("copy", ["whole", "corner", "small"])
def test_copies_are_certain(copy):
    way = CANDIDATES[:, 0] - BEFORE
    corner = torch.zeros(SIZE)
    corner[:12] = 1
    kept = {
        "whole": way,
        "corner": way * corner,
        "small": torch.where(way.abs() < 1, way, 0.0),
    }[copy]
    scores = resemblance(BEFORE, BEFORE + kept, CANDIDATES)
    assert identified(scores).mean() == 1
    assert information(scores, FOLD).mean() == pytest.approx(math.log2(SCENES), abs=0.05)


def test_bits_of_a_channel_of_known_capacity():
    """A prediction that tells one of two groups of four, told right with probability p, carries 1 - H(p) bits."""
    right = torch.rand(20000, generator=torch.Generator().manual_seed(2)) < 0.9
    scores = torch.zeros(20000, 8)
    scores[:, :4] = right[:, None].float()
    scores[:, 4:] = 1 - right[:, None].float()
    bits = information(scores, torch.arange(20000) % 2 == 0).mean().item()
    capacity = 1 + 0.9 * math.log2(0.9) + 0.1 * math.log2(0.1)
    assert capacity - 0.05 < bits < capacity + 0.02  # a bound from below, up to chance


def test_certainty_costs_no_more_than_the_doubt():
    scores = torch.zeros(10, 16)
    scores[:, 0] = 1
    assert information(scores, torch.arange(10) % 2 == 0).mean().item() == pytest.approx(4 + math.log2(1 - DOUBT), abs=2e-3)
    scores[3] = scores[3].flip(0)  # one mistake does not ruin the rest
    assert information(scores, torch.arange(10) % 2 == 0).mean() > 2
