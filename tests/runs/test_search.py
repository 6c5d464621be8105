"""The search for a knob, on responses that are known: no model is trained here."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest

from lam.runs.sweep.knobs import Knob
from lam.runs.sweep.search import TOLERANCE, NextTrial, Trial, nearest, next_trial

WEIGHT, CODES = Knob("beta", integer=False), Knob("num_codes", integer=True)
Response = Callable[[float], float | None]


def search(
    knob: Knob, response: Response, level: float, there: tuple[str, ...], start: str = "1", max_runs: int = 8
) -> tuple[NextTrial, list[str], list[Trial]]:
    """Run the search; return its last step, the values that it tried, and all trials."""
    trials = [Trial(text, response(float(text))) for text in there]
    tried: list[str] = []
    while True:
        step = next_trial(knob, trials, level, start)
        if step.found or step.reason or len(tried) == max_runs:
            return step, tried, trials
        assert step.text not in [trial.text for trial in trials]
        tried.append(step.text)
        trials.append(Trial(step.text, response(float(step.text))))


def falls(beta: float) -> float:
    """From nearly 1 at 1e-3 to nearly 0 at 1, as noise does."""
    return 1 / (1 + (beta / 3e-2) ** 1.3)


def rises(codes: float) -> float:
    """One step a power of two, from 0 at 1 to 1 at 4096, as codes do."""
    return min(math.log2(codes) / 12, 1.0)


@pytest.mark.parametrize("level", [0.1, 0.5, 0.75, 0.9, 0.97])
@pytest.mark.parametrize("there", [("1e-3", "1e-1"), ("1e-2",), (), ("1e-6", "1e-5"), ("10", "5")])
def test_a_monotone_response_is_met_within_the_runs(level, there):
    step, tried, trials = search(WEIGHT, falls, level, there)
    assert step.found, (step, tried)
    assert abs(falls(float(step.text)) - level) <= TOLERANCE
    assert len(tried) <= 8 and len({float(trial.text) for trial in trials}) == len(trials)


@pytest.mark.parametrize("level", [0.5, 0.75, 0.9])
def test_a_sweep_that_brackets_the_level_needs_few_runs(level):
    assert len(search(WEIGHT, falls, level, ("1e-1", "3e-2", "1e-2", "1e-3"))[1]) <= 2
    assert len(search(CODES, rises, level, ("4", "16", "64", "256", "1024", "4096"))[1]) <= 2


def test_a_row_that_is_there_costs_nothing_and_the_nearest_counts():
    step, tried, _ = search(WEIGHT, {0.01: 0.48, 0.02: 0.51, 0.04: 0.2}.__getitem__, 0.5, ("0.01", "0.02", "0.04"))
    assert step == NextTrial("0.02", found=True) and tried == []


def test_values_have_three_digits_or_are_integers():
    assert [WEIGHT.text(value) for value in (0.013749, 1.2345e-5, 0.5)] == ["0.0137", "1.23e-05", "0.5"]
    assert CODES.text(11.4) == "11"
    tried = search(CODES, rises, 0.6, ("4", "4096"))[1]
    assert all(text == str(int(text)) for text in tried)


def test_integers_that_jump_over_the_level_end_the_search():
    step, tried, trials = search(CODES, lambda codes: 0.4 if codes < 4 else 0.9, 0.7, ("2", "8"))
    assert {"3", "4"} <= set(tried) <= {"3", "4", "5", "6", "7"}
    assert not step.found and step.reason == "3 closes 0.40, 4 closes 0.90, and the knob has no value between them"
    assert nearest(trials, 0.7).gap == 0.9


@pytest.mark.parametrize("there", [("16", "1024"), ("4", "16", "64", "256", "1024", "4096")])
def test_a_level_beyond_a_plateau_ends_the_search_early(there):
    step, tried, trials = search(CODES, lambda codes: 0.4 * codes / (codes + 30), 0.9, there)
    assert not step.found and "levels off at its loose end" in step.reason
    assert len(tried) <= 3 and nearest(trials, 0.9).gap < 0.41
    assert next_trial(CODES, trials, 0.95, "4").reason  # the next level costs no run


def test_a_family_that_closes_the_same_at_any_value_ends_the_search():
    step, tried, _ = search(CODES, lambda codes: 0.35 + 0.001 * math.log2(codes), 0.9, ("16", "64", "256"))
    assert not step.found and "levels off" in step.reason and len(tried) <= 1


def test_a_tight_end_that_stays_above_the_level_is_said():
    step, _, _ = search(WEIGHT, lambda beta: 0.6 + 0.3 / (1 + beta), 0.5, ("0.1", "1"))
    assert not step.found and "levels off at its tight end" in step.reason


def test_an_integer_has_no_value_below_one():
    step, tried, _ = search(CODES, lambda codes: 0.8 + 0.1 * math.log2(codes), 0.5, ("1", "2"))
    assert not step.found and tried == [] and "no value beyond it" in step.reason


def collapsing(beta: float) -> float | None:
    """Sparse latents die above 0.07, long before they would close as little as half of the gap by themselves."""
    return None if beta > 0.07 else 0.95 - 5 * beta


def test_a_collapsed_row_bounds_the_search_and_is_no_match():
    step, _, _ = search(WEIGHT, collapsing, 0.65, ("0.01", "0.1"))
    assert step.found and collapsing(float(step.text)) == pytest.approx(0.65, abs=TOLERANCE)
    step, _, trials = search(WEIGHT, collapsing, 0.3, ("0.01", "0.1"))  # less than any living row
    assert not step.found
    assert nearest(trials, 0.3).gap == min(trial.gap for trial in trials if trial.gap is not None)


def test_a_collapsed_row_at_the_level_is_not_taken_and_those_around_it_are():
    gaps = {"0.01": 0.9, "0.1": 0.1}

    def response(beta: float) -> float | None:
        # every value between 0.02 and 0.04 collapses, others follow a line on the logarithmic axis
        return None if 0.02 < beta < 0.04 else -0.7 - 0.8 * math.log10(beta)

    step, _, _ = search(WEIGHT, response, 0.5, tuple(gaps))
    assert not step.found or response(float(step.text)) is not None
    step, _, _ = search(WEIGHT, response, 0.64, tuple(gaps), max_runs=10)
    assert step.found and not 0.02 < float(step.text) < 0.04


def test_where_every_row_collapses_it_goes_on_to_looser_ones():
    step, tried, _ = search(WEIGHT, lambda beta: None if beta > 0.01 else falls(beta), 0.9, ("1", "0.3"))
    assert step.found and float(tried[0]) < 0.3
    step, tried, _ = search(CODES, lambda codes: None, 0.9, ("4",))
    assert not step.found and len(tried) == 8


def test_rows_say_which_direction_is_looser_where_the_type_misleads():
    temperature = Knob("temperature", integer=False)
    step, tried, _ = search(temperature, lambda t: t / (1 + t), 0.75, ("0.01", "0.1"))
    assert step.found and float(tried[0]) > 0.1


def test_a_noisy_response_is_met_or_given_up_within_the_runs():
    met = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        noise: dict[float, float] = {}

        def response(beta: float, rng=rng, noise=noise) -> float:
            return falls(beta) + noise.setdefault(beta, float(rng.normal(0, 0.05)))

        step, tried, _ = search(WEIGHT, response, 0.75, ("1e-1", "1e-3"))
        assert len(tried) <= 8
        if step.found:
            met += 1
            assert abs(response(float(step.text)) - 0.75) <= TOLERANCE
    assert met >= 190
